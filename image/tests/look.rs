//! What `cairn-image` says of images, good and bad, and the formats that it makes of one.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Disk, Options, Vm, image, succeeds, tool};

const MIB: u64 = 1 << 20;
/// Bytes that an image with one system may have when it is compressed.
const COMPRESSED_MAX: u64 = 12_000_000;

/// The one sentence by which an image, or two, are refused.
#[track_caller]
fn refused(what: &str, images: &[&Path]) -> String {
    let output = tool().arg(what).args(images).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let sentence = said.strip_prefix("cairn-image: ").expect("it says so");
    assert_eq!(sentence.lines().count(), 1, "{said}");
    sentence.trim_end().to_owned()
}

#[test]
fn a_finished_image_is_sound_and_says_what_it_holds() {
    let Some(image) = image() else { return };
    let said = succeeds(tool().arg("verify").arg(&image));
    assert_eq!(said, "slot a is sound\nslot b is empty\n");
    assert_eq!(succeeds(tool().arg("diff").args([&image, &image])), "");
    let said = succeeds(tool().arg("inspect").arg(&image));
    let lines: Vec<&str> = said.lines().collect();
    let [bios, .., data, state, a, b] = lines[..] else {
        panic!("{said}");
    };
    assert_eq!(lines.len(), 8 + 3, "{said}");
    assert_eq!(bios, "1 bios          1 MiB at   1 MiB");
    assert_eq!(data, "8 data         16 MiB at 327 MiB");
    assert_eq!(state, "boot state: slot=a left=3 fb=0");
    assert!(a.starts_with("slot a: root of "), "{a}");
    // As the kernel is told.
    let disk = Disk::of(&image);
    let entry = disk.find(b"dm_a=root", 7, 39);
    let entry = String::from_utf8(disk.read(entry, 400)).expect("UTF-8");
    let hash = entry.split(' ').skip_while(|word| *word != "sha256").nth(1);
    let hash = hash.expect("a hash");
    assert_eq!(hash.len(), 64, "{entry}");
    assert!(a.contains(&format!(", hash {hash}, ")), "{a}");
    assert_eq!(b, "slot b: empty");
}

#[test]
fn an_image_with_a_changed_byte_is_refused_and_the_part_is_named() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let root = disk.find(b"\x7fELF", 39, 60) + 0x100;
    let kernel = disk.find(b"HdrS", 7, 39);
    let entry = disk.find(b"dm_a=root", 7, 39);
    let sums = disk.find(b"  vmlinuz\n", 7, 39) - 1;
    let last_sector = disk.read(344 * MIB - 512, 8);
    assert_eq!(last_sector, b"EFI PART");
    let of_slot = "slot a: kernel or boot entry do not match their sums";
    let of_root = "slot a: the root does not match its hash";
    let of_table = "the partition table is not as it was made";
    let places = [
        (root, of_root, "root-a"),
        (kernel, of_slot, "boot-a"),
        (entry, of_slot, "boot-a"),
        (sums, of_slot, "boot-a"),
        // What makes of the boot partition a file system.
        (7 * MIB + 12, "slot a: there is no boot entry", "boot-a"),
        (512 + 60, of_table, "partition table"),
        (344 * MIB - 512 + 60, of_table, "partition table"),
    ];
    for (at, why, part) in places {
        disk.flip(at);
        assert_eq!(refused("verify", &[&disk.path()]), why, "{at}");
        let differ = refused("diff", &[&image, &disk.path()]);
        assert_eq!(differ, format!("they differ in {part}"), "{at}");
        disk.flip(at);
    }
    // Whole again, but for what nothing has a sum of.
    disk.flip(327 * MIB);
    succeeds(tool().arg("verify").arg(disk.path()));
    let differ = refused("diff", &[&image, &disk.path()]);
    assert_eq!(differ, "they differ in data");
    // Half an image.
    let file = fs::OpenOptions::new().write(true).open(disk.path());
    file.and_then(|file| file.set_len(100 * MIB))
        .expect("it is cut");
    let short = format!("{} is too short for an image", disk.path().display());
    for (what, images) in [
        ("verify", &[disk.path()][..]),
        ("inspect", &[disk.path()]),
        ("diff", &[image, disk.path()]),
    ] {
        let images: Vec<&Path> = images.iter().map(AsRef::as_ref).collect();
        assert_eq!(refused(what, &images), short);
    }
}

#[test]
fn every_format_holds_the_bytes_of_the_raw_image_and_qcow2_boots() {
    let Some(image) = image() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path();
    let made = image.parent().expect("a folder");
    let mut build = tool();
    build.arg("build").arg("--kernel").arg(made.join("vmlinuz"));
    build.arg("--binary").arg(made.join("cairn"));
    build.arg("--out").arg(out);
    for format in ["raw.zst", "qcow2", "vmdk"] {
        build.args(["--format", format]);
    }
    succeeds(&mut build);
    let raw = out.join("cairn.raw");
    let again = out.join("again.raw");
    let is_the_same = |back: &mut Command| {
        succeeds(back);
        succeeds(Command::new("cmp").args([&raw, &again]));
        fs::remove_file(&again).expect("it was made");
    };
    let compressed = out.join("cairn.raw.zst");
    is_the_same(
        Command::new("zstd")
            .args(["-d", "-q", "-o"])
            .args([&again, &compressed]),
    );
    for format in ["qcow2", "vmdk"] {
        let mut back = Command::new("qemu-img");
        back.args(["convert", "-f", format, "-O", "raw"]);
        back.arg(out.join(format!("cairn.{format}"))).arg(&again);
        is_the_same(&mut back);
    }
    let bytes = fs::metadata(&compressed).expect("it is there").len();
    assert!(bytes <= COMPRESSED_MAX, "{bytes}");
    let disk = Disk::of(&out.join("cairn.qcow2"));
    let options = Options {
        format: Some("qcow2"),
        config: Some("domain = \"chat.example\"\n"),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("starts, from slot a");
    vm.wait_for("the server accepts log-ins");
}

#[test]
fn an_unknown_format_is_refused_before_anything_is_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut build = tool();
    build.args(["build", "--format", "iso", "--kernel", "none"]);
    let output = build.arg("--out").arg(folder.path()).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("raw, raw.zst, qcow2, vmdk"), "{said}");
}
