//! A system that knows a format of the log more than the one before it: what it writes, and what
//! the old one is still good for.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::path::Path;

use support::load::Load;
use support::releases::{Administrator, Releases, given, proved, proved_with, text};
use support::{Disk, Vm, cairn, image, next_program, python};

const MIB: u64 = 1 << 20;

#[track_caller]
fn has_format(admin: &Administrator, vm: &Vm, format: u32) {
    let stat = admin.does(vm, &["store", "stat"]);
    let line = stat.lines().find(|line| line.starts_with("format "));
    let found = line.and_then(|line| line.split_whitespace().last());
    assert_eq!(found, Some(format.to_string().as_str()), "{stat}");
}

#[track_caller]
fn has_accounts(admin: &Administrator, vm: &Vm, names: &[&str]) {
    let users = admin.does(vm, &["user", "list"]);
    let mut found: Vec<&str> = users
        .lines()
        .filter_map(|line| line.split('@').next())
        .collect();
    found.sort_unstable();
    assert_eq!(found, names, "{users}");
}

#[track_caller]
fn upgrades(admin: &Administrator, vm: &Vm, bundle: &Path) {
    admin.does(vm, &["upgrade", "push", text(bundle)]);
    admin.does(vm, &["reboot"]);
}

#[test]
fn a_new_system_with_a_new_format_rots_and_the_old_one_serves_what_it_wrote() {
    let (Some(image), Some(next), Some(python)) = (image(), next_program(), python()) else {
        return;
    };
    let releases = Releases::new(&image);
    let new = releases.bundle("0.2.0", "ours", Some(&next));
    let (disk, mut vm, admin) = proved_with(&releases, &["bob"]);
    let load = Load::new(&python, &vm);
    let before = load.acknowledged(1, 10);
    upgrades(&admin, &vm, &new);
    vm.wait_for("Cairn 0.2.0 starts, from slot b");
    vm.wait_for("the system in the other slot reads up to format 1 of the log");
    vm.wait_for("the server accepts log-ins");
    vm.wait_for("slot b has proved itself");
    load.all_there(&[before]);
    admin.adds(&vm, "carol");
    let under_new = load.acknowledged(2, 10);
    has_format(&admin, &vm, 1);
    vm.cut();
    // In the first block of the program.
    disk.flip(disk.find(b"\x7fELF", 199, 220) + 0x100);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("Cairn 0.1.0 starts, from slot a, because slot b did not boot");
    vm.wait_for("the server accepts log-ins");
    has_accounts(&admin, &vm, &["alice", "bob", "carol"]);
    Load::new(&python, &vm).all_there(&[under_new]);
    admin.adds(&vm, "dave");
    has_format(&admin, &vm, 1);
}

#[test]
fn a_format_is_raised_once_both_slots_read_it_and_the_old_system_is_refused_from_then_on() {
    let (Some(image), Some(next)) = (image(), next_program()) else {
        return;
    };
    let releases = Releases::new(&image);
    let old = releases.bundle("0.1.0", "ours", None);
    let new = releases.bundle("0.2.0", "ours", Some(&next));
    let newer = releases.bundle("0.3.0", "ours", Some(&next));
    let (disk, mut vm, admin) = proved(&releases);
    upgrades(&admin, &vm, &new);
    vm.wait_for("Cairn 0.2.0 starts, from slot b");
    vm.wait_for("slot b has proved itself");
    admin.adds(&vm, "carol");
    has_format(&admin, &vm, 1);
    upgrades(&admin, &vm, &newer);
    vm.wait_for("Cairn 0.3.0 starts, from slot a");
    vm.wait_for("the log was raised from format 1 to 2");
    vm.wait_for("the server accepts log-ins");
    admin.adds(&vm, "dave");
    has_format(&admin, &vm, 2);
    vm.wait_for("slot a has proved itself");
    let refused = admin.fails(&vm, &["upgrade", "push", text(&old)]);
    let why = "version 0.1.0 cannot read the data of this machine: they have format 2, and it reads \
               up to 1";
    assert!(refused.contains(why), "{refused}");
    // The other slot is as it was, and what is in it reads what was written meanwhile.
    admin.does(&vm, &["rollback"]);
    vm.wait_for("Cairn 0.2.0 starts, from slot b");
    vm.wait_for("the server accepts log-ins");
    has_accounts(&admin, &vm, &["alice", "carol", "dave"]);
    has_format(&admin, &vm, 2);
    vm.cut();
    is_refused_by_the_old_program(&disk);
}

/// The old program says why it does not open the data, and leaves them as they are.
fn is_refused_by_the_old_program(disk: &Disk) {
    let (store, config) = (disk.file("taken.log"), disk.file("taken.toml"));
    let bytes = disk.read(327 * MIB, 16 * MIB);
    fs::write(&store, &bytes).expect("it is written");
    let said = "domain = \"chat.example\"\nstore.path = \"taken.log\"\n";
    fs::write(&config, said).expect("it is written");
    let mut open = cairn();
    open.arg("--config").arg(&config).args(["user", "list"]);
    let output = open.output().expect("cairn runs");
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let why = "the store has format 2 and this program reads up to 1";
    assert!(said.contains(why), "{said}");
    assert!(fs::read(&store).expect("it reads") == bytes);
}
