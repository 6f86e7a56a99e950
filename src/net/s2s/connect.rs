//! From a domain to an open stream: a connection, TLS, authentication.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::addr::Jid;
use crate::net::tls::{Connect, Dane, ServerStream};
use crate::net::transport::Transport;
use crate::stanza::{Condition, StanzaError};
use crate::stream::s2s::{Action, Failure, Identity, Outgoing, Pair, Purpose, Verdict};

use super::Peers;
use super::conduit::Conduit;
use super::find::Dialed;
use super::turns::Turn;

/// How long one attempt may take, with all targets.
const ATTEMPT: Duration = Duration::from_secs(90);

/// A stream that is of use.
pub(super) enum Opened {
    /// Stanzas may be sent.
    Ready {
        conduit: Box<Conduit>,
        stream: Box<Outgoing>,
        may_manage: bool,
        is_bidirectional: bool,
    },
    /// The authoritative server has spoken.
    Verified(Verdict),
}

/// Opens a stream for a purpose, by whoever has a turn; the error is what senders are told.
pub(super) async fn open(
    peers: &Arc<Peers>,
    pair: &Pair,
    purpose: &Purpose,
    turn: Turn<'_>,
) -> Result<Opened, StanzaError> {
    let attempt = Box::pin(try_targets(peers, pair, purpose));
    let outcome = timeout(ATTEMPT, attempt).await;
    drop(turn);
    match outcome {
        Ok(outcome) => outcome.map_err(|failure| error_of(&pair.remote, &failure)),
        Err(_) => Err(StanzaError::remote_server_timeout(format!(
            "{} does not answer in time",
            pair.remote
        ))),
    }
}

/// Waits a while for a machine to learn the time: by a clock that is known to be wrong no
/// certificate is judged, and no server found good.
pub(super) async fn clock(peers: &Peers) {
    let mut is_wrong = peers.core.clock_is_wrong.subscribe();
    let limit = Duration::from_millis(peers.streams.negotiation_ms);
    let is_right = timeout(limit, is_wrong.wait_for(|is_wrong| !is_wrong));
    tokio::select! {
        _ = is_right => {}
        () = peers.stopping.cancelled() => {}
    }
}

fn error_of(domain: &Jid, failure: &Failure) -> StanzaError {
    StanzaError::new(failure.condition, format!("{domain}: {}", failure.text))
}

async fn try_targets(
    peers: &Arc<Peers>,
    pair: &Pair,
    purpose: &Purpose,
) -> Result<Opened, Failure> {
    let mut was_refused = false;
    let first = try_each(peers, pair, purpose, &mut was_refused).await;
    if first.is_err() && was_refused {
        tracing::debug!("SASL EXTERNAL was refused, and the connection ended: dialback is tried");
        return try_each(peers, pair, purpose, &mut was_refused).await;
    }
    first
}

/// One target after the other. Once one has ended the connection upon refusing SASL EXTERNAL, those
/// that follow are shown a dialback key alone.
async fn try_each(
    peers: &Arc<Peers>,
    pair: &Pair,
    purpose: &Purpose,
    was_refused: &mut bool,
) -> Result<Opened, Failure> {
    let mut targets = peers.finder.targets(&peers.core, &pair.remote).await?;
    let mut last = Failure {
        condition: Condition::RemoteServerNotFound,
        text: "it has no server".into(),
        is_of_target: true,
    };
    while let Some(dialed) = targets.next().await {
        let outcome = match dialed {
            Ok(dialed) => try_one(peers, pair, purpose, dialed, was_refused).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Err(failure) if failure.is_of_target => {
                tracing::debug!(why = %failure.text, "one of its targets is of no use");
                last = failure;
            }
            other => return other,
        }
    }
    Err(last)
}

/// Negotiates on one connection.
async fn try_one(
    peers: &Arc<Peers>,
    pair: &Pair,
    purpose: &Purpose,
    dialed: Dialed,
    was_refused: &mut bool,
) -> Result<Opened, Failure> {
    let mut transport = Transport::plain(dialed.tcp);
    let mut identity: Option<Arc<dyn Identity>> = None;
    if dialed.is_direct {
        let secured = secure(peers, pair, transport, true, &dialed.dane).await;
        let (secured, peer) = secured.map_err(broken)?;
        transport = secured;
        identity = Some(peer);
    }
    let mut conduit = Conduit::new(transport, &peers.inbound);
    conduit.probe();
    let seed = peers.core.random();
    let now_ms = peers.now_ms();
    let streams = peers.streams.clone();
    let (pair_of_it, purpose) = (pair.clone(), purpose.clone());
    let stream = Outgoing::new(streams, pair_of_it, purpose, seed, identity, now_ms);
    let mut stream = Box::new(match *was_refused {
        true => stream.by_dialback_alone(),
        false => stream,
    });
    loop {
        let now_ms = peers.now_ms();
        stream.input(&mut conduit.input, now_ms);
        while let Some(action) = stream.poll() {
            match action {
                Action::Send(bytes) => conduit.say(bytes),
                Action::StartTls => {
                    conduit.flush().await.map_err(broken)?;
                    let plain = conduit.take_tcp().map_err(broken)?;
                    let plain = Transport::plain(plain);
                    let secured = secure(peers, pair, plain, false, &dialed.dane).await;
                    let (secured, peer) = secured.map_err(broken)?;
                    conduit.transport = Some(secured);
                    stream.tls_established(peer);
                }
                Action::Verified(verdict) => {
                    conduit.close().await;
                    return Ok(Opened::Verified(verdict));
                }
                Action::Ready {
                    may_manage,
                    is_bidirectional,
                } => {
                    return Ok(Opened::Ready {
                        conduit: Box::new(conduit),
                        stream,
                        may_manage,
                        is_bidirectional,
                    });
                }
                Action::Failed(failure) => {
                    *was_refused |= stream.is_refused();
                    conduit.close().await;
                    return Err(failure);
                }
                Action::Closed(_) => {
                    *was_refused |= stream.is_refused();
                    return Err(broken(io::ErrorKind::UnexpectedEof));
                }
                _ => {}
            }
        }
        if conduit.settle_input() {
            wait(peers, &mut conduit, &mut stream).await;
        } else {
            return Err(broken(io::ErrorKind::OutOfMemory));
        }
    }
}

/// Waits for the peer, or for the end of patience; an error of the connection is the stream's end.
async fn wait(peers: &Arc<Peers>, conduit: &mut Conduit, stream: &mut Outgoing) {
    let flushed = conduit.flush().await;
    let left_ms = stream
        .deadline()
        .map_or(0, |at| at.saturating_sub(peers.now_ms()));
    let readable = async {
        flushed?;
        let transport = conduit.transport()?;
        transport.readable().await?;
        conduit.read()
    };
    let outcome = tokio::select! {
        read = timeout(Duration::from_millis(left_ms), readable) => read,
        () = peers.stopping.cancelled() => Ok(Err(io::ErrorKind::Interrupted.into())),
    };
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => stream.lost(words(&error).into()),
        Err(_) => stream.timeout(peers.now_ms()),
    }
}

async fn secure(
    peers: &Peers,
    pair: &Pair,
    transport: Transport,
    is_direct: bool,
    dane: &Dane,
) -> io::Result<(Transport, Arc<crate::net::tls::PeerCertificate>)> {
    let tcp = transport.into_plain().ok_or(io::ErrorKind::InvalidInput)?;
    let limit = Duration::from_millis(peers.streams.negotiation_ms);
    let connect = Connect {
        domain: &pair.remote,
        key: peers.tls.key_of(pair.local.as_str()),
        is_direct,
        authorities: &peers.authorities,
        dane,
    };
    let handshake = ServerStream::connect(tcp, connect);
    let (stream, peer) = timeout(limit, handshake)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok((Transport::Server(stream), peers.shown(peer)))
}

fn broken(error: impl Into<io::Error>) -> Failure {
    Failure {
        condition: Condition::RemoteServerTimeout,
        text: words(&error.into()).into(),
        is_of_target: true,
    }
}

fn words(error: &io::Error) -> String {
    format!("the connection to the other server failed: {error}")
}
