//! The machine's store in trouble: full, and on a disk that fails.

#![allow(clippy::print_stdout)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::BufRead;
use std::time::{Duration, Instant};

use support::load::{CONFIG, Load};
use support::{Disk, Options, Vm, image, python};

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
    // There is room again, as soon as the segments of what she was given are free: until then a
    // sender is told to wait.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (mut sender, said) = load.start("send", "2");
        let fresh = said.lines().next().expect("a line").expect("UTF-8");
        let _ = sender.kill();
        let _ = sender.wait();
        if fresh == "2-0" {
            break;
        }
        assert_eq!(fresh, "refused resource-constraint");
        assert!(Instant::now() < deadline, "there is never room again");
    }
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

/// A script of `blkdebug`: the first blocks of the store's first segments take no write, so nothing
/// can be appended; everything else does.
fn failing_log() -> String {
    let mut script = String::new();
    for segment in 0..4 {
        for block in 1..64 {
            let sector = 327 * 2048 + 128 + segment * 16_384 + block * 8;
            let _ = write!(
                script,
                "[inject-error]\nevent = \"pwritev\"\niotype = \"write\"\n\
                 sector = \"{sector}\"\nerrno = \"5\"\n"
            );
        }
    }
    script
}

#[test]
fn a_system_that_gives_itself_up_says_why_at_the_next_start() {
    let Some(image) = image() else { return };
    let disk = Disk::with_accounts(&image, &["alice"]);
    disk.fill_both_slots();
    // Slot b once proved itself, so there is something to go back to.
    let mut state = b"# GRUB Environment Block\nslot=a\nleft=3\nfb=0\ngood=b\n".to_vec();
    state.resize(1024, b'#');
    for at in [5632, 9728] {
        disk.write((6 << 20) + at, &state);
    }
    let script = disk.file("blkdebug");
    fs::write(&script, failing_log()).expect("it is written");
    let options = Options {
        config: Some(CONFIG),
        driver: Some(format!("blkdebug:{}:", script.display())),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server keeps dying: going back to slot b");
    vm.wait_for("why is kept for the next start");
    vm.wait_for("starts, from slot b, because slot a did not boot");
    let line = vm.wait_for("a boot ended by itself at ");
    assert!(line.contains("(1 did so on this disk)"), "{line}");
    vm.wait_for("that boot: the server keeps dying");
    vm.wait_for("that boot: own: ");
    // The disk's own complaint, which no memory of the kernel would have kept: it did not panic.
    vm.wait_for("that boot: kernel: ");
    assert!(!vm.has_said("Kernel panic"));
    vm.cut();
    // It is told once, and the store is as it was.
    let mut vm = Vm::start(
        &disk,
        &Options {
            config: Some(CONFIG),
            ..Options::default()
        },
    );
    vm.wait_for("1 accounts");
    assert!(!vm.has_said("that boot: "));
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
