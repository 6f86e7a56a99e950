//! Streams that are really lost, with something unacknowledged on them, and resumed (XEP-0198 §5),
//! also those that serve both ways (XEP-0288).

use super::cairn_hosts::{SECOND, rosaline, stage as stage_of_two};
use super::scenario::{chat, is_presence};
use super::world::{JULIET, Kind, OTHER, ROMEO, Stage, World, romeo};
use crate::peers::raw::SERVER;
use crate::peers::relay::{Passage, Relay};
use crate::peers::{Event, Net, Zone};
use crate::support::{DOMAIN, Element, Wire, ns};

/// Two Cairns; the one of Romeo reaches that of Juliet through the relay.
fn with_relay(net: &Net) -> (World, Relay) {
    let world = World::usual(net, Kind::Cairn);
    let relay = Relay::listen(net.place("relay"), world.other.place().socket(5269));
    let zone = Zone::new().server(DOMAIN, &world.cairn.place);
    world.dns.set(&zone.server(OTHER, &relay.place));
    (world, relay)
}

/// Who is left of the ends when a connection breaks.
#[derive(Clone, Copy)]
enum Break {
    Both,
    /// The one who was called believes it alive.
    OfCaller,
}

impl Break {
    fn of(self, passage: &Passage) {
        if let Break::Both = self {
            passage.hang_up_on_callee();
        }
        passage.hang_up_on_caller();
    }
}

/// What was said twice, or is known to be over, would stand here.
#[track_caller]
fn heard_no_more(heard: &[Event]) {
    let chats = heard.iter().filter(|event| event.kind() == "message");
    let left = heard
        .iter()
        .filter(|event| is_presence(event, "unavailable", ROMEO));
    assert_eq!(chats.chain(left).count(), 0, "{heard:?}");
}

fn lost_and_resumed(how: Break) {
    Net::run(|net| {
        let (world, relay) = with_relay(net);
        let (mut romeo, mut juliet) = world.people();
        romeo.say(JULIET, "c0", "zero");
        let passage = relay.pass();
        juliet.hear("zero");
        chat(&mut juliet, &mut romeo);
        let before = world.other.place().counters();
        // One arrives and its acknowledgement does not; of the others nothing arrives.
        passage.lose_to_caller();
        romeo.say(JULIET, "c1", "one");
        romeo.presence("unavailable", JULIET);
        juliet.hear("one");
        juliet.wait("Romeo's leave", |event| {
            is_presence(event, "unavailable", ROMEO)
        });
        juliet.say(ROMEO, "d1", "uno");
        juliet.settle();
        passage.lose_to_callee();
        romeo.say(JULIET, "c2", "two");
        romeo.settle();
        how.of(&passage);
        let again = relay.pass();
        juliet.hear("two");
        romeo.hear("uno");
        // And the other way round.
        again.lose_to_callee();
        juliet.say(ROMEO, "d2", "due");
        romeo.hear("due");
        romeo.say(JULIET, "c3", "three");
        romeo.settle();
        again.lose_to_caller();
        juliet.say(ROMEO, "d3", "tre");
        juliet.say(ROMEO, "d4", "quattro");
        juliet.settle();
        how.of(&again);
        let _third = relay.pass();
        juliet.hear("three");
        romeo.hear("tre");
        romeo.hear("quattro");
        chat(&mut romeo, &mut juliet);
        heard_no_more(&juliet.settle());
        heard_no_more(&romeo.settle());
        // All of it went on streams that the one Cairn has opened.
        let spent = world.other.place().counters().since(before);
        assert_eq!(spent.tcp_opened, 0, "{spent:?}");
    });
}

#[test]
fn a_stream_between_two_cairns_that_both_lose_is_resumed_and_each_stanza_arrives_once() {
    lost_and_resumed(Break::Both);
}

#[test]
fn a_stream_that_one_of_two_cairns_believes_alive_is_resumed_and_each_stanza_arrives_once() {
    lost_and_resumed(Break::OfCaller);
}

/// The one who has called has nothing to say, and comes back for what the other one has.
#[test]
fn what_the_one_who_was_called_had_sent_in_vain_is_fetched() {
    Net::run(|net| {
        let (world, relay) = with_relay(net);
        let (mut romeo, mut juliet) = world.people();
        romeo.say(JULIET, "c0", "zero");
        let passage = relay.pass();
        juliet.hear("zero");
        chat(&mut juliet, &mut romeo);
        let before = world.other.place().counters();
        passage.lose_to_caller();
        for number in 0..20 {
            juliet.say(ROMEO, &format!("d{number}"), &format!("number {number}"));
        }
        juliet.settle();
        passage.hang_up_on_callee();
        passage.hang_up_on_caller();
        let _again = relay.pass();
        for number in 0..20 {
            let heard = romeo.wait("a message", |event| event.kind() == "message");
            assert_eq!(heard.body(), format!("number {number}"));
        }
        chat(&mut romeo, &mut juliet);
        heard_no_more(&romeo.settle());
        let spent = world.other.place().counters().since(before);
        assert_eq!(spent.tcp_opened, 0, "{spent:?}");
    });
}

/// The peer calls, and is to be sent stanzas too.
#[track_caller]
fn call_both_ways(stage: &Stage) -> Wire {
    let (mut wire, features) = stage.peer.call_stream(stage.address(), DOMAIN);
    features.must("bidi", "urn:xmpp:features:bidi");
    wire.send("<bidi xmlns='urn:xmpp:bidi'/>");
    stage.peer.authenticate(wire, &features, DOMAIN)
}

/// Stream management begins; what resumes the stream.
#[track_caller]
fn enable(wire: &mut Wire) -> String {
    wire.send(&format!("<enable xmlns='{}' resume='true'/>", ns::SM));
    let enabled = wire.element();
    assert!(enabled.is("enabled", ns::SM), "{enabled}");
    assert_eq!(enabled.attr("resume"), Some("true"), "{enabled}");
    enabled.attr("id").expect("it has an id").to_owned()
}

/// What the server says to the wish to resume a stream.
#[track_caller]
fn resume(wire: &mut Wire, id: &str, h: u32) -> Element {
    wire.send(&format!(
        "<resume xmlns='{}' previd='{id}' h='{h}'/>",
        ns::SM
    ));
    wire.element()
}

/// How many stanzas the server has handled.
#[track_caller]
fn count(wire: &mut Wire) -> String {
    wire.send(&format!("<r xmlns='{}'/>", ns::SM));
    let answer = wire.element();
    assert!(answer.is("a", ns::SM), "{answer}");
    answer.attr("h").expect("a count").to_owned()
}

/// The id of the next stanza; requests for a count are passed over.
#[track_caller]
fn stanza(wire: &mut Wire) -> String {
    loop {
        let element = wire.element();
        if element.ns == SERVER {
            return element.attr("id").expect("it has one").to_owned();
        }
        assert!(element.is("r", ns::SM), "{element}");
    }
}

#[test]
fn a_peer_that_has_called_resumes_its_stream_and_is_told_what_was_handled() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let id = enable(&mut wire);
        for (id, body) in [("1", "one"), ("2", "two")] {
            wire.send(&Stage::message(id, body));
        }
        assert_eq!(count(&mut wire), "2");
        wire.send(&Stage::message("3", "three"));
        romeo.hear("three");
        wire.cut();
        // Neither what nobody has said nor what was not sent resumes it.
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let failed = resume(&mut wire, &"0".repeat(32), 0);
        assert!(failed.is("failed", ns::SM), "{failed}");
        let error = resume(&mut wire, &id, 1);
        let text = error.to_string();
        assert!(text.contains("handled-count-too-high"), "{text}");
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let resumed = resume(&mut wire, &id, 0);
        assert!(resumed.is("resumed", ns::SM), "{resumed}");
        assert_eq!(resumed.attr("previd"), Some(&*id));
        assert_eq!(resumed.attr("h"), Some("3"));
        wire.send(&Stage::message("4", "four"));
        assert_eq!(count(&mut wire), "4");
        let bodies: Vec<String> = (0..3)
            .map(|_| romeo.wait("a message", |event| event.kind() == "message"))
            .map(|event| event.body().to_owned())
            .collect();
        assert_eq!(bodies, ["one", "two", "four"]);
        assert!(romeo.settle().is_empty());
    });
}

#[test]
fn a_peer_resumes_a_stream_whose_connection_stands_and_that_connection_ends() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let mut former = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let id = enable(&mut former);
        former.send(&Stage::message("1", "one"));
        romeo.hear("one");
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let resumed = resume(&mut wire, &id, 0);
        assert!(resumed.is("resumed", ns::SM), "{resumed}");
        assert_eq!(resumed.attr("h"), Some("1"));
        former.expect_stream_error("conflict");
        wire.send(&Stage::message("2", "two"));
        romeo.hear("two");
        assert_eq!(count(&mut wire), "2");
    });
}

#[test]
fn what_a_peer_that_has_called_has_not_counted_comes_again_when_it_resumes_both_ways() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let mut wire = call_both_ways(&stage);
        let id = enable(&mut wire);
        for id in ["1", "2", "3"] {
            romeo.say(JULIET, id, "Hear me");
            assert_eq!(stanza(&mut wire), id);
        }
        wire.send(&format!("<a xmlns='{}' h='1'/>", ns::SM));
        wire.send(&Stage::message("in", "I hear"));
        romeo.hear("I hear");
        wire.cut();
        romeo.say(JULIET, "4", "Hear me");
        romeo.settle();
        let mut wire = call_both_ways(&stage);
        let resumed = resume(&mut wire, &id, 2);
        assert!(resumed.is("resumed", ns::SM), "{resumed}");
        assert_eq!(resumed.attr("h"), Some("1"));
        assert_eq!(stanza(&mut wire), "3");
        assert_eq!(stanza(&mut wire), "4");
        wire.send(&format!("<a xmlns='{}' h='4'/>", ns::SM));
        romeo.say(JULIET, "5", "Hear me");
        assert_eq!(stanza(&mut wire), "5");
        assert!(romeo.settle().is_empty());
    });
}

/// One count for all pairs on the stream (XEP-0220 §2.6, XEP-0288 §2.2).
#[test]
fn a_peer_acknowledges_the_stanzas_of_two_pairs_on_one_stream() {
    Net::run(|net| {
        let (stage, _) = stage_of_two(net);
        let (mut romeo, mut rosaline) = (romeo(&stage.cairn), rosaline(&stage.cairn));
        let mut wire = call_both_ways(&stage);
        let id = enable(&mut wire);
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{SECOND}'>0a1b</db:result>"
        ));
        let result = wire.element();
        assert_eq!(result.attr("type"), Some("valid"), "{result}");
        romeo.say(JULIET, "1", "Hear me");
        assert_eq!(stanza(&mut wire), "1");
        rosaline.say(JULIET, "2", "Hear me too");
        assert_eq!(stanza(&mut wire), "2");
        romeo.say(JULIET, "3", "And again");
        assert_eq!(stanza(&mut wire), "3");
        wire.send(&format!("<a xmlns='{}' h='2'/>", ns::SM));
        rosaline.say(JULIET, "4", "And I");
        assert_eq!(stanza(&mut wire), "4");
        wire.cut();
        // The peer has three: the fourth is of a pair that is not authorised on the new stream, and
        // goes on another one.
        let mut wire = call_both_ways(&stage);
        let resumed = resume(&mut wire, &id, 3);
        assert!(resumed.is("resumed", ns::SM), "{resumed}");
        let mut other = stage.peer.accept_authenticated();
        assert_eq!(stanza(&mut other), "4");
        romeo.say(JULIET, "5", "And once more");
        assert_eq!(stanza(&mut wire), "5");
        assert!(romeo.settle().is_empty() && rosaline.settle().is_empty());
    });
}
