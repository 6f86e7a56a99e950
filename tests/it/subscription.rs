//! Subscriptions: RFC 6121 §3 and its appendix A.

use crate::support::client::{presences, pushes};
use crate::support::*;

const ALICE: &str = "alice@cairn.example";
const BOB: &str = "bob@cairn.example";

/// Alice and bob, both available and interested in their rosters.
fn two() -> (Client, Client, Server) {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let alice = interested(&server, "alice");
    let bob = interested(&server, "bob");
    (alice, bob, server)
}

fn interested(server: &Server, name: &str) -> Client {
    let mut client = server.login(name, "r");
    client.roster();
    client.present(0);
    client
}

/// What reached both once everything has been handled.
fn settled(alice: &mut Client, bob: &mut Client) -> (Vec<Element>, Vec<Element>) {
    let mut at_alice = alice.settle();
    let at_bob = bob.settle();
    at_alice.extend(alice.settle());
    (at_alice, at_bob)
}

fn item(jid: &str, state: &str) -> (String, String) {
    (jid.to_owned(), state.to_owned())
}

// §3.1: asking and being allowed.

#[test]
fn a_request_is_pushed_as_ask_and_reaches_the_contact_from_the_bare_jid() {
    let (mut alice, mut bob, _server) = two();
    alice.send(&format!(
        "<presence type='subscribe' to='{BOB}' id='s1'><status>It's me</status></presence>"
    ));
    let (at_alice, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(pushes(&at_alice), [item(BOB, "none+ask")]);
    assert_eq!(presences(&at_bob), [("subscribe", ALICE)]);
    assert_eq!(at_bob[0].must("status", ns::CLIENT).text(), "It's me");
    assert_eq!(at_bob[0].attr("to"), Some(BOB));
    assert_eq!(
        bob.subscription_to(ALICE),
        "absent",
        "no item before approval"
    );
}

#[test]
fn a_request_to_a_full_jid_is_one_to_the_bare_jid() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", "bob@cairn.example/r");
    let (at_alice, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(pushes(&at_alice), [item(BOB, "none+ask")]);
    assert_eq!(presences(&at_bob), [("subscribe", ALICE)]);
}

#[test]
fn a_request_keeps_name_and_groups_of_the_item() {
    let (mut alice, mut bob, _server) = two();
    alice.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:roster'><item jid='bob@cairn.example' name='Bob'>\
         <group>Friends</group></item></query>",
    );
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    let items = alice.roster();
    assert_eq!(items[0].attr("name"), Some("Bob"));
    assert_eq!(items[0].must("group", ns::ROSTER).text(), "Friends");
}

#[test]
fn a_request_waits_for_the_contact_and_comes_at_every_login_until_it_is_answered() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = interested(&server, "alice");
    alice.send(&format!(
        "<presence type='subscribe' to='{BOB}'><status>hi</status></presence>"
    ));
    alice.settle();
    for _ in 0..2 {
        let mut bob = interested(&server, "bob");
        let stanzas = bob.settle();
        assert_eq!(presences(&stanzas), [("subscribe", ALICE)]);
        assert_eq!(stanzas[0].must("status", ns::CLIENT).text(), "hi");
        bob.log_out();
    }
    let mut bob = interested(&server, "bob");
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    bob.log_out();
    let mut bob = interested(&server, "bob");
    let stanzas = bob.settle();
    assert!(!presences(&stanzas).contains(&("subscribe", ALICE)));
}

#[test]
fn a_request_waits_over_a_kill() {
    let mut server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = interested(&server, "alice");
    alice.presence_to("subscribe", BOB);
    alice.settle();
    server.kill();
    server.run();
    let mut bob = interested(&server, "bob");
    assert_eq!(presences(&bob.settle()), [("subscribe", ALICE)]);
    let mut alice = interested(&server, "alice");
    assert_eq!(alice.subscription_to(BOB), "none+ask");
}

#[test]
fn the_same_request_twice_waits_once() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = interested(&server, "alice");
    alice.presence_to("subscribe", BOB);
    alice.presence_to("subscribe", BOB);
    alice.settle();
    let mut bob = interested(&server, "bob");
    assert_eq!(presences(&bob.settle()), [("subscribe", ALICE)]);
}

#[test]
fn requests_do_not_come_before_initial_presence() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = interested(&server, "alice");
    alice.presence_to("subscribe", BOB);
    alice.settle();
    let mut bob = server.login("bob", "r");
    bob.roster();
    bob.expect_nothing();
}

#[test]
fn approval_makes_to_and_from_and_shows_the_presence() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    bob.presence_to("subscribed", ALICE);
    let at_bob = bob.settle();
    let at_alice = alice.settle();
    assert_eq!(pushes(&at_bob), [item(ALICE, "from")]);
    assert_eq!(pushes(&at_alice), [item(BOB, "to")]);
    assert_eq!(
        presences(&at_alice),
        [("subscribed", BOB), ("available", "bob@cairn.example/r")]
    );
}

#[test]
fn both_directions_make_both() {
    let (mut alice, mut bob, _server) = two();
    alice.befriend(&mut bob);
}

#[test]
fn a_request_from_somebody_who_is_allowed_already_is_answered_by_the_server() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    alice.settle();
    alice.presence_to("subscribe", BOB);
    let (_, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(presences(&at_bob), [], "the contact is not asked again");
    assert_eq!(alice.subscription_to(BOB), "to");
}

#[test]
fn approval_of_a_request_that_was_never_made_changes_nothing_at_the_other_side() {
    let (mut alice, mut bob, _server) = two();
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    let at_alice = alice.settle();
    assert_eq!(presences(&at_alice), []);
    assert_eq!(alice.subscription_to(BOB), "absent");
}

// §3.1.4 and §3.2: refusing and cancelling.

#[test]
fn refusal_takes_the_ask_away() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    bob.presence_to("unsubscribed", ALICE);
    let at_bob = bob.settle();
    let at_alice = alice.settle();
    assert_eq!(presences(&at_alice), [("unsubscribed", BOB)]);
    assert_eq!(pushes(&at_alice), [item(BOB, "none")]);
    assert_eq!(pushes(&at_bob), [], "there was no item");
    bob.log_out();
    let server = _server;
    let mut bob = interested(&server, "bob");
    assert_eq!(presences(&bob.settle()), [], "it is answered");
}

#[test]
fn cancelling_makes_none_and_the_contact_looks_unavailable() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    alice.settle();
    bob.presence_to("unsubscribed", ALICE);
    let at_bob = bob.settle();
    let at_alice = alice.settle();
    assert_eq!(pushes(&at_bob), [item(ALICE, "none")]);
    assert_eq!(pushes(&at_alice), [item(BOB, "none")]);
    let seen = presences(&at_alice);
    assert!(seen.contains(&("unsubscribed", BOB)), "{seen:?}");
    assert!(
        seen.contains(&("unavailable", "bob@cairn.example/r")),
        "{seen:?}"
    );
}

#[test]
fn cancelling_one_direction_of_both_leaves_the_other() {
    let (mut alice, mut bob, _server) = two();
    alice.befriend(&mut bob);
    bob.presence_to("unsubscribed", ALICE);
    bob.settle();
    alice.settle();
    assert_eq!(alice.subscription_to(BOB), "from");
    assert_eq!(bob.subscription_to(ALICE), "to");
}

#[test]
fn cancelling_what_is_not_there_reaches_nobody() {
    let (mut alice, mut bob, _server) = two();
    bob.presence_to("unsubscribed", ALICE);
    bob.presence_to("unsubscribe", ALICE);
    bob.settle();
    assert_eq!(presences(&alice.settle()), []);
}

// §3.3: unsubscribing.

#[test]
fn unsubscribing_makes_none_on_both_sides_and_the_contact_hears_of_it() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    alice.settle();
    alice.presence_to("unsubscribe", BOB);
    let (at_alice, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(pushes(&at_alice), [item(BOB, "none")]);
    assert_eq!(pushes(&at_bob), [item(ALICE, "none")]);
    assert_eq!(presences(&at_bob), [("unsubscribe", ALICE)]);
    let seen = presences(&at_alice);
    assert!(
        seen.contains(&("unavailable", "bob@cairn.example/r")),
        "{seen:?}"
    );
}

#[test]
fn unsubscribing_takes_back_a_request() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = interested(&server, "alice");
    alice.presence_to("subscribe", BOB);
    alice.presence_to("unsubscribe", BOB);
    alice.settle();
    assert_eq!(alice.subscription_to(BOB), "none");
    let mut bob = interested(&server, "bob");
    let stanzas = bob.settle();
    assert!(
        !presences(&stanzas).contains(&("subscribe", ALICE)),
        "{stanzas:?}"
    );
}

// §3.4: pre-approval.

#[test]
fn pre_approval_answers_the_request_without_asking() {
    let (mut alice, mut bob, _server) = two();
    bob.presence_to("subscribed", ALICE);
    assert_eq!(pushes(&bob.settle()), [item(ALICE, "none+approved")]);
    alice.presence_to("subscribe", BOB);
    let (at_alice, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(presences(&at_bob), [], "the contact is not asked");
    assert!(presences(&at_alice).contains(&("subscribed", BOB)));
    assert_eq!(alice.subscription_to(BOB), "to");
    assert!(bob.subscription_to(ALICE).starts_with("from"));
}

#[test]
fn pre_approval_can_be_taken_back() {
    let (mut alice, mut bob, _server) = two();
    bob.presence_to("subscribed", ALICE);
    bob.settle();
    bob.presence_to("unsubscribed", ALICE);
    assert_eq!(pushes(&bob.settle()), [item(ALICE, "none")]);
    assert_eq!(presences(&alice.settle()), []);
    alice.presence_to("subscribe", BOB);
    let (_, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(presences(&at_bob), [("subscribe", ALICE)]);
}

// §2.5 and §3: what a removal means.

#[test]
fn removing_an_item_ends_both_subscriptions() {
    let (mut alice, mut bob, _server) = two();
    alice.befriend(&mut bob);
    alice.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:roster'>\
         <item jid='bob@cairn.example' subscription='remove'/></query>",
    );
    let (at_alice, at_bob) = settled(&mut alice, &mut bob);
    assert_eq!(pushes(&at_alice), [item(BOB, "remove")]);
    let seen = presences(&at_bob);
    assert!(seen.contains(&("unsubscribe", ALICE)), "{seen:?}");
    assert!(seen.contains(&("unsubscribed", ALICE)), "{seen:?}");
    assert!(
        seen.contains(&("unavailable", "alice@cairn.example/r")),
        "{seen:?}"
    );
    assert_eq!(alice.subscription_to(BOB), "absent");
    assert_eq!(bob.subscription_to(ALICE), "none");
}

#[test]
fn an_account_that_is_removed_leaves_no_subscription_behind() {
    let (mut alice, mut bob, server) = two();
    alice.befriend(&mut bob);
    server.cli(&["user", "remove", BOB], "");
    bob.until_end();
    loop {
        // The account's end reaches its contacts before the command returns, or soon after.
        let seen = alice.stanza();
        if presences(&[seen]).contains(&("unavailable", "bob@cairn.example/r")) {
            break;
        }
    }
    alice.settle();
    assert_eq!(alice.subscription_to(BOB), "none");
}

// Who gets what.

#[test]
fn subscription_requests_to_nobody_are_ignored_or_refused_without_a_trace() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", "nobody@cairn.example");
    let (at_alice, _) = settled(&mut alice, &mut bob);
    assert_eq!(
        pushes(&at_alice),
        [item("nobody@cairn.example", "none+ask")]
    );
    let seen = presences(&at_alice);
    assert!(
        seen.iter().all(|(type_, _)| *type_ == "unsubscribed"),
        "{seen:?}"
    );
}

#[test]
fn subscribing_to_oneself_does_no_harm() {
    let (mut alice, mut bob, _server) = two();
    alice.presence_to("subscribe", ALICE);
    settled(&mut alice, &mut bob);
    alice.presence_to("subscribed", ALICE);
    settled(&mut alice, &mut bob);
    alice.presence_to("unsubscribe", ALICE);
    settled(&mut alice, &mut bob);
    alice.expect_nothing();
}

#[test]
fn a_change_reaches_every_interested_resource() {
    let (mut alice, mut bob, server) = two();
    let mut second = server.login("alice", "second");
    second.roster();
    alice.presence_to("subscribe", BOB);
    settled(&mut alice, &mut bob);
    assert_eq!(pushes(&second.settle()), [item(BOB, "none+ask")]);
}

#[test]
fn a_request_reaches_every_available_resource_of_the_contact() {
    let (mut alice, mut bob, server) = two();
    let mut second = server.online("bob", "second");
    let mut silent = server.login("bob", "silent");
    bob.settle();
    alice.presence_to("subscribe", BOB);
    alice.settle();
    assert_eq!(presences(&bob.settle()), [("subscribe", ALICE)]);
    let stanzas = second.settle();
    assert!(presences(&stanzas).contains(&("subscribe", ALICE)));
    silent.expect_nothing();
}

#[test]
fn friendships_survive_a_kill() {
    let (mut alice, mut bob, mut server) = two();
    alice.befriend(&mut bob);
    server.kill();
    server.run();
    let mut alice = interested(&server, "alice");
    let mut bob = interested(&server, "bob");
    assert_eq!(alice.subscription_to(BOB), "both");
    assert_eq!(bob.subscription_to(ALICE), "both");
    let stanzas = alice.settle();
    assert!(presences(&stanzas).contains(&("available", "bob@cairn.example/r")));
}

#[test]
fn too_many_waiting_requests_are_refused_and_do_not_grow() {
    let server = Server::with(&[("limits.subscription_requests", "2")]);
    server.add("bob");
    for n in 0..4 {
        let name = format!("user{n}");
        server.add(&name);
        let mut user = interested(&server, &name);
        user.presence_to("subscribe", BOB);
        user.settle();
    }
    let mut bob = interested(&server, "bob");
    let stanzas = bob.settle();
    assert_eq!(presences(&stanzas).len(), 2, "{stanzas:?}");
}
