//! What the log folds into: the seam between the log and the state above it.
//!
//! The log knows bytes, places and order. What a record means is the business
//! of a [`Fold`]; the log calls it at append, at recovery, for checkpoints and
//! for compaction.

use std::collections::HashMap;

/// The place of an append in the history of the log: grows with every append,
/// over restarts too. An append is durable when its position is at or below
/// [`Log::durable`](super::log::Log::durable).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Where one record's frame lies on the device.
///
/// `segment` is the segment's identity, which is never used twice; so a place
/// that outlived its segment is recognised and never read as something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Identity of the segment.
    pub segment: u32,
    /// First byte of the frame, counted from the start of the segment.
    pub offset: u32,
    /// Length of the whole frame.
    pub len: u32,
}

/// One record: a statement about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is a statement about; 1 to [`Record::KIND_MAX`].
    pub kind: u8,
    /// Version of the body's schema.
    pub version: u8,
    /// Its number in the order of the log; a copy made by compaction keeps it.
    pub seq: u64,
    /// The statement.
    pub body: &'a [u8],
    /// Bytes that travel beside it untouched, such as a stanza.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// The kinds above belong to the log itself.
    pub const KIND_MAX: u8 = 0xEF;
}

/// One item of a checkpoint: an inline value, or a reference to a record that
/// stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointItem<'a> {
    /// The value, or what the state has to remember of the record at `place`.
    pub record: Record<'a>,
    /// The record that the item refers to.
    pub place: Option<Place>,
}

/// Where the next slice of a checkpoint begins; opaque to the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// Why a record could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Written by a newer version of this program: opening is refused.
    Newer {
        /// Kind of the record.
        kind: u8,
        /// Version of its schema.
        version: u8,
    },
    /// Intact on the device and yet not a record of its kind.
    Invalid {
        /// Kind of the record.
        kind: u8,
        /// Version of its schema.
        version: u8,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Newer { kind, version } => {
                write!(
                    f,
                    "record kind {kind} has version {version}, which is newer than this program"
                )
            }
            Unreadable::Invalid { kind, version, why } => {
                write!(f, "record kind {kind} version {version}: {why}")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

/// The state that a log folds into.
///
/// Every record is an absolute statement about one key: its new value, or that
/// it is gone (a removal may take many keys, such as all of an account, with
/// it). The order of the log decides, not the sequence number. Because recovery
/// folds the tail of the log over a checkpoint that was taken while the tail
/// was written, [`apply`](Fold::apply) must
///
/// - replace whatever the key holds, and never ask what it was;
/// - tolerate statements about owners that do not exist (the tail ends with the
///   statement that removed them);
/// - release the place that a key held and hold the new one;
/// - depend on nothing but the state and the record.
pub trait Fold {
    /// Takes a record, in the order of the log.
    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), Unreadable>;

    /// Whether `place` is where the state expects this record: whether the copy
    /// is live.
    fn holds(&self, record: &Record<'_>, place: Place) -> bool;

    /// The record was copied: the state now holds `to`, not `from`.
    fn moved(&mut self, record: &Record<'_>, from: Place, to: Place, live: &mut Live);

    /// Emits a slice of a checkpoint that begins at `cursor` (`None`: at the
    /// start), stops soon after `budget_bytes` of it, and says where the next
    /// slice begins (`None`: that was all).
    ///
    /// Keys that exist during the whole checkpoint are emitted exactly once;
    /// what is added or removed meanwhile may or may not be.
    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor>;

    /// Takes an item of a checkpoint. Replaces what the key holds, as `apply`
    /// does: when both are damaged, two are restored one over the other.
    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable>;

    /// Forgets everything: what was restored came from a checkpoint that is
    /// damaged, and there is something better.
    fn reset(&mut self);

    /// What was restored has holes, so that it reflects a record says nothing
    /// of others: every record that is applied from now on is news.
    fn mistrust(&mut self) {}

    /// A segment was dropped because what it holds has expired: forget what the
    /// state keeps there.
    fn expired(&mut self, segment: u32, live: &mut Live) {
        let _ = (segment, live);
    }

    /// Whose record this is and what, in words for the operator: for reports
    /// about damage.
    fn describe(&self, record: &Record<'_>) -> Option<String> {
        let _ = record;
        None
    }
}

/// How many bytes of each segment the state still refers to.
#[derive(Clone, Debug, Default)]
pub struct Live {
    held: HashMap<u32, Held>,
    erased: Vec<u32>,
}

/// What is held of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of frames.
    pub bytes: u64,
    /// Number of frames.
    pub records: u64,
}

impl Live {
    /// The state refers to the record at `place` from now on.
    pub fn hold(&mut self, place: Place) {
        let held = self.held.entry(place.segment).or_default();
        held.bytes += u64::from(place.len);
        held.records += 1;
    }

    /// The state does not refer to the record at `place` any more. Places are
    /// held and released in pairs; of a segment that has expired nothing is
    /// held, whoever releases it still.
    pub fn release(&mut self, place: Place) {
        let Some(held) = self.held.get_mut(&place.segment) else {
            return;
        };
        debug_assert!(
            held.bytes >= u64::from(place.len),
            "as many bytes are released as were held"
        );
        held.bytes = held.bytes.saturating_sub(u64::from(place.len));
        held.records = held.records.saturating_sub(1);
        if held.records == 0 {
            self.held.remove(&place.segment);
        }
    }

    /// Releases `place` and asks that its bytes be overwritten: for what a
    /// person asked to be forgotten.
    pub fn erase(&mut self, place: Place) {
        self.release(place);
        if self.erased.last() != Some(&place.segment) {
            self.erased.push(place.segment);
        }
    }

    /// What is held of `segment`.
    pub fn of(&self, segment: u32) -> Held {
        self.held.get(&segment).copied().unwrap_or_default()
    }

    /// The segments of which anything is held.
    pub fn segments(&self) -> impl Iterator<Item = (u32, Held)> + '_ {
        self.held.iter().map(|(&segment, &held)| (segment, held))
    }

    /// Nothing is held of `segment` any more, whatever was said.
    pub(super) fn forget(&mut self, segment: u32) {
        self.held.remove(&segment);
    }

    /// The segments out of which something was erased since the last call.
    pub(super) fn take_erased(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.erased)
    }
}
