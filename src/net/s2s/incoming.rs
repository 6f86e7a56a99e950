//! A connection that another server has made: its stanzas to the router, and, where the stream
//! serves both ways (XEP-0288), what waits for it back.

mod management;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::net::admit::Slot;
use crate::net::conn::guarded;
use crate::net::listen::Arrival;
use crate::net::shared::Secured;
use crate::net::tls::Entry;
use crate::net::transport::Transport;
use crate::router::{ManagedStream, Remote, receive_remote};
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::stream::Closed;
use crate::stream::s2s::{Action, Challenge, Identity, Incoming, Pair, Proof, Verdict};

use super::Peers;
use super::conduit::Conduit;
use super::pace::Meter;
use super::question::{Question, earlier};
use super::sending::{Sending, give_back};
use super::verify::verify;

/// Bytes that one connection handles before it lets others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// A peer that has authenticated for both ways is given so long to resume a stream, or to say that it
/// counts, before anything is sent to it.
const ANSWERS_AFTER_MS: u64 = 2_000;

/// Dialback keys of one connection that are asked about at once.
const CHALLENGES_MAX: usize = 4;

/// Serves another server from the first byte to the last. A panic in here ends this connection
/// and nothing else.
pub async fn serve(peers: Arc<Peers>, arrival: Arrival, entry: Entry) {
    let peer = arrival.peer;
    let alive = peers.alive.subscribe();
    let number = peers.core.next_number();
    let course = begin(peers.clone(), arrival, entry, number);
    run(course, &peers, peer, number).await;
    drop(alive);
}

/// The same for one that stands under TLS already, and has been asked for its certificate.
pub async fn serve_secured(peers: Arc<Peers>, secured: Secured) {
    let Secured {
        stream,
        peer,
        slot,
        accepted_ms,
        ..
    } = secured;
    let alive = peers.alive.subscribe();
    let identity: Arc<dyn Identity> = peers.shown(stream.peer_certificate(&peers.authorities));
    let number = peers.core.next_number();
    let came = Came {
        transport: Transport::Tls(stream),
        identity: Some(identity),
        peer,
        slot,
        accepted_ms,
        number,
    };
    run(came.serve(peers.clone()), &peers, peer, number).await;
    drop(alive);
}

async fn run(course: impl Future<Output = ()>, peers: &Peers, peer: SocketAddr, number: u64) {
    let span = tracing::info_span!(
        "server",
        %peer,
        remote = tracing::field::Empty,
        way = "in"
    );
    let course = Box::pin(course.instrument(span));
    if guarded(pin!(course)).await.is_none() {
        tracing::error!("a connection of another server has panicked and is ended");
        let links = peers.core.remotes.all();
        for link in links.iter().filter(|link| link.is_served_by(number)) {
            give_back(peers, link, number).await;
        }
    }
}

async fn begin(peers: Arc<Peers>, arrival: Arrival, entry: Entry, number: u64) {
    let accepted_ms = peers.now_ms();
    let Arrival { tcp, peer, slot } = arrival;
    let mut transport = Transport::plain(tcp);
    let mut identity = None;
    if entry == Entry::ServerDirect {
        match secure(&peers, transport, entry, None).await {
            Ok((secured, known)) => {
                transport = secured;
                identity = Some(known);
            }
            Err(error) => {
                tracing::info!(%error, "the TLS handshake failed");
                return;
            }
        }
    }
    let came = Came {
        transport,
        identity,
        peer,
        slot,
        accepted_ms,
        number,
    };
    came.serve(peers).await;
}

/// One that may begin its stream.
struct Came {
    transport: Transport,
    identity: Option<Arc<dyn Identity>>,
    peer: SocketAddr,
    slot: Slot,
    accepted_ms: u64,
    number: u64,
}

impl Came {
    async fn serve(self, peers: Arc<Peers>) {
        let Came {
            transport,
            identity,
            peer,
            slot,
            accepted_ms,
            number,
        } = self;
        let seed = peers.core.random();
        let stream = Incoming::new(peers.streams.clone(), seed, identity, accepted_ms);
        let (told, heard) = mpsc::channel(CHALLENGES_MAX);
        let conduit = Conduit::new(transport, &peers.inbound);
        conduit.probe();
        let connection = Connection {
            number,
            conduit,
            question: Question::none(peers.streams.answer_ms),
            peers,
            peer,
            slot,
            stream,
            pairs: Vec::new(),
            sendings: VecDeque::new(),
            answers_from_ms: None,
            meter: Meter::default(),
            managed: None,
            resumes: false,
            owes: false,
            told,
            heard,
            challenges: Arc::new(Semaphore::new(CHALLENGES_MAX)),
            asking: JoinSet::new(),
        };
        Box::pin(connection.serve()).await;
    }
}

async fn secure(
    peers: &Peers,
    transport: Transport,
    entry: Entry,
    domain: Option<&str>,
) -> io::Result<(Transport, Arc<dyn Identity>)> {
    let limit = Duration::from_millis(peers.streams.negotiation_ms);
    let handshake = transport.secure_for(&peers.tls, entry, domain);
    let (secured, _) = timeout(limit, handshake)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map_err(|error| io::Error::other(error.to_string()))?;
    let shown = secured.peer_certificate(&peers.authorities);
    let shown = shown.ok_or(io::ErrorKind::InvalidInput)?;
    Ok((secured, peers.shown(shown)))
}

struct Connection {
    peers: Arc<Peers>,
    number: u64,
    peer: SocketAddr,
    slot: Slot,
    conduit: Conduit,
    stream: Incoming,
    /// The pairs that are authorised, and whether stanzas may be sent back.
    pairs: Vec<(Pair, bool)>,
    /// The links that are served on it, the next one in front.
    sendings: VecDeque<Sending>,
    /// Nothing is sent back before: the peer may be about to resume a stream.
    answers_from_ms: Option<u64>,
    /// How fast the domains may send that are authorised on it.
    meter: Meter,
    /// What is counted, with XEP-0198.
    managed: Option<Arc<ManagedStream>>,
    /// The answer to `<resume/>` waits for the log.
    resumes: bool,
    /// The peer has asked for the count.
    owes: bool,
    /// What we have asked it.
    question: Question,
    told: mpsc::Sender<(Pair, Verdict)>,
    heard: mpsc::Receiver<(Pair, Verdict)>,
    /// Keys that may be asked about at this moment; others wait for their turn.
    challenges: Arc<Semaphore>,
    /// Those who ask: nobody wants to know any more once the connection has gone.
    asking: JoinSet<()>,
}

/// Why a connection ends.
enum End {
    Stream(Closed),
    Transport(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Transport(error)
    }
}

impl Connection {
    async fn serve(mut self) {
        let end = match self.run().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        let was_lost = match &end {
            End::Stream(Closed::Error(error)) => {
                tracing::info!(%error, "the stream of another server was ended");
                false
            }
            End::Stream(closed) => {
                tracing::info!(?closed, "the stream of another server has ended");
                if *closed == Closed::PeerError {
                    self.blame();
                }
                false
            }
            End::Transport(error) => {
                tracing::info!(why = %error, "the connection of another server was lost");
                true
            }
        };
        self.asking.abort_all();
        self.leave(was_lost).await;
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        let mut handled = 0;
        loop {
            let before = self.conduit.input.len();
            let now_ms = self.peers.now_ms();
            self.stream.input(&mut self.conduit.input, now_ms);
            let came = before - self.conduit.input.len();
            handled += came;
            let action = self.stream.poll();
            let from = match &action {
                Some(Action::Stanza(stanza)) => stanza.from(),
                _ => None,
            };
            self.meter.came(came, from.as_deref(), now_ms);
            if let Some(action) = action {
                self.act(action).await?;
                if handled > TURN_BYTES {
                    handled = 0;
                    self.peers.core.store.commit_soon();
                    tokio::task::yield_now().await;
                }
                continue;
            }
            handled = 0;
            if !self.conduit.settle_input() {
                let text = "too many big stanzas are under way: send it again later";
                self.refuse(StreamErrorCondition::ResourceConstraint, text);
                continue;
            }
            self.exchange().await?;
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::Stanza(stanza) => {
                let core = &self.peers.core;
                let remote = Remote {
                    counts: self.managed.is_some(),
                    lang: self.stream.lang(),
                };
                self.answers_from_ms = None;
                let Some(managed) = &self.managed else {
                    receive_remote(core, remote, &stanza);
                    return Ok(());
                };
                // Whoever resumes the stream at this moment counts it or has it come again.
                let counted = managed.count(self.number, |tally| {
                    tally.handle(receive_remote(core, remote, &stanza));
                });
                if counted.is_none() {
                    self.replaced();
                }
            }
            Action::Send(bytes) => self.conduit.say(bytes),
            Action::SmRequest => self.owes = true,
            Action::SmAck { h } => self.acknowledged(h),
            Action::Closed(closed) => return Err(End::Stream(closed)),
            other => Box::pin(self.negotiate(other)).await?,
        }
        Ok(())
    }

    async fn negotiate(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::StartTls => {
                self.conduit.flush().await?;
                let plain = Transport::plain(self.conduit.take_tcp()?);
                let pair = self.stream.header_pair();
                let domain = pair.map(|pair| pair.local.as_str());
                let securing = secure(&self.peers, plain, Entry::ServerStartTls, domain);
                let (secured, identity) = securing.await?;
                self.conduit.transport = Some(secured);
                let now_ms = self.peers.now_ms();
                self.stream.tls_established(identity, now_ms);
            }
            Action::Authorized {
                pair,
                proof,
                may_answer,
            } => self.authorized(&pair, proof, may_answer),
            Action::Refused { domain, why } => {
                tracing::info!(%domain, %why, peer = %self.peer, "not authorised");
            }
            Action::DialBack(challenge) => self.dial_back(challenge),
            Action::SmEnable { resume, .. } => self.enable(resume),
            Action::SmResume { previd, h } => self.resume(&previd, h),
            _ => debug_assert!(false, "no action of an incoming stream"),
        }
        Ok(())
    }

    fn authorized(&mut self, pair: &Pair, proof: Proof, may_answer: bool) {
        tracing::info!(remote = %pair.remote, local = %pair.local, ?proof, may_answer, "authorised");
        self.slot.authenticated();
        if self.meter.is_empty() {
            Span::current().record("remote", pair.remote.as_str());
        }
        let now_ms = self.peers.now_ms();
        self.meter.add(&pair.remote, &self.peers.paces, now_ms);
        if let Some(link) = self.peers.core.remotes.find(pair) {
            link.end_rest();
        }
        self.pairs.push((pair.clone(), may_answer));
        if may_answer && proof == Proof::External && self.peers.streams.stream_management {
            self.answers_from_ms = Some(self.peers.now_ms() + ANSWERS_AFTER_MS);
        }
        self.attach(pair);
    }

    fn dial_back(&mut self, challenge: Challenge) {
        let (peers, told) = (self.peers.clone(), self.told.clone());
        let challenges = self.challenges.clone();
        let asker = self.peer.ip();
        let asking = async move {
            // Never closed.
            let _turn = challenges.acquire().await;
            let verdict = verify(peers, asker, &challenge).await;
            drop(told.send((challenge.pair, verdict)).await);
        };
        while self.asking.try_join_next().is_some() {}
        self.asking.spawn(asking.instrument(Span::current()));
    }

    async fn exchange(&mut self) -> Result<(), End> {
        self.peers.core.store.commit_soon();
        if self.pay() {
            return Ok(());
        }
        let now_ms = self.peers.now_ms();
        self.fill(now_ms);
        let blocked = !self.conduit.write()?;
        self.written();
        if blocked && self.conduit.is_ignored() {
            let text = "you read too slowly: too many replies wait to be read";
            self.refuse(StreamErrorCondition::PolicyViolation, text);
            return Ok(());
        }
        match self.is_unanswered() {
            true => self.question.stands(now_ms),
            false => self.question.is_answered(),
        }
        if self.question.is_late(now_ms) {
            return Err(End::Transport(io::ErrorKind::TimedOut.into()));
        }
        let deadline_ms = earlier(self.stream.deadline(), self.question.deadline());
        let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(now_ms));
        let pause_ms = self.meter.pause_ms(now_ms);
        let hold_ms = self.answers_from_ms.map(|at| at.saturating_sub(now_ms));
        let answers = hold_ms.is_none() && !self.resumes;
        let (owes, owed_after) = self.owed();
        let mut durable = self.peers.durable.clone();
        let Connection {
            conduit,
            sendings,
            stream,
            peers,
            heard,
            managed,
            number,
            ..
        } = self;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let transport = conduit.transport.as_ref().ok_or_else(gone)?;
        let outbox = std::future::poll_fn(|context| {
            let mut polled = sendings.iter().map(|sending| sending.poll_ready(context));
            match polled.any(|ready| ready.is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let replaced = std::future::poll_fn(|context| match managed {
            Some(managed) => managed.poll_replaced(*number, context),
            None => Poll::Pending,
        });
        tokio::select! {
            () = replaced => {
                let condition = StreamErrorCondition::Conflict;
                stream.close(StreamError::new(condition, "the stream was resumed"));
            }
            readable = transport.readable(), if pause_ms == 0 => {
                readable?;
                conduit.read()?;
            }
            () = tokio::time::sleep(Duration::from_millis(pause_ms)), if pause_ms > 0 => {}
            writable = transport.writable(), if blocked => writable?,
            () = outbox, if !blocked && answers && !sendings.is_empty() => {}
            () = tokio::time::sleep(Duration::from_millis(hold_ms.unwrap_or(0))), if hold_ms.is_some() => {}
            Some((pair, verdict)) = heard.recv() => {
                stream.dialled_back(&pair, &verdict, peers.now_ms());
            }
            _ = durable.wait_for(|durable| *durable >= owed_after), if owes => {}
            () = peers.stopping.cancelled() => self.stop(),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)), if deadline_ms.is_some() => {
                stream.timeout(peers.now_ms());
            }
        }
        if pause_ms > 0 {
            self.question
                .paused(self.peers.now_ms().saturating_sub(now_ms));
        }
        Ok(())
    }

    /// XEP-0198 §4: the peer is told what was handled, lest it send it again.
    fn stop(&mut self) {
        self.owes = true;
        self.pay();
        let condition = StreamErrorCondition::SystemShutdown;
        self.stream
            .close(StreamError::new(condition, "the server stops"));
    }

    fn refuse(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.stream.close(StreamError::new(condition, text));
    }
}
