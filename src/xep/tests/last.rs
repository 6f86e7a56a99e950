//! Last activity.

use super::*;

const LAST: &str = "<query xmlns='jabber:iq:last'/>";

#[test]
fn the_server_tells_how_long_it_has_run() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    wait_s(61);
    assert_eq!(
        romeo.get_of(DOMAIN, LAST),
        "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'>\
         <query xmlns='jabber:iq:last' seconds='61'/></iq>"
    );
}

#[test]
fn who_is_there_was_last_there_now() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    let _juliet = server.connect("juliet/balcony");
    wait_s(5);
    let reply = romeo.get_of("juliet@verona.example", LAST);
    assert!(reply.contains("seconds='0'"), "{reply}");
}

#[test]
fn who_left_is_away_since_then_with_what_was_said_last() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    let juliet = server.connect("juliet/balcony");
    juliet.become_available();
    juliet.send("<presence type='unavailable'><status>Heading Home &amp; away</status></presence>");
    router::set_unavailable(&mut server.core.cx(), &juliet.session);
    wait_s(10);
    juliet.leave();
    wait_s(903);
    assert_eq!(
        romeo.get_of("juliet@verona.example", LAST),
        "<iq type='result' id='1' from='juliet@verona.example' to='romeo@verona.example/orchard'>\
         <query xmlns='jabber:iq:last' seconds='903'>Heading Home &amp; away</query></iq>"
    );
}

#[test]
fn who_is_cut_off_has_said_nothing() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    let juliet = server.connect("juliet/balcony");
    juliet.become_available();
    juliet.send("<presence type='unavailable'><status>bye</status></presence>");
    juliet.become_available();
    juliet.leave();
    wait_s(1);
    let reply = romeo.get_of("juliet@verona.example", LAST);
    assert!(reply.contains("seconds='1'/>"), "{reply}");
}

#[test]
fn one_of_two_sessions_leaves_and_the_account_is_still_there() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    let chamber = server.connect("juliet/chamber");
    let balcony = server.connect("juliet/balcony");
    balcony.leave();
    wait_s(3);
    assert!(
        romeo
            .get_of("juliet@verona.example", LAST)
            .contains("seconds='0'")
    );
    chamber.leave();
    wait_s(4);
    assert!(
        romeo
            .get_of("juliet@verona.example", LAST)
            .contains("seconds='4'")
    );
}

#[test]
fn who_was_never_there_has_no_last_activity() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    let reply = romeo.get_of("juliet@verona.example", LAST);
    assert_refused(&reply, "cancel", "item-not-found");
}

#[test]
fn who_may_not_see_presence_may_not_see_this_of_account_or_client() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let juliet = server.connect("juliet/balcony");
    let there = romeo.get_of("juliet@verona.example", LAST);
    let nobody = romeo.get_of("nobody@verona.example", LAST);
    assert_refused(&there, "auth", "forbidden");
    assert_eq!(there.replace("juliet", "nobody"), nobody);
    let there = romeo.get_of("juliet@verona.example/balcony", LAST);
    let gone = romeo.get_of("juliet@verona.example/tomb", LAST);
    assert_refused(&there, "auth", "forbidden");
    assert_eq!(there.replace("balcony", "tomb"), gone);
    assert!(juliet.hear().is_empty());
}

#[test]
fn who_may_see_presence_may_ask_the_client() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let juliet = server.connect("juliet/balcony");
    server.share_presence("juliet", "romeo");
    let asked = "<iq type='get' id='1' to='juliet@verona.example/balcony'><query xmlns='jabber:iq:last'/></iq>";
    assert!(romeo.send(asked).is_empty());
    assert_eq!(juliet.hear().len(), 1);
}
