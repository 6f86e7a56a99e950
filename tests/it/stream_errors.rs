//! Every stream error of RFC 6120 §4.9.3 that a client can provoke.

use nix::sys::signal::Signal;

use crate::support::wire::header_to;
use crate::support::*;

/// A stream error ends the stream that a client has just opened by `sent`.
fn before_tls(sent: &str, condition: &str) {
    let server = Server::start();
    let mut wire = server.wire();
    wire.send(sent);
    wire.expect_stream_error(condition);
}

/// A stream error ends the stream of a client that is logged in.
fn after_login(sent: &str, condition: &str) {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.send(sent);
    alice.expect_stream_error(condition);
}

#[test]
fn text_between_stanzas_is_bad_format() {
    after_login("hello?", "bad-format");
}

#[test]
fn a_stream_without_its_prefix_is_a_bad_namespace_prefix() {
    before_tls(
        "<stream to='cairn.example' version='1.0' xmlns='jabber:client'>",
        "bad-namespace-prefix",
    );
}

#[test]
fn a_prefix_that_was_never_declared_is_not_well_formed() {
    after_login("<message><x:y/></message>", "not-well-formed");
}

#[test]
fn binding_a_resource_again_is_a_conflict_for_the_older_client() {
    let server = Server::start();
    server.add("alice");
    let mut older = server.login("alice", "same");
    let mut newer = server.login("alice", "same");
    older.expect_stream_error("conflict");
    newer.expect_nothing();
}

#[test]
fn an_unknown_domain_in_the_header_is_host_unknown() {
    before_tls(&header_to("other.example"), "host-unknown");
}

#[test]
fn a_header_without_to_is_refused() {
    let header = header_to(DOMAIN).replace(" to='cairn.example'", "");
    before_tls(&header, "host-unknown");
}

#[test]
fn a_to_that_is_no_domain_is_improper_addressing() {
    for to in [
        "alice@cairn.example",
        "cairn.example/r",
        "@cairn.example",
        "cairn example",
        "",
    ] {
        before_tls(&header_to(to), "improper-addressing");
    }
}

#[test]
fn a_from_that_is_no_address_is_improper_addressing() {
    let header = header_to(DOMAIN);
    for from in ["@cairn.example", "alice@", "a b@cairn.example"] {
        let from = format!("<stream:stream from='{from}'");
        before_tls(
            &header.replace("<stream:stream", &from),
            "improper-addressing",
        );
    }
}

#[test]
fn a_stanza_from_somebody_else_is_invalid_from() {
    after_login(
        "<message from='bob@cairn.example' to='alice@cairn.example'/>",
        "invalid-from",
    );
}

#[test]
fn a_stanza_from_another_resource_is_invalid_from() {
    after_login(
        "<message from='alice@cairn.example/other' to='alice@cairn.example'/>",
        "invalid-from",
    );
}

#[test]
fn a_stanza_from_ones_own_address_is_fine() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for from in ["alice@cairn.example", "alice@cairn.example/a"] {
        alice.send(&format!(
            "<iq type='get' id='{from}' from='{from}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        assert_eq!(alice.stanza().attr("type"), Some("result"));
    }
}

#[test]
fn a_foreign_stream_namespace_is_invalid_namespace() {
    let header = header_to(DOMAIN).replace(ns::STREAM, "http://wrong.example/streams");
    before_tls(&header, "invalid-namespace");
}

#[test]
fn a_foreign_content_namespace_is_invalid_namespace() {
    let header = header_to(DOMAIN).replace("'jabber:client'", "'jabber:wrong'");
    before_tls(&header, "invalid-namespace");
}

#[test]
fn the_namespace_of_servers_is_refused_to_clients() {
    let header = header_to(DOMAIN).replace("'jabber:client'", "'jabber:server'");
    before_tls(&header, "invalid-namespace");
}

#[test]
fn a_stanza_before_authentication_is_not_authorized() {
    for kind in ["message", "presence", "iq"] {
        let server = Server::start();
        let (mut wire, _) = server.stream();
        wire.send(&format!("<{kind} to='alice@cairn.example'/>"));
        wire.expect_stream_error("not-authorized");
    }
}

#[test]
fn a_stanza_before_tls_is_a_stream_error() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.open();
    wire.send("<message to='alice@cairn.example'/>");
    let Seen::Element(error) = wire.next() else {
        panic!("expected a stream error");
    };
    let condition = error.stream_error();
    assert!(
        matches!(condition, Some("not-authorized" | "policy-violation")),
        "got {error}"
    );
    wire.expect_end();
}

#[test]
fn a_stanza_before_binding_is_not_authorized() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.authenticated("alice");
    alice.send("<message to='alice@cairn.example'><body>too early</body></message>");
    alice.expect_stream_error("not-authorized");
}

#[test]
fn tags_that_do_not_match_are_not_well_formed() {
    after_login("<message><body></message></body>", "not-well-formed");
}

#[test]
fn an_attribute_twice_is_not_well_formed() {
    after_login("<message id='1' id='2'/>", "not-well-formed");
}

#[test]
fn an_attribute_twice_by_two_prefixes_is_not_well_formed() {
    after_login(
        "<message><x xmlns:a='urn:x' xmlns:b='urn:x' a:y='1' b:y='2'/></message>",
        "not-well-formed",
    );
}

#[test]
fn a_bare_ampersand_is_not_well_formed() {
    after_login("<message><body>a & b</body></message>", "not-well-formed");
}

#[test]
fn a_less_than_in_an_attribute_is_not_well_formed() {
    after_login("<message id='a<b'/>", "not-well-formed");
}

#[test]
fn a_character_that_xml_has_not_is_not_well_formed() {
    after_login("<message><body>\u{1}</body></message>", "not-well-formed");
}

#[test]
fn a_reference_to_a_character_that_xml_has_not_is_not_well_formed() {
    for reference in ["&#0;", "&#x1;", "&#xFFFE;", "&#xD800;", "&#x110000;"] {
        after_login(
            &format!("<message><body>{reference}</body></message>"),
            "not-well-formed",
        );
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_not_well_formed() {
    for bytes in [
        &b"<message><body>\xff</body></message>"[..],
        b"<message><body>\xc0\x80</body></message>",
        b"<message><body>\xed\xa0\x80</body></message>",
        b"<message><body>\xe2\x82</body></message>",
    ] {
        let server = Server::start();
        server.add("alice");
        let mut alice = server.login("alice", "a");
        alice.try_send_bytes(bytes).expect("the server reads");
        let Seen::Element(error) = alice.next() else {
            panic!("expected a stream error");
        };
        // RFC 6120 §4.9.3.13 and §4.9.3.22 both speak of it.
        let condition = error.stream_error();
        assert!(
            matches!(
                condition,
                Some("not-well-formed" | "unsupported-encoding" | "bad-format")
            ),
            "got {error}"
        );
        alice.expect_end();
    }
}

#[test]
fn not_xml_at_all_is_answered_with_a_header_and_a_stream_error() {
    before_tls(
        "GET / HTTP/1.1\r\nHost: cairn.example\r\n\r\n",
        "not-well-formed",
    );
}

#[test]
fn a_comment_is_restricted_xml() {
    after_login("<!-- hi -->", "restricted-xml");
    after_login("<message><!-- hi --></message>", "restricted-xml");
}

#[test]
fn a_processing_instruction_is_restricted_xml() {
    after_login("<?php echo 1 ?>", "restricted-xml");
    after_login("<message><?php echo 1 ?></message>", "restricted-xml");
}

#[test]
fn a_document_type_is_restricted_xml() {
    let header = header_to(DOMAIN);
    let with_dtd = header.replace(
        "<stream:stream",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><stream:stream",
    );
    before_tls(&with_dtd, "restricted-xml");
}

#[test]
fn an_entity_that_xml_does_not_predefine_is_restricted_xml() {
    after_login("<message><body>&nbsp;</body></message>", "restricted-xml");
}

#[test]
fn an_orderly_stop_tells_every_client_system_shutdown() {
    let mut server = Server::start();
    server.add("alice");
    let mut alice = server.online("alice", "a");
    let mut bare = server.wire();
    bare.open();
    server.signal(Signal::SIGTERM);
    alice.expect_stream_error("system-shutdown");
    bare.expect_stream_error("system-shutdown");
    assert!(server.wait_for_exit().success());
}

/// A session that is bound while the server goes through those that there are is told as well,
/// at whatever moment that happens.
#[test]
fn a_client_that_binds_while_the_server_stops_is_told_too() {
    let mut server = Server::start();
    server.add("alice");
    let mut clients: Vec<Client> = (0..12).map(|_| server.authenticated("alice")).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        if n == 6 {
            server.signal(Signal::SIGTERM);
        }
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        // Who was told before it asks may be gone already.
        drop(client.try_send_bytes(bind.as_bytes()));
    }
    for client in &mut clients {
        let told = client.until_end();
        let is_error = |seen: &Seen| match seen {
            Seen::Element(element) => element.stream_error() == Some("system-shutdown"),
            _ => false,
        };
        assert!(told.iter().any(is_error), "{told:?}");
    }
    assert!(server.wait_for_exit().success());
}

#[test]
fn an_encoding_other_than_utf_8_is_unsupported() {
    let header = header_to(DOMAIN).replace("version='1.0'?>", "version='1.0' encoding='UTF-16'?>");
    before_tls(&header, "unsupported-encoding");
}

#[test]
fn an_unknown_stanza_is_unsupported() {
    after_login("<pubsub xmlns='jabber:client'/>", "unsupported-stanza-type");
}

#[test]
fn an_unknown_element_in_an_unknown_namespace_is_unsupported() {
    after_login("<x xmlns='urn:nobody:knows'/>", "unsupported-stanza-type");
}

#[test]
fn a_version_below_1_0_is_unsupported() {
    let header = header_to(DOMAIN);
    before_tls(
        &header.replace(" version='1.0' xml", " version='0.9' xml"),
        "unsupported-version",
    );
    before_tls(
        &header.replace(" version='1.0' xml", " xml"),
        "unsupported-version",
    );
}

#[test]
fn a_version_above_ours_is_answered_with_ours() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.send(&header_to(DOMAIN).replace(" version='1.0' xml", " version='1.7' xml"));
    assert_eq!(wire.header().attr("version"), Some("1.0"));
    assert!(wire.element().is("features", ns::STREAM));
}

#[test]
fn a_stream_error_speaks_of_the_stream_even_where_the_header_was_bad() {
    let server = Server::start();
    let mut wire = server.wire();
    wire.send(&header_to("other.example"));
    let header = wire.header();
    assert!(header.is("stream", ns::STREAM));
    assert!(header.attr("id").is_some());
    wire.expect_stream_error("host-unknown");
}
