//! A link by itself, and two servers on a network that loses connections, on simulated time.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};

use super::*;

mod simulation;

static ASKERS: LazyLock<Askers> = LazyLock::new(Askers::default);

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("an address")
}

fn pair() -> Pair {
    Pair {
        local: jid("a.example"),
        remote: jid("b.example"),
    }
}

fn link() -> Link {
    Link::new(pair(), 1, Room::new(usize::MAX / 4))
}

fn parcel(id: &str, freight: Freight) -> Parcel {
    let text = format!("<message id='{id}' from='x@a.example' to='y@b.example'/>");
    let asker = ASKERS.named("x@a.example");
    Parcel::new(bytes::Bytes::from(text).into(), Position(0), freight, asker)
}

fn ids(parcels: &[Parcel]) -> Vec<String> {
    let id = |parcel: &Parcel| {
        let stanza = Stanza::from_canonical(parcel.outgoing.to_bytes()).expect("a stanza");
        stanza.id().expect("it has one").into_owned()
    };
    parcels.iter().map(id).collect()
}

fn post(link: &Link, id: &str) -> Posted {
    link.post(parcel(id, Freight::Plain), Position(0), 0)
}

fn take(link: &Link, reader: u64) -> Vec<String> {
    ids(&link.take(reader, Position(0), usize::MAX).parcels)
}

#[test]
fn the_first_parcel_has_the_shell_connect_and_the_others_wait() {
    let link = link();
    assert!(matches!(post(&link, "1"), Posted::Connect));
    assert!(matches!(post(&link, "2"), Posted::Queued));
    assert!(link.up(7) && !link.up(8), "one connection sends");
    assert!(link.take(8, Position(0), usize::MAX).is_replaced);
    assert_eq!(take(&link, 7), ["1", "2"]);
}

#[test]
fn what_waits_for_the_log_is_not_taken() {
    let link = link();
    let gated = Parcel {
        after: Position(5),
        ..parcel("1", Freight::Plain)
    };
    link.post(gated, Position(0), 0);
    link.up(7);
    let taken = link.take(7, Position(4), usize::MAX);
    assert!(taken.parcels.is_empty());
    assert_eq!(taken.gate, Some(Position(5)));
    assert_eq!(
        link.take(7, Position(4), usize::MAX).gate,
        None,
        "told once"
    );
    assert_eq!(link.take(7, Position(5), usize::MAX).parcels.len(), 1);
}

#[test]
fn a_failure_brings_everything_back_once_and_lasts_for_a_while() {
    let link = link();
    post(&link, "1");
    post(&link, "2");
    let error = StanzaError::remote_server_not_found("nothing there");
    assert_eq!(ids(&link.give_up(&error, 1_000)), ["1", "2"]);
    assert!(link.give_up(&error, 1_000).is_empty());
    let late = link.post(parcel("3", Freight::Plain), Position(0), 2_000);
    let Posted::Refused(refusal) = late else {
        panic!("it rests: {late:?}")
    };
    assert_eq!(refusal, error);
    let later = link.post(parcel("4", Freight::Plain), Position(0), 700_000);
    assert!(matches!(later, Posted::Connect));
}

#[test]
fn a_reader_that_is_cut_off_finds_itself_replaced_and_what_waited_comes_back() {
    let link = link();
    link.up(7);
    post(&link, "1");
    assert_eq!(take(&link, 7), ["1"]);
    post(&link, "2");
    let mut context = Context::from_waker(Waker::noop());
    assert!(link.poll_replaced(7, &mut context).is_pending());
    let error = StanzaError::remote_server_timeout("it reads too slowly");
    link.cut_off(&error, 0);
    assert!(matches!(post(&link, "3"), Posted::Refused(_)));
    assert!(link.poll_replaced(7, &mut context).is_ready());
    assert!(link.take(7, Position(0), usize::MAX).is_replaced);
    assert_eq!(ids(&link.give_up(&error, 0)), ["2"]);
    assert!(link.up(8), "the next one serves it at once");
}

#[test]
fn half_of_what_may_wait_is_heavy() {
    let link = Link::new(pair(), 1, Room::new(40_000));
    link.up(7);
    let heavy_at = (0..).find(|_| {
        assert!(!matches!(post(&link, "1"), Posted::Refused(_)));
        link.is_heavy()
    });
    let weight = parcel("1", Freight::Plain).weight();
    assert_eq!(heavy_at, Some(40_000 / 3 / 2 / weight));
}

#[test]
fn a_server_that_comes_by_itself_can_be_reached() {
    let link = link();
    link.give_up(&StanzaError::remote_server_timeout("silent"), 0);
    link.end_rest();
    assert!(matches!(post(&link, "1"), Posted::Connect));
}

#[test]
fn rests_grow_and_end() {
    let link = link();
    let error = StanzaError::remote_server_timeout("silent");
    let mut now_ms = 0;
    let mut rests = Vec::new();
    for _ in 0..12 {
        link.give_up(&error, now_ms);
        let mut rest_ms = 0;
        while !matches!(
            link.post(parcel("1", Freight::Plain), Position(0), now_ms + rest_ms),
            Posted::Connect
        ) {
            rest_ms += 1_000;
        }
        now_ms += rest_ms;
        rests.push(rest_ms);
    }
    assert!(rests.is_sorted(), "{rests:?}");
    assert_eq!((rests[0], rests[11]), (5_000, 300_000));
}

#[test]
fn what_was_not_acknowledged_is_sent_again_on_a_resumed_stream_in_its_order() {
    let link = link();
    for id in ["1", "2", "3"] {
        post(&link, id);
    }
    link.up(7);
    let resumption = Resumption {
        id: "stream".to_owned(),
        handled: 0,
    };
    link.manage(7, Some(resumption.clone()));
    assert_eq!(take(&link, 7), ["1", "2", "3"]);
    let done = link.acknowledge(7, 1).expect("it was sent");
    assert_eq!(ids(&done), ["1"]);
    assert_eq!(link.lost(7, Vec::new(), 0), Left::Reconnect);
    post(&link, "4");
    assert!(link.up(8));
    assert_eq!(link.resumption(), Some(resumption));
    let done = link.resumed(8, 2).expect("it was sent");
    assert_eq!(ids(&done), ["2"]);
    assert_eq!(take(&link, 8), ["3", "4"]);
    let too_high = link.acknowledge(8, 5).expect_err("four were sent");
    assert_eq!((too_high.h, too_high.sent), (5, 4));
}

#[test]
fn where_nothing_is_resumed_requests_come_back_and_the_rest_goes_again() {
    let link = link();
    post(&link, "1");
    link.post(parcel("ask", Freight::Request), Position(0), 0);
    post(&link, "2");
    link.up(7);
    link.manage(7, None);
    assert_eq!(take(&link, 7).len(), 3);
    assert_eq!(link.lost(7, Vec::new(), 0), Left::Reconnect);
    link.up(8);
    let unknown = link.not_resumed(Some(1));
    assert_eq!(ids(&unknown.done), ["1"]);
    assert_eq!(ids(&unknown.lost), ["ask"]);
    assert_eq!(take(&link, 8), ["2"]);
}

#[test]
fn what_was_in_hand_goes_back_to_the_front() {
    let link = link();
    post(&link, "1");
    post(&link, "2");
    link.up(7);
    let taken = link.take(7, Position(0), 1).parcels;
    assert_eq!(ids(&taken), ["1"]);
    assert_eq!(link.lost(7, taken, 0), Left::Reconnect);
    link.up(8);
    assert_eq!(take(&link, 8), ["1", "2"]);
    assert_eq!(link.lost(8, Vec::new(), 0), Left::Nothing);
}

#[test]
fn a_lost_stream_is_looked_for_again_before_anything_comes_back() {
    let link = link();
    post(&link, "1");
    assert_eq!(link.try_again_at(0), None, "it was never there");
    link.up(7);
    let taken = link.take(7, Position(0), usize::MAX).parcels;
    link.lost(7, taken, 0);
    assert!(link.try_again_at(1).is_some_and(|at| at > 1));
    assert!(link.try_again_at(PATIENCE_MS - 1).is_some());
    assert_eq!(link.try_again_at(PATIENCE_MS), None);
}

#[test]
fn a_peer_that_ends_every_stream_is_called_less_and_less_often_and_then_left() {
    let link = link();
    post(&link, "1");
    let mut now_ms = 0;
    let mut pauses = Vec::new();
    // Each stream takes the stanza and ends before it is acknowledged.
    let over = loop {
        assert!(pauses.len() < 100, "for ever: {pauses:?}");
        link.up(7);
        link.manage(7, None);
        assert_eq!(take(&link, 7), ["1"]);
        assert_eq!(link.ended(7, Vec::new(), now_ms).0, Left::Reconnect);
        let Some(at_ms) = link.reconnect_at(now_ms) else {
            break now_ms;
        };
        pauses.push(at_ms - now_ms);
        now_ms = at_ms;
    };
    assert_eq!(pauses[0], 0, "the first time may be an accident");
    assert!(pauses[1] > 0 && pauses[2] > pauses[1], "{pauses:?}");
    assert!(pauses.len() < 12 && over >= PATIENCE_MS, "{pauses:?}");
    let error = StanzaError::remote_server_timeout("it takes nothing");
    assert_eq!(ids(&link.give_up(&error, now_ms)), ["1"], "once");
}

#[test]
fn a_peer_that_has_taken_something_is_called_again_at_once() {
    let link = link();
    post(&link, "1");
    post(&link, "2");
    for (number, id) in [(7, "1"), (8, "2")] {
        link.up(number);
        link.manage(number, None);
        assert_eq!(take(&link, number)[0], id);
        assert_eq!(
            ids(&link.acknowledge(number, 1).expect("it was sent")),
            [id]
        );
        post(&link, "3");
        assert_eq!(link.ended(number, Vec::new(), 0).0, Left::Reconnect);
        assert_eq!(link.reconnect_at(0), Some(0));
    }
}

#[test]
fn the_room_is_bounded_and_given_back() {
    let room = Room::new(4_000);
    let link = Link::new(pair(), 1, room.clone());
    let mut count = 0;
    while !matches!(post(&link, "1"), Posted::Refused(_)) {
        count += 1;
    }
    assert!(count > 0 && room.bytes() <= 2_000);
    let error = StanzaError::remote_server_timeout("silent");
    let back = link.give_up(&error, 0);
    assert_eq!(back.len(), count);
    assert!(room.bytes() > 0, "what comes back is not gone yet");
    drop(back);
    assert_eq!(room.bytes(), 0);
    post(&link, "2");
    drop(link);
    assert_eq!(room.bytes(), 0);
}

/// What one sends to many domains is bounded as a whole, and costs those who wait nothing.
#[test]
fn who_writes_to_many_domains_leaves_room_for_others() {
    let room = Room::new(100_000);
    let to = |number: u32| {
        let remote = jid(&format!("b{number}.example"));
        Link::new(Pair { remote, ..pair() }, u64::from(number), room.clone())
    };
    let links: Vec<Link> = (0..10).map(to).collect();
    let mut is_full = false;
    for link in &links {
        for _ in 0..100 {
            is_full |= matches!(post(link, "1"), Posted::Refused(_));
        }
    }
    assert!(is_full && room.bytes() < 30_000, "{}", room.bytes());
    let other = Parcel {
        asker: ASKERS.named("z@a.example"),
        ..parcel("2", Freight::Plain)
    };
    let posted = links[9].post(other, Position(0), 0);
    assert!(!matches!(posted, Posted::Refused(_)), "{posted:?}");
}

#[test]
fn what_waits_for_other_servers_costs_no_session_here_its_room() {
    let server = crate::router::tests::Server::new();
    let core = &server.core;
    core.remotes.connect_with(Box::new(|_| ()));
    let (from, body) = (jid("x@example.org"), "x".repeat(10_000));
    let mut cx = core.cx();
    for number in 0..2_000 {
        let to = jid(&format!("y@b{number}.example"));
        let text = format!("<message from='{from}' to='{to}'><body>{body}</body></message>");
        send_own(&mut cx, &from, &to, bytes::Bytes::from(text).into());
    }
    assert!(core.remotes.room.bytes() > 0, "nothing waits");
    assert_eq!((core.outboxes.bytes(), core.outboxes.excess()), (0, 0));
}

#[test]
fn a_stanza_that_a_peer_ends_its_streams_for_comes_back_alone() {
    let link = link();
    for id in ["good", "bad", "later"] {
        post(&link, id);
    }
    let mut blamed = Vec::new();
    let mut sent = Vec::new();
    for number in 7..12 {
        link.up(number);
        link.manage(number, None);
        let mut h = 0;
        loop {
            let taken = take(&link, number);
            sent.push(taken.join(" "));
            if taken.is_empty() || taken.iter().any(|id| id == "bad") {
                break;
            }
            h += u32::try_from(taken.len()).expect("they are few");
            link.acknowledge(number, h).expect("it was sent");
        }
        if link.is_empty() {
            break;
        }
        blamed.extend(link.blame(number));
        assert_eq!(link.ended(number, Vec::new(), 0).0, Left::Reconnect);
        assert!(link.reconnect_at(0).is_some());
    }
    assert_eq!(ids(&blamed), ["bad"]);
    let all = "good bad later";
    assert_eq!(sent, [all, all, "good", "bad", "later", ""]);
}

/// A stream that opens proves nothing: the peer has to take something.
#[test]
fn rests_grow_also_where_streams_open() {
    let link = link();
    let error = StanzaError::remote_server_timeout("it takes nothing");
    link.give_up(&error, 0);
    assert!(matches!(
        link.post(parcel("1", Freight::Plain), Position(0), 5_000),
        Posted::Connect
    ));
    link.up(7);
    link.manage(7, None);
    take(&link, 7);
    link.ended(7, Vec::new(), 5_000);
    link.give_up(&error, 5_000);
    let early = link.post(parcel("2", Freight::Plain), Position(0), 14_999);
    assert!(matches!(early, Posted::Refused(_)), "{early:?}");
}

/// Somebody who writes to many domains that are not there keeps nobody from those that are.
#[test]
fn links_that_have_failed_make_room_for_others() {
    let server = crate::router::tests::Server::new();
    let core = &server.core;
    let to = |number: usize| Pair {
        remote: jid(&format!("b{number}.example")),
        ..pair()
    };
    let error = StanzaError::remote_server_not_found("nothing there");
    for number in 0..LINKS_MAX {
        let link = core.remotes.link(core, &to(number)).expect("there is room");
        link.give_up(&error, (core.ticks)());
    }
    assert!(core.remotes.link(core, &to(LINKS_MAX)).is_some());
    let all: Vec<_> = (0..LINKS_MAX)
        .filter_map(|number| core.remotes.link(core, &to(number)))
        .inspect(|link| drop(post(link, "1")))
        .collect();
    assert!(all.len() >= LINKS_MAX - 1);
    assert!(core.remotes.link(core, &to(2 * LINKS_MAX)).is_none());
}

#[test]
fn a_peer_that_is_slow_to_acknowledge_is_sent_no_more_meanwhile() {
    let link = link();
    let long = |number: u32| {
        let body = "x".repeat(10_000);
        let text = format!("<message id='{number}' from='x@a.example'>{body}</message>");
        let asker = ASKERS.named("x@a.example");
        Parcel::new(
            bytes::Bytes::from(text).into(),
            Position(0),
            Freight::Plain,
            asker,
        )
    };
    for number in 0..300 {
        link.post(long(number), Position(0), 0);
    }
    link.up(7);
    link.manage(7, None);
    let take_all = || {
        std::iter::repeat_with(|| link.take(7, Position(0), 16_384).parcels.len())
            .take_while(|taken| *taken > 0)
            .sum::<usize>()
    };
    let taken = take_all();
    assert!((100..120).contains(&taken), "{taken}");
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || link.poll_ready(7, &mut context, || Position(0));
    assert!(poll().is_pending());
    link.acknowledge(7, 50).expect("they were sent");
    assert!(poll().is_ready());
    assert_eq!(take_all(), 50);
}
