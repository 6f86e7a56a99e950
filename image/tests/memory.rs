//! The smallest machine that is promised to do: 128 MB of memory.

#![allow(clippy::print_stdout)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Disk, Options, Vm, image, python};

const SESSIONS: u32 = 1_000;
const MORE: u32 = 200;

/// All sessions come from one address; otherwise everything is as by default.
const CONFIG: &str = "domain = \"chat.example\"\n\
                      [listen]\nc2s = []\nc2s_tls = [\"[::]:5222\"]\n\
                      [limits]\nconnections_per_address = 2000\n\
                      accepts_per_address_per_minute = 10000\nsessions_per_account = 20\n";

#[test]
fn a_machine_of_128_megabytes_holds_a_thousand_sessions_and_refuses_what_is_too_much() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let names: Vec<String> = (0..100).map(|number| format!("a{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let disk = Disk::of(&image);
    disk.seed_administrator_and("admin", &names);
    let options = Options {
        memory: 128,
        // Which QEMU has less trouble with where a thousand keys are agreed on.
        first_processor: true,
        config: Some(CONFIG),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    let pin = vm.pin();
    vm.wait_for("slot a has proved itself");
    let available = vm.available_mib(&disk, &pin);
    println!("{available} MiB are available after the start");
    assert!(available >= 80, "{available} MiB");

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/idle.py");
    let mut clients = Command::new(&python)
        .arg(script)
        .arg(format!("127.0.0.1:{}", vm.port))
        .args([SESSIONS.to_string(), MORE.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut go_on = clients.stdin.take().expect("it is piped");
    let mut said = BufReader::new(clients.stdout.take().expect("it is piped")).lines();
    let mut next = || said.next().expect("a line").expect("UTF-8");
    assert_eq!(next(), format!("held {SESSIONS}"));
    let available = vm.available_mib(&disk, &pin);
    println!("{available} MiB are available with {SESSIONS} sessions");
    go_on.write_all(b"\n").expect("it reads");
    let refused = next();
    println!("{refused}");
    assert_ne!(refused, "refused 0", "the limits hold");
    assert_eq!(next(), format!("alive {SESSIONS}"));
    assert!(clients.wait().expect("it ends").success());
    let available = vm.available_mib(&disk, &pin);
    println!("{available} MiB are available afterwards");
    assert!(!vm.has_said("has ended"), "the server was never restarted");
    assert!(!vm.has_said("panic"));
}
