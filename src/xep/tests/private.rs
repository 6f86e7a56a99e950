//! Private XML.

use super::*;

#[test]
fn what_is_kept_comes_back_as_it_was() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let element =
        "<storage xmlns='storage:bookmarks'><conference name='A &amp; B' jid='x@y'/></storage>";
    let reply = romeo.set(&format!(
        "<query xmlns='jabber:iq:private'>{element}</query>"
    ));
    assert_eq!(
        reply,
        "<iq type='result' id='1' to='romeo@verona.example/orchard'/>"
    );
    let asked = "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>";
    let other = server.connect("romeo/tomb");
    assert_eq!(
        other.get(asked),
        format!(
            "<iq type='result' id='1' to='romeo@verona.example/tomb'>\
             <query xmlns='jabber:iq:private'>{element}</query></iq>"
        )
    );
}

#[test]
fn elements_are_told_apart_by_name_and_namespace() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    romeo.set("<query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a></query>");
    romeo.set("<query xmlns='jabber:iq:private'><b xmlns='urn:a'>2</b></query>");
    romeo.set("<query xmlns='jabber:iq:private'><a xmlns='urn:b'>3</a></query>");
    for (name, ns, text) in [("a", "urn:a", 1), ("b", "urn:a", 2), ("a", "urn:b", 3)] {
        let reply = romeo.get(&format!(
            "<query xmlns='jabber:iq:private'><{name} xmlns='{ns}'/></query>"
        ));
        assert!(
            reply.contains(&format!("<{name} xmlns='{ns}'>{text}</{name}>")),
            "{reply}"
        );
    }
}

#[test]
fn what_was_never_kept_is_an_empty_element() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    for asked in [
        "<roster xmlns='roster:delimiter'/>",
        "<roster xmlns='roster:delimiter' a='1'>x</roster>",
    ] {
        assert_eq!(
            romeo.get(&format!("<query xmlns='jabber:iq:private'>{asked}</query>")),
            "<iq type='result' id='1' to='romeo@verona.example/orchard'>\
             <query xmlns='jabber:iq:private'><roster xmlns='roster:delimiter'/></query></iq>"
        );
    }
}

#[test]
fn an_empty_element_takes_away_what_was_kept() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    romeo.set("<query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a></query>");
    romeo.set("<query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query>");
    let kept = server.core.store.read(|state| {
        let account = state.account("romeo@verona.example").expect("it exists");
        account.private_elements().count()
    });
    assert_eq!(kept, 0);
}

#[test]
fn a_query_is_about_one_element_with_a_namespace() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let query = |content: &str| format!("<query xmlns='jabber:iq:private'>{content}</query>");
    let two = query("<a xmlns='urn:a'>1</a><b xmlns='urn:a'>2</b>");
    assert_refused(&romeo.get(&query("")), "modify", "bad-request");
    assert_refused(&romeo.set(&query("")), "modify", "not-acceptable");
    assert_refused(&romeo.get(&two), "modify", "bad-request");
    assert_refused(&romeo.set(&two), "modify", "bad-request");
    assert_refused(&romeo.get(&query("<a/>")), "modify", "not-acceptable");
    assert_refused(&romeo.set(&query("<a>1</a>")), "modify", "not-acceptable");
    assert_refused(
        &romeo.set(&query("<a xmlns=''>1</a>")),
        "modify",
        "not-acceptable",
    );
}

#[test]
fn it_is_nobody_elses() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let query = "<query xmlns='jabber:iq:private'><a xmlns='urn:a'>1</a></query>";
    let there = romeo.get_of("juliet@verona.example", query);
    assert_refused(&there, "auth", "forbidden");
    assert_eq!(
        there.replace("juliet", "nobody"),
        romeo.get_of("nobody@verona.example", query)
    );
    assert_refused(
        &romeo.set_of("juliet@verona.example", query),
        "auth",
        "forbidden",
    );
    assert_refused(
        &romeo.set_of(DOMAIN, query),
        "cancel",
        "service-unavailable",
    );
}

#[test]
fn there_is_only_so_much_room() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let limits = StoreLimits::default();
    let large = "x".repeat(limits.private_bytes_max);
    let reply = romeo.set(&format!(
        "<query xmlns='jabber:iq:private'><a xmlns='urn:a'>{large}</a></query>"
    ));
    assert!(stanza(&reply).is_error(), "{reply}");
    for number in 0..=limits.private_elements_max {
        let element =
            format!("<query xmlns='jabber:iq:private'><a xmlns='urn:a:{number}'>1</a></query>");
        let reply = romeo.set(&element);
        match number < limits.private_elements_max {
            true => assert!(reply.contains("type='result'"), "{reply}"),
            false => assert_eq!(refusal(&reply).1, "resource-constraint"),
        }
    }
}
