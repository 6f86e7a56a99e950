//! A partition that PID 1 writes: by place, durably when it says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// What slots and the boot state are written to: a partition, or a picture of one in a test, which
/// keeps what a power cut would leave.
pub trait Medium {
    /// Fills `bytes` from `at`.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes `bytes` at `at`. It may last from then on, or wholly or partly not until
    /// [`Medium::sync`], in any order with others.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes all that was written last, and forgets it: what is read afterwards comes from the
    /// medium, not from a cache.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }
}
