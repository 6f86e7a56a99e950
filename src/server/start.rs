//! How a server is started: as a process, or by the machine, which hands over what only it has.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::settings;
use crate::config::{Config, FederationMode};
use crate::net::listen::{self, Listener, Own, Sockets};
use crate::net::tls::{Entry, Pin, TlsAcceptor};
use crate::router::Core;
use crate::service::configuration::Source;
use crate::service::log_ring::LogRing;
use crate::service::machine::Machine;
use crate::service::open::Opened;
use crate::service::operator::{claim_code, claim_digest};

/// What a server is started with.
pub struct Start {
    /// The configuration, from a file or from the machine's source.
    pub config: Config,
    /// Where the store keeps the configuration.
    pub kept: Kept,
    /// The store, where it is open already.
    pub store: Option<Opened>,
    /// Another way than a signal to tell it to stop.
    pub stop: CancellationToken,
    /// Where listening sockets come from.
    pub sockets: Box<dyn Sockets>,
    /// Hears the addresses once clients are accepted there.
    pub listening: Listening,
    /// The machine around it, if it has one of its own.
    pub machine: Option<Arc<dyn Machine>>,
    /// Where the process keeps the last lines of its log.
    pub log: Option<Arc<LogRing>>,
}

/// Hears where clients are accepted, and how.
pub type Listening = Box<dyn FnOnce(&Arc<Core>, &[(SocketAddr, Entry)]) + Send>;

/// What the store has to do with the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    #[default]
    Not,
    /// It keeps one, which may count instead of this, but for `[store]`. The text of `config`, and
    /// where it is from.
    Beside(Source),
    /// It keeps the one that is given, which has been chosen already.
    Chosen,
    /// There is none anywhere: `config` serves only to claim the machine with.
    Nowhere,
}

impl Start {
    /// As a process that opens its own store.
    #[must_use]
    pub fn as_process(config: Config) -> Start {
        Start {
            config,
            kept: Kept::Not,
            store: None,
            stop: CancellationToken::new(),
            sockets: Box::new(Own),
            listening: Box::new(|_, _| {}),
            machine: None,
            log: None,
        }
    }
}

/// All listeners.
pub(super) struct AllListeners {
    /// For TLS, in one way or another.
    pub(super) for_tls: Vec<(Arc<Listener>, Entry)>,
    /// Of plain HTTP.
    pub(super) http: Vec<Listener>,
    /// Of components, which have no TLS.
    pub(super) component: Vec<Listener>,
}

/// Opens all listeners at once: whoever opens them for us closes what is not named. Called within
/// the runtime.
pub(super) fn listeners(config: &Config, sockets: &dyn Sockets) -> Result<AllListeners, String> {
    let listen = &config.listen;
    if listen.c2s.is_empty() && listen.c2s_tls.is_empty() && listen.https.is_empty() {
        tracing::warn!("no client can connect: [listen] c2s, c2s_tls and https are empty");
    }
    // A server among itself has no door for others.
    let none = Vec::new();
    let servers = |addresses| match config.federation.mode {
        FederationMode::Off => &none,
        _ => addresses,
    };
    let lists = [
        (&listen.c2s, Entry::StartTls),
        (&listen.c2s_tls, Entry::Direct),
        (&listen.https, Entry::Https),
        (servers(&listen.s2s), Entry::ServerStartTls),
        (servers(&listen.s2s_tls), Entry::ServerDirect),
    ];
    let each = lists.iter().flat_map(|(list, entry)| {
        let each = list.iter();
        each.map(move |address| (*address, *entry))
    });
    let (mut addresses, entries): (Vec<SocketAddr>, Vec<Entry>) = each.unzip();
    addresses.extend(&listen.http);
    addresses.extend(&listen.component);
    let mut opened = listen::bind(&addresses, sockets)?;
    let component = opened.split_off(entries.len() + listen.http.len());
    let http = opened.split_off(entries.len());
    let for_tls = opened.into_iter().map(Arc::new).zip(entries);
    Ok(AllListeners {
        for_tls: for_tls.collect(),
        http,
        component,
    })
}

/// The digest of the code that makes the first administrator: the configured one. A machine that
/// has none, and no administrator, draws a code and shows it.
pub(super) fn claim(core: &Core, machine: Option<&dyn Machine>) -> Option<[u8; 32]> {
    let is_claimed = core
        .store
        .read(|state| state.administrators().next().is_some());
    if let Some(configured) = Pin::parse(&core.config.admin.claim_sha256) {
        return Some(configured.0);
    }
    let machine = machine.filter(|_| !is_claimed)?;
    let code = claim_code(core.random());
    machine.show_claim_code(Some(&code));
    tracing::warn!("nobody administers this machine: `cairn claim` with the code on its console");
    Some(claim_digest(&code))
}

/// Reads the certificate again and uses it.
pub(super) fn reload(
    core: &Arc<Core>,
    tls: &Arc<TlsAcceptor>,
    machine: Option<Arc<dyn Machine>>,
) -> Box<dyn Fn() -> Result<(), String> + Send + Sync> {
    let (core, tls) = (Arc::downgrade(core), Arc::clone(tls));
    Box::new(move || match core.upgrade() {
        Some(core) => {
            let clock = settings::Clock::of(machine.as_deref());
            core.clock_is_wrong
                .send_replace(clock == settings::Clock::Wrong);
            tls.reload_from(|| settings::certificates(&core.config, &core.store, clock))
        }
        None => Err("the server stops".to_owned()),
    })
}
