//! Writing the partition table (UEFI Specification 2.10, §5).

use crate::layout::{DATA_TYPE, DISK_ID, MIB, PARTITIONS, SECTOR};

const ENTRIES: u64 = 128;
const ENTRY_BYTES: u64 = 128;
const TABLE_SECTORS: u64 = ENTRIES * ENTRY_BYTES / SECTOR;

/// The first 34 sectors of a disk of so many bytes, and the last 33. The last partition goes up to
/// the last MiB.
pub fn tables(bytes: u64) -> (Vec<u8>, Vec<u8>) {
    let last = bytes / SECTOR - 1;
    let entries = entries(bytes - MIB);
    let mut head = protective_mbr(last);
    head.extend(header(1, last, 2, last, &entries));
    head.extend(&entries);
    let mut tail = entries.clone();
    tail.extend(header(last, 1, last - TABLE_SECTORS, last, &entries));
    (head, tail)
}

/// What old programs see: one partition that covers all (§5.2.3). It is marked active, because some
/// BIOSes start no disk without an active partition.
fn protective_mbr(last: u64) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    let entry = &mut sector[446..462];
    entry[0] = 0x80;
    entry[1..8].copy_from_slice(&[0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn header(own: u64, other: u64, table: u64, last: u64, entries: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR as usize);
    bytes.extend(b"EFI PART");
    bytes.extend(0x0001_0000_u32.to_le_bytes());
    bytes.extend(92_u32.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(own.to_le_bytes());
    bytes.extend(other.to_le_bytes());
    bytes.extend((2 + TABLE_SECTORS).to_le_bytes());
    bytes.extend((last - TABLE_SECTORS - 1).to_le_bytes());
    bytes.extend(guid(DISK_ID));
    bytes.extend(table.to_le_bytes());
    bytes.extend((ENTRIES as u32).to_le_bytes());
    bytes.extend((ENTRY_BYTES as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(entries).to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(SECTOR as usize, 0);
    bytes
}

fn entries(data_end: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((ENTRIES * ENTRY_BYTES) as usize);
    for place in &PARTITIONS {
        let start = place.offset() / SECTOR;
        let end = match place.kind {
            DATA_TYPE => data_end / SECTOR,
            _ => start + place.bytes() / SECTOR,
        };
        let mut entry = Vec::with_capacity(ENTRY_BYTES as usize);
        entry.extend(guid(place.kind));
        entry.extend(guid(place.id));
        entry.extend(start.to_le_bytes());
        entry.extend((end - 1).to_le_bytes());
        entry.extend([0; 8]);
        entry.extend(place.name.encode_utf16().flat_map(u16::to_le_bytes));
        entry.resize(ENTRY_BYTES as usize, 0);
        bytes.extend(entry);
    }
    bytes.resize((ENTRIES * ENTRY_BYTES) as usize, 0);
    bytes
}

/// The bytes of an identifier: its first three groups are little-endian numbers (appendix A).
///
/// # Panics
///
/// Where the text is none: they are constants.
pub fn guid(text: &str) -> [u8; 16] {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).expect("an identifier");
    let mut bytes = number.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_groups_of_an_identifier_are_little_endian() {
        let bytes = guid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(bytes[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(bytes[8..], [0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
    }

    #[test]
    fn the_tables_fill_their_sectors() {
        let (head, tail) = tables(crate::layout::IMAGE_BYTES);
        assert_eq!(head.len() as u64, 34 * SECTOR);
        assert_eq!(tail.len() as u64, 33 * SECTOR);
        assert_eq!(&head[512..520], b"EFI PART");
        assert_eq!(&tail[32 * 512..32 * 512 + 8], b"EFI PART");
    }
}
