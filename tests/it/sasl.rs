//! SASL: RFC 6120 §6, PLAIN and SCRAM. Channel binding has a module of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::plain;
use crate::support::scram::{Binding, Hash, Scram};
use crate::support::server::PASSWORD;
use crate::support::*;

/// `<auth/>` with this initial response.
pub fn auth(mechanism: &str, message: &str) -> String {
    let message = STANDARD.encode(message);
    format!(
        "<auth xmlns='{}' mechanism='{mechanism}'>{message}</auth>",
        ns::SASL
    )
}

/// `<response/>` with this message.
pub fn response(message: &str) -> String {
    let message = STANDARD.encode(message);
    format!("<response xmlns='{}'>{message}</response>", ns::SASL)
}

/// The message in a `<challenge/>` or `<success/>`.
pub fn message_of(element: &Element) -> String {
    let bytes = STANDARD.decode(element.text()).expect("base64");
    String::from_utf8(bytes).expect("UTF-8")
}

/// The next element is a challenge; returns its message.
#[track_caller]
pub fn challenge(wire: &mut Wire) -> String {
    let element = wire.element();
    assert!(element.is("challenge", ns::SASL), "got {element}");
    message_of(&element)
}

/// Runs SCRAM to its end, and returns the last element.
#[track_caller]
pub fn scram(wire: &mut Wire, mechanism: &str, exchange: &mut Scram) -> Element {
    wire.send(&auth(mechanism, &exchange.first()));
    let first = wire.element();
    if !first.is("challenge", ns::SASL) {
        return first;
    }
    let last = exchange.last(&message_of(&first));
    wire.send(&response(&last));
    wire.element()
}

/// Names of the mechanisms offered.
pub fn mechanisms(features: &Element) -> Vec<String> {
    let offered = features.must("mechanisms", ns::SASL);
    offered
        .all("mechanism", ns::SASL)
        .iter()
        .map(|mechanism| mechanism.text())
        .collect()
}

#[track_caller]
fn refused(server: &Server, sent: &str, condition: &str) {
    let (mut wire, _) = server.stream();
    wire.send(sent);
    let answer = wire.element();
    assert_eq!(answer.sasl_failure(), Some(condition), "got {answer}");
}

#[test]
fn all_mechanisms_are_offered_the_strongest_first() {
    let server = Server::start();
    let (_, features) = server.stream();
    let mut offered = mechanisms(&features);
    assert_eq!(offered[0], "SCRAM-SHA-256-PLUS");
    assert_eq!(offered[4], "PLAIN");
    offered.sort();
    assert_eq!(
        offered,
        [
            "PLAIN",
            "SCRAM-SHA-1",
            "SCRAM-SHA-1-PLUS",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256-PLUS"
        ]
    );
}

#[test]
fn plain_logs_in() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.expect_nothing();
}

#[test]
fn scram_logs_in_by_both_hashes_and_the_server_proves_itself() {
    let server = Server::start();
    server.add("alice");
    for (mechanism, hash) in [("SCRAM-SHA-256", Hash::Sha256), ("SCRAM-SHA-1", Hash::Sha1)] {
        let (mut wire, _) = server.stream();
        let mut exchange = Scram::new(hash, "alice", PASSWORD, &Binding::None);
        let success = scram(&mut wire, mechanism, &mut exchange);
        assert!(success.is("success", ns::SASL), "got {success}");
        assert!(
            exchange.is_servers_proof(&message_of(&success)),
            "{success}"
        );
        let mut alice = Client::after_success(wire, "alice");
        alice.bind(None);
    }
}

#[test]
fn scram_with_a_wrong_password_is_not_authorized() {
    let server = Server::start();
    server.add("alice");
    for (mechanism, hash) in [("SCRAM-SHA-256", Hash::Sha256), ("SCRAM-SHA-1", Hash::Sha1)] {
        let (mut wire, _) = server.stream();
        let mut exchange = Scram::new(hash, "alice", "wrong", &Binding::None);
        let failure = scram(&mut wire, mechanism, &mut exchange);
        assert_eq!(failure.sasl_failure(), Some("not-authorized"));
    }
}

#[test]
fn scram_uses_at_least_ten_thousand_iterations() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    assert!(iterations(&challenge(&mut wire)) >= 10_000);
}

fn iterations(server_first: &str) -> u32 {
    let found = server_first
        .split(',')
        .find_map(|part| part.strip_prefix("i="));
    found.and_then(|number| number.parse().ok()).expect("i=")
}

fn salt(server_first: &str) -> String {
    let found = server_first
        .split(',')
        .find_map(|part| part.strip_prefix("s="));
    found.expect("s=").to_owned()
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let server = Server::start();
    server.add("alice");
    let mut answers = Vec::new();
    for name in ["alice", "nobody"] {
        let (mut wire, _) = server.stream();
        wire.send(&plain("", name, "wrong"));
        answers.push(wire.element());
    }
    assert_eq!(answers[0].sasl_failure(), Some("not-authorized"));
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn scram_answers_an_unknown_user_with_a_salt_that_does_not_change() {
    let server = Server::start();
    server.add("alice");
    let first_of = |name: &str| {
        let (mut wire, _) = server.stream();
        let exchange = Scram::new(Hash::Sha256, name, "wrong", &Binding::None);
        wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
        challenge(&mut wire)
    };
    let (alice, nobody, again) = (first_of("alice"), first_of("nobody"), first_of("nobody"));
    assert_eq!(salt(&nobody), salt(&again));
    assert_ne!(salt(&nobody), salt(&first_of("somebody")));
    assert_eq!(salt(&nobody).len(), salt(&alice).len());
    assert_eq!(iterations(&nobody), iterations(&alice));
}

#[test]
fn the_salt_of_an_unknown_user_survives_a_restart() {
    let mut server = Server::start();
    let first = |server: &Server| {
        let (mut wire, _) = server.stream();
        let exchange = Scram::new(Hash::Sha256, "nobody", "wrong", &Binding::None);
        wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
        salt(&challenge(&mut wire))
    };
    let before = first(&server);
    server.kill();
    server.run();
    assert_eq!(before, first(&server));
}

#[test]
fn scram_with_an_unknown_user_fails_at_the_end_like_a_wrong_password() {
    let server = Server::start();
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "nobody", PASSWORD, &Binding::None);
    let failure = scram(&mut wire, "SCRAM-SHA-256", &mut exchange);
    assert_eq!(failure.sasl_failure(), Some("not-authorized"));
}

#[test]
fn an_authorization_identity_must_be_the_authenticated_one() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let (mut wire, _) = server.stream();
    wire.send(&plain("alice@cairn.example", "alice", PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
    refused(
        &server,
        &plain("bob@cairn.example", "alice", PASSWORD),
        "invalid-authzid",
    );
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::with_authzid(
        Hash::Sha256,
        "alice",
        PASSWORD,
        &Binding::None,
        "bob@cairn.example",
    );
    let failure = scram(&mut wire, "SCRAM-SHA-256", &mut exchange);
    assert_eq!(failure.sasl_failure(), Some("invalid-authzid"));
}

#[test]
fn scram_accepts_the_authenticated_identity_as_authorization_identity() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let authzid = "alice@cairn.example";
    let mut exchange =
        Scram::with_authzid(Hash::Sha256, "alice", PASSWORD, &Binding::None, authzid);
    let success = scram(&mut wire, "SCRAM-SHA-256", &mut exchange);
    assert!(success.is("success", ns::SASL), "got {success}");
}

#[test]
fn the_name_is_prepared_before_it_is_looked_up() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    wire.send(&plain("", "ALICE", PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
    let mut alice = Client::after_success(wire, "alice");
    alice.bind(Some("a"));
    assert_eq!(alice.jid, "alice@cairn.example/a");
}

#[test]
fn a_password_means_the_same_in_every_unicode_form() {
    let server = Server::start();
    server.add_with_password("alice", "caf\u{e9} au lait");
    for password in ["caf\u{e9} au lait", "cafe\u{301} au lait"] {
        let (mut wire, _) = server.stream();
        wire.send(&plain("", "alice", password));
        assert!(wire.element().is("success", ns::SASL), "{password:?}");
    }
}

#[test]
fn a_name_with_comma_or_equals_sign_is_unescaped() {
    // `,` and `=` cannot both stand in a localpart of RFC 7622, but they can.
    let server = Server::start();
    server.add("a=b,c");
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "a=b,c", PASSWORD, &Binding::None);
    let success = scram(&mut wire, "SCRAM-SHA-256", &mut exchange);
    assert!(success.is("success", ns::SASL), "got {success}");
}

#[test]
fn a_message_that_is_not_base64_is_incorrect_encoding() {
    let server = Server::start();
    for message in ["!!!", "YQ", "YQ=a", "Y Q=="] {
        refused(
            &server,
            &format!(
                "<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>",
                ns::SASL
            ),
            "incorrect-encoding",
        );
    }
}

#[test]
fn a_malformed_message_is_malformed_request() {
    let server = Server::start();
    server.add("alice");
    for message in ["alice", "\0alice", "\0\0", "\0alice\0", "\0alice\0x\0y"] {
        refused(&server, &auth("PLAIN", message), "malformed-request");
    }
    for message in [
        "",
        "n",
        "n,,",
        "n,,n=alice",
        "x,,n=alice,r=abc",
        "n,,m=x,n=alice,r=abc",
    ] {
        let message = if message.is_empty() { "," } else { message };
        refused(
            &server,
            &auth("SCRAM-SHA-256", message),
            "malformed-request",
        );
    }
}

#[test]
fn an_unknown_mechanism_is_invalid_mechanism() {
    let server = Server::start();
    for mechanism in ["DIGEST-MD5", "ANONYMOUS", "scram-sha-256", ""] {
        refused(&server, &auth(mechanism, "x"), "invalid-mechanism");
    }
}

#[test]
fn a_client_can_abort_and_try_again() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    challenge(&mut wire);
    wire.send(&format!("<abort xmlns='{}'/>", ns::SASL));
    assert_eq!(wire.element().sasl_failure(), Some("aborted"));
    wire.send(&plain("", "alice", PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn a_client_can_try_again_after_a_failure() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    wire.send(&plain("", "alice", "wrong"));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    wire.send(&plain("", "alice", PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
}

/// RFC 6120 §6.4.5: so many failures may be followed by another try; the next ends the stream.
#[track_caller]
fn is_closed_after_retries(server: &Server, retries: u32) {
    let (mut wire, _) = server.stream();
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    for _ in 0..=retries {
        wire.send(&abort);
        assert_eq!(wire.element().sasl_failure(), Some("aborted"));
    }
    wire.expect_stream_error("policy-violation");
}

#[test]
fn a_failure_after_three_retries_ends_the_stream_with_policy_violation() {
    is_closed_after_retries(&Server::start(), 3);
}

#[test]
fn the_number_of_retries_is_what_is_configured() {
    for retries in [2, 300] {
        let server = Server::with(&[
            ("limits.authentication_attempts", &retries.to_string()),
            ("limits.unauthenticated_bytes", "100000"),
            ("limits.unauthenticated_elements", "1000"),
        ]);
        is_closed_after_retries(&server, retries);
    }
}

#[test]
fn wrong_passwords_are_counted_as_failures() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    for _ in 0..4 {
        wire.send(&plain("", "alice", "wrong"));
        assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    }
    wire.expect_stream_error("policy-violation");
}

#[test]
fn an_auth_without_initial_response_is_asked_for_it() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    wire.send(&format!("<auth xmlns='{}' mechanism='PLAIN'/>", ns::SASL));
    assert_eq!(challenge(&mut wire), "");
    wire.send(&response(&format!("\0alice\0{PASSWORD}")));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn an_initial_response_of_an_equals_sign_is_empty_and_not_absent() {
    let server = Server::start();
    refused(
        &server,
        &format!("<auth xmlns='{}' mechanism='PLAIN'>=</auth>", ns::SASL),
        "malformed-request",
    );
}

#[test]
fn a_response_without_auth_is_refused() {
    let server = Server::start();
    let (mut wire, _) = server.stream();
    wire.send(&response("x"));
    assert_eq!(wire.element().sasl_failure(), Some("malformed-request"));
}

#[test]
fn a_scram_proof_cannot_be_used_twice() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    let last = exchange.last(&challenge(&mut wire));
    wire.cut();
    let (mut wire, _) = server.stream();
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    challenge(&mut wire);
    wire.send(&response(&last));
    assert!(wire.element().sasl_failure().is_some());
}

#[test]
fn a_scram_nonce_that_was_changed_is_refused() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    let last = exchange.last(&challenge(&mut wire));
    wire.send(&response(&last.replacen("r=", "r=x", 1)));
    assert!(wire.element().sasl_failure().is_some());
}

#[test]
fn a_scram_gs2_header_that_was_changed_is_refused() {
    let server = Server::start();
    server.add("alice");
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "alice", PASSWORD, &Binding::None);
    // The exchange computes its proof over `n,,`; what went to the server was `n,a=…,`.
    let changed = exchange
        .first()
        .replacen("n,,", "n,a=alice@cairn.example,", 1);
    wire.send(&auth("SCRAM-SHA-256", &changed));
    let last = exchange.last(&challenge(&mut wire));
    wire.send(&response(&last));
    assert!(wire.element().sasl_failure().is_some());
}

#[test]
fn an_account_that_keeps_argon2id_offers_plain_alone() {
    let server = Server::with(&[("auth.store", "\"argon2id\"")]);
    server.add("alice");
    let (mut wire, features) = server.stream();
    assert_eq!(mechanisms(&features), ["PLAIN"]);
    wire.send(&plain("", "alice", "wrong"));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    wire.send(&plain("", "alice", PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn a_changed_password_is_the_only_one_that_logs_in() {
    let server = Server::start();
    server.add("alice");
    server.cli(
        &["user", "passwd", "--password-stdin", "alice@cairn.example"],
        "another one\n",
    );
    refused(&server, &plain("", "alice", PASSWORD), "not-authorized");
    let (mut wire, _) = server.stream();
    wire.send(&plain("", "alice", "another one"));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn a_password_is_in_no_line_of_the_log() {
    let server = Server::with(&[("log.level", "\"trace\"")]);
    server.add("alice");
    let mut alice = server.online("alice", "a");
    alice.say("alice@cairn.example", "a body that nobody logs");
    alice.settle();
    let secret = STANDARD.encode(format!("\0alice\0{PASSWORD}"));
    for line in server.log() {
        let leaks = [PASSWORD, "a body that nobody logs", &secret];
        assert!(!leaks.iter().any(|leak| line.contains(leak)), "{line}");
    }
}
