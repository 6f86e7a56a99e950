//! A machine that is claimed, gets a new system and goes back: all from outside, over HTTPS.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::load::Load;
use support::qmp::Qmp;
use support::releases::{Releases, given, proved, proved_as, text};
use support::{Disk, Options, PASSWORD, Vm, cairn, image, python, succeeds};

/// Without DHCP.
const NETWORK: &str = "version: 2\nethernets:\n  eth0:\n    addresses: [10.0.2.15/24]\n    \
                       gateway4: 10.0.2.2\n";

#[test]
fn without_a_configuration_whoever_reads_the_console_claims_the_machine() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    // It says how the network is reached, and nothing that is for Cairn.
    let iso = disk.cloud_init(&[
        ("user-data", "#cloud-config\n"),
        ("meta-data", "local-hostname: chat\n"),
        ("network-config", NETWORK),
    ]);
    let options = Options {
        more: vec!["-cdrom".to_owned(), iso.display().to_string()],
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("no configuration was found");
    assert!(vm.has_said("10.0.2.15/24 (configuration)"));
    let code = vm.wait_for(" claim code ");
    let code = code.split_whitespace().last().expect("a code").to_owned();
    let claim = |vm: &Vm, pin: &str, code: &str| {
        let mut command = cairn();
        command.args(["claim", &format!("127.0.0.1:{}", vm.https), code]);
        command.args(["--admin", "alice@chat.example", "--pin", pin]);
        command.arg("--password-stdin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("cairn runs");
        let mut input = child.stdin.take().expect("it is piped");
        input
            .write_all(format!("{PASSWORD}\n").as_bytes())
            .expect("it reads");
        drop(input);
        child.wait_with_output().expect("it ends")
    };
    let pin = vm.pin();
    let refused = claim(&vm, &pin, "AAAA-AAAA-AAAA-AAAA");
    assert!(!refused.status.success(), "{refused:?}");
    let claimed = claim(&vm, &pin, &code);
    assert!(claimed.status.success(), "{claimed:?}");
    // The network stays as it was.
    vm.wait_for("10.0.2.15/24 (configuration)");
    vm.wait_for("the server accepts log-ins");
    assert!(vm.has_said("chat.example"));
    let pin = vm.pin();
    let password = disk.file("password");
    fs::write(&password, format!("{PASSWORD}\n")).expect("it is written");
    let mut list = cairn();
    list.arg("--server");
    list.arg(format!("https://127.0.0.1:{}", vm.https));
    list.args(["--pin", &pin, "--as", "alice@chat.example"]);
    list.arg("--as-password-file").arg(&password);
    assert_eq!(
        succeeds(list.args(["user", "list"])).trim(),
        "alice@chat.example"
    );
    let again = claim(&vm, &pin, &code);
    assert!(!again.status.success(), "a code is good once: {again:?}");
}

#[test]
fn a_machine_gets_a_new_system_and_goes_back_to_the_old_one() {
    let Some(image) = image() else { return };
    let releases = Releases::new(&image);
    let new = releases.bundle("0.2.0", "ours", None);
    let (_disk, mut vm, admin) = proved(&releases);
    let said = admin.does(&vm, &["upgrade", "push", text(&new)]);
    assert!(said.contains("version 0.2.0 is in slot b"), "{said}");
    admin.does(&vm, &["reboot"]);
    vm.wait_for("Cairn 0.2.0 starts, from slot b");
    vm.wait_for("the server accepts log-ins");
    let status = admin.does(&vm, &["machine"]);
    assert!(status.contains("0.2.0"), "{status}");
    let early = admin.fails(&vm, &["upgrade", "push", text(&new)]);
    assert!(early.contains("has not proved itself yet"), "{early}");
    vm.wait_for("slot b has proved itself");
    admin.does(&vm, &["rollback"]);
    vm.wait_for("Cairn 0.1.0 starts, from slot a");
    vm.wait_for("the server accepts log-ins");
    let users = admin.does(&vm, &["user", "list"]);
    assert_eq!(users.trim(), "alice@chat.example");
}

/// A machine with QEMU's monitor.
fn watched(releases: &Releases) -> (Options, PathBuf) {
    let socket = releases.file("qmp");
    let options = Options {
        more: Qmp::words(&socket).to_vec(),
        ..given()
    };
    (options, socket)
}

#[test]
fn a_system_that_fails_while_it_serves_is_taken_back_and_nothing_it_accepted_is_lost() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let releases = Releases::new(&image);
    let failing = releases.bundle("0.3.0", "ours", Some(&releases.falling()));
    let (options, socket) = watched(&releases);
    let (_disk, mut vm, admin) = proved_as(&releases, &["bob"], &options);
    let mut qmp = Qmp::connect(&socket).expect("QEMU's monitor");
    let load = Load::new(&python, &vm);
    let mut messages = vec![load.acknowledged(0, 10)];
    admin.does(&vm, &["upgrade", "push", text(&failing)]);
    admin.does(&vm, &["reboot"]);
    for attempt in 1..=3 {
        vm.wait_for("Cairn 0.3.0 starts, from slot b");
        vm.wait_for("the server accepts log-ins");
        admin.adds(&vm, &format!("new-{attempt}"));
        messages.push(load.acknowledged(attempt, 10));
        qmp.interrupt().expect("QEMU interrupts it");
        vm.wait_for("Kernel panic");
    }
    vm.wait_for("Cairn 0.1.0 starts, from slot a, because slot b did not boot");
    vm.wait_for("the server accepts log-ins");
    assert!(!vm.has_said("slot b has proved itself"));
    let users = admin.does(&vm, &["user", "list"]);
    for name in ["alice", "bob", "new-1", "new-2", "new-3"] {
        assert!(users.contains(&format!("{name}@chat.example")), "{users}");
    }
    assert_eq!(users.lines().count(), 5, "{users}");
    load.all_there(&messages);
    let nothing = admin.fails(&vm, &["rollback"]);
    assert!(
        nothing.contains("no system that has ever proved"),
        "{nothing}"
    );
}

#[test]
fn a_system_that_hangs_is_ended_by_the_watchdog_three_times_before_the_old_one_has_its_turn() {
    let Some(image) = image() else { return };
    let releases = Releases::new(&image);
    let hanging = releases.bundle("0.3.0", "ours", Some(&releases.hanging()));
    let (options, socket) = watched(&releases);
    let (_disk, mut vm, admin) = proved_as(&releases, &[], &options);
    let row = |line: &&str| line.trim_start().starts_with("watchdog ");
    let watchdog = vm.seen().find(row).expect("the screen names it");
    assert!(watchdog.ends_with(" i6300ESB timer"), "{watchdog}");
    let mut qmp = Qmp::connect(&socket).expect("QEMU's monitor");
    admin.does(&vm, &["upgrade", "push", text(&hanging)]);
    admin.does(&vm, &["reboot"]);
    vm.wait_for("Cairn 0.1.0 starts, from slot a, because slot b did not boot");
    assert_eq!(vm.times_said("it hangs, watched by i6300ESB timer"), 3);
    let bites = qmp.times("WATCHDOG").expect("QEMU answers");
    assert_eq!(bites, 3, "it was the device");
    vm.wait_for("the server accepts log-ins");
    assert!(!vm.has_said("Kernel panic"), "it was the watchdog alone");
}

#[test]
fn what_is_no_proper_bundle_changes_nothing_and_neither_does_the_power_going() {
    let Some(image) = image() else { return };
    let releases = Releases::new(&image);
    let new = releases.bundle("0.2.0", "ours", None);
    let (disk, mut vm, admin) = proved(&releases);
    let push = |vm: &Vm, file: &Path| admin.fails(vm, &["upgrade", "push", text(file)]);
    let foreign = push(&vm, &releases.bundle("0.2.0", "theirs", None));
    assert!(foreign.contains("not signed by a key"), "{foreign}");
    let old = push(&vm, &releases.bundle("0.0.9", "ours", None));
    assert!(
        old.contains("below 0.1.0, the oldest that may follow"),
        "{old}"
    );
    let whole = fs::read(&new).expect("it reads");
    let half = releases.file("half");
    fs::write(&half, &whole[..whole.len() / 2]).expect("it is written");
    let truncated = push(&vm, &half);
    assert!(truncated.contains("ends before its time"), "{truncated}");
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&half, &damaged).expect("it is written");
    let damaged = push(&vm, &half);
    assert!(damaged.contains("the bundle is damaged"), "{damaged}");
    // While it is written.
    let mut pushing = cairn();
    pushing.arg("--server");
    pushing.arg(format!("https://127.0.0.1:{}", vm.https));
    pushing.args(["--pin", &admin.pin]).arg("--token-file");
    pushing.arg(&admin.token).args(["upgrade", "push"]);
    let pushing = pushing.arg(&new).stderr(Stdio::null()).spawn();
    let mut pushing = pushing.expect("cairn runs");
    vm.wait_for("an upgrade comes in");
    vm.cut();
    assert!(!pushing.wait().expect("it ends").success());
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("Cairn 0.1.0 starts, from slot a");
    vm.wait_for("the server accepts log-ins");
    vm.wait_for("slot a has proved itself");
    // After all that the next one goes through.
    admin.does(&vm, &["upgrade", "push", text(&new)]);
    admin.does(&vm, &["reboot"]);
    vm.wait_for("Cairn 0.2.0 starts, from slot b");
}
