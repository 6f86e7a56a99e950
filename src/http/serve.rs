//! From an accepted connection to requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use super::auth::Known;
use super::{Site, routes};
use crate::net::admit::Slot;
use crate::net::shared::Secured;
use crate::net::tls::Carrier;

/// Bytes of a head, and of what hyper keeps for writing.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of a head.
const FIELDS_MAX: usize = 48;

/// How long a head may take, or its client be silent between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(15);

/// How long an answer under way may go on when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a client that can't be reached may keep what was written to it waiting.
const UNREACHABLE: Duration = Duration::from_secs(120);

/// Until it is looked again whether somebody is in who was.
const FOR_EVER: Duration = Duration::from_secs(24 * 3_600);

/// One connection's client.
pub(super) struct Visitor {
    /// Where it is.
    pub(super) peer: SocketAddr,
    /// Its place among all connections.
    slot: Mutex<Slot>,
    is_authenticated: AtomicBool,
    /// Who it has proved to be.
    pub(super) known: Mutex<Option<Known>>,
}

impl Visitor {
    /// It has proved who it is.
    pub(super) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.authenticated();
    }
}

/// Serves a connection, which stands under TLS, to its end.
pub async fn serve(site: Arc<Site>, secured: Secured) {
    let Ok(_place) = site.connections.clone().try_acquire_owned() else {
        tracing::info!(peer = %secured.peer, "the admin interface has no room for a connection");
        return;
    };
    let Secured {
        mut stream,
        peer,
        slot,
        ..
    } = secured;
    drop(SockRef::from(stream.tcp()).set_tcp_user_timeout(Some(UNREACHABLE)));
    let span = tracing::info_span!("https", %peer);
    let limit = Duration::from_millis(site.front.streams.login_ms);
    let visitor = Arc::new(Visitor {
        peer,
        slot: Mutex::new(slot),
        is_authenticated: AtomicBool::new(false),
        known: Mutex::new(None),
    });
    async {
        if stream.is_proof() {
            tracing::info!("an authority has looked at a proof");
            drop(stream.close_notify().and_then(|()| stream.try_flush()));
            return;
        }
        talk(&site, &visitor, Carrier::new(stream), limit).await;
    }
    .instrument(span)
    .await;
}

/// Answers requests. Who has not authenticated in time is cut off, whatever is under way.
async fn talk(site: &Arc<Site>, visitor: &Arc<Visitor>, carrier: Carrier, limit: Duration) {
    let answer = service_fn(|request| {
        let (site, visitor) = (Arc::clone(site), Arc::clone(visitor));
        async move { Ok::<_, Infallible>(routes::answer(&site, &visitor, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .auto_date_header(false);
    let mut connection = pin!(http.serve_connection(TokioIo::new(carrier), answer));
    let mut late = pin!(sleep(limit));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "the connection ended");
                }
                return;
            }
            () = &mut late => {
                if is_stopping {
                    return;
                }
                if !visitor.is_authenticated.load(Ordering::Relaxed) {
                    tracing::info!("nobody logged in in time");
                    return;
                }
                // Whoever is in stays as long as they want.
                late.as_mut().reset(Instant::now() + FOR_EVER);
            }
            () = site.front.stopping.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
                late.as_mut().reset(Instant::now() + FAREWELL);
            }
        }
    }
}
