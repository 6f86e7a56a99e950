//! vCards.

use super::*;

const ASKED: &str = "<vCard xmlns='vcard-temp'/>";
const CARD: &str = "<vCard xmlns='vcard-temp'><FN>Juliet &lt;3</FN><NICKNAME>J</NICKNAME></vCard>";

#[test]
fn a_card_is_everybodys_to_read() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let juliet = server.connect("juliet/balcony");
    assert_eq!(
        juliet.set(CARD),
        "<iq type='result' id='1' to='juliet@verona.example/balcony'/>"
    );
    assert_eq!(
        juliet.get(ASKED),
        format!("<iq type='result' id='1' to='juliet@verona.example/balcony'>{CARD}</iq>")
    );
    juliet.leave();
    assert_eq!(
        romeo.get_of("juliet@verona.example", ASKED),
        format!(
            "<iq type='result' id='1' from='juliet@verona.example' to='romeo@verona.example/orchard'>{CARD}</iq>"
        )
    );
}

#[test]
fn a_card_is_written_anew_as_a_whole() {
    let server = Server::new();
    let juliet = server.accounts(&["juliet"]).connect("juliet/balcony");
    juliet.set(CARD);
    juliet.set("<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>");
    assert!(
        juliet
            .get(ASKED)
            .contains("<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>")
    );
}

#[test]
fn no_card_is_not_found_by_its_owner() {
    let server = Server::new();
    let juliet = server.accounts(&["juliet"]).connect("juliet/balcony");
    assert_refused(&juliet.get(ASKED), "cancel", "item-not-found");
    juliet.set(CARD);
    juliet.set(ASKED);
    assert_refused(&juliet.get(ASKED), "cancel", "item-not-found");
}

#[test]
fn no_card_and_no_account_are_the_same_to_others() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let there = romeo.get_of("juliet@verona.example", ASKED);
    assert_refused(&there, "cancel", "service-unavailable");
    assert_eq!(
        there.replace("juliet", "nobody"),
        romeo.get_of("nobody@verona.example", ASKED)
    );
}

#[test]
fn only_the_owner_writes_a_card() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let there = romeo.set_of("juliet@verona.example", CARD);
    assert_refused(&there, "auth", "forbidden");
    assert_eq!(
        there.replace("juliet", "nobody"),
        romeo.set_of("nobody@verona.example", CARD)
    );
    assert_refused(&romeo.set_of(DOMAIN, CARD), "cancel", "service-unavailable");
}

#[test]
fn a_card_that_is_too_big_is_refused_and_the_old_one_stays() {
    let server = Server::new();
    let juliet = server.accounts(&["juliet"]).connect("juliet/balcony");
    juliet.set(CARD);
    let photo = "x".repeat(StoreLimits::default().vcard_bytes_max);
    let reply = juliet.set(&format!(
        "<vCard xmlns='vcard-temp'><PHOTO>{photo}</PHOTO></vCard>"
    ));
    assert!(stanza(&reply).is_error(), "{reply}");
    assert!(juliet.get(ASKED).contains(CARD));
}
