//! The extensions as a client meets them: stanzas in, stanzas out, no socket.

mod account;
mod clock;
mod disco;
mod greeting;
mod last;
mod presence;
mod private;
mod probe;
mod register;
mod resumption;
mod roster;
mod server;
mod subscription;
mod vcard;

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use crate::addr::Jid;
use crate::config::{Config, Machine};
use crate::crypto::{Credentials, CredentialsId};
use crate::router::{self, Core, Module, OutboxLimits, Parts, Registry, Session, Wire};
use crate::stanza::Stanza;
use crate::store::sim::SimDevice;
use crate::store::state::{RosterEntry, Subscription};
use crate::store::{Options, Step, Store, StoreLimits};

const DOMAIN: &str = "verona.example";

/// 2026-01-02T03:04:05Z.
const START_MS: u64 = 1_767_323_045_000;

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(START_MS) };
    static TICKS_MS: Cell<u64> = const { Cell::new(0) };
}

fn now_ms() -> u64 {
    NOW_MS.get()
}

fn ticks_ms() -> u64 {
    TICKS_MS.get()
}

/// Time passes.
fn wait_s(seconds: u64) {
    set_clock_s(i64::try_from(seconds).expect("a short time"));
    TICKS_MS.set(ticks_ms() + seconds * 1_000);
}

/// The operator, or NTP, sets the wall clock forward or back.
fn set_clock_s(by: i64) {
    NOW_MS.set(now_ms().saturating_add_signed(by * 1_000));
}

type Job = Box<dyn FnOnce() + Send>;

/// A server without sockets, on a store in memory.
struct Server {
    core: Arc<Core>,
    jobs: Arc<Mutex<Vec<Job>>>,
}

/// One session of it.
struct Client<'a> {
    server: &'a Server,
    session: Arc<Session>,
}

impl Server {
    fn new() -> Server {
        Server::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Server {
        Server::made_of(Arc::new(store()), super::ALL, change)
    }

    fn on(store: Arc<Store>, change: impl FnOnce(&mut Config)) -> Server {
        Server::made_of(store, super::ALL, change)
    }

    fn of(modules: &'static [&'static Module], change: impl FnOnce(&mut Config)) -> Server {
        Server::made_of(Arc::new(store()), modules, change)
    }

    fn made_of(
        store: Arc<Store>,
        modules: &'static [&'static Module],
        change: impl FnOnce(&mut Config),
    ) -> Server {
        let mut config = Config::of_domain(DOMAIN, &Machine::of_memory(1 << 30));
        change(&mut config);
        let jobs: Arc<Mutex<Vec<Job>>> = Arc::default();
        let queue = jobs.clone();
        let core = Core::new(Parts {
            config,
            domain: jid(DOMAIN),
            store,
            registry: Registry::new(modules),
            outbox_limits: OutboxLimits {
                bytes_max: 1 << 20,
                entries_max: 1_000,
                pool_bytes_max: 1 << 24,
            },
            spawn: Box::new(move |job| queue.lock().expect("no job panics").push(job)),
            clock: now_ms,
            ticks: ticks_ms,
        });
        Server {
            core: Arc::new(core),
            jobs,
        }
    }

    /// Accounts without a password that anybody knows.
    fn accounts(&self, locals: &[&str]) -> &Server {
        self.accounts_at(locals, START_MS)
    }

    fn accounts_at(&self, locals: &[&str], created_at_ms: u64) -> &Server {
        for local in locals {
            let credentials = Credentials::Argon2id {
                phc: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
            };
            let owner = format!("{local}@{DOMAIN}");
            self.core
                .store
                .update(|tx| tx.put_account(&owner, &credentials, created_at_ms))
                .expect("a new account");
        }
        self
    }

    /// What a client that logs in to the account has proved.
    fn proved(&self, local: &str) -> CredentialsId {
        let owner = format!("{local}@{DOMAIN}");
        let credentials = self.core.store.read(|state| {
            let account = state.account(&owner).expect("the account exists");
            account.credentials()
        });
        credentials.expect("it has some").id()
    }

    /// A session that has not sent presence.
    fn connect(&self, local_and_resource: &str) -> Client<'_> {
        let (local, resource) = local_and_resource.split_once('/').expect("local/resource");
        let full = jid(&format!("{local}@{DOMAIN}/{resource}"));
        let number = self.core.next_number();
        let session = router::bind(&self.core, full, &self.proved(local), None, number);
        Client {
            server: self,
            session: session.expect("the account exists"),
        }
    }

    /// A session that has asked for its roster and is available, with nothing left to hear.
    fn log_in(&self, local_and_resource: &str) -> Client<'_> {
        let client = self.connect(local_and_resource);
        client.get("<query xmlns='jabber:iq:roster'/>");
        client.send("<presence/>");
        client
    }

    /// What a roster shows of a contact: `subscription`, with `+ask` and `+approved`; `-` when it
    /// is not there.
    fn item(&self, local: &str, contact: &str) -> String {
        let (owner, contact) = (format!("{local}@{DOMAIN}"), format!("{contact}@{DOMAIN}"));
        self.core.store.read(|state| {
            let roster = state.account(&owner).expect("the account exists").roster();
            roster.item_of(&contact).map_or("-".to_owned(), |item| {
                let ask = if item.ask() { "+ask" } else { "" };
                let approved = if item.approved() { "+approved" } else { "" };
                format!("{}{ask}{approved}", item.subscription().as_str())
            })
        })
    }

    /// Makes the two see each other.
    fn befriend(&self, one: &str, other: &str) {
        for (local, contact) in [(one, other), (other, one)] {
            let mut item = RosterEntry::new(&format!("{contact}@{DOMAIN}"));
            item.subscription = Subscription::Both;
            let owner = format!("{local}@{DOMAIN}");
            let put = self
                .core
                .store
                .update(|tx| tx.put_roster_item(&owner, &item));
            put.expect("the account exists");
        }
    }

    /// `local` lets `contact` see its presence.
    fn share_presence(&self, local: &str, contact: &str) {
        self.put_item(local, contact, Subscription::From);
        self.put_item(contact, local, Subscription::To);
    }

    /// What the roster of `local` says of `contact` from now on, whatever the other one says.
    fn put_item(&self, local: &str, contact: &str, subscription: Subscription) {
        let mut item = RosterEntry::new(&format!("{contact}@{DOMAIN}"));
        item.subscription = subscription;
        let owner = format!("{local}@{DOMAIN}");
        self.core
            .store
            .update(|tx| tx.put_roster_item(&owner, &item))
            .expect("the account exists");
    }

    fn run_jobs(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().expect("no job panics"));
        jobs.into_iter().for_each(|job| job());
    }

    fn exists(&self, local: &str) -> bool {
        let owner = format!("{local}@{DOMAIN}");
        self.core
            .store
            .read(|state| state.account(&owner).is_some())
    }
}

impl Client<'_> {
    /// Sends a stanza; gives back all that this client is sent for it.
    fn send(&self, xml: &str) -> Vec<String> {
        let stanza = stanza(xml);
        router::receive(&self.server.core, &self.session, &stanza);
        self.server.run_jobs();
        self.hear()
    }

    /// Sends a stanza that is answered with one other.
    fn ask(&self, xml: &str) -> String {
        let mut heard = self.send(xml);
        assert_eq!(heard.len(), 1, "{xml} is answered once: {heard:?}");
        heard.remove(0)
    }

    /// Asks without `to`, as a `get`.
    fn get(&self, payload: &str) -> String {
        self.ask(&format!("<iq type='get' id='1'>{payload}</iq>"))
    }

    fn get_of(&self, to: &str, payload: &str) -> String {
        self.ask(&format!("<iq type='get' id='1' to='{to}'>{payload}</iq>"))
    }

    fn set(&self, payload: &str) -> String {
        self.ask(&format!("<iq type='set' id='1'>{payload}</iq>"))
    }

    fn set_of(&self, to: &str, payload: &str) -> String {
        self.ask(&format!("<iq type='set' id='1' to='{to}'>{payload}</iq>"))
    }

    /// Sends a stanza and does not listen.
    fn post(&self, xml: &str) {
        router::receive(&self.server.core, &self.session, &stanza(xml));
    }

    /// Sets something that is pushed as well.
    fn set_all(&self, payload: &str) -> Vec<String> {
        self.send(&format!("<iq type='set' id='1'>{payload}</iq>"))
    }

    /// What waits to be written to it, and what waits for that.
    fn hear(&self) -> Vec<String> {
        let mut heard = self.hear_some();
        while self.session.waits_for_room() && self.session.outbox.waiting() == 0 {
            router::refill(&self.server.core, &self.session);
            heard.extend(self.hear_some());
        }
        heard
    }

    /// What stands in its outbox.
    fn hear_some(&self) -> Vec<String> {
        let store = &self.server.core.store;
        while store.commit_step(now_ms()).expect("the device works") {}
        while let Ok(Step::Took) = store.background_step(now_ms()) {}
        let batch = self.session.outbox.take_all();
        let text = |wire: &Wire| {
            let bytes = match wire {
                Wire::Ready(outgoing) => outgoing.to_bytes(),
                Wire::Wrapped(wrapped) => {
                    router::wrapped_value(&self.server.core, &self.session.jid, wrapped).to_bytes()
                }
                Wire::Stored { .. } => panic!("no messages here"),
            };
            String::from_utf8(bytes.to_vec()).expect("stanzas are text")
        };
        batch
            .entries
            .iter()
            .map(|entry| text(&entry.wire))
            .collect()
    }

    /// Sends initial presence; there is no module here that answers it.
    fn become_available(&self) {
        router::set_available(&mut self.server.core.cx(), &self.session, 0);
    }

    fn leave(&self) {
        router::end(&mut self.server.core.cx(), &self.session, None);
    }
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("a valid address")
}

fn stanza(xml: &str) -> Stanza {
    Stanza::from_canonical(xml.to_owned().into()).expect("a canonical stanza")
}

/// A real store, its log on a device in memory.
fn store() -> Store {
    let device = Arc::new(SimDevice::new(0, 1 << 30));
    let opened = Store::open(device, Options::default(), StoreLimits::default(), START_MS);
    opened.expect("an empty device becomes a store").0
}

/// An error's type and condition, for where the words do not matter.
fn refusal(reply: &str) -> (String, String) {
    let stanza = stanza(reply);
    assert!(stanza.is_error(), "{reply}");
    let error = stanza.children().next().expect("an error has an error");
    let condition = error.children().next().expect("an error has a condition");
    let type_ = error.attr("type").expect("an error has a type");
    (type_.into_owned(), condition.name().to_owned())
}

#[track_caller]
fn assert_refused(reply: &str, type_: &str, condition: &str) {
    assert_eq!(
        refusal(reply),
        (type_.to_owned(), condition.to_owned()),
        "{reply}"
    );
}
