//! Presence: RFC 6121 §4.

use crate::support::client::presences;
use crate::support::*;

const ALICE: &str = "alice@cairn.example";
const BOB: &str = "bob@cairn.example";

fn server() -> Server {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    server
}

/// Alice and bob as friends, both offline.
fn friends() -> Server {
    let server = server();
    let mut alice = server.online("alice", "first");
    let mut bob = server.online("bob", "first");
    alice.befriend(&mut bob);
    alice.log_out();
    bob.log_out();
    server
}

#[test]
fn initial_presence_reaches_contacts_and_brings_theirs() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    let stanzas = alice.settle();
    assert_eq!(presences(&stanzas), [("available", "bob@cairn.example/b")]);
    let stanzas = bob.settle();
    assert_eq!(
        presences(&stanzas),
        [("available", "alice@cairn.example/a")]
    );
    assert_eq!(stanzas[0].attr("to").map(bare), Some(BOB));
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or_default()
}

#[test]
fn presence_is_delivered_with_everything_in_it() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let mut alice = server.login("alice", "a");
    alice.send(
        "<presence id='p1'><show>away</show><status xml:lang='en'>tea</status>\
         <priority>3</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
         node='n' ver='v'/></presence>",
    );
    let presence = bob.presence();
    assert_eq!(presence.must("show", ns::CLIENT).text(), "away");
    assert_eq!(presence.must("status", ns::CLIENT).text(), "tea");
    assert_eq!(presence.must("priority", ns::CLIENT).text(), "3");
    presence.must("c", "http://jabber.org/protocol/caps");
}

#[test]
fn initial_presence_comes_back_and_to_ones_other_resources() {
    let server = server();
    let mut one = server.online("alice", "one");
    let mut two = server.login("alice", "two");
    two.send("<presence/>");
    let stanzas = two.settle();
    let mut seen = presences(&stanzas);
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("available", "alice@cairn.example/one"),
            ("available", "alice@cairn.example/two")
        ]
    );
    assert_eq!(
        presences(&one.settle()),
        [("available", "alice@cairn.example/two")]
    );
}

#[test]
fn presence_of_strangers_stays_private() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.expect_nothing();
    bob.expect_nothing();
}

#[test]
fn presence_goes_only_where_the_subscription_says() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.presence_to("subscribe", BOB);
    alice.settle();
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    alice.settle();
    // Alice sees bob; bob does not see alice.
    alice.send("<presence><show>dnd</show></presence>");
    alice.settle();
    assert_eq!(presences(&bob.settle()), []);
    bob.send("<presence><show>dnd</show></presence>");
    bob.settle();
    assert_eq!(
        presences(&alice.settle()),
        [("available", "bob@cairn.example/b")]
    );
}

#[test]
fn a_change_of_presence_is_broadcast_and_not_probed_again() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.settle();
    bob.settle();
    alice.send("<presence><show>xa</show></presence>");
    let stanzas = alice.settle();
    assert_eq!(
        presences(&stanzas),
        [("available", "alice@cairn.example/a")]
    );
    let presence = bob.presence();
    assert_eq!(presence.must("show", ns::CLIENT).text(), "xa");
    bob.expect_nothing();
}

#[test]
fn a_contact_that_comes_later_sees_the_last_presence() {
    let server = friends();
    let mut alice = server.online("alice", "a");
    alice.send("<presence><show>chat</show><status>come in</status></presence>");
    alice.settle();
    let mut bob = server.online("bob", "b");
    let presence = bob.presence();
    assert_eq!(presence.attr("from"), Some("alice@cairn.example/a"));
    assert_eq!(presence.must("status", ns::CLIENT).text(), "come in");
}

#[test]
fn unavailable_presence_is_broadcast_with_its_status() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    bob.settle();
    alice.send("<presence type='unavailable'><status>bye</status></presence>");
    let presence = bob.presence();
    assert_eq!(presence.attr("type"), Some("unavailable"));
    assert_eq!(presence.must("status", ns::CLIENT).text(), "bye");
}

#[test]
fn a_lost_connection_makes_unavailable() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let alice = server.online("alice", "a");
    bob.settle();
    alice.cut();
    let presence = bob.presence();
    assert_eq!(presence.attr("type"), Some("unavailable"));
    assert_eq!(presence.attr("from"), Some("alice@cairn.example/a"));
}

#[test]
fn the_end_of_the_stream_makes_unavailable() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    bob.settle();
    alice.send("</stream:stream>");
    assert_eq!(bob.presence().attr("type"), Some("unavailable"));
}

#[test]
fn a_replaced_resource_makes_unavailable_before_the_new_one_is_available() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    let _old = server.online("alice", "a");
    let _new = server.online("alice", "a");
    let types: Vec<_> = (0..3)
        .map(|_| bob.presence().attr("type").map(str::to_owned))
        .collect();
    assert_eq!(types, [None, Some("unavailable".to_owned()), None]);
}

#[test]
fn a_session_without_presence_says_nothing_when_it_ends() {
    let server = friends();
    let mut bob = server.online("bob", "b");
    server.login("alice", "a").log_out();
    bob.expect_nothing();
}

// §4.6: directed presence.

#[test]
fn directed_presence_reaches_a_stranger_and_is_taken_back_at_the_end() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send("<presence to='bob@cairn.example/b'><show>away</show></presence>");
    let presence = bob.presence();
    assert_eq!(presence.attr("from"), Some("alice@cairn.example/a"));
    assert_eq!(presence.must("show", ns::CLIENT).text(), "away");
    alice.cut();
    let presence = bob.presence();
    assert_eq!(presence.attr("type"), Some("unavailable"));
    assert_eq!(presence.attr("from"), Some("alice@cairn.example/a"));
    bob.expect_nothing();
}

#[test]
fn directed_presence_is_taken_back_with_broadcast_unavailable() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send("<presence to='bob@cairn.example'/>");
    bob.presence();
    alice.send("<presence type='unavailable'/>");
    assert_eq!(bob.presence().attr("type"), Some("unavailable"));
    alice.log_out();
    bob.expect_nothing();
}

#[test]
fn directed_presence_that_was_taken_back_by_hand_is_not_taken_back_again() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send("<presence to='bob@cairn.example/b'/>");
    alice.presence_to("unavailable", "bob@cairn.example/b");
    alice.settle();
    assert_eq!(bob.settle().len(), 2);
    alice.log_out();
    bob.expect_nothing();
}

#[test]
fn directed_presence_before_initial_presence_works() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.login("alice", "a");
    alice.send("<presence to='bob@cairn.example/b'/>");
    bob.presence();
    alice.cut();
    assert_eq!(bob.presence().attr("type"), Some("unavailable"));
}

#[test]
fn directed_presence_does_not_follow_later_broadcasts() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send("<presence to='bob@cairn.example/b'/>");
    bob.presence();
    alice.send("<presence><show>away</show></presence>");
    bob.expect_nothing_from(&mut alice);
}

#[test]
fn presence_to_a_resource_that_is_gone_is_ignored() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    for to in [
        "bob@cairn.example/gone",
        "nobody@cairn.example",
        "nobody@cairn.example/x",
    ] {
        alice.send(&format!("<presence to='{to}'/>"));
        alice.presence_to("unavailable", to);
    }
    alice.expect_nothing();
    bob.expect_nothing();
}

// §4.7.2.3: priorities.

#[test]
fn a_priority_that_is_no_number_between_minus_128_and_127_is_bad_request() {
    let server = server();
    let mut alice = server.login("alice", "a");
    for priority in ["128", "-129", "high", "1.5"] {
        alice.send(&format!(
            "<presence id='p'><priority>{priority}</priority></presence>"
        ));
        let answer = alice.presence();
        assert_eq!(
            answer.error(),
            Some(("modify", "bad-request")),
            "{priority}"
        );
    }
}

#[test]
fn the_extreme_priorities_are_fine() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.present(-128);
    alice.present(127);
}

#[test]
fn an_unknown_presence_type_is_bad_request() {
    let server = server();
    let mut alice = server.online("alice", "a");
    alice.send("<presence type='levitating' id='p'/>");
    assert_eq!(alice.presence().error(), Some(("modify", "bad-request")));
}

// §4.3: probes.

#[test]
fn a_probe_tells_a_stranger_nothing() {
    let server = server();
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    for to in [BOB, "bob@cairn.example/b", "nobody@cairn.example"] {
        alice.presence_to("probe", to);
        let stanzas = alice.settle();
        let seen = presences(&stanzas);
        assert!(
            seen.iter().all(|(type_, from)| {
                matches!(*type_, "unsubscribed" | "error") && !from.contains('/')
            }) || seen.iter().all(|(type_, _)| *type_ == "error"),
            "{seen:?}"
        );
        bob.expect_nothing();
    }
}

#[test]
fn many_contacts_all_see_one_broadcast() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let mut contacts: Vec<Client> = (0..12)
        .map(|n| {
            let name = format!("contact{n}");
            server.add(&name);
            let mut contact = server.online(&name, "c");
            contact.befriend(&mut alice);
            contact
        })
        .collect();
    for contact in &mut contacts {
        contact.settle();
    }
    alice.send("<presence><show>dnd</show></presence>");
    for contact in &mut contacts {
        let presence = contact.presence();
        assert_eq!(presence.must("show", ns::CLIENT).text(), "dnd");
        contact.expect_nothing();
    }
}

#[test]
fn after_unavailable_a_session_gets_no_presence_but_can_come_back() {
    let server = friends();
    let mut alice = server.online("alice", "a");
    alice.send("<presence type='unavailable'/>");
    alice.settle();
    let mut bob = server.online("bob", "b");
    assert_eq!(presences(&alice.settle()), []);
    alice.present(0);
    assert_eq!(
        presences(&alice.settle()),
        [("available", "bob@cairn.example/b")]
    );
    assert_eq!(
        presences(&bob.settle()),
        [("available", "alice@cairn.example/a")]
    );
}
