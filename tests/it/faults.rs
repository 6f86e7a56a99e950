//! A panic in one session ends that session and nothing else.

use crate::support::*;

const PANIC: &str =
    "<iq type='set' id='boom' to='cairn.example'><panic xmlns='urn:cairn:fault'/></iq>";

fn server() -> Server {
    server_with(&[])
}

/// A server on which clients may ask for a panic.
fn server_with(settings: &[(&str, &str)]) -> Server {
    let mut server = Server::prepare(settings);
    let mut command = server.command(&["serve"]);
    command.env("CAIRN_TEST_FAULTS", "1");
    server.run_as(command);
    server.add("alice");
    server.add("bob");
    server
}

#[test]
fn a_panic_ends_one_session_with_a_stream_error_and_is_logged() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut other = server.online("alice", "other");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    bob.settle();
    alice.send(PANIC);
    alice.expect_stream_error("internal-server-error");
    server.wait_for_log(&["alice@cairn.example/a", "a session has panicked"]);
    server.wait_for_log(&["a test asked for it"]);
    // Its contacts hear that it has gone, and everybody else goes on, the account too.
    let gone = bob.presence();
    assert_eq!(gone.attr("type"), Some("unavailable"));
    assert_eq!(gone.attr("from"), Some("alice@cairn.example/a"));
    other.settle();
    bob.say("alice@cairn.example", "still there?");
    other.message_with_body("still there?");
    let mut alice = server.online("alice", "a");
    alice.settle();
    bob.settle();
    alice.say("bob@cairn.example", "here again");
    bob.message_with_body("here again");
}

#[test]
fn what_a_session_that_panics_has_not_acknowledged_is_delivered_again() {
    let server = server();
    let mut bob = server.login("bob", "b");
    let mut alice = server.authenticated("alice");
    alice.bind(Some("a"));
    let id = alice.enable_management(true).expect("it may be resumed");
    alice.present(0);
    bob.say("alice@cairn.example", "one");
    alice.message_with_body("one");
    alice.acknowledge();
    bob.say("alice@cairn.example", "two");
    alice.message_with_body("two");
    alice.send(PANIC);
    alice.expect_stream_error("internal-server-error");
    // The session is over: it is not known what it was in the middle of.
    let mut alice = server.authenticated("alice");
    let failed = alice.try_resume(&id, alice.handled);
    assert!(failed.is("failed", ns::SM), "{failed}");
    let mut alice = server.online("alice", "a");
    alice.message_with_body("two");
    alice.expect_nothing();
}

#[test]
fn a_panic_is_told_in_the_format_of_the_log() {
    let server = server_with(&[("log.format", "\"json\"")]);
    let mut alice = server.login("alice", "a");
    alice.send(PANIC);
    alice.expect_stream_error("internal-server-error");
    server.wait_for_log(&["a session has panicked"]);
    let log = server.log();
    let told = log.iter().find(|line| line.contains("a test asked for it"));
    assert!(told.is_some_and(|line| line.contains("src/xep/fault.rs") && line.contains("number")));
    for line in &log {
        assert!(line.starts_with("{\"") && line.ends_with('}'), "{line}");
    }
}

#[test]
fn nobody_gets_a_panic_for_the_asking() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.send(PANIC);
    let error = alice.answer("boom");
    assert_eq!(error.error(), Some(("cancel", "service-unavailable")));
}
