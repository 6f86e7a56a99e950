//! What every handler reaches the server through: [`Core`], the parts that live as long as the
//! process, and [`Cx`], the one stanza being handled right now.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use crate::addr::Jid;
use crate::config::{Config, FederationMode};
use crate::crypto::Argon2Pool;
use crate::stanza::StanzaError;
use crate::store::{Position, State, Store, StoreError, Tx};

use super::budget::Budget;
use super::component::Components;
use super::gates::Gates;
use super::hosts::Hosts;
use super::module::Registry;
use super::outbox::{Entry, OutboxLimits, OutboxPool, Pushed};
use super::remote::{Remotes, Room};
use super::session::Session;
use super::table::Table;

/// The server's long-lived parts.
pub struct Core {
    /// The configuration the server was started with.
    pub config: Config,
    /// The first domain as an address.
    pub domain: Jid,
    /// All domains that are served.
    pub hosts: Hosts,
    /// Everything that is remembered.
    pub store: Arc<Store>,
    /// Who is here.
    pub table: Table,
    /// Who waits for the log.
    pub gates: Gates,
    /// The extensions.
    pub registry: Registry,
    /// The ways to other servers.
    pub remotes: Remotes,
    /// The ways to external components.
    pub components: Components,
    /// What the outboxes of all sessions share.
    pub outboxes: Arc<OutboxPool>,
    /// The memory that the presences of all sessions share.
    pub presences: Arc<Budget>,
    /// When the process started, in [`Core::ticks`].
    pub started_at_ms: u64,
    /// Runs work that would hold up a session, on another thread.
    pub spawn: Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>,
    /// The wall clock, in milliseconds since 1970: for what is told to others and what is written
    /// to the log. It may be set, forward or back, at any moment.
    pub clock: fn() -> u64,
    /// The wall clock is known to be wrong: what would be decided by it waits, such as whether a
    /// certificate is valid. Only a machine knows; a process believes its system.
    pub clock_is_wrong: watch::Sender<bool>,
    /// Milliseconds since some moment, whatever is done to the wall clock: for everything that
    /// lasts for a time.
    pub ticks: fn() -> u64,
    /// The memory that passwords are hashed in, for whoever hashes one.
    pub argon2: Argon2Pool,
    /// Grows every second while the threads that serve sessions turn.
    pub beat: AtomicU64,
    /// The room for work that was handed to [`Core::spawn`] and is not done yet.
    pub jobs: Arc<Jobs>,
    random: SystemRandom,
    numbers: AtomicU64,
}

/// No more jobs than this wait for a thread: beyond it a client is told to come back later.
const JOBS_MAX: usize = 256;

/// Who has a job that waits or runs: one an account, so that nobody takes everybody's room.
#[derive(Debug, Default)]
pub struct Jobs {
    owners: Mutex<HashSet<Jid>>,
}

/// A job's place; given back when it is dropped.
#[derive(Debug)]
pub struct JobPlace {
    jobs: Arc<Jobs>,
    owner: Jid,
}

impl Jobs {
    /// A place for a job of this account, unless it has one already or there is no room.
    pub fn enter(self: &Arc<Self>, owner: &Jid) -> Option<JobPlace> {
        let owner = owner.bare();
        let mut owners = self.owners();
        if owners.len() >= JOBS_MAX || !owners.insert(owner.clone()) {
            return None;
        }
        Some(JobPlace {
            jobs: self.clone(),
            owner,
        })
    }

    fn owners(&self) -> MutexGuard<'_, HashSet<Jid>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for JobPlace {
    fn drop(&mut self) {
        self.jobs.owners().remove(&self.owner);
    }
}

/// What a [`Core`] is made of.
pub struct Parts {
    /// See [`Core::config`].
    pub config: Config,
    /// See [`Core::domain`].
    pub domain: Jid,
    /// See [`Core::store`].
    pub store: Arc<Store>,
    /// See [`Core::registry`].
    pub registry: Registry,
    /// The bounds of the sessions' outboxes.
    pub outbox_limits: OutboxLimits,
    /// See [`Core::spawn`].
    pub spawn: Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>,
    /// See [`Core::clock`].
    pub clock: fn() -> u64,
    /// See [`Core::ticks`].
    pub ticks: fn() -> u64,
}

/// [`Core::ticks`] of a process that runs.
pub fn ticks_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What of the bytes that are on their way may wait for other servers and components.
fn for_links(config: &Config, limits: &OutboxLimits) -> usize {
    let is_alone = config.federation.mode == FederationMode::Off && config.component.is_empty();
    match is_alone {
        true => 0,
        false => limits.pool_bytes_max / 4,
    }
}

impl Core {
    /// Puts the parts together; nobody is here yet.
    pub fn new(parts: Parts) -> Core {
        let mut limits = parts.outbox_limits;
        let room = Room::new(for_links(&parts.config, &limits));
        limits.pool_bytes_max -= room.bytes_max();
        let outboxes = Arc::new(OutboxPool::new(limits));
        let domains = parts.config.component.iter().map(|c| c.domain.clone());
        Core {
            components: Components::new(&parts.domain, domains, &room),
            started_at_ms: (parts.ticks)(),
            presences: Budget::new(parts.config.limits.presence_bytes),
            argon2: Argon2Pool::new(parts.config.limits.argon2_concurrent),
            hosts: Hosts::new(&parts.domain, &parts.config),
            remotes: Remotes::new(Arc::new(parts.config.federation.policy()), room),
            config: parts.config,
            domain: parts.domain,
            store: parts.store,
            table: Table::new(),
            gates: Gates::default(),
            registry: parts.registry,
            outboxes,
            spawn: parts.spawn,
            clock: parts.clock,
            clock_is_wrong: watch::Sender::new(false),
            ticks: parts.ticks,
            jobs: Arc::default(),
            random: SystemRandom::new(),
            numbers: AtomicU64::new(1),
            beat: AtomicU64::new(0),
        }
    }

    /// A number nobody else gets in the life of this process.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes from the kernel's generator.
    ///
    /// # Panics
    /// When the kernel has no generator, which no supported kernel lacks.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .expect("getrandom(2) answers on every kernel Cairn runs on");
        bytes
    }

    /// Whether the domain is that of this server's accounts.
    pub fn is_local(&self, domain: &str) -> bool {
        self.hosts.find(domain).is_some()
    }

    /// Whether this server speaks for the domain: its accounts' or a component's.
    pub fn is_served(&self, domain: &str) -> bool {
        self.is_local(domain) || self.components.has(domain)
    }

    /// The beginning of work that no client's stanza caused.
    pub fn cx(&self) -> Cx<'_> {
        Cx {
            core: self,
            now_ms: (self.clock)(),
            must_be_durable: false,
            lang: None,
            gathers: false,
            after: Position(0),
        }
    }

    /// Queues an entry for a session and sees to its wake-up. Stanzas are pushed with the shard
    /// of their user locked.
    pub fn push(&self, session: &Arc<Session>, entry: Entry) -> Pushed {
        let durable = self.store.durable();
        let pushed = session.outbox.push(entry, durable);
        match pushed {
            Pushed::Gated(position) => {
                self.gates.wait(position, session, || self.store.durable());
            }
            // A session that waits has no connection that would end it.
            Pushed::Overflowed if session.link().connection == 0 => self.table.hurry(session),
            _ => {}
        }
        pushed
    }
}

/// One stanza, or one other cause, being handled: the time it is handled at, and the position
/// in the log that everything it led to has to wait for.
pub struct Cx<'a> {
    /// The server.
    pub core: &'a Core,
    /// Now, in milliseconds since 1970; the same for everything this cause leads to.
    pub now_ms: u64,
    /// The sender counts our acknowledgements (XEP-0198): its messages are durable before they
    /// count as handled (DESIGN §1).
    pub must_be_durable: bool,
    /// The language of the stream that the cause came in, for stanzas that name none (RFC 6120
    /// §8.1.5).
    pub lang: Option<&'a str>,
    /// Whoever handles this has more to handle and asks for the commit behind all of it.
    pub(super) gathers: bool,
    after: Position,
}

impl<'a> Cx<'a> {
    /// What this has led to may be shown once this position is durable.
    pub fn after(&self) -> Position {
        self.after
    }

    /// Reads the state. What is read may not be durable yet, so whatever is said because of it
    /// waits for the last append.
    pub fn read<R>(&mut self, f: impl FnOnce(&State) -> R) -> R {
        let (result, position) = self.core.store.read_at(f);
        self.after = self.after.max(position);
        result
    }

    /// Reads something that nobody is told of (a decision about routing, say).
    pub fn peek<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        self.core.store.read(f)
    }

    /// Changes the state: one atomic batch. Everything this cause leads to waits for it.
    pub fn update<R>(
        &mut self,
        f: impl FnOnce(&mut Tx<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StanzaError> {
        let store = &self.core.store;
        let updated = match self.gathers {
            true => store.update_gathered(f),
            false => store.update(f),
        };
        let (result, position) = updated.map_err(StanzaError::from)?;
        self.after = self.after.max(position);
        Ok(result)
    }

    /// Queues bytes for one session behind what this cause has appended.
    pub fn push_nonza(&self, session: &Arc<Session>, bytes: Bytes) -> Pushed {
        self.core.push(session, Entry::nonza(bytes, self.after))
    }
}

/// What a store's refusal is to the one whose stanza needed it.
impl From<StoreError> for StanzaError {
    fn from(error: StoreError) -> StanzaError {
        match error {
            StoreError::NoAccount => StanzaError::item_not_found("there is no such account"),
            StoreError::AccountExists => StanzaError::conflict("this account exists already"),
            StoreError::Quota(quota) => {
                StanzaError::resource_constraint(format!("there are too many {}", quota.what()))
            }
            StoreError::TooBig { bytes_max, .. } => {
                StanzaError::policy_violation(format!("more than {bytes_max} bytes are not kept"))
            }
            StoreError::Invalid(what) => StanzaError::not_acceptable(what),
            StoreError::Full => StanzaError::resource_constraint("the server's disk is full"),
            StoreError::Overloaded => StanzaError::resource_constraint(
                "the server's disk is behind: try again in a moment",
            ),
            // Whoever reads a value looks it up again by itself; nobody hears of this.
            StoreError::Moved => StanzaError::internal_server_error("a value was moved"),
            StoreError::Failed(why) | StoreError::Unreadable(why) => {
                tracing::error!(%why, "the store refuses");
                StanzaError::internal_server_error("the server's store has failed")
            }
        }
    }
}
