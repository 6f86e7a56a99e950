//! One rule of delivery at a time.

use super::*;

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn say_all(server: &Server, is_managed: bool, to: &str, range: std::ops::Range<u32>) {
    for number in range {
        let said = server.say(is_managed, to, &number.to_string());
        said.expect("there is room for it");
    }
}

fn stored(server: &Server) -> Vec<u64> {
    let times = |state: &crate::store::State| {
        let messages = state.account(BOB).expect("he has one").messages();
        let times = messages.iter().map(|message| message.received_at_ms);
        times.collect()
    };
    server.core.store.read(times)
}

#[test]
fn an_uncrowded_recipient_who_is_online_costs_a_sender_without_management_no_record() {
    let server = Server::new();
    let mut bob = server.bind("b");
    server.present(&bob, 0);
    let before = server.core.store.position();
    say_all(&server, false, BOB, 0..5);
    assert_eq!(server.core.store.position(), before);
    assert_eq!(server.hear(&mut bob), numbers(0..5));
}

#[test]
fn messages_of_a_sender_who_turns_management_on_stay_in_order() {
    let server = Server::new();
    let bob = server.bind_managed("b");
    server.present(&bob, 0);
    server.cut(&bob);
    say_all(&server, false, BOB, 0..1);
    say_all(&server, true, BOB, 1..2);
    wait_s(RESUME_S + 1);
    end_overdue(&server.core);
    let mut bob = server.bind("c");
    server.present(&bob, 0);
    assert_eq!(server.hear(&mut bob), numbers(0..2));
}

#[test]
fn what_waited_for_a_session_that_does_not_come_back_was_received_when_it_was_sent() {
    let server = Server::new();
    let bob = server.bind_managed("b");
    server.present(&bob, 0);
    server.cut(&bob);
    let sent_at_ms = now_ms();
    say_all(&server, false, BOB, 0..1);
    wait_s(RESUME_S + 1);
    end_overdue(&server.core);
    assert_eq!(stored(&server), [sent_at_ms]);
}

#[test]
fn who_takes_a_resource_over_waits_for_what_the_old_connection_may_still_write() {
    let server = Server::new();
    let mut old = server.bind("b");
    server.present(&old, 0);
    say_all(&server, false, BOB, 0..6);
    server.commit();
    server.take(&mut old);
    let mut new = server.bind("b");
    server.present(&new, 0);
    say_all(&server, false, BOB, 6..8);
    assert_eq!(server.hear(&mut new), numbers(0..0));
    assert_eq!(server.write(&mut old, 2).len(), 2);
    server.cut(&old);
    assert_eq!(server.hear(&mut new), numbers(2..8));
}

#[test]
fn acknowledged_messages_do_not_come_again_when_the_session_ends_in_the_same_moment() {
    let server = Server::new();
    let mut bob = server.bind_managed("b");
    server.present(&bob, 0);
    say_all(&server, true, BOB, 0..3);
    server.hear(&mut bob);
    let done = bob.session.outbox.acknowledge(bob.number, 3);
    let done = done.expect("three were sent");
    end(&mut server.core.cx(), &bob.session, None);
    let mut next = server.bind("c");
    server.present(&next, 0);
    landed(&server.core, &bob.session, &done);
    assert_eq!(server.hear(&mut next), numbers(0..0));
    assert!(stored(&server).is_empty());
}

#[test]
fn what_waits_for_a_resource_that_can_be_resumed_is_nobody_elses() {
    let server = Server::new();
    let mut bob = server.bind_managed("b");
    server.hear(&mut bob);
    let session = bob.session.clone();
    server.cut(&bob);
    say_all(&server, true, "bob@verona.example/b", 0..30);
    let mut other = server.bind("other");
    server.present(&other, 0);
    assert_eq!(server.hear(&mut other), numbers(0..0));
    let mut bob = server.resume(&session, 0).expect("it waits");
    assert_eq!(server.hear(&mut bob), numbers(0..30));
}

#[test]
fn what_waits_in_the_log_for_a_resource_waits_over_an_orderly_restart() {
    let server = Server::new();
    let mut bob = server.bind_managed("b");
    server.hear(&mut bob);
    server.cut(&bob);
    say_all(&server, true, "bob@verona.example/b", 0..30);
    let server = server.restart();
    let mut other = server.bind("other");
    server.present(&other, 0);
    assert_eq!(server.hear(&mut other), numbers(0..0));
    let sleeping = server.core.table.session(BOB, "b").expect("it waits");
    let mut bob = server.resume(&sleeping, 0).expect("it waits");
    assert_eq!(server.hear(&mut bob), numbers(0..30));
}

#[test]
fn who_goes_unavailable_gets_no_more_of_what_waits() {
    let server = Server::new();
    say_all(&server, true, BOB, 0..30);
    let mut bob = server.bind("b");
    server.present(&bob, 0);
    server.leave(&bob);
    say_all(&server, true, BOB, 30..31);
    let had = server.hear(&mut bob);
    assert!(had.len() < 10, "{had:?}");
    let mut other = server.bind("other");
    server.present(&other, 0);
    assert_eq!(server.hear(&mut other), numbers(had.len() as u32..31));
}

#[test]
fn what_waited_for_who_goes_unavailable_goes_to_who_is_there() {
    let server = Server::new();
    say_all(&server, true, BOB, 0..30);
    let mut bob = server.bind("b");
    server.present(&bob, 5);
    let mut other = server.bind("other");
    server.present(&other, 0);
    let mut had = server.hear(&mut other);
    server.leave(&bob);
    had.extend(server.hear(&mut other));
    had.extend(server.hear(&mut bob));
    had.sort_by_key(|number| number.parse::<u32>().expect("a number"));
    assert_eq!(had, numbers(0..30));
}

#[test]
fn an_orderly_stop_waits_when_the_store_is_behind() {
    let server = Server::open_with(Server::new().device, 20_000);
    let padding = "x".repeat(1_000);
    let mut sessions = Vec::new();
    for resource in 0..8 {
        let bob = server.bind_managed(&resource.to_string());
        for number in 0..7 {
            let to = format!("{BOB}/{resource}");
            let said = server.say(false, &to, &format!("{resource}.{number}{padding}"));
            said.expect("it is on its way");
        }
        sessions.push(bob);
    }
    sessions.iter().for_each(|bob| server.cut(bob));
    let server = server.restart();
    assert_eq!(server.core.table.count(), 8);
    assert_eq!(stored(&server).len(), 8 * 7);
}

#[test]
fn what_waited_for_a_session_that_slept_too_long_goes_to_offline_storage() {
    let server = Server::new();
    let bob = server.bind_managed("b");
    server.present(&bob, 0);
    server.cut(&bob);
    say_all(&server, false, BOB, 0..3);
    say_all(&server, true, BOB, 3..5);
    // Its time is up while the server is stopped.
    let server = server.restart_after(RESUME_S + 1);
    end_overdue(&server.core);
    assert!(server.core.table.session(BOB, "b").is_none());
    let mut next = server.bind("c");
    server.present(&next, 0);
    assert_eq!(server.hear(&mut next), numbers(0..5));
}
