//! `./dev run`, as whoever tries Cairn for the first time starts it.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Chat, Vm, free_port, image, python};

/// Starts it, with what is built already, and waits until the machine serves.
fn start(place: &Path) -> Vm {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (port, https) = (free_port(), free_port());
    let child = Command::new(root.join("dev"))
        .arg("run")
        .env("CAIRN_BUILT", place.join("built"))
        .env("CAIRN_RUN", place.join("run"))
        .env("CAIRN_PORT", port.to_string())
        .env("CAIRN_HTTPS_PORT", https.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    Vm::of(child, port, https)
}

/// Password and address of an account, as the file has them and as it is printed.
fn password(vm: &Vm, place: &Path, name: &str) -> String {
    let kept = fs::read_to_string(place.join("run/passwords")).expect("it is written");
    let kept = kept
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}@localhost ")));
    let password = kept.expect("an account").to_owned();
    assert!(password.len() >= 24, "{password}");
    assert!(vm.has_said(&format!("{name}@localhost   ")), "{name}");
    assert!(vm.has_said(&format!("password {password}")), "{name}");
    password
}

#[test]
fn both_accounts_that_dev_run_prints_chat_through_it_and_again_the_next_time() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    let built = place.join("built");
    fs::create_dir_all(built.join("bin")).expect("it is made");
    let link = |from: &Path, to: &str| {
        std::os::unix::fs::symlink(from, built.join(to)).expect("it is linked");
    };
    let tool = Path::new(env!("CARGO_BIN_EXE_cairn-image"));
    link(tool, "bin/cairn-image");
    link(&tool.with_file_name("cairn"), "bin/cairn");
    link(&image, "cairn.raw");
    let mut passwords = None;
    for round in ["first", "second"] {
        let mut vm = start(place);
        vm.wait_for("the server accepts log-ins");
        assert!(vm.has_said(&format!("127.0.0.1:{}", vm.https)));
        assert!(vm.has_said(&format!("port {} tls trust", vm.port)));
        let [alice, bob] = ["alice", "bob"].map(|name| password(&vm, place, name));
        // The disk is kept, and so are the accounts.
        let same = passwords.get_or_insert_with(|| [alice.clone(), bob.clone()]);
        assert_eq!(*same, [alice.clone(), bob.clone()], "{round}");
        let chat = Chat {
            python: &python,
            domain: "localhost",
            port: vm.port,
        };
        chat.between(("bob", &bob), ("alice", &alice), round);
        vm.cut();
    }
}
