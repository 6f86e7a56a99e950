//! The façade on a simulated device: threads, failures, crashes.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;

use bytes::Bytes;

use super::*;
use crate::crypto::Credentials;
use crate::store::sim::{Faults, SimDevice};
use crate::store::state::HibernatedSession;

#[path = "store/failure_tests.rs"]
mod failures;

const NOW_MS: u64 = 1_700_000_000_000;
const OWNER: &str = "juliet@capulet.example";
const SEGMENT: u32 = 65536;

fn options() -> Options {
    Options {
        segment_bytes: Some(SEGMENT),
        random: *b"a name for the store,sal",
        background_bytes_per_s: 0,
        erase_within_ms: 0,
        ..Options::default()
    }
}

fn device() -> SimDevice {
    let len = 65536 + 64 * u64::from(SEGMENT);
    SimDevice::new(len, len)
}

fn open_with(device: &SimDevice, options: Options) -> Store {
    let device: Arc<dyn Device> = Arc::new(device.clone());
    Store::open(device, options, StoreLimits::default(), NOW_MS)
        .expect("the store opens")
        .0
}

fn open(device: &SimDevice) -> Store {
    open_with(device, options())
}

/// A store with one account, all of it durable.
fn store(device: &SimDevice) -> Store {
    let store = open(device);
    let credentials = Credentials::Argon2id {
        phc: "$argon2id$".to_owned(),
    };
    store
        .update(|tx| tx.put_account(OWNER, &credentials, NOW_MS))
        .expect("it is new");
    commit(&store);
    store
}

fn commit(store: &Store) {
    while store.commit_step(NOW_MS).expect("the device works") {}
}

fn settle(store: &Store) {
    for step in 0..10_000 {
        let idle = matches!(
            store
                .background_step(NOW_MS + step)
                .expect("the device works"),
            Step::Idle { .. }
        );
        if !store.commit_step(NOW_MS + step).expect("the device works") && idle {
            return;
        }
    }
    panic!("background work comes to an end");
}

fn put(store: &Store, text: &[u8]) -> Result<MessageId, StoreError> {
    let stanza = Bytes::copy_from_slice(text);
    store
        .update(|tx| tx.put_message(OWNER, NOW_MS, 0, stanza))
        .map(|(id, _)| id)
}

fn waiting(store: &Store) -> Vec<MessageId> {
    store.read(|state| {
        state
            .account(OWNER)
            .expect("it exists")
            .messages()
            .iter()
            .map(|message| message.id)
            .collect()
    })
}

#[test]
fn what_many_threads_put_is_durable_when_they_are_told_and_there_after_a_crash() {
    let device = device();
    let store = Arc::new(store(&device));
    let told = Arc::new((Mutex::new(Position(0)), Condvar::new()));
    let listener = Arc::clone(&told);
    store.on_durable(Box::new(move |position| {
        *listener.0.lock().expect("no panic") = position;
        listener.1.notify_all();
    }));
    let clock = AtomicU64::new(NOW_MS);
    let now_ms = || clock.fetch_add(1, Ordering::Relaxed);
    let acknowledged = Mutex::new(Vec::new());
    let syncs = device.counts().1;
    thread::scope(|scope| {
        let committer = scope.spawn(|| store.commit_loop(&now_ms));
        let background = scope.spawn(|| store.background_loop(&now_ms));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (store, told, acknowledged) = (&store, &told, &acknowledged);
                scope.spawn(move || {
                    for n in 0..50 {
                        let text = format!("{writer} {n}");
                        let stanza = Bytes::from(text.clone());
                        let put = store.update(|tx| tx.put_message(OWNER, NOW_MS, 0, stanza));
                        let (id, position) = put.expect("there is room");
                        let durable = told.0.lock().expect("no panic");
                        drop(
                            told.1
                                .wait_while(durable, |durable| *durable < position)
                                .expect("no panic"),
                        );
                        assert!(store.durable() >= position);
                        acknowledged.lock().expect("no panic").push((id, text));
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().expect("no panic"));
        let crashed = open(&device.kill());
        for (id, text) in acknowledged.lock().expect("no panic").iter() {
            let stored = crashed.message(OWNER, *id).expect("it can be read");
            assert_eq!(stored.as_deref(), Some(text.as_bytes()));
        }
        store.stop();
        assert_eq!(committer.join().expect("no panic"), Ok(()));
        assert_eq!(background.join().expect("no panic"), Ok(()));
    });
    assert!(device.counts().1 - syncs < 400, "commits are shared");
    assert_eq!(waiting(&open(&device)).len(), 400);
}

#[test]
fn retiring_costs_no_commit_of_its_own_and_goes_along_with_the_next() {
    let device = device();
    let store = store(&device);
    let ids = [
        put(&store, b"one").expect("it fits"),
        put(&store, b"two").expect("it fits"),
    ];
    commit(&store);
    let (position, syncs) = (store.position(), device.counts().1);
    store
        .retire_later(OWNER, &ids[..1], NOW_MS)
        .expect("retiring is taken");
    assert_eq!(waiting(&store), ids[1..], "the state forgets it at once");
    assert_eq!(store.position(), position, "nobody has to wait for it");
    assert_eq!(store.commit_step(NOW_MS), Ok(false));
    assert_eq!(device.counts().1, syncs);
    assert_eq!(
        waiting(&open(&device.kill())),
        ids,
        "a crash brings it back"
    );
    let third = put(&store, b"three").expect("it fits");
    commit(&store);
    assert_eq!(
        waiting(&open(&device.kill())),
        [ids[1], third],
        "and the next commit has it"
    );
}

#[test]
fn a_retirement_is_not_lost_when_too_much_waits_to_be_written() {
    let device = device();
    let id = put(&store(&device), b"not durable");
    assert!(id.is_ok());
    let store = open_with(
        &device,
        Options {
            backlog_bytes_max: 20_000,
            ..options()
        },
    );
    let id = put(&store, b"one").expect("it fits");
    while put(&store, &[b'x'; 1000]).is_ok() {}
    store
        .retire_later(OWNER, &[id], NOW_MS)
        .expect("retiring is taken");
    let free = |store: &Store| store.messages_waiting(OWNER, MessageId(0), 1, |_| true).0;
    assert_ne!(
        free(&store)[0].id,
        id,
        "nobody gets it while it waits to be retired"
    );
    commit(&store);
    assert!(!waiting(&store).contains(&id));
    assert!(!waiting(&open(&device.kill())).contains(&id));
}

#[test]
fn a_retirement_waits_for_a_bounded_time() {
    let device = device();
    let store = store(&device);
    let id = put(&store, b"one").expect("it fits");
    commit(&store);
    store
        .retire_later(OWNER, &[id], NOW_MS)
        .expect("retiring is taken");
    store.flush_retirements(NOW_MS + Store::RETIREMENT_DELAY_MS - 1);
    assert_eq!(store.commit_step(NOW_MS), Ok(false));
    store.flush_retirements(NOW_MS + Store::RETIREMENT_DELAY_MS);
    assert_eq!(store.commit_step(NOW_MS), Ok(true));
    assert_eq!(waiting(&open(&device.kill())), []);
    store
        .retire_later("nobody@capulet.example", &[id], NOW_MS)
        .expect("a removed account is no error");
}

#[test]
fn a_message_keeps_its_number_and_its_id_over_a_crash() {
    let device = device();
    let store = store(&device);
    let id = put(&store, b"one").expect("it fits");
    commit(&store);
    let crashed = open(&device.kill());
    assert_eq!(waiting(&crashed), [id]);
    assert_eq!(crashed.stanza_id(id), store.stanza_id(id));
    assert_eq!(crashed.message_of(&store.stanza_id(id)), Some(id));
    let next = put(&crashed, b"two").expect("it fits");
    assert!(next > id);
}

#[test]
fn numbers_are_not_given_out_again_when_all_messages_are_gone() {
    let device = device();
    let store = store(&device);
    let mut last = MessageId(0);
    for _ in 0..3 {
        let id = put(&store, b"one").expect("it fits");
        assert!(id > last);
        last = id;
        store
            .update(|tx| tx.retire_messages(OWNER, &[id]))
            .expect("retiring is taken");
        settle(&store);
    }
    store.stop();
    commit(&store);
    let reopened = open(&device);
    assert!(put(&reopened, b"two").expect("it fits") > last);
}

#[test]
fn a_failed_sync_is_told_once_and_nothing_is_accepted_afterwards() {
    let device = device();
    let store = store(&device);
    let told = Arc::new(AtomicUsize::new(0));
    let listener = Arc::clone(&told);
    store.on_failure(Box::new(move |_| {
        listener.fetch_add(1, Ordering::Relaxed);
    }));
    device.fail(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    let durable = store.durable();
    put(&store, b"lost").expect("it fits");
    assert!(matches!(
        store.commit_loop(&|| NOW_MS),
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        store.commit_step(NOW_MS),
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        put(&store, b"refused"),
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        store.background_loop(&|| NOW_MS),
        Err(StoreError::Failed(_))
    ));
    assert_eq!(store.durable(), durable);
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn more_than_may_wait_is_refused_until_it_is_written() {
    let device = device();
    store(&device);
    let store = open_with(
        &device,
        Options {
            backlog_bytes_max: 20_000,
            ..options()
        },
    );
    let refused = (0..100).find_map(|_| put(&store, &[b'x'; 1000]).err());
    assert_eq!(refused, Some(StoreError::Overloaded));
    commit(&store);
    put(&store, b"later").expect("there is room again");
}

#[test]
fn a_full_store_refuses_what_is_new_and_takes_what_makes_room() {
    let len = 65536 + 14 * u64::from(SEGMENT);
    let device = SimDevice::new(len, len);
    let store = store(&device);
    let mut ids = Vec::new();
    let refused = loop {
        match put(&store, &[b'x'; 8000]) {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
        settle(&store);
    };
    assert_eq!(refused, StoreError::Full);
    store
        .update(|tx| tx.retire_messages(OWNER, &ids))
        .expect("it makes room");
    settle(&store);
    put(&store, b"again").expect("there is room again");
}

#[test]
fn a_message_is_found_wherever_compaction_has_moved_it() {
    let device = device();
    let store = store(&device);
    let kept = put(&store, b"kept").expect("it fits");
    let before = store.read(|state| {
        state
            .account(OWNER)
            .and_then(|account| account.messages().find(kept).copied())
    });
    let before = before.expect("it waits").place;
    for _ in 0..60 {
        let ids: Vec<_> = (0..7)
            .map(|_| put(&store, &[b'x'; 6000]).expect("it fits"))
            .collect();
        store
            .update(|tx| tx.retire_messages(OWNER, &ids))
            .expect("retiring is taken");
        settle(&store);
    }
    let after = store.read(|state| {
        state
            .account(OWNER)
            .and_then(|account| account.messages().find(kept).copied())
    });
    assert_ne!(after.expect("it waits").place, before, "it was moved");
    assert_eq!(
        store
            .message(OWNER, kept)
            .expect("it can be read")
            .as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(store.fetch(before), Err(StoreError::Moved));
    let crashed = open(&device.kill());
    assert_eq!(
        crashed
            .message(OWNER, kept)
            .expect("it can be read")
            .as_deref(),
        Some(&b"kept"[..])
    );
}

#[test]
fn what_a_removed_account_had_is_overwritten() {
    const SECRET: &[u8] = b"a secret that nobody may find again";
    let device = device();
    let store = store(&device);
    put(&store, SECRET).expect("it fits");
    store
        .update(|tx| {
            let status = std::str::from_utf8(SECRET).expect("text");
            tx.put_last_activity(OWNER, NOW_MS, status)
        })
        .expect("it fits");
    settle(&store);
    let found = |device: &SimDevice| {
        device
            .to_bytes()
            .windows(SECRET.len())
            .filter(|bytes| *bytes == SECRET)
            .count()
    };
    assert!(found(&device) >= 2);
    store
        .update(|tx| tx.remove_account(OWNER))
        .expect("it exists");
    assert!(
        matches!(put(&store, b"new"), Err(StoreError::NoAccount)),
        "unreadable at once"
    );
    for step in 0..50 {
        drop(store.update(|tx| tx.put_setting("filler", &[step; 30_000])));
        settle(&store);
    }
    assert_eq!(found(&device), 0);
}

#[test]
fn a_caller_that_panics_changes_nothing() {
    let device = device();
    let store = store(&device);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.update(|tx| -> Result<(), StoreError> {
            tx.remove_account(OWNER)?;
            panic!("a defect")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(waiting(&store), []);
    put(&store, b"one").expect("the store goes on");
    commit(&store);
    assert_eq!(waiting(&open(&device.kill())).len(), 1);
}

#[test]
fn a_change_that_states_nothing_is_durable_with_what_is_before_it() {
    let device = device();
    let store = store(&device);
    let (_, position) = store
        .update(|tx| tx.put_last_activity(OWNER, NOW_MS, ""))
        .expect("it fits");
    let (_, nothing) = store
        .update(|tx| tx.retire_messages(OWNER, &[]))
        .expect("retiring is taken");
    assert_eq!(nothing, position);
    assert!(store.durable() < position);
    commit(&store);
    assert_eq!(store.durable(), position);
}

#[test]
fn values_beside_the_state_are_read_back() {
    let device = device();
    let store = store(&device);
    let session = HibernatedSession {
        id: "token".to_owned(),
        ..HibernatedSession::default()
    };
    store
        .update(|tx| {
            tx.put_vcard(OWNER, Bytes::from_static(b"<vCard xmlns='vcard-temp'/>"))?;
            tx.put_private(
                OWNER,
                "storage",
                "storage:bookmarks",
                Bytes::from_static(b"<storage/>"),
            )?;
            tx.put_subscription_request(
                OWNER,
                "romeo@montague.example",
                Bytes::from_static(b"<presence/>"),
            )?;
            tx.put_hibernated(OWNER, &session)
        })
        .expect("all of it fits");
    for round in 0..2 {
        let text = |value: Result<Option<Bytes>, StoreError>| {
            value.expect("it can be read").expect("it is there")
        };
        assert_eq!(text(store.vcard(OWNER)), "<vCard xmlns='vcard-temp'/>");
        assert_eq!(
            text(store.private(OWNER, "storage", "storage:bookmarks")),
            "<storage/>"
        );
        assert_eq!(
            text(store.subscription_request(OWNER, "romeo@montague.example")),
            "<presence/>"
        );
        assert_eq!(store.hibernated(OWNER, "token"), Ok(Some(session.clone())));
        assert_eq!(store.hibernated(OWNER, "other"), Ok(None), "round {round}");
        commit(&store);
    }
}

#[test]
fn a_store_is_reported_on_and_verified_while_it_is_used() {
    let device = device();
    let store = store(&device);
    let ids: Vec<_> = (0..20)
        .map(|_| put(&store, &[b'x'; 5000]).expect("it fits"))
        .collect();
    settle(&store);
    let stat = store.stat();
    assert_eq!(
        (stat.accounts, stat.messages, stat.log.backlog_bytes),
        (1, 20, 0)
    );
    put(&store, b"waits to be written").expect("it fits");
    let report = store.verify();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.records_held, 21);
    commit(&store);
    let place = store.read(|state| {
        state
            .account(OWNER)
            .and_then(|account| account.messages().find(ids[3]).copied())
    });
    let place = place.expect("it waits").place;
    let at = device
        .to_bytes()
        .windows(5000)
        .position(|bytes| bytes == [b'x'; 5000])
        .expect("it is there");
    device.flip(at as u64 + 9, 0);
    let report = store.verify();
    assert!(!report.is_clean());
    let hit: Vec<_> = report
        .damage
        .iter()
        .flat_map(|damage| &damage.hit)
        .collect();
    assert!(
        hit.iter().any(|hit| hit.contains(OWNER)),
        "{report:?}, {place:?}"
    );
    let damaged = ids
        .iter()
        .filter(|id| matches!(store.message(OWNER, **id), Err(StoreError::Unreadable(_))))
        .count();
    assert_eq!(damaged, 1, "everything else is served");
}

#[test]
fn compacting_by_hand_gives_space_back() {
    let device = device();
    let store = store(&device);
    for _ in 0..20 {
        let ids: Vec<_> = (0..7)
            .map(|_| put(&store, &[b'x'; 6000]).expect("it fits"))
            .collect();
        store
            .update(|tx| tx.retire_messages(OWNER, &ids))
            .expect("retiring is taken");
        commit(&store);
    }
    let free = store.stat().log.segments_free;
    store.compact();
    let clock = AtomicU64::new(NOW_MS);
    store
        .tidy(&|| clock.fetch_add(1, Ordering::Relaxed))
        .expect("the device works");
    assert!(store.stat().log.segments_free > free + 8);
}
