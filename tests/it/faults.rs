//! What a mistake of ours costs: a panic ends the session that it happened in, and nothing else.
//!
//! The server has no known way to panic, so the builds that are tested have one on demand.

use nix::sys::signal::Signal;

use crate::stream_management::failed;
use crate::support::client::{bodies, presences};
use crate::support::server::PASSWORD;
use crate::support::*;

const ALICE: &str = "alice@cairn.example";
const BOB: &str = "bob@cairn.example";

const FAULTS: &str = "urn:cairn:test-faults";

fn server() -> Server {
    let mut server = Server::prepare(&[]);
    run(&mut server);
    server.add("alice");
    server.add("bob");
    server
}

fn run(server: &mut Server) {
    let mut command = server.command(&["serve"]);
    command.env("CAIRN_TEST_FAULTS", "1");
    server.run_as(command);
}

/// The request whose handling panics there.
fn fault(at: &str) -> String {
    format!("<iq type='set' id='fault'><panic xmlns='{FAULTS}' at='{at}'/></iq>")
}

/// The client sends this, and it is the end of its session.
#[track_caller]
fn dies_of(client: &mut Client, xml: &str) {
    client.send(xml);
    assert!(is_told(&client.until_end()));
}

/// The last words are the stream error, and the stream is ended.
fn is_told(said: &[Seen]) -> bool {
    match said {
        [.., Seen::Element(error), Seen::Footer] => {
            error.stream_error() == Some("internal-server-error")
        }
        _ => false,
    }
}

/// Whatever the session held when it panicked, nobody waits for it.
#[track_caller]
fn serves_everybody(server: &Server) {
    let mut alice = server.online("alice", "again");
    let mut bob = server.online("bob", "again");
    alice.say(BOB, "still there?");
    alice.settle();
    assert_eq!(bodies(&bob.settle()), ["still there?"]);
    alice.iq_ok("set", None, "<vCard xmlns='vcard-temp'><FN>A</FN></vCard>");
    let vcard = alice.iq_ok("get", None, "<vCard xmlns='vcard-temp'/>");
    assert_eq!(vcard.must("vCard", "vcard-temp").children().count(), 1);
    alice.log_out();
    bob.log_out();
}

#[test]
fn a_panic_ends_its_session_with_internal_server_error_and_no_other() {
    let server = server();
    let mut bob = server.online("bob", "witness");
    for at in ["handler", "shard", "presence", "store"] {
        let mut alice = server.online("alice", at);
        let mut other = server.online("alice", "other");
        dies_of(&mut alice, &fault(at));
        server.wait_for_log(&["ERROR", "a session has panicked", &format!("{ALICE}/{at}")]);
        other.settle();
        bob.settle();
        serves_everybody(&server);
    }
}

#[test]
fn a_panic_because_of_a_presence_ends_its_session_too() {
    let server = server();
    let mut alice = server.login("alice", "a");
    let presence = format!("<presence><panic xmlns='{FAULTS}'/></presence>");
    dies_of(&mut alice, &presence);
    serves_everybody(&server);
}

#[test]
fn a_panic_in_a_transaction_leaves_nothing_of_it() {
    let mut server = server();
    dies_of(&mut server.login("alice", "a"), &fault("store"));
    let is_absent = |server: &Server| {
        let mut alice = server.login("alice", "a");
        let vcard = alice.iq("get", None, "<vCard xmlns='vcard-temp'/>");
        alice.log_out();
        vcard.error() == Some(("cancel", "item-not-found"))
    };
    assert!(is_absent(&server));
    server.stop();
    run(&mut server);
    assert!(is_absent(&server));
}

#[test]
fn a_panic_is_told_in_the_format_of_the_log() {
    let mut server = Server::prepare(&[("log.format", "\"json\"")]);
    run(&mut server);
    server.add("alice");
    dies_of(&mut server.login("alice", "a"), &fault("handler"));
    server.wait_for_log(&["a session has panicked"]);
    let log = server.log();
    let told = log.iter().find(|line| line.contains("on purpose"));
    assert!(told.is_some_and(|line| line.contains("fault.rs") && line.contains("number")));
    for line in &log {
        assert!(line.starts_with("{\"") && line.ends_with('}'), "{line}");
    }
}

/// RFC 6120 §8.3.3.6: the session is not at fault and goes on.
#[test]
fn a_panic_of_work_on_another_thread_answers_the_request_with_internal_server_error() {
    let server = server();
    let mut alice = server.login("alice", "a");
    for _ in 0..20 {
        alice.send(&fault("later"));
        let answer = alice.answer("fault");
        assert_eq!(answer.error(), Some(("cancel", "internal-server-error")));
    }
    server.wait_for_log(&["ERROR", "a job has panicked"]);
    alice.settle();
}

#[test]
fn what_came_before_a_panic_has_happened_and_what_came_behind_it_not() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.login("alice", "a");
    let message = |body: &str| format!("<message to='{BOB}'><body>{body}</body></message>");
    let all = [message("before"), fault("handler"), message("behind")].concat();
    dies_of(&mut alice, &all);
    bob.message_with_body("before");
    bob.expect_nothing();
}

#[test]
fn contacts_are_told_that_a_session_is_gone_that_panicked() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.befriend(&mut bob);
    dies_of(&mut alice, &fault("handler"));
    let gone = [bob.presence()];
    assert_eq!(
        presences(&gone),
        [("unavailable", format!("{ALICE}/a").as_str())]
    );
}

#[test]
fn a_session_that_panics_while_it_is_ended_is_over_all_the_same() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "dies-twice");
    alice.befriend(&mut bob);
    dies_of(&mut alice, &fault("handler"));
    assert_eq!(bob.presence().attr("type"), Some("unavailable"));
    server.wait_for_log(&["ERROR", "a module has panicked", "dies-twice"]);
    serves_everybody(&server);
    let alice = server.online("alice", "dies-twice");
    alice.log_out();
    assert_eq!(
        presences(&bob.settle()).last().map(|p| p.0),
        Some("unavailable")
    );
}

#[test]
fn a_client_that_reads_nothing_does_not_put_off_the_end_of_a_session_that_panicked() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut wire = Wire::connect_with_little_room(server.c2s_tls());
    wire.start_tls(&Tls::new());
    let mut alice = Client::authenticate(wire, "alice", PASSWORD);
    alice.bind(Some("a"));
    alice.present(0);
    alice.befriend(&mut bob);
    // More than the sockets hold: the last words have to wait until they are read.
    let text = "x".repeat(50_000);
    for _ in 0..100 {
        bob.say_typed("headline", &format!("{ALICE}/a"), &text);
    }
    assert!(!bob.settle().is_empty(), "some are refused");
    alice.send(&fault("handler"));
    assert_eq!(bob.presence().attr("type"), Some("unavailable"));
    assert!(is_told(&alice.until_end()));
}

/// The end of the server's life is as orderly as ever.
#[test]
fn a_server_in_which_sessions_have_panicked_stops_in_order() {
    let mut server = server();
    for at in ["handler", "shard", "store"] {
        dies_of(&mut server.online("alice", at), &fault(at));
    }
    server.signal(Signal::SIGTERM);
    assert!(server.wait_for_exit().success());
}

// With stream management (XEP-0198).

/// Bob with five messages of alice, to whom all were acknowledged, and of which he has
/// acknowledged two; and an id to resume by.
fn bob_with_messages(server: &Server) -> (Client, String) {
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    let mut bob = server.login("bob", "r");
    let id = bob.enable_management(true).expect("an id to resume by");
    bob.present(0);
    for n in 0..5 {
        alice.say(BOB, &n.to_string());
        bob.message_with_body(&n.to_string());
        if n == 1 {
            bob.acknowledge();
        }
    }
    bob.settle();
    assert_eq!(alice.ask_for_ack(), 5);
    alice.log_out();
    (bob, id)
}

#[track_caller]
fn gets_the_rest(bob: &mut Client) {
    for n in 2..5 {
        bob.message_with_body(&n.to_string());
    }
    bob.expect_nothing();
}

/// A client that resumed would send again what was not handled, and that is what panicked: so the
/// session is over, and what it had not acknowledged goes to the next one.
#[test]
fn a_session_that_panicked_is_not_resumed_and_what_it_did_not_acknowledge_comes_again() {
    let server = server();
    let (mut bob, id) = bob_with_messages(&server);
    let h = bob.handled;
    dies_of(&mut bob, &fault("handler"));
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h), "item-not-found");
    bob.bind(Some("r"));
    bob.present(0);
    gets_the_rest(&mut bob);
}

#[test]
fn what_a_session_that_panicked_did_not_acknowledge_goes_to_another_resource_at_once() {
    let server = server();
    let (mut bob, _) = bob_with_messages(&server);
    let mut other = server.online_with_priority("bob", "other", -1);
    other.present(1);
    other.settle();
    dies_of(&mut bob, &fault("shard"));
    assert_eq!(bodies(&other.settle()), ["2", "3", "4"]);
}

#[test]
fn what_a_session_that_panicked_did_not_acknowledge_survives_a_kill() {
    let mut server = server();
    let (mut bob, _) = bob_with_messages(&server);
    dies_of(&mut bob, &fault("store"));
    server.kill();
    run(&mut server);
    gets_the_rest(&mut server.online("bob", "r"));
}

/// What was acknowledged to it is done: after a kill, too, it is there, and once.
#[test]
fn what_was_acknowledged_to_a_session_that_panicked_is_kept() {
    let mut server = server();
    let mut bob = server.login("bob", "r");
    bob.enable_management(true);
    for n in 0..5 {
        bob.say(ALICE, &n.to_string());
    }
    assert_eq!(bob.ask_for_ack(), 5);
    dies_of(&mut bob, &fault("handler"));
    server.kill();
    run(&mut server);
    let mut alice = server.online("alice", "a");
    for n in 0..5 {
        alice.message_with_body(&n.to_string());
    }
    alice.expect_nothing();
}

/// A session that waits to be resumed is not touched by the panic of another one.
#[test]
fn a_session_that_waits_is_resumed_after_another_one_of_its_account_has_panicked() {
    let server = server();
    let (bob, id) = bob_with_messages(&server);
    let h = bob.handled;
    bob.cut();
    dies_of(&mut server.login("bob", "other"), &fault("shard"));
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    bob.expect_nothing();
}

#[test]
fn faults_are_there_only_where_the_environment_asks_for_them() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let payload = format!("<panic xmlns='{FAULTS}' at='handler'/>");
    let (_, condition) = alice.iq_error("set", None, &payload);
    assert_eq!(condition, "service-unavailable");
}
