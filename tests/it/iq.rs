//! IQ semantics (RFC 6120 §8.2.3) and where an IQ goes (RFC 6120 §10, RFC 6121 §8).

use crate::support::*;

const NOBODY_KNOWS: &str = "<query xmlns='urn:nobody:knows'/>";

#[test]
fn every_request_is_answered_exactly_once_with_its_id() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for type_ in ["get", "set"] {
        for to in [
            "",
            "to='cairn.example'",
            "to='alice@cairn.example'",
            "to='alice@cairn.example/a'",
            "to='alice@cairn.example/gone'",
            "to='nobody@cairn.example'",
            "to='nobody@cairn.example/x'",
            "to='elsewhere.example'",
            "to='someone@elsewhere.example'",
            "to='cairn.example/resource'",
        ] {
            let id = alice.fresh_id();
            alice.send(&format!(
                "<iq type='{type_}' id='{id}' {to}>{NOBODY_KNOWS}</iq>"
            ));
            let mut answers = Vec::new();
            for stanza in alice.settle() {
                if stanza.attr("id") == Some(&id) && stanza.attr("type") == Some(type_) {
                    // Our own request came to our own resource: answer it.
                    alice.send(&format!(
                        "<iq type='result' id='{id}' to='alice@cairn.example/a'/>"
                    ));
                    answers.extend(alice.settle());
                } else {
                    answers.push(stanza);
                }
            }
            assert_eq!(answers.len(), 1, "{type_} {to}: {answers:?}");
            assert_eq!(answers[0].attr("id"), Some(id.as_str()));
        }
    }
}

#[test]
fn a_result_or_error_that_nobody_asked_for_is_not_answered() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for to in [
        "",
        "to='cairn.example'",
        "to='alice@cairn.example'",
        "to='nobody@cairn.example'",
    ] {
        alice.send(&format!("<iq type='result' id='x' {to}/>"));
        alice.send(&format!(
            "<iq type='error' id='x' {to}><error type='cancel'>\
             <item-not-found xmlns='{}'/></error></iq>",
            ns::STANZA_ERROR
        ));
    }
    alice.expect_nothing();
}

#[test]
fn an_unknown_request_to_the_server_is_service_unavailable() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for to in [None, Some(DOMAIN)] {
        let error = alice.iq_error("get", to, NOBODY_KNOWS);
        assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
    }
}

#[test]
fn an_answer_comes_from_whom_was_asked() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let answer = alice.iq("get", Some(DOMAIN), ping);
    assert_eq!(answer.attr("from"), Some(DOMAIN));
    assert_eq!(answer.attr("to"), Some("alice@cairn.example/a"));
    // RFC 6120 §8.1.2.1: no `from` means from one's own account.
    let answer = alice.iq("get", None, ping);
    let from = answer.attr("from");
    assert!(
        matches!(from, None | Some("alice@cairn.example")),
        "in {answer}"
    );
}

#[test]
fn a_request_without_id_is_bad_request() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.send("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
    let answer = alice.element();
    assert_eq!(answer.error(), Some(("modify", "bad-request")));
}

#[test]
fn a_request_of_an_unknown_type_is_bad_request() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    alice.send("<iq type='put' id='1'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(alice.stanza().error(), Some(("modify", "bad-request")));
    alice.send("<iq id='2'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(alice.stanza().error(), Some(("modify", "bad-request")));
}

#[test]
fn a_request_has_exactly_one_payload() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    for payload in [String::new(), format!("{ping}{ping}")] {
        let (kind, condition) = alice.iq_error("get", None, &payload);
        assert_eq!(
            (kind.as_str(), condition.as_str()),
            ("modify", "bad-request")
        );
    }
}

#[test]
fn a_request_to_a_full_jid_reaches_it_and_the_answer_comes_back() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    alice.send(&format!(
        "<iq type='get' id='q1' to='bob@cairn.example/b'>{NOBODY_KNOWS}</iq>"
    ));
    let request = bob.stanza_named("iq");
    assert_eq!(request.attr("from"), Some("alice@cairn.example/a"));
    assert_eq!(request.attr("id"), Some("q1"));
    request.must("query", "urn:nobody:knows");
    bob.send("<iq type='result' id='q1' to='alice@cairn.example/a'><answer xmlns='urn:x'/></iq>");
    let answer = alice.stanza_named("iq");
    assert_eq!(answer.attr("from"), Some("bob@cairn.example/b"));
    answer.must("answer", "urn:x");
}

#[test]
fn a_request_to_a_full_jid_that_is_gone_is_service_unavailable() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    let error = alice.iq_error("get", Some("bob@cairn.example/gone"), NOBODY_KNOWS);
    assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
}

#[test]
fn the_server_answers_for_an_account_and_never_passes_the_request_on() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "b");
    let error = alice.iq_error("get", Some("bob@cairn.example"), NOBODY_KNOWS);
    assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
    bob.expect_nothing();
}

#[test]
fn an_account_and_nobody_cannot_be_told_apart_by_a_request() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    for to in ["bob@cairn.example", "nobody@cairn.example"] {
        let error = alice.iq_error("get", Some(to), NOBODY_KNOWS);
        assert_eq!(
            error,
            ("cancel".into(), "service-unavailable".into()),
            "{to}"
        );
    }
    for to in ["bob@cairn.example/x", "nobody@cairn.example/x"] {
        let error = alice.iq_error("get", Some(to), NOBODY_KNOWS);
        assert_eq!(
            error,
            ("cancel".into(), "service-unavailable".into()),
            "{to}"
        );
    }
}

#[test]
fn a_request_to_another_domain_is_remote_server_not_found() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for to in ["elsewhere.example", "someone@elsewhere.example"] {
        let error = alice.iq_error("get", Some(to), NOBODY_KNOWS);
        assert_eq!(error, ("cancel".into(), "remote-server-not-found".into()));
    }
}

#[test]
fn a_malformed_address_is_jid_malformed() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for to in [
        "@cairn.example",
        "bob@",
        "bob@cairn.example/",
        "b ob@cairn.example",
        "bo&lt;b@cairn.example",
        "bob@cairn..example",
        &format!("{}@cairn.example", "x".repeat(1024)),
    ] {
        let error = alice.iq_error("get", Some(to), NOBODY_KNOWS);
        assert_eq!(error, ("modify".into(), "jid-malformed".into()), "{to}");
    }
}

#[test]
fn a_request_whose_recipient_leaves_without_an_answer_is_answered() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    bob.enable_management(true);
    // Bob's connection is gone, but his session waits to be resumed; then he logs in anew, and
    // the request that nobody acknowledged is answered by the server (RFC 6120 §8.2.3).
    bob.cut();
    alice.send(&format!(
        "<iq type='get' id='q1' to='bob@cairn.example/b'>{NOBODY_KNOWS}</iq>"
    ));
    alice.settle();
    let _bob = server.online("bob", "b");
    let answer = alice.answer("q1");
    assert_eq!(answer.error(), Some(("cancel", "service-unavailable")));
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// An element whose parts occur in some specification, in an order that occurs in none.
    fn element(&mut self, ns: &str, depth: usize) -> String {
        const NAMES: &[&str] = &[
            "query", "vCard", "time", "ping", "item", "group", "x", "field", "value", "username",
            "password", "bind", "session", "resource", "storage", "PHOTO", "identity", "q",
        ];
        const KEYS: &[&str] = &[
            "jid",
            "name",
            "subscription",
            "ask",
            "approved",
            "ver",
            "node",
            "var",
            "type",
            "seconds",
        ];
        const VALUES: &[&str] = &[
            "",
            "remove",
            "both",
            "none",
            "true",
            "-1",
            "18446744073709551616",
            "bob@cairn.example",
            "@",
            "a@b/c",
            "submit",
            "&#xFFFD;",
            "&lt;&amp;&apos;",
            "ẞ\u{301}",
        ];
        const SPACES: &[&str] = &["", "jabber:x:data", "jabber:client", "urn:nobody:knows"];
        let name = self.one_of(NAMES);
        let mut text = format!("<{name} xmlns='{ns}'");
        for key in &KEYS[self.below(KEYS.len())..] {
            if self.below(3) == 0 {
                text += &format!(" {key}='{}'", self.one_of(VALUES));
            }
        }
        text += ">";
        for _ in 0..self.below(4) {
            match self.below(3) {
                0 => text += self.one_of(VALUES),
                _ if depth > 0 => {
                    let inner = match self.below(3) {
                        0 => self.one_of(SPACES),
                        _ => ns,
                    };
                    text += &self.element(inner, depth - 1);
                }
                _ => {}
            }
        }
        text + &format!("</{name}>")
    }
}

#[test]
fn whatever_a_request_holds_it_is_answered_once_and_the_stream_goes_on() {
    let server = Server::start();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for (number, ns) in [
        "jabber:iq:roster",
        "jabber:iq:private",
        "jabber:iq:register",
        "jabber:iq:version",
        "jabber:iq:last",
        "vcard-temp",
        "urn:xmpp:ping",
        "urn:xmpp:time",
        "urn:ietf:params:xml:ns:xmpp-bind",
        "urn:ietf:params:xml:ns:xmpp-session",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("asker{number}");
        server.add(&name);
        let mut asker = server.login(&name, "r");
        for _ in 0..60 {
            let (id, type_) = (asker.fresh_id(), dice.one_of(&["get", "set"]));
            let to = dice.one_of(&["", "to='cairn.example'", "to='bob@cairn.example'"]);
            let payload = dice.element(ns, 3);
            asker.send(&format!("<iq type='{type_}' id='{id}' {to}>{payload}</iq>"));
            let answer = asker.answer(&id);
            let kind = answer.attr("type");
            assert!(
                matches!(kind, Some("result" | "error")),
                "{payload}: {answer}"
            );
            let again = asker.settle();
            let again = again.iter().find(|stanza| stanza.attr("id") == Some(&id));
            assert!(again.is_none(), "{payload}: answered twice, {again:?}");
        }
    }
}

/// RFC 6121 §8.5.3.1: what a stranger hears does not tell whether a guessed resource is there.
#[test]
fn a_request_of_a_stranger_is_not_delivered_and_answered_as_where_nobody_is() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "b");
    let answers: Vec<_> = ["b", "gone"]
        .map(|resource| {
            let to = format!("bob@cairn.example/{resource}");
            alice.send(&format!(
                "<iq type='get' id='q' to='{to}'>{NOBODY_KNOWS}</iq>"
            ));
            alice.answer("q").to_string().replace(&to, "whom")
        })
        .into();
    assert_eq!(answers[0], answers[1]);
    bob.expect_nothing_from(&mut alice);
    // Directed presence is enough to be asked, and to be asked by no other.
    bob.send("<presence to='alice@cairn.example/a'/>");
    alice.presence();
    alice.send(&format!(
        "<iq type='get' id='q1' to='bob@cairn.example/b'>{NOBODY_KNOWS}</iq>"
    ));
    assert_eq!(bob.stanza_named("iq").attr("id"), Some("q1"));
    bob.send("<iq type='result' id='q1' to='alice@cairn.example/a'/>");
    assert_eq!(alice.answer("q1").attr("type"), Some("result"));
    let error = bob.iq_error("get", Some("alice@cairn.example/a"), NOBODY_KNOWS);
    assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
}

#[test]
fn a_roster_push_of_somebody_else_is_not_delivered() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    let push = "<query xmlns='jabber:iq:roster'><item jid='mallory@cairn.example' \
                subscription='both'/></query>";
    for type_ in ["get", "set"] {
        let error = alice.iq_error(type_, Some("bob@cairn.example/b"), push);
        assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
    }
    bob.expect_nothing_from(&mut alice);
}

/// RFC 6120 §10.5.
#[test]
fn a_request_to_a_resource_of_the_server_is_service_unavailable() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let error = alice.iq_error("get", Some("cairn.example/resource"), ping);
    assert_eq!(error, ("cancel".into(), "service-unavailable".into()));
}
