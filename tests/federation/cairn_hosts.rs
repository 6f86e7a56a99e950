//! Two domains of one Cairn and other servers: each pair of domains is authorised for itself.

use super::scenario::{become_contacts, chat};
use super::world::{JULIET, Kind, OTHER, ROMEO, Stage, World, romeo};
use crate::peers::{Ca, CairnPeer, Leaf, Net, Person, Zone};
use crate::support::{DOMAIN, Seen, Wire};

/// What Cairn serves beside its first domain.
pub const SECOND: &str = "second.example";
/// Who somebody there is.
const ROSALINE: &str = "rosaline@second.example";

/// Serves both, from its next start on.
#[track_caller]
fn serve_both(cairn: &mut CairnPeer, ca: &Ca) -> Leaf {
    let leaf = ca.leaf(SECOND);
    cairn.serve_too(SECOND, &leaf);
    cairn.add_account(ROSALINE);
    leaf
}

#[track_caller]
pub fn rosaline(cairn: &CairnPeer) -> Person {
    Person::online(&cairn.place, ROSALINE, cairn.place.v4.into())
}

fn message(from: &str, to: &str, body: &str) -> String {
    format!("<message from='{from}' to='{to}' type='chat'><body>{body}</body></message>")
}

/// A peer that the test plays, and Cairn with both domains, which runs.
#[track_caller]
pub fn stage(net: &Net) -> (Stage, Leaf) {
    let mut stage = Stage::prepared(net);
    let zone = Zone::new()
        .server(OTHER, &stage.peer.place)
        .server(DOMAIN, &stage.cairn.place)
        .server(SECOND, &stage.cairn.place);
    stage.dns.set(&zone);
    let leaf = serve_both(&mut stage.cairn, &stage.ca);
    stage.cairn.run();
    (stage, leaf)
}

/// Two domains share a stream of the peer's (XEP-0288): one that always has something to send does not
/// keep the other waiting.
#[test]
fn each_domain_that_sends_back_on_one_stream_has_its_turn() {
    Net::run(|net| {
        let (stage, _) = stage(net);
        let (mut romeo, mut rosaline) = (romeo(&stage.cairn), rosaline(&stage.cairn));
        let (mut wire, features) = stage.peer.call_stream(stage.address(), DOMAIN);
        // What the peer does not read waits at Cairn, but for a little.
        let socket = socket2::SockRef::from(wire.socket());
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        wire.send("<bidi xmlns='urn:xmpp:bidi'/>");
        let mut wire = stage.peer.authenticate(wire, &features, DOMAIN);
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{SECOND}'>0a1b</db:result>"
        ));
        let result = wire.element();
        assert_eq!(result.attr("type"), Some("valid"), "{result}");
        wire.send(&message(JULIET, ROMEO, "Go on"));
        romeo.hear("Go on");
        romeo.say_often(JULIET, "many", &"x".repeat(8_000), 300);
        romeo.settle();
        rosaline.say(JULIET, "one", "Let me speak");
        rosaline.settle();
        let mut ids = (0..301).map(|_| wire.element().attr("id").unwrap_or_default().to_owned());
        let at = ids.position(|id| id == "one").expect("it comes");
        assert!(at < 200, "behind {at} of the other domain");
    });
}

/// People of both domains and of another server: each sees and hears the other.
fn both_reach(kind: Kind) {
    Net::run(|net| {
        let mut world = World::usual(net, kind);
        world.cairn.kill();
        let zone = Zone::new()
            .server(OTHER, world.other.place())
            .server(DOMAIN, &world.cairn.place)
            .server(SECOND, &world.cairn.place);
        world.dns.set(&zone);
        serve_both(&mut world.cairn, &world.ca);
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        let mut rosaline = rosaline(&world.cairn);
        become_contacts(&mut romeo, &mut juliet);
        become_contacts(&mut juliet, &mut rosaline);
        chat(&mut rosaline, &mut juliet);
        chat(&mut juliet, &mut romeo);
        chat(&mut juliet, &mut rosaline);
        // Between themselves they need nobody.
        chat(&mut romeo, &mut rosaline);
    });
}

#[test]
fn people_of_both_domains_talk_with_prosody() {
    both_reach(Kind::Prosody);
}

#[test]
fn people_of_both_domains_talk_with_another_cairn() {
    both_reach(Kind::Cairn);
}

/// Cairn shows the certificate of the domain that it speaks for.
#[test]
fn each_domain_calls_in_its_own_name() {
    Net::run(|net| {
        let (stage, leaf) = stage(net);
        let (mut romeo, mut rosaline) = (romeo(&stage.cairn), rosaline(&stage.cairn));
        let mut shown = Vec::new();
        for person in [&mut romeo, &mut rosaline] {
            person.say(JULIET, "hello", "Good morrow");
            let mut wire = stage.peer.accept_authenticated();
            let stanza = wire.element();
            let from = stanza.attr("from").unwrap_or_default();
            assert!(from.starts_with(&person.jid), "{stanza}");
            let chain = wire.served_tls().peer_certificates();
            shown.push((chain.expect("it shows one")[0].to_vec(), wire));
        }
        assert_eq!(shown[1].0, leaf.chain_der()[0].to_vec());
        assert_ne!(shown[0].0, shown[1].0);
    });
}

#[track_caller]
fn ends_in(wire: &mut Wire, conditions: &[&str]) {
    let heard = wire.until_end();
    let error = heard.iter().find_map(|seen| match seen {
        Seen::Element(element) => element.stream_error(),
        _ => None,
    });
    assert!(
        error.is_some_and(|error| conditions.contains(&error)),
        "{conditions:?} expected, {heard:?}"
    );
}

/// RFC 6120 §4.9.3.9 and §4.9.3.6: who was authorised for one pair has no other.
#[test]
fn a_stream_for_one_domain_carries_nothing_to_the_other() {
    Net::run(|net| {
        let (stage, _) = stage(net);
        let (mut romeo, mut rosaline) = (romeo(&stage.cairn), rosaline(&stage.cairn));
        for (domain, own, other) in [(DOMAIN, ROMEO, ROSALINE), (SECOND, ROSALINE, ROMEO)] {
            let mut wire = stage.peer.call_authenticated(stage.address(), domain);
            wire.send(&message(JULIET, own, "For you"));
            let person = match domain {
                DOMAIN => &mut romeo,
                _ => &mut rosaline,
            };
            person.hear("For you");
            wire.send(&message(JULIET, other, "And for you"));
            ends_in(
                &mut wire,
                &[
                    "not-authorized",
                    "invalid-from",
                    "improper-addressing",
                    "host-unknown",
                ],
            );
            // Nobody from outside is one of ours, of whichever domain.
            for from in [ROMEO, ROSALINE] {
                let mut wire = stage.peer.call_authenticated(stage.address(), domain);
                wire.send(&message(from, own, "I am one of you"));
                ends_in(&mut wire, &["invalid-from"]);
            }
        }
        assert!(romeo.settle().is_empty() && rosaline.settle().is_empty());
    });
}

/// XEP-0220 §2.6: one more pair on a stream that there is, by the certificate that was shown for
/// the first one (XEP-0344 §2.3).
#[test]
fn both_domains_are_reached_over_one_stream_once_each_pair_is_authorised() {
    Net::run(|net| {
        let (stage, _) = stage(net);
        let (mut romeo, mut rosaline) = (romeo(&stage.cairn), rosaline(&stage.cairn));
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        wire.send(&message(JULIET, ROMEO, "One"));
        romeo.hear("One");
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{SECOND}'>0a1b</db:result>"
        ));
        let result = wire.element();
        assert_eq!(result.name, "result", "{result}");
        assert_eq!(result.attr("type"), Some("valid"), "{result}");
        assert_eq!(result.attr("from"), Some(SECOND), "{result}");
        wire.send(&message(JULIET, ROSALINE, "Two"));
        rosaline.hear("Two");
        wire.send(&message(JULIET, ROMEO, "Three"));
        romeo.hear("Three");
        // A third domain has no certificate here.
        wire.send(&message("paris@third.test", ROSALINE, "Trust me"));
        ends_in(&mut wire, &["invalid-from"]);
        assert!(romeo.settle().is_empty() && rosaline.settle().is_empty());
    });
}
