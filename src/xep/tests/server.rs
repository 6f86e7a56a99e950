//! Version, time and ping.

use super::*;

#[test]
fn the_server_tells_its_name_and_version_and_no_operating_system() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let reply = romeo.get_of(DOMAIN, "<query xmlns='jabber:iq:version'/>");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        reply,
        format!(
            "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'>\
             <query xmlns='jabber:iq:version'><name>Cairn</name><version>{version}</version></query></iq>"
        )
    );
}

#[test]
fn the_server_tells_the_time_in_utc() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    assert_eq!(
        romeo.get_of(DOMAIN, "<time xmlns='urn:xmpp:time'/>"),
        "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'>\
         <time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2026-01-02T03:04:05Z</utc></time></iq>"
    );
}

#[test]
fn a_ping_reaches_the_server_and_the_own_account() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    assert_eq!(
        romeo.get_of(DOMAIN, ping),
        "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'/>"
    );
    assert_eq!(
        romeo.get(ping),
        "<iq type='result' id='1' to='romeo@verona.example/orchard'/>"
    );
    assert_eq!(
        romeo.get_of("romeo@verona.example", ping),
        "<iq type='result' id='1' from='romeo@verona.example' to='romeo@verona.example/orchard'/>"
    );
}

#[test]
fn a_ping_does_not_tell_who_has_an_account() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let there = romeo.get_of("juliet@verona.example", ping);
    let nobody = romeo.get_of("nobody@verona.example", ping);
    assert_refused(&there, "cancel", "service-unavailable");
    assert_eq!(there.replace("juliet", "nobody"), nobody);
}

#[test]
fn what_can_only_be_asked_can_t_be_set() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    for payload in [
        "<ping xmlns='urn:xmpp:ping'/>",
        "<time xmlns='urn:xmpp:time'/>",
        "<query xmlns='jabber:iq:version'/>",
        "<query xmlns='jabber:iq:last'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
    ] {
        assert_refused(
            &romeo.set_of(DOMAIN, payload),
            "cancel",
            "service-unavailable",
        );
    }
}

#[test]
fn what_nobody_knows_is_refused() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    for to in [DOMAIN, "romeo@verona.example", "nobody@verona.example"] {
        let reply = romeo.get_of(to, "<query xmlns='urn:example:unknown'/>");
        assert_refused(&reply, "cancel", "service-unavailable");
    }
}
