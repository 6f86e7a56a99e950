//! What opening a log found, for the operator.

use std::io;

use super::fold::{Fold, Place, Unreadable};

/// Why a log could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The device does not read, write or sync.
    Device(io::Error),
    /// The device is too small for a store.
    TooSmall {
        /// What there is.
        bytes: u64,
        /// What it takes at least.
        bytes_min: u64,
    },
    /// What lies there is not a store, and not empty either.
    NotAStore,
    /// Written by a newer version of this program, in a format that this one
    /// does not know.
    Newer {
        /// What was found.
        found: u16,
        /// The newest that this program reads.
        supported: u16,
    },
    /// Holds records that this version of the program does not know.
    NewerRecord(Unreadable),
    /// It is a store and cannot be read; opening it as if it were empty would
    /// lose what may still be saved.
    Unreadable(String),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Device(error) => write!(f, "the store's device failed: {error}"),
            OpenError::TooSmall { bytes, bytes_min } => {
                write!(
                    f,
                    "the store's device has {bytes} bytes and needs at least {bytes_min}"
                )
            }
            OpenError::NotAStore => write!(
                f,
                "this is neither a store nor empty: give another path, or, where it was a store, bring back a copy of it"
            ),
            OpenError::Newer { found, supported } => write!(
                f,
                "the store has format {found} and this program reads up to {supported}: install the version that wrote it"
            ),
            OpenError::NewerRecord(why) => {
                write!(
                    f,
                    "the store was written by a newer version of this program ({why}): install that version"
                )
            }
            OpenError::Unreadable(why) => write!(f, "the store cannot be read: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The store is new.
    pub created: bool,
    /// The format in which it is written from now on.
    pub format: u16,
    /// The one that it had before, where that was another.
    pub raised_from: Option<u16>,
    /// It was closed in order.
    pub clean: bool,
    /// How many of the two superblocks verified. The other was being written,
    /// or has rotted; opening writes it anew.
    pub superblocks: u8,
    /// When the checkpoint was complete from which it was read, if any.
    pub checkpoint_ms: Option<u64>,
    /// When its newest batch was written; 0 for a new one.
    pub newest_ms: u64,
    /// Items of checkpoints.
    pub items: u64,
    /// Batches of the tail.
    pub batches: u64,
    /// Records of the tail.
    pub records: u64,
    /// Bytes of the tail.
    pub tail_bytes: u64,
    /// A batch that was not complete, so never acknowledged.
    pub dropped: Option<Dropped>,
    /// What was acknowledged and cannot be read.
    pub damage: Vec<Damage>,
    /// Records that verify and that the state did not understand.
    pub invalid: u64,
    /// It was opened with what is left of it, because no checkpoint or not the
    /// end of the log could be read: what was removed may be back.
    pub salvaged: bool,
}

/// The torn end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The segment it lay in.
    pub segment: u32,
    /// Where.
    pub offset: u32,
    /// How long it was.
    pub bytes: u32,
}

/// A damaged range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What lay there.
    pub kind: DamageKind,
    /// The segment.
    pub segment: u32,
    /// Its first byte in the segment.
    pub from: u32,
    /// The byte behind its last.
    pub until: u32,
    /// First and last batch that are missing.
    pub batches: Option<(u64, u64)>,
    /// When the batches before and behind it were written.
    pub between_ms: (Option<u64>, Option<u64>),
    /// Whose records were hit, as far as that can be told.
    pub hit: Vec<String>,
}

impl Damage {
    /// No more than this many are told.
    pub const HIT_MAX: usize = 64;

    pub(super) fn of(kind: DamageKind, segment: u32, from: u32, until: u32) -> Damage {
        let (batches, between_ms) = (None, (None, None));
        Damage {
            kind,
            segment,
            from,
            until,
            batches,
            between_ms,
            hit: Vec::new(),
        }
    }

    /// Whether it touches the record at `place`.
    pub fn covers(&self, place: Place) -> bool {
        let end = place.offset.saturating_add(place.len);
        self.segment == place.segment && place.offset < self.until && self.from < end
    }
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A checkpoint.
    Checkpoint,
    /// The chain: acknowledged batches.
    Chain,
    /// Records outside the chain.
    Records,
    /// The state refers to records whose segment is gone.
    Missing,
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Device(error)
    }
}

impl From<Unreadable> for OpenError {
    fn from(why: Unreadable) -> OpenError {
        OpenError::NewerRecord(why)
    }
}

/// Adds to each damaged range whose records in it the state refers to.
pub(super) fn name_hits<F: Fold + ?Sized>(fold: &F, damage: &mut [Damage]) {
    let mut cursor = None;
    while !damage.is_empty() {
        cursor = fold.checkpoint(cursor, 1 << 20, &mut |item| {
            let Some(place) = item.place else { return };
            let hit = damage.iter_mut().filter(|damage| damage.covers(place));
            for damage in hit.filter(|damage| damage.hit.len() < Damage::HIT_MAX) {
                damage.hit.extend(fold.describe(&item.record));
            }
        });
        if cursor.is_none() {
            return;
        }
    }
}
