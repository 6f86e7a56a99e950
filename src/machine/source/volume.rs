//! A volume with files on it, read by our own readers and never mounted: whoever made it may have
//! made it wrong on purpose, and a kernel's file system is no place to find that out.

use std::io;

use super::fat::Fat;
use super::iso::Iso;
use crate::machine::read_at::ReadAt;

/// A volume of a kind that is known.
#[derive(Debug)]
pub enum Volume<'d, D: ReadAt + ?Sized> {
    /// FAT12, FAT16 or FAT32.
    Fat(Fat<'d, D>),
    /// ISO 9660.
    Iso(Iso<'d, D>),
}

impl<'d, D: ReadAt + ?Sized> Volume<'d, D> {
    /// Looks at the first bytes of a device; `None` for anything else than these file systems.
    pub fn open(device: &'d D) -> Option<Volume<'d, D>> {
        // A CD that also starts a computer has both, and its files are those of the ISO.
        match Iso::open(device) {
            Some(iso) => Some(Volume::Iso(iso)),
            None => Fat::open(device).map(Volume::Fat),
        }
    }

    /// Its name; empty where it has none.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Volume::Fat(fat) => fat.label(),
            Volume::Iso(iso) => iso.label(),
        }
    }

    /// The bytes of a file, by its folders and its name in either case; `None` where there is none,
    /// and an error where it is longer than `bytes_max` or the volume is broken.
    pub fn read(&self, path: &[&str], bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        match self {
            Volume::Fat(fat) => fat.read(path, bytes_max),
            Volume::Iso(iso) => iso.read(path, bytes_max),
        }
    }
}

/// What a volume is refused with that leads out of itself or cannot be read.
pub(super) fn broken(error: &io::Error) -> String {
    format!("the volume is broken or cannot be read ({error})")
}

/// What a file that is too long is refused with.
pub(super) fn too_long(bytes_max: usize) -> String {
    format!("it is longer than {} KiB", bytes_max >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_devices_are_no_volumes() {
        assert!(Volume::open(&[0u8; 0][..]).is_none());
        assert!(Volume::open(&[0u8; 70_000][..]).is_none());
        assert!(Volume::open(&[0xffu8; 70_000][..]).is_none());
    }
}
