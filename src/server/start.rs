//! How a server is started: as a process, or by the machine, which hands over what only it has.

use std::net::TcpListener;
use std::sync::Arc;

use super::settings;
use crate::config::Config;
use crate::net::listen::{self, Listener};
use crate::net::tls::{Entry, Pin, TlsAcceptor};
use crate::router::Core;
use crate::service::configuration::Source;
use crate::service::log_ring::LogRing;
use crate::service::machine::Machine;
use crate::service::operator::{claim_code, claim_digest};

/// What a server is started with.
pub struct Start {
    /// The configuration, from a file or from the machine's source.
    pub config: Config,
    /// The text of `config` and where it is from, where the store keeps the configuration: then
    /// the one in the store may count instead, but for `[store]`. That is so on a machine.
    pub source: Option<Source>,
    /// Who opens the sockets, told the configuration that counts; `None`: the server itself.
    pub sockets: Option<HandOver>,
    /// The machine around it, if it has one of its own.
    pub machine: Option<Arc<dyn Machine>>,
    /// Where the process keeps the last lines of its log.
    pub log: Option<Arc<LogRing>>,
}

/// Brings the sockets of `[listen]`, when the store is open and it is known which configuration
/// counts. The error is a sentence for the operator.
pub type HandOver = Box<dyn FnOnce(&Config) -> Result<Sockets, String> + Send>;

/// Listening sockets that somebody else has opened, with whatever rights that takes.
#[derive(Debug, Default)]
pub struct Sockets {
    /// As `[listen] c2s`.
    pub c2s: Vec<TcpListener>,
    /// As `[listen] c2s_tls`.
    pub c2s_tls: Vec<TcpListener>,
    /// As `[listen] https`.
    pub https: Vec<TcpListener>,
}

impl Start {
    /// As a process that opens its own sockets.
    #[must_use]
    pub fn as_process(config: Config) -> Start {
        Start {
            config,
            source: None,
            sockets: None,
            machine: None,
            log: None,
        }
    }
}

/// Opens the listeners, or takes those that are there. Called within the runtime.
pub(super) fn listeners(
    config: &Config,
    sockets: Option<HandOver>,
) -> Result<Vec<(Arc<Listener>, Entry)>, String> {
    let listen = &config.listen;
    let opened = match sockets {
        None => [
            (listen::bind(&listen.c2s)?, Entry::StartTls),
            (listen::bind(&listen.c2s_tls)?, Entry::Direct),
            (listen::bind(&listen.https)?, Entry::Https),
        ],
        Some(hand_over) => {
            let sockets = hand_over(config)?;
            [
                (taken(sockets.c2s)?, Entry::StartTls),
                (taken(sockets.c2s_tls)?, Entry::Direct),
                (taken(sockets.https)?, Entry::Https),
            ]
        }
    };
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

fn taken(sockets: Vec<TcpListener>) -> Result<Vec<Listener>, String> {
    sockets
        .into_iter()
        .map(Listener::of_socket)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot use a socket that was handed over: {error}"))
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
            settings::certificate(&core.config, &core.store).and_then(|pem| tls.reload(&pem))
        }
        None => Err("the server stops".to_owned()),
    })
}
