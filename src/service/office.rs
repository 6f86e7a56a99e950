//! The store in a process of its own, while no server runs: the same rules over
//! the same store, without a socket to the world.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use super::open::{self, OpenFailure, Opened};
use crate::addr::Jid;
use crate::config::Config;
use crate::router::{self, Core, OutboxLimits, Parts, Registry};
use crate::store::disk::Access;
use crate::store::{Recovery, Store, StoreError};
use crate::xep;

/// An open store with the server's rules around it, and nobody connected.
pub struct Office {
    /// What the commands work on.
    pub core: Arc<Core>,
    /// What opening the store found.
    pub recovery: Recovery,
    threads: Vec<JoinHandle<Result<(), StoreError>>>,
}

impl Office {
    /// Opens the store of the configuration and begins to write it, unless it is
    /// only read.
    pub fn open(config: Config, access: Access) -> Result<Self, OpenFailure> {
        let opened = open::open(&config, access, now_ms())?;
        let threads: &[Work] = match access {
            Access::Read => &[],
            Access::Create | Access::Write => WORK,
        };
        Self::over(config, opened, threads)
    }

    /// Opens a store that cannot be opened otherwise, with what is left of it.
    pub fn salvage(config: Config) -> Result<Self, OpenFailure> {
        let opened = open::salvage(&config, now_ms())?;
        Self::over(config, opened, WORK)
    }

    fn over(config: Config, opened: Opened, work: &[Work]) -> Result<Self, OpenFailure> {
        opened.report();
        let Opened {
            store, recovery, ..
        } = opened;
        let store = Arc::new(store);
        let unusable = |sentence: String| OpenFailure::Unusable(sentence);
        let domain = Jid::parse(&config.domain)
            .map_err(|error| unusable(format!("{} is no domain: {error}", config.domain)))?;
        let threads = work
            .iter()
            .map(|&work| start(&store, work))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| unusable(format!("cannot start a thread: {error}")))?;
        let limits = &config.limits;
        let outbox_limits = OutboxLimits {
            bytes_max: limits.session_queue_bytes,
            entries_max: limits.session_queue_stanzas,
            pool_bytes_max: limits.outbound_bytes,
        };
        let core = Core::new(Parts {
            config,
            domain,
            store,
            registry: Registry::new(xep::ALL),
            outbox_limits,
            spawn: Box::new(|job| job()),
            clock: now_ms,
            ticks: router::ticks_ms,
        });
        Ok(Self {
            core: Arc::new(core),
            recovery,
            threads,
        })
    }

    /// Writes what there is, closes the store in order and waits for that.
    pub fn close(self) -> Result<(), StoreError> {
        self.core.store.stop();
        let panicked = |_| Err(StoreError::Failed("its thread has panicked".to_owned()));
        let ends = self.threads.into_iter().map(JoinHandle::join);
        let ends: Vec<_> = ends.map(|end| end.unwrap_or_else(panicked)).collect();
        ends.into_iter().collect()
    }
}

/// What a thread does, and its name.
type Work = (&'static str, fn(&Store) -> Result<(), StoreError>);

/// As in the server. Without the second a file would never grow.
const WORK: &[Work] = &[
    ("commit", |store| store.commit_loop(&now_ms)),
    ("tidy", |store| store.background_loop(&now_ms)),
];

fn start(store: &Arc<Store>, (name, work): Work) -> io::Result<JoinHandle<Result<(), StoreError>>> {
    let store = Arc::clone(store);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(&store))
}

/// The wall clock in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
