//! STARTTLS: RFC 6120 §5.

use crate::support::*;

#[test]
fn starttls_leads_to_a_stream_that_can_be_authenticated() {
    let server = Server::start();
    server.add("alice");
    let mut wire = server.wire();
    wire.open();
    wire.negotiate_tls(&Tls::new());
    let mut alice = Client::authenticate(wire, "alice", server::PASSWORD);
    alice.bind(Some("a"));
    assert_eq!(alice.jid, "alice@cairn.example/a");
}

#[test]
fn bytes_behind_starttls_are_never_taken_for_protected_ones() {
    // The hole that many servers had: what an attacker injects in plain text is read as if
    // the client had said it under TLS. Refusing the connection is as good as forgetting it.
    let server = Server::start();
    server.add("alice");
    let mut wire = server.wire();
    wire.open();
    wire.send(&format!(
        "<starttls xmlns='{}'/>{}{}",
        ns::TLS,
        wire::header_to(DOMAIN),
        client::plain("", "alice", server::PASSWORD),
    ));
    match wire.next() {
        Seen::Element(answer) if answer.is("proceed", ns::TLS) => {}
        Seen::Element(answer) if answer.is("failure", ns::TLS) => return wire.expect_end(),
        Seen::Element(error) => {
            assert!(error.stream_error().is_some(), "got {error}");
            return wire.expect_end();
        }
        seen => panic!("got {seen:?}"),
    }
    wire.restart();
    if wire.start_tls_as(&Tls::new(), DOMAIN).is_err() {
        return;
    }
    // The handshake went through, so the injected bytes must have been forgotten: a ping is all
    // that the server hears, and the stream has not been opened.
    wire.send_header();
    wire.header();
    let features = wire.element();
    features.must("mechanisms", ns::SASL);
}

#[test]
fn whitespace_behind_starttls_is_forgotten() {
    // go-sendxmpp sends a line feed there.
    let server = Server::start();
    let mut wire = server.wire();
    wire.open();
    wire.send(&format!("<starttls xmlns='{}'/>\n", ns::TLS));
    let answer = wire.element();
    assert!(answer.is("proceed", ns::TLS), "got {answer}");
    wire.restart();
    wire.start_tls(&Tls::new());
    wire.open().must("mechanisms", ns::SASL);
}

#[test]
fn starttls_under_tls_is_refused() {
    let server = Server::start();
    let (mut wire, _) = server.stream();
    wire.send(&format!("<starttls xmlns='{}'/>", ns::TLS));
    assert!(wire.element().is("failure", ns::TLS));
    wire.until_end();
}

#[test]
fn authentication_before_tls_is_refused() {
    let server = Server::start();
    server.add("alice");
    let mut wire = server.wire();
    wire.open();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert_eq!(wire.element().sasl_failure(), Some("encryption-required"));
}

#[test]
fn garbage_instead_of_a_handshake_ends_the_connection() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.open();
    wire.send(&format!("<starttls xmlns='{}'/>", ns::TLS));
    assert!(wire.element().is("proceed", ns::TLS));
    wire.send("<stream:stream this is no handshake>");
    let mut buffer = [0; 1024];
    // An alert may come first; nothing that comes is XML.
    while let Ok(count @ 1..) = wire.read_raw(&mut buffer) {
        assert_ne!(buffer[0], b'<', "{:?}", &buffer[..count]);
    }
}

#[test]
fn direct_tls_accepts_the_application_protocol_of_clients() {
    let server = Server::start();
    let tls = Tls::with_alpn(&["xmpp-client"]);
    let mut wire = server.tls_wire_with(&tls);
    assert_eq!(wire.tls().alpn_protocol(), Some(&b"xmpp-client"[..]));
    wire.open().must("mechanisms", ns::SASL);
}

#[test]
fn direct_tls_refuses_another_application_protocol() {
    let server = Server::start();
    let mut wire = Wire::connect(server.c2s_tls());
    let refused = wire.start_tls_as(&Tls::with_alpn(&["h2"]), DOMAIN);
    assert!(refused.is_err(), "no_application_protocol (RFC 7301 §3.2)");
}

#[test]
fn plain_text_on_the_direct_tls_port_is_not_answered_in_plain_text() {
    let server = Server::start();
    let mut wire = Wire::connect(server.c2s_tls());
    wire.send(&wire::header_to(DOMAIN));
    let mut buffer = [0; 1024];
    while let Ok(1..) = wire.read_raw(&mut buffer) {
        assert_ne!(buffer[0], b'<');
    }
}
