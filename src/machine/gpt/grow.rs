//! The writes that spread a table, and the data partition at its end, over the whole disk.

use super::{
    ENTRY_BYTES, GptError, Header, PRIMARY_LBA, Partition, SECTOR, SECTOR_BYTES, Table, partitions,
};
use crate::machine::gpt::DATA_TYPE;

/// Partitions end on whole mebibytes.
const ALIGNMENT_SECTORS: u64 = 2048;
/// The two places of the primary entries that take turns.
const ENTRIES_PLACES: [u64; 2] = [2, 34];
/// Where the four entries of the protective table begin, and what they say of a GPT disk.
const MBR_ENTRIES: usize = 446;
const MBR_PROTECTIVE: u8 = 0xee;

/// Bytes for one place on the disk. The next one is written when this one is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where, in bytes from the start of the disk.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What has to be done so that the table covers the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// In this order, each durable in front of the next.
    pub writes: Vec<Write>,
    /// The data partition as it is to be. The kernel has to be told.
    pub data: Partition,
    /// How many bytes it has gained.
    pub gained_bytes: u64,
}

impl Table {
    /// What to write so that the backup is at the end of a disk of `disk_sectors`, the data partition
    /// ends with the disk on a whole mebibyte, and both copies agree; `None` where all of it is so.
    ///
    /// It fails where the last partition is not of [`DATA_TYPE`], or where the disk became smaller
    /// than its partitions.
    pub fn grow(&self, disk_sectors: u64) -> Result<Option<Growth>, GptError> {
        let by_end = self.partitions().iter().max_by_key(|one| one.last);
        let data = by_end.filter(|last| last.kind == DATA_TYPE);
        let data = data.ok_or(GptError::LastIsNotData)?;
        let entries_sectors = self.header.entries_sectors();
        let end = disk_sectors.checked_sub(1).ok_or(GptError::Shrunk)?;
        let last_usable = end.checked_sub(entries_sectors + 1);
        let last_usable = last_usable.filter(|usable| *usable >= data.last);
        let last_usable = last_usable.ok_or(GptError::Shrunk)?;
        let aligned = ((last_usable + 1) / ALIGNMENT_SECTORS * ALIGNMENT_SECTORS).saturating_sub(1);
        let last = aligned.max(data.last);
        let mbr = protective(&self.mbr, disk_sectors);
        if last == data.last && self.is_whole() && mbr == self.mbr {
            return Ok(None);
        }

        let mut entries = self.entries.clone();
        let place = (data.number as usize - 1) * ENTRY_BYTES + 40;
        entries[place..place + 8].copy_from_slice(&last.to_le_bytes());
        let (primary, backup) = self.headers(&entries, end, last_usable);
        // What is written is read back by the same rules.
        partitions(&primary, &entries)?;

        let entries_bytes = padded(&entries);
        let of = |header: &Header| {
            [
                write(header.entries_lba, entries_bytes.clone()),
                write(header.own_lba, header.sector()),
            ]
        };
        // The copy that is intact is overwritten last.
        let mut writes = Vec::with_capacity(5);
        if self.is_primary_intact {
            writes.extend(of(&backup));
            writes.extend(of(&primary));
        } else {
            writes.extend(of(&primary));
            writes.extend(of(&backup));
        }
        writes.push(write(0, mbr));
        Ok(Some(Growth {
            writes,
            gained_bytes: (last - data.last) * SECTOR_BYTES,
            data: Partition {
                last,
                ..data.clone()
            },
        }))
    }

    /// The two headers for a table that ends at `end`.
    fn headers(&self, entries: &[u8], end: u64, last_usable: u64) -> (Header, Header) {
        let sectors = self.header.entries_sectors();
        let first_partition = self.partitions().iter().map(|one| one.first).min();
        let first_partition = first_partition.unwrap_or(u64::MAX);
        let used = self.is_primary_intact.then_some(self.header.entries_lba);
        // A place that is free of partitions and of the entries in use; without one (tables of
        // other makers) the old place is written, and the backup is what a power cut leaves.
        let free = ENTRIES_PLACES.into_iter().find(|place| {
            let apart = used.is_none_or(|used| place + sectors <= used || used + sectors <= *place);
            apart && place + sectors <= first_partition
        });
        let entries_lba = free.or(used).unwrap_or(ENTRIES_PLACES[0]);
        let first_usable = (ENTRIES_PLACES[1] + sectors).min(first_partition);
        let first_usable = first_usable.max(entries_lba + sectors);
        let primary = Header {
            own_lba: PRIMARY_LBA,
            other_lba: end,
            first_usable,
            last_usable,
            disk: self.header.disk,
            entries_lba,
            entries_count: self.header.entries_count,
            entries_crc: crc32fast::hash(entries),
        };
        let backup = Header {
            own_lba: end,
            other_lba: PRIMARY_LBA,
            entries_lba: last_usable + 1,
            ..primary
        };
        (primary, backup)
    }
}

/// The first sector with its protective entry as long as the disk (UEFI 2.10 §5.2.3).
fn protective(mbr: &[u8], disk_sectors: u64) -> Vec<u8> {
    let mut mbr = mbr.to_vec();
    let size = u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX);
    for entry in mbr[MBR_ENTRIES..MBR_ENTRIES + 64].chunks_exact_mut(16) {
        if entry[4] == MBR_PROTECTIVE {
            entry[12..16].copy_from_slice(&size.to_le_bytes());
        }
    }
    mbr
}

fn padded(entries: &[u8]) -> Vec<u8> {
    let mut bytes = entries.to_vec();
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

fn write(lba: u64, bytes: Vec<u8>) -> Write {
    Write {
        offset: lba * SECTOR_BYTES,
        bytes,
    }
}
