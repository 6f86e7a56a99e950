//! The rules for names.

use super::*;
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
    let credentials = account::credentials(&server.core, &password);
    let make = || account::create(&server.core.store, &address, &credentials, START_MS);
    assert!(make().is_ok());
    assert_eq!(make(), Err(Refusal::Taken));
}
