//! What a link and a stream forget when nobody waits for them any more.

use super::*;

fn silent() -> StanzaError {
    StanzaError::remote_server_timeout("silent")
}

#[test]
fn a_stream_that_the_peer_has_left_behind_holds_no_links() {
    let (stream, one, other) = managed();
    assert!(Arc::strong_count(&one) > 1);
    stream.supersede();
    assert!(!stream.suspend(7), "nobody waits for it");
    for link in [&one, &other] {
        link.ended(7, Vec::new(), 0);
        assert_eq!(Arc::strong_count(link), 1);
    }
}

#[test]
fn a_stream_with_nothing_on_its_way_may_be_lost_as_often_as_it_likes() {
    let stream = ManagedStream::new(pair(), Some([1; 16]), 0);
    let one = Arc::new(link());
    one.answer(0);
    stream.serve(0, &one);
    for reader in 1..=9 {
        assert!(!stream.suspend(reader - 1), "nothing waits for it");
        one.ended(reader - 1, Vec::new(), 0);
        stream.take_over(reader, 0).expect("nothing was sent");
        one.answer(reader);
        stream.serve(reader, &one);
    }
    post(&one, "1");
    let sent = stream.count(9, |tally| take_counted(tally, &one, 9));
    assert_eq!(sent.expect("it carries it"), ["1"]);
    assert!(stream.suspend(9), "this is the first time that it matters");
}

/// The peer had something for us, perhaps, and we nothing for it.
#[test]
fn looking_for_a_peer_in_vain_is_no_failure_of_what_comes_next() {
    let link = link();
    link.up(7);
    assert_eq!(link.lost_owed(7, 0), Left::Reconnect);
    for tries in 0..8 {
        assert!(link.try_again_at(tries * 1_000).is_some());
    }
    assert!(link.give_up(&silent(), 60_000).is_empty());
    assert!(matches!(post(&link, "1"), Posted::Connect));
    assert_eq!(ids(&link.give_up(&silent(), 60_000)), ["1"]);
    let later = link.post(parcel("2", Freight::Plain), Position(0), 65_000);
    assert!(matches!(later, Posted::Connect), "the rest is a first one");
}

#[test]
fn a_request_that_has_come_back_has_nobody_else_suspected() {
    let link = Arc::new(link());
    for id in ["1", "2"] {
        link.post(parcel(id, Freight::Request), Position(0), 0);
    }
    for number in [7, 8] {
        link.up(number);
        assert!(!take_counted(&mut Tally::default(), &link, number).is_empty());
        assert!(link.blame(number, true).is_none());
        let (_, unknown) = link.ended(number, Vec::new(), 0);
        assert!(!unknown.lost.is_empty());
        link.post(parcel("3", Freight::Request), Position(0), 0);
    }
    link.up(9);
    for id in ["4", "5"] {
        link.post(parcel(id, Freight::Plain), Position(0), 0);
    }
    let sent = take_counted(&mut Tally::default(), &link, 9);
    assert_eq!(sent, ["3", "4", "5"], "not one by one");
}
