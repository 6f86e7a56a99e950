//! What waits and does not go its way: it is blamed for the end of streams, put off, cut off, or
//! left to the log. And on whose behalf a connection is made.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll};

use super::{ASKERS_MAX, Link, Phase, Queue, REST_MS, bytes_max};
use crate::router::remote::asker::Asker;
use crate::router::remote::parcel::{Freight, Parcel};
use crate::stanza::StanzaError;

/// Streams in a row that the peer ends with an error before what was on its way is sent one by one.
const ERRORS_MAX: u32 = 2;

/// What may be on its way and not acknowledged. The peer is asked behind it what it has, and has a
/// minute to say so: a way that carries some 20 KB a second is fast enough for that.
const WINDOW_BYTES: usize = 1 << 20;

/// What no log has when the server stops, each in its order.
#[derive(Debug, Default)]
pub struct Unrecorded {
    /// Nobody knows whether these have arrived.
    pub unknown: Vec<Parcel>,
    /// These have not.
    pub waiting: Vec<Parcel>,
}

impl Link {
    /// The peer has ended the stream with an error. Once that has happened twice while something
    /// was on its way, what was is sent again one by one; the one that was alone then is what the
    /// peer ends its streams for: it goes no further, and holds up nobody else's.
    ///
    /// `is_alone` says that nothing of another link was on its way on the stream.
    pub fn blame(&self, reader: u64, is_alone: bool) -> Option<Parcel> {
        let mut queue = self.lock();
        if !queue.phase_is(reader) || queue.unacknowledged.is_empty() {
            return None;
        }
        if is_alone && queue.suspects > 0 && queue.unacknowledged.len() == 1 {
            let culprit = queue.unacknowledged.pop_front()?;
            queue.bytes -= culprit.weight();
            // Others may be as bad: each of them has its own two streams.
            queue.errors = 0;
            queue.suspects = 0;
            return Some(culprit);
        }
        queue.errors = queue.errors.saturating_add(1);
        if queue.errors >= ERRORS_MAX {
            queue.suspects = queue.unacknowledged.len();
        }
        None
    }

    /// This server has no turn for it: everything comes back, and what comes next may try anew.
    /// That is no failure of the other server's.
    pub fn put_off(&self) -> Vec<Parcel> {
        let mut queue = self.lock();
        if matches!(queue.phase, Phase::Up(_) | Phase::Awaited(_)) {
            return Vec::new();
        }
        queue.phase = Phase::Idle;
        queue.empty()
    }

    /// Whether nobody connects or sends, and nothing waits.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.lock().phase, Phase::Idle | Phase::Resting { .. })
    }

    /// Whether so much waits that whoever is to take it does not: half of what may.
    pub fn is_heavy(&self) -> bool {
        self.lock().bytes > bytes_max(&self.room) / 2
    }

    /// Takes the link from the connection that sends on it: it finds itself replaced, and gives up
    /// what waits. What comes meanwhile is refused with this error.
    pub fn cut_off(&self, error: &StanzaError, now_ms: u64) {
        let mut queue = self.lock();
        if matches!(queue.phase, Phase::Up(_)) {
            queue.phase = Phase::Resting {
                until_ms: now_ms.saturating_add(REST_MS),
                error: error.clone(),
            };
            queue.wake();
        }
    }

    /// Ready when this connection does not send any more.
    pub fn poll_replaced(&self, reader: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            return Poll::Ready(());
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Gives up what stands in no log: what waits, and what was sent and is not acknowledged. Nobody
    /// connects any more.
    pub fn leave_to_the_log(&self) -> Unrecorded {
        let mut queue = self.lock();
        let unrecorded = |parcels: &mut VecDeque<Parcel>| -> Vec<Parcel> {
            let is_recorded = |parcel: &Parcel| matches!(parcel.freight, Freight::Recorded(..));
            let (recorded, back): (Vec<_>, Vec<_>) =
                mem::take(parcels).into_iter().partition(is_recorded);
            *parcels = recorded.into();
            back
        };
        let unrecorded = Unrecorded {
            unknown: unrecorded(&mut queue.unacknowledged),
            waiting: unrecorded(&mut queue.waiting),
        };
        let both = unrecorded.unknown.iter().chain(&unrecorded.waiting);
        let weight: usize = both.map(Parcel::weight).sum();
        queue.bytes -= weight;
        unrecorded
    }

    /// On whose behalf a connection is made.
    pub fn askers(&self) -> Vec<Asker> {
        self.lock().askers.clone()
    }

    /// Ready when there are others than when that was asked.
    pub async fn more_askers(&self) {
        self.more_askers.notified().await;
    }
}

impl Queue {
    /// Nothing waits any more, and nothing is known of a stream.
    pub(super) fn empty(&mut self) -> Vec<Parcel> {
        self.patient_until_ms = None;
        self.fruitless = 0;
        self.errors = 0;
        self.suspects = 0;
        self.is_owed = false;
        self.askers = Vec::new();
        self.bytes = 0;
        let mut back: Vec<Parcel> = mem::take(&mut self.unacknowledged).into();
        back.extend(mem::take(&mut self.waiting));
        back
    }

    /// Whether nothing may be taken besides what was taken and is not acknowledged.
    pub(super) fn is_held_back(&self, taken: usize) -> bool {
        self.suspects > 0 && (taken > 0 || !self.unacknowledged.is_empty())
    }

    /// Whether nothing more is sent until something is acknowledged.
    pub(super) fn is_window_full(&self) -> bool {
        // Mostly all that there is weighs less: then nothing has to be added up each time.
        let weight = || -> usize { self.unacknowledged.iter().map(Parcel::weight).sum() };
        self.bytes >= WINDOW_BYTES && weight() >= WINDOW_BYTES
    }

    /// True when that is news.
    pub(super) fn is_asked_by(&mut self, asker: Asker) -> bool {
        let is_news = !self.askers.contains(&asker) && self.askers.len() < ASKERS_MAX;
        if is_news {
            self.askers.push(asker);
        }
        is_news
    }

    /// Whoever has something waiting.
    pub(super) fn is_asked_by_all(&mut self) {
        let askers: Vec<Asker> = self.waiting.iter().map(|parcel| parcel.asker).collect();
        for asker in askers {
            self.is_asked_by(asker);
        }
    }
}
