//! The connection that we make for a link: it stands while there is something to send, and a
//! while longer.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use crate::net::conn::guarded;
use crate::router::{Left, LinkResumption, Remote, RemoteLink, arrived, receive_remote, returned};
use crate::stanza::{StanzaError, StreamError, StreamErrorCondition};
use crate::store::Position;
use crate::stream::s2s::{Action, Outgoing, Purpose};
use crate::stream::{Closed, sm};

use super::Peers;
use super::conduit::Conduit;
use super::connect::{Opened, clock, open};
use super::pace::Meter;
use super::question::{Question, earlier};
use super::sending::{Sending, return_all, unanswered};
use super::turns::Turn;

/// Bytes that one connection handles before it lets others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// How long a link waits for its turn to be connected before what waits for it comes back.
const TURN: Duration = Duration::from_secs(60);

/// Sees to a link until nothing waits for it: connects, sends, connects again.
pub(super) async fn serve(peers: Arc<Peers>, link: Arc<RemoteLink>) {
    let alive = peers.alive.subscribe();
    let (local, remote) = (&link.pair.local, &link.pair.remote);
    let span = tracing::info_span!("server", %local, %remote, way = "out");
    let course = Box::pin(see_to(peers.clone(), link.clone()).instrument(span));
    if guarded(pin!(course)).await.is_none() {
        tracing::error!(remote = %link.pair.remote, "a connection to another server has panicked");
        let error = StanzaError::internal_server_error("something went wrong here");
        let back = link.give_up(&error, peers.now_ms());
        returned(&peers.core, back, &error);
    }
    drop(alive);
}

async fn see_to(peers: Arc<Peers>, link: Arc<RemoteLink>) {
    loop {
        clock(&peers).await;
        let Some(turn) = turn(&peers, &link).await else {
            if peers.stopping.is_cancelled() {
                return;
            }
            tracing::info!("too many others are called at this moment");
            let error = crowded(&link);
            return return_all(&peers.core, link.put_off(), &error).await;
        };
        if link.is_up() {
            // The peer has come by itself meanwhile.
            return;
        }
        match open(&peers, &link.pair, &Purpose::Send, turn).await {
            Ok(Opened::Ready {
                conduit,
                stream,
                may_manage,
                is_bidirectional,
            }) => {
                let number = peers.core.next_number();
                let Some(sending) = Sending::begin(&peers.core, link.clone(), number) else {
                    // The peer has come on a stream that serves both ways.
                    let mut stream = stream;
                    stream.finish();
                    return conduit.close().await;
                };
                tracing::info!(is_bidirectional, "connected");
                let mut meter = Meter::default();
                meter.add(&link.pair.remote, &peers.paces, peers.now_ms());
                let connection = Connection {
                    peers: peers.clone(),
                    number,
                    conduit,
                    stream,
                    sending,
                    handled: 0,
                    handled_after: Position(0),
                    is_managed: false,
                    owes: false,
                    question: Question::none(peers.streams.answer_ms),
                    meter,
                };
                let left = Box::pin(connection.serve(may_manage)).await;
                if left == Left::Nothing || peers.stopping.is_cancelled() {
                    return;
                }
                let Some(at_ms) = link.reconnect_at(peers.now_ms()) else {
                    tracing::info!("the other server ends its streams and takes nothing");
                    return return_back(&peers, &link, &fruitless(&link)).await;
                };
                if !waits_until(&peers, &link, at_ms).await {
                    return;
                }
            }
            Ok(Opened::Verified(_)) => return,
            Err(error) => {
                let now_ms = peers.now_ms();
                if !peers.stopping.is_cancelled()
                    && let Some(at_ms) = link.try_again_at(now_ms)
                {
                    tracing::info!(%error, "the connection was lost and can't be made again yet");
                    if !waits_until(&peers, &link, at_ms).await {
                        return;
                    }
                    continue;
                }
                if peers.stopping.is_cancelled() {
                    return;
                }
                tracing::info!(%error, "no way to the other server");
                return return_back(&peers, &link, &error).await;
            }
        }
    }
}

/// The turn to connect; `None` when it does not come in time, or the server stops.
async fn turn<'a>(peers: &'a Peers, link: &RemoteLink) -> Option<Turn<'a>> {
    let family = peers
        .core
        .remotes
        .askers
        .family_of(link.pair.remote.domain());
    let mut askers = link.askers();
    if askers.is_empty() {
        askers.push(family);
    }
    let place = peers.attempts.enter(family, &askers)?;
    let mut over = pin!(tokio::time::sleep(TURN));
    loop {
        tokio::select! {
            biased;
            turn = place.turn() => return Some(turn),
            () = link.more_askers() => place.add(&link.askers()),
            () = &mut over => return None,
            () = peers.stopping.cancelled() => return None,
        }
    }
}

fn crowded(link: &RemoteLink) -> StanzaError {
    StanzaError::remote_server_timeout(format!(
        "this server calls so many others that {} had to wait too long: try again later",
        link.pair.remote
    ))
}

/// Waits before a link is connected again; false when the peer has come by itself meanwhile.
async fn waits_until(peers: &Peers, link: &RemoteLink, at_ms: u64) -> bool {
    let pause = Duration::from_millis(at_ms.saturating_sub(peers.now_ms()));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = peers.stopping.cancelled() => {}
    }
    !link.is_up()
}

async fn return_back(peers: &Peers, link: &RemoteLink, error: &StanzaError) {
    let back = link.give_up(error, peers.now_ms());
    return_all(&peers.core, back, error).await;
}

fn fruitless(link: &RemoteLink) -> StanzaError {
    StanzaError::remote_server_timeout(format!(
        "{} ends its streams before it takes anything",
        link.pair.remote
    ))
}

struct Connection {
    peers: Arc<Peers>,
    number: u64,
    conduit: Box<Conduit>,
    stream: Box<Outgoing>,
    sending: Sending,
    /// Stanzas of the peer that were handled, and what must be durable before that is told.
    handled: u32,
    handled_after: Position,
    is_managed: bool,
    /// The peer has asked for the count.
    owes: bool,
    /// What we have asked it.
    question: Question,
    /// How fast it may send, where it does (XEP-0288).
    meter: Meter,
}

/// Why a connection ends.
enum End {
    /// The stream has ended, one way or the other.
    Stream(Closed),
    Transport(io::Error),
    Stopping,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Transport(error)
    }
}

impl Connection {
    async fn serve(mut self, may_manage: bool) -> Left {
        if may_manage {
            self.begin_management();
        }
        let end = match self.run(may_manage).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        let in_order = match &end {
            End::Stream(closed) => {
                tracing::info!(?closed, "the stream to the other server has ended");
                if *closed == Closed::PeerError {
                    self.sending.blame();
                }
                true
            }
            End::Transport(error) => {
                tracing::info!(why = %error, "the connection to the other server was lost");
                false
            }
            End::Stopping => {
                let condition = StreamErrorCondition::SystemShutdown;
                self.stream
                    .close(StreamError::new(condition, "the server stops"));
                while let Some(action) = self.stream.poll() {
                    if let Action::Send(bytes) = action {
                        self.conduit.say(bytes);
                    }
                }
                false
            }
        };
        if !matches!(end, End::Transport(_)) {
            self.conduit.close().await;
        }
        self.sending.end(in_order, self.peers.now_ms())
    }

    /// A stream that was lost is resumed, or management begins anew (XEP-0198).
    fn begin_management(&mut self) {
        match self.sending.link.resumption() {
            Some(former) => {
                self.handled = former.handled;
                self.stream.resume(&former.id, former.handled);
            }
            None => self.stream.enable(),
        }
    }

    async fn run(
        &mut self,
        mut waits_for_management: bool,
    ) -> Result<std::convert::Infallible, End> {
        if !waits_for_management {
            self.forget_former();
        }
        let mut handled = 0;
        loop {
            let before = self.conduit.input.len();
            let now_ms = self.peers.now_ms();
            self.stream.input(&mut self.conduit.input, now_ms);
            let came = before - self.conduit.input.len();
            handled += came;
            self.meter.came(came, None, now_ms);
            if let Some(action) = self.stream.poll() {
                if self.act(action)? {
                    waits_for_management = false;
                    self.question.is_answered();
                }
                if handled > TURN_BYTES {
                    handled = 0;
                    self.peers.core.store.commit_soon();
                    tokio::task::yield_now().await;
                }
                continue;
            }
            handled = 0;
            if !self.conduit.settle_input() {
                self.refuse(StreamErrorCondition::ResourceConstraint, "too much at once");
                continue;
            }
            self.exchange(waits_for_management).await?;
        }
    }

    /// True when it is settled whether there is stream management, so that it has answered that.
    fn act(&mut self, action: Action) -> Result<bool, End> {
        match action {
            Action::Send(bytes) => self.conduit.say(bytes),
            Action::Stanza(stanza) => {
                let remote = Remote {
                    counts: self.is_managed,
                    lang: self.stream.lang(),
                };
                let after = receive_remote(&self.peers.core, remote, &stanza);
                self.handled = self.handled.wrapping_add(1);
                self.handled_after = self.handled_after.max(after);
                self.sending.link.handled(self.number, self.handled);
            }
            Action::SmRequest => self.owes = true,
            Action::SmAck { h } => {
                let before = self.sending.link.unacknowledged();
                if let Err((h, sent)) = self.sending.acknowledged(h, &mut self.conduit) {
                    self.stream.close_handled_count_too_high(h, sent);
                }
                // That it has no more than before is no answer that anybody could wait for.
                if self.sending.link.unacknowledged() < before {
                    self.question.is_answered();
                }
            }
            Action::SmEnabled { id, .. } => {
                self.forget_former();
                self.is_managed = true;
                self.handled = 0;
                let resumption = id.map(|id| LinkResumption { id, handled: 0 });
                self.sending.link.manage(self.number, resumption);
                return Ok(true);
            }
            Action::SmResumed { h } => {
                self.is_managed = true;
                if let Err((h, sent)) = self.sending.resumed(h) {
                    self.stream.close_handled_count_too_high(h, sent);
                }
                tracing::info!("the stream is resumed");
                return Ok(true);
            }
            Action::SmFailed { h } => {
                let had_former = self.sending.link.resumption().is_some();
                let unknown = self.sending.link.not_resumed(h);
                arrived(&self.peers.core, &unknown.done);
                returned(&self.peers.core, unknown.lost, &unanswered());
                if had_former {
                    self.question.is_answered();
                    self.handled = 0;
                    self.stream.enable();
                    return Ok(false);
                }
                return Ok(true);
            }
            Action::Closed(closed) => return Err(End::Stream(closed)),
            _ => {}
        }
        Ok(false)
    }

    /// A new stream begins: what was unacknowledged on the old one is sent again or comes back.
    fn forget_former(&self) {
        let unknown = self.sending.link.not_resumed(None);
        arrived(&self.peers.core, &unknown.done);
        returned(&self.peers.core, unknown.lost, &unanswered());
    }

    async fn exchange(&mut self, waits_for_management: bool) -> Result<(), End> {
        self.peers.core.store.commit_soon();
        self.pay();
        if !waits_for_management {
            if !self.sending.fill(&mut self.conduit) {
                self.stream.finish();
                return Ok(());
            }
            if !self.conduit.out.is_empty() {
                self.stream.moved(self.peers.now_ms());
            }
        }
        let blocked = !self.conduit.write()?;
        let written = self.conduit.out.take_written();
        if written > 0 {
            self.sending.written(written);
        }
        if blocked && self.conduit.is_ignored() {
            let text = "you read too slowly: too many replies wait to be read";
            self.refuse(StreamErrorCondition::PolicyViolation, text);
            return Ok(());
        }
        let now_ms = self.peers.now_ms();
        match waits_for_management || self.sending.is_unanswered() {
            true => self.question.stands(now_ms),
            false => self.question.is_answered(),
        }
        if self.question.is_late(now_ms) {
            return Err(End::Transport(io::ErrorKind::TimedOut.into()));
        }
        let deadline_ms = earlier(self.stream.deadline(), self.question.deadline());
        let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(now_ms));
        let pause_ms = self.meter.pause_ms(now_ms);
        let owes = self.owes;
        let owed_after = self.handled_after;
        let mut durable = self.peers.durable.clone();
        let Connection {
            conduit,
            sending,
            stream,
            peers,
            ..
        } = self;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let transport = conduit.transport.as_ref().ok_or_else(gone)?;
        let outbox = std::future::poll_fn(|context| sending.poll_ready(context));
        tokio::select! {
            readable = transport.readable(), if pause_ms == 0 => {
                readable?;
                conduit.read()?;
            }
            () = tokio::time::sleep(Duration::from_millis(pause_ms)), if pause_ms > 0 => {}
            writable = transport.writable(), if blocked => writable?,
            () = outbox, if !blocked && !waits_for_management => {}
            _ = durable.wait_for(|durable| *durable >= owed_after), if owes => {}
            () = peers.stopping.cancelled() => return Err(End::Stopping),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)), if deadline_ms.is_some() => {
                let now_ms = peers.now_ms();
                match sending.is_idle() {
                    true => stream.timeout(now_ms),
                    // Something waits for the log: the stream is in use.
                    false => stream.moved(now_ms),
                }
            }
        }
        Ok(())
    }

    /// Tells the count that was asked for, once what it counts is durable.
    fn pay(&mut self) {
        if self.owes && self.peers.core.store.durable() >= self.handled_after {
            self.owes = false;
            self.conduit.say(sm::acknowledge(self.handled));
        }
    }

    fn refuse(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.stream.close(StreamError::new(condition, text));
    }
}
