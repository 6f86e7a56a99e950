//! Where a message goes: RFC 6121 §8.5, one test per cell of its tables.

use crate::support::client::bodies;
use crate::support::*;

const BOB: &str = "bob@cairn.example";

/// Alice, logged in, and a server that knows bob too.
fn alice_and_server() -> (Client, Server) {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let alice = server.online("alice", "a");
    (alice, server)
}

/// The error that comes back for a message, if any.
#[track_caller]
fn error_for(alice: &mut Client, type_: &str, to: &str) -> Option<(String, String)> {
    alice.say_typed(type_, to, "hello");
    let stanzas = alice.settle();
    assert!(stanzas.len() <= 1, "{type_} to {to}: {stanzas:?}");
    stanzas.first().map(|stanza| {
        let (kind, condition) = stanza.error().expect("only an error can come back");
        (kind.to_owned(), condition.to_owned())
    })
}

fn unavailable() -> Option<(String, String)> {
    Some(("cancel".to_owned(), "service-unavailable".to_owned()))
}

// §8.5.1: no such user.

#[test]
fn message_to_no_such_user_is_service_unavailable() {
    let (mut alice, _server) = alice_and_server();
    for type_ in ["normal", "chat", "groupchat"] {
        let error = error_for(&mut alice, type_, "nobody@cairn.example");
        assert_eq!(error, unavailable(), "{type_}");
        let error = error_for(&mut alice, type_, "nobody@cairn.example/x");
        assert_eq!(error, unavailable(), "{type_}");
    }
}

/// RFC 6121 §8.5.1, table 1. It would tell who has an account, and disturb nobody who has one.
#[test]
fn what_leaves_no_trace_with_a_user_tells_nothing_of_who_is_one() {
    let (mut alice, _server) = alice_and_server();
    for local in ["nobody", "bob"] {
        for resource in ["", "/x"] {
            let to = format!("{local}@cairn.example{resource}");
            for type_ in ["headline", "error"] {
                assert_eq!(error_for(&mut alice, type_, &to), None, "{type_} to {to}");
            }
            alice.send(&format!(
                "<message type='chat' to='{to}'>\
                 <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
            ));
            assert_eq!(alice.settle(), [], "{to}");
        }
    }
}

/// A carbon is the word of the recipient's own server (XEP-0280 §11).
#[test]
fn a_carbon_that_a_client_sends_is_taken_out() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    let forwarded = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
                     from='carol@cairn.example/c' type='chat'><body>lend me money</body></message>\
                     </forwarded>";
    alice.send(&format!(
        "<message to='bob@cairn.example' type='chat'>\
         <received xmlns='urn:xmpp:carbons:2'>{forwarded}</received>\
         <sent xmlns='urn:xmpp:carbons:2'>{forwarded}</sent>\
         <private xmlns='urn:xmpp:carbons:2'/><body>b</body></message>"
    ));
    let message = bob.message_with_body("b");
    let names: Vec<_> = message.children().map(|child| child.name.clone()).collect();
    assert_eq!(names, ["private", "body"], "{message}");
}

// RFC 6120 §10.5: the server itself.

#[test]
fn a_message_to_the_server_itself_is_service_unavailable() {
    let (mut alice, _server) = alice_and_server();
    for to in ["cairn.example", "cairn.example/resource"] {
        for type_ in ["normal", "chat", "groupchat", "headline"] {
            assert_eq!(
                error_for(&mut alice, type_, to),
                unavailable(),
                "{type_} to {to}"
            );
        }
        assert_eq!(error_for(&mut alice, "error", to), None, "{to}");
    }
}

#[test]
fn presence_to_the_server_itself_is_ignored() {
    let (mut alice, _server) = alice_and_server();
    for to in ["cairn.example", "cairn.example/resource"] {
        alice.send(&format!("<presence to='{to}'/>"));
        for type_ in ["unavailable", "probe", "error"] {
            alice.presence_to(type_, to);
        }
    }
    alice.expect_nothing();
}

// §8.5.2.1: the bare JID, available resources.

#[test]
fn chat_and_normal_to_the_bare_jid_go_to_the_most_available_resources() {
    for type_ in ["chat", "normal"] {
        let (mut alice, server) = alice_and_server();
        let mut low = server.online_with_priority("bob", "low", 1);
        let mut high = server.online_with_priority("bob", "high", 5);
        let mut also_high = server.online_with_priority("bob", "also-high", 5);
        for client in [&mut low, &mut high, &mut also_high] {
            client.settle();
        }
        alice.say_typed(type_, BOB, "hello");
        alice.settle();
        high.message_with_body("hello");
        also_high.message_with_body("hello");
        low.expect_nothing();
    }
}

#[test]
fn message_without_type_is_treated_as_normal() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    alice.send("<message to='bob@cairn.example'><body>plain</body></message>");
    let message = bob.message_with_body("plain");
    assert!(matches!(message.attr("type"), None | Some("normal")));
}

#[test]
fn message_of_an_unknown_type_is_treated_as_normal() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    alice.say_typed("telepathy", BOB, "hello");
    bob.message_with_body("hello");
}

#[test]
fn headline_to_the_bare_jid_goes_to_all_non_negative_resources() {
    let (mut alice, server) = alice_and_server();
    let mut low = server.online_with_priority("bob", "low", 0);
    let mut high = server.online_with_priority("bob", "high", 5);
    let mut negative = server.online_with_priority("bob", "negative", -1);
    for client in [&mut low, &mut high, &mut negative] {
        client.settle();
    }
    alice.say_typed("headline", BOB, "news");
    low.message_with_body("news");
    high.message_with_body("news");
    negative.expect_nothing_from(&mut alice);
}

#[test]
fn groupchat_to_the_bare_jid_is_service_unavailable() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    assert_eq!(error_for(&mut alice, "groupchat", BOB), unavailable());
    bob.expect_nothing();
}

#[test]
fn error_to_the_bare_jid_is_ignored() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    assert_eq!(error_for(&mut alice, "error", BOB), None);
    bob.expect_nothing();
}

#[test]
fn a_resource_that_has_not_sent_presence_gets_nothing_for_the_bare_jid() {
    let (mut alice, server) = alice_and_server();
    let mut silent = server.login("bob", "silent");
    let mut bob = server.online("bob", "b");
    alice.say(BOB, "hello");
    bob.message_with_body("hello");
    silent.expect_nothing_from(&mut alice);
}

#[test]
fn a_resource_that_went_unavailable_gets_nothing_for_the_bare_jid() {
    let (mut alice, server) = alice_and_server();
    let mut gone = server.online("bob", "gone");
    let mut bob = server.online("bob", "b");
    gone.send("<presence type='unavailable'/>");
    gone.settle();
    bob.settle();
    alice.say(BOB, "hello");
    bob.message_with_body("hello");
    gone.expect_nothing_from(&mut alice);
}

#[test]
fn a_changed_priority_changes_who_gets_the_next_message() {
    let (mut alice, server) = alice_and_server();
    let mut one = server.online_with_priority("bob", "one", 1);
    let mut two = server.online_with_priority("bob", "two", 2);
    one.settle();
    two.settle();
    alice.say(BOB, "first");
    two.message_with_body("first");
    two.present(0);
    one.settle();
    alice.say(BOB, "second");
    one.message_with_body("second");
    assert_eq!(bodies(&two.settle()), [""; 0]);
}

// §8.5.2.2: the bare JID, nobody available. What is stored is the subject of `offline`.

#[test]
fn groupchat_to_an_offline_user_is_service_unavailable() {
    let (mut alice, _server) = alice_and_server();
    assert_eq!(error_for(&mut alice, "groupchat", BOB), unavailable());
}

#[test]
fn headline_and_error_to_an_offline_user_are_ignored_and_not_stored() {
    let (mut alice, server) = alice_and_server();
    assert_eq!(error_for(&mut alice, "headline", BOB), None);
    assert_eq!(error_for(&mut alice, "error", BOB), None);
    let mut bob = server.online("bob", "b");
    bob.expect_nothing();
}

// §8.5.3: the full JID.

#[test]
fn message_to_a_connected_full_jid_goes_there_and_nowhere_else() {
    let (mut alice, server) = alice_and_server();
    let mut other = server.online_with_priority("bob", "other", 9);
    let mut bob = server.online_with_priority("bob", "b", 0);
    other.settle();
    bob.settle();
    for type_ in ["normal", "chat", "groupchat", "headline", "error"] {
        alice.say_typed(type_, "bob@cairn.example/b", type_);
        let message = bob.message_with_body(type_);
        assert_eq!(message.attr("to"), Some("bob@cairn.example/b"));
    }
    other.expect_nothing_from(&mut alice);
}

#[test]
fn message_to_a_full_jid_with_negative_priority_goes_there() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online_with_priority("bob", "b", -5);
    alice.say("bob@cairn.example/b", "hello");
    bob.message_with_body("hello");
}

#[test]
fn message_to_a_full_jid_without_presence_goes_there() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.login("bob", "b");
    alice.say("bob@cairn.example/b", "hello");
    bob.message_with_body("hello");
}

#[test]
fn chat_to_a_full_jid_that_is_gone_goes_to_the_bare_jid() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    alice.say("bob@cairn.example/gone", "hello");
    bob.message_with_body("hello");
}

#[test]
fn other_messages_to_a_full_jid_that_is_gone_never_go_to_another_resource() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    for type_ in ["normal", "groupchat"] {
        let error = error_for(&mut alice, type_, "bob@cairn.example/gone");
        assert_eq!(error, unavailable(), "{type_}");
    }
    for type_ in ["headline", "error"] {
        let error = error_for(&mut alice, type_, "bob@cairn.example/gone");
        assert_eq!(error, None, "{type_}");
    }
    bob.expect_nothing();
}

// RFC 6120 §10: addresses.

#[test]
fn message_without_to_goes_to_ones_own_account() {
    let (mut alice, _server) = alice_and_server();
    alice.send("<message type='chat'><body>note to self</body></message>");
    alice.message_with_body("note to self");
}

#[test]
fn message_to_ones_own_bare_jid_comes_to_oneself() {
    let (mut alice, _server) = alice_and_server();
    alice.say("alice@cairn.example", "note to self");
    alice.message_with_body("note to self");
}

#[test]
fn the_server_stamps_the_full_jid_of_the_sender() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    alice.send(
        "<message from='alice@cairn.example' to='bob@cairn.example' type='chat' id='i1'>\
         <body>x</body></message>",
    );
    let message = bob.message_with_body("x");
    assert_eq!(message.attr("from"), Some("alice@cairn.example/a"));
    assert_eq!(message.attr("id"), Some("i1"));
    assert_eq!(message.attr("type"), Some("chat"));
}

#[test]
fn message_to_another_domain_is_remote_server_not_found() {
    let (mut alice, _server) = alice_and_server();
    let error = error_for(&mut alice, "chat", "someone@elsewhere.example");
    assert_eq!(
        error,
        Some(("cancel".into(), "remote-server-not-found".into()))
    );
    assert_eq!(
        error_for(&mut alice, "error", "someone@elsewhere.example"),
        None
    );
}

#[test]
fn message_to_a_malformed_address_is_jid_malformed() {
    let (mut alice, _server) = alice_and_server();
    let error = error_for(&mut alice, "chat", "a b@cairn.example");
    assert_eq!(error, Some(("modify".into(), "jid-malformed".into())));
}

#[test]
fn an_error_keeps_the_id_and_swaps_the_addresses() {
    let (mut alice, _server) = alice_and_server();
    alice.send("<message to='nobody@cairn.example' id='lost' type='chat'><body>x</body></message>");
    let error = alice.message();
    assert_eq!(error.attr("type"), Some("error"));
    assert_eq!(error.attr("id"), Some("lost"));
    assert_eq!(error.attr("from"), Some("nobody@cairn.example"));
    assert_eq!(error.attr("to"), Some("alice@cairn.example/a"));
}

#[test]
fn messages_between_two_clients_keep_their_order() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    for n in 0..200 {
        alice.say(BOB, &n.to_string());
    }
    for n in 0..200 {
        bob.message_with_body(&n.to_string());
    }
}

#[test]
fn a_message_of_200_kilobytes_arrives_whole() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    let body = "0123456789".repeat(20_000);
    alice.say(BOB, &body);
    bob.message_with_body(&body);
}

#[test]
fn a_payload_that_the_server_does_not_know_arrives_untouched() {
    let (mut alice, server) = alice_and_server();
    let mut bob = server.online("bob", "b");
    let payload = "<x xmlns='urn:x' a='1' b='&lt;&amp;&apos;&quot;'><y xmlns='urn:y'>t\u{e9}xt \
                   &#x1F600;</y><z xmlns=''/></x>";
    alice.send(&format!(
        "<message to='bob@cairn.example' type='chat'>{payload}<body>b</body></message>"
    ));
    let message = bob.message_with_body("b");
    assert_eq!(message.must("x", "urn:x"), &Element::parse(payload));
}
