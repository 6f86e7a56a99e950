//! Memory by contract: what the limits add up to, against what there is.
//!
//! The worst case of each session on its own (a stanza half sent, a full queue)
//! times all of them would fit no machine, so those two come out of pools that
//! all sessions share. What is left is a sum that can be checked before the
//! server starts.

use std::fmt;

use super::{Config, FederationMode, Limits, Machine};
use crate::crypto::argon2id::Argon2Memory;
use crate::xml;

/// Of the memory, this part is never planned for: the kernel, fragmentation of
/// the heap, and what a figure below got wrong (DESIGN §8).
const RESERVE_PERCENT: u64 = 15;

/// The program itself, its threads and the log's buffers.
const PROGRAM_BYTES: u64 = 32 << 20;

/// One connection with its session: TLS, stream, presence and outbox here, what it may have sent of
/// a stanza and what may wait for it whatever the others do, and the kernel's socket.
const SESSION_BYTES: u64 = (8 + 4 + 2 + 4) << 10;

/// A connection with another server: TLS with its own buffers, the stream, the certificates that
/// were shown, and the kernel's socket.
const SERVER_BYTES: u64 = 48 << 10;

/// Connections of other servers that the defaults make room for.
const SERVERS_MAX: u64 = 4_096;

/// One session that waits to be resumed: its names, its presence, and its places in the tables.
/// What is queued for it comes out of the pool.
const DETACHED_BYTES: u64 = 3 << 10;

/// An address that is remembered, in each of the tables that limit by address, and an account in
/// each of those that limit by account, whose name may have a kilobyte.
const REMEMBERED_BYTES: u64 = 2 << 10;

/// A TLS record that has not arrived whole, which a stranger can leave lying
/// beside the bytes of his stream.
const RECORD_BYTES: u64 = 18_437;

/// One account with ten contacts.
const ACCOUNT_BYTES: u64 = 2 << 10;

/// One Argon2id computation (RFC 9106 §4 as OWASP trims it: 19 MiB).
const ARGON2_BYTES: u64 = Argon2Memory::BYTES as u64;

/// The connections of the admin interface: as many as `http::CONNECTIONS_MAX`, each with a head, and
/// the bodies of the commands that run at once.
const ADMIN_BYTES: u64 = 6 << 20;

/// More people than this are for several servers (DESIGN §9).
const CONNECTIONS_MAX: u64 = 100_000;

/// Files that are open besides connections.
const FILES_BESIDES: u64 = 64;

/// What a configuration can come to need, item by item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// What for, and bytes.
    pub items: Vec<(&'static str, u64)>,
    /// What may be planned for on this machine.
    pub allowed_bytes: u64,
    /// The machine's memory.
    pub memory_bytes: u64,
    /// "the machine" or "its cgroup".
    pub memory_of: &'static str,
    connections: usize,
    files_max: u64,
}

impl Admission {
    pub(super) fn of(config: &Config, machine: &Machine) -> Self {
        let limits = &config.limits;
        let items = vec![
            ("the program and the log's buffers", PROGRAM_BYTES),
            ("connections", times(limits.connections, SESSION_BYTES)),
            (
                "connections of other servers",
                match config.federation.mode {
                    FederationMode::Off => 0,
                    _ => times(limits.server_connections, SERVER_BYTES),
                },
            ),
            (
                "streams before their log-in",
                times(
                    limits.unauthenticated_connections,
                    stranger(limits.unauthenticated_bytes),
                ),
            ),
            (
                "sessions that wait to be resumed",
                times(limits.detached_sessions, DETACHED_BYTES),
            ),
            (
                "addresses that are remembered",
                times(limits.addresses_remembered, REMEMBERED_BYTES),
            ),
            (
                "the admin interface",
                match config.listen.https.is_empty() {
                    true => 0,
                    false => ADMIN_BYTES,
                },
            ),
            ("long presences", limits.presence_bytes as u64),
            // A buffer that grows by doubling may be twice as big as what is in it.
            ("incomplete stanzas", times(limits.inbound_bytes, 2)),
            ("stanzas on their way", limits.outbound_bytes as u64),
            ("accounts", times(limits.accounts, ACCOUNT_BYTES)),
            ("big rosters", with_slack(limits.roster_bytes)),
            // Whatever `[auth] store` says now: accounts may have a hash from before.
            (
                "checking passwords",
                times(limits.argon2_concurrent, ARGON2_BYTES),
            ),
        ];
        Self {
            items,
            allowed_bytes: allowed(machine),
            memory_bytes: machine.memory_bytes,
            memory_of: machine.memory_of,
            connections: limits.connections,
            files_max: machine.files_max,
        }
    }

    /// The sum of all items.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.items
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The error is a sentence for the operator.
    pub fn check(&self) -> Result<(), String> {
        let (total, allowed) = (self.total_bytes(), self.allowed_bytes);
        if total > allowed {
            let (what, bytes) = self
                .items
                .iter()
                .max_by_key(|(_, bytes)| *bytes)
                .expect("the list is not empty");
            return Err(format!(
                "the limits can add up to {} of memory, {} has {} to give: lower the keys of \
                 [limits], most of it is for {what} ({})",
                mib(total),
                self.memory_of,
                mib(allowed),
                mib(*bytes),
            ));
        }
        if (self.connections as u64).saturating_add(FILES_BESIDES) > self.files_max {
            return Err(format!(
                "limits.connections = {} needs that many open files, the system allows {}: raise \
                 the limit (ulimit -n, LimitNOFILE=) or lower the key",
                self.connections, self.files_max
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Admission {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, bytes) in &self.items {
            writeln!(f, "  {:<36}{:>10}", what, mib(*bytes))?;
        }
        writeln!(f, "  {:<36}{:>10}", "together", mib(self.total_bytes()))?;
        write!(
            f,
            "  {:<36}{:>10} (85 % of the {} of {})",
            "may be planned for",
            mib(self.allowed_bytes),
            mib(self.memory_bytes),
            self.memory_of
        )
    }
}

/// The defaults that are derived from a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) connections: usize,
    pub(super) unauthenticated_connections: usize,
    pub(super) server_connections: usize,
    pub(super) inbound_bytes: usize,
    pub(super) outbound_bytes: usize,
    pub(super) accounts: usize,
    pub(super) roster_bytes: usize,
    pub(super) presence_bytes: usize,
    pub(super) addresses_remembered: usize,
    pub(super) argon2_concurrent: usize,
}

impl Shares {
    pub(super) fn of(machine: &Machine) -> Self {
        let argon2_concurrent = (machine.memory_bytes >> 31).clamp(1, 4);
        let rest = allowed(machine)
            .saturating_sub(PROGRAM_BYTES)
            // Whether it is on or not: it can be switched on without lowering anything.
            .saturating_sub(ADMIN_BYTES)
            .saturating_sub(argon2_concurrent * ARGON2_BYTES);
        let share = |percent: u64| rest / 100 * percent;
        let files = machine.files_max.saturating_sub(FILES_BESIDES);
        let bounded = |value: u64, from: u64, to: u64| {
            usize::try_from(value.clamp(from, to)).unwrap_or(usize::MAX)
        };
        let connections = bounded(
            share(58) / (SESSION_BYTES + DETACHED_BYTES),
            16,
            files.clamp(16, CONNECTIONS_MAX),
        );
        let strangers = share(4) / stranger(10_000);
        Self {
            connections,
            unauthenticated_connections: bounded(strangers, 16, 10_000).min(connections),
            server_connections: bounded(share(2) / SERVER_BYTES, 16, SERVERS_MAX),
            inbound_bytes: bounded(share(3), 1 << 20, 1 << 30),
            outbound_bytes: bounded(share(9), 2 << 20, 4 << 30),
            accounts: bounded(share(8) / ACCOUNT_BYTES, 100, 1_000_000),
            presence_bytes: bounded(share(1), 64 << 10, 1 << 30),
            addresses_remembered: bounded(share(3) / REMEMBERED_BYTES, 1_024, 65_536),
            roster_bytes: bounded(share(5) / 5 * 4, 64 << 10, 1 << 30),
            argon2_concurrent: bounded(argon2_concurrent, 1, 4),
        }
    }
}

impl Limits {
    /// Values that contradict a specification or each other: the key, and what
    /// it must be.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let two_stanzas = self.stanza_bytes.saturating_mul(2);
        let two = " (twice stanza_bytes)";
        let two_queues = self.session_queue_bytes.saturating_mul(2);
        let queues = " (twice session_queue_bytes)";
        // The key, its value, the least it may be, and why where that is not plain.
        #[rustfmt::skip]
        let least = [
            ("connections", self.connections, 1, ""),
            ("unauthenticated_connections", self.unauthenticated_connections, 1, ""),
            ("connections_per_address", self.connections_per_address, 1, ""),
            ("server_connections", self.server_connections, 2, ""),
            ("addresses_remembered", self.addresses_remembered, 1_024, ""),
            ("unauthenticated_bytes", self.unauthenticated_bytes, 4_096, " (a log-in needs that)"),
            ("unauthenticated_elements", self.unauthenticated_elements, 16, " (a log-in needs that)"),
            ("authentication_s", self.authentication_s as usize, 1, ""),
            ("authentication_attempts", self.authentication_attempts as usize, 2, " (RFC 6120 §6.4.5)"),
            ("failed_login_forgiven_s", self.failed_login_forgiven_s as usize, 1, ""),
            ("argon2_concurrent", self.argon2_concurrent, 1, ""),
            ("stanza_bytes", self.stanza_bytes, 10_000, " (RFC 6120 §13.12)"),
            ("stanza_depth", self.stanza_depth, 8, ""),
            ("stanza_elements", self.stanza_elements, 100, ""),
            ("element_attributes", self.element_attributes, 16, ""),
            ("name_bytes", self.name_bytes, 64, ""),
            ("attribute_bytes", self.attribute_bytes, 3_071, " (the length of an address)"),
            ("sessions_per_account", self.sessions_per_account, 1, ""),
            ("ping_answer_s", self.ping_answer_s as usize, 1, ""),
            ("presence_bytes", self.presence_bytes, 65_536, ""),
            ("session_queue_bytes", self.session_queue_bytes, two_stanzas, two),
            ("session_queue_stanzas", self.session_queue_stanzas, 16, ""),
            ("inbound_bytes", self.inbound_bytes, two_stanzas, two),
            ("outbound_bytes", self.outbound_bytes, two_queues, queues),
            ("accounts", self.accounts, 1, ""),
            ("roster_bytes", self.roster_bytes, 65_536, ""),
        ];
        for (key, value, least, why) in least {
            if value < least {
                return Err((key, format!("must be {least} or more{why}")));
            }
        }
        let widest = xml::Limits::after_authentication_max();
        let most = [
            ("stanza_bytes", self.stanza_bytes, widest.stanza_bytes_max),
            ("stanza_depth", self.stanza_depth, widest.depth_max),
            ("stanza_elements", self.stanza_elements, widest.elements_max),
            (
                "element_attributes",
                self.element_attributes,
                widest.attributes_max,
            ),
            ("name_bytes", self.name_bytes, widest.name_bytes_max),
            (
                "attribute_bytes",
                self.attribute_bytes,
                widest.attribute_bytes_max,
            ),
        ];
        for (key, value, most) in most {
            if value > most {
                let why = "what is let in has to be read again from the store";
                return Err((key, format!("must be {most} or less: {why}")));
            }
        }
        if self.unauthenticated_bytes > self.stanza_bytes {
            let message = format!("must be stanza_bytes ({}) or less", self.stanza_bytes);
            return Err(("unauthenticated_bytes", message));
        }
        Ok(())
    }
}

/// What a connection can hold before its log-in, beside its price.
fn stranger(unauthenticated_bytes: usize) -> u64 {
    RECORD_BYTES.saturating_add(unauthenticated_bytes as u64)
}

/// Room that grows in steps may be a quarter bigger than what it holds.
fn with_slack(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    bytes.saturating_add(bytes / 4)
}

/// So many of that size. What is beyond all numbers is beyond every machine too.
fn times(count: usize, bytes: u64) -> u64 {
    (count as u64).saturating_mul(bytes)
}

/// What may be planned for.
fn allowed(machine: &Machine) -> u64 {
    machine.memory_bytes / 100 * (100 - RESERVE_PERCENT)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
