//! Sessions that change their connections (XEP-0198 §5), in every order in which that may happen.

use std::sync::Arc;

use super::*;
use crate::router::{Moments, Resumption, ResumptionId};
use crate::store::Position;

/// A client of `bob` that can be resumed and is available, and the id to resume it by.
fn resumable(server: &Server) -> (Client<'_>, ResumptionId) {
    let client = server.log_in("bob/r");
    let granted = router::enable_management(&server.core, &client.session, true, None);
    let mut enabled = router::Entry::nonza("<enabled/>".into(), Position(0));
    enabled.cargo = router::Cargo::ManagementEnabled;
    server.core.push(&client.session, enabled);
    client.hear();
    (client, granted.expect("sessions can be resumed").0)
}

fn server() -> Server {
    let server = Server::new();
    server.accounts(&["alice", "bob"]);
    server
}

fn connection(client: &Client<'_>) -> u64 {
    client.session.link().connection
}

fn resume(server: &Server, id: &ResumptionId, h: u32, connection: u64) -> Option<Arc<Session>> {
    let account = jid(&format!("bob@{DOMAIN}"));
    match router::resume(
        &server.core,
        &account,
        &server.proved("bob"),
        id,
        h,
        connection,
    ) {
        Resumption::Resumed { session, .. } => Some(session),
        Resumption::NotFound => None,
        Resumption::Busy => panic!("no stanza is being handled"),
        Resumption::TooHigh(too_high) => panic!("{too_high:?}"),
    }
}

/// Whether a session goes with its connection.
fn is_held_by_nobody(client: Client<'_>) -> bool {
    let core = &client.server.core;
    core.gates.open(core.store.durable());
    let session = Arc::downgrade(&client.session);
    drop(client);
    session.upgrade().is_none()
}

fn say(client: &Client<'_>, body: &str) {
    client.post(&format!(
        "<message xmlns='jabber:client' type='chat' to='bob@{DOMAIN}'><body>{body}</body></message>"
    ));
}

/// The connection's own part of a resumption comes later, in any order.
#[test]
fn of_two_connections_that_resume_at_once_one_serves_the_session_and_the_other_leaves() {
    let server = server();
    let alice = server.log_in("alice/a");
    let (bob, id) = resumable(&server);
    let old = connection(&bob);
    for (first, second) in [(101, 102), (202, 201)] {
        let h = bob.session.outbox.acknowledged();
        for connection in [first, second] {
            resume(&server, &id, h, connection).expect("it can be resumed");
        }
        assert!(bob.session.outbox.rewind(second));
        assert!(!bob.session.outbox.rewind(first));
        assert_eq!(connection(&bob), second);
        for gone in [old, first] {
            router::connection_lost(&server.core, &bob.session, gone);
            assert_eq!(bob.session.begin_turn(gone), router::Turn::Gone);
        }
        assert_eq!(connection(&bob), second, "who left takes nothing along");
        say(&alice, "for whoever serves it");
        let batch = bob.session.outbox.take(second, Position(u64::MAX), 10_000);
        assert_eq!((batch.entries.len(), batch.gone), (1, None));
        let handled = bob.session.outbox.acknowledge(second, h + 1);
        assert_eq!(handled.expect("it was sent one more").len(), 1);
    }
}

/// The old connection notices its end when the session has been resumed already.
#[test]
fn a_connection_that_is_lost_after_its_session_was_resumed_does_not_detach_it() {
    let server = server();
    let (bob, id) = resumable(&server);
    let old = connection(&bob);
    resume(&server, &id, 0, 101).expect("it can be resumed");
    router::connection_lost(&server.core, &bob.session, old);
    wait_s(100_000);
    router::end_overdue(&server.core);
    assert!(!bob.session.is_ended());
    assert!(bob.session.outbox.rewind(101));
}

#[test]
fn a_resumed_session_that_loses_its_connection_again_waits_again() {
    let server = server();
    let (bob, id) = resumable(&server);
    router::connection_lost(&server.core, &bob.session, connection(&bob));
    for new in [101, 102] {
        resume(&server, &id, 0, new).expect("it can be resumed");
        router::connection_lost(&server.core, &bob.session, new);
    }
    wait_s(100_000);
    router::end_overdue(&server.core);
    assert!(bob.session.is_ended());
    assert!(resume(&server, &id, 0, 103).is_none());
}

/// It would come back with a hole in what it was sent.
#[test]
fn a_session_that_overflows_while_it_waits_is_over() {
    let server = server();
    let (bob, id) = resumable(&server);
    router::connection_lost(&server.core, &bob.session, connection(&bob));
    for _ in 0..=1_000 {
        let bytes = bytes::Bytes::from_static(b"<presence/>");
        let entry = router::Entry::transient(bytes.into(), Position(0));
        server.core.push(&bob.session, entry);
    }
    assert!(resume(&server, &id, 0, 101).is_none());
    router::end_overdue(&server.core);
    assert!(bob.session.is_ended());
    assert_eq!(server.core.outboxes.bytes(), 0);
}

/// The client asks for it while another connection takes its resource.
#[test]
fn a_session_that_has_ended_can_not_be_made_resumable() {
    let server = server();
    let bob = server.log_in("bob/r");
    server.log_in("bob/r");
    assert!(bob.session.is_ended());
    let granted = router::enable_management(&server.core, &bob.session, true, None);
    if let Some((id, _)) = granted {
        assert!(server.core.table.resumable_by(&id).is_none());
    }
    assert!(is_held_by_nobody(bob));
}

#[test]
fn a_waiting_session_whose_resource_is_taken_is_held_by_nobody() {
    let server = server();
    let (bob, _) = resumable(&server);
    router::connection_lost(&server.core, &bob.session, connection(&bob));
    server.log_in("bob/r");
    assert!(is_held_by_nobody(bob));
}

#[test]
fn room_is_made_by_those_who_hold_most_of_what_waits() {
    let server = server();
    server.accounts(&["eve"]);
    let (bob, _) = resumable(&server);
    let carol = server.log_in("alice/c");
    let greedy: Vec<Client<'_>> = (0..10)
        .map(|n| server.connect(&format!("eve/{n}")))
        .collect();
    let push = |client: &Client<'_>, bytes: usize| {
        let entry =
            router::Entry::transient(bytes::Bytes::from(vec![b'z'; bytes]).into(), Position(0));
        server.core.push(&client.session, entry)
    };
    for eve in &greedy {
        for _ in 0..10 {
            assert!(push(eve, 100_000).is_queued());
        }
    }
    assert!(push(&bob, 2_000).is_queued());
    assert!(push(&carol, 20_000).is_queued());
    router::relieve(&server.core);
    assert_eq!(server.core.outboxes.excess(), 0);
    assert!(!bob.session.is_ended() && !carol.session.is_ended());
    let ended = greedy.iter().filter(|eve| eve.session.is_ended()).count();
    assert_eq!(ended, 3, "no more than it takes");
    router::relieve(&server.core);
    let ended = greedy.iter().filter(|eve| eve.session.is_ended()).count();
    assert_eq!(ended, 3);
}

thread_local! {
    static HEARD: Cell<u32> = const { Cell::new(0) };
}

const NONE: Module = Module {
    name: "none",
    features: &[],
    iq: &[],
    moments: Moments::NONE,
};

static PANICS: Module = Module {
    moments: Moments {
        ended: Some(|_, _| panic!("on purpose")),
        ..Moments::NONE
    },
    ..NONE
};

static COUNTS: Module = Module {
    moments: Moments {
        ended: Some(|_, _| HEARD.set(HEARD.get() + 1)),
        ..Moments::NONE
    },
    ..NONE
};

static MODULES: [&Module; 2] = [&PANICS, &COUNTS];

#[test]
fn a_module_that_panics_keeps_no_session_from_ending_and_nobody_from_hearing_of_it() {
    let server = Server::of(&MODULES, |_| {});
    server.accounts(&["bob"]);
    let waiting = ["bob/1", "bob/2", "bob/3"].map(|name| {
        let client = server.connect(name);
        router::enable_management(&server.core, &client.session, true, None);
        router::connection_lost(&server.core, &client.session, connection(&client));
        client
    });
    wait_s(100_000);
    router::end_overdue(&server.core);
    assert!(waiting.iter().all(|client| client.session.is_ended()));
    assert_eq!(HEARD.get(), 3);
}
