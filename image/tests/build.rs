//! What `build` leaves in its folder.

mod support;

use std::fs;
use std::process::Command;

use support::{image, succeeds, tool};

#[test]
fn a_build_with_a_configuration_and_a_store_has_them_in_every_format() {
    let Some(image) = image() else { return };
    let made = image.parent().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    let (config, store) = (
        folder.path().join("own.toml"),
        folder.path().join("own.log"),
    );
    fs::write(&config, "domain = \"chat.example\"\n").expect("it is written");
    // More than the image has room for.
    fs::write(&store, vec![7; 20 << 20]).expect("it is written");
    let build = |out: &str| {
        let mut build = tool();
        build.arg("build").arg("--kernel").arg(made.join("vmlinuz"));
        build.arg("--binary").arg(made.join("cairn"));
        build.arg("--out").arg(folder.path().join(out));
        build
    };
    let own = |command: &mut Command| {
        let command = command.arg("--config").arg(&config);
        succeeds(command.arg("--store").arg(&store))
    };

    succeeds(&mut build("later"));
    let later = folder.path().join("later/cairn.raw");
    own(tool().arg("personalise").arg(&later));
    let mut at_once = build("at-once");
    for format in ["raw.zst", "qcow2", "vmdk"] {
        at_once.args(["--format", format]);
    }
    let said = own(&mut at_once);
    let out = folder.path().join("at-once");
    let raw = out.join("cairn.raw");
    let disk = fs::read(&raw).expect("it is there");
    assert!(disk == fs::read(&later).expect("it is there"));

    // The sum that is told is that of the disk with them.
    let sum = succeeds(Command::new("sha256sum").arg(&raw));
    assert_eq!(said.split(' ').next(), sum.split(' ').next());
    let unpacked = out.join("unpacked");
    let mut unpack = Command::new("zstd");
    unpack.args(["-q", "-d", "-o"]).arg(&unpacked);
    succeeds(unpack.arg(out.join("cairn.raw.zst")));
    assert!(disk == fs::read(&unpacked).expect("it is there"));
    for format in ["qcow2", "vmdk"] {
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-f", format, "-F", "raw"]);
        compare.arg(out.join(format!("cairn.{format}")));
        succeeds(compare.arg(&raw));
    }
}

#[test]
fn a_configuration_that_is_not_there_is_told_and_no_image_is_left() {
    let Some(image) = image() else { return };
    let made = image.parent().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    let mut build = tool();
    build.arg("build").arg("--kernel").arg(made.join("vmlinuz"));
    build.arg("--binary").arg(made.join("cairn"));
    build.arg("--out").arg(folder.path().join("out"));
    let output = build.args(["--config", "none.toml"]).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot read none.toml: "), "{said}");
    assert!(!folder.path().join("out/cairn.raw").exists());
}
