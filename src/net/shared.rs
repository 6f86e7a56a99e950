//! A port that serves several protocols: which one, a client says in its TLS handshake by the
//! protocols that it offers (RFC 7301).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::admit::Slot;
use super::conn::Front;
use super::listen::Arrival;
use super::tls::{Entry, TlsStream};
use crate::stream::TlsInfo;

/// A connection that stands under TLS already.
pub struct Secured {
    /// It.
    pub stream: Box<TlsStream>,
    /// What is known of it.
    pub info: TlsInfo,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its place among all connections.
    pub slot: Slot,
    /// When it was accepted, by the server's ticks: the time to log in begins there.
    pub accepted_ms: u64,
}

/// The handshake with a client that has come to such a port, and as what it is served. Nothing
/// comes of it within the time to log in: the log is told. Other servers are served where
/// `serves_servers`.
pub async fn secure(
    front: &Front,
    arrival: Arrival,
    serves_servers: bool,
) -> Option<(Entry, Secured)> {
    let accepted_ms = (front.core.ticks)();
    let Arrival { tcp, peer, slot } = arrival;
    let handshake = TlsStream::accept_any(tcp, &front.tls, serves_servers);
    match timeout(Duration::from_millis(front.streams.login_ms), handshake).await {
        Ok(Ok((stream, info, entry))) => {
            let secured = Secured {
                stream,
                info,
                peer,
                slot,
                accepted_ms,
            };
            Some((entry, secured))
        }
        Ok(Err(error)) => {
            tracing::info!(%peer, %error, "the TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::info!(%peer, "the TLS handshake took too long");
            None
        }
    }
}
