//! What people do every day, on a Cairn and on somebody else's server. ejabberd is Debian 12's, with
//! Debian's configuration.

use super::scenario::{ask_about, become_contacts, chat, is_presence, leave_and_come_back};
use super::world::{JULIET, Kind, OTHER, ROMEO, World, romeo};
use crate::peers::{Event, Net, Person};
use crate::support::DOMAIN;

fn messages(kind: Kind) {
    Net::run(|net| {
        let world = World::usual(net, kind);
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
        for number in 0..100 {
            romeo.say(JULIET, &format!("in-order-{number}"), &number.to_string());
        }
        for number in 0..100 {
            let heard = juliet.wait("a message", |event| event.kind() == "message");
            assert_eq!(heard.body(), number.to_string());
        }
    });
}

fn contacts(kind: Kind) {
    Net::run(|net| {
        let world = World::usual(net, kind);
        let (mut romeo, mut juliet) = world.people();
        become_contacts(&mut romeo, &mut juliet);
        leave_and_come_back(&mut romeo, &mut juliet);
        leave_and_come_back(&mut juliet, &mut romeo);
        romeo.log_out();
        let has_left = |event: &Event| is_presence(event, "unavailable", ROMEO);
        juliet.wait("that Romeo has left", has_left);
        // Whose connection is lost has left, too (RFC 6121 §4.5.2).
        let again = super::world::romeo(&world.cairn);
        juliet.wait("that Romeo is back", |event| is_presence(event, "", ROMEO));
        again.vanish();
        juliet.wait("that Romeo has left again", has_left);
    });
}

fn requests(kind: Kind) {
    Net::run(|net| {
        let world = World::usual(net, kind);
        let (mut romeo, mut juliet) = world.people();
        ask_about(&mut romeo, &mut juliet);
        ask_about(&mut juliet, &mut romeo);
        // An account that is not there (RFC 6121 §8.5.1). ejabberd does not tell.
        let answer = juliet.get("nobody@cairn.example", "<vCard xmlns='vcard-temp'/>");
        assert_eq!(answer.type_(), "error", "{answer:?}");
        let answer = romeo.get("nobody@other.test", "<vCard xmlns='vcard-temp'/>");
        assert_eq!(answer.from(), "nobody@other.test");
    });
}

/// A message to somebody who is not online is kept by their server (XEP-0160).
fn offline(kind: Kind) {
    Net::run(|net| {
        let world = World::usual(net, kind);
        let mut romeo = romeo(&world.cairn);
        romeo.say(JULIET, "o1", "Good night, good night");
        // What is answered behind it tells that it is there.
        ask(&mut romeo, OTHER);
        let mut juliet = world.juliet();
        let heard = juliet.hear("Good night, good night");
        assert!(heard.is_from(ROMEO) && has_delay(heard.xml()), "{heard:?}");
        romeo.log_out();
        for number in 0..10 {
            juliet.say(ROMEO, &format!("o2-{number}"), &number.to_string());
        }
        ask(&mut juliet, DOMAIN);
        let place = &world.cairn.place;
        let mut romeo = Person::online(place, ROMEO, place.v4.into());
        for number in 0..10 {
            let heard = romeo.wait("a message", |event| event.kind() == "message");
            assert_eq!(heard.body(), number.to_string());
            assert!(heard.is_from(JULIET), "{heard:?}");
        }
    });
}

/// A request over the same streams.
#[track_caller]
fn ask(person: &mut Person, domain: &str) {
    let answer = person.get(
        domain,
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    );
    assert_eq!(answer.type_(), "result", "{answer:?}");
}

fn has_delay(xml: &str) -> bool {
    xml.contains("urn:xmpp:delay")
}

#[test]
fn messages_with_prosody_go_both_ways_in_order() {
    messages(Kind::Prosody);
}

#[test]
fn messages_with_ejabberd_go_both_ways_in_order() {
    messages(Kind::Ejabberd);
}

#[test]
fn messages_with_another_cairn_go_both_ways_in_order() {
    messages(Kind::Cairn);
}

#[test]
fn people_on_prosody_become_contacts_and_see_each_other_come_and_go() {
    contacts(Kind::Prosody);
}

#[test]
fn people_on_ejabberd_become_contacts_and_see_each_other_come_and_go() {
    contacts(Kind::Ejabberd);
}

#[test]
fn people_on_another_cairn_become_contacts_and_see_each_other_come_and_go() {
    contacts(Kind::Cairn);
}

#[test]
fn prosody_and_cairn_answer_each_others_requests() {
    requests(Kind::Prosody);
}

#[test]
fn ejabberd_and_cairn_answer_each_others_requests() {
    requests(Kind::Ejabberd);
}

#[test]
fn two_cairns_answer_each_others_requests() {
    requests(Kind::Cairn);
}

#[test]
fn messages_with_prosody_wait_for_those_who_are_offline() {
    offline(Kind::Prosody);
}

#[test]
fn messages_with_ejabberd_wait_for_those_who_are_offline() {
    offline(Kind::Ejabberd);
}

#[test]
fn messages_with_another_cairn_wait_for_those_who_are_offline() {
    offline(Kind::Cairn);
}
