//! The ways to external components (XEP-0114): whole domains that are neither this server's
//! accounts nor another server's, and that are reached by the same rules as another server.
//!
//! A component has a [`Link`] of its own, which holds what waits for its connection and no more.
//! While none is connected a stanza comes back at once with `remote-server-timeout` ("wait"):
//! the domain is known and cannot be reached, and its users may try again. (`service-unavailable`,
//! which others say, reads to a client as if the contact did not exist.)
//!
//! There is no acknowledgement in the protocol. A message that its sender's stream counts
//! (XEP-0198) is recorded like one for another server, and retired once all of it is with the
//! kernel of the component's connection: over a crash of this server it is kept and sent to the
//! component that connects within [`PATIENCE_MS`] of the next start, and what a component had read
//! and not worked on when it died is lost. A message of another server, or of a component, is
//! recorded nowhere: it is delivered, or comes back, while this process lives.

use std::sync::Arc;

use crate::addr::Jid;
use crate::stanza::{Stanza, StanzaError};
use crate::store::Position;
use crate::stream::s2s::Pair;

use super::core::Core;
#[cfg(doc)]
use super::remote::PATIENCE_MS;
use super::remote::{Link, Parcel, Posted, Room, returned};
use super::route::{self, Remote};

/// The configured components.
#[derive(Debug, Default)]
pub struct Components {
    /// The other end of each is the component's domain.
    links: Vec<Arc<Link>>,
}

impl Components {
    /// One for each domain; none is connected. `own` is the server's domain.
    pub(super) fn new(own: &Jid, domains: impl Iterator<Item = Jid>, room: &Arc<Room>) -> Self {
        let link = |(number, remote): (usize, Jid)| {
            let local = own.clone();
            let pair = Pair { local, remote };
            Arc::new(Link::new(pair, number as u64, room.clone()))
        };
        Components {
            links: domains.enumerate().map(link).collect(),
        }
    }

    /// Whether a domain is a component's.
    pub fn has(&self, domain: &str) -> bool {
        self.link(domain).is_some()
    }

    /// What waits for the component of this domain.
    pub fn link(&self, domain: &str) -> Option<&Arc<Link>> {
        let mut links = self.links.iter();
        links.find(|link| link.pair.remote.as_str() == domain)
    }

    /// All domains.
    pub fn domains(&self) -> impl Iterator<Item = &Jid> {
        self.links.iter().map(|link| &link.pair.remote)
    }

    /// The domains whose component is connected.
    pub fn connected(&self) -> impl Iterator<Item = &Jid> {
        let up = self.links.iter().filter(|link| link.is_up());
        up.map(|link| &link.pair.remote)
    }

    /// Whether a stanza for this domain would be taken; the error is what its sender is told.
    pub(super) fn is_there(&self, domain: &str) -> Result<(), StanzaError> {
        match self.link(domain) {
            Some(link) if !link.is_up() => Err(absent(&link.pair.remote)),
            _ => Ok(()),
        }
    }
}

/// What a sender is told while no component is connected.
pub fn absent(domain: &Jid) -> StanzaError {
    StanzaError::remote_server_timeout(format!(
        "{domain} is not connected to this server at the moment: try again later"
    ))
}

/// Queues a stanza for a component that is connected. One that lets too much wait is cut off; its
/// connection then gives back what waited. Nothing comes back in here: whoever sends may hold a
/// lock that a bounce needs.
pub(super) fn post(core: &Core, link: &Arc<Link>, parcel: Parcel) -> Result<(), StanzaError> {
    let error = absent(&link.pair.remote);
    if !link.is_up() {
        return Err(error);
    }
    keep(core, link, parcel).inspect_err(|_| {
        if link.is_heavy() {
            link.cut_off(&error, (core.ticks)());
        }
    })
}

/// Keeps a recorded message for a component that may connect soon: see [`give_up_absent`].
pub(super) fn keep(core: &Core, link: &Arc<Link>, parcel: Parcel) -> Result<(), StanzaError> {
    match link.post(parcel, core.store.durable(), (core.ticks)()) {
        Posted::Refused(error) => Err(error),
        Posted::Gated(gate) => {
            core.gates
                .wait_for_link(gate, link, || core.store.durable());
            Ok(())
        }
        // A connection that goes at this very moment gives up what waits.
        Posted::Queued | Posted::Connect => Ok(()),
    }
}

/// Called [`PATIENCE_MS`] after the start: what has waited since the last one for a component that
/// has not come goes back.
pub fn give_up_absent(core: &Core) {
    for link in &core.components.links {
        if !link.is_up() {
            let error = absent(&link.pair.remote);
            let back = link.give_up(&error, (core.ticks)());
            returned(core, back, &error);
        }
    }
}

/// Handles a stanza of a component, whose stream has seen to its `from`. Unlike one of another
/// server it may be for anybody, also elsewhere: the policy for other servers decides there. One
/// without a `to` is refused (XEP-0114 §3).
pub fn receive_component(core: &Arc<Core>, lang: Option<&str>, stanza: &Stanza) -> Position {
    let to = stanza.to().map(|to| Jid::parse(&to).is_ok());
    let error = match to {
        Some(true) => {
            let remote = Remote {
                counts: false,
                lang,
            };
            return route::receive_elsewhere(core, remote, stanza);
        }
        Some(false) => StanzaError::jid_malformed("the `to` of this stanza is no valid address"),
        None => StanzaError::bad_request("a stanza of a component has a `to`"),
    };
    let mut cx = core.cx();
    route::bounce(&mut cx, stanza, &error);
    cx.after()
}
