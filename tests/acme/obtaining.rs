//! How a certificate comes, is renewed, and does not come.

use nix::sys::signal::Signal;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pebble::{Pebble, Ways, wait_for_certificate};
use crate::support::*;

/// Who issued the certificate that clients are shown, and its serial number.
fn shown(server: &Server) -> (String, String) {
    let tls = Tls::new();
    let mut wire = server.tls_wire_with(&tls);
    wire.open();
    let der = tls.certificate().expect("one is shown");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let serial = certificate.raw_serial_as_string();
    (certificate.issuer().to_string(), serial)
}

#[test]
fn the_first_certificate_is_proved_by_http_and_sessions_stay() {
    let Some(mut pebble) = Pebble::prepare() else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    server.wait_for_log(&["no certificate", "cannot be reached"]);
    assert!(!shown(&server).0.contains("Pebble"), "it is self-signed");
    server.add("juliet");
    let mut client = server.online("juliet", "balcony");
    pebble.run(Ways::default());
    server.signal(Signal::SIGHUP);
    wait_for_certificate(&server);
    assert!(shown(&server).0.contains("Pebble Intermediate CA"));
    client.settle();
    let told = server.cli(&["cert", "show"], "");
    assert!(told.contains("the authority that [acme] names"), "{told}");
    assert!(told.contains(DOMAIN), "{told}");
    // It is there after a restart, and nobody is asked again.
    let before = shown(&server).1;
    server.kill();
    pebble.stop();
    server.run();
    assert_eq!(shown(&server).1, before);
}

#[test]
fn the_first_certificate_is_proved_by_tls() {
    let ways = Ways {
        // An authority that refuses every other nonce is asked again (RFC 8555 §6.5).
        environment: &[("PEBBLE_WFE_NONCEREJECT", "30")],
        ..Ways::default()
    };
    let Some(pebble) = Pebble::start(ways) else {
        return;
    };
    let mut server = pebble.server_with_https();
    server.run();
    wait_for_certificate(&server);
    assert!(shown(&server).0.contains("Pebble Intermediate CA"));
    // With the proof gone the interface is what it was.
    assert_eq!(server.http().ask("GET", "/", "", "").status, 404);
    let mut wire = Wire::connect(pebble.https());
    let told = wire.start_tls_as(&Tls::with_alpn(&["acme-tls/1"]), DOMAIN);
    assert!(told.is_err(), "nothing is proved any more");
}

#[test]
fn a_certificate_is_renewed_in_time() {
    let ways = Ways {
        life_s: 6,
        ..Ways::default()
    };
    let Some(pebble) = Pebble::start(ways) else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    wait_for_certificate(&server);
    let before = shown(&server).1;
    server.add("juliet");
    let mut client = server.online("juliet", "balcony");
    server.wait_for_log(&["the renewed certificate is in use"]);
    assert_ne!(shown(&server).1, before);
    client.settle();
}

#[test]
fn another_domain_gets_a_certificate_of_its_own() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    wait_for_certificate(&server);
    server.stop();
    server.set("domain", "\"other.example\"");
    server.run();
    server.wait_for_log(&["the first certificate is in use", "other.example"]);
}

#[test]
fn an_authority_that_cannot_reach_us_is_told_in_plain_words() {
    let ways = Ways {
        is_misled: true,
        ..Ways::default()
    };
    let Some(pebble) = Pebble::start(ways) else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    let line = server.wait_for_log(&["no certificate"]);
    for part in ["port 80", "must be open to the internet", "5 minutes"] {
        assert!(line.contains(part), "{line}");
    }
    // Who starts it again does not make it ask again.
    server.stop();
    server.run();
    assert!(!shown(&server).0.contains("Pebble"));
    let log = server.log();
    assert!(
        !log.iter()
            .any(|line| line.contains("asking for a certificate"))
    );
    // But who sends SIGHUP.
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["asking for a certificate"]);
    server.wait_for_log(&["no certificate", "failures=2"]);
}
