//! One client's connection, one task: bytes from the transport to the stream, the stream's
//! actions to the router, and what stands in the session's outbox back to the transport.
//!
//! While nothing happens the task holds no buffer: what it waits for is a readable socket, an
//! entry in its outbox, or its deadline.

pub(in crate::net) mod inbound;
mod login;
pub(in crate::net) mod outgoing;
mod passwords;
mod session;
mod writing;

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::addr::Jid;
use crate::crypto::CredentialsId;
use crate::router::{self, Core, Session, connection_lost};
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::store::Position;
use crate::stream::c2s::C2s;
use crate::stream::{Action, C2sConfig, Closed};

use super::admit::Slot;
use super::listen::Arrival;
use super::shared::Secured;
use super::throttle::{Throttle, Try};
use super::tls::{Entry, TlsAcceptor};
use super::transport::{Read, Transport};
pub use inbound::Inbound;
use outgoing::OutgoingQueue;
pub use passwords::Passwords;

/// How long last words and the end of TLS and TCP may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes that one connection handles before it lets others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// While so much waits to be written to a client nothing more is read of it: its requests must not
/// come faster than it reads what they are answered with.
const REPLIES_MAX: usize = 1_000;

/// How long a client of which nothing more is read may take nothing of what waits for it.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What all clients' connections share.
pub struct Front {
    /// The server behind it.
    pub core: Arc<Core>,
    /// TLS.
    pub tls: Arc<TlsAcceptor>,
    /// What streams are configured with.
    pub streams: Arc<C2sConfig>,
    /// Failed log-ins.
    pub throttle: Throttle,
    /// New accounts by address (XEP-0077).
    pub registrations: Throttle,
    /// Names that were asked for and are taken (XEP-0077), by address.
    pub names: Throttle,
    /// Where passwords are checked.
    pub passwords: Arc<Passwords>,
    /// Room for the stanzas that are not complete yet.
    pub inbound: Arc<Inbound>,
    /// Who has no session yet is told when the server stops.
    pub stopping: CancellationToken,
    /// The position up to which the store is durable.
    pub durable: watch::Receiver<Position>,
}

/// Why a connection's task ends.
#[derive(Debug)]
enum End {
    /// The stream has ended in order, one way or the other.
    Stream(Closed),
    /// The transport has failed, or the client has closed it without a word.
    Transport(io::Error),
    /// Another connection serves the session now, or it is over.
    Replaced,
    /// The server stops: sessions that can be resumed are kept.
    Shutdown,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Transport(error)
    }
}

/// A connection in work.
struct Connection {
    front: Arc<Front>,
    number: u64,
    peer: SocketAddr,
    slot: Slot,
    /// Taken out only for the moment of the TLS handshake.
    transport: Option<Transport>,
    stream: C2s,
    input: BytesMut,
    share: inbound::Share,
    out: OutgoingQueue,
    /// Gone as soon as there is a session.
    login: Option<Box<Login>>,
    session: Option<Arc<Session>>,
    request: Request,
    /// The session tells that the stream is to end; the stream says so with its next action.
    ending: Option<Farewell>,
    span: Span,
}

/// What a connection knows of whoever logs in.
#[derive(Default)]
struct Login {
    /// Whose password is to be checked.
    account: Option<Jid>,
    /// The credentials that the client authenticates, or has authenticated, with.
    proved: Option<CredentialsId>,
    /// The log-in under way, as it was counted.
    tried: Option<Try>,
}

/// How far our question for the client's count has come (XEP-0198 §4): `<r/>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// There is none, or it has been answered.
    Answered,
    /// It waits to be written.
    Queued,
    /// The client has it, as far as we can tell.
    Sent,
}

/// What happens to the session when the server has ended the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// It is over, or somebody else's.
    Leave,
    /// It can be resumed as after a lost connection.
    Detach,
}

/// Serves a client from the first byte to the last. A panic in here ends this connection and its
/// session, and nothing else.
pub async fn serve(front: Arc<Front>, arrival: Arrival, entry: Entry) {
    let (number, span) = numbered(&front, arrival.peer);
    let stopping = front.stopping.clone();
    let greeting = login::greet(front, arrival, entry, number, span);
    serve_greeted(&stopping, Box::pin(greeting)).await;
}

/// The same for a client that stands under TLS already.
pub async fn serve_secured(front: Arc<Front>, secured: Secured) {
    let (number, span) = numbered(&front, secured.peer);
    let stopping = front.stopping.clone();
    let greeting = async move { Some(login::begin(front, secured, number, span)) };
    serve_greeted(&stopping, Box::pin(greeting)).await;
}

fn numbered(front: &Front, peer: SocketAddr) -> (u64, Span) {
    let number = front.core.next_number();
    let span = tracing::info_span!("connection", number, %peer, jid = tracing::field::Empty);
    (number, span)
}

async fn serve_greeted(
    stopping: &CancellationToken,
    greeting: Pin<Box<impl Future<Output = Option<Box<Connection>>>>>,
) {
    let Some(Some(mut connection)) = stopping.run_until_cancelled(greeting).await else {
        return;
    };
    let end = match guarded(pin!(connection.run())).await {
        Some(Err(end)) => Some(end),
        Some(Ok(never)) => match never {},
        None => None,
    };
    // Like the greeting a box of its own: a task is as big as the biggest thing it ever waits for.
    Box::pin(connection.finish(end)).await;
}

/// What a future comes to; `None` if it panics. It is pinned where it stands: an `async fn` would
/// keep room for where it came from too.
pub(in crate::net) fn guarded<F: Future>(
    mut future: Pin<&mut F>,
) -> impl Future<Output = Option<F::Output>> {
    std::future::poll_fn(move |context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
}

/// `run` only ever ends with an [`End`].
enum Never {}

impl Connection {
    async fn run(&mut self) -> Result<Never, End> {
        let mut handled = 0;
        loop {
            let before = self.input.len();
            let now_ms = self.now_ms();
            self.stream.input(&mut self.input, now_ms);
            handled += before - self.input.len();
            if let Some(action) = self.stream.poll() {
                self.act(action).await?;
                if handled > TURN_BYTES {
                    handled = 0;
                    self.front.core.store.commit_soon();
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if self.input.is_empty() {
                // The buffer goes with what was in it: an idle session holds none.
                self.input = BytesMut::new();
            }
            let incomplete = self.input.len() + self.transport().incomplete_bytes();
            if !self.share.set(incomplete) {
                self.refuse(
                    StreamErrorCondition::ResourceConstraint,
                    "too many big stanzas are under way: send it again later",
                );
                continue;
            }
            handled = 0;
            self.exchange().await?;
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::Stanza(stanza) => self.stanza(&stanza),
            Action::SmRequest => self.acknowledge(),
            Action::SmAck { h } => self.acknowledged(h),
            Action::Send(bytes) => Box::pin(self.say(bytes)).await,
            Action::Closed(closed) => Err(match self.ending {
                Some(Farewell::Detach) => End::Shutdown,
                Some(Farewell::Leave) => End::Replaced,
                None => End::Stream(closed),
            }),
            other => Box::pin(self.negotiate(other)).await,
        }
    }

    /// For deadlines and throttles.
    fn now_ms(&self) -> u64 {
        (self.front.core.ticks)()
    }

    fn transport(&mut self) -> &mut Transport {
        self.transport
            .as_mut()
            .expect("the transport is away only during the handshake, which is awaited")
    }

    /// The next thing that happens: bytes come, bytes go, the outbox fills, or time passes.
    async fn exchange(&mut self) -> Result<(), End> {
        self.front.core.store.commit_soon();
        self.take_from_outbox().await?;
        let blocked = !self.write()?;
        if blocked && self.is_ignored() {
            self.refuse(
                StreamErrorCondition::PolicyViolation,
                "you read too slowly: too many replies wait to be read",
            );
            return Ok(());
        }
        let deadline_ms = self.stream.deadline();
        let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(self.now_ms()));
        let Connection {
            transport,
            session,
            front,
            number,
            ..
        } = self;
        let transport = transport
            .as_ref()
            .expect("the transport is away only during the handshake, which is awaited");
        let session = session.as_ref();
        let holds_back = session.is_some_and(|session| session.outbox.waiting() >= REPLIES_MAX);
        let outbox = std::future::poll_fn(|context| match session {
            Some(session) if blocked => session.outbox.poll_end(*number, context),
            Some(session) => {
                let durable = || front.core.store.durable();
                session.outbox.poll_ready(*number, context, durable)
            }
            None => Poll::Pending,
        });
        tokio::select! {
            readable = transport.readable(), if !holds_back => {
                readable?;
                return self.read();
            }
            writable = transport.writable(), if blocked => writable?,
            () = tokio::time::sleep(STANDSTILL), if blocked && holds_back => {
                self.stream.close(router::too_slow());
            }
            () = outbox => {
                if blocked && let Some(session) = session {
                    let (ending, gone) = session.outbox.end_for(*number);
                    return self.obey(ending, gone);
                }
            }
            () = front.stopping.cancelled(), if session.is_none() => {
                self.ending = Some(Farewell::Leave);
                self.refuse(StreamErrorCondition::SystemShutdown, "the server stops");
            }
            () = tokio::time::sleep(Duration::from_millis(wait_ms)), if deadline_ms.is_some() => {
                let now_ms = self.now_ms();
                self.stream.timeout(now_ms);
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), End> {
        let transport = self
            .transport
            .as_mut()
            .expect("the transport is away only during the handshake, which is awaited");
        match transport.try_read(&mut self.input)? {
            Read::Bytes(_) | Read::Blocked => Ok(()),
            Read::Closed => Err(End::Transport(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Says the last words, sees to the session, closes the transport.
    async fn finish(mut self: Box<Self>, end: Option<End>) {
        self.front.core.store.commit_soon();
        // What comes now is read by nobody.
        self.input = BytesMut::new();
        let held = self
            .transport
            .as_ref()
            .map_or(0, Transport::incomplete_bytes);
        let _fits = self.share.set(held);
        self.span.in_scope(|| tell(end.as_ref()));
        if end.is_none() {
            let error = StreamError::new(
                StreamErrorCondition::InternalServerError,
                "something went wrong here",
            );
            self.out.push(error.to_bytes());
            // A client that reads nothing does not put this off: whoever waits for the turn that
            // the panic broke off would wait as well.
            if let Some(session) = &self.session {
                self.settle(session, None);
            }
        }
        if !matches!(end, Some(End::Transport(_))) {
            // Whether the client heard the last words is nothing that can be helped.
            let said = pin!(tokio::time::timeout(FAREWELL, self.flush()));
            drop(guarded(said).await);
        }
        if let Some(session) = self.session.take() {
            session.outbox.let_go();
            self.settle(&session, end.as_ref());
            let _entered = self.span.enter();
            // Whatever happened: somebody may wait for what this connection still held.
            router::give_up(&self.front.core, &session);
        }
        if let Some(transport) = self.transport.take() {
            drop(tokio::time::timeout(FAREWELL, transport.close()).await);
        }
    }

    /// Sees to the session; a panic on the way goes no further.
    fn settle(&self, session: &Arc<Session>, end: Option<&End>) {
        let _entered = self.span.enter();
        let settle = AssertUnwindSafe(|| self.detach_or_end(session, end));
        if std::panic::catch_unwind(settle).is_err() {
            tracing::error!("the end of a session has panicked");
        }
    }

    /// RFC 6121 §4.5.2 and XEP-0198 §5: a lost connection may come back, an ended stream not, and
    /// one that has panicked neither: its client would send what caused that again.
    fn detach_or_end(&self, session: &Arc<Session>, end: Option<&End>) {
        let core = &self.front.core;
        let timed_out =
            |error: &StreamError| error.condition == StreamErrorCondition::ConnectionTimeout;
        match end {
            Some(End::Transport(_) | End::Shutdown) => connection_lost(core, session, self.number),
            Some(End::Stream(Closed::Error(error))) if timed_out(error) => {
                connection_lost(core, session, self.number);
            }
            Some(End::Replaced) => {}
            Some(End::Stream(_)) | None => {
                let is_ours = session.link().connection == self.number;
                if is_ours {
                    router::end(&mut core.cx(), session, None);
                }
            }
        }
    }
}

fn tell(end: Option<&End>) {
    match end {
        Some(End::Stream(Closed::ByPeer)) => tracing::info!("logged out"),
        Some(End::Stream(Closed::Error(error))) => tracing::info!(%error, "the stream was ended"),
        Some(End::Stream(Closed::PeerError)) => {
            tracing::info!("logged out: the client ended the stream with an error");
        }
        Some(End::Transport(error)) => tracing::info!(why = %error, "the connection was lost"),
        Some(End::Replaced) => {
            tracing::info!("disconnected: another connection resumed the session, or it was over");
        }
        Some(End::Shutdown) => tracing::info!("disconnected: the server stops"),
        None => tracing::error!("a session has panicked and is ended"),
    }
}
