//! What accounts cost in memory, and how fast a state comes back: a hundred
//! thousand accounts with ten contacts each, then a checkpoint of them and its
//! restoration, and the store that the start-up budget names.
//!
//! `cargo run --release --example state`
#![allow(clippy::print_stdout, reason = "a report")]

use std::sync::Arc;
use std::time::Instant;

use cairn::crypto::{Credentials, Hash, ScramKeys};
use cairn::store::disk::{Access, FileDevice};
use cairn::store::fold::{CheckpointItem, Fold, Live, Place, Record};
use cairn::store::log::Options;
use cairn::store::records::{
    AccountV1, CredentialsV1, Kind, MessageV1, RosterItemV1, ScramV1, encode,
};
use cairn::store::state::{RosterEntry, State};
use cairn::store::{Store, StoreError, StoreLimits, Tx};

const ACCOUNTS: usize = 100_000;

fn main() {
    let before = resident_bytes();
    let (mut state, mut live, mut seq) = (State::new(), Live::default(), 0);
    let records = fill(&mut state, &mut live, &mut seq, ACCOUNTS, 0);
    let bytes = resident_bytes() - before;
    println!(
        "{ACCOUNTS} accounts with ten contacts: {} bytes an account",
        bytes / ACCOUNTS
    );
    restore(&state, records);
    let (mut state, mut live, mut seq) = (State::new(), Live::default(), 0);
    let records = fill(&mut state, &mut live, &mut seq, 10_000, 30_000);
    restore(&state, records);
    drop(state);
    start(std::path::Path::new("target/state-example.log"));
}

/// The same on a file: written through the façade, closed, and opened again.
fn start(path: &std::path::Path) {
    drop(std::fs::remove_file(path));
    let now_ms = || 1_700_000_000_000;
    let open = |access| {
        let device = Arc::new(FileDevice::open(path, access).expect("the folder is there"));
        let started = Clock::now();
        let opened = Store::open(device, Options::default(), StoreLimits::default(), now_ms());
        (
            opened.expect("the store opens"),
            (started.seconds(), started.wall_seconds()),
        )
    };
    let ((store, _), _) = open(Access::Create);
    let credentials = credentials();
    for chunk in 0..ACCOUNTS / 1000 {
        let put = store.update(|tx| -> Result<(), StoreError> {
            for account in chunk * 1000..(chunk + 1) * 1000 {
                tx.put_account(&owner(account), &credentials, 1)?;
                for contact in 0..if account < 10_000 { 10 } else { 0 } {
                    let mut item = RosterEntry::new(&owner((account + contact) % ACCOUNTS));
                    item.name.push_str("A Contact");
                    item.groups.push("Friends".to_owned());
                    tx.put_roster_item(&owner(account), &item)?;
                }
            }
            Ok(())
        });
        put.expect("there is room");
        tidy(&store);
    }
    let stanza = bytes::Bytes::from(vec![b'x'; 428]);
    let mut best = f64::MAX;
    for chunk in 0..300 {
        let started = Clock::now();
        for n in 0..100 {
            let put =
                |tx: &mut Tx<'_>| tx.put_message(&owner(chunk * 100 + n), 1, 0, stanza.clone());
            store.update(put).expect("there is room");
        }
        best = best.min(started.wall_seconds());
        tidy(&store);
    }
    println!(
        "a message put: {:.2} µs in the best of 300 times 100",
        best / 100.0 * 1e6
    );
    drop(store);
    let ((store, recovery), (cpu, wall)) = open(Access::Write);
    println!(
        "start with a tail: {cpu:.3} s CPU, {wall:.3} s, {} items, {} records",
        recovery.items, recovery.records
    );
    store.compact();
    tidy(&store);
    store.stop();
    store.commit_loop(&now_ms).expect("the device works");
    drop(store);
    let ((store, recovery), (cpu, wall)) = open(Access::Write);
    let first = store.read(|state| {
        state
            .account(&owner(5))
            .is_some_and(|account| account.credentials().is_some())
    });
    assert!(first, "the first log-in finds its account");
    println!(
        "start from a checkpoint: {cpu:.3} s CPU, {wall:.3} s to the first log-in, {} items, {} records of the tail",
        recovery.items, recovery.records
    );
    drop(store);
    drop(std::fs::remove_file(path));
}

/// Commits, and does what there is to do between commits.
fn tidy(store: &Store) {
    let clock = std::cell::Cell::new(1_700_000_000_000);
    let now_ms = || {
        clock.set(clock.get() + 50);
        clock.get()
    };
    store.tidy(&now_ms).expect("the device works");
}

fn owner(account: usize) -> String {
    format!("user{account:06}@chat.example")
}

fn credentials() -> Credentials {
    let keys = |hash: Hash| {
        let key = vec![2; hash.length()];
        ScramKeys::from_parts(hash, &[1; 16], 10_000, &key, &key).expect("the lengths are right")
    };
    Credentials::Scram {
        sha256: keys(Hash::Sha256),
        sha1: Some(keys(Hash::Sha1)),
    }
}

/// Accounts, those with a number below `rosters` with ten contacts each, and
/// messages for the first of them.
fn fill(
    state: &mut State,
    live: &mut Live,
    seq: &mut u64,
    rosters: usize,
    messages: usize,
) -> usize {
    let started = Clock::now();
    let mut records = 0;
    let mut body = Vec::new();
    let mut apply = |kind: Kind, body: &mut Vec<u8>| {
        *seq += 1;
        let record = Record {
            kind: kind as u8,
            version: 1,
            seq: *seq,
            body,
            payload: &[],
        };
        let place = Place {
            segment: (*seq >> 14) as u32 + 1,
            offset: 0,
            len: 512,
        };
        state
            .apply(&record, place, live)
            .expect("our own record is taken");
        body.clear();
        records += 1;
    };
    for account in 0..ACCOUNTS {
        let owner = format!("user{account:06}@chat.example");
        let credentials = CredentialsV1 {
            sha256: ScramV1 {
                iterations: 10_000,
                salt: &[1; 16],
                stored_key: &[2; 32],
                server_key: &[3; 32],
            },
            sha1: ScramV1 {
                iterations: 10_000,
                salt: &[1; 16],
                stored_key: &[2; 20],
                server_key: &[3; 20],
            },
            argon2id: "",
        };
        encode(
            &AccountV1 {
                owner: &owner,
                created_at_ms: 1,
                enabled: true,
                credentials,
            },
            &mut body,
        );
        apply(Kind::Account, &mut body);
        for contact in 0..if account < rosters { 10 } else { 0 } {
            let contact = format!("user{:06}@chat.example", (account + contact) % ACCOUNTS);
            let item = RosterItemV1 {
                owner: &owner,
                contact: &contact,
                name: "A Contact",
                groups: vec!["Friends"],
                flags: 3,
            };
            encode(&item, &mut body);
            apply(Kind::RosterItem, &mut body);
        }
    }
    for message in 0..messages {
        let owner = format!("user{:06}@chat.example", message % ACCOUNTS);
        encode(
            &MessageV1 {
                owner: &owner,
                received_at_ms: 1,
                flags: 0,
            },
            &mut body,
        );
        apply(Kind::Message, &mut body);
    }
    println!(
        "{records} records applied at {:.2} million a second",
        records as f64 / 1e6 / started.seconds()
    );
    records
}

fn restore(state: &State, records: usize) {
    let mut items: Vec<(u8, u64, Vec<u8>, Option<Place>)> = Vec::new();
    let started = Clock::now();
    let mut cursor = None;
    let mut longest = 0.0_f64;
    loop {
        let slice = Clock::now();
        cursor = state.checkpoint(cursor, 128 << 10, &mut |item: CheckpointItem<'_>| {
            items.push((
                item.record.kind,
                item.record.seq,
                item.record.body.to_vec(),
                item.place,
            ));
        });
        longest = longest.max(slice.seconds());
        if cursor.is_none() {
            break;
        }
    }
    let bytes: usize = items.iter().map(|item| item.2.len()).sum();
    println!(
        "checkpoint: {} items, {} MB, in {:.3} s; the longest slice {:.2} ms",
        items.len(),
        bytes >> 20,
        started.seconds(),
        longest * 1e3
    );
    let started = Clock::now();
    let (mut restored, mut live) = (State::new(), Live::default());
    for (kind, seq, body, place) in &items {
        let record = Record {
            kind: *kind,
            version: 1,
            seq: *seq,
            body,
            payload: &[],
        };
        restored
            .restore(
                CheckpointItem {
                    record,
                    place: *place,
                },
                &mut live,
            )
            .expect("our own item is taken");
    }
    let seconds = started.seconds();
    println!(
        "restored in {seconds:.3} s: {:.2} million records a second",
        records as f64 / 1e6 / seconds
    );
    assert_eq!(restored.account_count(), state.account_count());
}

/// The time since some moment, in the processor's view and the wall's.
struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    fn now() -> Clock {
        Clock {
            wall: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    /// Seconds of the processor.
    fn seconds(&self) -> f64 {
        cpu_seconds() - self.cpu
    }

    /// Seconds of the wall.
    fn wall_seconds(&self) -> f64 {
        self.wall.elapsed().as_secs_f64()
    }
}

/// Seconds that this thread has had a processor: other work on the machine does
/// not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts them");
    let nanoseconds: f64 = stat
        .split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .expect("a number");
    nanoseconds / 1e9
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells what is resident");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    pages * 4096
}
