//! Service discovery, capabilities, contacts.

use super::*;
use crate::xep::caps;
use crate::xep::disco::Info;

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

fn features(reply: &str) -> Vec<String> {
    let stanza = stanza(reply);
    let query = stanza.children().next().expect("a result has a query");
    let features = query.children().filter(|child| child.name() == "feature");
    features
        .map(|feature| {
            feature
                .attr("var")
                .expect("a feature has a var")
                .into_owned()
        })
        .collect()
}

#[test]
fn the_server_is_an_im_server_with_the_features_of_its_modules() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let reply = romeo.get_of(DOMAIN, INFO);
    assert!(
        reply.starts_with(
            "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'>\
             <query xmlns='http://jabber.org/protocol/disco#info'>\
             <identity category='server' type='im' name='Cairn'/>"
        ),
        "{reply}"
    );
    let features = features(&reply);
    for wanted in [
        "http://jabber.org/protocol/caps",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
        "jabber:iq:last",
        "jabber:iq:private",
        "jabber:iq:register",
        "jabber:iq:version",
        "msgoffline",
        "urn:xmpp:ping",
        "urn:xmpp:time",
        "vcard-temp",
    ] {
        assert!(features.iter().any(|feature| feature == wanted), "{wanted}");
    }
    let mut sorted = features.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(features, sorted);
}

#[test]
fn contacts_are_a_form_in_the_servers_info() {
    let server = Server::with(|config| {
        config.contact.abuse = vec!["mailto:abuse@verona.example".to_owned()];
        config.contact.admin = vec![
            "xmpp:prince@verona.example".to_owned(),
            "https://v/?a&b".to_owned(),
        ];
    });
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let reply = romeo.get_of(DOMAIN, INFO);
    assert!(
        reply.ends_with(
            "<x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>\
             <field var='abuse-addresses' type='list-multi'><value>mailto:abuse@verona.example</value></field>\
             <field var='admin-addresses' type='list-multi'><value>xmpp:prince@verona.example</value>\
             <value>https://v/?a&amp;b</value></field></x></query></iq>"
        ),
        "{reply}"
    );
}

#[test]
fn a_server_without_contacts_has_no_form() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    assert!(!romeo.get_of(DOMAIN, INFO).contains("jabber:x:data"));
}

#[test]
fn the_node_of_the_capabilities_answers_like_the_server() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let told = caps::of_server(&Info::of_server(
        &server.core.registry,
        server.core.hosts.policy(DOMAIN),
    ));
    let node = format!("{}#{}", told.node, told.ver);
    let query = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
    let reply = romeo.get_of(DOMAIN, &query);
    assert_eq!(
        reply.replace(&format!(" node='{node}'"), ""),
        romeo.get_of(DOMAIN, INFO)
    );
}

#[test]
fn the_capabilities_follow_the_contacts() {
    let ver = |server: &Server| {
        caps::of_server(&Info::of_server(
            &server.core.registry,
            server.core.hosts.policy(DOMAIN),
        ))
        .ver
    };
    let named = Server::with(|config| config.contact.sales = vec!["mailto:sales@v".to_owned()]);
    assert_ne!(ver(&Server::new()), ver(&named));
    assert_eq!(ver(&Server::new()), ver(&Server::new()));
}

#[test]
fn an_unknown_node_is_not_found() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    for to in [DOMAIN, "romeo@verona.example"] {
        for ns in ["info", "items"] {
            let query = format!("<query xmlns='http://jabber.org/protocol/disco#{ns}' node='x'/>");
            assert_refused(&romeo.get_of(to, &query), "cancel", "item-not-found");
        }
    }
}

#[test]
fn the_server_has_no_items() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    assert_eq!(
        romeo.get_of(DOMAIN, ITEMS),
        "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'>\
         <query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
    );
}

#[test]
fn an_account_is_registered_to_itself_and_to_those_who_see_its_presence() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let juliet = server.connect("juliet/balcony");
    server.share_presence("juliet", "romeo");
    let identity = "<identity category='account' type='registered'/>";
    for reply in [
        juliet.get(INFO),
        romeo.get_of("juliet@verona.example", INFO),
    ] {
        assert!(reply.contains(identity), "{reply}");
        assert!(features(&reply).contains(&"vcard-temp".to_owned()));
    }
    // It is not mutual.
    assert_refused(
        &juliet.get_of("romeo@verona.example", INFO),
        "cancel",
        "service-unavailable",
    );
}

#[test]
fn a_stranger_can_t_tell_an_account_from_none() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.connect("juliet/balcony").become_available();
    let node = "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>";
    for query in [INFO, ITEMS, node] {
        let there = romeo.get_of("juliet@verona.example", query);
        let nobody = romeo.get_of("nobody@verona.example", query);
        assert_eq!(there.replace("juliet", "nobody"), nobody);
        match query == ITEMS {
            true => assert!(nobody.contains("type='result'") && !nobody.contains("<item")),
            false => assert_refused(&nobody, "cancel", "service-unavailable"),
        }
    }
}

#[test]
fn an_accounts_items_are_its_available_resources() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    server.share_presence("juliet", "romeo");
    server.connect("juliet/balcony").become_available();
    server.connect("juliet/chamber");
    assert_eq!(
        romeo.get_of("juliet@verona.example", ITEMS),
        "<iq type='result' id='1' from='juliet@verona.example' to='romeo@verona.example/orchard'>\
         <query xmlns='http://jabber.org/protocol/disco#items'>\
         <item jid='juliet@verona.example/balcony'/></query></iq>"
    );
}
