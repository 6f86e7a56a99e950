//! The connection that we make for a link: it stands while there is something to send, and a
//! while longer.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use crate::net::conn::guarded;
use crate::router::{Left, Remote, RemoteLink, Tally, arrived, receive_remote, returned};
use crate::stanza::{StanzaError, StreamError, StreamErrorCondition};
use crate::stream::s2s::{Action, Outgoing, Purpose};
use crate::stream::{Closed, sm};

use super::Peers;
use super::conduit::Conduit;
use super::connect::{Opened, clock, open};
use super::pace::Meter;
use super::question::{Question, earlier};
use super::sending::{Filled, Sending, give_back, return_all, unanswered};
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
    let number = peers.core.next_number();
    let course = Box::pin(see_to(peers.clone(), link.clone(), number).instrument(span));
    if guarded(pin!(course)).await.is_none() {
        tracing::error!(remote = %link.pair.remote, "a connection to another server has panicked");
        give_back(&peers, &link, number).await;
    }
    drop(alive);
}

/// Its connections, one after the other, have this number.
async fn see_to(peers: Arc<Peers>, link: Arc<RemoteLink>, number: u64) {
    let mut former: Option<Former> = None;
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
                // What another connection has lost is its own to resume.
                let is_anothers = former.is_none() && link.unacknowledged() > 0;
                let begun = || Sending::begin(&peers.core, link.clone(), number);
                let Some(sending) = (!is_anothers).then(begun).flatten() else {
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
                    is_bidirectional,
                    former: former.take(),
                    managed: None,
                    has_moved: false,
                    owes: false,
                    question: Question::none(peers.streams.answer_ms),
                    meter,
                };
                let left;
                (left, former) = Box::pin(connection.serve(may_manage)).await;
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
    is_bidirectional: bool,
    /// The stream that was lost, until it is known whether it is resumed.
    former: Option<Former>,
    /// What is counted, with XEP-0198.
    managed: Option<Managed>,
    /// A stanza has gone or come on this connection.
    has_moved: bool,
    /// The peer has asked for the count.
    owes: bool,
    /// What we have asked it.
    question: Question,
    /// How fast it may send, where it does (XEP-0288).
    meter: Meter,
}

/// A stream that is managed: what it counts, and what resumes it, if it can be (XEP-0198 §5).
struct Managed {
    id: Option<String>,
    tally: Tally,
}

/// A stream that was lost and can be resumed.
struct Former {
    id: String,
    tally: Tally,
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
    async fn serve(mut self, may_manage: bool) -> (Left, Option<Former>) {
        let end = match self.run(may_manage).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        let in_order = match &end {
            End::Stream(closed) => {
                tracing::info!(?closed, "the stream to the other server has ended");
                if *closed == Closed::PeerError {
                    self.sending.blame(true);
                }
                true
            }
            End::Transport(error) => {
                tracing::info!(why = %error, "the connection to the other server was lost");
                false
            }
            End::Stopping => {
                // XEP-0198 §4: the peer is told what was handled, lest it send it again.
                self.owes = true;
                self.pay();
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
        let now_ms = self.peers.now_ms();
        if in_order {
            return (self.sending.end(true, now_ms), None);
        }
        let has_begun = self.managed.is_some();
        let former = match self.managed {
            Some(Managed { id, tally }) => id.map(|id| Former { id, tally }),
            None => self.former,
        };
        let can_resume = former.is_some();
        let may_miss = self.has_moved || !has_begun;
        let is_owed = can_resume && self.is_bidirectional && may_miss;
        let left = match self.sending.is_idle() && is_owed {
            true => self.sending.link.lost_owed(self.number, now_ms),
            // What can't be resumed is over.
            false => self.sending.end(!can_resume, now_ms),
        };
        (left, former)
    }

    /// A stream that was lost is resumed, or management begins anew (XEP-0198). The count that is told
    /// is durable.
    async fn begin_management(&mut self) -> Result<(), End> {
        let Some(former) = &self.former else {
            self.stream.enable();
            return Ok(());
        };
        let (after, handled) = (former.tally.after(), former.tally.handled());
        self.peers.core.store.commit_soon();
        let mut durable = self.peers.durable.clone();
        tokio::select! {
            _ = durable.wait_for(|durable| *durable >= after) => {}
            () = self.peers.stopping.cancelled() => return Err(End::Stopping),
        }
        self.stream.resume(&former.id, handled);
        Ok(())
    }

    async fn run(
        &mut self,
        mut waits_for_management: bool,
    ) -> Result<std::convert::Infallible, End> {
        match waits_for_management {
            true => self.begin_management().await?,
            false => self.forget_former(0),
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
                    counts: self.managed.is_some(),
                    lang: self.stream.lang(),
                };
                let after = receive_remote(&self.peers.core, remote, &stanza);
                self.has_moved = true;
                self.sending.link.heard(self.number);
                // The peer counts what it sends once it has said that it does.
                if let Some(managed) = &mut self.managed {
                    managed.tally.handle(after);
                }
            }
            Action::SmRequest => self.owes = true,
            Action::SmAck { h } => self.acknowledged(h),
            Action::SmEnabled { id, .. } => {
                self.forget_former(0);
                let tally = Tally::default();
                self.managed = Some(Managed { id, tally });
                return Ok(true);
            }
            Action::SmResumed { h } => {
                self.resumed(h);
                return Ok(true);
            }
            Action::SmFailed { h } => {
                let had_former = self.former.is_some();
                self.forget_former(h.unwrap_or(0));
                if had_former {
                    self.question.is_answered();
                    self.stream.enable();
                }
                return Ok(!had_former);
            }
            Action::Closed(closed) => return Err(End::Stream(closed)),
            _ => {}
        }
        Ok(false)
    }

    fn acknowledged(&mut self, h: u32) {
        let Some(managed) = &mut self.managed else {
            return;
        };
        match managed.tally.acknowledge(self.number, h) {
            Ok(done) => {
                // That it has no more than before is no answer that anybody could wait for.
                if !done.is_empty() {
                    self.question.is_answered();
                }
                arrived(&self.peers.core, &done);
            }
            Err(wrong) => self
                .stream
                .close_handled_count_too_high(wrong.h, wrong.sent),
        }
    }

    fn resumed(&mut self, h: u32) {
        // What nobody has asked for resumes nothing.
        let Some(Former { id, mut tally }) = self.former.take() else {
            let text = "no stream was to be resumed";
            return self.refuse(StreamErrorCondition::InvalidXml, text);
        };
        match tally.resumed(self.number, h) {
            Ok(done) => arrived(&self.peers.core, &done),
            Err(wrong) => self
                .stream
                .close_handled_count_too_high(wrong.h, wrong.sent),
        }
        tracing::info!("the stream is resumed");
        let id = Some(id);
        self.managed = Some(Managed { id, tally });
    }

    /// A new stream begins. What was unacknowledged on the old one, of which the peer has `h`, is sent
    /// again or comes back.
    fn forget_former(&mut self, h: u32) {
        let former = self.former.take();
        let newly = former.and_then(|former| former.tally.newly(h).ok());
        let unknown = self.sending.link.not_resumed(newly.unwrap_or(0) as usize);
        arrived(&self.peers.core, &unknown.done);
        returned(&self.peers.core, unknown.lost, &unanswered());
    }

    async fn exchange(&mut self, waits_for_management: bool) -> Result<(), End> {
        self.peers.core.store.commit_soon();
        self.pay();
        if !waits_for_management {
            let mut tally = self.managed.as_mut().map(|managed| &mut managed.tally);
            match self.sending.fill(&mut self.conduit, tally.as_deref_mut()) {
                Filled::Some => self.has_moved = true,
                Filled::Nothing => {}
                Filled::Replaced => {
                    self.stream.finish();
                    return Ok(());
                }
            }
            if tally.is_some_and(Tally::asks) {
                self.conduit.say(sm::request());
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
        let tally = self.managed.as_ref().map(|managed| &managed.tally);
        let owed_after = tally.map(Tally::after);
        let owes = self.owes && owed_after.is_some();
        match waits_for_management || tally.is_some_and(Tally::is_unanswered) {
            true => self.question.stands(now_ms),
            false => self.question.is_answered(),
        }
        if self.question.is_late(now_ms) {
            return Err(End::Transport(io::ErrorKind::TimedOut.into()));
        }
        let deadline_ms = earlier(self.stream.deadline(), self.question.deadline());
        let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(now_ms));
        let pause_ms = self.meter.pause_ms(now_ms);
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
            _ = durable.wait_for(|durable| Some(*durable) >= owed_after), if owes => {}
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
        if pause_ms > 0 {
            self.question
                .paused(self.peers.now_ms().saturating_sub(now_ms));
        }
        Ok(())
    }

    /// Tells the count that was asked for, once what it counts is durable.
    fn pay(&mut self) {
        let Some(Managed { tally, .. }) = &self.managed else {
            return;
        };
        if self.owes && self.peers.core.store.durable() >= tally.after() {
            self.owes = false;
            self.conduit.say(sm::acknowledge(tally.handled()));
        }
    }

    fn refuse(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.stream.close(StreamError::new(condition, text));
    }
}
