//! What the server does when its store's device fails or is full.

use crate::support::*;

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
