//! Bytes that are read by their place: a block device, a file, or a slice in a test. What parses a
//! disk reads through this and nothing else.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Something of a known size that is read at offsets.
pub trait ReadAt {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; an error where that leaves the end behind.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A file or block device that was opened for reading.
#[derive(Debug)]
pub struct Device {
    file: File,
    size: u64,
}

impl Device {
    /// Takes an open file and asks for its size, which for a block device only seeking tells.
    pub fn new(mut file: File) -> io::Result<Device> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Device { file, size })
    }
}

impl ReadAt for Device {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| end())?;
        let bytes = self.get(start..).ok_or_else(end)?;
        let bytes = bytes.get(..buffer.len()).ok_or_else(end)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_behind_the_end() {
        let bytes = [1, 2, 3];
        let mut two = [0; 2];
        bytes[..].read_at(1, &mut two).expect("inside");
        assert_eq!(two, [2, 3]);
        assert!(bytes[..].read_at(2, &mut two).is_err());
        assert!(bytes[..].read_at(u64::MAX, &mut two).is_err());
        bytes[..].read_at(3, &mut []).expect("nothing is there");
    }
}
