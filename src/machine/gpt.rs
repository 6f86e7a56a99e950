//! The partition table (UEFI 2.10 §5.3): reading either copy of it, and growing it over a disk that
//! became larger. Bytes in, writes out; nothing here touches a device.
//!
//! Growing never leaves a disk without a readable table. The new backup is written at the new end
//! first; it overwrites nothing. Then the new entries go to sectors in front of the first partition
//! that the old header does not use, and one sector, the header, switches to them. A kernel that
//! looks only at the primary table finds the old or the new one at every moment.

use std::fmt;
use std::io;

use super::guid::Guid;
use super::read_at::ReadAt;

mod grow;
#[cfg(test)]
mod tests;

pub use grow::{Growth, Write};

/// Bytes of a sector. Disks with sectors of 4096 bytes have their table elsewhere and are refused.
pub const SECTOR_BYTES: u64 = 512;
/// The type of the partition that holds the store: made for Cairn, so that nothing else claims it.
pub const DATA_TYPE: Guid = match Guid::parse("c7a1f5d2-3b0e-4c86-9d41-6361697230a1") {
    Some(guid) => guid,
    None => panic!("a GUID"),
};

/// The type of the EFI system partition (UEFI 2.10 §13.3.3).
pub const ESP_TYPE: Guid = match Guid::parse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") {
    Some(guid) => guid,
    None => panic!("a GUID"),
};

const SECTOR: usize = 512;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: u32 = 92;
const ENTRY_BYTES: usize = 128;
/// Tables of 128 entries are what there is; more than twice that is no table of ours.
const ENTRIES_MAX: u32 = 256;
const PRIMARY_LBA: u64 = 1;
/// So many sectors that their bytes still count in 64 bits.
const SECTORS_MAX: u64 = 1 << 54;

/// What is wrong with a table, in words for the console.
#[derive(Debug)]
pub enum GptError {
    /// Neither copy is there or intact.
    NoTable,
    /// The disk has sectors of 4096 bytes.
    LargeSectors,
    /// Entries overlap or leave the disk.
    Entries(&'static str),
    /// The last partition is not the one for data.
    LastIsNotData,
    /// The disk ends in front of what its table holds.
    Shrunk,
    /// Reading or writing failed, or telling the kernel.
    Io(io::Error),
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GptError::NoTable => f.write_str("there is no intact partition table on it"),
            GptError::LargeSectors => f.write_str(
                "it has sectors of 4096 bytes, which Cairn cannot start from; give the machine a disk \
                 with sectors of 512 bytes",
            ),
            GptError::Entries(what) => write!(f, "its partition table is wrong: {what}"),
            GptError::LastIsNotData => {
                f.write_str("its last partition is not Cairn's data, so it is left as it is")
            }
            GptError::Shrunk => f.write_str(
                "it is smaller than its partitions; give the machine a disk of at least the old size",
            ),
            GptError::Io(error) => write!(f, "it cannot be read or written: {error}"),
        }
    }
}

impl std::error::Error for GptError {}

/// One entry in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as the kernel counts.
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// Its own name, which the kernel calls PARTUUID.
    pub unique: Guid,
    /// Its first sector.
    pub first: u64,
    /// Its last sector, itself included.
    pub last: u64,
}

impl Partition {
    /// Its first byte on the disk.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.first * SECTOR_BYTES
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        (self.last - self.first + 1) * SECTOR_BYTES
    }
}

/// A table that was read and is consistent.
#[derive(Clone, Debug)]
pub struct Table {
    header: Header,
    entries: Vec<u8>,
    partitions: Vec<Partition>,
    /// The first sector of the disk, with the boot code and the protective table.
    mbr: Vec<u8>,
    is_primary_intact: bool,
    is_backup_intact: bool,
}

/// The fields that matter of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    own_lba: u64,
    other_lba: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Guid,
    entries_lba: u64,
    entries_count: u32,
    entries_crc: u32,
}

impl Table {
    /// Reads the primary table, or the backup at the end of the disk where the primary is not intact.
    pub fn read<D: ReadAt + ?Sized>(disk: &D) -> Result<Table, GptError> {
        let sectors = disk.size() / SECTOR_BYTES;
        if sectors < 3 {
            return Err(GptError::NoTable);
        }
        let mut mbr = vec![0; SECTOR];
        disk.read_at(0, &mut mbr).map_err(GptError::Io)?;
        let primary = copy(disk, PRIMARY_LBA, sectors)?;
        let end = sectors - 1;
        let at_end = match &primary {
            Some((header, _)) if header.other_lba != end => {
                // The disk grew, or the backup is lost: it is where the header says, if anywhere.
                copy(disk, header.other_lba, sectors)?.map(|backup| (backup, false))
            }
            _ => copy(disk, end, sectors)?.map(|backup| (backup, true)),
        };
        let is_primary_intact = primary.is_some();
        let is_backup_intact = match (&primary, &at_end) {
            (Some((_, entries)), Some(((_, copied), at_end))) => *at_end && entries == copied,
            (None, Some((_, at_end))) => *at_end,
            _ => false,
        };
        let Some((header, entries)) = primary.or(at_end.map(|(backup, _)| backup)) else {
            return Err(if has_large_sectors(disk) {
                GptError::LargeSectors
            } else {
                GptError::NoTable
            });
        };
        let partitions = partitions(&header, &entries)?;
        Ok(Table {
            header,
            entries,
            partitions,
            mbr,
            is_primary_intact,
            is_backup_intact,
        })
    }

    /// The partitions, by number.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition with that name of its own.
    #[must_use]
    pub fn partition(&self, unique: Guid) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.unique == unique)
    }

    /// The first partition of that type.
    #[must_use]
    pub fn of_kind(&self, kind: Guid) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.kind == kind)
    }

    /// The name of the disk.
    #[must_use]
    pub fn disk(&self) -> Guid {
        self.header.disk
    }

    /// Whether both copies are where they belong and say the same.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_primary_intact && self.is_backup_intact
    }
}

/// One copy of the table: its header at `lba` and its entries; `None` where it is not intact.
fn copy<D: ReadAt + ?Sized>(
    disk: &D,
    lba: u64,
    sectors: u64,
) -> Result<Option<(Header, Vec<u8>)>, GptError> {
    if lba == 0 || lba >= sectors {
        return Ok(None);
    }
    let mut bytes = [0; SECTOR];
    disk.read_at(lba * SECTOR_BYTES, &mut bytes)
        .map_err(GptError::Io)?;
    let Some(header) = Header::parse(&bytes, lba) else {
        return Ok(None);
    };
    if header.entries_lba + header.entries_sectors() > sectors {
        return Ok(None);
    }
    let mut entries = vec![0; header.entries_bytes()];
    disk.read_at(header.entries_lba * SECTOR_BYTES, &mut entries)
        .map_err(GptError::Io)?;
    Ok((crc32fast::hash(&entries) == header.entries_crc).then_some((header, entries)))
}

/// Whether a table stands where a disk with sectors of 4096 bytes has it.
fn has_large_sectors<D: ReadAt + ?Sized>(disk: &D) -> bool {
    let mut signature = [0; 8];
    disk.read_at(4096, &mut signature).is_ok() && signature == *SIGNATURE
}

impl Header {
    /// Reads and checks a header that stands in the sector `lba`.
    fn parse(bytes: &[u8; SECTOR], lba: u64) -> Option<Header> {
        let size = u32_at(bytes, 12);
        if bytes[..8] != *SIGNATURE || !(HEADER_BYTES..=512).contains(&size) {
            return None;
        }
        let mut checked = bytes[..size as usize].to_vec();
        checked[16..20].fill(0);
        if crc32fast::hash(&checked) != u32_at(bytes, 16) {
            return None;
        }
        let header = Header {
            own_lba: u64_at(bytes, 24),
            other_lba: u64_at(bytes, 32),
            first_usable: u64_at(bytes, 40),
            last_usable: u64_at(bytes, 48),
            disk: guid_at(bytes, 56),
            entries_lba: u64_at(bytes, 72),
            entries_count: u32_at(bytes, 80),
            entries_crc: u32_at(bytes, 88),
        };
        let entries_end = header.entries_lba.checked_add(header.entries_sectors())?;
        // Entries stand with their header, apart from what partitions use.
        let is_apart = if lba < header.first_usable {
            header.entries_lba > lba && entries_end <= header.first_usable
        } else {
            lba > header.last_usable
                && header.entries_lba > header.last_usable
                && entries_end <= lba
        };
        let is_ours = header.own_lba == lba
            && u32_at(bytes, 84) as usize == ENTRY_BYTES
            && (1..=ENTRIES_MAX).contains(&header.entries_count)
            && header.first_usable <= header.last_usable
            && header.last_usable < SECTORS_MAX
            && is_apart;
        is_ours.then_some(header)
    }

    /// The sector of this header.
    fn sector(&self) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
        bytes[12..16].copy_from_slice(&HEADER_BYTES.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.own_lba.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.other_lba.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_usable.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.disk.0);
        bytes[72..80].copy_from_slice(&self.entries_lba.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.entries_count.to_le_bytes());
        bytes[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        bytes[88..92].copy_from_slice(&self.entries_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES as usize]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn entries_bytes(&self) -> usize {
        self.entries_count as usize * ENTRY_BYTES
    }

    fn entries_sectors(&self) -> u64 {
        (self.entries_bytes() as u64).div_ceil(SECTOR_BYTES)
    }
}

/// The entries in use; each inside the usable sectors and apart from all others.
fn partitions(header: &Header, entries: &[u8]) -> Result<Vec<Partition>, GptError> {
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(ENTRY_BYTES)) {
        let kind = guid_at(entry, 0);
        if kind == Guid([0; 16]) {
            continue;
        }
        let partition = Partition {
            number,
            kind,
            unique: guid_at(entry, 16),
            first: u64_at(entry, 32),
            last: u64_at(entry, 40),
        };
        if partition.first > partition.last {
            return Err(GptError::Entries("a partition ends in front of its start"));
        }
        if partition.first < header.first_usable || partition.last > header.last_usable {
            return Err(GptError::Entries("a partition leaves the usable sectors"));
        }
        partitions.push(partition);
    }
    let mut by_place: Vec<&Partition> = partitions.iter().collect();
    by_place.sort_by_key(|partition| partition.first);
    if by_place.windows(2).any(|two| two[0].last >= two[1].first) {
        return Err(GptError::Entries("partitions overlap"));
    }
    Ok(partitions)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into();
    u32::from_le_bytes(bytes.expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].try_into();
    u64::from_le_bytes(bytes.expect("eight bytes"))
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    Guid(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}
