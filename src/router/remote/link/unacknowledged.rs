//! What of a link was sent on a stream with XEP-0198 and is not acknowledged, and what becomes of it
//! when the connection is lost.

use std::mem;

use super::{Left, Link, PATIENCE_MS, Phase, Queue};
use crate::router::remote::parcel::{Freight, Parcel};

/// What a stream that was not resumed leaves.
#[derive(Debug, Default)]
pub struct NotResumed {
    /// The peer had handled these after all.
    pub done: Vec<Parcel>,
    /// Nobody knows of these, and they are not sent twice.
    pub lost: Vec<Parcel>,
}

impl Link {
    /// The connection is gone, and the peer may resume its stream. False where nothing of this link
    /// is unacknowledged: it need not wait for that.
    pub fn suspend(&self, reader: u64) -> bool {
        let mut queue = self.lock();
        let is_suspended = queue.phase_is(reader) && !queue.unacknowledged.is_empty();
        if is_suspended {
            queue.phase = Phase::Awaited(reader);
        }
        is_suspended
    }

    /// Whether the stream of this connection, which is gone, is waited for.
    pub fn is_awaited(&self, reader: u64) -> bool {
        matches!(self.lock().phase, Phase::Awaited(former) if former == reader)
    }

    /// The stream has come to another connection, which sends from now on. False when the link is
    /// no longer with the former one.
    pub fn hand_over(&self, former: u64, reader: u64) -> bool {
        let mut queue = self.lock();
        let is_its = queue.phase_is(former);
        if is_its {
            queue.up(reader);
            queue.wake();
        }
        is_its
    }

    /// The peer has handled so many of the unacknowledged, the first ones: they are returned.
    pub fn settle(&self, reader: u64, count: usize) -> Vec<Parcel> {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            return Vec::new();
        }
        let count = count.min(queue.unacknowledged.len());
        let done: Vec<Parcel> = queue.unacknowledged.drain(..count).collect();
        let weight: usize = done.iter().map(Parcel::weight).sum();
        queue.bytes -= weight;
        queue.suspects = queue.suspects.saturating_sub(done.len());
        if !done.is_empty() {
            queue.moves_on();
        }
        queue.give_back_memory();
        done
    }

    /// The peer has not handled what is unacknowledged: it is sent again, in its order.
    pub fn send_again(&self, reader: u64) {
        let mut queue = self.lock();
        if queue.phase_is(reader) {
            let again = mem::take(&mut queue.unacknowledged);
            queue.put_in_front(again);
        }
    }

    /// The stream is not resumed. The peer had handled so many of the unacknowledged, as far as it
    /// says; nobody knows of those behind. Requests come back, all else is sent again.
    pub fn not_resumed(&self, count: usize) -> NotResumed {
        self.lock().not_resumed(count)
    }

    /// The connection is gone, and nothing of this link with it; but the peer may have sent
    /// something that did not arrive, and keeps it for whoever resumes the stream (XEP-0288). What
    /// waits meanwhile comes back at the first failure.
    pub fn lost_owed(&self, reader: u64, now_ms: u64) -> Left {
        let mut queue = self.lock();
        if !queue.phase_is(reader) {
            return Left::Nothing;
        }
        queue.phase = Phase::Connecting;
        queue.is_owed = true;
        queue.fruitless = queue.fruitless.saturating_add(1);
        let until_ms = now_ms.saturating_add(PATIENCE_MS);
        queue.patient_until_ms.get_or_insert(until_ms);
        Left::Reconnect
    }

    /// A stanza of the peer has come on the stream. Where nothing is to be sent that is all that it is
    /// of use for.
    pub fn heard(&self, reader: u64) {
        let mut queue = self.lock();
        if queue.phase_is(reader) && queue.is_empty() {
            queue.moves_on();
        }
    }
}

impl Queue {
    /// See [`Link::not_resumed`].
    pub(super) fn not_resumed(&mut self, count: usize) -> NotResumed {
        let mut outcome = NotResumed::default();
        let count = count.min(self.unacknowledged.len());
        outcome.done = self.unacknowledged.drain(..count).collect();
        let (lost, again): (Vec<_>, Vec<_>) = mem::take(&mut self.unacknowledged)
            .into_iter()
            .partition(|parcel| parcel.freight == Freight::Request);
        outcome.lost = lost;
        let weight = |parcels: &[Parcel]| parcels.iter().map(Parcel::weight).sum::<usize>();
        self.bytes -= weight(&outcome.done) + weight(&outcome.lost);
        // What is not sent again is not what the peer will end its next stream for.
        let gone = outcome.done.len() + outcome.lost.len();
        self.suspects = self.suspects.saturating_sub(gone);
        self.put_in_front(again.into());
        outcome
    }
}
