//! How the passwords of all accounts of a domain are kept, so that a name that nobody has looks like one of
//! them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::credentials::{Credentials, Scheme};
use super::hmac_sha256;

/// How many accounts there are of each kind of credentials.
///
/// After a change of `[auth]` old accounts differ from new ones until their owners log in: in the
/// iterations that SCRAM tells, and in the time that a wrong password takes. If names that nobody
/// has all looked like new accounts, every other one would be known to exist. So each of them draws
/// its lot among the accounts, always the same for the same name; and as these change one by one,
/// those names change too.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Population {
    counts: BTreeMap<Kind, usize>,
}

/// What can be told from outside about an account's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SCRAM keys of so many iterations.
    Scram(NonZeroU32),
    /// An argon2id hash.
    Argon2id,
    /// SCRAM keys for SHA-1 alone, which a wrong password takes less time to be told from.
    ScramSha1(NonZeroU32),
}

impl Population {
    /// Of no account.
    pub const fn nobody() -> Population {
        Population {
            counts: BTreeMap::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// There is one more account of this kind.
    pub fn add(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// There is one less.
    pub fn remove(&mut self, kind: Kind) {
        if let Some(count) = self.counts.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&kind);
            }
        }
    }

    /// What a name without an account is to look like to PLAIN.
    pub fn imitated_for_plain(&self, lot: Lot, configured: Scheme) -> Scheme {
        match self.draw(lot.plain, |_| true) {
            None => configured,
            Some(Kind::Argon2id) => Scheme::Argon2id,
            Some(Kind::Scram(iterations)) => Scheme::Scram {
                sha1: true,
                iterations,
            },
            Some(Kind::ScramSha1(iterations)) => Scheme::ScramSha1 { iterations },
        }
    }

    /// What a name without keys is to look like to SCRAM. `kept` is what there is of the account,
    /// if there is one.
    pub fn imitated_for_scram(
        &self,
        lot: Lot,
        kept: Option<&Credentials>,
        configured: Scheme,
    ) -> Scheme {
        let Scheme::Scram { sha1, iterations } = configured else {
            return configured;
        };
        let drawn = || {
            let whole = self.draw(lot.plain, |_| true);
            let scram = whole.filter(|kind| *kind != Kind::Argon2id);
            scram.or_else(|| self.draw(lot.scram, |kind| kind != Kind::Argon2id))
        };
        // Who has keys for one hash only shows the same iterations for the other.
        let kind = match kept.map(Credentials::kind) {
            Some(Kind::Argon2id) => self.draw(lot.scram, |kind| kind != Kind::Argon2id),
            Some(kind) => Some(kind),
            None => drawn(),
        };
        let iterations = match kind {
            Some(Kind::Scram(iterations) | Kind::ScramSha1(iterations)) => iterations,
            Some(Kind::Argon2id) | None => iterations,
        };
        Scheme::Scram { sha1, iterations }
    }

    /// The kind in whose part of the whole the lot falls, among those that count.
    fn draw(&self, lot: u64, counts: impl Fn(Kind) -> bool) -> Option<Kind> {
        let of = || self.counts.iter().filter(|(kind, _)| counts(**kind));
        let whole: usize = of().map(|(_, count)| count).sum();
        let mut place = (u128::from(lot) * whole as u128) >> 64;
        for (kind, count) in of() {
            match place.checked_sub(*count as u128) {
                Some(rest) => place = rest,
                None => return Some(*kind),
            }
        }
        None
    }
}

/// What a name draws with: always the same, and nobody without the secret knows it.
#[derive(Debug, Clone, Copy)]
pub struct Lot {
    plain: u64,
    scram: u64,
}

impl Lot {
    /// The lot of a name.
    pub fn of(secret: &[u8; 32], username: &str) -> Lot {
        let bytes = hmac_sha256(secret, &[b"lot", username.as_bytes()]);
        let number = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Lot {
            plain: number(0),
            scram: number(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram(iterations: u32) -> Kind {
        Kind::Scram(NonZeroU32::new(iterations).unwrap())
    }

    fn configured(iterations: u32) -> Scheme {
        Scheme::Scram {
            sha1: true,
            iterations: NonZeroU32::new(iterations).unwrap(),
        }
    }

    fn lots() -> impl Iterator<Item = Lot> {
        (0..1_000).map(|n| Lot::of(&[1; 32], &format!("nobody{n}")))
    }

    #[test]
    fn without_accounts_a_name_looks_like_a_new_one() {
        let nobody = Population::default();
        for lot in lots() {
            assert_eq!(nobody.imitated_for_plain(lot, configured(7)), configured(7));
            assert_eq!(
                nobody.imitated_for_scram(lot, None, configured(7)),
                configured(7)
            );
        }
    }

    #[test]
    fn names_look_like_accounts_in_the_same_parts() {
        let mut population = Population::default();
        (0..10).for_each(|_| population.add(Kind::Argon2id));
        (0..20).for_each(|_| population.add(scram(10_000)));
        (0..10).for_each(|_| population.add(scram(20_000)));
        let (mut plain, mut shown) = ([0; 3], [0; 2]);
        for lot in lots() {
            let looks = population.imitated_for_plain(lot, configured(20_000));
            let scram = population.imitated_for_scram(lot, None, configured(20_000));
            shown[usize::from(scram == configured(20_000))] += 1;
            match looks == Scheme::Argon2id {
                true => plain[2] += 1,
                false => {
                    plain[usize::from(looks == configured(20_000))] += 1;
                    assert_eq!(looks, scram, "it tells SCRAM and PLAIN the same");
                }
            }
        }
        let near = |seen: i32, of: i32| (seen - of).abs() < 60;
        assert!(near(plain[0], 500) && near(plain[1], 250), "{plain:?}");
        assert!(near(shown[0], 667) && near(shown[1], 333), "{shown:?}");
    }

    #[test]
    fn a_name_looks_like_an_imported_account_for_plain_and_for_scram() {
        let mut population = Population::default();
        let iterations = NonZeroU32::new(4_096).unwrap();
        population.add(Kind::ScramSha1(iterations));
        for lot in lots() {
            let plain = population.imitated_for_plain(lot, configured(10_000));
            assert_eq!(plain, Scheme::ScramSha1 { iterations });
            let scram = population.imitated_for_scram(lot, None, configured(10_000));
            assert_eq!(scram, configured(4_096));
        }
    }

    #[test]
    fn while_accounts_change_one_by_one_a_name_changes_once() {
        let mut population = Population::default();
        (0..10).for_each(|_| population.add(scram(10_000)));
        let look = |population: &Population| -> Vec<bool> {
            let of = |lot| population.imitated_for_scram(lot, None, configured(20_000));
            lots().map(|lot| of(lot) == configured(20_000)).collect()
        };
        let mut before = look(&population);
        assert!(!before.contains(&true));
        for _ in 0..10 {
            population.remove(scram(10_000));
            population.add(scram(20_000));
            let now = look(&population);
            assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
            before = now;
        }
        assert!(!before.contains(&false));
    }

    #[test]
    fn what_was_removed_is_not_drawn() {
        let mut population = Population::default();
        population.add(scram(10_000));
        population.remove(scram(10_000));
        assert_eq!(population, Population::default());
    }
}
