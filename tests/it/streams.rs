//! Streams: RFC 6120 §4, headers, features, restarts, closing.

use crate::support::wire::{End, header_to};
use crate::support::*;

#[test]
fn header_answers_with_our_domain_a_fresh_id_and_version_1_0() {
    let server = Server::start();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut wire = server.wire();
        wire.send_header();
        let header = wire.header();
        assert!(header.is("stream", ns::STREAM), "got {header}");
        assert_eq!(header.attr("from"), Some(DOMAIN));
        assert_eq!(header.attr("version"), Some("1.0"));
        ids.push(header.attr("id").expect("a stream has an id").to_owned());
    }
    assert!(ids[0].len() >= 16 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn header_answers_with_a_language() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.send_header();
    assert!(wire.header().attr("xml:lang").is_some());
}

#[test]
fn header_with_from_is_answered_with_to() {
    let server = Server::start();
    let mut wire = server.tls_wire();
    let header = header_to(DOMAIN);
    wire.send(&header.replace(" to=", " from='alice@cairn.example' to="));
    assert_eq!(wire.header().attr("to"), Some("alice@cairn.example"));
}

#[test]
fn header_is_understood_byte_by_byte() {
    let server = Server::start();
    let mut wire = server.wire();
    for byte in header_to(DOMAIN).as_bytes() {
        wire.try_send_bytes(&[*byte]).expect("the server reads");
    }
    wire.header();
    assert!(wire.element().is("features", ns::STREAM));
}

#[test]
fn header_may_come_without_an_xml_declaration_and_in_double_quotes() {
    let server = Server::start();
    let mut wire = server.wire();
    let header = header_to(DOMAIN).replace("<?xml version='1.0'?>", "");
    wire.send(&header.replace('\'', "\""));
    wire.header();
    assert!(wire.element().is("features", ns::STREAM));
}

#[test]
fn domain_in_the_header_is_compared_without_case() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.send(&header_to("CAIRN.Example"));
    wire.header();
    assert!(wire.element().is("features", ns::STREAM));
}

#[test]
fn features_before_tls_are_starttls_required_and_nothing_else_to_negotiate() {
    let server = Server::start();
    let mut wire = server.wire();
    let features = wire.open();
    let starttls = features.must("starttls", ns::TLS);
    starttls.must("required", ns::TLS);
    for later in [
        ns::SASL,
        ns::BIND,
        ns::SM,
        "http://jabber.org/features/iq-register",
    ] {
        assert!(
            !features.children().any(|child| child.ns == later),
            "in {features}"
        );
    }
}

#[test]
fn features_under_tls_are_mechanisms_and_not_starttls() {
    let server = Server::start();
    let (_wire, features) = server.stream();
    features.must("mechanisms", ns::SASL);
    assert!(features.child("starttls", ns::TLS).is_none());
    assert!(features.child("bind", ns::BIND).is_none());
}

#[test]
fn features_after_authentication_are_bind_and_sm_and_not_mechanisms() {
    let server = Server::start();
    server.add("alice");
    let client = server.authenticated("alice");
    client.features.must("bind", ns::BIND);
    client.features.must("sm", ns::SM);
    assert!(client.features.child("mechanisms", ns::SASL).is_none());
}

#[test]
fn session_establishment_of_rfc_3921_is_optional_where_it_is_offered() {
    let server = Server::start();
    server.add("alice");
    let client = server.authenticated("alice");
    let session = "urn:ietf:params:xml:ns:xmpp-session";
    if let Some(offered) = client.features.child("session", session) {
        offered.must("optional", session);
    }
}

#[test]
fn features_tell_the_roster_versioning_and_pre_approval() {
    let server = Server::start();
    server.add("alice");
    let client = server.authenticated("alice");
    client.features.must("ver", "urn:xmpp:features:rosterver");
    client
        .features
        .must("sub", "urn:xmpp:features:pre-approval");
}

#[test]
fn each_restart_gets_a_new_stream_id() {
    let server = Server::start();
    server.add("alice");
    let mut wire = server.tls_wire();
    wire.send_header();
    let before = wire.header();
    wire.element();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
    wire.restart();
    wire.send_header();
    let after = wire.header();
    assert_ne!(before.attr("id"), after.attr("id"));
}

#[test]
fn both_sides_end_the_stream_and_then_the_connection() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.online("alice", "a");
    alice.send("</stream:stream>");
    assert_eq!(alice.next(), Seen::Footer);
    assert_eq!(alice.next(), Seen::End(End::Orderly), "with close_notify");
}

#[test]
fn a_stream_may_be_ended_before_authentication() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.open();
    wire.send("</stream:stream>");
    wire.expect_end();
}

#[test]
fn what_was_sent_before_the_end_of_the_stream_is_handled() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'><body>last words</body></message>\
         </stream:stream>",
    );
    alice.until_end();
    bob.message_with_body("last words");
}

#[test]
fn whitespace_between_stanzas_is_no_stanza() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    for space in [" ", "\n", "\t \r\n"] {
        alice.send(space);
    }
    assert_eq!(alice.ask_for_ack(), 0);
}

#[test]
fn many_stanzas_in_one_segment_are_answered_in_order() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let pings: String = (0..50)
        .map(|n| format!("<iq type='get' id='p{n}'><ping xmlns='urn:xmpp:ping'/></iq> "))
        .collect();
    alice.send(&pings);
    for n in 0..50 {
        assert_eq!(alice.stanza().attr("id"), Some(format!("p{n}").as_str()));
    }
}

#[test]
fn a_stanza_may_use_any_prefix_for_its_namespace() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send(
        "<c:message xmlns:c='jabber:client' to='bob@cairn.example' type='chat'>\
         <c:body>prefixed</c:body><x:y xmlns:x='urn:x' x:z='1'/></c:message>",
    );
    let message = bob.message_with_body("prefixed");
    let child = message.must("y", "urn:x");
    assert_eq!(child.attr("{urn:x}z"), Some("1"));
}

#[test]
fn a_prefix_declared_in_the_stream_header_reaches_the_recipient_resolved() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut bob = server.online("bob", "b");
    let mut wire = server.tls_wire();
    wire.open();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    wire.element();
    wire.restart();
    wire.send(&header_to(DOMAIN).replace(" to=", " xmlns:x='urn:x' to="));
    wire.header();
    wire.element();
    wire.send(&format!(
        "<iq type='set' id='b'><bind xmlns='{}'/></iq>",
        ns::BIND
    ));
    wire.element();
    wire.send("<message to='bob@cairn.example' type='chat'><body>hi</body><x:y/></message>");
    bob.message_with_body("hi").must("y", "urn:x");
}

#[test]
fn cdata_and_character_references_reach_the_recipient_as_text() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut bob = server.online("bob", "b");
    let mut alice = server.online("alice", "a");
    alice.send(
        "<message to='bob@cairn.example' type='chat'>\
         <body><![CDATA[<b>&amp;]]>&lt;&#x20AC;&#10;&quot;</body></message>",
    );
    bob.message_with_body("<b>&amp;<\u{20ac}\n\"");
}

#[test]
fn language_of_the_stream_is_put_on_stanzas_that_have_none() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut bob = server.online("bob", "b");
    let mut wire = server.tls_wire();
    wire.open();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    wire.element();
    wire.restart();
    wire.send(&header_to(DOMAIN).replace("xml:lang='en'", "xml:lang='de'"));
    wire.header();
    wire.element();
    wire.send(&format!(
        "<iq type='set' id='b'><bind xmlns='{}'/></iq>",
        ns::BIND
    ));
    wire.element();
    wire.send("<message to='bob@cairn.example' type='chat'><body>eins</body></message>");
    wire.send(
        "<message to='bob@cairn.example' type='chat' xml:lang='fr'><body>deux</body></message>",
    );
    let message = bob.message_with_body("eins");
    assert_eq!(message.attr("xml:lang"), Some("de"), "in {message}");
    let message = bob.message_with_body("deux");
    assert_eq!(message.attr("xml:lang"), Some("fr"), "in {message}");
}
