//! How a certificate comes, is renewed, and does not come.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

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
        // An authority that refuses nonces is asked again (RFC 8555 §6.5), more often than
        // the library does by itself.
        environment: &[("PEBBLE_WFE_NONCEREJECT", "50")],
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

/// What is due, and whether the authority's own certificate is valid, nobody knows.
#[test]
fn nothing_is_asked_for_by_a_clock_that_is_known_to_be_wrong() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    let mut server = pebble.server_with_http();
    std::fs::write(server.directory().join("clock-is-wrong"), "").expect("it is ours");
    let mut command = server.command(&["serve"]);
    command.env("CAIRN_TEST_MACHINE", server.directory());
    server.run_as(command);
    server.add("juliet");
    drop(server.online("juliet", "balcony"));
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["the certificate was read again"]);
    let asks = |line: &String| line.contains("asking for a certificate");
    assert!(!server.log().iter().any(asks), "it asks");
    server.stop();
    server.run();
    wait_for_certificate(&server);
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
    // On a busy machine the one from before may have been a renewed one already.
    let deadline = Instant::now() + wire::PATIENCE;
    while shown(&server).1 == before {
        assert!(Instant::now() < deadline, "no other certificate is shown");
    }
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
fn another_contact_reaches_the_authority_after_a_restart() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    wait_for_certificate(&server);
    let other = "mailto:other@cairn.example";
    server.stop();
    server.set("acme.contact", &format!("{other:?}"));
    server.run();
    server.wait_for_log(&["the authority has another contact", other]);
    pebble.wait_for_request("/my-account/");
    // What it refuses is told, and nothing is lost by it.
    server.stop();
    server.set("acme.contact", "\"mailto:nobody@\"");
    server.run();
    server.wait_for_log(&["the contact stays as it was", "mailto:nobody@"]);
    assert!(shown(&server).0.contains("Pebble Intermediate CA"));
    // What it has is not told again.
    server.stop();
    server.set("acme.contact", &format!("{other:?}"));
    server.run();
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["the certificate was read again"]);
    let is_told = |line: &String| line.contains("another contact");
    assert!(!server.log().iter().any(is_told), "it is told again");
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
    let administrator = format!("juliet@{DOMAIN}");
    server.cli(
        &["user", "add", "--admin", "--password-stdin", &administrator],
        &format!("{}\n", server::PASSWORD),
    );
    server.run();
    let line = server.wait_for_log(&["no certificate"]);
    for part in ["port 80", "must be open to the internet", "5 minutes"] {
        assert!(line.contains(part), "{line}");
    }
    let told = server.cli(&["cert", "show"], "");
    assert!(told.contains("must be open to the internet"), "{told}");
    // The administrator hears of it, now or later.
    let mut client = server.online("juliet", "balcony");
    let message = client.message();
    assert_eq!(message.attr("from"), Some(DOMAIN));
    let body = message.body().expect("a text");
    assert!(
        body.contains("no new certificate for cairn.example"),
        "{body}"
    );
    assert!(body.contains("must be open to the internet"), "{body}");
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

#[test]
fn plain_http_answers_nothing_but_challenges() {
    let server = Server::with(&[("listen.http", "[\"127.0.0.1:0\"]")]);
    let line = server.wait_for_log(&["listening", "name=\"http\""]);
    let address = line.split("address=").nth(1).expect("an address");
    let ask = |request: &str| {
        let mut tcp = TcpStream::connect(address.trim()).expect("it listens");
        tcp.set_read_timeout(Some(wire::PATIENCE)).expect("a time");
        // Who is refused early may not be listened to.
        let _ = tcp.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    for request in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /.well-known/acme-challenge/abc HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /.well-known/acme-challenge/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "POST /admin/users HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
    ] {
        let answer = ask(&request);
        assert!(answer.starts_with("HTTP/1.1 404"), "{request}{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    for request in [long, many, "no HTTP\r\n\r\n".to_owned()] {
        let answer = ask(&request);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}
