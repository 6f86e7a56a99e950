//! The rules for names.

use super::*;
use crate::crypto::argon2id::Argon2Memory;
use crate::crypto::{Credentials, Password, PasswordCheck, Scheme};
use crate::xep::account::{self, Refusal};

#[test]
fn a_name_is_prepared() {
    let address = account::address(&jid(DOMAIN), "JULIET").expect("a name");
    assert_eq!(address.as_str(), "juliet@verona.example");
}

#[test]
fn a_name_that_looks_like_another_is_refused() {
    let server = Server::new();
    server.accounts(&["\u{e9}mile", "modem"]);
    let check = |username: &str| {
        let address = account::address(&jid(DOMAIN), username).expect("a name");
        account::check_name(&address)?;
        account::check_neighbours(&server.core.store, &address)
    };
    assert_eq!(check("modern"), Ok(()));
    assert_eq!(check("z\u{f6}e"), Ok(()));
    assert_eq!(check("\u{e9}mile"), Ok(()));
    assert_eq!(check("p\u{430}ypal"), Err(Refusal::LookAlike));
    // A dotless i with an acute is taken for one with a dot and an acute.
    server.accounts(&["mar\u{ed}a"]);
    assert_eq!(check("mar\u{131}\u{301}a"), Err(Refusal::LookAlike));
}

#[test]
fn an_account_is_made_once() {
    let server = Server::new();
    let address = jid("juliet@verona.example");
    let password = account::password("what's in a name", &address).expect("a password");
    let credentials = account::credentials(&server.core, DOMAIN, &password);
    let make = || account::create(&server.core.store, &address, &credentials, START_MS);
    assert!(make().is_ok());
    assert_eq!(make(), Err(Refusal::Taken));
}

/// A log-in's check of this password against what the account keeps now.
fn check(server: &Server, typed: &str) -> PasswordCheck {
    let kept = server.core.store.read(|state| {
        let account = state.account("juliet@verona.example").expect("it was made");
        account.credentials()
    });
    let password = Password::prepare(typed).expect("a password");
    PasswordCheck::new(kept.expect("it has some"), password)
}

#[test]
fn two_log_ins_at_once_raise_a_password_once_and_both_get_in() {
    let server = Server::with(|config| config.auth.scram_iterations = 5_000);
    let owner = "juliet@verona.example";
    let password = Password::prepare("what's in a name").expect("a password");
    let old = Scheme::Scram {
        sha1: true,
        iterations: std::num::NonZeroU32::new(4_096).expect("not zero"),
    };
    let mut memory = Argon2Memory::new();
    let credentials = Credentials::new(old, &password, &[7; 32], &mut memory);
    let (core, owner_jid) = (&server.core, jid(owner));
    account::create(&core.store, &owner_jid, &credentials, START_MS).expect("a new account");
    let (one, other) = (
        check(&server, "what's in a name"),
        check(&server, "what's in a name"),
    );
    let wrong = check(&server, "what's in a rose");
    assert_eq!(account::verify(core, &owner_jid, &wrong), None);
    let proved = account::verify(core, &owner_jid, &one);
    assert_ne!(proved, Some(credentials.id()));
    assert_eq!(proved, Some(server.proved("juliet")));
    assert_eq!(account::verify(core, &owner_jid, &other), proved);
}

#[test]
fn a_password_that_was_replaced_during_the_check_is_not_put_back() {
    let server = Server::with(|config| config.auth.scram_sha1 = false);
    let owner = "juliet@verona.example";
    let old = Password::prepare("what's in a name").expect("a password");
    let mut memory = Argon2Memory::new();
    let credentials = Credentials::new(Scheme::default(), &old, &[7; 32], &mut memory);
    let core = &server.core;
    account::create(&core.store, &jid(owner), &credentials, START_MS).expect("a new account");
    let under_way = check(&server, "what's in a name");
    let new = Password::prepare("that which we call").expect("a password");
    let replaced = account::credentials(core, DOMAIN, &new);
    let put = core.store.update(|tx| tx.set_credentials(owner, &replaced));
    put.expect("the account exists");
    assert_eq!(account::verify(core, &jid(owner), &under_way), None);
    assert_eq!(server.proved("juliet"), replaced.id());
}
