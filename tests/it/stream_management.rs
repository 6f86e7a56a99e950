//! Stream management: XEP-0198.

use crate::support::client::{bodies, presences};
use crate::support::*;

const BOB: &str = "bob@cairn.example";

pub fn server() -> Server {
    server_with(&[])
}

pub fn server_with(settings: &[(&str, &str)]) -> Server {
    let server = Server::with(settings);
    server.add("alice");
    server.add("bob");
    server
}

/// A client with resumption and presence, and the id to resume by.
pub fn resumable(server: &Server, name: &str) -> (Client, String) {
    let mut client = server.login(name, "r");
    let id = client.enable_management(true).expect("an id to resume by");
    client.present(0);
    (client, id)
}

#[track_caller]
pub fn failed(element: &Element, condition: &str) {
    assert!(element.is("failed", ns::SM), "got {element}");
    element.must(condition, ns::STANZA_ERROR);
}

// §3: enabling.

#[test]
fn enabling_with_resumption_gives_an_id_and_a_time() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = alice.element();
    assert!(enabled.is("enabled", ns::SM), "got {enabled}");
    assert!(matches!(enabled.attr("resume"), Some("true" | "1")));
    assert!(enabled.attr("id").is_some_and(|id| id.len() >= 16));
    let max: u32 = enabled.attr("max").expect("max").parse().expect("a number");
    assert!(max > 0);
}

#[test]
fn the_client_may_ask_for_a_shorter_time() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.send("<enable xmlns='urn:xmpp:sm:3' resume='true' max='7'/>");
    assert_eq!(alice.element().attr("max"), Some("7"));
}

#[test]
fn enabling_without_resumption_gives_no_id() {
    let server = server();
    let mut alice = server.login("alice", "a");
    assert_eq!(alice.enable_management(false), None);
}

#[test]
fn enabling_before_binding_fails_and_the_stream_goes_on() {
    let server = server();
    let mut alice = server.authenticated("alice");
    alice.send("<enable xmlns='urn:xmpp:sm:3'/>");
    failed(&alice.element(), "unexpected-request");
    alice.bind(Some("a"));
}

#[test]
fn enabling_twice_ends_the_stream() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(true);
    alice.send("<enable xmlns='urn:xmpp:sm:3'/>");
    alice.expect_stream_error("policy-violation");
}

#[test]
fn enabling_it_on_a_resumed_stream_ends_the_stream() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.cut();
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    bob.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    bob.expect_stream_error("policy-violation");
}

#[test]
fn counts_without_having_enabled_them_are_refused_and_the_stream_goes_on() {
    let server = server();
    let mut alice = server.login("alice", "a");
    for element in [
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='0'/>",
    ] {
        alice.send(element);
        failed(&alice.element(), "unexpected-request");
    }
    alice.settle();
}

// §4: counting.

#[test]
fn every_stanza_counts_and_nothing_else() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    assert_eq!(alice.ask_for_ack(), 0);
    alice.present(0);
    assert_eq!(alice.ask_for_ack(), 1);
    alice.say(BOB, "hello");
    assert_eq!(alice.ask_for_ack(), 2);
    alice.iq("get", None, "<ping xmlns='urn:xmpp:ping'/>");
    alice.acknowledge();
    assert_eq!(alice.ask_for_ack(), 3);
}

#[test]
fn a_refused_stanza_counts_as_handled() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    alice.say("nobody@cairn.example", "hello");
    alice.say("a b@cairn.example", "hello");
    alice.iq("get", None, "<query xmlns='urn:nobody:knows'/>");
    assert_eq!(alice.ask_for_ack(), 3);
}

#[test]
fn the_server_asks_for_acknowledgements() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, _) = resumable(&server, "bob");
    alice.say(BOB, "hello");
    bob.message_with_body("hello");
    while bob.asked == 0 {
        let seen = bob.next();
        if matches!(&seen, Seen::Element(element) if element.is("r", ns::SM)) {
            break;
        }
    }
}

#[test]
fn acknowledging_more_than_was_sent_ends_the_stream() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(true);
    alice.send("<a xmlns='urn:xmpp:sm:3' h='5'/>");
    let error = alice.expect_stream_error("undefined-condition");
    let detail = error.must("handled-count-too-high", ns::SM);
    assert_eq!(detail.attr("h"), Some("5"));
    assert_eq!(detail.attr("send-count"), Some("0"));
}

#[test]
fn an_acknowledgement_that_is_no_number_is_refused() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(true);
    alice.send("<a xmlns='urn:xmpp:sm:3' h='many'/>");
    assert_eq!(alice.element().stream_error(), Some("invalid-xml"));
    alice.expect_end();
}

// §5: resuming.

#[test]
fn what_was_not_acknowledged_comes_again_in_order_and_then_what_came_since() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    for n in 0..5 {
        alice.say(BOB, &n.to_string());
    }
    for n in 0..5 {
        bob.message_with_body(&n.to_string());
    }
    let h = bob.handled - 2;
    bob.cut();
    for n in 5..8 {
        alice.say(BOB, &n.to_string());
    }
    alice.settle();
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    for n in 3..8 {
        bob.message_with_body(&n.to_string());
    }
    bob.expect_nothing();
}

#[test]
fn the_server_tells_what_it_has_handled() {
    let server = server();
    let (mut alice, id) = resumable(&server, "alice");
    for n in 0..3 {
        alice.say(BOB, &n.to_string());
    }
    // One presence, three messages and a ping.
    alice.settle();
    let h = alice.handled;
    alice.cut();
    let mut alice = server.authenticated("alice");
    assert_eq!(alice.resume(&id, h), 5);
    alice.settle();
    assert_eq!(alice.ask_for_ack(), 6, "the count goes on");
}

#[test]
fn a_resumed_session_keeps_its_address_presence_and_roster_interest() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.login("bob", "r");
    let id = bob.enable_management(true).expect("an id");
    bob.roster();
    bob.present(0);
    alice.befriend(&mut bob);
    let h = bob.handled;
    bob.cut();
    assert_eq!(presences(&alice.settle()), [], "bob never went");
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
    bob.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:roster'><item jid='carol@cairn.example'/></query>",
    );
    let push = bob.roster_push();
    assert_eq!(push.attr("jid"), Some("carol@cairn.example"));
    alice.say("bob@cairn.example/r", "still there?");
    bob.message_with_body("still there?");
    assert_eq!(presences(&alice.settle()), []);
}

#[test]
fn a_session_can_be_resumed_again_and_again() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (bob, mut id) = resumable(&server, "bob");
    let mut h = bob.handled;
    bob.cut();
    for n in 0..4 {
        alice.say(BOB, &n.to_string());
        alice.settle();
        let mut bob = server.authenticated("bob");
        let resumed = bob.try_resume(&id, h);
        assert!(resumed.is("resumed", ns::SM), "got {resumed}");
        id = resumed.attr("previd").expect("previd").to_owned();
        bob.handled = h;
        bob.message_with_body(&n.to_string());
        h = bob.handled;
        bob.cut();
    }
}

#[test]
fn resuming_takes_the_session_from_a_connection_that_still_stands() {
    let server = server();
    let (mut old, id) = resumable(&server, "bob");
    let h = old.handled;
    let mut new = server.authenticated("bob");
    new.resume(&id, h);
    old.expect_stream_error("conflict");
    new.expect_nothing();
}

#[test]
fn a_connection_whose_session_was_taken_away_gets_nothing_of_it_any_more() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut old, id) = resumable(&server, "bob");
    let h = old.handled;
    let mut new = server.authenticated("bob");
    new.resume(&id, h);
    for n in 0..5 {
        // The old connection lives on for all that its client knows.
        let _ = old.try_send_bytes(b"<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq> ");
        alice.say(BOB, &n.to_string());
        new.message_with_body(&n.to_string());
    }
}

/// Both ask before either is answered, and the count that they are told has to become durable
/// first: whichever way the two are interleaved, one of them serves the session in the end.
#[test]
fn of_two_connections_that_resume_at_once_one_is_served_and_the_other_is_told() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    let mut h = bob.handled;
    for round in 0..10 {
        let mut rivals = [server.authenticated("bob"), server.authenticated("bob")];
        if round == 0 {
            bob.say("alice@cairn.example", "still on its way to the disk");
        }
        for rival in &mut rivals {
            rival.send(&format!(
                "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"
            ));
        }
        for rival in &mut rivals {
            let answer = rival.element();
            let is_told = answer.stream_error() == Some("conflict");
            assert!(is_told || answer.is("resumed", ns::SM), "got {answer}");
            rival.handled = h;
        }
        // Both were heard: who has it now keeps it.
        let is_served = rivals.each_mut().map(|rival| {
            let ping = b"<iq type='get' id='served'><ping xmlns='urn:xmpp:ping'/></iq>";
            // A connection that was told already takes it no more.
            drop(rival.try_send_bytes(ping));
            loop {
                match rival.next() {
                    Seen::Element(element) if element.attr("id") == Some("served") => break true,
                    Seen::Element(_) => {}
                    _ => break false,
                }
            }
        });
        let served = match is_served {
            [true, false] => 0,
            [false, true] => 1,
            other => panic!("{other:?}"),
        };
        alice.say("bob@cairn.example/r", &format!("round {round}"));
        let [one, other] = rivals;
        let mut winner = [one, other].into_iter().nth(served).expect("one of two");
        // Behind the answer to the ping.
        winner.handled = h + 1;
        winner.message_with_body(&format!("round {round}"));
        h = winner.handled;
        winner.cut();
    }
}

#[test]
fn an_unknown_id_is_item_not_found_and_a_resource_can_be_bound_then() {
    let server = server();
    let mut bob = server.authenticated("bob");
    for previd in ["never-given", "", "0000000000000000000000"] {
        failed(&bob.try_resume(previd, 0), "item-not-found");
    }
    bob.bind(Some("r"));
    bob.expect_nothing();
}

#[test]
fn nobody_resumes_the_session_of_somebody_else() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.cut();
    let mut alice = server.authenticated("alice");
    failed(&alice.try_resume(&id, h), "item-not-found");
    let mut bob = server.authenticated("bob");
    bob.resume(&id, h);
}

#[test]
fn resuming_with_a_count_that_is_too_high_ends_the_stream() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let sent = bob.handled;
    bob.cut();
    let mut bob = server.authenticated("bob");
    let error = bob.try_resume(&id, sent + 100);
    assert_eq!(error.stream_error(), Some("undefined-condition"));
    let detail = error.must("handled-count-too-high", ns::SM);
    assert_eq!(detail.attr("h"), Some(&*(sent + 100).to_string()));
    assert_eq!(detail.attr("send-count"), Some(&*sent.to_string()));
    bob.expect_end();
}

/// What is between the two is gone, so the session can't go on there. It waits as before.
#[test]
fn resuming_with_a_lower_count_than_was_acknowledged_fails_and_a_resource_can_be_bound() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    alice.say(BOB, "acknowledged");
    bob.message_with_body("acknowledged");
    bob.acknowledge();
    bob.settle();
    let h = bob.handled;
    bob.cut();
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h - 2), "item-not-found");
    bob.bind(Some("other"));
    bob.settle();
    let mut again = server.authenticated("bob");
    again.resume(&id, h);
    again.settle();
}

#[test]
fn resuming_before_authentication_is_refused() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.cut();
    let (mut wire, _) = server.stream();
    wire.send(&format!(
        "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"
    ));
    wire.expect_stream_error("not-authorized");
}

#[test]
fn resuming_after_binding_fails() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.cut();
    let mut bob = server.login("bob", "other");
    failed(&bob.try_resume(&id, h), "unexpected-request");
    bob.settle();
}

#[test]
fn a_stream_that_ended_in_order_cannot_be_resumed() {
    let server = server();
    let (bob, id) = resumable(&server, "bob");
    let h = bob.handled;
    bob.log_out();
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h), "item-not-found");
}

// What becomes of a session that does not come back.

#[test]
fn a_session_that_does_not_come_back_in_time_is_over() {
    let server = server_with(&[("limits.resume_s", "1")]);
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    alice.befriend(&mut bob);
    let h = bob.handled;
    bob.cut();
    alice.say(BOB, "are you there?");
    let presence = alice.presence();
    assert_eq!(presence.attr("type"), Some("unavailable"));
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h), "item-not-found");
    bob.bind(Some("r"));
    bob.present(0);
    let messages = bob.settle();
    assert_eq!(bodies(&messages), ["are you there?"]);
}

/// Else it would come back with a hole in what it was sent.
#[test]
fn a_waiting_session_that_gets_more_than_its_queue_holds_is_over_and_its_messages_are_kept() {
    let server = server_with(&[("limits.session_queue_stanzas", "100")]);
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    let (mut bob, id) = resumable(&server, "bob");
    bob.roster();
    let h = bob.handled;
    bob.cut();
    alice.say(BOB, "before");
    let mut other = server.login("bob", "other");
    for n in 0..150 {
        let item = format!("<item jid='contact{n}@x.example'/>");
        let set = format!("<query xmlns='jabber:iq:roster'>{item}</query>");
        other.iq_ok("set", None, &set);
    }
    alice.say(BOB, "behind");
    alice.settle();
    let mut bob = server.authenticated("bob");
    failed(&bob.try_resume(&id, h), "item-not-found");
    bob.bind(Some("r"));
    bob.present(0);
    bob.message_with_body("before");
    bob.message_with_body("behind");
    bob.expect_nothing();
}

#[test]
fn a_request_that_is_never_answered_is_refused_when_the_session_is_over() {
    let server = server_with(&[("limits.resume_s", "1")]);
    let mut alice = server.online("alice", "a");
    let (mut bob, _) = resumable(&server, "bob");
    alice.befriend(&mut bob);
    alice.send(
        "<iq type='get' id='q1' to='bob@cairn.example/r'><query xmlns='jabber:iq:version'/></iq>",
    );
    assert_eq!(bob.stanza_named("iq").attr("id"), Some("q1"));
    bob.cut();
    let error = alice.answer("q1");
    assert_eq!(error.error(), Some(("cancel", "service-unavailable")));
}

/// RFC 6120 §8.2.3: exactly once, also when the request itself was never acknowledged.
#[test]
fn a_request_that_was_answered_is_not_answered_again_when_the_session_is_over() {
    let server = server_with(&[("limits.resume_s", "1")]);
    let mut alice = server.online("alice", "a");
    let (mut bob, _) = resumable(&server, "bob");
    alice.befriend(&mut bob);
    alice.send(
        "<iq type='get' id='q1' to='bob@cairn.example/r'><query xmlns='jabber:iq:version'/></iq>",
    );
    let request = bob.stanza_named("iq");
    let from = request.attr("from").expect("who asks").to_owned();
    bob.send(&format!(
        "<iq type='result' id='q1' to='{from}'><query xmlns='jabber:iq:version'/></iq>"
    ));
    assert_eq!(alice.answer("q1").attr("type"), Some("result"));
    bob.cut();
    assert_eq!(alice.presence().attr("type"), Some("unavailable"));
    let later = alice.settle();
    assert!(later.iter().all(|stanza| stanza.attr("id") != Some("q1")));
}

#[test]
fn unacknowledged_messages_of_a_session_that_is_over_go_to_another_resource() {
    let server = server_with(&[("limits.resume_s", "1")]);
    let mut alice = server.online("alice", "a");
    let (bob, _) = resumable(&server, "bob");
    bob.cut();
    alice.say("bob@cairn.example/r", "for anybody");
    alice.settle();
    let mut other = server.online_with_priority("bob", "other", 1);
    let message = loop {
        let stanza = other.stanza();
        if stanza.body().is_some() {
            break stanza;
        }
    };
    assert_eq!(message.body().as_deref(), Some("for anybody"));
    other.settle();
    other.log_out();
    server.online("bob", "later").expect_nothing();
}

#[test]
fn a_new_session_on_the_same_resource_gets_what_the_old_one_left() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let (mut bob, id) = resumable(&server, "bob");
    alice.say(BOB, "one");
    bob.message_with_body("one");
    bob.acknowledge();
    bob.settle();
    bob.cut();
    for body in ["two", "three"] {
        alice.say(BOB, body);
    }
    alice.settle();
    let mut bob = server.online("bob", "r");
    bob.message_with_body("two");
    bob.message_with_body("three");
    bob.expect_nothing();
    let mut again = server.authenticated("bob");
    failed(&again.try_resume(&id, 0), "item-not-found");
}

#[test]
fn a_connection_cut_without_management_loses_nothing_that_was_not_written() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let bob = server.online("bob", "b");
    bob.cut();
    alice.settle();
    // Whether the server has seen the cut or not, this message is not lost or doubled.
    alice.say("bob@cairn.example", "hello");
    alice.settle();
}
