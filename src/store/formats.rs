//! Formats of the log: which ones this program reads, and which one it may write.
//!
//! A format is a number in both superblocks. It says in which versions records are written
//! ([`version_in`](super::records::version_in)), so a program that reads the format understands all
//! that it finds. It only ever rises, at an opening, before anything is written by it, and no
//! further than whoever opens the log permits: others that may have to read it, such as the system
//! in a machine's other slot, must know the format first.

use std::ops::RangeInclusive;

/// The newest format that this program reads and writes.
#[cfg(not(feature = "next-format"))]
pub const NEWEST: u16 = 1;
/// The same, in a build for the tests of upgrades: a format that no release has.
#[cfg(feature = "next-format")]
pub const NEWEST: u16 = 2;

/// What this program reads: every format that there ever was.
pub const READS: RangeInclusive<u16> = 1..=NEWEST;

/// What a log is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats {
    /// What is read. Other than [`READS`] only where a test plays another version of the program.
    pub reads: RangeInclusive<u16>,
    /// A log of an older format rises to this one, or to the newest that is read.
    pub writes: u16,
}

impl Default for Formats {
    /// Nobody else has to read the log.
    fn default() -> Formats {
        Formats {
            reads: READS,
            writes: NEWEST,
        }
    }
}

impl Formats {
    /// No newer format than this one is written, if it can be helped.
    #[must_use]
    pub fn writing(writes: u16) -> Formats {
        Formats {
            writes,
            ..Formats::default()
        }
    }

    /// The format that a log has from this opening on, which had `found`.
    #[must_use]
    pub fn after(&self, found: u16) -> u16 {
        found.max(self.writes.min(*self.reads.end()))
    }

    /// The format of a log that is created.
    #[must_use]
    pub fn of_new(&self) -> u16 {
        self.after(*self.reads.start())
    }
}
