use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::process::Command;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 2048;
const DISK: Guid = match Guid::parse("11111111-1111-4111-8111-111111111111") {
    Some(guid) => guid,
    None => panic!("a GUID"),
};

fn guid(number: u8) -> Guid {
    let mut bytes = DISK.0;
    bytes[15] = number;
    Guid(bytes)
}

/// A disk as the image builder lays it: a partition for the loader, one for the rest, data.
fn disk(sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; (sectors * SECTOR_BYTES) as usize];
    bytes[446 + 4] = 0xee;
    bytes[446 + 8] = 1;
    bytes[446 + 12..446 + 16].copy_from_slice(&(sectors as u32 - 1).to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut entries = vec![0; 128 * ENTRY_BYTES];
    let rows = [
        (Guid([7; 16]), MIB, 2 * MIB - 1),
        (Guid([8; 16]), 2 * MIB, 3 * MIB - 1),
        (DATA_TYPE, 3 * MIB, sectors - MIB - 1),
    ];
    for (number, (kind, first, last)) in (1..).zip(rows) {
        let entry = &mut entries[(number as usize - 1) * ENTRY_BYTES..];
        entry[..16].copy_from_slice(&kind.0);
        entry[16..32].copy_from_slice(&guid(number).0);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
    }
    let primary = Header {
        own_lba: 1,
        other_lba: sectors - 1,
        first_usable: 34,
        last_usable: sectors - 34,
        disk: DISK,
        entries_lba: 2,
        entries_count: 128,
        entries_crc: crc32fast::hash(&entries),
    };
    let backup = Header {
        own_lba: sectors - 1,
        other_lba: 1,
        entries_lba: sectors - 33,
        ..primary
    };
    for header in [primary, backup] {
        put(&mut bytes, header.entries_lba * SECTOR_BYTES, &entries);
        put(&mut bytes, header.own_lba * SECTOR_BYTES, &header.sector());
    }
    bytes
}

fn put(disk: &mut [u8], offset: u64, bytes: &[u8]) {
    disk[offset as usize..][..bytes.len()].copy_from_slice(bytes);
}

/// The same disk with zeros behind its old end.
fn larger(mut disk: Vec<u8>, sectors: u64) -> Vec<u8> {
    disk.resize((sectors * SECTOR_BYTES) as usize, 0);
    disk
}

fn apply(disk: &mut [u8], growth: &Growth) {
    for write in &growth.writes {
        put(disk, write.offset, &write.bytes);
    }
}

/// Whether a reader that knows the primary table only finds it.
fn has_primary(disk: &[u8]) -> bool {
    let found = copy(disk, PRIMARY_LBA, disk.len() as u64 / SECTOR_BYTES);
    found.expect("readable").is_some()
}

#[test]
fn a_table_that_covers_its_disk_is_left_alone() {
    let bytes = disk(8 * MIB);
    let table = Table::read(&bytes[..]).expect("a table");
    assert!(table.is_whole());
    assert_eq!(table.partitions().len(), 3);
    assert_eq!(table.of_kind(DATA_TYPE), table.partition(guid(3)));
    assert_eq!(table.of_kind(ESP_TYPE), None);
    assert_eq!(
        table.partition(guid(2)).map(Partition::size_bytes),
        Some(1 << 20)
    );
    assert_eq!(table.grow(8 * MIB).expect("fits"), None);
}

#[test]
fn the_data_partition_ends_with_the_larger_disk_on_a_whole_mebibyte() {
    let sectors = 64 * MIB + 77;
    let mut bytes = larger(disk(8 * MIB), sectors);
    let before = Table::read(&bytes[..]).expect("a table");
    assert!(!before.is_whole());
    let growth = before.grow(sectors).expect("room").expect("to do");
    // 44 of the 77 sectors and the last mebibyte are in front of the backup's 33.
    assert_eq!(growth.data.last, 64 * MIB - 1);
    assert_eq!(growth.gained_bytes, 57 << 20);
    apply(&mut bytes, &growth);
    let after = Table::read(&bytes[..]).expect("a table");
    assert!(after.is_whole());
    assert_eq!(after.partitions()[2], growth.data);
    assert_eq!(after.partitions()[..2], before.partitions()[..2]);
    assert_eq!(after.grow(sectors).expect("fits"), None);
    assert_eq!(
        bytes[446 + 12..446 + 16],
        (sectors as u32 - 1).to_le_bytes()
    );

    // It grows again, and the entries go back to their first place.
    let more = sectors + 5 * MIB;
    let mut bytes = larger(bytes, more);
    let growth = after.grow(more).expect("room").expect("to do");
    apply(&mut bytes, &growth);
    let again = Table::read(&bytes[..]).expect("a table");
    assert!(again.is_whole());
    assert_eq!(again.header.entries_lba, 2);
}

#[test]
fn a_lost_copy_is_written_again() {
    for lost in [1, 8 * MIB - 1, 2] {
        let mut bytes = disk(8 * MIB);
        bytes[(lost * SECTOR_BYTES) as usize + 70] ^= 1;
        let table = Table::read(&bytes[..]).expect("the other copy");
        assert!(!table.is_whole());
        let growth = table.grow(8 * MIB).expect("fits").expect("to repair");
        assert_eq!(growth.gained_bytes, 0);
        apply(&mut bytes, &growth);
        assert!(Table::read(&bytes[..]).expect("a table").is_whole());
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let mut bytes = disk(8 * MIB);
    let (table, sectors) = (Table::read(&bytes[..]).expect("a table"), 8 * MIB);
    assert!(matches!(table.grow(7 * MIB - 1), Err(GptError::Shrunk)));
    assert!(matches!(table.grow(0), Err(GptError::Shrunk)));

    let mut other = table;
    other.partitions[2].kind = Guid([9; 16]);
    assert!(matches!(other.grow(sectors), Err(GptError::LastIsNotData)));

    bytes.fill(0);
    assert!(matches!(Table::read(&bytes[..]), Err(GptError::NoTable)));
    bytes[4096..4104].copy_from_slice(SIGNATURE);
    assert!(matches!(
        Table::read(&bytes[..]),
        Err(GptError::LargeSectors)
    ));
    assert!(matches!(Table::read(&[0; 100][..]), Err(GptError::NoTable)));
}

#[test]
fn overlapping_partitions_are_refused() {
    let mut bytes = disk(8 * MIB);
    let mut table = Table::read(&bytes[..]).expect("a table");
    table.entries[ENTRY_BYTES + 32..ENTRY_BYTES + 40].copy_from_slice(&MIB.to_le_bytes());
    table.header.entries_crc = crc32fast::hash(&table.entries);
    put(&mut bytes, 2 * SECTOR_BYTES, &table.entries);
    put(&mut bytes, SECTOR_BYTES, &table.header.sector());
    assert!(matches!(Table::read(&bytes[..]), Err(GptError::Entries(_))));
}

/// Another implementation reads what was written, and writes what is read here.
#[test]
fn the_gpt_crate_agrees() {
    let sectors = 40 * MIB + 5;
    let mut device = Cursor::new(vec![0; (8 * MIB * SECTOR_BYTES) as usize]);
    let mut theirs = ::gpt::GptConfig::new()
        .writable(true)
        .create_from_device(&mut device, None)
        .expect("an empty table");
    let kind = ::gpt::partition_types::Type {
        guid: DATA_TYPE.to_string().parse().expect("a GUID"),
        os: ::gpt::partition_types::OperatingSystem::None,
    };
    theirs
        .add_partition("esp", 1 << 20, ::gpt::partition_types::EFI, 0, Some(2048))
        .expect("room");
    theirs
        .add_partition("data", 4 << 20, kind, 0, Some(2048))
        .expect("room");
    theirs.write().expect("memory");
    let mut mbr = [0; 512];
    mbr.copy_from_slice(&disk(8 * MIB)[..512]);
    let mut bytes = device.into_inner();
    bytes[..512].copy_from_slice(&mbr);

    let mut bytes = larger(bytes, sectors);
    let table = Table::read(&bytes[..]).expect("their table");
    assert_eq!(table.partitions().len(), 2);
    let growth = table.grow(sectors).expect("room").expect("to do");
    apply(&mut bytes, &growth);

    let read = ::gpt::GptConfig::new()
        .writable(false)
        .only_valid_headers(true)
        .open_from_device(Cursor::new(bytes))
        .expect("both headers are valid");
    let data = &read.partitions()[&2];
    assert_eq!(
        (data.first_lba, data.last_lba),
        (growth.data.first, growth.data.last)
    );
    assert_eq!(data.part_guid.to_string(), growth.data.unique.to_string());
    assert_eq!(read.primary_header().expect("one").backup_lba, sectors - 1);
}

/// Where sgdisk is installed it finds nothing to say.
#[test]
fn sgdisk_finds_no_problem() {
    let sectors = 20 * MIB;
    let mut bytes = larger(disk(8 * MIB), sectors);
    let table = Table::read(&bytes[..]).expect("a table");
    apply(
        &mut bytes,
        &table.grow(sectors).expect("room").expect("to do"),
    );
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&bytes).expect("written");
    let path = file.path();
    let told = ["sgdisk", "/usr/sbin/sgdisk"]
        .iter()
        .find_map(|tool| Command::new(tool).arg("-v").arg(path).output().ok());
    let Some(told) = told else {
        println!("note: sgdisk is not installed");
        return;
    };
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("No problems found"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The power fails in any write, which tears between two of its sectors.
    #[test]
    fn a_power_cut_leaves_the_old_or_the_new_table(
        old in 6u64..12,
        gained in 0u64..(9 * MIB),
        damage in 0u8..3,
        write_cut in 0usize..5,
        sector_cut in 0usize..40,
    ) {
        let sectors = old * MIB + gained;
        let mut bytes = larger(disk(old * MIB), sectors);
        // One copy may be lost from the start; the backup of a disk that grew is out of reach then.
        match damage {
            1 if gained == 0 => bytes[SECTOR + 20] ^= 1,
            2 => bytes[((old * MIB - 1) * SECTOR_BYTES) as usize + 20] ^= 1,
            _ => {}
        }
        let primary_before = has_primary(&bytes);
        let table = Table::read(&bytes[..]).expect("a copy");
        let Some(growth) = table.grow(sectors).expect("room") else {
            return Ok(());
        };
        for (index, write) in growth.writes.iter().enumerate() {
            if index > write_cut {
                break;
            }
            let done = if index == write_cut {
                (sector_cut * SECTOR).min(write.bytes.len())
            } else {
                write.bytes.len()
            };
            put(&mut bytes, write.offset, &write.bytes[..done]);
        }
        prop_assert!(has_primary(&bytes) || !primary_before, "the kernel needs the primary table");
        let found = Table::read(&bytes[..]).expect("a readable table");
        let last: BTreeMap<u32, u64> = found.partitions().iter().map(|one| (one.number, one.last)).collect();
        prop_assert!(last[&3] == table.partitions()[2].last || last[&3] == growth.data.last);
        prop_assert_eq!(&found.partitions()[..2], &table.partitions()[..2]);

        // And the next boot ends what was begun.
        if let Some(rest) = found.grow(sectors).expect("room") {
            apply(&mut bytes, &rest);
        }
        let table = Table::read(&bytes[..]).expect("a table");
        prop_assert!(table.is_whole());
        prop_assert_eq!(table.partitions()[2].last, growth.data.last);
    }

    #[test]
    fn no_bytes_are_too_bad(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096), sectors: u64) {
        if bytes.len() > 600 {
            bytes[512..520].copy_from_slice(SIGNATURE);
        }
        if let Ok(table) = Table::read(&bytes[..]) {
            let _ = table.grow(sectors);
        }
    }
}
