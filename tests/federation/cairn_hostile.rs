//! Peers that mean harm. Whatever they do, Cairn's own people and other servers do not notice.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::scenario::chat;
use super::world::{GROWTH_MAX, JULIET, OTHER, ROMEO, Stage, mercutio, romeo};
use crate::peers::{Net, PATIENCE, Person, RawPeer, Zone};
use crate::support::{DOMAIN, Seen, Wire, ns};

/// Cairn's people still reach each other, and its memory is what it was.
struct Calm {
    romeo: Person,
    mercutio: Person,
    memory: u64,
}

impl Calm {
    #[track_caller]
    fn before(stage: &Stage) -> Calm {
        let (mut romeo, mut mercutio) = (romeo(&stage.cairn), mercutio(&stage.cairn));
        chat(&mut romeo, &mut mercutio);
        let memory = stage.cairn.resident_bytes();
        Calm {
            romeo,
            mercutio,
            memory,
        }
    }

    #[track_caller]
    fn check(&mut self, stage: &Stage) {
        let begun = Instant::now();
        chat(&mut self.mercutio, &mut self.romeo);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "a chat took {took:?}");
        let grown = stage.cairn.resident_bytes().saturating_sub(self.memory);
        assert!(grown < GROWTH_MAX, "it has grown by {grown} bytes");
    }
}

/// The stream ends with this error; what comes before does not matter.
#[track_caller]
fn ends_with(wire: &mut Wire, conditions: &[&str]) {
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

#[test]
fn a_peer_that_accepts_and_never_answers_costs_an_error() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        calm.romeo.say(JULIET, "silence", "Speak again");
        let wire = stage.peer.accept();
        calm.check(&stage);
        assert_eq!(calm.romeo.bounce("silence"), "remote-server-timeout");
        drop(wire);
    });
}

#[test]
fn a_peer_that_stops_answering_under_tls_costs_an_error() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        calm.romeo.say(JULIET, "silence", "Speak again");
        // It waits for features that do not come.
        let wire = stage.peer.accept_stream();
        calm.check(&stage);
        assert_eq!(calm.romeo.bounce("silence"), "remote-server-timeout");
        drop(wire);
    });
}

/// One account writes to hundreds of domains whose server takes connections and says nothing: what
/// another sends goes its way meanwhile.
#[test]
fn domains_that_never_answer_hold_up_nobody_but_who_writes_to_them() {
    Net::run(|net| {
        let hole = net.place("hole");
        let address = hole.socket(5269);
        let _silent = hole.inside(|| TcpListener::bind(address).expect("nobody else is here"));
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                let zone = Zone::new().server(OTHER, place);
                zone.record(&format!("*.test. A {}", hole.v4))
            },
        );
        stage.cairn.set("limits.authentication_s", "60");
        stage.cairn.run();
        let (mut romeo, mut mercutio) = (romeo(&stage.cairn), mercutio(&stage.cairn));
        for number in 0..150 {
            let id = format!("lost{number}");
            romeo.say(&format!("somebody@apart{number}.test"), &id, "Hello?");
            romeo.say(&format!("somebody@x{number}.together.test"), &id, "Hello?");
        }
        romeo.settle();
        mercutio.say(JULIET, "good", "Hear me");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("good"));
        // All of them still wait.
        let told = romeo.settle();
        assert!(told.is_empty(), "{told:?}");
    });
}

/// Much is sent to a peer that reads nothing: the queue to it is bounded, and what does not fit
/// comes back.
#[test]
fn a_peer_that_never_reads_fills_a_queue_that_is_bounded() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        calm.romeo.say(JULIET, "first", "Listen");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("first"));
        let mut tybalt = romeo(&stage.cairn);
        let long = "x".repeat(8_000);
        tybalt.say_often(JULIET, "long", &long, 5_000);
        let came_back = tybalt.wait("an error", |event| event.type_() == "error");
        let condition = came_back.condition();
        let expected = ["resource-constraint", "remote-server-timeout"];
        assert!(expected.contains(&condition), "{condition}");
        calm.check(&stage);
        drop(wire);
    });
}

/// XEP-0198: what the peer does not say that it has goes on another stream, whatever it says
/// besides.
#[track_caller]
fn left_when_it_does_not_answer(silent: impl FnOnce(&Stage) -> Wire) {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set("limits.ping_answer_s", "3");
        stage.cairn.run();
        let mut wire = silent(&stage);
        let deadline = Instant::now() + PATIENCE;
        while wire.try_send_bytes(b" ").is_ok() {
            assert!(Instant::now() < deadline, "it is waited for for ever");
            nix::poll::poll(&mut [], 100_u16).expect("nothing to wait on");
        }
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("held"));
    });
}

#[track_caller]
fn say_held(stage: &Stage) {
    let mut romeo = romeo(&stage.cairn);
    romeo.say(JULIET, "held", "Do you hear me?");
    romeo.settle();
}

const SM_OFFER: &str = "<sm xmlns='urn:xmpp:sm:3'/>";

#[test]
fn a_peer_that_never_says_whether_it_counts_is_left() {
    left_when_it_does_not_answer(|stage| {
        say_held(stage);
        let mut wire = stage.peer.accept_offering("", SM_OFFER);
        let enable = wire.element();
        assert!(enable.is("enable", ns::SM), "{enable}");
        wire
    });
}

#[test]
fn a_peer_that_never_says_what_it_has_is_left() {
    left_when_it_does_not_answer(|stage| {
        say_held(stage);
        let mut wire = stage.peer.accept_offering("", SM_OFFER);
        wire.element();
        wire.send(&format!("<enabled xmlns='{}'/>", ns::SM));
        assert_eq!(wire.element().attr("id"), Some("held"));
        wire
    });
}

#[test]
fn a_peer_that_has_called_and_never_says_what_it_has_is_left() {
    left_when_it_does_not_answer(|stage| {
        let (mut wire, features) = stage.peer.call_stream(stage.address(), DOMAIN);
        wire.send("<bidi xmlns='urn:xmpp:bidi'/>");
        let mut wire = stage.peer.authenticate(wire, &features, DOMAIN);
        wire.send(&format!("<enable xmlns='{}'/>", ns::SM));
        let enabled = wire.element();
        assert!(enabled.is("enabled", ns::SM), "{enabled}");
        say_held(stage);
        assert_eq!(wire.element().attr("id"), Some("held"));
        wire
    });
}

/// One stanza that the peer ends every stream for costs its sender an error, and nobody else
/// anything.
#[test]
fn a_stanza_that_the_peer_ends_streams_for_comes_back_and_the_others_arrive() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let (mut romeo, mut mercutio) = (romeo(&stage.cairn), mercutio(&stage.cairn));
        romeo.say(JULIET, "bad", "Poison");
        let mut streams = 0;
        loop {
            let mut wire = stage.peer.accept_offering("", SM_OFFER);
            streams += 1;
            let enable = wire.element();
            assert!(enable.is("enable", ns::SM), "{enable}");
            wire.send(&format!("<enabled xmlns='{}'/>", ns::SM));
            let first = wire.element();
            if first.attr("id") == Some("good") {
                break;
            }
            assert_eq!(first.attr("id"), Some("bad"));
            if streams == 1 {
                // Behind the bad one, whichever connection the server reads first.
                mercutio.say(JULIET, "good", "Hello");
                while wire.element().attr("id") != Some("good") {}
            }
            wire.send(&format!(
                "<stream:error><policy-violation xmlns='{}'/></stream:error></stream:stream>",
                ns::STREAM_ERROR
            ));
            wire.until_end();
            assert!(streams < 5, "it is sent again and again");
        }
        assert_eq!(romeo.bounce("bad"), "policy-violation");
        assert!(mercutio.settle().is_empty());
        assert!(romeo.settle().is_empty());
    });
}

/// Sends as much as is taken in ten seconds, and asserts that it is neither little nor much.
#[track_caller]
fn flood(wire: &mut Wire) {
    let (body, to) = ("y".repeat(2_000), "nobody@cairn.example");
    let message =
        format!("<message from='{JULIET}' to='{to}' type='error'><body>{body}</body></message>");
    let batch = message.repeat(50);
    let patience = Some(Duration::from_secs(1));
    wire.socket().set_write_timeout(patience).expect("a socket");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut sent = 0_u64;
    while Instant::now() < deadline {
        match wire.try_send_bytes(batch.as_bytes()) {
            Ok(()) => sent += batch.len() as u64,
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    ErrorKind::WouldBlock,
                    "{sent} bytes were taken"
                );
                break;
            }
        }
    }
    // What may come at once is taken. 10 s of all that a peer can send would be hundreds of
    // megabytes.
    assert!(
        (4 << 20..60 << 20).contains(&sent),
        "{sent} bytes were taken"
    );
}

#[test]
fn a_peer_that_floods_is_slowed_or_cut_off() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        flood(&mut wire);
        calm.check(&stage);
    });
}

/// XEP-0288: a peer that was called may send on that stream, and no faster.
#[test]
fn a_peer_that_floods_where_it_was_called_is_slowed_too() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        calm.romeo.say(JULIET, "out", "Hello");
        let offer = "<bidi xmlns='urn:xmpp:features:bidi'/>";
        let mut wire = stage.peer.accept_offering(offer, "");
        assert_eq!(wire.element().attr("id"), Some("out"));
        flood(&mut wire);
        calm.check(&stage);
    });
}

#[test]
fn a_stanza_that_never_ends_ends_the_stream() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        wire.send(&format!("<message from='{JULIET}' to='{ROMEO}'><body>"));
        let more = "z".repeat(64 << 10);
        let deadline = Instant::now() + PATIENCE;
        while wire.try_send_bytes(more.as_bytes()).is_ok() {
            assert!(Instant::now() < deadline, "it takes everything");
        }
        calm.check(&stage);
    });
}

/// Hundreds of connections that say nothing: each is taken away in time, and a good peer gets in.
#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut calm = Calm::before(&stage);
        let flooder = net.place("flooder");
        let address = stage.address();
        let open = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let silent: Vec<_> = flooder.inside(|| (0..500).map_while(|_| open().ok()).collect());
        let mut wire = stage.peer.call_authenticated(address, DOMAIN);
        wire.send(&Stage::message("good", "I come as a friend"));
        calm.romeo.hear("I come as a friend");
        calm.check(&stage);
        drop(silent);
    });
}

/// RFC 6120 §4.9.3.9: whoever is not authorised for a domain does not speak for it.
#[test]
fn a_stanza_in_the_name_of_a_third_domain_ends_the_stream() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        for from in [
            "paris@third.test",
            "mercutio@cairn.example",
            "cairn.example",
            "juliet@sub.other.test",
        ] {
            let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
            wire.send(&format!(
                "<message from='{from}' to='{ROMEO}' type='chat'><body>Trust me</body></message>"
            ));
            ends_with(&mut wire, &["invalid-from"]);
        }
        assert!(romeo.settle().is_empty());
    });
}

/// RFC 6120 §8.1.2.2: between servers nothing goes without both addresses.
#[test]
fn a_stanza_without_addresses_or_for_a_foreign_domain_ends_the_stream() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        for (addresses, conditions) in [
            (format!("to='{ROMEO}'"), &["improper-addressing"][..]),
            (format!("from='{JULIET}'"), &["improper-addressing"]),
            (
                format!("from='{JULIET}' to='paris@third.test'"),
                &["host-unknown", "improper-addressing"],
            ),
        ] {
            let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
            wire.send(&format!(
                "<message {addresses}><body>Relay me</body></message>"
            ));
            ends_with(&mut wire, conditions);
        }
    });
}

#[test]
fn a_stanza_before_any_authorisation_ends_the_stream() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let (mut wire, _) = stage.peer.call_stream(stage.address(), DOMAIN);
        wire.send(&Stage::message("early", "Let me in"));
        ends_with(&mut wire, &["not-authorized", "invalid-from"]);
        assert!(romeo.settle().is_empty());
    });
}

/// XEP-0220 §2.1: only whoever was asked may answer. An answer to no question grants nothing.
#[test]
fn dialback_results_that_nobody_asked_for_grant_nothing() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        for unasked in [
            format!("<db:result from='third.test' to='{DOMAIN}' type='valid'/>"),
            format!("<db:verify from='third.test' to='{DOMAIN}' id='x' type='valid'/>"),
            format!("<db:result from='{DOMAIN}' to='third.test' type='valid'/>"),
        ] {
            let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
            wire.send(&unasked);
            wire.send(&format!(
                "<message from='paris@third.test' to='{ROMEO}'><body>Trust me</body></message>"
            ));
            // Either of both may have been too much.
            let heard = wire.until_end();
            let error = heard.iter().any(
                |seen| matches!(seen, Seen::Element(element) if element.is("error", ns::STREAM)),
            );
            assert!(error, "{heard:?}");
        }
        assert!(romeo.settle().is_empty());
    });
}

/// The same on a stream that Cairn has opened: it answers for one domain, and has asked nothing.
#[test]
fn a_peer_that_was_called_does_not_speak_for_others() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "called", "Hello");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("called"));
        // Without XEP-0288 nothing comes this way, and with it only what is the peer's own.
        let unasked = format!("<db:result from='third.test' to='{DOMAIN}' type='valid'/>");
        let stanza = format!(
            "<message from='paris@third.test' to='{ROMEO}'><body>Trust me</body></message>"
        );
        let _ = wire.try_send_bytes(unasked.as_bytes());
        let _ = wire.try_send_bytes(stanza.as_bytes());
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        wire.send(&Stage::message("own", "Hello yourself"));
        romeo.hear("Hello yourself");
        let told = romeo.settle();
        assert!(
            !told.iter().any(|event| event.is_from("paris@third.test")),
            "{told:?}"
        );
    });
}

/// Many names that lead nowhere are asked for by a peer without a certificate: Cairn does not
/// become its tool to call others.
#[test]
fn a_stranger_cannot_make_cairn_call_others() {
    Net::run(|net| {
        let stage = Stage::with_leaf(net, |_| crate::peers::Leaf::self_signed(OTHER));
        let before = stage.cairn.place.counters();
        for number in 0..50 {
            let called = stage.peer.try_call_stream(stage.address(), DOMAIN);
            let Some((mut wire, _)) = called else {
                continue;
            };
            let result =
                format!("<db:result from='victim{number}.test' to='{DOMAIN}'>0a1b</db:result>");
            let _ = wire.try_send_bytes(result.as_bytes());
            let _ = wire.next();
        }
        let spent = stage.cairn.place.counters().since(before);
        assert_eq!(spent.tcp_opened, 0, "{spent:?}");
    });
}

/// With dialling back allowed a stranger has Cairn call others, but not after it has gone.
#[test]
fn a_stranger_that_hangs_up_has_nobody_called_any_more() {
    Net::run(|net| {
        let ca = crate::peers::Ca::new("Authority of nobody");
        let mut stage = Stage::prepared(net);
        stage.cairn.set("federation.dialback", "\"tls\"");
        stage.cairn.set("limits.authentication_s", "60");
        stage.cairn.run();
        let place = net.place("stranger");
        let stranger = RawPeer::listen(place, "stranger.test", &ca.leaf("stranger.test"));
        let (mut wire, _) = stranger.call_stream(stage.address(), DOMAIN);
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
        ));
        let mut asked = stage.peer.accept();
        asked.header();
        wire.cut();
        // Cairn waits for an answer a minute and more, but for nobody now.
        assert!(asked.until_end().is_empty());
    });
}
