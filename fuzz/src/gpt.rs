//! Target `gpt`: whatever stands on a disk, a table that is read can be grown, and then is whole.
//!
//! The first byte says whether checksums are set right (1), and whether a copy stands at the end of
//! the disk too (2); two numbers of four bytes follow, little-endian: how many sectors the disk has,
//! and how many it gains. The rest are its first bytes; all others are zero.

use std::collections::BTreeMap;
use std::io;

use cairn::machine::gpt::{GptError, SECTOR_BYTES, Table};
use cairn::machine::read_at::ReadAt;

const SECTOR: usize = 512;

/// Runs the target on one input; panics on a finding.
pub fn gpt(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(9) else {
        return;
    };
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let (sectors, gained) = (u64::from(number(1)), u64::from(number(5)));
    let mut bytes = rest.to_vec();
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    let mut disk = Disk {
        sectors: BTreeMap::new(),
        count: sectors + gained,
    };
    if head[0] & 1 == 1 {
        seal(&mut bytes);
    }
    disk.write(0, &bytes);
    if head[0] & 2 == 2 {
        copy(&mut disk, &bytes, sectors);
    }
    match Table::read(&disk) {
        Ok(table) => grow(&mut disk, &table),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn grow(disk: &mut Disk, table: &Table) {
    let growth = match table.grow(disk.count) {
        Ok(Some(growth)) => growth,
        Ok(None) => return assert!(table.is_whole()),
        Err(GptError::Io(error)) => panic!("nothing is read here: {error}"),
        Err(_) => return,
    };
    let was_primary = disk.has_primary();
    for write in &growth.writes {
        assert!(write.bytes.len().is_multiple_of(SECTOR));
        // The power fails between any two sectors.
        for (sector, bytes) in (write.offset / SECTOR_BYTES..).zip(write.bytes.chunks(SECTOR)) {
            assert!(sector < disk.count, "a write leaves the disk");
            disk.write(sector, bytes);
        }
        let found = Table::read(disk).expect("a table at every moment");
        assert_eq!(found.partitions().len(), table.partitions().len());
    }
    assert!(disk.has_primary() || !was_primary);
    let after = Table::read(disk).expect("the new table");
    assert!(after.is_whole());
    for (old, new) in table.partitions().iter().zip(after.partitions()) {
        let expected = if new.number == growth.data.number {
            &growth.data
        } else {
            old
        };
        assert_eq!(new, expected);
        assert!(new.last < disk.count);
    }
    assert!(after.grow(disk.count).expect("it was right").is_none());
}

/// Writes the checksums that a header and its entries should have, where there is room for them.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < 3 * SECTOR {
        return;
    }
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    };
    let header = &bytes[SECTOR..2 * SECTOR];
    let (place, count) = (number(header, 72) as usize, number(header, 80) as usize);
    let entries = bytes
        .get(place.saturating_mul(SECTOR)..)
        .unwrap_or_default();
    let mut entries = entries[..entries.len().min(count.min(256) * 128)].to_vec();
    entries.resize(count.min(256) * 128, 0);
    let sum = crc32(&entries);
    let header = &mut bytes[SECTOR..2 * SECTOR];
    header[88..92].copy_from_slice(&sum.to_le_bytes());
    header[16..20].fill(0);
    let size = (number(header, 12) as usize).min(SECTOR);
    let sum = crc32(&header[..size]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}

/// Puts a backup of the primary table at the end of a disk of so many sectors.
fn copy(disk: &mut Disk, bytes: &[u8], sectors: u64) {
    let Some(end) = sectors.checked_sub(1).filter(|_| bytes.len() >= 4 * SECTOR) else {
        return;
    };
    let mut backup = bytes[..4 * SECTOR].to_vec();
    let header = &mut backup[SECTOR..2 * SECTOR];
    header[24..32].copy_from_slice(&end.to_le_bytes());
    header[32..40].copy_from_slice(&1u64.to_le_bytes());
    seal(&mut backup);
    let header = &mut backup[SECTOR..2 * SECTOR];
    let place = end.saturating_sub(32);
    header[72..80].copy_from_slice(&place.to_le_bytes());
    header[16..20].fill(0);
    let sum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk.write(end, &backup[SECTOR..2 * SECTOR]);
    disk.write(place, &backup[2 * SECTOR..]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// A disk of which only what was written is kept.
struct Disk {
    sectors: BTreeMap<u64, Vec<u8>>,
    count: u64,
}

impl Disk {
    fn write(&mut self, first: u64, bytes: &[u8]) {
        for (sector, bytes) in (first..).zip(bytes.chunks(SECTOR)) {
            if sector < self.count {
                self.sectors.insert(sector, bytes.to_vec());
            }
        }
    }

    /// Whether a reader finds the table that knows only the primary one.
    fn has_primary(&self) -> bool {
        let mut sectors = self.sectors.clone();
        sectors.retain(|sector, _| *sector < 2048);
        Table::read(&Disk {
            sectors,
            count: self.count,
        })
        .is_ok()
    }
}

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        self.count * SECTOR_BYTES
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR_BYTES), "whole sectors");
        for (sector, part) in (offset / SECTOR_BYTES..).zip(buffer.chunks_mut(SECTOR)) {
            if sector >= self.count {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            match self.sectors.get(&sector) {
                Some(bytes) => part.copy_from_slice(&bytes[..part.len()]),
                None => part.fill(0),
            }
        }
        Ok(())
    }
}
