//! Stores made for a run, written through the library and not through the wire.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn::config::{Config, Machine};
use cairn::crypto::{Credentials, Hash, Password, ScramKeys};
use cairn::server::now_ms;
use cairn::service::open;
use cairn::store::disk::Access;
use cairn::store::{RosterEntry, Store, StoreError};

use super::super::client::Outcome;

/// Everybody's.
pub const PASSWORD: &str = "correct horse";
/// Everybody's too, so that a client derives its keys once.
pub const SALT: &[u8] = b"salt of the load";

/// What everybody logs in with.
pub fn credentials(iterations: u32) -> Credentials {
    let password = Password::prepare(PASSWORD).expect("a valid password");
    let iterations = NonZeroU32::new(iterations).expect("not zero");
    Credentials::Scram {
        sha256: ScramKeys::derive(Hash::Sha256, &password, SALT, iterations),
        sha1: None,
    }
}

fn with_store(folder: &Path, fill: impl FnOnce(&Store) -> Outcome<()>) -> Outcome<()> {
    let mut config =
        Config::parse("domain = \"localhost\"", &Machine::measure()).map_err(|e| e.to_string())?;
    config.store.path = folder.join("cairn.log");
    config.limits.accounts = 1_000_000;
    let opened =
        open::open(&config, Access::Create, now_ms()).map_err(|failure| failure.to_string())?;
    let store = Arc::new(opened.store);
    let committing = store.clone();
    let tidying = store.clone();
    let threads = [
        std::thread::spawn(move || committing.commit_loop(&now_ms)),
        std::thread::spawn(move || tidying.background_loop(&now_ms)),
    ];
    fill(&store)?;
    store.begin_checkpoint();
    while store.stat().log.checkpoint_is_running {
        std::thread::sleep(Duration::from_millis(10));
    }
    store.stop();
    for thread in threads {
        thread
            .join()
            .map_err(|_| "a thread of the store panicked")??;
    }
    Ok(())
}

/// Accounts `u0`, `u1`, …
pub fn accounts(folder: &Path, count: usize, credentials: &Credentials) -> Outcome<()> {
    with_store(folder, |store| put_accounts(store, count, credentials))
}

fn put_accounts(store: &Store, count: usize, credentials: &Credentials) -> Outcome<()> {
    for first in (0..count).step_by(100) {
        patiently(|| {
            store.update(|tx| {
                for number in first..count.min(first + 100) {
                    tx.put_account(&format!("u{number}@localhost"), credentials, now_ms())?;
                }
                Ok::<_, StoreError>(())
            })
        })?;
    }
    Ok(())
}

/// Tries again while the disk is behind.
fn patiently<R>(mut work: impl FnMut() -> Result<R, StoreError>) -> Outcome<R> {
    loop {
        match work() {
            // Full until the file has grown.
            Err(StoreError::Overloaded | StoreError::Full) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return Ok(other?),
        }
    }
}

/// 100,000 accounts, 10,000 rosters of ten, 30,000 offline messages.
pub fn town(folder: &Path, credentials: &Credentials) -> Outcome<()> {
    with_store(folder, |store| {
        put_accounts(store, 100_000, credentials)?;
        for number in 0..10_000 {
            let owner = format!("u{number}@localhost");
            patiently(|| {
                store.update(|tx| {
                    for friend in 1..=10 {
                        let mut entry =
                            RosterEntry::new(&format!("u{}@localhost", number + friend));
                        entry.name = format!("Friend {friend}");
                        entry.subscription = cairn::store::Subscription::Both;
                        tx.put_roster_item(&owner, &entry)?;
                    }
                    Ok::<_, StoreError>(())
                })
            })?;
        }
        for number in 0..30_000 {
            let owner = format!("u{}@localhost", number % 10_000);
            let stanza = Bytes::from(super::message(&owner, number));
            patiently(|| store.update(|tx| tx.put_message(&owner, now_ms(), 0, stanza.clone())))?;
        }
        Ok(())
    })
}

/// The yardstick of everything durable: so many threads hand records of this size to one that
/// writes them together and syncs, and wait for that.
pub fn bare_committed_per_s(folder: &Path, committers: usize, bytes: usize) -> Outcome<f64> {
    const SECONDS: u64 = 2;
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(folder.join("bare"))?;
    file.write_all_at(&vec![0; 64 << 20], 0)?;
    file.sync_all()?;
    let queue = Arc::new((
        Mutex::new((VecDeque::<Vec<u8>>::new(), 0_u64, 0_u64)),
        Condvar::new(),
    ));
    let end = Instant::now() + Duration::from_secs(SECONDS);
    let threads: Vec<_> = (0..committers)
        .map(|_| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let record = vec![7; bytes];
                let mut written = 0_u64;
                let (lock, changed) = &*queue;
                while Instant::now() < end {
                    let mut state = lock.lock().expect("nobody panics");
                    state.0.push_back(record.clone());
                    state.1 += 1;
                    let mine = state.1;
                    changed.notify_all();
                    while state.2 < mine {
                        state = changed.wait(state).expect("nobody panics");
                    }
                    written += 1;
                }
                written
            })
        })
        .collect();
    let mut at = 0;
    let (lock, changed) = &*queue;
    while Instant::now() < end || Arc::strong_count(&queue) > 1 {
        let (batch, upto) = {
            let mut state = lock.lock().expect("nobody panics");
            if state.0.is_empty() {
                let waited = changed.wait_timeout(state, Duration::from_millis(10));
                state = waited.expect("nobody panics").0;
            }
            (state.0.drain(..).flatten().collect::<Vec<u8>>(), state.1)
        };
        if batch.is_empty() {
            continue;
        }
        let mut padded = batch;
        padded.resize(padded.len().next_multiple_of(4096), 0);
        file.write_all_at(&padded, at % (60 << 20))?;
        at += padded.len() as u64;
        file.sync_data()?;
        lock.lock().expect("nobody panics").2 = upto;
        changed.notify_all();
    }
    let written: u64 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or(0))
        .sum();
    Ok(written as f64 / SECONDS as f64)
}
