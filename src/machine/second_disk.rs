//! Data on a disk of their own: which disk that is. At providers with volumes the system disk can
//! then be replaced whole.
//!
//! A blank disk is taken once, when the configuration of a machine that nobody has claimed says so.
//! From then on the boot state names the store on it, and no other one is ever started instead.

use std::io;

use super::disk::is_blank;
use super::read_at::ReadAt;
use crate::store::format::SUPERBLOCKS_AT;
use crate::store::superblock;

/// Where the boot state says it.
pub const VARIABLE: &str = "data";
/// Where a disk bears which mark, and what then is on it. FAT and other boot sectors end as the
/// oldest partition table does, so that comes last.
const MARKS: &[(u64, &[u8], &str)] = &[
    (512, b"EFI PART", "a partition table (GPT)"),
    (1080, b"\x53\xef", "a file system (ext2, ext3 or ext4)"),
    (0, b"XFSB", "a file system (XFS)"),
    (65_600, b"_BHRfS_M", "a file system (Btrfs)"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (536, b"LVM2 001", "a volume of LVM"),
    (32_769, b"CD001", "a file system (ISO 9660)"),
    (54, b"FAT1", "a file system (FAT)"),
    (82, b"FAT32", "a file system (FAT)"),
    (510, b"\x55\xaa", "a partition table or boot sector"),
];
/// What is on a blank disk.
pub const NOTHING: &str = "nothing";
/// What it says before the store exists.
const NEW: &str = "new";

/// The disk that the data are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A blank one, or one with a store that was begun before the machine could say so.
    New,
    /// The one with this store.
    Store([u8; 16]),
}

impl Wanted {
    /// Reads what the boot state says. What is not understood names no store that there is, so it
    /// is waited for in vain and no data are begun anew.
    pub fn parse(text: &str) -> Wanted {
        if text == NEW {
            return Wanted::New;
        }
        u128::from_str_radix(text, 16)
            .map_or(Wanted::Store([0; 16]), |id| Wanted::Store(id.to_be_bytes()))
    }

    /// For the boot state.
    pub fn text(self) -> String {
        match self {
            Wanted::New => NEW.to_owned(),
            Wanted::Store(id) => format!("{:032x}", u128::from_be_bytes(id)),
        }
    }

    /// What is waited for, for people.
    pub fn said(self) -> String {
        match self {
            Wanted::New => "a blank second disk".to_owned(),
            Wanted::Store(_) => format!("the disk with the store {}", self.text()),
        }
    }

    /// Whether it is this disk.
    pub fn is(self, disk: &impl ReadAt) -> io::Result<bool> {
        match (self, store_id(disk)?) {
            (Wanted::Store(wanted), id) => Ok(id == Some(wanted)),
            (Wanted::New, Some(_)) => Ok(true),
            (Wanted::New, None) => is_blank(disk),
        }
    }
}

/// What is on a disk that is not taken, for people: by the marks that whatever may be there bears.
pub fn seen(disk: &(impl ReadAt + ?Sized)) -> io::Result<String> {
    if let Some(id) = store_id(disk)? {
        return Ok(format!("the store {}", Wanted::Store(id).text()));
    }
    for (at, mark, what) in MARKS {
        let mut found = vec![0; mark.len()];
        if disk.size() >= at + mark.len() as u64 {
            disk.read_at(*at, &mut found)?;
            if found == *mark {
                return Ok((*what).to_owned());
            }
        }
    }
    Ok(match is_blank(disk)? {
        true => NOTHING.to_owned(),
        false => "something that is not Cairn's".to_owned(),
    })
}

/// The name of the store on a disk, if there is one.
pub fn store_id(disk: &(impl ReadAt + ?Sized)) -> io::Result<Option<[u8; 16]>> {
    for at in SUPERBLOCKS_AT {
        let mut head = [0; 512];
        if disk.size() < at + head.len() as u64 {
            continue;
        }
        disk.read_at(at, &mut head)?;
        if let Some(id) = superblock::store_id(&head) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_store(id: u8, at: usize) -> Vec<u8> {
        let mut disk = vec![0; 40 << 20];
        disk[at..at + 8].copy_from_slice(b"CAIRNLOG");
        disk[at + 24..at + 40].fill(id);
        disk
    }

    /// As [`ReadAt`] for a slice, which has no size of its own.
    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0[..].read_at(offset, buffer)
        }
    }

    fn is(wanted: Wanted, disk: Vec<u8>) -> bool {
        wanted.is(&Bytes(disk)).expect("it reads")
    }

    #[test]
    fn the_boot_state_names_the_store() {
        for wanted in [
            Wanted::New,
            Wanted::Store([7; 16]),
            Wanted::Store([0xff; 16]),
        ] {
            assert_eq!(Wanted::parse(&wanted.text()), wanted);
        }
        assert_eq!(Wanted::parse("damaged"), Wanted::Store([0; 16]));
    }

    #[test]
    fn only_the_named_store_is_taken() {
        let wanted = Wanted::Store([7; 16]);
        assert!(is(wanted, with_store(7, 0)));
        assert!(is(wanted, with_store(7, 32_768)));
        assert!(!is(wanted, with_store(8, 0)));
        assert!(!is(wanted, vec![0; 40 << 20]));
    }

    #[test]
    fn a_new_store_goes_to_a_blank_disk_alone() {
        assert!(is(Wanted::New, vec![0; 40 << 20]));
        assert!(is(Wanted::New, with_store(7, 0)), "it was begun before");
        let mut foreign = vec![0; 40 << 20];
        foreign[510] = 0x55;
        assert!(!is(Wanted::New, foreign));
        assert!(!is(Wanted::New, Vec::new()));
    }

    #[test]
    fn what_is_on_a_disk_is_told_by_its_marks() {
        let told = |disk: Vec<u8>| seen(&Bytes(disk)).expect("it reads");
        assert_eq!(
            told(with_store(7, 0)),
            format!("the store {}", "07".repeat(16))
        );
        for (at, mark, what) in MARKS {
            let mut disk = vec![0; 1 << 20];
            disk[510..512].copy_from_slice(b"\x55\xaa");
            let at = *at as usize;
            disk[at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(told(disk), *what);
        }
        assert_eq!(told(vec![0xa5; 4096]), "something that is not Cairn's");
        assert_eq!(told(vec![0; 4096]), "nothing");
        assert_eq!(told(vec![1]), "something that is not Cairn's");
    }
}
