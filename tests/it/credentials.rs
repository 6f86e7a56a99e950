//! What becomes of passwords when `[auth]` changes, and what strangers see of that.

use crate::sasl::{auth, challenge, scram};
use crate::support::scram::{Binding, Hash, Scram};
use crate::support::server::PASSWORD;
use crate::support::*;

/// A server with alice, started again with another value of this key.
fn changed(key: &str, before: &str, after: &str) -> Server {
    let mut server = Server::with(&[(key, before)]);
    server.add("alice");
    server.stop();
    server.set(key, after);
    server.run();
    server
}

/// The iterations that SCRAM tells of a name.
#[track_caller]
fn iterations(server: &Server, name: &str, hash: Hash) -> u32 {
    let (mut wire, _) = server.stream();
    let exchange = Scram::new(hash, name, PASSWORD, &Binding::None);
    let mechanism = match hash {
        Hash::Sha1 => "SCRAM-SHA-1",
        Hash::Sha256 => "SCRAM-SHA-256",
    };
    wire.send(&auth(mechanism, &exchange.first()));
    let first = challenge(&mut wire);
    let told = first.split(',').find_map(|part| part.strip_prefix("i="));
    told.and_then(|told| told.parse().ok()).expect("a number")
}

#[track_caller]
fn log_in_by_scram(server: &Server) -> Element {
    log_in_by(server, "SCRAM-SHA-256", Hash::Sha256)
}

#[track_caller]
fn log_in_by(server: &Server, mechanism: &str, hash: Hash) -> Element {
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(hash, "alice", PASSWORD, &Binding::None);
    scram(&mut wire, mechanism, &mut exchange)
}

#[track_caller]
fn fail_by_plain(server: &Server, name: &str) {
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", name, "wrong"));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
}

fn export(server: &Server) -> String {
    server.cli(&["store", "export"], "")
}

#[test]
fn iterations_are_raised_at_a_plain_log_in_and_strangers_look_alike_before_and_after() {
    let server = changed("auth.scram_iterations", "10000", "20000");
    let told = |name: &str| [Hash::Sha256, Hash::Sha1].map(|hash| iterations(&server, name, hash));
    assert_eq!((told("alice"), told("nobody")), ([10_000; 2], [10_000; 2]));
    assert!(log_in_by_scram(&server).is("success", ns::SASL));
    fail_by_plain(&server, "alice");
    assert_eq!((told("alice"), told("nobody")), ([10_000; 2], [10_000; 2]));
    server.login("alice", "a").expect_nothing();
    assert_eq!((told("alice"), told("nobody")), ([20_000; 2], [20_000; 2]));
    assert!(log_in_by_scram(&server).is("success", ns::SASL));
    server.login("alice", "a").expect_nothing();
}

#[test]
fn keys_for_scram_give_way_to_a_hash_at_a_plain_log_in() {
    let mut server = changed("auth.store", "\"scram\"", "\"argon2id\"");
    fail_by_plain(&server, "alice");
    assert!(export(&server).contains("<stored-key>"));
    server.login("alice", "a").expect_nothing();
    let exported = export(&server);
    assert!(!exported.contains("<stored-key>"), "{exported}");
    assert!(exported.contains("$argon2id$"), "{exported}");
    server.stop();
    server.run();
    server.login("alice", "a").expect_nothing();
    fail_by_plain(&server, "alice");
}

#[test]
fn a_hash_gives_way_to_keys_for_scram_at_a_plain_log_in() {
    let server = changed("auth.store", "\"argon2id\"", "\"scram\"");
    let refused = log_in_by_scram(&server);
    assert_eq!(refused.sasl_failure(), Some("not-authorized"));
    server.login("alice", "a").expect_nothing();
    assert!(log_in_by_scram(&server).is("success", ns::SASL));
    assert!(!export(&server).contains("$argon2id$"));
}

/// As it comes from a server that keeps keys for SHA-1 only.
#[test]
fn an_imported_account_with_keys_for_sha_1_alone_logs_in_and_gets_better_ones() {
    let server = Server::start();
    server.add("alice");
    let export = export(&server);
    let from = export.find("<scram-credentials").expect("keys");
    let until = export.rfind("<scram-credentials").expect("other keys");
    let export = format!("{}{}", &export[..from], &export[until..]);
    assert!(export.contains("'SCRAM-SHA-1'") && !export.contains("SCRAM-SHA-256"));
    server.cli(&["user", "remove", "alice"], "");
    let said = server.cli(&["store", "import", "-"], &export);
    assert!(
        said.contains("1 of the accounts have keys for SCRAM-SHA-1 alone"),
        "{said}"
    );
    let by_sha1 = || log_in_by(&server, "SCRAM-SHA-1", Hash::Sha1);
    assert!(by_sha1().is("success", ns::SASL));
    // The server has not seen the password, so there are no other keys.
    assert_eq!(
        log_in_by_scram(&server).sasl_failure(),
        Some("not-authorized")
    );
    fail_by_plain(&server, "alice");
    let told = |name: &str| [Hash::Sha256, Hash::Sha1].map(|hash| iterations(&server, name, hash));
    assert_eq!(told("alice"), told("nobody"));
    server.login("alice", "a").expect_nothing();
    assert!(log_in_by_scram(&server).is("success", ns::SASL));
    assert!(by_sha1().is("success", ns::SASL));
}
