//! TLS: versions, resumption, SNI, certificates and their reload.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion};

use crate::support::*;

/// Writes a fresh self-signed certificate where the server of [`server_with_certificate`] reads it.
pub fn write_certificate(server: &Server) {
    let pair = rcgen::generate_simple_self_signed(vec![DOMAIN.to_owned()]).expect("a certificate");
    let directory = server.directory();
    std::fs::write(directory.join("cert.pem"), pair.cert.pem()).expect("ours");
    std::fs::write(directory.join("key.pem"), pair.signing_key.serialize_pem()).expect("ours");
}

/// A server whose certificate is in files.
pub fn server_with_certificate() -> Server {
    let mut server = Server::prepare(&[
        ("tls.certificate", "\"cert.pem\""),
        ("tls.key", "\"key.pem\""),
    ]);
    write_certificate(&server);
    server.run();
    server
}

#[test]
fn tls_1_3_and_1_2_are_spoken() {
    let server = Server::start();
    for (tls, version) in [
        (Tls::version_1_3(), ProtocolVersion::TLSv1_3),
        (Tls::version_1_2(), ProtocolVersion::TLSv1_2),
    ] {
        let mut wire = server.tls_wire_with(&tls);
        wire.open();
        assert_eq!(wire.tls().protocol_version(), Some(version));
    }
}

#[test]
fn tls_1_1_is_refused() {
    let server = Server::start();
    let mut wire = Wire::connect(server.c2s_tls());
    // A ClientHello of TLS 1.1 with one suite that every server of its time had.
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut hello = vec![1, 0, 0, u8::try_from(body.len()).expect("short")];
    hello.extend(&body);
    let mut record = vec![22, 3, 1, 0, u8::try_from(hello.len()).expect("short")];
    record.extend(&hello);
    wire.try_send_bytes(&record).expect("the server reads");
    let mut answer = [0; 64];
    let count = wire.read_raw(&mut answer).unwrap_or(0);
    assert!(
        count == 0 || answer[0] == 21,
        "an alert: {:?}",
        &answer[..count]
    );
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    let server = Server::start();
    for tls in [Tls::version_1_3(), Tls::version_1_2()] {
        let mut wire = server.tls_wire_with(&tls);
        wire.open();
        assert_eq!(wire.tls().handshake_kind(), Some(HandshakeKind::Full));
        wire.send("</stream:stream>");
        wire.until_end();
        let mut wire = server.tls_wire_with(&tls);
        wire.open();
        assert_eq!(wire.tls().handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_session_is_resumed_between_starttls_and_direct_tls() {
    let server = Server::start();
    let tls = Tls::new();
    let mut wire = server.tls_wire_with(&tls);
    wire.open();
    let mut wire = server.wire();
    wire.open();
    wire.negotiate_tls(&tls);
    wire.open();
    assert_eq!(wire.tls().handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn tls_1_2_without_extended_master_secret_is_refused() {
    let server = Server::start();
    let connect = format!("127.0.0.1:{}", server.c2s_tls().port());
    let openssl = |more: &[&str]| {
        Command::new("openssl")
            .args(["s_client", "-connect", &connect, "-tls1_2"])
            .args(more)
            .stdin(Stdio::null())
            .output()
    };
    let Ok(with) = openssl(&[]) else {
        return eprintln!("SKIPPED: openssl is missing");
    };
    let shown = String::from_utf8_lossy(&with.stdout).into_owned();
    assert!(shown.contains("Extended master secret: yes"), "{shown}");
    let python = python::interpreter();
    let Some(_) = python else { return };
    python::run("no_ems.py", &[&server.c2s_tls().port().to_string()]);
}

#[test]
fn a_server_without_certificate_makes_one_and_keeps_it() {
    let mut server = Server::start();
    let seen = |server: &Server| {
        let tls = Tls::new();
        server.tls_wire_with(&tls).open();
        tls.certificate().expect("a certificate")
    };
    let first = seen(&server);
    server.kill();
    server.run();
    assert_eq!(first, seen(&server));
}

#[test]
fn a_certificate_from_a_file_is_shown() {
    let server = server_with_certificate();
    let tls = Tls::new();
    server.tls_wire_with(&tls).open();
    let pem = std::fs::read_to_string(server.directory().join("cert.pem")).expect("ours");
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    assert_eq!(tls.certificate().expect("seen").as_ref(), pem.contents);
}

#[test]
fn a_reload_shows_the_new_certificate_and_drops_no_session() {
    let server = server_with_certificate();
    server.add("alice");
    let mut alice = server.online("alice", "a");
    let before = Tls::new();
    server.tls_wire_with(&before).open();
    write_certificate(&server);
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["certificate was read again"]);
    let after = Tls::new();
    server.tls_wire_with(&after).open();
    assert_ne!(before.certificate(), after.certificate());
    alice.expect_nothing();
}

#[test]
fn a_reload_of_a_broken_certificate_keeps_the_old_one() {
    let server = server_with_certificate();
    let before = Tls::new();
    server.tls_wire_with(&before).open();
    std::fs::write(server.directory().join("cert.pem"), "no certificate").expect("ours");
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["certificate stays as it was"]);
    let after = Tls::new();
    server.tls_wire_with(&after).open();
    assert_eq!(before.certificate(), after.certificate());
}

#[test]
fn an_sni_of_another_name_gets_no_stream_for_it() {
    let server = Server::start();
    let mut wire = Wire::connect(server.c2s_tls());
    if wire.start_tls_as(&Tls::new(), "other.example").is_ok() {
        wire.send(&wire::header_to("other.example"));
        wire.expect_stream_error("host-unknown");
    }
}

#[test]
fn a_client_that_never_says_hello_is_cut_off() {
    let server = Server::with(&[("limits.authentication_s", "1")]);
    let mut wire = Wire::connect(server.c2s_tls());
    let mut buffer = [0; 64];
    assert!(matches!(wire.read_raw(&mut buffer), Ok(0) | Err(_)));
}
