//! The machine's store in trouble: full, and on a disk that fails.

#![allow(clippy::print_stdout)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use support::{Disk, Options, Vm, image, python, succeeds};

/// Accounts are made from outside, so that the store stays as small as its partition.
const CONFIG: &str = "domain = \"chat.example\"\n\
                      [registration]\nmode = \"open\"\n\
                      [limits]\noffline_bytes = 100000000\n";

/// `load.py` with a machine.
struct Load {
    python: PathBuf,
    place: String,
}

impl Load {
    fn new(python: &Path, vm: &Vm) -> Load {
        Load {
            python: python.to_owned(),
            place: format!("127.0.0.1:{}", vm.port),
        }
    }

    fn command(&self, what: &str, word: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load.py"));
        command.args([what, &self.place, word]);
        command
    }

    #[track_caller]
    fn run(&self, what: &str, word: &str) -> String {
        succeeds(&mut self.command(what, word))
    }

    fn start(&self, what: &str, word: &str) -> (Child, BufReader<ChildStdout>) {
        let mut command = self.command(what, word);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("Python runs");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        (child, said)
    }
}

#[test]
fn a_full_store_refuses_what_it_cannot_keep_and_goes_on() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let disk = Disk::of(&image);
    let options = Options {
        config: Some(CONFIG),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    let load = Load::new(&python, &vm);
    load.run("register", "-");
    let said = load.run("fill", "1");
    let lines: Vec<&str> = said.lines().collect();
    let [.., last, refused] = lines[..] else {
        panic!("nothing was accepted: {said}");
    };
    assert_eq!(refused, "refused resource-constraint");
    assert_eq!(load.run("receive", last).trim(), "all there");
    // There is room again.
    let (mut sender, said) = load.start("send", "2");
    let fresh = said.lines().next().expect("a line").expect("UTF-8");
    assert_eq!(fresh, "2-0");
    let _ = sender.kill();
    let _ = sender.wait();
}

/// A script of QEMU's `blkdebug`: that many writes go through, the next one fails, once.
fn failing_write(after: u32) -> String {
    let mut script = String::new();
    for state in 1..=after {
        let _ = write!(
            script,
            "[set-state]\nevent = \"pwritev\"\nstate = \"{state}\"\nnew_state = \"{}\"\n",
            state + 1
        );
    }
    let _ = write!(
        script,
        "[inject-error]\nevent = \"pwritev\"\nstate = \"{}\"\nerrno = \"5\"\nonce = \"on\"\n",
        after + 1
    );
    script
}

#[test]
fn a_server_that_dies_is_started_again_without_a_reboot_and_loses_nothing() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let disk = Disk::of(&image);
    let script = disk.file("blkdebug");
    fs::write(&script, failing_write(400)).expect("it is written");
    let options = Options {
        config: Some(CONFIG),
        driver: Some(format!("blkdebug:{}:", script.display())),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    let load = Load::new(&python, &vm);
    load.run("register", "-");
    let (mut sender, said) = load.start("send", "1");
    let mut last = None;
    for line in said.lines() {
        let line = line.expect("UTF-8");
        if vm.says("has ended") {
            break;
        }
        last = Some(line);
    }
    let _ = sender.kill();
    let _ = sender.wait();
    if !vm.has_said("has ended") {
        vm.wait_for("has ended");
    }
    vm.wait_for("the server accepts log-ins");
    let last = last.expect("something was acknowledged");
    assert_eq!(load.run("receive", &last).trim(), "all there");
    assert_eq!(vm.times_said("starts, from slot a"), 1, "it did not reboot");
}
