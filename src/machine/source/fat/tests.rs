use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

const MAX: usize = 64 << 10;
const LONG: &str = "a name that is longer than the eleven of old.toml";

/// A volume made by mtools, with a file of several clusters; `None` where mtools is not installed.
fn mtools(sectors: u32, options: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let run = |tool: &str, arguments: &[&str]| {
        let mut command = Command::new(tool);
        command
            .env("MTOOLS_SKIP_CHECK", "1")
            .arg("-i")
            .arg(&image)
            .args(arguments);
        command.status().ok().filter(|status| status.success())
    };
    fs::write(&image, []).expect("a file");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&image)
        .expect("a file");
    file.set_len(u64::from(sectors) * 512).expect("room");
    let size = sectors.to_string();
    let mut arguments = vec!["-T", &size, "-h", "16", "-s", "63", "-v", "CIDATA"];
    arguments.extend(options);
    arguments.push("::");
    if run("mformat", &arguments).is_none() {
        println!("note: mtools is not installed");
        return None;
    }
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join("file");
        fs::write(&path, bytes).expect("a file");
        let from = Path::to_str(&path).expect("UTF-8").to_owned();
        run("mcopy", &["-o", &from, &format!("::{name}")]).expect("copied");
    };
    put("user-data", b"#cairn\n");
    put("big", &big());
    put("empty", b"");
    put(LONG, b"long");
    run("mmd", &["::openstack", "::openstack/latest"]).expect("folders");
    for number in 0..60 {
        put(&format!("openstack/latest/file number {number}"), &[number]);
    }
    Some(fs::read(&image).expect("an image"))
}

fn big() -> Vec<u8> {
    (0..40_000u32).map(|byte| (byte % 251) as u8).collect()
}

fn check(image: &[u8], kind: Kind) {
    let fat = Fat::open(image).expect("a volume");
    assert_eq!(fat.kind, kind);
    assert_eq!(fat.label(), "CIDATA");
    let read = |path: &[&str]| fat.read(path, MAX).expect("readable");
    assert_eq!(read(&["user-data"]).as_deref(), Some(&b"#cairn\n"[..]));
    assert_eq!(read(&["USER-DATA"]).as_deref(), Some(&b"#cairn\n"[..]));
    assert_eq!(read(&["big"]), Some(big()));
    assert_eq!(read(&["empty"]).as_deref(), Some(&b""[..]));
    assert_eq!(read(&[LONG]).as_deref(), Some(&b"long"[..]));
    let nested = ["openstack", "latest", "file number 59"];
    assert_eq!(read(&nested).as_deref(), Some(&[59][..]));
    for path in [
        &[][..],
        &["nothing"],
        &["openstack"],
        &["user-data", "x"],
        &["openstack", "x"],
        &["CIDATA"],
    ] {
        assert_eq!(read(path), None, "{path:?}");
    }
    assert!(
        fat.read(&["big"], 1024)
            .expect_err("too long")
            .contains("longer than 1 KiB")
    );
}

#[test]
fn mtools_fat12() {
    if let Some(image) = mtools(2880, &["-c", "1"]) {
        check(&image, Kind::Fat12);
    }
}

#[test]
fn mtools_fat16() {
    if let Some(image) = mtools(16384, &["-c", "2"]) {
        check(&image, Kind::Fat16);
    }
}

#[test]
fn mtools_fat32() {
    if let Some(image) = mtools(69632, &["-F", "-c", "1"]) {
        check(&image, Kind::Fat32);
    }
}

/// A FAT12 volume of 64 sectors, laid by hand: one table at sector 1, the root folder of 16 entries
/// at sector 2, clusters of one sector from 3.
fn by_hand() -> Vec<u8> {
    let mut image = vec![0; 64 * 512];
    image[11..24].copy_from_slice(&[0, 2, 1, 1, 0, 1, 16, 0, 64, 0, 0xf8, 1, 0]);
    image[43..54].copy_from_slice(b"CONFIG-2   ");
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let entry = &mut image[1024..1056];
    entry[..11].copy_from_slice(b"CAIRN   TOM");
    entry[26] = 2;
    entry[28..30].copy_from_slice(&600u16.to_le_bytes());
    // Cluster 2 goes on in 3, which ends.
    image[512 + 3..512 + 6].copy_from_slice(&[3, 0xf0, 0xff]);
    image[3 * 512..5 * 512].fill(b'x');
    image
}

#[test]
fn a_volume_laid_by_hand() {
    let image = by_hand();
    let fat = Fat::open(&image[..]).expect("a volume");
    assert_eq!(fat.label(), "CONFIG-2");
    assert_eq!(fat.read(&["cairn.tom"], MAX), Ok(Some(vec![b'x'; 600])));
}

#[test]
fn chains_that_circle_or_break_off_end() {
    let mut image = by_hand();
    image[512 + 3..512 + 6].copy_from_slice(&[2, 0xf0, 0xff]);
    let fat = Fat::open(&image[..]).expect("a volume");
    assert_eq!(
        fat.read(&["cairn.tom"], MAX),
        Ok(Some(vec![b'x'; 600])),
        "a circle gives its bytes"
    );

    let mut image = by_hand();
    image[512 + 3] = 0;
    let fat = Fat::open(&image[..]).expect("a volume");
    assert!(
        fat.read(&["cairn.tom"], MAX)
            .expect_err("too short")
            .contains("too early")
    );

    // A folder whose chain is a circle is as long as a folder may be, and no longer.
    let mut image = by_hand();
    image[1024 + 11] = ATTRIBUTE_FOLDER;
    image[512 + 3..512 + 6].copy_from_slice(&[2, 0xf0, 0xff]);
    image[3 * 512..4 * 512].fill(UNUSED);
    let fat = Fat::open(&image[..]).expect("a volume");
    assert_eq!(fat.read(&["cairn.tom", "x"], MAX), Ok(None));

    let image = by_hand();
    let fat = Fat::open(&image[..4 * 512]).expect("a volume");
    assert!(
        fat.read(&["cairn.tom"], MAX)
            .expect_err("cut")
            .contains("broken")
    );
}

#[test]
fn a_long_name_with_a_wrong_sum_is_not_the_file_s() {
    let mut image = by_hand();
    let short = image[1024..1056].to_vec();
    let mut long = [0u8; 32];
    long[0] = LAST_LONG_NAME | 1;
    for (place, unit) in [(1, b'a'), (3, b'b')] {
        long[place] = unit;
    }
    long[11] = ATTRIBUTE_LONG_NAME;
    let sum = short[..11]
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    long[13] = sum;
    image[1056..1088].copy_from_slice(&short);
    image[1024..1056].copy_from_slice(&long);
    let read = |image: &[u8]| Fat::open(image).expect("a volume").read(&["ab"], MAX);
    assert_eq!(read(&image), Ok(Some(vec![b'x'; 600])));
    image[1024 + 13] ^= 1;
    assert_eq!(read(&image), Ok(None));
    image[1024 + 13] ^= 1;
    image[1024] = LAST_LONG_NAME | 2;
    assert_eq!(read(&image), Ok(None), "a part is missing");
}
