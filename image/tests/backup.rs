//! A machine moves: a backup of one is restored into another that knows nothing yet, over HTTPS.

#![allow(clippy::print_stdout)]

mod support;

#[path = "../../tests/support/gate.rs"]
mod gate;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gate::{Gate, Way};
use support::{Disk, Options, PASSWORD, Vm, cairn, image, python, succeeds};

const CONFIG: &str = "domain = \"chat.example\"\n[limits]\nping_s = 77\n";
/// Without DHCP, which the old machine uses.
const NETWORK: &str = "version: 2\nethernets:\n  eth0:\n    addresses: [10.0.2.15/24]\n    \
                       gateway4: 10.0.2.2\n";
const STATIC: &str = "10.0.2.15/24 (configuration)";

/// `load.py` with a machine.
fn load(python: &Path, vm: &Vm, what: &str, word: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load.py"));
    command.args([what, &format!("127.0.0.1:{}", vm.port), word]);
    command
}

/// What is on the old machine, and its backup.
struct Old {
    disk: Disk,
    phrase: PathBuf,
    backup: PathBuf,
    pin: String,
    /// The last message that it has accepted for alice.
    last: String,
}

/// Messages that alice is to find.
const MESSAGES: usize = 5;

/// A machine with accounts, a roster and messages that wait, until it is backed up.
fn backed_up(image: &Path, python: &Path) -> Old {
    let disk = Disk::of(image);
    // Enough to stand still in the middle of.
    let card = "x".repeat(100_000);
    disk.seed_export(&format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='chat.example'><user name='zoe' \
         password='{PASSWORD}'><vCard xmlns='vcard-temp'><NOTE>{card}</NOTE></vCard></user>\
         </host></server-data>"
    ));
    disk.seed_administrator_and("alice", &["bob"]);
    let options = Options {
        config: Some(CONFIG),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    succeeds(&mut load(python, &vm, "befriend", "Bob & co"));
    let mut send = load(python, &vm, "send", "1");
    let mut sender = send.stdout(Stdio::piped()).spawn().expect("Python runs");
    let said = BufReader::new(sender.stdout.take().expect("it is piped"));
    let last = said.lines().nth(MESSAGES - 1).expect("it was accepted");
    let _ = sender.kill();
    let _ = sender.wait();
    let (phrase, backup) = (disk.file("phrase"), disk.file("cairn.backup"));
    fs::write(&phrase, "a long passphrase\n").expect("it is written");
    let pin = vm.pin();
    let mut take = cairn();
    take.arg("--server");
    take.arg(format!("https://127.0.0.1:{}", vm.https));
    take.args(["--pin", &pin, "--token-file"]);
    take.arg(disk.file("token")).arg("backup");
    take.arg("--passphrase-file").args([&phrase, &backup]);
    succeeds(&mut take);
    Old {
        disk,
        phrase,
        backup,
        pin,
        last: last.expect("UTF-8"),
    }
}

/// `cairn restore` of it on a machine at a port of this computer.
fn restore(old: &Old, port: u16, pin: &str, code: &str) -> Command {
    let mut command = cairn();
    command.arg("--server");
    command.arg(format!("https://127.0.0.1:{port}"));
    command.args(["--pin", pin, "restore", "--code", code]);
    command.arg("--passphrase-file");
    command.args([&old.phrase, &old.backup]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

/// The code that a machine shows, and the fingerprint of its certificate.
fn shown(vm: &mut Vm) -> (String, String) {
    vm.wait_for("no configuration was found");
    let code = vm.wait_for(" claim code ");
    let code = code.split_whitespace().last().expect("a code").to_owned();
    (code, vm.pin())
}

#[test]
fn a_blank_machine_becomes_the_one_of_the_backup_also_after_a_power_cut_in_the_middle() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let old = backed_up(&image, &python);
    let disk = Disk::of(&image);
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
    let (code, pin) = shown(&mut vm);
    let wrong = restore(&old, vm.https, &pin, "AAAA-AAAA-AAAA-AAAA").output();
    let wrong = wrong.expect("cairn runs");
    assert!(said(&wrong).contains("not the code"), "{wrong:?}");
    // The power goes when half of it has come.
    let gate = Gate::to(([127, 0, 0, 1], vm.https).into(), Way::Up, 60_000);
    let half = restore(&old, gate.address.port(), &pin, &code).spawn();
    let mut half = half.expect("cairn runs");
    gate.wait_until_shut();
    vm.wait_for("a backup is being restored");
    vm.cut();
    let _ = half.kill();
    let _ = half.wait();
    let mut vm = Vm::start(&disk, &options);
    let (code, pin) = shown(&mut vm);
    if !vm.says("a restore was not completed") {
        vm.wait_for("a restore was not completed");
    }
    let done = restore(&old, vm.https, &pin, &code).output();
    let done = done.expect("cairn runs");
    let text = said(&done);
    assert!(done.status.success(), "{text}");
    // The sender may have had time for more than it was listened to.
    let restored = |count: &usize| {
        text.contains(&format!(
            "3 accounts with {count} waiting messages are restored"
        ))
    };
    assert!((MESSAGES..1_000).any(|count| restored(&count)), "{text}");
    // The network stays as it was, and the rest is that of the old machine.
    vm.wait_for(STATIC);
    vm.wait_for("the server accepts log-ins");
    assert_eq!(vm.pin(), old.pin);
    let received = succeeds(&mut load(&python, &vm, "receive", &old.last));
    assert_eq!(received.trim(), "all there");
    let name = succeeds(&mut load(&python, &vm, "roster", "-"));
    assert_eq!(name.trim(), "Bob & co");
    let mut get = cairn();
    get.arg("--server");
    get.arg(format!("https://127.0.0.1:{}", vm.https));
    get.args(["--pin", &old.pin, "--token-file"]);
    get.arg(old.disk.file("token"));
    let value = succeeds(get.args(["config", "get", "limits.ping_s"]));
    assert_eq!(value.trim(), "limits.ping_s = 77");
    let again = restore(&old, vm.https, &old.pin, &code).output();
    let again = said(&again.expect("cairn runs"));
    assert!(again.contains("cannot be claimed"), "{again}");
}
