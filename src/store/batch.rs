//! What is appended: a handful of records that become durable together.

use super::fold::{Position, Unreadable};

/// Which segments a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The chain of the state.
    State,
    /// An archive; segments are shared only within one bucket, usually a span
    /// of time, so that retention drops whole segments.
    Archive {
        /// Number of the bucket; older ones have lower numbers.
        bucket: u32,
    },
    /// Big values that expire together.
    Blob {
        /// Number of the bucket; what expires first has lower numbers.
        bucket: u32,
    },
}

/// One record to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it goes.
    pub class: Class,
    /// Kind, 1 to [`Record::KIND_MAX`](super::fold::Record::KIND_MAX).
    pub kind: u8,
    /// Version of the body's schema.
    pub version: u8,
    /// The statement.
    pub body: &'a [u8],
    /// Bytes beside it.
    pub payload: &'a [u8],
}

/// What a batch is for: decides how far into the reserve it may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Keeps something new: refused once the device is full.
    #[default]
    Store,
    /// Makes room: retires, removes. Accepted out of the reserve.
    Remove,
}

/// Records that are kept all or none, in this order.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    /// The records.
    pub entries: Vec<Entry<'a>>,
    /// Whether it may use the reserve.
    pub purpose: Purpose,
    /// The batch removes what a person wants forgotten: every segment that may
    /// hold it is compacted and overwritten within the stated time.
    pub erases: bool,
}

impl<'a> Batch<'a> {
    /// A batch of records of the state class, to be kept.
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Adds a record of the state class.
    pub fn state(mut self, kind: u8, version: u8, body: &'a [u8], payload: &'a [u8]) -> Batch<'a> {
        self.entries.push(Entry {
            class: Class::State,
            kind,
            version,
            body,
            payload,
        });
        self
    }
}

/// Why an append was refused. Nothing of the batch was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The device is full but for the reserve of compaction: make room first.
    Full,
    /// The batch is larger than a batch may be, or goes to more than eight
    /// classes and buckets.
    TooBig {
        /// What it would take.
        bytes: usize,
        /// What it may take.
        bytes_max: usize,
    },
    /// More is waiting to be written than may wait.
    Overloaded,
    /// A write or sync has failed: nothing is acknowledged any more.
    Poisoned(String),
    /// The log was closed, or opened to be read only.
    Closed,
    /// The state did not accept our own record: a defect of this program. The
    /// log is poisoned.
    Refused(Unreadable),
}

impl std::fmt::Display for AppendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AppendError::Full => write!(f, "the store is full"),
            AppendError::TooBig { bytes, bytes_max } => {
                write!(
                    f,
                    "a batch of {bytes} bytes is over the limit of {bytes_max}"
                )
            }
            AppendError::Overloaded => write!(f, "too much is waiting to be written"),
            AppendError::Poisoned(why) => write!(f, "the store has failed: {why}"),
            AppendError::Closed => write!(f, "the store is closed"),
            AppendError::Refused(why) => write!(f, "the state refused its own record: {why}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// An append that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Durable when [`Log::durable`](super::log::Log::durable) reaches it.
    pub position: Position,
    /// Sequence number of the first record; the others follow it.
    pub seq: u64,
}
