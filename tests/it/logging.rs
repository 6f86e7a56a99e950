//! What the server tells its operator on standard error.

use crate::support::*;

#[test]
fn a_login_and_a_logout_are_lines_with_number_address_and_jid() {
    let server = Server::with(&[("log.level", "\"info\"")]);
    server.add("alice");
    let alice = server.login("alice", "a");
    let line = server.wait_for_log(&["logged in", "alice@cairn.example/a"]);
    assert!(
        line.contains("number") && line.contains("127.0.0.1"),
        "{line}"
    );
    alice.log_out();
    server.wait_for_log(&["logged out", "alice@cairn.example/a"]);
}

#[test]
fn a_refused_login_is_a_line_with_the_reason() {
    let server = Server::with(&[("log.level", "\"info\"")]);
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "mallory", "guess"));
    wire.element();
    let line = server.wait_for_log(&["mallory"]);
    assert!(line.contains("127.0.0.1"), "{line}");
    assert!(!line.contains("guess"), "{line}");
}

#[test]
fn json_lines_are_json() {
    let server = Server::with(&[("log.format", "\"json\"")]);
    server.add("alice");
    server.login("alice", "a").log_out();
    let line = server.wait_for_log(&["logged out", "alice@cairn.example/a"]);
    assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    for line in server.log() {
        assert!(line.starts_with("{\"") && line.ends_with('}'), "{line}");
    }
}

#[test]
fn a_log_that_is_no_terminal_has_no_colours() {
    let server = Server::start();
    let coloured = server
        .log()
        .into_iter()
        .find(|line| line.contains('\u{1b}'));
    assert_eq!(coloured, None);
}

#[test]
fn both_families_are_served_by_one_listener() {
    let server = Server::with(&[("listen.c2s", "[\"[::]:0\"]")]);
    let port = server.c2s().port();
    for address in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(address.parse().expect("an address"), port);
        if address.is_ipv6() && std::net::TcpListener::bind("[::1]:0").is_err() {
            eprintln!("SKIPPED: this machine has no IPv6");
            continue;
        }
        Wire::connect(address).open();
    }
}
