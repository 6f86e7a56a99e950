//! What all clients share: places for connections, and memory for stanzas that are not complete.

use crate::support::*;

/// Whether a new connection is turned away.
fn is_refused(server: &Server) -> bool {
    let mut wire = server.wire();
    if wire
        .try_send_bytes(wire::header_to(DOMAIN).as_bytes())
        .is_err()
    {
        return true;
    }
    loop {
        match wire.next() {
            Seen::Header(_) => {}
            Seen::Element(element) => return !element.is("features", ns::STREAM),
            Seen::Footer | Seen::End(_) => return true,
        }
    }
}

/// A place was given back; the server may need a moment to notice. Every try is a round trip to it.
#[track_caller]
fn has_room_again(server: &Server) {
    assert!((0..500).any(|_| !is_refused(server)), "there is no place");
}

#[test]
fn connections_are_limited_in_all() {
    let server = Server::with(&[
        ("limits.connections", "3"),
        ("limits.unauthenticated_connections", "3"),
    ]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let mut wires: Vec<Wire> = (0..2).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.open();
    }
    assert!(is_refused(&server));
    server.wait_for_log(&["connection refused"]);
    alice.settle();
    alice.log_out();
    has_room_again(&server);
}

#[test]
fn connections_before_their_log_in_are_limited_and_those_after_it_do_not_count() {
    let server = Server::with(&[("limits.unauthenticated_connections", "2")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let mut other = server.login("alice", "b");
    let mut wires: Vec<Wire> = (0..2).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.open();
    }
    assert!(is_refused(&server));
    alice.settle();
    other.settle();
    drop(wires);
    has_room_again(&server);
}

/// A stanza that is begun and not ended, behind a request: its answer says that both were read, for
/// they came in one record of TLS.
fn begin_long_stanza(client: &mut Client) {
    let text = "x".repeat(9_000);
    client.send(&format!(
        "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>\
         <message to='bob@cairn.example'><body>{text}"
    ));
}

#[test]
fn stanzas_that_are_not_complete_share_one_pool_and_small_ones_always_fit() {
    let server = Server::with(&[
        ("limits.stanza_bytes", "10000"),
        ("limits.inbound_bytes", "20000"),
    ]);
    for name in ["alice", "bob", "carol", "dave"] {
        server.add(name);
    }
    let mut alice = server.login("alice", "a");
    let mut carol = server.login("carol", "c");
    for client in [&mut alice, &mut carol] {
        begin_long_stanza(client);
        assert_eq!(client.answer("p").attr("type"), Some("result"));
    }
    let mut late = server.login("alice", "late");
    begin_long_stanza(&mut late);
    late.answer("p");
    late.expect_stream_error("resource-constraint");
    // The others go on: whoever holds much, and whoever holds little.
    let mut bob = server.online("bob", "b");
    let mut dave = server.login("dave", "d");
    dave.say("bob@cairn.example", "short");
    bob.message_with_body("short");
    alice.send("</body></message>");
    alice.settle();
    assert_eq!(bob.message().body().map(|body| body.len()), Some(9_000));
    // And what was given back can be taken.
    begin_long_stanza(&mut dave);
    assert_eq!(dave.answer("p").attr("type"), Some("result"));
    dave.send("</body></message>");
    assert_eq!(bob.message().body().map(|body| body.len()), Some(9_000));
    carol.send("</body></message>");
    assert_eq!(bob.message().body().map(|body| body.len()), Some(9_000));
}
