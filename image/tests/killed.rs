//! The server is killed by a signal, and the machine goes on.

#![allow(clippy::print_stdout)]

mod support;

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use support::load::{CONFIG, Load};
use support::stub::Stub;
use support::{Disk, Options, Vm, image, python};

#[test]
fn a_server_that_is_killed_by_a_signal_is_started_again_and_nobody_is_refused_meanwhile() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let disk = Disk::of(&image);
    let socket = disk.file("stub");
    let options = Options {
        config: Some(CONFIG),
        more: Stub::options(&socket),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    let load = Load::new(&python, &vm);
    load.run("register", "-");
    let (mut sender, mut said) = load.start("send", "1");
    let mut last = String::new();
    said.read_line(&mut last).expect("UTF-8");
    Stub::connect(&socket).fail_the_busiest();
    vm.wait_for("has ended: signal: 11");
    // In between: nobody runs who could answer, and nobody is told that there is nobody.
    let mut between = TcpStream::connect(("127.0.0.1", vm.port)).expect("QEMU listens");
    write!(
        between,
        "<?xml version='1.0'?><stream:stream to='chat.example' version='1.0' \
         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    .expect("it is sent");
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&answer).contains("<starttls") {
        let len = between.read(&mut buffer).expect("it is not refused");
        assert!(len > 0, "it was hung up on");
        answer.extend_from_slice(&buffer[..len]);
    }
    vm.wait_for("the server accepts log-ins");
    let _ = sender.kill();
    let _ = sender.wait();
    // Whatever it has said was acknowledged, after the restart too.
    for line in said.lines() {
        last = line.expect("UTF-8");
    }
    assert_eq!(load.run("receive", last.trim()).trim(), "all there");
    assert_eq!(vm.times_said("starts, from slot a"), 1, "it did not reboot");
    assert_eq!(vm.times_said("has ended"), 1);
}
