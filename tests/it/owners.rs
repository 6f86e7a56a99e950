//! Whose an account is when its password or its owner changes while somebody logs in.

use crate::sasl::{auth, challenge, message_of, response};
use crate::support::scram::{Binding, Hash, Scram};
use crate::support::server::PASSWORD;
use crate::support::*;

const CAROL: &str = "carol@cairn.example";

/// Gives the name `carol` to somebody else.
fn give_away(server: &Server) {
    server.cli(&["user", "remove", CAROL], "");
    server.add_with_password("carol", "another password");
}

#[track_caller]
fn cannot_bind(client: &mut Client) {
    let payload = format!("<bind xmlns='{}'/>", ns::BIND);
    let (kind, condition) = client.iq_error("set", None, &payload);
    assert_eq!((&*kind, &*condition), ("cancel", "not-allowed"));
}

#[track_caller]
fn cannot_resume(client: &mut Client, previd: &str, h: u32) {
    let answer = client.try_resume(previd, h);
    assert!(answer.is("failed", ns::SM), "got {answer}");
    answer.must("item-not-found", ns::STANZA_ERROR);
}

#[test]
fn the_former_owner_of_a_name_does_not_get_into_the_account_of_the_next() {
    let server = Server::start();
    server.add("alice");
    server.add("carol");
    let mut former = server.authenticated("carol");
    give_away(&server);
    let mut alice = server.login("alice", "a");
    alice.say(CAROL, "for the new carol");
    alice.settle();
    cannot_bind(&mut former);
    let wire = server.tls_wire();
    let mut carol = Client::authenticate(wire, "carol", "another password");
    carol.bind(None);
    carol.present(0);
    carol.message_with_body("for the new carol");
}

#[test]
fn a_log_in_that_is_under_way_does_not_reach_the_next_owner() {
    let server = Server::start();
    server.add("carol");
    let (mut wire, _) = server.stream();
    let mut exchange = Scram::new(Hash::Sha256, "carol", PASSWORD, &Binding::None);
    wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
    let last = exchange.last(&challenge(&mut wire));
    give_away(&server);
    wire.send(&response(&last));
    // The proof was right for the account that it was begun with.
    let success = wire.element();
    assert!(exchange.is_servers_proof(&message_of(&success)));
    cannot_bind(&mut Client::after_success(wire, "carol"));
}

#[test]
fn whoever_knows_only_the_old_password_does_not_bind_after_a_change() {
    let server = Server::start();
    server.add("carol");
    let mut thief = server.authenticated("carol");
    server.cli(
        &["user", "passwd", "--password-stdin", CAROL],
        "another password\n",
    );
    cannot_bind(&mut thief);
}

#[test]
fn whoever_knows_only_the_old_password_does_not_resume_after_a_change() {
    let server = Server::start();
    server.add("carol");
    let mut carol = server.login("carol", "c");
    let id = carol.enable_management(true).expect("an id");
    carol.settle();
    let h = carol.handled;
    carol.cut();
    let mut thief = server.authenticated("carol");
    server.cli(
        &["user", "passwd", "--password-stdin", CAROL],
        "another password\n",
    );
    cannot_resume(&mut thief, &id, h);
    cannot_bind(&mut thief);
    let mut carol = Client::authenticate(server.tls_wire(), "carol", "another password");
    carol.resume(&id, h);
    carol.expect_nothing();
}
