//! What the server tells its operator on standard error.

use crate::support::server::PASSWORD;
use crate::support::*;

const ALICE: &str = "alice@cairn.example";
const BOB: &str = "bob@cairn.example";

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
    let server = Server::with(&[("log.format", "\"json\""), ("log.level", "\"trace\"")]);
    server.add("alice");
    server.login("alice", "a \\ quo\u{201c}te").log_out();
    server.wait_for_log(&["logged out"]);
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "quo\"te\n{", "guess"));
    wire.element();
    server.wait_for_log(&["log-in failed"]);
    for line in server.log() {
        let parsed: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let fields = parsed.as_object().expect(&line);
        for key in ["timestamp", "level", "message"] {
            assert!(fields[key].is_string(), "{line}");
        }
    }
    let logged_out = server.wait_for_log(&["logged out"]);
    let parsed: serde_json::Value = serde_json::from_str(&logged_out).expect("JSON");
    let span = &parsed["span"];
    assert!(span["number"].is_u64() && span["peer"].is_string());
    assert_eq!(span["jid"], "alice@cairn.example/a \\ quo\u{201c}te");
}

#[test]
fn no_level_of_the_log_tells_what_people_say_or_know() {
    let server = Server::with(&[
        ("log.level", "\"trace\""),
        ("registration.mode", "\"open\""),
        ("limits.offline_messages", "1"),
    ]);
    server.add("alice");
    server.add("bob");
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", "wrong-guess"));
    wire.element();
    let (mut wire, _) = server.stream();
    wire.send(
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>carol</username>\
         <password>carols-secret</password></query></iq>",
    );
    assert_eq!(wire.element().attr("type"), Some("result"));
    let mut alice = server.online("alice", "a");
    alice.enable_management(true);
    // Stored, refused for the quota, to nobody, to another domain, to oneself.
    for to in [
        BOB,
        BOB,
        "nobody@cairn.example",
        "x@elsewhere.example",
        ALICE,
    ] {
        alice.say(to, "a-private-word");
    }
    alice.iq_ok(
        "set",
        None,
        "<vCard xmlns='vcard-temp'><FN>a-private-name</FN></vCard>",
    );
    alice.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:register'><username>alice</username>\
         <password>a-new-secret</password></query>",
    );
    server
        .online("bob", "b")
        .message_with_body("a-private-word");
    // Not well-formed, with a body in it.
    let (mut wire, _) = server.stream();
    wire.send("<message><body>a-private-word</wrong></message>");
    wire.until_end();
    alice.log_out();
    server.wait_for_log(&["logged out", "alice@cairn.example/a"]);
    server.cli(
        &["user", "passwd", "--password-stdin", BOB],
        "bobs-new-secret\n",
    );
    server.wait_for_log(&["a password was changed by the operator"]);
    for line in server.log() {
        for secret in [
            "wrong-guess",
            "carols-secret",
            "a-private",
            "new-secret",
            PASSWORD,
        ] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_session_that_is_not_resumed_in_time_is_told_to_have_logged_out() {
    let server = Server::with(&[("limits.resume_s", "1")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.enable_management(true);
    alice.cut();
    server.wait_for_log(&["the connection was lost", "alice@cairn.example/a"]);
    server.wait_for_log(&[
        "logged out: it was not resumed in time",
        "alice@cairn.example/a",
    ]);
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
