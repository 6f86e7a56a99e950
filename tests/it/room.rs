//! What all clients share: places for connections, and memory for what is on its way.

use std::time::Instant;

use crate::support::wire::PATIENCE;
use crate::support::*;

const BOB: &str = "bob@cairn.example";

fn server_with(settings: &[(&str, &str)]) -> Server {
    let mut settings = settings.to_vec();
    settings.push(("limits.accepts_per_address_per_minute", "0"));
    let server = Server::with(&settings);
    server.add("alice");
    server.add("bob");
    server
}

// Connections.

/// A new connection with a stream, unless it is refused.
fn admitted(server: &Server) -> Option<Wire> {
    let mut wire = server.wire();
    wire.try_send_bytes(wire::header_to(DOMAIN).as_bytes())
        .ok()?;
    match (wire.next(), wire.next()) {
        (Seen::Header(_), Seen::Element(e)) if e.is("features", ns::STREAM) => Some(wire),
        _ => None,
    }
}

/// The client leaves, and its place can be taken.
#[track_caller]
fn makes_room(server: &Server, mut wire: Wire) {
    wire.send("</stream:stream>");
    wire.until_end();
    drop(wire);
    // The server may need a moment to notice; every try is a round trip to it.
    let since = Instant::now();
    while admitted(server).is_none() {
        assert!(since.elapsed() < PATIENCE, "the place was not given back");
    }
}

#[test]
fn connections_are_limited() {
    let server = server_with(&[("limits.connections", "3")]);
    let mut alice = server.login("alice", "a");
    let mut bob = server.login("bob", "b");
    let third = admitted(&server).expect("the third of three");
    assert!(admitted(&server).is_none());
    server.wait_for_log(&["connection refused", "limits.connections is reached"]);
    alice.settle();
    bob.settle();
    makes_room(&server, third);
}

#[test]
fn connections_before_their_log_in_are_limited() {
    let server = server_with(&[("limits.unauthenticated_connections", "2")]);
    let _alice = server.login("alice", "a");
    let (mut first, _) = server.stream();
    let second = admitted(&server).expect("the second of two");
    assert!(admitted(&server).is_none());
    server.wait_for_log(&[
        "connection refused",
        "limits.unauthenticated_connections is reached",
    ]);
    // Who logs in makes room.
    first.send(&client::plain("", "bob", server::PASSWORD));
    assert!(first.element().is("success", ns::SASL));
    let third = admitted(&server).expect("there is room again");
    assert!(admitted(&server).is_none());
    drop(third);
    makes_room(&server, second);
}

#[test]
fn connections_from_one_address_are_limited() {
    let server = server_with(&[("limits.connections_per_address", "3")]);
    let mut wires: Vec<Wire> = (0..3).filter_map(|_| admitted(&server)).collect();
    assert_eq!(wires.len(), 3);
    assert!(admitted(&server).is_none());
    server.wait_for_log(&[
        "connection refused",
        "limits.connections_per_address is reached",
    ]);
    makes_room(&server, wires.remove(0));
}

#[test]
fn new_connections_a_minute_from_one_address_are_limited() {
    let server = Server::with(&[("limits.accepts_per_address_per_minute", "5")]);
    let accepted = (0..10).filter(|_| admitted(&server).is_some()).count();
    assert!((5..10).contains(&accepted), "{accepted}");
}

// Incomplete stanzas.

const PING: &str = "<iq type='get' id='first'><ping xmlns='urn:xmpp:ping'/></iq>";

/// The server has got a part of a stanza when this returns: it answers what comes before it in the
/// same record, and by then it has counted what is left.
#[track_caller]
fn sends_a_part(client: &mut Client, part: &str) {
    client.send(&format!("{PING}{part}"));
    client.answer("first");
}

#[test]
fn big_stanzas_that_are_under_way_share_their_room_and_small_ones_always_fit() {
    let server = server_with(&[
        ("limits.stanza_bytes", "10000"),
        ("limits.inbound_bytes", "20000"),
    ]);
    let mut bob = server.online("bob", "b");
    let mut alices: Vec<Client> = (0..2)
        .map(|n| server.login("alice", &n.to_string()))
        .collect();
    let body = "x".repeat(9_000);
    let part = format!("<message to='{BOB}'><body>{body}");
    for alice in &mut alices {
        sends_a_part(alice, &part);
    }
    let mut third = server.login("alice", "third");
    third.send(&part);
    third.expect_stream_error("resource-constraint");
    // Who needs little has it.
    sends_a_part(&mut bob, "<message to='bob@cairn.example'><body>half");
    bob.send("</body></message>");
    bob.message_with_body("half");
    // Nothing happens to those that were there before, and what they give back can be taken.
    for mut alice in alices {
        alice.send("</body></message>");
        bob.message_with_body(&body);
        alice.log_out();
    }
    let mut another = server.login("alice", "another");
    sends_a_part(&mut another, &part);
    another.send("</body></message>");
    bob.message_with_body(&body);
    // Not even while it keeps its end of the connection does the third have room for what it sent.
    drop(third);
}

// What waits to be read.

/// A client that acknowledges nothing: what it is sent waits, read or not.
fn ignorant(server: &Server, resource: &str) -> Client {
    let mut client = server.login("bob", resource);
    client.enable_management(false);
    client
}

#[test]
fn whoever_most_waits_for_is_cut_off_when_too_much_waits_for_all() {
    let server = server_with(&[
        ("limits.session_queue_bytes", "1048576"),
        ("limits.outbound_bytes", "2097152"),
    ]);
    let mut alice = server.login("alice", "a");
    let text = "x".repeat(50_000);
    let mut send = |client: &Client, count: usize| {
        for _ in 0..count {
            alice.say_typed("headline", &client.jid, &text);
        }
        assert!(alice.settle().is_empty(), "nothing is refused");
    };
    let (mut much, mut less) = (ignorant(&server, "much"), ignorant(&server, "less"));
    send(&much, 15);
    send(&less, 12);
    let mut last = ignorant(&server, "last");
    // With this it is more than three quarters of the room.
    send(&last, 5);
    let said = much.until_end();
    let [.., Seen::Element(error), Seen::Footer] = &said[..] else {
        panic!("it is told why: {:?}", said.last());
    };
    assert_eq!(error.stream_error(), Some("policy-violation"));
    server.wait_for_log(&["too much waits for all clients", "bob@cairn.example/much"]);
    assert_eq!(less.settle().len(), 12);
    assert_eq!(last.settle().len(), 5);
    // There is room again.
    send(&last, 5);
    assert_eq!(last.settle().len(), 5);
}

/// What waits for sessions that nobody reads is shared by all: whoever fills it loses those
/// sessions, and nobody else loses anything.
#[test]
fn who_fills_what_waits_for_all_costs_nobody_else_a_session() {
    let server = server_with(&[("limits.outbound_bytes", "4194304")]);
    server.add("eve");
    let mut alice = server.online("alice", "a");
    let mut bob = server.login("bob", "b");
    bob.enable_management(true);
    bob.present(0);
    for n in 0..10 {
        let mut waiting = server.login("eve", &format!("r{n}"));
        waiting.enable_management(true);
        waiting.cut();
    }
    let mut eve = server.login("eve", "x");
    for (bytes, count) in [(100_000, 9), (20_000, 4), (4_000, 4), (800, 6), (1, 40)] {
        let text = "z".repeat(bytes);
        for n in 0..10 {
            let stanza = format!(
                "<iq type='result' id='k' to='eve@cairn.example/r{n}'>\
                 <q xmlns='urn:q'>{text}</q></iq>"
            );
            eve.send(&stanza.repeat(count));
        }
        eve.settle();
        for n in 0..5 {
            let body = format!("{bytes} {n}");
            alice.say(BOB, &body);
            bob.message_with_body(&body);
        }
        alice.settle();
    }
    server.online("bob", "new").settle();
}
