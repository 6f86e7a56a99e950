//! What is on its way from one of our domains to one of another server's, and how far the stream
//! there has come. A state machine: who connects, writes and waits is the shell.

mod stuck;
mod unacknowledged;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::stanza::StanzaError;
use crate::store::Position;
use crate::stream::s2s::Pair;

use super::asker::{Asker, Room};
use super::parcel::Parcel;

pub use unacknowledged::NotResumed;

/// How long a stream that was lost is looked for again before what waits for it comes back.
pub const PATIENCE_MS: u64 = 60_000;

/// Streams in a row that may be lost before anything was taken, as on a bad line; from then on
/// patience is for all of them together.
pub(super) const FRUITLESS_MAX: u32 = 3;

/// A peer that may have something for us is called again after so long.
const OWED_PAUSE_MS: u64 = 500;

/// The rest after a first failure; it doubles with each further one.
const REST_MS: u64 = 5_000;
/// The longest rest.
const REST_MS_MAX: u64 = 300_000;

/// What may wait for one pair: many people here talk to many there, so it is more than for one
/// session, and never more than a part of what all of them share.
fn bytes_max(room: &Room) -> usize {
    (room.bytes_max() / 3).min(BYTES_MAX)
}

/// At the most.
const BYTES_MAX: usize = 8 << 20;

/// Who waits for a connection, as far as it is remembered: each may be let connect when the others
/// may not.
const ASKERS_MAX: usize = 8;

/// The way between two domains.
#[derive(Debug)]
pub struct Link {
    /// Which.
    pub pair: Pair,
    /// For the order of those who wait for the log.
    pub number: u64,
    room: Arc<Room>,
    queue: Mutex<Queue>,
    /// Somebody else waits for a connection.
    more_askers: Notify,
}

#[derive(Debug)]
struct Queue {
    phase: Phase,
    waiting: VecDeque<Parcel>,
    /// Sent on a stream with XEP-0198 and not acknowledged. All of one stream, which counts them
    /// among those of its other links ([`Tally`](super::Tally)).
    unacknowledged: VecDeque<Parcel>,
    bytes: usize,
    /// A connection is looked for although nothing waits here: the peer may have something.
    is_owed: bool,
    /// Until when a stream that was lost is looked for again.
    patient_until_ms: Option<u64>,
    failures: u32,
    /// Streams that were lost since the peer has last taken anything.
    fruitless: u32,
    /// Streams that the peer has ended with an error since then, while something was on its way.
    errors: u32,
    /// So many at the front may be what it ends them for: they go one by one.
    suspects: usize,
    /// On whose behalf a connection is made.
    askers: Vec<Asker>,
    waker: Option<Waker>,
    told_gate: Position,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Nobody is connected and nothing waits.
    Idle,
    /// The shell connects.
    Connecting,
    /// A connection, by its number, takes what waits.
    Up(u64),
    /// This connection was lost, and the peer may resume its stream: until then, or until that is
    /// given up, nobody knows what of the unacknowledged it has.
    Awaited(u64),
    /// The last attempt has failed: what comes now comes back at once.
    Resting { until_ms: u64, error: StanzaError },
}

/// What a parcel met.
#[derive(Debug)]
pub enum Posted {
    /// It waits for the stream.
    Queued,
    /// It waits, the first behind this gate: the caller sees to the wake-up.
    Gated(Position),
    /// It waits, and the shell has to connect.
    Connect,
    /// It was not taken.
    Refused(StanzaError),
}

/// What a connection that goes leaves to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Connect again: something waits or may have been lost.
    Reconnect,
}

impl Link {
    /// Nothing has been sent yet.
    pub fn new(pair: Pair, number: u64, room: Arc<Room>) -> Link {
        Link {
            pair,
            number,
            room,
            more_askers: Notify::new(),
            queue: Mutex::new(Queue {
                phase: Phase::Idle,
                waiting: VecDeque::new(),
                unacknowledged: VecDeque::new(),
                bytes: 0,
                is_owed: false,
                patient_until_ms: None,
                failures: 0,
                fruitless: 0,
                errors: 0,
                suspects: 0,
                askers: Vec::new(),
                waker: None,
                told_gate: Position(0),
            }),
        }
    }

    /// Takes a parcel, behind those that wait.
    pub fn post(&self, mut parcel: Parcel, durable: Position, now_ms: u64) -> Posted {
        let mut queue = self.lock();
        if let Phase::Resting { until_ms, error } = &queue.phase {
            match *until_ms > now_ms {
                true => return Posted::Refused(error.clone()),
                false => queue.phase = Phase::Idle,
            }
        }
        let weight = parcel.weight();
        // One alone may be as big as it likes, as far as there is room at all.
        let fits = queue.bytes == 0 || queue.bytes + weight <= bytes_max(&self.room);
        if !fits {
            return Posted::Refused(StanzaError::resource_constraint(format!(
                "too much waits for {} already: try again later",
                self.pair.remote
            )));
        }
        let Some(share) = self.room.take(parcel.asker, weight) else {
            return Posted::Refused(StanzaError::resource_constraint(
                "too much of what you send waits for other servers already: try again later",
            ));
        };
        parcel.share = Some(Arc::new(share));
        queue.bytes += weight;
        if !matches!(queue.phase, Phase::Up(_)) && queue.is_asked_by(parcel.asker) {
            self.more_askers.notify_one();
        }
        let gate = parcel.after;
        let is_first = queue.waiting.is_empty();
        queue.waiting.push_back(parcel);
        match queue.phase {
            Phase::Idle => {
                queue.phase = Phase::Connecting;
                Posted::Connect
            }
            Phase::Up(_) if is_first && gate > durable => queue.gated(gate),
            Phase::Up(_) if is_first => {
                queue.wake();
                Posted::Queued
            }
            _ => Posted::Queued,
        }
    }

    /// A connection stands that may send. False when another one does so already, or a lost one may
    /// be resumed.
    pub fn up(&self, reader: u64) -> bool {
        let mut queue = self.lock();
        match queue.phase {
            Phase::Up(_) | Phase::Awaited(_) => false,
            Phase::Idle | Phase::Connecting | Phase::Resting { .. } => {
                queue.up(reader);
                true
            }
        }
    }

    /// The peer has come by itself, on a connection that may send too (XEP-0288). False also where
    /// the stream on which something is unacknowledged is looked for: that one alone tells what the
    /// peer has of it.
    pub fn answer(&self, reader: u64) -> bool {
        self.unacknowledged() == 0 && self.up(reader)
    }

    /// Whether this connection is the one that sends.
    pub fn is_served_by(&self, reader: u64) -> bool {
        matches!(self.lock().phase, Phase::Up(current) if current == reader)
    }

    /// Whether any connection sends.
    pub fn is_up(&self) -> bool {
        matches!(self.lock().phase, Phase::Up(_))
    }

    /// Takes what may be written now, at most about `bytes_max` bytes (one parcel at least).
    pub fn take(&self, reader: u64, durable: Position, bytes_max: usize) -> Taken {
        self.take_some(reader, durable, bytes_max, false)
    }

    /// The same, and keeps it until it is settled: for [`Tally::take`](super::Tally::take).
    pub(super) fn take_unacknowledged(
        &self,
        reader: u64,
        durable: Position,
        bytes_max: usize,
    ) -> Taken {
        self.take_some(reader, durable, bytes_max, true)
    }

    fn take_some(&self, reader: u64, durable: Position, bytes_max: usize, keep: bool) -> Taken {
        let mut queue = self.lock();
        let mut taken = Taken::default();
        if !queue.phase_is(reader) {
            taken.is_replaced = true;
            return taken;
        }
        let mut bytes = 0;
        let is_full = queue.is_window_full();
        while let Some(front) = queue.waiting.front() {
            if is_full || queue.is_held_back(taken.parcels.len()) {
                break;
            }
            if front.after > durable {
                let gate = front.after;
                taken.gate = queue.tell(gate);
                break;
            }
            bytes += front.weight();
            if bytes > bytes_max && !taken.parcels.is_empty() {
                break;
            }
            let Some(parcel) = queue.waiting.pop_front() else {
                break;
            };
            if keep {
                queue.unacknowledged.push_back(parcel.clone());
            } else {
                queue.bytes -= parcel.weight();
            }
            taken.parcels.push(parcel);
        }
        queue.give_back_memory();
        taken
    }

    /// Ready when something may be written or another connection has taken over.
    pub fn poll_ready(
        &self,
        reader: u64,
        context: &mut Context<'_>,
        durable: impl Fn() -> Position,
    ) -> Poll<()> {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            return Poll::Ready(());
        }
        // Read under the lock: a gate that opens later finds the waker.
        let durable = durable();
        let is_open = |first: &Parcel| first.after <= durable;
        let may_take = !queue.is_held_back(0) && !queue.is_window_full();
        if queue.waiting.front().is_some_and(is_open) && may_take {
            return Poll::Ready(());
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Something is with the peer, as far as anybody will ever know without XEP-0198.
    pub fn sent(&self, reader: u64) {
        let mut queue = self.lock();
        if queue.phase_is(reader) {
            queue.moves_on();
        }
    }

    /// How many stanzas were sent and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.lock().unacknowledged.len()
    }

    /// Whether nothing waits and nothing is unacknowledged.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The connection is gone. What it had taken and not written (`in_hand`, without XEP-0198)
    /// goes back to the front.
    pub fn lost(&self, reader: u64, in_hand: Vec<Parcel>, now_ms: u64) -> Left {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            drop(queue);
            // Another connection serves the link: it sends them.
            return self.give_back(in_hand);
        }
        let weight: usize = in_hand.iter().map(Parcel::weight).sum();
        queue.bytes += weight;
        queue.put_in_front(in_hand.into());
        if queue.is_empty() {
            queue.phase = Phase::Idle;
            queue.suspects = 0;
            queue.moves_on();
            return Left::Nothing;
        }
        queue.phase = Phase::Connecting;
        queue.is_asked_by_all();
        queue.fruitless = queue.fruitless.saturating_add(1);
        let until_ms = now_ms.saturating_add(PATIENCE_MS);
        queue.patient_until_ms.get_or_insert(until_ms);
        Left::Reconnect
    }

    /// The stream has ended in order: what may not have been handled is sent on another one.
    pub fn ended(&self, reader: u64, in_hand: Vec<Parcel>, now_ms: u64) -> (Left, NotResumed) {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            drop(queue);
            return (self.give_back(in_hand), NotResumed::default());
        }
        let unknown = queue.not_resumed(0);
        drop(queue);
        (self.lost(reader, in_hand, now_ms), unknown)
    }

    /// What a connection had taken and not written stands in front again.
    pub fn put_back(&self, in_hand: Vec<Parcel>) {
        let mut queue = self.lock();
        let weight: usize = in_hand.iter().map(Parcel::weight).sum();
        queue.bytes += weight;
        queue.put_in_front(in_hand.into());
    }

    fn give_back(&self, in_hand: Vec<Parcel>) -> Left {
        if in_hand.is_empty() {
            return Left::Nothing;
        }
        let mut queue = self.lock();
        let weight: usize = in_hand.iter().map(Parcel::weight).sum();
        queue.bytes += weight;
        queue.put_in_front(in_hand.into());
        if matches!(queue.phase, Phase::Idle | Phase::Resting { .. }) {
            queue.phase = Phase::Connecting;
            queue.is_asked_by_all();
            return Left::Reconnect;
        }
        queue.wake();
        Left::Nothing
    }

    /// A connection was lost while something waits. `Some` is when to connect again: at once, unless
    /// the one before has brought nothing over either; `None` that it is over, as with
    /// [`Link::try_again_at`]. A peer that ends every stream, or a stanza that it ends each one for,
    /// is not to keep both servers busy for ever.
    pub fn reconnect_at(&self, now_ms: u64) -> Option<u64> {
        let queue = self.lock();
        if queue.fruitless <= 1 {
            return Some(now_ms + if queue.is_owed { OWED_PAUSE_MS } else { 0 });
        }
        let patient = queue.patient_until_ms;
        let until_ms = patient.filter(|until_ms| *until_ms > now_ms)?;
        let pause_ms = 500u64 << queue.fruitless.min(5);
        Some((now_ms + pause_ms).min(until_ms))
    }

    /// Connecting has failed. `Some` is when to try again, for a stream that was lost a moment
    /// ago; `None` that it is over: see [`Link::give_up`].
    pub fn try_again_at(&self, now_ms: u64) -> Option<u64> {
        let mut queue = self.lock();
        if queue.is_owed && !queue.waiting.is_empty() {
            return None;
        }
        let until_ms = queue
            .patient_until_ms
            .filter(|until_ms| *until_ms > now_ms)?;
        queue.failures += 1;
        let pause_ms = 500u64 << queue.failures.min(5);
        Some((now_ms + pause_ms).min(until_ms))
    }

    /// Nothing can be reached: everything comes back, for the same reason as all that comes in the
    /// next while.
    pub fn give_up(&self, error: &StanzaError, now_ms: u64) -> Vec<Parcel> {
        let mut queue = self.lock();
        if matches!(queue.phase, Phase::Up(_) | Phase::Awaited(_)) {
            return Vec::new();
        }
        if queue.is_owed {
            // A peer that had something for us was looked for: nothing of ours has failed till now.
            queue.failures = 0;
            if queue.is_empty() {
                queue.phase = Phase::Idle;
                return queue.empty();
            }
        }
        queue.failures = queue.failures.saturating_add(1);
        let rest_ms = REST_MS << (queue.failures - 1).min(6);
        queue.phase = Phase::Resting {
            until_ms: now_ms.saturating_add(rest_ms.min(REST_MS_MAX)),
            error: error.clone(),
        };
        queue.empty()
    }

    /// The other server has come by itself: it can be reached again.
    pub fn end_rest(&self) {
        let mut queue = self.lock();
        if let Phase::Resting { .. } = queue.phase {
            queue.phase = Phase::Idle;
            queue.failures = 0;
        }
    }

    /// Whether nobody needs it any more at this moment.
    pub fn is_forgettable(&self, now_ms: u64) -> bool {
        match self.lock().phase {
            Phase::Idle => true,
            Phase::Resting { until_ms, .. } => until_ms <= now_ms,
            Phase::Connecting | Phase::Up(_) | Phase::Awaited(_) => false,
        }
    }

    /// The log has come further.
    pub fn wake(&self) {
        self.lock().wake();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection took to write.
#[derive(Debug, Default)]
pub struct Taken {
    /// In their order.
    pub parcels: Vec<Parcel>,
    /// The first one left waits for this position, and nobody was told so before.
    pub gate: Option<Position>,
    /// Another connection sends now.
    pub is_replaced: bool,
}

impl Queue {
    fn phase_is(&self, reader: u64) -> bool {
        matches!(self.phase, Phase::Up(current) | Phase::Awaited(current) if current == reader)
    }

    fn up(&mut self, reader: u64) {
        self.phase = Phase::Up(reader);
        self.is_owed = false;
        self.askers = Vec::new();
        if self.fruitless <= FRUITLESS_MAX {
            self.patient_until_ms = None;
        }
        self.told_gate = Position(0);
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unacknowledged.is_empty()
    }

    /// The peer takes what is sent: a loss from now on is a new one.
    fn moves_on(&mut self) {
        self.failures = 0;
        self.fruitless = 0;
        self.errors = 0;
        self.patient_until_ms = None;
    }

    fn put_in_front(&mut self, mut parcels: VecDeque<Parcel>) {
        parcels.append(&mut self.waiting);
        self.waiting = parcels;
        self.wake();
    }

    fn gated(&mut self, gate: Position) -> Posted {
        match self.tell(gate) {
            Some(gate) => Posted::Gated(gate),
            None => Posted::Queued,
        }
    }

    /// A gate is waited for once.
    fn tell(&mut self, gate: Position) -> Option<Position> {
        (self.told_gate != gate).then(|| {
            self.told_gate = gate;
            gate
        })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn give_back_memory(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if self.unacknowledged.is_empty() {
            self.unacknowledged = VecDeque::new();
        }
    }
}
