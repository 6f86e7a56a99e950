use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::store::disk::{Access, FileDevice};

const MIB: u64 = 1 << 20;

/// A device of that length, with the superblocks of a store with segments of 1 MiB on it.
fn device(len: u64, has_store: bool) -> (tempfile::NamedTempFile, FileDevice) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(len).expect("it grows");
    if has_store {
        let block = superblock::example(len, 1 << 20).encode();
        for at in [0, 32_768] {
            file.as_file()
                .write_all_at(block.as_slice(), at)
                .expect("it is written");
        }
    }
    let device = FileDevice::open_buffered(file.path(), Access::Write).expect("it opens");
    (file, device)
}

fn said(count: usize) -> Vec<String> {
    (0..count).map(|line| format!("line {line}")).collect()
}

fn lines(lines: &[String]) -> impl DoubleEndedIterator<Item = &str> {
    lines.iter().map(String::as_str)
}

#[test]
fn why_a_boot_ended_is_told_once_and_counted() {
    let (_file, device) = device(16 * MIB, true);
    assert_eq!(take(&device).expect("it reads"), None);
    let own = said(40);
    let kernel = said(3);
    let first = text("the server keeps dying", lines(&own), lines(&kernel));
    assert!(leave(&device, 7_000, &first).expect("it is kept"));
    let told = take(&device).expect("it reads").expect("last words");
    assert_eq!((told.at_ms, told.count), (7_000, 1));
    let shown = told.lines();
    assert_eq!(shown.len(), 1 + LINES_TOLD + 3);
    assert_eq!(
        (shown[0], shown[1], shown[12], shown[15]),
        (
            "the server keeps dying",
            "own: line 28",
            "own: line 39",
            "kernel: line 2"
        )
    );
    assert_eq!(take(&device).expect("it reads"), None, "it has been told");
    assert!(leave(&device, 8_000, "again\n").expect("it is kept"));
    let told = take(&device).expect("it reads").expect("last words");
    assert_eq!((told.count, told.lines()), (2, vec!["again"]));
}

#[test]
fn a_device_without_a_store_is_not_touched() {
    for len in [16 * MIB, 4096, 0] {
        let (file, device) = device(len, false);
        assert!(!leave(&device, 1, "a word\n").expect("nothing happens"));
        let bytes = fs::read(file.path()).expect("it reads");
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
    let (file, device) = device(16 * MIB, false);
    let foreign = vec![0xa5; 16 << 20];
    file.as_file().write_all_at(&foreign, 0).expect("written");
    assert!(!leave(&device, 1, "a word\n").expect("nothing happens"));
    assert!(fs::read(file.path()).expect("it reads") == foreign);
}

#[test]
fn a_store_that_fills_its_device_keeps_all_of_it() {
    // The last segment ends with the device, or within the area.
    for beyond in [0, 4096, AREA_BYTES - 4096] {
        let (file, device) = device(65_536 + 12 * MIB + beyond, true);
        let before = fs::read(file.path()).expect("it reads");
        assert!(!leave(&device, 1, "a word\n").expect("nothing happens"));
        assert!(fs::read(file.path()).expect("it reads") == before);
    }
    let (_file, device) = device(65_536 + 12 * MIB + AREA_BYTES, true);
    assert!(leave(&device, 1, "a word\n").expect("there is room"));
}

#[test]
fn a_partition_that_ends_on_a_mebibyte_has_room_behind_its_segments() {
    for mib in [16_u64, 17, 63, 64, 129, 1000, 10_000] {
        for shift in 20..=23 {
            let geometry = crate::store::format::Geometry {
                block: 4096,
                segment_bytes: 1 << shift,
            };
            let len = mib * MIB;
            let used = geometry.len_for(geometry.slots(len));
            assert!(used + AREA_BYTES <= len, "{mib} MiB, {shift}");
        }
    }
}

#[test]
fn what_is_torn_or_damaged_is_not_told() {
    let (file, device) = device(16 * MIB, true);
    assert!(leave(&device, 1, "a word that is kept\n").expect("it is kept"));
    let area = 16 * MIB - AREA_BYTES;
    for at in [0, 8, 12, 24, 28, 36, 4096, 4100] {
        let mut byte = [0];
        let file = file.as_file();
        file.read_exact_at(&mut byte, area + at).expect("it reads");
        file.write_all_at(&[byte[0] ^ 1], area + at)
            .expect("written");
        assert_eq!(take(&device).expect("it reads"), None, "{at}");
        file.write_all_at(&byte, area + at).expect("written");
    }
    // A length beyond the area, by whoever can also compute sums.
    let mut head = [0; 40];
    let file = file.as_file();
    file.read_exact_at(&mut head, area).expect("it reads");
    head[12..16].fill(0xff);
    let sum = crc32fast::hash(&head[..36]);
    head[36..].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&head, area).expect("written");
    assert_eq!(take(&device).expect("it reads"), None);
}

#[test]
fn a_text_is_cut_to_the_area_and_steers_no_terminal() {
    let long = vec!["x\x1b[2J".repeat(300); 200];
    let text = text(&"why\n".repeat(1000), lines(&long), lines(&long));
    assert!(text.len() <= TEXT_MAX && text.len() > TEXT_MAX - 4096);
    assert!(!text.contains('\x1b'));
    assert!(text.lines().any(|line| line.starts_with(OWN)));
    assert!(text.lines().any(|line| line.starts_with(KERNEL)));
    let (_file, device) = device(16 * MIB, true);
    assert!(leave(&device, 1, &text).expect("it is kept"));
    let told = take(&device).expect("it reads").expect("last words");
    assert_eq!(told.text, text);
}

#[test]
fn the_kernels_records_are_read_as_people_know_them() {
    assert_eq!(
        message("6,339,5140900,-;NET: Registered protocol family 10").as_deref(),
        Some("[    5.140900] NET: Registered protocol family 10")
    );
    for other in [" SUBSYSTEM=acpi", "6,1;x", "6,1,x,-;y", ""] {
        assert_eq!(message(other), None, "{other}");
    }
    let log = tempfile::NamedTempFile::new().expect("a file");
    fs::write(
        log.path(),
        "6,1,1000,-;one\n KEY=value\n4,2,2000000,-;two\n",
    )
    .expect("written");
    assert_eq!(
        kernel_log(log.path()),
        ["[    0.001000] one", "[    2.000000] two"]
    );
    assert!(kernel_log(Path::new("/nonexistent")).is_empty());
}

proptest::proptest! {
    /// The server can write to the area: whatever it leaves there is read, or is not.
    #[test]
    fn nothing_that_stands_there_ends_pid_1(
        head in proptest::collection::vec(proptest::num::u8::ANY, 28),
        len in 0_u32..70_000,
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..3_000),
    ) {
        let mut area = vec![0; AREA_BYTES as usize];
        area[..8].copy_from_slice(MAGIC);
        area[8..36].copy_from_slice(&head);
        area[8..12].copy_from_slice(&VERSION.to_le_bytes());
        area[12..16].copy_from_slice(&len.to_le_bytes());
        area[ALIGN..ALIGN + text.len()].copy_from_slice(&text);
        let end = ALIGN + len as usize;
        let sum = area.get(ALIGN..end).map_or(0, crc32fast::hash);
        area[32..36].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32fast::hash(&area[..36]);
        area[36..40].copy_from_slice(&sum.to_le_bytes());
        let read = LastWords::decode(&area);
        proptest::prop_assert_eq!(read.is_some(), end <= area.len());
        for line in read.iter().flat_map(LastWords::lines) {
            proptest::prop_assert!(!line.contains('\n'));
        }
    }
}
