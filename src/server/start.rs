//! How a server is started: as a process, or by the machine, which hands over what only it has.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::settings;
use crate::config::{Config, FederationMode};
use crate::net::listen::{self, Listener};
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
            listening: Box::new(|_, _| {}),
            machine: None,
            log: None,
        }
    }
}

/// Opens the listeners. Called within the runtime.
pub(super) fn listeners(config: &Config) -> Result<Vec<(Arc<Listener>, Entry)>, String> {
    let listen = &config.listen;
    // A server among itself has no door for others.
    let is_closed = config.federation.mode == FederationMode::Off;
    let servers = |addresses: &'_ Vec<SocketAddr>| match is_closed {
        true => Vec::new(),
        false => addresses.clone(),
    };
    let opened = [
        (listen::bind(&listen.c2s)?, Entry::StartTls),
        (listen::bind(&listen.c2s_tls)?, Entry::Direct),
        (listen::bind(&listen.https)?, Entry::Https),
        (listen::bind(&servers(&listen.s2s))?, Entry::ServerStartTls),
        (
            listen::bind(&servers(&listen.s2s_tls))?,
            Entry::ServerDirect,
        ),
    ];
    if opened[0].0.is_empty() && opened[1].0.is_empty() {
        tracing::warn!("no client can connect: both lists of [listen] are empty");
    }
    let each = |(listeners, entry): (Vec<Listener>, Entry)| {
        listeners
            .into_iter()
            .map(move |listener| (Arc::new(listener), entry))
    };
    Ok(opened.into_iter().flat_map(each).collect())
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
) -> Box<dyn Fn() -> Result<(), String> + Send + Sync> {
    let (core, tls) = (Arc::downgrade(core), Arc::clone(tls));
    Box::new(move || match core.upgrade() {
        Some(core) => {
            settings::certificates(&core.config, &core.store).and_then(|all| tls.reload(&all))
        }
        None => Err("the server stops".to_owned()),
    })
}
