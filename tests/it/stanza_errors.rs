//! Every stanza error of RFC 6120 §8.3.3 that the server itself answers with, each with the type
//! that the section gives it. (`internal-server-error` stands in `faults`.)

use crate::support::*;

const REGISTER: &str = "jabber:iq:register";

/// RFC 6120 §8.3.1: same kind, same id, back to the sender, with one condition in one error.
#[track_caller]
fn is_error(answer: &Element, id: &str, type_: &str, condition: &str) {
    assert_eq!(answer.attr("type"), Some("error"), "got {answer}");
    assert_eq!(answer.attr("id"), Some(id), "got {answer}");
    assert_eq!(answer.error(), Some((type_, condition)), "got {answer}");
    let errors = answer.children().filter(|child| child.name == "error");
    let [error] = errors.collect::<Vec<_>>()[..] else {
        panic!("one error: {answer}");
    };
    let conditions = error.children().filter(|child| child.name != "text");
    assert_eq!(conditions.count(), 1, "in {answer}");
}

#[test]
fn each_condition_has_its_type_and_answers_what_was_refused() {
    let server = Server::with(&[("limits.roster_items", "1"), ("limits.vcard_bytes", "1000")]);
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    let item = |name: &str| {
        format!("<query xmlns='jabber:iq:roster'><item jid='{name}@cairn.example'/></query>")
    };
    alice.iq_ok("set", None, &item("carol"));
    let photo = "x".repeat(2_000);
    for (to, set, payload, type_, condition) in [
        (
            "",
            false,
            "<a xmlns='urn:a'/><b xmlns='urn:b'/>",
            "modify",
            "bad-request",
        ),
        (
            "bob@cairn.example",
            false,
            "<query xmlns='jabber:iq:last'/>",
            "auth",
            "forbidden",
        ),
        (
            "",
            false,
            "<vCard xmlns='vcard-temp'/>",
            "cancel",
            "item-not-found",
        ),
        (
            "@cairn.example",
            false,
            "<a xmlns='urn:a'/>",
            "modify",
            "jid-malformed",
        ),
        (
            "",
            true,
            "<query xmlns='jabber:iq:private'/>",
            "modify",
            "not-acceptable",
        ),
        (
            DOMAIN,
            true,
            &format!("<bind xmlns='{}'/>", ns::BIND),
            "cancel",
            "not-allowed",
        ),
        (
            "",
            true,
            &format!("<vCard xmlns='vcard-temp'><PHOTO>{photo}</PHOTO></vCard>"),
            "modify",
            "policy-violation",
        ),
        (
            "other.example",
            false,
            "<a xmlns='urn:a'/>",
            "cancel",
            "remote-server-not-found",
        ),
        ("", true, &item("dave"), "wait", "resource-constraint"),
        (
            DOMAIN,
            false,
            "<a xmlns='urn:a'/>",
            "cancel",
            "service-unavailable",
        ),
    ] {
        let id = alice.fresh_id();
        let kind = if set { "set" } else { "get" };
        let to_attribute = match to {
            "" => String::new(),
            to => format!(" to='{to}'"),
        };
        alice.send(&format!(
            "<iq type='{kind}' id='{id}'{to_attribute}>{payload}</iq>"
        ));
        let answer = alice.answer(&id);
        is_error(&answer, &id, type_, condition);
        assert_eq!(answer.attr("to"), Some(&*alice.jid), "got {answer}");
        if !to.is_empty() {
            assert_eq!(answer.attr("from"), Some(to), "got {answer}");
        }
        // It is no end of the stream.
        alice.settle();
    }
}

#[test]
fn a_message_that_is_refused_is_answered_with_a_message_and_a_presence_with_a_presence() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for kind in ["message", "presence"] {
        alice.send(&format!("<{kind} id='m' to='@cairn.example'/>"));
        let answer = alice.stanza_named(kind);
        is_error(&answer, "m", "modify", "jid-malformed");
        assert_eq!(answer.attr("from"), Some("@cairn.example"));
    }
    alice.expect_nothing();
}

#[test]
fn what_a_stranger_asks_is_refused_with_conditions_as_well() {
    let server = Server::with(&[("registration.mode", "\"open\"")]);
    server.add("alice");
    let (mut wire, _) = server.stream();
    let fields = "<username>alice</username><password>correct horse</password>";
    for (to, fields, type_, condition) in [
        (DOMAIN, fields, "cancel", "conflict"),
        (DOMAIN, "", "modify", "not-acceptable"),
        ("other.example", fields, "wait", "unexpected-request"),
    ] {
        wire.send(&format!(
            "<iq type='set' id='r' to='{to}'><query xmlns='{REGISTER}'>{fields}</query></iq>"
        ));
        is_error(&wire.element(), "r", type_, condition);
    }
}
