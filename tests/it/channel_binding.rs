//! Channel binding: RFC 5929, RFC 9266, XEP-0440, XEP-0474, with our own client. The same against
//! an independent implementation is in `real_clients`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::HandshakeKind;

use super::sasl::{auth, mechanisms, message_of, scram};
use super::tls::{server_with_certificate, write_certificate};
use crate::support::scram::{Binding, Hash, Scram};
use crate::support::server::PASSWORD;
use crate::support::*;

const SASL_CB: &str = "urn:xmpp:sasl-cb:0";

/// What this TLS connection exports for `tls-exporter` (RFC 9266 §2): the context is an empty
/// string, which TLS 1.2 tells from none.
fn exporter(wire: &Wire) -> Binding {
    let data = wire
        .tls()
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .expect("a finished handshake");
    Binding::To {
        name: "tls-exporter",
        data: data.to_vec(),
    }
}

/// The hash of the certificate for `tls-server-end-point` (RFC 5929 §4); ours are signed with
/// ECDSA and SHA-256.
fn end_point(tls: &Tls) -> Binding {
    let certificate = tls.certificate().expect("a full handshake has been made");
    Binding::To {
        name: "tls-server-end-point",
        data: digest(&SHA256, &certificate).as_ref().to_vec(),
    }
}

fn bindings(features: &Element) -> Vec<String> {
    let offered = features.must("sasl-channel-binding", SASL_CB);
    offered
        .children()
        .filter_map(|child| child.attr("type").map(str::to_owned))
        .collect()
}

/// Logs in by a -PLUS mechanism on a fresh stream of this connection.
#[track_caller]
fn log_in(wire: &mut Wire, mechanism: &str, hash: Hash, binding: &Binding) -> Element {
    let mut exchange = Scram::new(hash, "alice", PASSWORD, binding);
    let answer = scram(wire, mechanism, &mut exchange);
    if answer.is("success", ns::SASL) {
        assert!(exchange.is_servers_proof(&message_of(&answer)));
    }
    answer
}

fn server() -> Server {
    let server = Server::start();
    server.add("alice");
    server
}

#[test]
fn both_bindings_are_announced() {
    let server = server();
    let (_, features) = server.stream();
    let mut offered = bindings(&features);
    offered.sort();
    assert_eq!(offered, ["tls-exporter", "tls-server-end-point"]);
}

#[test]
fn plus_mechanisms_bind_to_the_exporter_in_both_versions_of_tls() {
    let server = server();
    for tls in [Tls::version_1_3(), Tls::version_1_2()] {
        for (mechanism, hash) in [
            ("SCRAM-SHA-256-PLUS", Hash::Sha256),
            ("SCRAM-SHA-1-PLUS", Hash::Sha1),
        ] {
            let mut wire = server.tls_wire_with(&tls);
            wire.open();
            let binding = exporter(&wire);
            let answer = log_in(&mut wire, mechanism, hash, &binding);
            assert!(answer.is("success", ns::SASL), "{mechanism}: {answer}");
        }
    }
}

#[test]
fn plus_mechanisms_bind_to_the_certificate() {
    let server = server();
    let tls = Tls::new();
    let mut wire = server.tls_wire_with(&tls);
    wire.open();
    let answer = log_in(
        &mut wire,
        "SCRAM-SHA-256-PLUS",
        Hash::Sha256,
        &end_point(&tls),
    );
    assert!(answer.is("success", ns::SASL), "got {answer}");
}

#[test]
fn binding_works_behind_starttls() {
    let server = server();
    let mut wire = server.wire();
    wire.open();
    wire.negotiate_tls(&Tls::new());
    wire.open();
    let binding = exporter(&wire);
    let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
    assert!(answer.is("success", ns::SASL), "got {answer}");
}

#[test]
fn a_wrong_binding_is_refused() {
    let server = server();
    for name in ["tls-exporter", "tls-server-end-point"] {
        let data = vec![7; 32];
        let (mut wire, _) = server.stream();
        let binding = Binding::To { name, data };
        let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
        assert_eq!(answer.sasl_failure(), Some("not-authorized"), "{name}");
    }
}

#[test]
fn the_binding_of_another_connection_is_refused() {
    let server = server();
    let (victim, _) = server.stream();
    let binding = exporter(&victim);
    let (mut wire, _) = server.stream();
    let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
    assert_eq!(answer.sasl_failure(), Some("not-authorized"));
}

#[test]
fn a_binding_that_was_not_offered_is_refused() {
    let server = server();
    let (mut wire, _) = server.stream();
    let binding = Binding::To {
        name: "tls-unique",
        data: vec![1; 12],
    };
    let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
    assert!(answer.sasl_failure().is_some(), "got {answer}");
}

#[test]
fn a_plus_mechanism_without_binding_is_refused() {
    let server = server();
    for binding in [Binding::None, Binding::NotOffered] {
        let (mut wire, _) = server.stream();
        let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
        assert!(answer.sasl_failure().is_some(), "{binding:?}: {answer}");
    }
}

#[test]
fn a_plain_mechanism_with_binding_is_refused() {
    let server = server();
    let (mut wire, _) = server.stream();
    let binding = exporter(&wire);
    let answer = log_in(&mut wire, "SCRAM-SHA-256", Hash::Sha256, &binding);
    assert!(answer.sasl_failure().is_some(), "got {answer}");
}

#[test]
fn a_client_that_was_told_there_is_no_binding_is_refused() {
    // RFC 5802 §6: `y` while the server does offer -PLUS means that somebody changed the list.
    let server = server();
    let (mut wire, _) = server.stream();
    let answer = log_in(
        &mut wire,
        "SCRAM-SHA-256",
        Hash::Sha256,
        &Binding::NotOffered,
    );
    assert!(answer.sasl_failure().is_some(), "got {answer}");
}

#[test]
fn the_offers_are_hashed_into_the_challenge() {
    // XEP-0474 §5: mechanisms, and the bindings of XEP-0440 behind them, sorted.
    let server = server();
    let (mut wire, features) = server.stream();
    let exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    let challenge = super::sasl::challenge(&mut wire);
    let (mut offered, mut types) = (mechanisms(&features), bindings(&features));
    offered.sort();
    types.sort();
    let list = format!("{}\u{1f}{}", offered.join("\u{1e}"), types.join("\u{1e}"));
    let hash = STANDARD.encode(digest(&SHA256, list.as_bytes()));
    let found = challenge
        .split(',')
        .find_map(|part| part.strip_prefix("h="));
    assert_eq!(found, Some(hash.as_str()), "in {challenge}");
}

#[test]
fn binding_works_on_a_resumed_tls_session() {
    let server = server();
    for tls in [Tls::version_1_3(), Tls::version_1_2()] {
        let mut first = server.tls_wire_with(&tls);
        first.open();
        first.send("</stream:stream>");
        first.until_end();
        for pick in [exporter, |_: &Wire| Binding::None] {
            let mut wire = server.tls_wire_with(&tls);
            wire.open();
            assert_eq!(wire.tls().handshake_kind(), Some(HandshakeKind::Resumed));
            let binding = match pick(&wire) {
                Binding::None => end_point(&tls),
                binding => binding,
            };
            let answer = log_in(&mut wire, "SCRAM-SHA-256-PLUS", Hash::Sha256, &binding);
            assert!(answer.is("success", ns::SASL), "{binding:?}: {answer}");
            wire.send("</stream:stream>");
        }
    }
}

#[test]
fn after_a_reload_the_binding_is_to_the_new_certificate() {
    let server = server_with_certificate();
    server.add("alice");
    let tls = Tls::new();
    let mut before = server.tls_wire_with(&tls);
    before.open();
    let old = end_point(&tls);
    write_certificate(&server);
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["certificate was read again"]);
    // The stream from before still binds to the certificate that it was made with.
    let answer = log_in(&mut before, "SCRAM-SHA-256-PLUS", Hash::Sha256, &old);
    assert!(answer.is("success", ns::SASL), "got {answer}");
    // The ticket from before is worth nothing, so the new certificate is shown.
    let mut after = server.tls_wire_with(&tls);
    after.open();
    assert_eq!(after.tls().handshake_kind(), Some(HandshakeKind::Full));
    let answer = log_in(&mut after, "SCRAM-SHA-256-PLUS", Hash::Sha256, &old);
    assert_eq!(answer.sasl_failure(), Some("not-authorized"));
    let mut after = server.tls_wire_with(&tls);
    after.open();
    let new = end_point(&tls);
    let answer = log_in(&mut after, "SCRAM-SHA-256-PLUS", Hash::Sha256, &new);
    assert!(answer.is("success", ns::SASL), "got {answer}");
}
