//! Connections with other servers, one task each: those that come ([`incoming`]), those that we
//! make for a pair of domains ([`outgoing`]), and those that ask about a dialback key ([`verify`]).
//!
//! Invariant: whatever another server does costs its own connection and its own queue.

pub(super) mod conduit;
mod connect;
mod find;
mod former;
mod incoming;
mod outgoing;
mod pace;
mod question;
pub(super) mod sending;
mod turns;
mod verify;

use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::router::{Core, RemoteLink};
use crate::store::Position;
use crate::stream::s2s::S2sConfig;

use super::conn::Inbound;
use super::tls::{Authorities, PeerCertificate, TlsAcceptor};

pub use find::Finder;
pub use former::Formers;
pub use incoming::{serve, serve_secured};
pub use pace::Paces;
pub use turns::Turns;

/// Attempts to connect that are under way at once; others wait for their turn.
const ATTEMPTS_MAX: usize = 128;

/// Dialback keys that are asked about at once: others bring that about, so it takes nothing of the
/// attempts that people here wait for.
const VERIFICATIONS_MAX: usize = 32;

/// What all connections with other servers share.
pub struct Peers {
    /// The server behind it.
    pub core: Arc<Core>,
    /// Our certificates.
    pub tls: Arc<TlsAcceptor>,
    /// What streams are configured with.
    pub streams: Arc<S2sConfig>,
    /// Who may answer for other servers.
    pub authorities: Arc<Authorities>,
    /// Finds them.
    pub finder: Finder,
    /// Room for the stanzas that are not complete yet.
    pub inbound: Arc<Inbound>,
    /// The server stops.
    pub stopping: CancellationToken,
    /// The position up to which the store is durable.
    pub durable: watch::Receiver<Position>,
    /// Streams that may be resumed (XEP-0198).
    pub formers: Formers,
    /// How fast each domain may send.
    pub paces: Paces,
    /// Attempts to connect.
    pub attempts: Turns,
    /// Attempts to ask about dialback keys.
    pub verifications: Turns,
    /// Each task holds a receiver: the server waits for them when it stops.
    pub alive: Arc<watch::Sender<()>>,
}

impl Peers {
    /// For [`Peers::attempts`].
    #[must_use]
    pub fn attempts() -> Turns {
        Turns::new(ATTEMPTS_MAX)
    }

    /// For [`Peers::verifications`].
    #[must_use]
    pub fn verifications() -> Turns {
        Turns::new(VERIFICATIONS_MAX)
    }

    /// Has this connect the links. Called once, within the runtime.
    pub fn begin(self: &Arc<Self>) {
        let peers: Weak<Peers> = Arc::downgrade(self);
        let runtime = tokio::runtime::Handle::current();
        self.core.remotes.connect_with(Box::new(move |link| {
            if let Some(peers) = peers.upgrade() {
                let link: Arc<RemoteLink> = Arc::clone(link);
                runtime.spawn(outgoing::serve(peers, link));
            }
        }));
    }

    /// What a peer has shown, as far as it can be judged at this moment.
    fn shown(&self, certificate: PeerCertificate) -> Arc<PeerCertificate> {
        let is_clock_wrong = *self.core.clock_is_wrong.borrow();
        Arc::new(match is_clock_wrong {
            true => certificate.undecided(),
            false => certificate,
        })
    }

    fn now_ms(&self) -> u64 {
        (self.core.ticks)()
    }
}
