//! The store in a process of its own, while no server runs: the same rules over
//! the same store, without a socket to the world.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use super::open::{self, OpenFailure, Opened};
use crate::addr::Jid;
use crate::config::Config;
use crate::router::{Core, OutboxLimits, Parts, Registry};
use crate::store::disk::Access;
use crate::store::{Recovery, Store, StoreError};
use crate::xep;

/// An open store with the server's rules around it, and nobody connected.
pub struct Office {
    /// What the commands work on.
    pub core: Arc<Core>,
    /// What opening the store found.
    pub recovery: Recovery,
    commit: JoinHandle<Result<(), StoreError>>,
}

impl Office {
    /// Opens the store of the configuration and begins to write it.
    pub fn open(config: Config, access: Access) -> Result<Self, OpenFailure> {
        let opened = open::open(&config, access, now_ms())?;
        opened.report();
        let Opened {
            store, recovery, ..
        } = opened;
        let store = Arc::new(store);
        let unusable = |sentence: String| OpenFailure::Unusable(sentence);
        let domain = Jid::parse(&config.domain)
            .map_err(|error| unusable(format!("{} is no domain: {error}", config.domain)))?;
        let commit =
            start(&store).map_err(|error| unusable(format!("cannot start a thread: {error}")))?;
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
        });
        Ok(Self {
            core: Arc::new(core),
            recovery,
            commit,
        })
    }

    /// Writes what there is, closes the store in order and waits for that.
    pub fn close(self) -> Result<(), StoreError> {
        self.core.store.stop();
        let panicked = |_| Err(StoreError::Failed("its thread has panicked".to_owned()));
        self.commit.join().unwrap_or_else(panicked)
    }
}

/// Tidying is left to the server.
fn start(store: &Arc<Store>) -> io::Result<JoinHandle<Result<(), StoreError>>> {
    let store = Arc::clone(store);
    thread::Builder::new()
        .name("commit".to_owned())
        .spawn(move || store.commit_loop(&now_ms))
}

/// The wall clock in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
