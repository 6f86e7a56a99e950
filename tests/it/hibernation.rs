//! Sessions that can be resumed (XEP-0198 §5), and what waits in them, over a restart.

use super::offline::{stamp, stanza_id};
use super::stream_management::{failed, resumable, server, server_with};
use crate::support::client::{bodies, presences};

const BOB: &str = "bob@cairn.example";

#[test]
fn sessions_resume_after_an_orderly_restart_with_their_counts_and_queues() {
    let mut server = server();
    let (mut alice, alice_id) = resumable(&server, "alice");
    let (mut bob, bob_id) = resumable(&server, "bob");
    for body in ["one", "two"] {
        alice.say(BOB, body);
        bob.message_with_body(body);
    }
    let (alice_h, bob_h) = (alice.handled, bob.handled - 1);
    bob.cut();
    alice.say(BOB, "three");
    assert_eq!(alice.ask_for_ack(), 4);
    server.stop();
    server.run();
    let mut bob = server.authenticated("bob");
    bob.resume(&bob_id, bob_h);
    bob.message_with_body("two");
    bob.message_with_body("three");
    let mut alice = server.authenticated("alice");
    assert_eq!(alice.resume(&alice_id, alice_h), 4);
    alice.say("bob@cairn.example/r", "four");
    bob.message_with_body("four");
    bob.acknowledge();
    bob.expect_nothing();
}

/// RFC 6120 §8.2.3: exactly once, whether the client comes back or not.
#[test]
fn a_request_in_a_sleeping_queue_is_answered_once_after_the_restart() {
    let mut server = server();
    let (mut alice, alice_id) = resumable(&server, "alice");
    let (mut bob, bob_id) = resumable(&server, "bob");
    alice.befriend(&mut bob);
    bob.settle();
    let bob_h = bob.handled;
    let request = |id: &str| {
        format!(
            "<iq type='get' id='{id}' to='bob@cairn.example/r'>\
             <query xmlns='jabber:iq:version'/></iq>"
        )
    };
    alice.send(&request("answered"));
    bob.stanza_named("iq");
    bob.send(
        "<iq type='result' id='answered' to='alice@cairn.example/r'>\
         <query xmlns='jabber:iq:version'/></iq>",
    );
    assert_eq!(alice.answer("answered").attr("type"), Some("result"));
    bob.cut();
    alice.send(&request("unanswered"));
    alice.settle();
    let alice_h = alice.handled;
    server.stop();
    server.run();
    let mut alice = server.authenticated("alice");
    alice.resume(&alice_id, alice_h);
    let mut bob = server.authenticated("bob");
    bob.resume(&bob_id, bob_h);
    for id in ["answered", "unanswered"] {
        assert_eq!(bob.stanza_named("iq").attr("id"), Some(id));
    }
    bob.log_out();
    let refused = alice.answer("unanswered");
    assert_eq!(refused.error(), Some(("cancel", "service-unavailable")));
    let later = alice.settle();
    assert!(
        later
            .iter()
            .all(|stanza| stanza.attr("id") != Some("answered"))
    );
}

/// XEP-0334 §4.2: not even for a while. Its place in the count is kept.
#[test]
fn what_nobody_is_to_store_is_not_written_when_the_server_stops() {
    let mut server = server();
    let mut alice = server.online("alice", "a");
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.cut();
    alice.send(
        "<message to='bob@cairn.example/r' type='chat'><body>a-secret-word</body>\
         <no-store xmlns='urn:xmpp:hints'/></message>",
    );
    alice.say("bob@cairn.example/r", "a-plain-word");
    alice.settle();
    server.stop();
    let log = std::fs::read(server.store_path()).expect("the store's file");
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("a-plain-word") && !log.contains("a-secret-word"));
    server.run();
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    assert_eq!(bob.message().body(), None);
    bob.message_with_body("a-plain-word");
    bob.expect_nothing();
}

#[test]
fn a_session_resumed_after_a_restart_still_has_its_presence() {
    let mut server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    alice.befriend(&mut bob);
    let h = bob.handled;
    bob.cut();
    server.stop();
    server.run();
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    bob.settle();
    let mut alice = server.online("alice", "a");
    let stanzas = alice.settle();
    assert_eq!(presences(&stanzas), [("available", "bob@cairn.example/r")]);
    alice.say(BOB, "by bare jid");
    let messages = loop {
        let messages = bob.settle();
        if !bodies(&messages).is_empty() {
            break messages;
        }
    };
    assert_eq!(bodies(&messages), ["by bare jid"]);
}

#[test]
fn after_a_kill_resumption_fails_and_the_messages_come_again_with_the_same_id() {
    let mut server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    let (mut bob, id) = resumable(&server, "bob");
    alice.say(BOB, "before");
    assert_eq!(alice.ask_for_ack(), 1);
    let first = bob.message_with_body("before");
    let h = bob.handled;
    server.kill();
    server.run();
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h), "item-not-found");
    bob.bind(Some("r"));
    bob.present(0);
    let again = bob.message_with_body("before");
    assert_eq!(stanza_id(&again), stanza_id(&first));
    stamp(&again);
    bob.expect_nothing();
}

#[test]
fn what_the_client_acknowledged_does_not_come_again_after_an_orderly_restart() {
    let mut server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, _) = resumable(&server, "bob");
    alice.say(BOB, "once");
    bob.message_with_body("once");
    bob.acknowledge();
    bob.settle();
    server.stop();
    server.run();
    let mut bob = server.online("bob", "r");
    assert_eq!(bodies(&bob.settle()), [""; 0]);
}

#[test]
fn every_acknowledged_message_to_an_offline_user_survives_a_kill() {
    let mut server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    for n in 0..50 {
        alice.say(BOB, &n.to_string());
    }
    assert_eq!(alice.ask_for_ack(), 50);
    server.kill();
    server.run();
    let mut bob = server.online("bob", "b");
    for n in 0..50 {
        bob.message_with_body(&n.to_string());
    }
    bob.expect_nothing();
}

/// What does not fit in the queue waits in the log, behind what does, also while the session
/// sleeps there.
#[test]
fn a_session_with_more_stored_messages_than_its_queue_holds_gets_the_rest_after_a_restart() {
    let mut server = server_with(&[
        ("limits.session_queue_stanzas", "100"),
        ("limits.offline_messages", "1000"),
    ]);
    let mut alice = server.online("alice", "a");
    for n in 0..300 {
        alice.say(BOB, &n.to_string());
    }
    alice.expect_nothing();
    let (mut bob, id) = resumable(&server, "bob");
    bob.message_with_body("0");
    // One of what it has read by now is its own presence.
    let h = bob.handled;
    assert!(h < 150, "a queue's worth, and the rest waits");
    bob.cut();
    server.stop();
    server.run();
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    for n in h - 1..300 {
        bob.message_with_body(&n.to_string());
        if n % 20 == 19 {
            bob.acknowledge();
        }
    }
    bob.expect_nothing();
}
