//! How a server is started: as a process, or by the machine, which hands over what only it has.

use std::net::TcpListener;
use std::sync::Arc;

use super::settings;
use crate::config::Config;
use crate::net::listen::{self, Listener};
use crate::net::tls::{Entry, TlsAcceptor};
use crate::router::Core;
use crate::service::log_ring::LogRing;
use crate::service::machine::Machine;

/// What a server is started with.
pub struct Start {
    /// The configuration, from a file or from the machine's source.
    pub config: Config,
    /// Sockets that listen already; `None`: those of `[listen]` are opened.
    pub sockets: Option<Sockets>,
    /// The machine around it, if it has one of its own.
    pub machine: Option<Arc<dyn Machine>>,
    /// Where the process keeps the last lines of its log.
    pub log: Option<Arc<LogRing>>,
}

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
            sockets: None,
            machine: None,
            log: None,
        }
    }
}

/// Opens the listeners, or takes those that are there. Called within the runtime.
pub(super) fn listeners(
    config: &Config,
    sockets: Option<Sockets>,
) -> Result<Vec<(Arc<Listener>, Entry)>, String> {
    let listen = &config.listen;
    let opened = match sockets {
        None => [
            (listen::bind(&listen.c2s)?, Entry::StartTls),
            (listen::bind(&listen.c2s_tls)?, Entry::Direct),
            (listen::bind(&listen.https)?, Entry::Https),
        ],
        Some(sockets) => [
            (taken(sockets.c2s)?, Entry::StartTls),
            (taken(sockets.c2s_tls)?, Entry::Direct),
            (taken(sockets.https)?, Entry::Https),
        ],
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
