//! Which formats of the log the system in the other slot reads, and which one the log has.
//!
//! A slot says what its system reads in its boot entry (`slot.env`, `log_reads`), beside what the
//! boot loader looks for, which passes over it and checks the file by its sum. So PID 1 knows it
//! without running that system, and it comes and goes with the slot. Only what the other slot's
//! system reads may be written: it is what the machine falls back to, whatever happens.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ring::digest::{SHA256, digest};

use super::read_at::ReadAt;
use super::release::LogFormats;
use super::source::fat::Fat;
use super::upgrade::hexadecimal;
use crate::store::buffer::{ALIGN, Buffer};
use crate::store::format::SUPERBLOCKS_AT;
use crate::store::superblock;

/// Bytes of a boot entry, or of the list of sums, at most.
const FILE_BYTES_MAX: usize = 64 << 10;
/// Where a boot entry says it: `log_reads=1-2`.
const VARIABLE: &str = "log_reads=";

/// What is in the other slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Nothing that could start, before an upgrade puts it there: the boot partition begins with
    /// zeros, or there are no slots. It restricts nothing.
    Empty,
    /// A system that reads these formats, from the first to the second.
    Reads(u32, u32),
    /// It cannot be told: the boot partition does not read, or does not match its sums. It may be
    /// better next time, so a log keeps the format that it has.
    Unknown,
}

impl Other {
    /// Looks into the boot partition of a slot.
    pub fn of_slot(boot: &(impl ReadAt + ?Sized)) -> Other {
        let mut first = [0; 512];
        match boot.read_at(0, &mut first) {
            Ok(()) if first == [0; 512] => Other::Empty,
            Ok(()) => Other::said(boot).unwrap_or(Other::Unknown),
            Err(_) => Other::Unknown,
        }
    }

    fn said(boot: &(impl ReadAt + ?Sized)) -> Option<Other> {
        let volume = Fat::open(boot)?;
        let read = |name| volume.read(&[name], FILE_BYTES_MAX).ok().flatten();
        let (entry, sums) = (read("slot.env")?, read("sums")?);
        let sum = hexadecimal(digest(&SHA256, &entry).as_ref());
        let sums = String::from_utf8(sums).ok()?;
        sums.lines()
            .find(|line| *line == format!("{sum}  slot.env"))?;
        let entry = String::from_utf8(entry).ok()?;
        let mut said = entry.lines().filter_map(|line| line.strip_prefix(VARIABLE));
        let Some(range) = said.next() else {
            // Systems that were built before this was said read the first format alone.
            return Some(Other::Reads(1, 1));
        };
        let (from, to) = range.split_once('-')?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to).then_some(Other::Reads(from, to))
    }

    /// The newest format that the system `ours` may write beside this one.
    #[must_use]
    pub fn lets_write(self, ours: &LogFormats) -> u32 {
        match self {
            Other::Empty => ours.writes,
            Other::Reads(_, to) => ours.writes.min(to).max(ours.reads_from),
            Other::Unknown => ours.reads_from,
        }
    }

    /// Whether it is known not to read a log of this format.
    #[must_use]
    pub fn cannot_read(self, format: u32) -> bool {
        matches!(self, Other::Reads(from, to) if !(from..=to).contains(&format))
    }
}

/// The format of the log on a device that was opened with O_DIRECT; `None` where there is none.
pub fn of_log(device: &File) -> io::Result<Option<u32>> {
    let mut newest = None;
    for at in SUPERBLOCKS_AT {
        let mut block = Buffer::zeroed(ALIGN);
        device.read_exact_at(block.as_mut_slice(), at)?;
        newest = newest.max(superblock::format(block.as_slice()));
    }
    Ok(newest.map(u32::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::source::volume_fixture::fat;

    const OURS: LogFormats = LogFormats {
        reads_from: 1,
        reads_to: 4,
        writes: 3,
    };

    fn slot(entry: &[u8]) -> Vec<u8> {
        let sum = hexadecimal(digest(&SHA256, entry).as_ref());
        let sums = format!("{}  vmlinuz\n{sum}  slot.env\n", "0".repeat(64));
        let files: [(&str, &[u8]); 3] = [
            ("vmlinuz", b"a kernel"),
            ("slot.env", entry),
            ("sums", sums.as_bytes()),
        ];
        fat("CAIRN BOOT", &files)
    }

    fn of(slot: &[u8]) -> Other {
        Other::of_slot(slot)
    }

    #[test]
    fn a_slot_says_what_its_system_reads() {
        let entry = "# GRUB Environment Block\ncmdline_a=quiet\nlog_reads=1-2\n######";
        assert_eq!(of(&slot(entry.as_bytes())), Other::Reads(1, 2));
        let before = "# GRUB Environment Block\ncmdline_a=quiet log_reads=1-9\n######";
        assert_eq!(of(&slot(before.as_bytes())), Other::Reads(1, 1));
    }

    #[test]
    fn a_slot_that_cannot_start_restricts_nothing_and_one_that_is_damaged_all_that_is_new() {
        let sound = slot(b"log_reads=1-2\n");
        let mut half_written = sound.clone();
        half_written[..64 << 10].fill(0);
        assert_eq!(of(&half_written), Other::Empty);
        assert_eq!(of(&vec![0; 1 << 20]), Other::Empty);
        assert_eq!(of(&[]), Other::Unknown, "it does not read");
        let at = sound.windows(10).position(|bytes| bytes == b"log_reads=");
        let at = at.expect("it stands there");
        for (at, bit) in [(at, 1), (at + 10, 2), (at + 12, 1), (11, 1), (511, 1)] {
            let mut rotten = sound.clone();
            rotten[at] ^= bit;
            assert_eq!(of(&rotten), Other::Unknown, "byte {at}");
        }
        for entry in ["log_reads=2-1\n", "log_reads=2\n", "log_reads=-1-2\n"] {
            assert_eq!(of(&slot(entry.as_bytes())), Other::Unknown, "{entry}");
        }
        assert_eq!(of(&fat("CAIRN BOOT", &[])), Other::Unknown);
    }

    #[test]
    fn what_is_written_the_other_slot_reads() {
        for (other, writes) in [
            (Other::Empty, 3),
            (Other::Reads(1, 1), 1),
            (Other::Reads(1, 2), 2),
            (Other::Reads(1, 9), 3),
            (Other::Unknown, 1),
        ] {
            assert_eq!(other.lets_write(&OURS), writes, "{other:?}");
        }
        assert!(Other::Reads(1, 1).cannot_read(2));
        assert!(!Other::Reads(1, 2).cannot_read(2));
        assert!(!Other::Unknown.cannot_read(2) && !Other::Empty.cannot_read(2));
    }

    #[test]
    fn the_format_of_a_log_is_that_of_its_newer_superblock() {
        use crate::store::sim::SimDevice;
        use crate::store::{Log, Options, State};
        let device = SimDevice::new(0, 256 << 20);
        let opened = Log::open(&device, &mut State::new(), Options::default(), 1);
        let (log, _) = opened.expect("a new log");
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&device.to_bytes()[..65_536], 0)
            .expect("it is written");
        let format = || of_log(&file).expect("it reads");
        assert_eq!(format(), Some(u32::from(log.format())));
        file.write_all_at(&[0; 4096], 0).expect("it is written");
        assert_eq!(format(), Some(u32::from(log.format())));
        file.write_all_at(&[0; 65_536], 0).expect("it is written");
        assert_eq!(format(), None);
        file.set_len(0).expect("it is cut");
        of_log(&file).expect_err("there is nothing to read");
    }
}
