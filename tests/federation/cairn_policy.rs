//! With whom Cairn talks at all.

use super::scenario::chat;
use super::world::{JULIET, Kind, OTHER, Stage, World, romeo};
use crate::peers::{Net, Person};
use crate::support::DOMAIN;

/// The closed server of an organisation: it neither calls nor asks for names, and nobody can call
/// it.
#[test]
fn a_server_that_does_not_federate_sends_nothing_outside() {
    Net::run(|net| {
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| crate::peers::Zone::new().server(OTHER, place),
        );
        stage.cairn.set("federation.mode", "\"off\"");
        stage.cairn.run();
        // People are elsewhere, so that all that is counted is the server's.
        let place = net.place("people");
        let server = stage.cairn.place.v4.into();
        let mut romeo = Person::online(&place, "romeo@cairn.example", server);
        let mut mercutio = Person::online(&place, "mercutio@cairn.example", server);
        chat(&mut romeo, &mut mercutio);
        for to in [JULIET, "nobody@nowhere.test", "other.test"] {
            romeo.say(to, "away", "Is anybody there?");
            assert_eq!(romeo.bounce("away"), "remote-server-not-found");
            romeo.presence("subscribe", to);
            let answer = romeo.get(to, "<ping xmlns='urn:xmpp:ping'/>");
            assert_eq!(answer.type_(), "error");
            assert_eq!(answer.condition(), "remote-server-not-found");
        }
        romeo.settle();
        let spent = stage.cairn.place.counters();
        assert_eq!((spent.tcp_opened, spent.udp_sent), (0, 0), "{spent:?}");
        assert_eq!(stage.dns.place.counters().udp_received, 0);
        for port in [5269, 5270] {
            let address = stage.cairn.place.socket(port);
            let called = place.inside(|| std::net::TcpStream::connect(address));
            let refused = std::io::ErrorKind::ConnectionRefused;
            assert!(called.is_err_and(|error| error.kind() == refused));
        }
    });
}

/// Neither called nor let in: with the condition for what the operator does not want.
fn kept_out(settings: &[(&str, &str)]) {
    Net::run(|net| {
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| crate::peers::Zone::new().server(OTHER, place),
        );
        for (key, value) in settings {
            stage.cairn.set(key, value);
        }
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        let before = stage.cairn.place.counters();
        romeo.say(JULIET, "out", "May I?");
        let condition = romeo.bounce("out");
        let expected = ["remote-server-not-found", "forbidden", "not-allowed"];
        assert!(expected.contains(&&*condition), "{condition}");
        let spent = stage.cairn.place.counters().since(before);
        assert_eq!((spent.tcp_opened, spent.udp_sent), (0, 0), "{spent:?}");
        if let Some((mut wire, _)) = stage.peer.try_call_stream(stage.address(), DOMAIN) {
            let _ = wire.try_send_bytes(Stage::message("in", "May I?").as_bytes());
            wire.until_end();
        }
        assert!(romeo.settle().is_empty());
    });
}

#[test]
fn a_domain_that_is_denied_is_kept_out() {
    kept_out(&[("federation.deny", "[\"other.test\"]")]);
}

#[test]
fn a_domain_below_one_that_is_denied_with_a_dot_is_kept_out() {
    kept_out(&[("federation.deny", "[\".test\"]")]);
}

#[test]
fn a_domain_that_is_not_on_the_list_is_kept_out() {
    kept_out(&[
        ("federation.mode", "\"allow-list\""),
        ("federation.allow", "[\"third.test\", \".other.test\"]"),
    ]);
}

#[test]
fn a_domain_on_the_list_is_talked_to() {
    Net::run(|net| {
        let mut world = World::usual(net, Kind::Prosody);
        world.cairn.kill();
        world.cairn.set("federation.mode", "\"allow-list\"");
        world.cairn.set("federation.allow", "[\"other.test\"]");
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}
