//! `[listen] https` for HTTP and for clients: which, says the protocol that a client offers.

use crate::support::server::PASSWORD;
use crate::support::*;

const HTTPS: (&str, &str) = ("listen.https", "[\"127.0.0.1:0\"]");

#[track_caller]
fn wire(server: &Server, domain: &str, tls: &Tls) -> Wire {
    Wire::connect_tls_to(server.https(), domain, tls)
}

#[test]
fn clients_and_administrators_share_the_port() {
    let server = Server::with(&[HTTPS]);
    server.add("juliet");
    server.add("romeo");
    let tls = Tls::with_alpn(&["xmpp-client"]);
    let wire = wire(&server, DOMAIN, &tls);
    assert_eq!(wire.tls().alpn_protocol(), Some(&b"xmpp-client"[..]));
    let mut juliet = Client::authenticate(wire, "juliet", PASSWORD);
    juliet.bind(Some("balcony"));
    juliet.present(0);
    let mut romeo = server.online("romeo", "orchard");
    romeo.say("juliet@cairn.example", "by the other door");
    juliet.message_with_body("by the other door");
    assert_eq!(server.http().ask("GET", "/", "", "").status, 404);
    juliet.expect_nothing();
}

#[test]
fn a_client_is_shown_the_certificate_of_the_domain_that_it_names() {
    let server = Server::with(&[HTTPS, ("host", "[{ domain = \"other.example\" }]")]);
    let alpn = ["xmpp-client"];
    let shown = |domain: &str| {
        let tls = Tls::with_alpn(&alpn);
        let mut wire = wire(&server, domain, &tls);
        wire.open().must("mechanisms", ns::SASL);
        tls.certificate().expect("one is shown").to_vec()
    };
    assert_ne!(shown(DOMAIN), shown("other.example"));
}

#[test]
fn nobody_else_is_served_there() {
    let server = Server::with(&[HTTPS]);
    // This server talks with no others, so it is none for them.
    for protocol in ["xmpp-server", "h2", "acme-tls/1"] {
        let mut wire = Wire::connect(server.https());
        let refused = wire.start_tls_as(&Tls::with_alpn(&[protocol]), DOMAIN);
        let said = refused.expect_err(protocol).to_string();
        assert!(said.contains("NoApplicationProtocol"), "{said}");
    }
    let mut wire = Wire::connect(server.https());
    wire.send(&wire::header_to(DOMAIN));
    let mut buffer = [0; 1024];
    while let Ok(1..) = wire.read_raw(&mut buffer) {
        assert_ne!(buffer[0], b'<');
    }
    assert_eq!(server.http().ask("GET", "/", "", "").status, 404);
}

#[test]
fn who_says_nothing_there_is_cut_off_and_so_is_who_does_not_log_in() {
    let server = Server::with(&[HTTPS, ("limits.authentication_s", "1")]);
    let mut silent = Wire::connect(server.https());
    let mut buffer = [0; 16];
    assert!(matches!(silent.read_raw(&mut buffer), Ok(0) | Err(_)));
    server.wait_for_log(&["the TLS handshake took too long"]);
    let mut slow = wire(&server, DOMAIN, &Tls::with_alpn(&["xmpp-client"]));
    slow.open();
    slow.expect_stream_error("connection-timeout");
}
