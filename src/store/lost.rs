//! What was acknowledged and is lost: kept after recovery has passed it, so that
//! the operator is told whenever the store is verified, and not only once.

use super::format::{put_u32, put_u64, u32_at, u64_at};
use super::report::{Damage, DamageKind};

/// A range that recovery had to leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub damage: Damage,
    /// When it was found, in milliseconds of the Unix epoch.
    pub found_ms: u64,
}

/// The operator has been told often enough.
pub(super) const KEPT_MS: u64 = 90 * 24 * 3600 * 1000;
/// The newest so many are kept.
const LOST_MAX: usize = 64;
/// Of one range, so that its item fits the smallest segment.
const NAMES_BYTES_MAX: usize = 4096;
/// Stands between two names.
const SEPARATOR: char = '\n';

impl Lost {
    const BYTES: usize = 56;

    /// Body and payload of its item in a checkpoint.
    pub fn encode(&self) -> ([u8; Self::BYTES], String) {
        let mut body = [0; Self::BYTES];
        let damage = &self.damage;
        let kind = match damage.kind {
            DamageKind::Checkpoint => 0,
            DamageKind::Chain => 1,
            DamageKind::Records => 2,
            DamageKind::Missing => 3,
        };
        let (first, last) = damage.batches.unwrap_or_default();
        let (after_ms, before_ms) = damage.between_ms;
        put_u32(&mut body, 0, kind);
        put_u32(&mut body, 4, damage.segment);
        put_u32(&mut body, 8, damage.from);
        put_u32(&mut body, 12, damage.until);
        put_u64(&mut body, 16, first);
        put_u64(&mut body, 24, last);
        put_u64(&mut body, 32, after_ms.unwrap_or(0));
        put_u64(&mut body, 40, before_ms.unwrap_or(0));
        put_u64(&mut body, 48, self.found_ms);
        let mut names = String::new();
        for hit in &damage.hit {
            if names.len() + hit.len() > NAMES_BYTES_MAX {
                break;
            }
            names.extend(hit.chars().filter(|&char| char != SEPARATOR));
            names.push(SEPARATOR);
        }
        (body, names)
    }

    /// `None` when it is none.
    pub fn decode(body: &[u8], names: &[u8]) -> Option<Lost> {
        let body = body.get(..Self::BYTES)?;
        let kind = match u32_at(body, 0) {
            0 => DamageKind::Checkpoint,
            1 => DamageKind::Chain,
            2 => DamageKind::Records,
            3 => DamageKind::Missing,
            _ => return None,
        };
        let known = |number: u64| (number > 0).then_some(number);
        let names = std::str::from_utf8(names).ok()?;
        let hit = names.split_terminator(SEPARATOR).take(Damage::HIT_MAX);
        let damage = Damage::of(kind, u32_at(body, 4), u32_at(body, 8), u32_at(body, 12));
        Some(Lost {
            damage: Damage {
                batches: known(u64_at(body, 16)).map(|first| (first, u64_at(body, 24))),
                between_ms: (known(u64_at(body, 32)), known(u64_at(body, 40))),
                hit: hit.map(str::to_owned).collect(),
                ..damage
            },
            found_ms: u64_at(body, 48),
        })
    }
}

/// Adds to what was lost before what this recovery found, and leaves out what
/// is told no longer.
pub(super) fn gather(before: Vec<Lost>, found: Vec<Damage>, now_ms: u64) -> Vec<Lost> {
    let mut lost = before;
    for damage in found {
        let same = |lost: &Lost| {
            let known = &lost.damage;
            known.segment == damage.segment && known.from == damage.from
        };
        if !lost.iter().any(same) {
            lost.push(Lost {
                damage,
                found_ms: now_ms,
            });
        }
    }
    lost.retain(|lost| lost.found_ms.saturating_add(KEPT_MS) > now_ms);
    lost.drain(..lost.len().saturating_sub(LOST_MAX));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_loss_is_the_same_after_a_checkpoint() {
        let damage = Damage::of(DamageKind::Records, 7, 4096, 8192);
        let little = Lost {
            damage: damage.clone(),
            found_ms: 9,
        };
        let much = Lost {
            damage: Damage {
                batches: Some((3, 5)),
                between_ms: (Some(1), Some(2)),
                hit: vec!["vCard of juliet".to_owned(), "account of romeo".to_owned()],
                ..damage
            },
            found_ms: 10,
        };
        for lost in [little, much] {
            let (body, names) = lost.encode();
            assert_eq!(Lost::decode(&body, names.as_bytes()), Some(lost));
        }
    }
}
