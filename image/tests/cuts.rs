//! The power goes at every stage of an upgrade. `src/machine/upgrade_cuts.rs` cuts behind every
//! write; here the whole machine is cut, at moments that can be told from outside.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use support::qmp::{Qmp, Traffic};
use support::releases::{Administrator, Releases, given, text};
use support::{Disk, Options, Vm, cairn, image};

const MIB: u64 = 1 << 20;
/// Slow enough that a stage lasts for seconds.
const SLOW: u64 = 2 * MIB;

/// A machine with QEMU's monitor.
fn start(disk: &Disk) -> (Vm, PathBuf) {
    let socket = disk.file("qmp");
    let options = Options {
        more: Qmp::words(&socket).to_vec(),
        ..given()
    };
    (Vm::start(disk, &options), socket)
}

/// The old system runs from slot a, as if nothing had happened.
fn old_system_runs(vm: &mut Vm) {
    let line = vm.wait_for(" starts, from slot ");
    assert!(line.ends_with("Cairn 0.1.0 starts, from slot a"), "{line}");
    vm.wait_for("the server accepts log-ins");
}

fn push(admin: &Administrator, vm: &Vm, bundle: &Path) -> Child {
    let mut pushing = cairn();
    pushing.arg("--server");
    pushing.arg(format!("https://127.0.0.1:{}", vm.https));
    pushing.args(["--pin", &admin.pin]).arg("--token-file");
    pushing.arg(&admin.token).args(["upgrade", "push"]);
    let pushing = pushing.arg(bundle).stderr(Stdio::null()).spawn();
    pushing.expect("cairn runs")
}

/// Two releases, and a disk with the first.
fn stage(image: &Path) -> (Disk, PathBuf, Releases) {
    let releases = Releases::new(image);
    let new = releases.bundle("0.2.0", "ours", None);
    let disk = Disk::of(&releases.build("0.1.0", "ours", None));
    disk.seed_administrator("alice");
    (disk, new, releases)
}

#[test]
fn the_power_may_go_while_an_upgrade_is_written_and_read_back() {
    let Some(image) = image() else { return };
    let (disk, new, _releases) = stage(&image);
    let len = fs::metadata(&new).expect("it is there").len();
    let written_of = |before: Traffic, now: Traffic| now.written - before.written;

    for (read, written) in [(0, SLOW), (SLOW, 0)] {
        let (mut vm, socket) = start(&disk);
        old_system_runs(&mut vm);
        let admin = Administrator::of(&disk, &mut vm);
        vm.wait_for("slot a has proved itself");
        let mut qmp = Qmp::connect(&socket).expect("QEMU's monitor");
        let before = qmp.traffic().expect("QEMU answers");
        qmp.slow_down(read, written).expect("it is slowed down");
        let mut pushing = push(&admin, &vm, &new);
        if written > 0 {
            // The kernel is there, and the root has begun.
            vm.wait_for_disk(&mut qmp, "half a bundle", |now| {
                written_of(before, now) > len / 2
            });
        } else {
            // All of the bundle but its first block, and some of it has been read.
            vm.wait_for_disk(&mut qmp, "a bundle that is read back", |now| {
                written_of(before, now) + MIB > len && now.read - before.read > len / 4
            });
        }
        assert!(!vm.says("is in slot b and is tried"), "it is too late");
        vm.cut();
        assert!(!pushing.wait().expect("it ends").success());
    }
    old_system_runs(&mut start(&disk).0);
}

#[test]
fn the_power_may_go_while_an_upgrade_is_tried() {
    let Some(image) = image() else { return };
    let (disk, new, _releases) = stage(&image);

    // When it is to be tried at the next start.
    let (mut vm, _) = start(&disk);
    old_system_runs(&mut vm);
    let admin = Administrator::of(&disk, &mut vm);
    vm.wait_for("slot a has proved itself");
    let said = admin.does(&vm, &["upgrade", "push", text(&new)]);
    assert!(said.contains("version 0.2.0 is in slot b"), "{said}");
    vm.cut();

    // As soon as it runs, when it serves, when it has proved itself: three starts, and the third
    // gives all attempts back.
    let moments = [
        " starts, from slot ",
        "the server accepts log-ins",
        "slot b has proved itself",
        "the server accepts log-ins",
    ];
    for moment in moments {
        let (mut vm, _) = start(&disk);
        let line = vm.wait_for(" starts, from slot ");
        assert!(line.ends_with("Cairn 0.2.0 starts, from slot b"), "{line}");
        if !line.contains(moment) {
            vm.wait_for(moment);
        }
        if moment == "the server accepts log-ins" {
            let admin = Administrator::of(&disk, &mut vm);
            assert_eq!(
                admin.does(&vm, &["user", "list"]).trim(),
                "alice@chat.example"
            );
        }
        vm.cut();
    }
}
