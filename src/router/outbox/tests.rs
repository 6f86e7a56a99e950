//! One outbox at a time: order, gates, counts and bounds.

use bytes::Bytes;

use super::*;

use crate::addr::Jid;
use crate::store::MessageId;

const READER: u64 = 7;

const LIMITS: OutboxLimits = OutboxLimits {
    bytes_max: 10_000,
    entries_max: 8,
    pool_bytes_max: 20_000,
};

fn outbox() -> Outbox {
    Outbox::new(Arc::new(OutboxPool::new(LIMITS)), READER)
}

fn entry(text: &'static str, after: u64) -> Entry {
    let outgoing = Bytes::from_static(text.as_bytes()).into();
    Entry::transient(outgoing, Position(after))
}

fn enable(outbox: &Outbox) {
    let mut enabled = Entry::nonza(Bytes::from_static(b"<enabled/>"), Position(0));
    enabled.cargo = Cargo::ManagementEnabled;
    outbox.push(enabled, Position(0));
}

/// Another connection takes the session over and nothing more was handled.
fn resume(outbox: &Outbox, reader: u64) {
    let h = outbox.acknowledged();
    let done = outbox.hand_over(reader, h).expect("it can be resumed");
    assert!(done.is_empty() && outbox.rewind(reader));
}

fn texts(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| match &entry.wire {
        Wire::Ready(outgoing) => {
            let bytes = [&outgoing.head[..], &outgoing.tail[..]].concat();
            String::from_utf8(bytes).expect("test entries are text")
        }
        _ => "fetched".to_owned(),
    };
    entries.iter().map(text).collect()
}

#[test]
fn a_gate_holds_back_everything_behind_it() {
    let outbox = outbox();
    assert_eq!(outbox.push(entry("a", 0), Position(4)), Pushed::Queued);
    assert_eq!(outbox.push(entry("b", 5), Position(4)), Pushed::Queued);
    assert_eq!(outbox.push(entry("c", 0), Position(4)), Pushed::Queued);
    let batch = outbox.take(READER, Position(4), 1_000);
    assert_eq!(texts(&batch.entries), ["a"]);
    assert_eq!(batch.gate, Some(Position(5)));
    let batch = outbox.take(READER, Position(5), 1_000);
    assert_eq!(texts(&batch.entries), ["b", "c"]);
    assert_eq!(batch.gate, None);
}

/// However often a connection looks, as it does whenever its client sends something.
#[test]
fn a_gate_is_told_once() {
    let outbox = outbox();
    outbox.push(entry("a", 5), Position(4));
    outbox.push(entry("b", 6), Position(4));
    let look = |durable: u64| {
        let batch = outbox.take(READER, Position(durable), 1_000);
        (batch.entries.len(), batch.gate)
    };
    assert_eq!(look(4), (0, None), "the push has told it");
    assert_eq!(look(4), (0, None));
    assert_eq!(look(5), (1, Some(Position(6))));
    assert_eq!(look(5), (0, None));
    assert_eq!(look(6), (1, None));
}

/// An end that was asked for does not wait for a gate that was told before.
#[test]
fn a_stream_ends_in_front_of_a_gate_that_is_not_open() {
    let outbox = outbox();
    outbox.push(entry("a", 5), Position(4));
    outbox.end(Ending::server_stops());
    for _ in 0..2 {
        let batch = outbox.take(READER, Position(4), 1_000);
        assert!(batch.entries.is_empty() && batch.ending.is_some());
    }
}

#[test]
fn the_first_gated_entry_tells_its_gate() {
    let outbox = outbox();
    let pushed = outbox.push(entry("a", 5), Position(4));
    assert_eq!(pushed, Pushed::Gated(Position(5)));
}

#[test]
fn acknowledged_stanzas_leave_and_the_rest_is_written_again_after_a_resumption() {
    let outbox = outbox();
    enable(&outbox);
    for text in ["a", "b", "c"] {
        outbox.push(entry(text, 0), Position(0));
    }
    assert_eq!(outbox.take(READER, Position(0), 10_000).entries.len(), 4);
    assert_eq!(outbox.unacknowledged(), 3);
    let done = outbox.acknowledge(READER, 1).expect("one of three");
    assert_eq!(texts(&done), ["a"]);
    outbox.push(entry("d", 0), Position(0));
    assert!(outbox.rewind(READER));
    let again = outbox.take(READER, Position(0), 10_000);
    assert_eq!(texts(&again.entries), ["b", "c", "d"]);
    assert_eq!(outbox.unacknowledged(), 3);
}

#[test]
fn acknowledging_more_than_was_sent_is_refused() {
    let outbox = outbox();
    enable(&outbox);
    outbox.push(entry("a", 0), Position(0));
    outbox.take(READER, Position(0), 10_000);
    let refused = outbox
        .acknowledge(READER, 2)
        .expect_err("only one was sent");
    assert_eq!(refused, HandledCountTooHigh { h: 2, sent: 1 });
    outbox.acknowledge(READER, 1).expect("one was sent");
}

/// XEP-0198 §4: the count starts again at zero behind 2^32 - 1.
#[test]
fn a_count_from_before_the_last_one_acknowledges_nothing_and_resumes_nothing() {
    for acknowledged in [2, 0, 1, u32::MAX] {
        let sent = vec![entry("a", 0), entry("b", 0)];
        let outbox = Outbox::hibernated(OutboxPool::unbounded(), acknowledged, sent);
        for back in [1, 2, 1_000, u32::MAX / 2] {
            let h = acknowledged.wrapping_sub(back);
            let refused = outbox.hand_over(READER, h).expect_err("it is behind");
            assert_eq!(refused, NotHandedOver::Behind);
            assert!(outbox.acknowledge(0, h).expect("it is no news").is_empty());
        }
        let h = acknowledged.wrapping_add(3);
        let sent = acknowledged.wrapping_add(2);
        let refused = outbox.hand_over(READER, h).expect_err("two were sent");
        assert_eq!(
            refused,
            NotHandedOver::TooHigh(HandledCountTooHigh { h, sent })
        );
        let h = acknowledged.wrapping_add(1);
        assert_eq!(outbox.hand_over(READER, h).expect("one of two").len(), 1);
        assert!(outbox.rewind(READER));
        assert_eq!(texts(&outbox.take_all().entries), ["b"]);
    }
}

#[test]
fn a_session_that_is_discarded_hears_everything_first() {
    let outbox = outbox();
    outbox.push(entry("the result", 7), Position(0));
    outbox.end(Ending::Discard(StreamError::new(
        StreamErrorCondition::NotAuthorized,
        "it is gone",
    )));
    let gated = outbox.take(READER, Position(6), 10_000);
    assert!(gated.entries.is_empty() && gated.ending.is_none());
    let open = outbox.take(READER, Position(7), 10_000);
    assert_eq!(texts(&open.entries), ["the result"]);
    assert!(matches!(open.ending, Some(Ending::Discard(_))));
}

#[test]
fn a_slow_reader_is_told_to_go_and_what_waits_is_kept() {
    let outbox = outbox();
    for _ in 0..LIMITS.entries_max {
        assert_ne!(outbox.push(entry("a", 0), Position(0)), Pushed::Overflowed);
    }
    assert_eq!(outbox.push(entry("b", 0), Position(0)), Pushed::Overflowed);
    assert!(!outbox.can_be_resumed());
    assert_eq!(outbox.finish().len(), LIMITS.entries_max);
    assert_eq!(outbox.push(entry("c", 0), Position(0)), Pushed::Ended);
}

#[test]
fn an_empty_outbox_owns_no_heap() {
    let outbox = outbox();
    for _ in 0..5 {
        outbox.push(entry("a", 0), Position(0));
    }
    outbox.take(READER, Position(0), 10_000);
    let queue = outbox.lock();
    assert_eq!((queue.waiting.capacity(), queue.bytes), (0, 0));
}

const SHARED: OutboxLimits = OutboxLimits {
    bytes_max: 320_000,
    entries_max: 1_000,
    pool_bytes_max: 400_000,
};

/// Entries of about a thousand bytes until the outbox has taken `bytes` or takes no more.
fn fill(outbox: &Outbox, bytes: usize) -> Pushed {
    static TEXT: [u8; 1_000] = [b'a'; 1_000];
    loop {
        let held = outbox.lock().bytes;
        let entry = Entry::transient(Bytes::from_static(&TEXT).into(), Position(0));
        match outbox.push(entry, Position(0)) {
            Pushed::Queued if held < bytes => {}
            other => return other,
        }
    }
}

#[test]
fn what_waits_in_all_outboxes_together_is_bounded_and_given_back() {
    let pool = Arc::new(OutboxPool::new(SHARED));
    let all: Vec<Outbox> = (0..4).map(|_| Outbox::new(pool.clone(), READER)).collect();
    for outbox in &all {
        fill(outbox, 200_000);
    }
    let fair = all.len() * FAIR_BYTES;
    assert!(pool.bytes() <= SHARED.pool_bytes_max + fair);
    assert!(!all[3].can_be_resumed());
    all[0].take_all();
    all[1].finish();
    drop(all);
    assert_eq!(pool.bytes(), 0);
}

/// However much waits for others, and for how many of them.
#[test]
fn who_reads_what_comes_gets_it_while_others_fill_the_pool() {
    let pool = Arc::new(OutboxPool::new(SHARED));
    let reading = Outbox::new(pool.clone(), READER);
    let greedy: Vec<Outbox> = (0..8).map(|_| Outbox::new(pool.clone(), READER)).collect();
    for outbox in &greedy {
        enable(outbox);
        outbox.take_all();
        assert!(outbox.detach(READER));
        fill(outbox, 300_000);
    }
    assert!(pool.bytes() > SHARED.pool_bytes_max / 4 * 3);
    assert_eq!(
        fill(&reading, 15_000),
        Pushed::Queued,
        "what is kept for those"
    );
    pool.add(SHARED.pool_bytes_max);
    reading.take_all();
    assert_eq!(fill(&reading, 0), Pushed::Queued, "its fair share");
    assert_eq!(fill(&reading, 15_000), Pushed::Overflowed);
}

#[test]
fn a_connection_that_was_replaced_takes_nothing_more() {
    let outbox = outbox();
    outbox.push(entry("a", 0), Position(0));
    resume(&outbox, READER + 1);
    let batch = outbox.take(READER, Position(0), 1_000);
    assert_eq!(batch.gone, Some(Gone::Replaced));
    assert!(batch.entries.is_empty());
    let batch = outbox.take(READER + 1, Position(0), 1_000);
    assert_eq!(texts(&batch.entries), ["a"]);
}

#[test]
fn of_two_connections_that_resume_at_once_the_last_one_has_everything() {
    let outbox = outbox();
    enable(&outbox);
    outbox.push(entry("a", 0), Position(0));
    outbox.take_all();
    for reader in [READER + 1, READER + 2] {
        outbox.hand_over(reader, 0).expect("it can be resumed");
    }
    assert!(outbox.rewind(READER + 2));
    assert!(!outbox.rewind(READER + 1));
    let batch = outbox.take(READER + 2, Position(0), 1_000);
    assert_eq!(
        (texts(&batch.entries), batch.gone),
        (vec!["a".into()], None)
    );
}

#[test]
fn what_a_connection_that_was_replaced_is_told_counts_for_nothing() {
    let outbox = outbox();
    enable(&outbox);
    outbox.push(entry("a", 0), Position(0));
    outbox.take_all();
    resume(&outbox, READER + 1);
    outbox.take_all();
    assert_eq!(
        texts(&outbox.acknowledge(READER, 1).expect("not heard")),
        [""; 0]
    );
    let done = outbox.acknowledge(READER + 1, 1).expect("it was sent one");
    assert_eq!(texts(&done), ["a"]);
}

#[test]
fn why_the_old_stream_was_to_end_does_not_end_the_resumed_one() {
    let outbox = outbox();
    enable(&outbox);
    outbox.end(Ending::server_stops());
    resume(&outbox, READER + 1);
    assert!(outbox.take_all().ending.is_none());
    outbox.end(Ending::server_stops());
    assert!(outbox.detach(READER + 1));
    assert!(!outbox.detach(READER + 1), "it serves it no more");
    resume(&outbox, READER + 2);
    assert!(outbox.take_all().ending.is_none());
}

#[test]
fn an_outbox_in_which_something_is_missing_is_not_handed_over() {
    let is_over = |outbox: &Outbox| {
        assert!(!outbox.can_be_resumed() && !outbox.detach(READER));
        let refused = outbox.hand_over(READER + 1, 0).expect_err("it is over");
        assert_eq!(refused, NotHandedOver::Over);
    };
    let full = outbox();
    enable(&full);
    while full.push(entry("a", 0), Position(0)) != Pushed::Overflowed {}
    is_over(&full);
    full.take_all();
    let behind = full.push(entry("b", 0), Position(0));
    assert_eq!(
        behind,
        Pushed::Overflowed,
        "there is room, but something is missing"
    );
    let told = outbox();
    let condition = StreamErrorCondition::Conflict;
    told.end(Ending::Discard(StreamError::new(
        condition,
        "it is another's",
    )));
    is_over(&told);
    let ended = outbox();
    ended.finish();
    is_over(&ended);
}

#[test]
fn room_is_half_of_what_fits() {
    let outbox = outbox();
    assert_eq!(outbox.room(), LIMITS.entries_max / 2);
    outbox.push(entry("a", 0), Position(0));
    assert_eq!(outbox.room(), LIMITS.entries_max / 2 - 1);
}

fn request(id: &str) -> Entry {
    let asker = Jid::parse("a@cairn.example/r").expect("an address");
    let mut entry = entry("<iq/>", 0);
    entry.cargo = Cargo::Request(question(&asker, id));
    entry
}

#[test]
fn an_answered_request_is_nobodys_concern_any_more() {
    let asker = Jid::parse("a@cairn.example/r").expect("an address");
    let outbox = outbox();
    enable(&outbox);
    outbox.push(request("one"), Position(0));
    outbox.push(request("two"), Position(0));
    outbox.take_all();
    outbox.answered(question(&asker, "two"));
    outbox.answered(question(&asker, "three"));
    let left = outbox.finish();
    let cargo: Vec<Cargo> = left.iter().map(|entry| entry.cargo).collect();
    let unanswered = Cargo::Request(question(&asker, "one"));
    assert_eq!(cargo, [unanswered, Cargo::Transient]);
}

/// A count that stood between two stanzas was true for the old connection only (XEP-0198 §5).
#[test]
fn what_is_written_again_has_no_old_counts_in_it() {
    let outbox = outbox();
    enable(&outbox);
    outbox.push(entry("<message/>", 0), Position(0));
    outbox.take_all();
    outbox.push(
        Entry::nonza(Bytes::from_static(b"<a h='1'/>"), Position(0)),
        Position(0),
    );
    outbox.push(entry("<presence/>", 0), Position(0));
    resume(&outbox, READER + 1);
    let batch = outbox.take_all();
    assert_eq!(texts(&batch.entries), ["<message/>", "<presence/>"]);
    assert_eq!(outbox.unacknowledged(), 2);
}

/// XEP-0198 §4: counting begins behind `<enabled/>`, in the middle of a batch too.
#[test]
fn what_stands_before_enabled_is_not_kept() {
    let outbox = outbox();
    outbox.push(entry("<message id='before'/>", 0), Position(0));
    enable(&outbox);
    outbox.push(entry("<message id='behind'/>", 0), Position(0));
    let batch = outbox.take_all();
    assert_eq!(batch.kept_from, 1);
    assert_eq!(batch.entries.len(), 3);
    assert_eq!(texts(&outbox.finish()), ["<message id='behind'/>"]);
}

/// The gate may open between the look at the outbox and the wait for it.
#[test]
fn a_gate_that_has_opened_meanwhile_is_seen_by_the_one_who_waits() {
    let outbox = outbox();
    outbox.push(entry("<message/>", 5), Position(4));
    let mut context = Context::from_waker(Waker::noop());
    let closed = outbox.poll_ready(READER, &mut context, || Position(4));
    assert!(closed.is_pending());
    let opened = outbox.poll_ready(READER, &mut context, || Position(5));
    assert!(opened.is_ready());
}

fn message(id: &str) -> Entry {
    Entry {
        wire: Wire::Ready(Bytes::from(format!("<message id='{id}'/>")).into()),
        after: Position(0),
        cargo: Cargo::Message(1),
    }
}

fn push_messages(outbox: &Outbox, ids: &[&str]) {
    for id in ids {
        outbox.push(message(id), Position(0));
    }
}

#[test]
fn what_could_not_be_written_is_first_again() {
    let outbox = outbox();
    push_messages(&outbox, &["1", "2"]);
    outbox.take_all();
    push_messages(&outbox, &["3"]);
    assert_eq!(
        texts(&outbox.written(1)),
        ["<message id='1'/>"],
        "the kernel has it"
    );
    outbox.let_go();
    let taken = outbox.take_all().entries;
    assert_eq!(texts(&taken), ["<message id='2'/>", "<message id='3'/>"]);
}

#[test]
fn what_is_in_hand_when_the_session_ends_is_left_until_the_connection_is_done() {
    let outbox = outbox();
    push_messages(&outbox, &["1", "2"]);
    outbox.take_all();
    push_messages(&outbox, &["3"]);
    assert_eq!(texts(&outbox.finish()), ["<message id='3'/>"]);
    assert!(outbox.leaves() && !outbox.has_left());
    outbox.written(1);
    outbox.let_go();
    assert!(!outbox.has_left());
    let left = outbox.leave().expect("it had two in hand");
    assert_eq!(texts(&left), ["<message id='2'/>"]);
    assert!(outbox.leave().is_none(), "they are left once");
}

#[test]
fn a_session_has_left_when_all_that_was_in_hand_is_written() {
    let outbox = outbox();
    push_messages(&outbox, &["1"]);
    outbox.take_all();
    outbox.finish();
    outbox.written(1);
    assert!(outbox.has_left());
    assert!(!outbox.has_left(), "once");
    assert!(outbox.leave().is_none());
}

#[test]
fn messages_get_their_records_in_order_wherever_they_stand() {
    let outbox = outbox();
    push_messages(&outbox, &["1", "2"]);
    outbox.take_all();
    enable(&outbox);
    push_messages(&outbox, &["3"]);
    outbox.take_all();
    push_messages(&outbox, &["4"]);
    let unrecorded = outbox.unrecorded();
    assert_eq!(unrecorded.len(), 4);
    // Meanwhile the first is written, and there was no room for the last.
    outbox.written(1);
    let ids = (10..13).map(MessageId);
    let recorded: Vec<_> = unrecorded
        .into_iter()
        .map(|(outgoing, _)| outgoing)
        .zip(ids)
        .collect();
    assert_eq!(outbox.record(&recorded), [MessageId(10)]);
    assert_eq!(outbox.unrecorded().len(), 1);
    let in_hand = outbox.written(1);
    assert_eq!(in_hand[0].cargo, Cargo::Recorded(MessageId(11)));
    let left: Vec<Cargo> = outbox.finish().iter().map(|entry| entry.cargo).collect();
    assert_eq!(left, [Cargo::Recorded(MessageId(12)), Cargo::Message(1)]);
}

#[test]
fn what_others_send_at_will_leaves_a_quarter_of_the_room_free() {
    let outbox = outbox();
    let at_will = || Entry {
        cargo: Cargo::AtWill,
        ..entry("x", 0)
    };
    let request = || Entry {
        cargo: Cargo::Request(1),
        ..entry("x", 0)
    };
    for _ in 0..3 {
        assert!(outbox.push(at_will(), Position(0)).is_queued());
        assert!(outbox.push(request(), Position(0)).is_queued());
    }
    assert_eq!(outbox.push(at_will(), Position(0)), Pushed::Refused);
    assert_eq!(outbox.push(request(), Position(0)), Pushed::Refused);
    assert!(outbox.can_be_resumed());
    assert!(outbox.push(entry("y", 0), Position(0)).is_queued());
    assert!(outbox.push(entry("y", 0), Position(0)).is_queued());
    assert_eq!(outbox.push(entry("y", 0), Position(0)), Pushed::Overflowed);
}
