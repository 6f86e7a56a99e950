//! Sessions, their connections and the store together, without sockets: what a connection has
//! taken is written entry by entry, when the test says so.

mod model;
mod others;
mod rules;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::config::{Config, Machine};
use crate::crypto::{Credentials, CredentialsId};
use crate::stanza::{Stanza, StanzaError};
use crate::store::sim::SimDevice;
use crate::store::{Options, Position, Store, StoreLimits};

use super::*;

const DOMAIN: &str = "verona.example";
const BOB: &str = "bob@verona.example";
const START_MS: u64 = 1_767_323_045_000;
const RESUME_S: u32 = 100;

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(START_MS) };
    /// Numbers that were given out before the last start.
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
}

fn now_ms() -> u64 {
    NOW_MS.get()
}

fn wait_s(seconds: u32) {
    NOW_MS.set(NOW_MS.get() + u64::from(seconds) * 1_000);
}

/// A server with the accounts of Alice and Bob.
pub(super) struct Server {
    device: SimDevice,
    pub(super) core: Core,
}

/// A connection of Bob's, and what its client has seen.
struct Conn {
    number: u64,
    session: Arc<Session>,
    /// What was taken from the outbox and not written.
    out: VecDeque<Out>,
    ending: bool,
}

struct Out {
    seen: Seen,
    matters: bool,
}

impl Server {
    pub(super) fn new() -> Server {
        NOW_MS.set(START_MS);
        NUMBERS.set(0);
        let server = Server::open(SimDevice::new(0, 1 << 30));
        for local in ["alice", "bob"] {
            let credentials = Credentials::Argon2id {
                phc: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
            };
            let owner = format!("{local}@{DOMAIN}");
            let put = server
                .core
                .store
                .update(|tx| tx.put_account(&owner, &credentials, START_MS));
            put.expect("a new account");
        }
        server.commit();
        server
    }

    fn open(device: SimDevice) -> Server {
        Server::open_with(device, 32 << 20)
    }

    /// A server whose store takes no more while so many bytes wait to be written.
    fn open_with(device: SimDevice, backlog_bytes_max: usize) -> Server {
        let mut config = Config::of_domain(DOMAIN, &Machine::of_memory(1 << 30));
        config.limits.resume_s = RESUME_S;
        let options = Options {
            segment_bytes: Some(1 << 16),
            backlog_bytes_max,
            ..Options::default()
        };
        let limits = StoreLimits::default();
        let opened = Store::open(Arc::new(device.clone()), options, limits, now_ms());
        let core = Core::new(Parts {
            config,
            domain: jid(DOMAIN),
            store: Arc::new(opened.expect("the store opens").0),
            registry: Registry::new(&[]),
            outbox_limits: OutboxLimits {
                bytes_max: 1 << 20,
                entries_max: 4_000,
                pool_bytes_max: 1 << 24,
            },
            spawn: Box::new(|job| job()),
            clock: now_ms,
            ticks: now_ms,
        });
        // So that no two sessions of a test have the same.
        while core.next_number() < NUMBERS.get() {}
        Server { device, core }
    }

    /// Everything that was appended is durable.
    fn commit(&self) {
        while self
            .core
            .store
            .commit_step(now_ms())
            .expect("the device works")
        {}
    }

    /// What comes back after the process was killed.
    fn kill(self) -> Server {
        NUMBERS.set(self.core.next_number());
        Server::open(self.device.kill())
    }

    /// What comes back after an orderly stop.
    fn restart(self) -> Server {
        self.restart_after(0)
    }

    /// Likewise, after a while.
    fn restart_after(self, stopped_s: u32) -> Server {
        hibernate(&self.core, &|_| self.commit());
        self.core.store.stop();
        self.commit();
        NUMBERS.set(self.core.next_number());
        wait_s(stopped_s);
        let server = Server::open(self.device.kill());
        wake(&server.core);
        // The start waits for it, too.
        server.commit();
        server
    }

    /// What Bob's client has proved.
    fn proved(&self) -> CredentialsId {
        let credentials = self.core.store.read(|state| {
            let account = state.account(BOB).expect("the account exists");
            account.credentials()
        });
        credentials.expect("it has some").id()
    }

    fn bind(&self, resource: &str) -> Conn {
        let number = self.core.next_number();
        let full = jid(&format!("{BOB}/{resource}"));
        let session = bind(&self.core, full, &self.proved(), None, number);
        let session = session.expect("the account exists");
        Conn::new(number, session)
    }

    /// Likewise, and the next thing written is `<enabled/>`.
    fn bind_managed(&self, resource: &str) -> Conn {
        let conn = self.bind(resource);
        enable_management(&self.core, &conn.session, true, None);
        let mut enabled = Entry::nonza(Bytes::from_static(b"<enabled/>"), Position(0));
        enabled.cargo = Cargo::ManagementEnabled;
        self.core.push(&conn.session, enabled);
        conn
    }

    fn present(&self, conn: &Conn, priority: i8) {
        set_available(&mut self.core.cx(), &conn.session, priority);
    }

    fn leave(&self, conn: &Conn) {
        set_unavailable(&mut self.core.cx(), &conn.session);
    }

    /// Alice says something; from a client with stream management it has to be durable before it
    /// counts as handled, which it does at the position given back.
    fn say(&self, is_managed: bool, to: &str, body: &str) -> Result<Position, StanzaError> {
        let xml = format!("<message type='chat'><body>{body}</body></message>");
        let stanza = Stanza::from_canonical(xml.into()).expect("a canonical stanza");
        let mut cx = self.core.cx();
        cx.must_be_durable = is_managed;
        let from = jid("alice@verona.example/a");
        deliver::message(&mut cx, &from, &jid(to), &stanza)?;
        Ok(cx.after())
    }

    /// The connection takes what its turn gives it, if all it had is written.
    fn take(&self, conn: &mut Conn) {
        if !conn.out.is_empty() || conn.ending {
            return;
        }
        let durable = self.core.store.durable();
        let batch = conn.session.outbox.take(conn.number, durable, 1_000);
        conn.ending = batch.ending.is_some() || batch.gone.is_some();
        let kept_from = batch.kept_from;
        let out = batch.entries.into_iter().enumerate();
        conn.out.extend(out.map(|(index, entry)| Out {
            matters: entry.matters(),
            seen: self.seen(&entry, index >= kept_from),
        }));
        if conn.session.has_backlog() && conn.session.outbox.waiting() == 0 {
            backlog::continue_backlog(&self.core, &conn.session);
        }
    }

    /// The kernel takes so many entries; they are what the client sees.
    fn write(&self, conn: &mut Conn, count: usize) -> Vec<Seen> {
        let count = count.min(conn.out.len());
        let written: Vec<Out> = conn.out.drain(..count).collect();
        let matters = |out: &&Out| out.matters && !out.seen.is_kept;
        let counted = written.iter().filter(matters).count();
        if counted > 0 {
            let done = conn.session.outbox.written(counted);
            landed(&self.core, &conn.session, &done);
        }
        written.into_iter().map(|out| out.seen).collect()
    }

    fn seen(&self, entry: &Entry, is_kept: bool) -> Seen {
        let text = match &entry.wire {
            Wire::Ready(outgoing) => Some(outgoing.to_bytes()),
            Wire::Stored { id, .. } => self.core.store.message(BOB, *id).expect("it can be read"),
            Wire::Wrapped(_) => None,
        };
        let text = text.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"));
        let body = text.as_deref().and_then(|text| {
            let (_, rest) = text.split_once("<body>")?;
            Some(rest.split_once("</body>")?.0.to_owned())
        });
        Seen {
            body,
            is_stanza: entry.is_stanza(),
            is_enabled: entry.cargo == Cargo::ManagementEnabled,
            is_kept,
        }
    }

    /// All that can be had now, one after the other.
    fn hear(&self, conn: &mut Conn) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            self.commit();
            self.take(conn);
            if conn.out.is_empty() {
                return heard;
            }
            let seen = self.write(conn, usize::MAX);
            heard.extend(seen.into_iter().filter_map(|seen| seen.body));
        }
    }

    /// The client has handled everything up to `h`.
    fn acknowledge(&self, session: &Session, h: u32) {
        let reader = session.link().connection;
        let done = session.outbox.acknowledge(reader, h);
        let done = done.expect("it was sent so many");
        landed(&self.core, session, &done);
    }

    /// The transport is gone.
    fn cut(&self, conn: &Conn) {
        conn.session.outbox.let_go();
        connection_lost(&self.core, &conn.session, conn.number);
        give_up(&self.core, &conn.session);
    }

    /// The stream was ended.
    fn log_out(&self, conn: &Conn) {
        conn.session.outbox.let_go();
        if conn.session.link().connection == conn.number {
            end(&mut self.core.cx(), &conn.session, None);
        }
        give_up(&self.core, &conn.session);
    }

    fn resume(&self, session: &Session, h: u32) -> Option<Conn> {
        let id = session.link().management?.resumption_id?;
        let number = self.core.next_number();
        match resume(&self.core, &jid(BOB), &self.proved(), &id, h, number) {
            Resumption::Resumed { session, .. } => {
                session.outbox.rewind(number);
                Some(Conn::new(number, session))
            }
            _ => None,
        }
    }
}

/// What a client sees of one entry.
#[derive(Debug, Clone)]
struct Seen {
    body: Option<String>,
    is_stanza: bool,
    is_enabled: bool,
    /// It is written again if the client does not acknowledge it.
    is_kept: bool,
}

impl Conn {
    fn new(number: u64, session: Arc<Session>) -> Conn {
        Conn {
            number,
            session,
            out: VecDeque::new(),
            ending: false,
        }
    }
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("a valid address")
}
