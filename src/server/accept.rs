//! Connections that come, and who serves them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::http::{self, Site};
use crate::net::admit::Admissions;
use crate::net::conn::{self, Front};
use crate::net::listen::{Arrival, Listener};
use crate::net::s2s::{self, Peers};
use crate::net::shared;
use crate::net::tls::Entry;
use crate::service::acme::Challenges;

/// Who is behind a port that several protocols share.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) listener: Arc<Listener>,
    pub(super) site: Arc<Site>,
    pub(super) front: Arc<Front>,
    /// Other servers, if any are talked with, and the room for their connections.
    pub(super) peers: Option<(Arc<Peers>, Arc<Admissions>)>,
}

pub(super) async fn clients(
    listener: Arc<Listener>,
    entry: Entry,
    front: Arc<Front>,
    admissions: Arc<Admissions>,
    alive: watch::Receiver<()>,
) {
    loop {
        let arrival = listener.accept(&admissions).await;
        let (front, alive) = (front.clone(), alive.clone());
        tokio::spawn(async move {
            conn::serve(front, arrival, entry).await;
            drop(alive);
        });
    }
}

/// HTTP, clients and other servers, as each says in its handshake.
pub(super) async fn shared(doors: Doors, admissions: Arc<Admissions>, alive: watch::Receiver<()>) {
    loop {
        let arrival = doors.listener.accept(&admissions).await;
        let (doors, alive) = (doors.clone(), alive.clone());
        tokio::spawn(async move {
            doors.serve(arrival).await;
            drop(alive);
        });
    }
}

impl Doors {
    /// Each is a box of its own: a task is as big as the biggest thing it ever waits for.
    async fn serve(self, arrival: Arrival) {
        let Doors {
            listener,
            site,
            front,
            peers,
        } = self;
        let stopping = front.stopping.clone();
        let securing = Box::pin(shared::secure(&front, arrival, peers.is_some()));
        let Some(Some((entry, mut secured))) = stopping.run_until_cancelled(securing).await else {
            return;
        };
        match (entry, peers) {
            (Entry::Direct, _) => conn::serve_secured(front, secured).await,
            (Entry::ServerDirect, Some((peers, admissions))) => {
                // Its place is among those of other servers.
                let Some(slot) = listener.admit(&admissions, secured.peer) else {
                    return;
                };
                secured.slot = slot;
                Box::pin(s2s::serve_secured(peers, secured)).await;
            }
            _ => Box::pin(http::serve(site, secured)).await,
        }
    }
}

pub(super) async fn plain_http(
    listener: &Listener,
    challenges: Arc<Challenges>,
    admissions: Arc<Admissions>,
) {
    loop {
        let arrival = listener.accept(&admissions).await;
        tokio::spawn(http::serve_challenges(challenges.clone(), arrival));
    }
}

pub(super) async fn servers(
    listener: Arc<Listener>,
    entry: Entry,
    peers: Arc<Peers>,
    admissions: Arc<Admissions>,
) {
    loop {
        let arrival = listener.accept(&admissions).await;
        tokio::spawn(s2s::serve(peers.clone(), arrival, entry));
    }
}
