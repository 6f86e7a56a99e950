//! A link by itself, and two servers on a network that loses connections, on simulated time.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};

use super::*;

mod given_up;
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

/// Takes what may go on a stream that counts.
fn take_counted(tally: &mut Tally, link: &Arc<Link>, reader: u64) -> Vec<String> {
    ids(&tally.take(link, reader, Position(0), usize::MAX).parcels)
}

#[test]
fn what_was_not_acknowledged_is_sent_again_on_a_resumed_stream_in_its_order() {
    let link = Arc::new(link());
    for id in ["1", "2", "3"] {
        post(&link, id);
    }
    link.up(7);
    let mut tally = Tally::default();
    assert_eq!(take_counted(&mut tally, &link, 7), ["1", "2", "3"]);
    let done = tally.acknowledge(7, 1).expect("it was sent");
    assert_eq!(ids(&done), ["1"]);
    assert_eq!(link.lost(7, Vec::new(), 0), Left::Reconnect);
    post(&link, "4");
    assert!(
        !link.answer(8),
        "the lost stream alone tells what the peer has"
    );
    assert!(link.up(8));
    let done = tally.resumed(8, 2).expect("it was sent");
    assert_eq!(ids(&done), ["2"]);
    assert_eq!(take_counted(&mut tally, &link, 8), ["3", "4"]);
    let too_high = tally.acknowledge(8, 5).expect_err("four were sent");
    assert_eq!((too_high.h, too_high.sent), (5, 4));
}

#[test]
fn where_nothing_is_resumed_requests_come_back_and_the_rest_goes_again() {
    let link = Arc::new(link());
    post(&link, "1");
    link.post(parcel("ask", Freight::Request), Position(0), 0);
    post(&link, "2");
    link.up(7);
    let mut tally = Tally::default();
    assert_eq!(take_counted(&mut tally, &link, 7).len(), 3);
    assert_eq!(link.lost(7, Vec::new(), 0), Left::Reconnect);
    link.up(8);
    let newly = tally.newly(1).expect("it was sent");
    let unknown = link.not_resumed(newly as usize);
    assert_eq!(ids(&unknown.done), ["1"]);
    assert_eq!(ids(&unknown.lost), ["ask"]);
    assert_eq!(take(&link, 8), ["2"]);
}

#[test]
fn a_count_tells_of_all_links_of_a_stream_in_the_order_in_which_they_were_sent() {
    let (one, other) = (Arc::new(link()), Arc::new(link()));
    let mut tally = Tally::default();
    for link in [&one, &other] {
        link.up(7);
    }
    for (link, id) in [(&one, "1"), (&other, "2"), (&one, "3"), (&one, "4")] {
        post(link, id);
        assert_eq!(take_counted(&mut tally, link, 7), [id]);
    }
    assert!(tally.asks() && !tally.asks(), "once");
    assert_eq!(ids(&tally.acknowledge(7, 0).expect("right")).len(), 0);
    assert_eq!(
        ids(&tally.acknowledge(7, 3).expect("right")),
        ["1", "2", "3"]
    );
    assert_eq!((one.unacknowledged(), other.unacknowledged()), (1, 0));
    let wrong = tally.acknowledge(7, 5).expect_err("four were sent");
    assert_eq!((wrong.h, wrong.sent), (5, 4));
    assert!(tally.acknowledge(7, 2).is_err(), "it had three");
    assert_eq!(ids(&tally.acknowledge(7, 4).expect("right")), ["4"]);
    assert!(one.is_empty() && other.is_empty());
}

/// Two links on the stream of connection 7, each with something unacknowledged.
fn managed() -> (ManagedStream, Arc<Link>, Arc<Link>) {
    let (one, other) = (Arc::new(link()), Arc::new(link()));
    let stream = ManagedStream::new(pair(), Some([1; 16]), 7);
    for (link, id) in [(&one, "1"), (&other, "2"), (&one, "3")] {
        link.answer(7);
        post(link, id);
        let sent = stream.count(7, |tally| take_counted(tally, link, 7));
        assert_eq!(sent.expect("it carries it"), [id]);
    }
    stream.serve(7, &one);
    stream.serve(7, &other);
    (stream, one, other)
}

/// What the second connection finds, when the peer has the first stanza.
#[track_caller]
fn taken_over_by_8(stream: &ManagedStream, one: &Arc<Link>, other: &Arc<Link>) {
    assert!(stream.take_over(8, 4).is_err(), "three were sent");
    assert!(stream.is_with(7), "nothing has changed");
    let taken = stream.take_over(8, 1).expect("right");
    assert_eq!(ids(&taken.done), ["1"]);
    assert_eq!(taken.links.len(), 2);
    assert_eq!(stream.count(7, |tally| tally.handle(Position(0))), None);
    assert!(one.take(7, Position(0), usize::MAX).is_replaced);
    let again = |link| stream.count(8, |tally| take_counted(tally, link, 8));
    assert_eq!(again(one).expect("its own"), ["3"]);
    assert_eq!(again(other).expect("its own"), ["2"]);
    // In the order in which they are sent again.
    let done = stream.count(8, |tally| tally.acknowledge(8, 2));
    assert_eq!(ids(&done.expect("its own").expect("right")), ["3"]);
}

#[test]
fn a_stream_whose_connection_is_believed_alive_goes_to_the_one_that_resumes_it() {
    let (stream, one, other) = managed();
    let mut context = Context::from_waker(Waker::noop());
    assert!(stream.poll_replaced(7, &mut context).is_pending());
    taken_over_by_8(&stream, &one, &other);
    assert!(stream.poll_replaced(7, &mut context).is_ready());
    assert!(!stream.suspend(7), "it is not its any more");
    assert!(one.is_served_by(8) && other.is_served_by(8));
}

#[test]
fn what_is_unacknowledged_waits_for_the_peer_to_resume_its_stream() {
    let (stream, one, other) = managed();
    assert!(stream.suspend(7));
    assert!(one.is_awaited(7) && other.is_awaited(7));
    assert!(matches!(post(&one, "late"), Posted::Queued));
    assert!(!one.answer(9) && !one.up(9), "not on another stream");
    let error = StanzaError::remote_server_timeout("silent");
    assert!(one.give_up(&error, 0).is_empty());
    let taken = stream.take_over(8, 1).expect("right");
    assert_eq!(taken.links.len(), 2);
    let (released, _) = stream.release();
    assert!(released.is_empty(), "it is not lost any more");
    let sent = stream.count(8, |tally| take_counted(tally, &one, 8));
    assert_eq!(sent.expect("its own"), ["3", "late"]);
}

#[test]
fn what_waits_for_a_stream_in_vain_goes_another_way_and_still_counts() {
    let (stream, one, other) = managed();
    assert!(stream.suspend(7));
    let (links, reader) = stream.release();
    assert_eq!((links.len(), reader), (2, 7));
    for link in [&one, &other] {
        let (left, unknown) = link.ended(7, Vec::new(), 0);
        assert_eq!((left, unknown.lost.len()), (Left::Reconnect, 0));
    }
    assert!(one.up(9));
    assert_eq!(take(&one, 9), ["1", "3"]);
    // The peer comes after all: it has two of the three, and what follows is the fourth.
    assert!(stream.take_over(8, 4).is_err());
    let taken = stream.take_over(8, 2).expect("right");
    assert!(taken.done.is_empty() && taken.links.is_empty());
    assert_eq!(stream.count(8, |tally| tally.unacknowledged()), Some(0));
    assert!(one.is_served_by(9));
}

#[test]
fn a_peer_that_resumes_its_stream_again_and_again_and_takes_nothing_is_not_waited_for() {
    let (stream, one, other) = managed();
    let mut reader = 7;
    while stream.suspend(reader) {
        assert!(reader < 20, "for ever");
        let taken = stream.take_over(reader + 1, 0).expect("right");
        assert_eq!(taken.links.len(), 2);
        reader += 1;
        for link in [&one, &other] {
            stream.count(reader, |tally| take_counted(tally, link, reader));
        }
    }
    assert_eq!(reader, 10);
    assert_eq!(one.ended(reader, Vec::new(), 0).0, Left::Reconnect);
    assert!(stream.release().0.is_empty());
}

#[test]
fn a_peer_that_begins_anew_is_not_waited_for() {
    let (stream, one, _) = managed();
    stream.supersede();
    assert!(!stream.suspend(7));
    assert_eq!(one.ended(7, Vec::new(), 0).0, Left::Reconnect);
}

#[test]
fn a_peer_that_may_have_something_is_looked_for_and_holds_nobody_up() {
    let link = link();
    link.up(7);
    link.heard(7);
    assert_eq!(link.lost_owed(7, 1_000), Left::Reconnect);
    let at_ms = link.reconnect_at(1_000).expect("it is looked for");
    assert!(at_ms > 1_000 && at_ms < 3_000);
    assert!(link.try_again_at(2_000).is_some());
    assert!(matches!(post(&link, "1"), Posted::Queued));
    assert_eq!(link.try_again_at(3_000), None, "it comes back at once");
    let error = StanzaError::remote_server_timeout("silent");
    assert_eq!(ids(&link.give_up(&error, 3_000)), ["1"]);
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
    let link = Arc::new(link());
    post(&link, "1");
    let mut now_ms = 0;
    let mut pauses = Vec::new();
    // Each stream takes the stanza and ends before it is acknowledged.
    let over = loop {
        assert!(pauses.len() < 100, "for ever: {pauses:?}");
        link.up(7);
        assert_eq!(take_counted(&mut Tally::default(), &link, 7), ["1"]);
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
    let link = Arc::new(link());
    post(&link, "1");
    post(&link, "2");
    for (number, id) in [(7, "1"), (8, "2")] {
        link.up(number);
        let mut tally = Tally::default();
        assert_eq!(take_counted(&mut tally, &link, number)[0], id);
        let done = tally.acknowledge(number, 1).expect("it was sent");
        assert_eq!(ids(&done), [id]);
        post(&link, "3");
        assert_eq!(link.ended(number, Vec::new(), 0).0, Left::Reconnect);
        assert_eq!(link.reconnect_at(0), Some(0));
    }
}

#[test]
fn what_no_log_has_comes_back_when_the_server_stops_also_where_it_was_sent() {
    let room = Room::new(40_000);
    let link = Arc::new(Link::new(pair(), 1, room.clone()));
    let recorded = |id| Freight::Recorded("x@a.example".into(), MessageId(id));
    let three = |prefix: &str, number| {
        for (id, freight) in [
            ("plain", Freight::Plain),
            ("kept", recorded(number)),
            ("ask", Freight::Request),
        ] {
            let parcel = parcel(&format!("{prefix} {id}"), freight);
            link.post(parcel, Position(0), 0);
        }
    };
    three("sent", 1);
    link.up(7);
    let mut tally = Tally::default();
    assert_eq!(take_counted(&mut tally, &link, 7).len(), 3);
    assert_eq!(link.lost(7, Vec::new(), 0), Left::Reconnect);
    three("waiting", 2);
    let back = link.leave_to_the_log();
    assert_eq!(ids(&back.unknown), ["sent plain", "sent ask"]);
    assert_eq!(ids(&back.waiting), ["waiting plain", "waiting ask"]);
    let again = link.leave_to_the_log();
    assert!(again.unknown.is_empty() && again.waiting.is_empty());
    let error = StanzaError::remote_server_timeout("silent");
    assert_eq!(ids(&link.give_up(&error, 0)), ["sent kept", "waiting kept"]);
    drop(back);
    assert_eq!(room.bytes(), 0);
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
    let link = Arc::new(link());
    for id in ["good", "bad", "later"] {
        post(&link, id);
    }
    let mut blamed = Vec::new();
    let mut sent = Vec::new();
    for number in 7..12 {
        link.up(number);
        let mut tally = Tally::default();
        let mut h = 0;
        loop {
            let taken = take_counted(&mut tally, &link, number);
            sent.push(taken.join(" "));
            if taken.is_empty() || taken.iter().any(|id| id == "bad") {
                break;
            }
            h += u32::try_from(taken.len()).expect("they are few");
            tally.acknowledge(number, h).expect("it was sent");
        }
        if link.is_empty() {
            break;
        }
        blamed.extend(link.blame(number, true));
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
    let link = Arc::new(link());
    let error = StanzaError::remote_server_timeout("it takes nothing");
    link.give_up(&error, 0);
    assert!(matches!(
        link.post(parcel("1", Freight::Plain), Position(0), 5_000),
        Posted::Connect
    ));
    link.up(7);
    take_counted(&mut Tally::default(), &link, 7);
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
    let link = Arc::new(link());
    let mut tally = Tally::default();
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
    let take_all = |tally: &mut Tally| {
        std::iter::repeat_with(|| tally.take(&link, 7, Position(0), 16_384).parcels.len())
            .take_while(|taken| *taken > 0)
            .sum::<usize>()
    };
    let taken = take_all(&mut tally);
    assert!((100..120).contains(&taken), "{taken}");
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || link.poll_ready(7, &mut context, || Position(0));
    assert!(poll().is_pending());
    tally.acknowledge(7, 50).expect("they were sent");
    assert!(poll().is_ready());
    assert_eq!(take_all(&mut tally), 50);
}
