//! The outbound half of a session: what waits to be written, and what was written and waits
//! for the client's acknowledgement (XEP-0198).
//!
//! An entry may carry a *gate*: the store position that has to be durable before the entry is
//! shown to anybody (DESIGN §4, "effects held until durable"). Entries leave in order, so a gate
//! holds back everything behind it, which is what a cumulative `h` needs.
//!
//! An empty outbox owns no heap memory; an idle session costs the size of this struct.

mod entry;
mod hand;
mod pool;

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::stanza::{StreamError, StreamErrorCondition};
use crate::store::Position;

use entry::ENTRY_OVERHEAD;
pub use entry::{Cargo, Entry, Find, Wire, Wrapped, question};
pub use pool::{FAIR_BYTES, OutboxLimits, OutboxPool};

/// Why a session's stream is to be ended by the server.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With a stream error, after what is queued and not gated has been written: something did
    /// not fit in here any more, so the session ends with its stream.
    Error(StreamError),
    /// With a stream error, and the session goes with it: a resumption took its place or the
    /// account is gone. It comes behind everything that is queued, what waits for the log
    /// included: the last answer is not lost.
    Discard(StreamError),
    /// The server stops (RFC 6120 §4.9.3.20); sessions that can be resumed are kept.
    Shutdown(StreamError),
}

impl Ending {
    /// The server stops (RFC 6120 §4.9.3.20).
    pub fn server_stops() -> Ending {
        let condition = StreamErrorCondition::SystemShutdown;
        Ending::Shutdown(StreamError::new(condition, "the server stops"))
    }
}

/// Why a client is cut off that does not take what is sent to it.
pub fn too_slow() -> StreamError {
    StreamError::new(
        StreamErrorCondition::PolicyViolation,
        "you read too slowly: too much waits to be sent to you",
    )
}

/// What a push met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Queued; the connection has been woken or will be when the gate opens.
    Queued,
    /// Queued, and it is the first entry behind a gate: the caller registers the session at the
    /// gate's position.
    Gated(Position),
    /// The outbox is full: the session has been told to end with `policy-violation`.
    Overflowed,
    /// Others send so much that the rest of the room is kept for what the session has asked for:
    /// nothing was queued, and the session goes on.
    Refused,
    /// The session has ended; nothing was queued.
    Ended,
}

impl Pushed {
    /// The entry stands in the outbox.
    pub fn is_queued(self) -> bool {
        matches!(self, Pushed::Queued | Pushed::Gated(_))
    }
}

/// The queue itself; shared between whoever sends and the connection that writes.
#[derive(Debug)]
pub struct Outbox {
    pool: Arc<OutboxPool>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Entry>,
    unacknowledged: VecDeque<Entry>,
    /// Entries that the connection has taken, that no acknowledgement will tell of and that it
    /// has not written yet.
    in_hand: VecDeque<Entry>,
    /// How many of all entries are [`Cargo::Message`].
    unrecorded: usize,
    /// The session has ended while its connection had something in hand.
    leaves: bool,
    /// Stanzas acknowledged so far, modulo 2^32: the `h` the client sent last (XEP-0198 §4).
    acknowledged: u32,
    bytes: usize,
    keep_until_acknowledged: bool,
    waker: Option<Waker>,
    ending: Option<Box<Ending>>,
    /// Nothing is accepted any more: the session's end has collected what was left.
    ended: bool,
    /// The connection that may take entries; 0 while there is none.
    reader: u64,
    /// The gate that somebody was last told to wait for: one that is not open is waited for once.
    told_gate: Position,
}

/// What the connection took to write.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order they go on the wire.
    pub entries: Vec<Entry>,
    /// The outbox keeps the stanzas from this one on until they are acknowledged.
    pub kept_from: usize,
    /// The first entry left behind waits for this position, and nobody was told so before: the
    /// caller registers the session there.
    pub gate: Option<Position>,
    /// The stream is to be ended once `entries` are written.
    pub ending: Option<Ending>,
    /// The session is over, or another connection has resumed it: this one has nothing left to
    /// serve.
    pub gone: Option<Gone>,
}

/// Why a connection has nothing left to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The session is over.
    Ended,
    /// Another connection takes now.
    Replaced,
}

/// The acknowledgement was for more stanzas than were sent (XEP-0198 §4, `handled-count-too-high`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandledCountTooHigh {
    /// What the client said.
    pub h: u32,
    /// How many stanzas it was sent.
    pub sent: u32,
}

/// Why a connection does not get the session that it wants to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHandedOver {
    /// It is over, or something of it is lost already.
    Over,
    /// The client counts less than it has acknowledged before: what it misses is gone.
    Behind,
    /// The client counts more than it was sent.
    TooHigh(HandledCountTooHigh),
}

impl Outbox {
    /// An empty outbox that `reader`, a connection, takes from.
    pub fn new(pool: Arc<OutboxPool>, reader: u64) -> Outbox {
        Outbox {
            pool,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                unacknowledged: VecDeque::new(),
                in_hand: VecDeque::new(),
                unrecorded: 0,
                leaves: false,
                acknowledged: 0,
                bytes: 0,
                keep_until_acknowledged: false,
                waker: None,
                ending: None,
                ended: false,
                reader,
                told_gate: Position(0),
            }),
        }
    }

    /// An outbox as it was hibernated: `entries` are what the client had not acknowledged.
    pub fn hibernated(pool: Arc<OutboxPool>, acknowledged: u32, entries: Vec<Entry>) -> Outbox {
        let outbox = Outbox::new(pool, 0);
        {
            let mut queue = outbox.lock();
            queue.acknowledged = acknowledged;
            queue.keep_until_acknowledged = true;
            queue.bytes = entries.iter().map(Entry::weight).sum();
            outbox.pool.add(queue.bytes);
            queue.unacknowledged = entries.into();
        }
        outbox
    }

    /// Queues an entry. Only whoever holds the lock of the user's shard may push stanzas, so
    /// that the order of one user's messages is the order of their records.
    pub fn push(&self, entry: Entry, durable: Position) -> Pushed {
        let limits = &self.pool.limits;
        let mut queue = self.lock();
        if queue.ended {
            return Pushed::Ended;
        }
        let entries = queue.waiting.len() + queue.unacknowledged.len();
        let weight = entry.weight();
        if entry.is_at_will() && queue.is_crowded_by(weight, limits) {
            return Pushed::Refused;
        }
        // Nothing comes behind what is missing.
        let fits = !queue.has_hole()
            && entries < limits.entries_max
            && queue.bytes + weight <= limits.bytes_max;
        if !fits || !self.pool.take(weight, queue.bytes, queue.reader != 0) {
            queue.end_with(Ending::Error(too_slow()));
            return Pushed::Overflowed;
        }
        let gate = entry.after;
        let first = queue.waiting.is_empty();
        queue.bytes += weight;
        queue.unrecorded += usize::from(entry.is_unrecorded());
        queue.waiting.push_back(entry);
        match first {
            true if gate > durable => match queue.tell(gate) {
                Some(gate) => Pushed::Gated(gate),
                None => Pushed::Queued,
            },
            true => {
                queue.wake();
                Pushed::Queued
            }
            // Whoever queued the first one has seen to the wake-up.
            false => Pushed::Queued,
        }
    }

    /// Takes what may be written now, at most about `bytes_max` bytes of it (one entry at least).
    /// Stanzas are kept as unacknowledged where stream management is on.
    pub fn take(&self, reader: u64, durable: Position, bytes_max: usize) -> Batch {
        let mut queue = self.lock();
        let mut batch = Batch::default();
        if queue.reader != reader {
            batch.gone = Some(Gone::Replaced);
            return batch;
        }
        let mut bytes = 0;
        let mut kept_from = None;
        let mut is_gated = false;
        while let Some(front) = queue.waiting.front() {
            if front.after > durable {
                let gate = front.after;
                batch.gate = queue.tell(gate);
                is_gated = true;
                break;
            }
            bytes += front.weight();
            if bytes > bytes_max && !batch.entries.is_empty() {
                break;
            }
            if let Some(entry) = queue.waiting.pop_front() {
                if entry.cargo == Cargo::ManagementEnabled {
                    queue.keep_until_acknowledged = true;
                }
                if queue.keep_until_acknowledged {
                    kept_from.get_or_insert(batch.entries.len());
                }
                if queue.keep_until_acknowledged && entry.is_stanza() {
                    queue.unacknowledged.push_back(entry.clone());
                } else {
                    queue.bytes -= entry.weight();
                    self.pool.give_back(entry.weight());
                    if entry.matters() {
                        queue.in_hand.push_back(entry.clone());
                    }
                }
                batch.entries.push(entry);
            }
        }
        if queue.waiting.is_empty() || is_gated {
            batch.ending = queue.ending_due().cloned();
        }
        batch.kept_from = kept_from.unwrap_or(batch.entries.len());
        batch.gone = queue.ended.then_some(Gone::Ended);
        queue.give_back_memory();
        batch
    }

    /// For tests: everything, gated or not, whoever reads.
    #[cfg(test)]
    pub fn take_all(&self) -> Batch {
        let reader = self.lock().reader;
        self.take(reader, Position(u64::MAX), usize::MAX)
    }

    /// Ready when something may be written, an end was asked for, or a gate may have opened.
    pub fn poll_ready(
        &self,
        reader: u64,
        context: &mut Context<'_>,
        durable: impl Fn() -> Position,
    ) -> Poll<()> {
        let mut queue = self.lock();
        if queue.reader != reader {
            return Poll::Ready(());
        }
        // Read under the lock: a gate that opens later finds the waker.
        let durable = durable();
        let writable = queue.waiting.front().is_some_and(|e| e.after <= durable);
        if writable || queue.ending_due().is_some() || queue.ended {
            return Poll::Ready(());
        }
        queue.watch(context);
        Poll::Pending
    }

    /// Ready when there is a reason for `reader` to stop, also while its socket takes nothing.
    pub fn poll_end(&self, reader: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if queue.reader != reader || queue.ending.is_some() || queue.ended {
            return Poll::Ready(());
        }
        queue.watch(context);
        Poll::Pending
    }

    /// Why the stream is to be ended, and whether somebody else serves the session or nobody.
    pub fn end_for(&self, reader: u64) -> (Option<Ending>, Option<Gone>) {
        let queue = self.lock();
        let gone = match queue.reader == reader {
            true => queue.ended.then_some(Gone::Ended),
            false => Some(Gone::Replaced),
        };
        (queue.ending.as_deref().cloned(), gone)
    }

    /// Wakes the connection: a gate has opened.
    pub fn wake(&self) {
        self.lock().wake();
    }

    /// Asks the connection to end the stream. The first reason stands.
    pub fn end(&self, ending: Ending) {
        self.lock().end_with(ending);
    }

    /// The client has told `reader` that it has handled `h` stanzas (modulo 2^32): they leave the
    /// queue and are returned. What a connection that was replaced is told counts for nothing.
    pub fn acknowledge(&self, reader: u64, h: u32) -> Result<Vec<Entry>, HandledCountTooHigh> {
        let mut queue = self.lock();
        if queue.reader != reader {
            return Ok(Vec::new());
        }
        let done = queue.acknowledge(h)?;
        self.release(&mut queue, &done);
        Ok(done)
    }

    /// The client has answered a request that was written to it: its sender is not told that there
    /// is no answer if the request itself is never acknowledged.
    pub fn answered(&self, question: u64) {
        let mut queue = self.lock();
        let asked = Cargo::Request(question);
        let mut written = queue.unacknowledged.iter_mut();
        if let Some(entry) = written.find(|entry| entry.cargo == asked) {
            entry.cargo = Cargo::Transient;
        }
    }

    /// `reader`, a new connection, resumes the session for a client that has handled `h` stanzas:
    /// those are returned. The connection before gets nothing from now on, and why its stream was
    /// to end does not concern the new one. What may be taken follows with [`Outbox::rewind`].
    pub fn hand_over(&self, reader: u64, h: u32) -> Result<Vec<Entry>, NotHandedOver> {
        let mut queue = self.lock();
        if !queue.can_be_resumed() {
            return Err(NotHandedOver::Over);
        }
        if queue.is_behind(h) {
            return Err(NotHandedOver::Behind);
        }
        let done = queue.acknowledge(h).map_err(NotHandedOver::TooHigh)?;
        self.release(&mut queue, &done);
        queue.reader = reader;
        queue.ending = None;
        queue.wake();
        Ok(done)
    }

    /// What was not acknowledged is written again to `reader`, before everything that has been
    /// queued since. False if it has the session no more: another connection was handed it
    /// meanwhile, or it is over.
    pub fn rewind(&self, reader: u64) -> bool {
        let mut queue = self.lock();
        if queue.reader != reader || queue.ended {
            return false;
        }
        let mut again = mem::take(&mut queue.unacknowledged);
        again.append(&mut queue.waiting);
        // What is no stanza was said to the old connection: its counts are out of date.
        again.retain(Entry::is_stanza);
        queue.keep_until_acknowledged = true;
        let bytes = again.iter().map(Entry::weight).sum::<usize>();
        self.pool.give_back(queue.bytes.saturating_sub(bytes));
        queue.bytes = bytes;
        queue.waiting = again;
        queue.wake();
        true
    }

    /// The connection is gone and its session waits for a resumption: nothing wakes it any more,
    /// and that the server stops does not concern the next. False if it can't be resumed.
    pub fn detach(&self, reader: u64) -> bool {
        let mut queue = self.lock();
        if queue.reader != reader || !queue.can_be_resumed() {
            return false;
        }
        queue.reader = 0;
        queue.waker = None;
        queue.ending = None;
        true
    }

    /// Whether a client that comes back would find everything: not when the session was told to
    /// end with all it has, nor when something did not fit in here and is missing.
    pub fn can_be_resumed(&self) -> bool {
        self.lock().can_be_resumed()
    }

    /// What the next entry waits for.
    pub fn gate(&self) -> Option<Position> {
        self.lock().waiting.front().map(|entry| entry.after)
    }

    /// How many more entries may be queued without crowding out others: half of what there is
    /// room for in all.
    pub fn room(&self) -> usize {
        let queue = self.lock();
        let limits = &self.pool.limits;
        let entries = queue.waiting.len() + queue.unacknowledged.len();
        let by_entries = (limits.entries_max / 2).saturating_sub(entries);
        let by_bytes = (limits.bytes_max / 2).saturating_sub(queue.bytes) / ENTRY_OVERHEAD;
        by_entries.min(by_bytes)
    }

    /// How many bytes it holds that others could need more: all of them while nobody is there to
    /// read, or more than its fair share.
    pub fn dispensable_bytes(&self) -> usize {
        let queue = self.lock();
        match queue.reader != 0 && queue.bytes <= FAIR_BYTES {
            true => 0,
            false => queue.bytes,
        }
    }

    /// How many entries wait to be written.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How many stanzas were written and not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.lock().unacknowledged.len()
    }

    /// The client's last `h`.
    pub fn acknowledged(&self) -> u32 {
        self.lock().acknowledged
    }

    /// Ends the outbox: everything in it is returned, unacknowledged first, and nothing is
    /// accepted from now on. What its connection has in hand stays there.
    pub fn finish(&self) -> Vec<Entry> {
        let mut queue = self.lock();
        queue.ended = true;
        queue.leaves = !queue.in_hand.is_empty();
        self.pool.give_back(mem::take(&mut queue.bytes));
        queue.wake();
        let mut left = mem::take(&mut queue.unacknowledged);
        left.append(&mut queue.waiting);
        left.into_iter().filter(Entry::is_stanza).collect()
    }

    /// These have left the queue.
    fn release(&self, queue: &mut Queue, gone: &[Entry]) {
        let bytes = gone.iter().map(Entry::weight).sum::<usize>();
        queue.bytes -= bytes;
        queue.forget_unrecorded(gone);
        self.pool.give_back(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics while it holds the lock; a queue is whole at every point.
        self.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let left = mem::take(&mut self.lock().bytes);
        self.pool.give_back(left);
    }
}

impl Queue {
    /// Whether an entry that somebody sends at will would reach into the last quarter of the room.
    /// So nobody else can end a session: only answers to its own requests, and what its owner's
    /// roster brings, fill that.
    fn is_crowded_by(&self, weight: usize, limits: &OutboxLimits) -> bool {
        let three_quarters = |all: usize| all - all / 4;
        self.waiting.len() + self.unacknowledged.len() >= three_quarters(limits.entries_max)
            || self.bytes + weight > three_quarters(limits.bytes_max)
    }

    /// Why the stream is to end now, once what may be written is.
    fn ending_due(&self) -> Option<&Ending> {
        match self.ending.as_deref()? {
            Ending::Discard(_) if !self.waiting.is_empty() => None,
            ending => Some(ending),
        }
    }

    /// The gate, unless somebody waits for it already.
    fn tell(&mut self, gate: Position) -> Option<Position> {
        let is_news = self.told_gate != gate;
        self.told_gate = gate;
        is_news.then_some(gate)
    }

    fn can_be_resumed(&self) -> bool {
        let is_told = matches!(self.ending.as_deref(), Some(Ending::Discard(_)));
        !self.ended && !is_told && !self.has_hole()
    }

    /// Something did not fit in here and is missing.
    fn has_hole(&self) -> bool {
        matches!(self.ending.as_deref(), Some(Ending::Error(_)))
    }

    /// Whether `h` is a count from before the last one: by the shorter way around, as it wraps.
    fn is_behind(&self, h: u32) -> bool {
        h != self.acknowledged && self.acknowledged.wrapping_sub(h) <= u32::MAX / 2
    }

    fn acknowledge(&mut self, h: u32) -> Result<Vec<Entry>, HandledCountTooHigh> {
        // A count never goes back: one from before tells nothing new.
        if self.is_behind(h) {
            return Ok(Vec::new());
        }
        let newly = h.wrapping_sub(self.acknowledged) as usize;
        if newly > self.unacknowledged.len() {
            let sent = self
                .acknowledged
                .wrapping_add(self.unacknowledged.len() as u32);
            return Err(HandledCountTooHigh { h, sent });
        }
        self.acknowledged = h;
        let done = self.unacknowledged.drain(..newly).collect();
        self.give_back_memory();
        Ok(done)
    }

    fn end_with(&mut self, ending: Ending) {
        if self.ending.is_none() && !self.ended {
            self.ending = Some(Box::new(ending));
        }
        self.wake();
    }

    fn watch(&mut self, context: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => self.waker = Some(context.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn give_back_memory(&mut self) {
        let queues = [
            &mut self.waiting,
            &mut self.unacknowledged,
            &mut self.in_hand,
        ];
        for queue in queues {
            if queue.is_empty() && queue.capacity() > 0 {
                *queue = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests;
