//! What the server does when its store's device fails or is full.

use std::os::unix::fs::FileExt;

use crate::support::*;

const ALICE: &str = "alice@cairn.example";

/// `ulimit -f` in blocks of 512 bytes. The signal that comes with the refusal is ignored, and
/// stays ignored in the program that takes the shell's place.
fn files_of_at_most(bytes: u64) -> String {
    format!("trap '' XFSZ; ulimit -f {}", bytes / 512)
}

#[test]
fn a_store_that_fails_while_the_server_starts_ends_it_with_a_reason() {
    let server = Server::prepare(&[]);
    // Creates the store. What the server itself keeps there comes with its first start.
    server.add("alice");
    let output = server
        .command_after(&files_of_at_most(65536), &["serve"])
        .output()
        .expect("it ends by itself");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the store has failed: ") && said.contains("start again"),
        "{said}"
    );
    server.cli(&["store", "verify"], "");
}

#[test]
fn verify_exits_with_4_for_a_damaged_store_only() {
    let mut server = Server::with(&[]);
    server.add("alice");
    server.add("bob");
    server.kill();
    let verify = |server: &Server| {
        let output = server.command(&["store", "verify"]).output();
        output.expect("the binary runs").status.code()
    };
    assert_eq!(verify(&server), Some(0));
    let config = server.directory().join("cairn.toml");
    let text = std::fs::read(&config).expect("it is ours");
    std::fs::write(&config, "domain = 7").expect("it is ours");
    assert_eq!(verify(&server), Some(3), "the configuration is invalid");
    std::fs::write(&config, text).expect("it is ours");
    // Nobody reads the report: that says nothing of the store.
    let mut unread = server.command(&["store", "verify"]);
    let full = std::fs::File::options().write(true).open("/dev/full");
    unread.stdout(full.expect("Linux has it"));
    let output = unread.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let store = std::fs::File::options()
        .read(true)
        .write(true)
        .open(server.store_path())
        .expect("it is ours");
    let mut bytes = vec![0; 1 << 20];
    store.read_exact_at(&mut bytes, 0).expect("it is that long");
    let at = bytes
        .windows(ALICE.len())
        .position(|found| found == ALICE.as_bytes())
        .expect("the account is there");
    store
        .write_all_at(b"X", at as u64)
        .expect("it can be written");
    assert_eq!(verify(&server), Some(4), "it is damaged");
}
