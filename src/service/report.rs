//! The store in words for the operator.

use crate::stanza::time::to_datetime;
use crate::store::format::Use;
use crate::store::report::{Damage, DamageKind};
use crate::store::verify::{Stat, Verification};
use crate::store::{Recovery, StoreStat};

/// Owners of damaged records that are named.
const OWNERS_MAX: usize = 10;

/// `cairn store stat`, several lines.
#[must_use]
pub(super) fn stat(stat: &Stat, now_ms: u64) -> String {
    let segment = u64::from(stat.geometry.segment_bytes);
    let mut lines = vec![
        format!(
            "device               {} in {} segments of {}, {} of them free",
            mib(u64::from(stat.segments) * segment),
            stat.segments,
            mib(segment),
            stat.segments_free
        ),
        format!("format               {}", stat.format),
        format!("opened               {} times", stat.epoch),
        format!(
            "end of the log       {}, {} of it durable",
            stat.position, stat.durable
        ),
    ];
    for class in &stat.classes {
        lines.push(format!(
            "{:<21}{} written in {} segments, {} of it in use by {} records",
            class_name(class.class),
            mib(class.bytes),
            class.segments,
            mib(class.bytes_live),
            class.records_live
        ));
    }
    lines.push(match &stat.checkpoint {
        None => "checkpoint           none yet".to_owned(),
        Some(checkpoint) => format!(
            "checkpoint           {} of {}, {} of log behind it",
            mib(checkpoint.bytes),
            to_datetime(checkpoint.complete_ms),
            mib(stat.tail_bytes)
        ),
    });
    lines.push(match &stat.erasure {
        None => "to be erased         nothing".to_owned(),
        Some(erasure) => format!(
            "to be erased         parts of {} segments in use and {} free ones, within {} hours",
            erasure.segments,
            erasure.segments_free,
            erasure.until_ms.saturating_sub(now_ms) / 3_600_000
        ),
    });
    if stat.is_full {
        lines.push(
            "full                 nothing new is accepted: give it a larger device".to_owned(),
        );
    }
    if stat.segments_damaged > 0 {
        lines.push(format!(
            "damaged              {} segments: `cairn store verify` tells more",
            stat.segments_damaged
        ));
    }
    if let Some(why) = &stat.failure {
        lines.push(format!("failed               {why}"));
    }
    lines.join("\n")
}

/// `cairn store verify`, several lines.
#[must_use]
pub(super) fn verification(found: &Verification) -> String {
    let mut lines = vec![format!(
        "read {} in {} segments: {} batches, {} records, {} of them in use, {} of 2 superblocks",
        mib(found.bytes),
        found.segments,
        found.batches,
        found.records,
        found.records_held,
        found.superblocks
    )];
    if found.superblocks < 2 {
        lines.push(
            "damaged: a superblock; the other is used, and the next start mends it".to_owned(),
        );
    }
    lines.extend(found.damage.iter().map(damage));
    if found.is_clean() {
        lines.push("all of it is sound".to_owned());
    }
    lines.join("\n")
}

/// `cairn store compact`, one line.
#[must_use]
pub(super) fn compaction(before: &Stat, after: &Stat) -> String {
    let segment = u64::from(after.geometry.segment_bytes);
    let freed = after.segments_free.saturating_sub(before.segments_free);
    format!(
        "{} taken back; {} of {} segments are free",
        mib(u64::from(freed) * segment),
        after.segments_free,
        after.segments
    )
}

/// `cairn store salvage`, several lines.
#[must_use]
pub(super) fn salvage(recovery: &Recovery, stat: &StoreStat) -> String {
    let mut lines: Vec<String> = recovery.damage.iter().map(damage).collect();
    lines.push(format!(
        "salvaged: {} accounts and {} waiting messages; what was removed lately may be back, and \
         of what is listed as damaged nothing is left",
        stat.accounts, stat.messages
    ));
    lines.join("\n")
}

/// One damaged range, one line.
pub(super) fn damage(damage: &Damage) -> String {
    let what = match damage.kind {
        DamageKind::Checkpoint => "a checkpoint",
        DamageKind::Chain => "a part of the log",
        DamageKind::Records => "records",
        DamageKind::Missing => "records whose segment is gone",
    };
    let mut line = format!(
        "damaged: {what}, segment {} from byte {} to {}",
        damage.segment, damage.from, damage.until
    );
    if let Some((first, last)) = damage.batches {
        line.push_str(&format!(", batches {first} to {last}"));
    }
    match damage.between_ms {
        (Some(from), Some(until)) => line.push_str(&format!(
            ", written between {} and {}",
            to_datetime(from),
            to_datetime(until)
        )),
        (Some(from), None) => line.push_str(&format!(", written after {}", to_datetime(from))),
        (None, Some(until)) => line.push_str(&format!(", written before {}", to_datetime(until))),
        (None, None) => {}
    }
    if !damage.hit.is_empty() {
        let shown = damage.hit.len().min(OWNERS_MAX);
        line.push_str(&format!(", of {}", damage.hit[..shown].join(", ")));
        if damage.hit.len() > shown {
            line.push_str(" and others");
        }
    }
    line
}

fn class_name(class: Use) -> &'static str {
    match class {
        Use::Chain => "log",
        Use::Kept => "kept values",
        Use::Archive => "archive",
        Use::Blob => "blobs",
        Use::Checkpoint => "checkpoints",
        Use::Wiping => "being erased",
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
