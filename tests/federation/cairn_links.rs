//! Links that break and servers that die: each message is delivered or comes back, exactly once.

use std::time::Instant;

use super::scenario::{become_contacts, chat, is_presence};
use super::world::{JULIET, Kind, OTHER, ROMEO, Stage, World, romeo};
use crate::peers::raw::SERVER;
use crate::peers::{Event, Net, PATIENCE, Person, Zone};
use crate::support::{Client, DOMAIN, Element, Tls, Wire, ns};

/// How often a message with this body has come.
fn times(heard: &[Event], body: &str) -> usize {
    let same = |event: &&Event| event.kind() == "message" && event.body() == body;
    heard.iter().filter(same).count()
}

fn cut_and_mended(kind: Kind) {
    Net::run(|net| {
        let world = World::usual(net, kind);
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        let place = world.other.place();
        place.cut();
        romeo.say(JULIET, "c1", "Through the wall");
        juliet.say(ROMEO, "c2", "Over the wall");
        romeo.settle();
        juliet.settle();
        place.mend();
        juliet.hear("Through the wall");
        romeo.hear("Over the wall");
        // Later ones do not overtake, and none comes again.
        chat(&mut romeo, &mut juliet);
        assert_eq!(times(&juliet.settle(), "Through the wall"), 0);
        assert_eq!(times(&romeo.settle(), "Over the wall"), 0);
    });
}

#[test]
fn a_link_to_prosody_that_returns_has_lost_nothing() {
    cut_and_mended(Kind::Prosody);
}

#[test]
fn a_link_to_ejabberd_that_returns_has_lost_nothing() {
    cut_and_mended(Kind::Ejabberd);
}

#[test]
fn a_link_to_another_cairn_that_returns_has_lost_nothing() {
    cut_and_mended(Kind::Cairn);
}

/// RFC 6120 §8.3.3.15 f.: nothing listens where the name points.
fn dead_and_back(kind: Kind) {
    Net::run(|net| {
        let mut world = World::usual(net, kind);
        let (mut romeo, mut juliet) = world.people();
        become_contacts(&mut romeo, &mut juliet);
        drop(juliet);
        world.other.kill();
        // What is written before Cairn sees that is lost where a server counts no stanzas.
        until_no_connection(&world);
        romeo.say(JULIET, "dead", "Is she dead?");
        let condition = romeo.bounce("dead");
        assert_eq!(condition, "remote-server-timeout");
        assert!(!romeo.settle().iter().any(|event| event.id() == "dead"));
        world.other.run();
        let mut juliet = world.juliet();
        romeo.wait("Juliet's presence", |event| is_presence(event, "", JULIET));
        // The probe of her server was answered.
        juliet.wait("Romeo's presence", |event| is_presence(event, "", ROMEO));
        chat(&mut juliet, &mut romeo);
    });
}

/// Waits until Cairn has closed all that it had with the other server.
#[track_caller]
fn until_no_connection(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    while world.cairn.place.is_connected_to(world.other.place()) {
        assert!(Instant::now() < deadline, "it is still connected");
        nix::poll::poll(&mut [], 20_u16).expect("nothing to wait on");
    }
}

#[test]
fn a_prosody_that_dies_costs_an_error_and_is_found_again() {
    dead_and_back(Kind::Prosody);
}

#[test]
fn an_ejabberd_that_dies_costs_an_error_and_is_found_again() {
    dead_and_back(Kind::Ejabberd);
}

#[test]
fn another_cairn_that_dies_costs_an_error_and_is_found_again() {
    dead_and_back(Kind::Cairn);
}

/// A client that tells what it has seen acknowledged.
#[track_caller]
fn managed_romeo(world: &World) -> Client {
    let address = world.cairn.place.socket(5222);
    let connect = || std::net::TcpStream::connect(address).expect("it listens");
    let mut wire = Wire::over(world.cairn.place.inside(connect));
    wire.open();
    wire.negotiate_tls(&Tls::new());
    let mut client = Client::authenticate(wire, "romeo", crate::peers::PASSWORD);
    client.bind(Some("managed"));
    client.enable_management(false);
    client
}

#[test]
fn what_was_acknowledged_reaches_the_other_server_after_a_crash() {
    Net::run(|net| {
        let mut world = World::usual(net, Kind::Prosody);
        world.other.place().cut();
        let mut client = managed_romeo(&world);
        for number in 0..10 {
            client.say(JULIET, &format!("acknowledged {number}"));
        }
        assert_eq!(client.ask_for_ack(), 10);
        world.cairn.kill();
        world.other.place().mend();
        world.cairn.run();
        let mut juliet = world.juliet();
        for number in 0..10 {
            let heard = juliet.wait("a message", |event| event.kind() == "message");
            assert_eq!(heard.body(), format!("acknowledged {number}"));
        }
    });
}

#[test]
fn a_stream_that_the_peer_cuts_is_followed_by_another() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "first", "Hear me");
        let mut wire = stage.peer.accept_authenticated();
        let message = wire.element();
        assert!(message.is("message", SERVER), "{message}");
        assert_eq!(message.attr("id"), Some("first"));
        // The peer offers no stream management, so nobody knows whether "first" was read. What is
        // sent after the end goes over a new stream.
        wire.cut();
        romeo.say(JULIET, "second", "Hear me again");
        let mut wire = stage.peer.accept_authenticated();
        loop {
            let message = wire.element();
            if message.attr("id") == Some("second") {
                break;
            }
        }
        let told = romeo.settle();
        assert!(!told.iter().any(|event| event.id() == "second"), "{told:?}");
    });
}

#[test]
fn one_stream_carries_what_follows() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let before = stage.cairn.place.counters();
        romeo.say_often(JULIET, "many", "Again and again ", 50);
        let mut wire = stage.peer.accept_authenticated();
        for number in 0..50 {
            let message = wire.element();
            assert_eq!(message.attr("id"), Some(&*format!("many{number}")));
            assert_eq!(message.attr("to"), Some(JULIET));
            let from = message.attr("from").expect("it is stamped");
            assert!(from.starts_with(&format!("{ROMEO}/")), "{message}");
        }
        let spent = stage.cairn.place.counters().since(before);
        assert_eq!(spent.tcp_opened, 1, "{spent:?}");
    });
}

#[test]
fn somebody_who_logs_in_while_the_other_server_is_away_is_not_kept_waiting() {
    Net::run(|net| {
        let world = World::usual(net, Kind::Prosody);
        let (mut romeo, mut juliet) = world.people();
        become_contacts(&mut romeo, &mut juliet);
        romeo.log_out();
        world.other.place().cut();
        // Probes wait; people do not.
        let place = &world.cairn.place;
        let mut romeo = Person::online(place, ROMEO, place.v4.into());
        romeo.settle();
        world.other.place().mend();
        romeo.wait("Juliet's presence", |event| is_presence(event, "", JULIET));
    });
}

/// XEP-0288: the peer offers it, and answers on the stream that Cairn has opened.
#[test]
fn a_stream_in_both_directions_carries_the_answers() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "out", "Hello");
        let offer = "<bidi xmlns='urn:xmpp:features:bidi'/>";
        let mut wire = stage.peer.accept_offering(offer, "");
        assert_eq!(wire.element().attr("id"), Some("out"));
        wire.send(&Stage::message("in", "Hello yourself"));
        romeo.hear("Hello yourself");
        // And those of others do not come this way either.
        wire.send(&format!(
            "<message from='paris@third.test' to='{ROMEO}'><body>Trust me</body></message>"
        ));
        let error = wire.element();
        assert_eq!(error.stream_error(), Some("invalid-from"), "{error}");
        assert!(romeo.settle().is_empty());
    });
}

/// XEP-0198 between servers: what the peer has not counted comes again when the stream is resumed,
/// and what it has counted does not.
#[test]
fn a_stream_is_resumed_and_goes_on_where_the_peer_had_counted() {
    const OFFER: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "s1", "one");
        let mut wire = stage.peer.accept_offering("", OFFER);
        let enable = wire.element();
        assert!(enable.is("enable", ns::SM), "{enable}");
        assert!(
            matches!(enable.attr("resume"), Some("true" | "1")),
            "{enable}"
        );
        wire.send(&format!(
            "<enabled xmlns='{}' id='its-name' resume='true' max='600'/>",
            ns::SM
        ));
        assert_eq!(stanza(&mut wire).attr("id"), Some("s1"));
        wire.send(&format!("<a xmlns='{}' h='1'/>", ns::SM));
        romeo.say(JULIET, "s2", "two");
        assert_eq!(stanza(&mut wire).attr("id"), Some("s2"));
        wire.cut();
        romeo.say(JULIET, "s3", "three");
        let mut wire = stage.peer.accept_offering("", OFFER);
        let resume = wire.element();
        assert!(resume.is("resume", ns::SM), "{resume}");
        assert_eq!(resume.attr("previd"), Some("its-name"));
        assert_eq!(resume.attr("h"), Some("0"));
        wire.send(&format!(
            "<resumed xmlns='{}' previd='its-name' h='1'/>",
            ns::SM
        ));
        assert_eq!(stanza(&mut wire).attr("id"), Some("s2"));
        assert_eq!(stanza(&mut wire).attr("id"), Some("s3"));
        wire.send(&format!("<a xmlns='{}' h='3'/>", ns::SM));
        assert!(romeo.settle().is_empty());
    });
}

/// The next that is not a request for a count.
#[track_caller]
fn stanza(wire: &mut Wire) -> Element {
    loop {
        let element = wire.element();
        if element.ns == SERVER {
            return element;
        }
        assert!(element.is("r", ns::SM), "{element}");
    }
}

/// Another server's stanzas have grown by their addresses since a client of it was let say them.
#[test]
fn a_stanza_of_another_server_may_be_longer_than_one_of_a_client() {
    Net::run(|net| {
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| Zone::new().server(OTHER, place),
        );
        stage.cairn.set("limits.stanza_bytes", "10000");
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        let (long, too_long) = ("x".repeat(12_000), "x".repeat(20_000));
        wire.send(&Stage::message("long", &long));
        romeo.hear(&long);
        wire.send(&Stage::message("too-long", &too_long));
        let end = wire.until_end();
        assert!(format!("{end:?}").contains("policy-violation"), "{end:?}");
    });
}
