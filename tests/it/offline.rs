//! Offline messages: XEP-0160, XEP-0203, XEP-0334, XEP-0359.

use crate::support::client::bodies;
use crate::support::*;

const BOB: &str = "bob@cairn.example";

fn server() -> Server {
    server_with(&[])
}

fn server_with(settings: &[(&str, &str)]) -> Server {
    let server = Server::with(settings);
    server.add("alice");
    server.add("bob");
    server
}

/// The id that the server gave a message in the name of bob's account.
#[track_caller]
pub fn stanza_id(message: &Element) -> String {
    let ids = message.all("stanza-id", ns::STANZA_ID);
    let ours: Vec<_> = ids.iter().filter(|id| id.attr("by") == Some(BOB)).collect();
    assert_eq!(ours.len(), 1, "one stanza-id of bob's account in {message}");
    ours[0].attr("id").expect("it has an id").to_owned()
}

/// When the server says that it got a message.
#[track_caller]
pub fn stamp(message: &Element) -> String {
    let delay = message.must("delay", ns::DELAY);
    assert_eq!(delay.attr("from"), Some(DOMAIN), "in {message}");
    let stamp = delay.attr("stamp").expect("a delay has a stamp");
    assert!(
        stamp.ends_with('Z') && stamp.contains('T'),
        "XEP-0082: {stamp}"
    );
    stamp.to_owned()
}

#[test]
fn messages_to_an_offline_user_arrive_in_order_at_the_next_login() {
    let server = server();
    let mut alice = server.online("alice", "a");
    for n in 0..20 {
        alice.say_typed(["chat", "normal"][n % 2], BOB, &n.to_string());
    }
    alice.expect_nothing();
    let mut bob = server.online("bob", "b");
    let mut ids = Vec::new();
    for n in 0..20 {
        let message = bob.message_with_body(&n.to_string());
        assert_eq!(message.attr("from"), Some("alice@cairn.example/a"));
        stamp(&message);
        ids.push(stanza_id(&message));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "each has an id of its own");
}

#[test]
fn an_offline_message_is_delivered_once() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.say(BOB, "once");
    alice.settle();
    let mut bob = server.online("bob", "b");
    bob.message_with_body("once");
    bob.expect_nothing();
    bob.log_out();
    server.online("bob", "b").expect_nothing();
}

#[test]
fn offline_messages_wait_for_presence() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.say(BOB, "hello");
    alice.settle();
    let mut bob = server.login("bob", "b");
    bob.expect_nothing();
    bob.present(0);
    bob.message_with_body("hello");
}

#[test]
fn offline_messages_are_not_for_a_negative_priority() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.online_with_priority("bob", "b", -1);
    alice.say(BOB, "hello");
    bob.expect_nothing_from(&mut alice);
    bob.present(0);
    bob.message_with_body("hello");
}

#[test]
fn chat_to_a_full_jid_that_is_gone_waits_for_the_user() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.say("bob@cairn.example/gone", "hello");
    alice.expect_nothing();
    server.online("bob", "b").message_with_body("hello");
}

#[test]
fn a_chat_state_alone_is_not_stored() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'>\
         <composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    alice.expect_nothing();
    server.online("bob", "b").expect_nothing();
}

#[test]
fn the_hint_no_store_keeps_a_message_out_of_storage() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>secret</body>\
         <no-store xmlns='urn:xmpp:hints'/></message>",
    );
    alice.settle();
    server.online("bob", "b").expect_nothing();
}

#[test]
fn the_hint_no_store_does_not_keep_a_message_from_an_online_user() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>secret</body>\
         <no-store xmlns='urn:xmpp:hints'/></message>",
    );
    bob.message_with_body("secret");
}

#[test]
fn the_hint_store_stores_what_would_not_be_stored() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let states = "http://jabber.org/protocol/chatstates";
    for type_ in ["chat", "headline"] {
        alice.send(&format!(
            "<message to='bob@cairn.example' type='{type_}'><gone xmlns='{states}'/>\
             <store xmlns='urn:xmpp:hints'/></message>"
        ));
    }
    alice.expect_nothing();
    let mut bob = server.online("bob", "b");
    for type_ in ["chat", "headline"] {
        let message = bob.message();
        assert_eq!(message.attr("type"), Some(type_));
        message.must("gone", states);
        stamp(&message);
    }
    bob.expect_nothing();
}

/// XEP-0334 §4.1 is about archives; it may wait for its recipient.
#[test]
fn the_hint_no_permanent_store_does_not_keep_a_message_from_an_offline_user() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>off the record</body>\
         <no-permanent-store xmlns='urn:xmpp:hints'/></message>",
    );
    alice.expect_nothing();
    let mut bob = server.online("bob", "b");
    bob.message_with_body("off the record");
    bob.expect_nothing();
}

#[test]
fn a_stanza_id_in_the_name_of_the_account_is_removed_and_a_foreign_one_stays() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>x</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='bob@cairn.example' id='forged'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere.example' id='theirs'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='mine'/></message>",
    );
    alice.settle();
    let message = server.online("bob", "b").message_with_body("x");
    assert_ne!(stanza_id(&message), "forged");
    let ids = message.all("stanza-id", ns::STANZA_ID);
    assert!(ids.iter().any(|id| id.attr("id") == Some("theirs")));
    assert_eq!(
        message.must("origin-id", ns::STANZA_ID).attr("id"),
        Some("mine")
    );
}

#[test]
fn a_forged_stanza_id_is_removed_for_an_online_user_too() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    for by in [BOB, DOMAIN, "BOB@cairn.example"] {
        alice.send(&format!(
            "<message to='{BOB}' type='chat'><body>x</body>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='forged'/></message>"
        ));
        let message = bob.message_with_body("x");
        let ids = message.all("stanza-id", ns::STANZA_ID);
        assert!(
            !ids.iter().any(|id| id.attr("id") == Some("forged")),
            "{by}: {message}"
        );
    }
}

#[test]
fn a_delay_in_the_name_of_the_server_is_removed() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>x</body>\
         <delay xmlns='urn:xmpp:delay' from='cairn.example' stamp='2001-01-01T00:00:00Z'/>\
         </message>",
    );
    let message = bob.message_with_body("x");
    assert!(message.child("delay", ns::DELAY).is_none(), "{message}");
}

#[test]
fn beyond_the_quota_the_sender_hears_resource_constraint() {
    let server = server_with(&[("limits.offline_messages", "2")]);
    let mut alice = server.online("alice", "a");
    for body in ["one", "two"] {
        alice.say(BOB, body);
    }
    alice.expect_nothing();
    alice.say(BOB, "three");
    let error = alice.message();
    assert_eq!(error.error(), Some(("wait", "resource-constraint")));
    let mut bob = server.online("bob", "b");
    assert_eq!(bodies(&bob.settle()), ["one", "two"]);
    bob.log_out();
    alice.say(BOB, "four");
    alice.expect_nothing();
    server.online("bob", "b").message_with_body("four");
}

#[test]
fn the_quota_counts_bytes_too() {
    let server = server_with(&[("limits.offline_bytes", "10000")]);
    let mut alice = server.online("alice", "a");
    alice.say(BOB, &"x".repeat(6_000));
    alice.expect_nothing();
    alice.say(BOB, &"y".repeat(6_000));
    let error = alice.message();
    assert_eq!(error.error(), Some(("wait", "resource-constraint")));
}

#[test]
fn an_offline_message_comes_again_with_the_same_id_until_the_client_acknowledged_it() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.say(BOB, "hello");
    alice.settle();
    let mut bob = server.login("bob", "b");
    bob.enable_management(false);
    bob.present(0);
    let first = bob.message_with_body("hello");
    bob.cut();
    let mut bob = server.login("bob", "b");
    bob.enable_management(false);
    bob.present(0);
    let again = bob.message_with_body("hello");
    assert_eq!(stanza_id(&first), stanza_id(&again));
    assert_eq!(stamp(&first), stamp(&again));
    bob.acknowledge();
    bob.expect_nothing();
    bob.cut();
    server.online("bob", "b").expect_nothing();
}

#[test]
fn more_offline_messages_than_a_queue_holds_arrive_in_order() {
    let server = server_with(&[
        ("limits.session_queue_stanzas", "100"),
        ("limits.offline_messages", "1000"),
    ]);
    let mut alice = server.online("alice", "a");
    for n in 0..300 {
        alice.say(BOB, &n.to_string());
    }
    alice.expect_nothing();
    let mut bob = server.online("bob", "b");
    for n in 0..300 {
        bob.message_with_body(&n.to_string());
    }
    alice.say(BOB, "live");
    bob.message_with_body("live");
}

#[test]
fn more_offline_messages_than_a_queue_holds_arrive_with_stream_management() {
    let server = server_with(&[
        ("limits.session_queue_stanzas", "100"),
        ("limits.offline_messages", "1000"),
    ]);
    let mut alice = server.online("alice", "a");
    for n in 0..300 {
        alice.say(BOB, &n.to_string());
    }
    alice.expect_nothing();
    let mut bob = server.login("bob", "b");
    bob.enable_management(false);
    bob.present(0);
    for n in 0..300 {
        bob.message_with_body(&n.to_string());
        // A client that acknowledges now and then, without being asked, is no slow reader.
        if n % 20 == 19 {
            bob.acknowledge();
        }
    }
    bob.acknowledge();
    alice.say(BOB, "live");
    bob.message_with_body("live");
}

#[test]
fn a_message_sent_while_the_offline_ones_flow_comes_behind_them() {
    let server = server_with(&[("limits.offline_messages", "1000")]);
    let mut alice = server.online("alice", "a");
    for n in 0..500 {
        alice.say(BOB, &n.to_string());
    }
    alice.settle();
    let mut bob = server.login("bob", "b");
    bob.send("<presence/>");
    for n in 500..600 {
        alice.say(BOB, &n.to_string());
    }
    let mut received = Vec::new();
    while received.len() < 600 {
        let stanza = bob.stanza();
        received.extend(stanza.body());
    }
    let wanted: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    assert_eq!(received, wanted);
}
