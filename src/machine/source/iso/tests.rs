use std::fs;
use std::process::Command;

use super::*;

const MAX: usize = 64 << 10;
const LONG: &str = "a name that goes on and on, for it has to be continued in another place than its own entry, where there is no room for so many characters, as nobody would ever write them but to see whether it is read whole and well";

/// A volume made by genisoimage; `None` where it is not installed.
fn genisoimage(options: &[&str], long: &str) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("openstack/latest")).expect("folders");
    fs::write(root.join("user-data"), "#cairn\n").expect("a file");
    fs::write(root.join("big"), vec![7; 40_000]).expect("a file");
    fs::write(root.join("empty"), "").expect("a file");
    fs::write(root.join(long), "long").expect("a file");
    for number in 0..60 {
        let name = format!("openstack/latest/file number {number}");
        fs::write(root.join(name), [number]).expect("a file");
    }
    let image = folder.path().join("image");
    let run = Command::new("genisoimage")
        .args(["-quiet", "-V", "cidata", "-o"])
        .arg(&image)
        .args(options)
        .arg(&root)
        .output();
    match run {
        Ok(run) => assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        ),
        Err(_) => {
            println!("note: genisoimage is not installed");
            return None;
        }
    }
    Some(fs::read(image).expect("an image"))
}

fn check(image: &[u8], long: &str) {
    let iso = Iso::open(image).expect("a volume");
    assert_eq!(iso.label(), "cidata");
    let read = |path: &[&str]| iso.read(path, MAX).expect("readable");
    assert_eq!(read(&["user-data"]).as_deref(), Some(&b"#cairn\n"[..]));
    assert_eq!(read(&["USER-DATA"]).as_deref(), Some(&b"#cairn\n"[..]));
    assert_eq!(read(&["big"]), Some(vec![7; 40_000]));
    assert_eq!(read(&["empty"]).as_deref(), Some(&b""[..]));
    assert_eq!(read(&[long]).as_deref(), Some(&b"long"[..]));
    let nested = ["openstack", "latest", "file number 59"];
    assert_eq!(read(&nested).as_deref(), Some(&[59][..]));
    for path in [
        &[][..],
        &["nothing"],
        &["openstack"],
        &["user-data", "x"],
        &["openstack", "x"],
        &[""],
    ] {
        assert_eq!(read(path), None, "{path:?}");
    }
    assert!(
        iso.read(&["big"], 1024)
            .expect_err("too long")
            .contains("longer than 1 KiB")
    );
}

#[test]
fn genisoimage_with_rock_ridge_and_joliet() {
    if let Some(image) = genisoimage(&["-joliet", "-rock", "-joliet-long"], &LONG[..60]) {
        check(&image, &LONG[..60]);
    }
}

#[test]
fn genisoimage_with_rock_ridge_and_a_name_that_is_continued() {
    if let Some(image) = genisoimage(&["-rock"], LONG) {
        check(&image, LONG);
    }
}

#[test]
fn genisoimage_with_joliet() {
    if let Some(image) = genisoimage(&["-joliet"], &LONG[..60]) {
        check(&image, &LONG[..60]);
    }
}

#[test]
fn genisoimage_with_plain_names() {
    if let Some(image) = genisoimage(&["-iso-level", "4"], &LONG[..60]) {
        check(&image, &LONG[..60]);
    }
}

/// A volume laid by hand: one descriptor, a root folder in sector 18, a file in sector 19.
fn by_hand() -> Vec<u8> {
    let mut image = vec![0; 20 * SECTOR];
    let descriptor = &mut image[16 * SECTOR..17 * SECTOR];
    descriptor[..7].copy_from_slice(b"\x01CD001\x01");
    descriptor[40..46].copy_from_slice(b"CIDATA");
    descriptor[128..130].copy_from_slice(&[0, 8]);
    let root = entry(18, SECTOR as u32, FLAG_FOLDER, &[0]);
    descriptor[156..156 + root.len()].copy_from_slice(&root);
    image[17 * SECTOR..17 * SECTOR + 7].copy_from_slice(b"\xffCD001\x01");
    let file = entry(19, 5, 0, b"USER-DATA.;1");
    let folder = [root, file].concat();
    image[18 * SECTOR..18 * SECTOR + folder.len()].copy_from_slice(&folder);
    image[19 * SECTOR..19 * SECTOR + 5].copy_from_slice(b"hello");
    image
}

fn entry(block: u32, size: u32, flags: u8, identifier: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (33 + identifier.len()).next_multiple_of(2)];
    bytes[0] = bytes.len() as u8;
    bytes[2..6].copy_from_slice(&block.to_le_bytes());
    bytes[10..14].copy_from_slice(&size.to_le_bytes());
    bytes[25] = flags;
    bytes[32] = identifier.len() as u8;
    bytes[33..33 + identifier.len()].copy_from_slice(identifier);
    bytes
}

#[test]
fn a_volume_laid_by_hand() {
    let image = by_hand();
    let iso = Iso::open(&image[..]).expect("a volume");
    assert_eq!(iso.label(), "CIDATA");
    assert_eq!(iso.read(&["user-data"], MAX), Ok(Some(b"hello".to_vec())));
}

#[test]
fn what_leaves_its_bounds_is_an_error() {
    let mut image = by_hand();
    let file = 18 * SECTOR + 34;
    image[file + 2] = 200;
    let read = |image: &[u8], path: &[&str]| Iso::open(image).expect("a volume").read(path, MAX);
    assert!(
        read(&image, &["user-data"])
            .expect_err("behind the end")
            .contains("broken")
    );
    image[file + 10..file + 14].fill(0xff);
    assert!(
        read(&image, &["user-data"])
            .expect_err("4 GiB")
            .contains("longer than 64 KiB")
    );
    image[file] = 250;
    image[18 * SECTOR + 34 + 32] = 255;
    assert_eq!(
        read(&image, &["user-data"]),
        Ok(None),
        "the name leaves the entry"
    );
    // A folder of 4 GiB.
    let mut image = by_hand();
    image[16 * SECTOR + 166..16 * SECTOR + 170].fill(0xff);
    assert!(
        read(&image, &["user-data"])
            .expect_err("4 GiB")
            .contains("too large")
    );
    // A folder that is its own child ends with the path.
    let mut image = by_hand();
    let circle = entry(18, SECTOR as u32, FLAG_FOLDER, b"A");
    image[file..file + circle.len()].copy_from_slice(&circle);
    assert_eq!(read(&image, &["a", "a", "a", "b"]), Ok(None));
}
