//! What happens to entries between the queue and the client: what a connection has in hand, and
//! which messages have no record yet.

use std::mem;

use crate::stanza::Outgoing;
use crate::store::MessageId;

use super::{Cargo, Entry, Outbox, Queue, Wire};

/// A message without a record: what it puts on the wire, and when the server accepted it.
pub type Unrecorded = (Outgoing, u64);

impl Entry {
    /// Whether somebody has to know what becomes of it.
    pub fn matters(&self) -> bool {
        matches!(
            self.cargo,
            Cargo::Recorded(_) | Cargo::Message(_) | Cargo::Request(_)
        )
    }

    pub(super) fn is_unrecorded(&self) -> bool {
        matches!(self.cargo, Cargo::Message(_))
    }

    /// Every message without a record is for one session and has a start tag of its own.
    fn is_of(&self, outgoing: &Outgoing) -> bool {
        match &self.wire {
            Wire::Ready(mine) => std::ptr::eq(&raw const *mine.head, &raw const *outgoing.head),
            _ => false,
        }
    }
}

impl Outbox {
    /// The kernel has taken the first `count` of the entries that the connection took, that matter
    /// and that are not kept until they are acknowledged. They are returned.
    pub fn written(&self, count: usize) -> Vec<Entry> {
        let mut queue = self.lock();
        let count = count.min(queue.in_hand.len());
        let done: Vec<Entry> = queue.in_hand.drain(..count).collect();
        queue.forget_unrecorded(&done);
        queue.give_back_memory();
        done
    }

    /// The connection writes nothing more: what it had in hand is the first to be written again,
    /// unless the session has ended ([`Outbox::leave`]).
    pub fn let_go(&self) {
        let mut queue = self.lock();
        if queue.ended {
            return;
        }
        let entries = mem::take(&mut queue.in_hand);
        let bytes = entries.iter().map(Entry::weight).sum::<usize>();
        queue.bytes += bytes;
        self.pool.add(bytes);
        for entry in entries.into_iter().rev() {
            queue.waiting.push_front(entry);
        }
    }

    /// The session has ended and its connection still writes what it has in hand: until then
    /// nobody knows whether somebody else has to get it.
    pub fn leaves(&self) -> bool {
        self.lock().leaves
    }

    /// True, once, when that is over.
    pub fn has_left(&self) -> bool {
        let mut queue = self.lock();
        queue.in_hand.is_empty() && mem::take(&mut queue.leaves)
    }

    /// It is over: what the connection of the ended session did not write, if it still had
    /// anything in hand.
    pub fn leave(&self) -> Option<Vec<Entry>> {
        let mut queue = self.lock();
        let left = mem::take(&mut queue.leaves);
        left.then(|| mem::take(&mut queue.in_hand).into())
    }

    /// Whether one of its messages has no record.
    pub fn has_unrecorded(&self) -> bool {
        self.lock().unrecorded > 0
    }

    /// Its messages without a record, in order.
    pub fn unrecorded(&self) -> Vec<Unrecorded> {
        let queue = self.lock();
        if queue.unrecorded == 0 {
            return Vec::new();
        }
        // From behind: what stands before the last message with a record has one.
        let unrecorded = queue.entries().rev().filter_map(|entry| match &entry {
            Entry {
                wire: Wire::Ready(outgoing),
                cargo: Cargo::Message(received_at_ms),
                ..
            } => Some((outgoing.clone(), *received_at_ms)),
            _ => None,
        });
        let mut unrecorded: Vec<Unrecorded> = unrecorded.take(queue.unrecorded).collect();
        unrecorded.reverse();
        unrecorded
    }

    /// These have records now. Returned are those that stand here no more: the client has had them
    /// meanwhile.
    pub fn record(&self, recorded: &[(Outgoing, MessageId)]) -> Vec<MessageId> {
        let mut queue = self.lock();
        let count = queue.unrecorded;
        let entries = queue.entries_mut().rev();
        let mut entries: Vec<&mut Entry> = entries
            .filter(|entry| entry.is_unrecorded())
            .take(count)
            .collect();
        // Both are in the same order, and those that are gone may stand anywhere.
        let mut gone: Vec<MessageId> = Vec::new();
        let mut found = 0;
        for (outgoing, id) in recorded {
            match entries.pop_if(|entry| entry.is_of(outgoing)) {
                Some(entry) => {
                    entry.cargo = Cargo::Recorded(*id);
                    found += 1;
                }
                None => gone.push(*id),
            }
        }
        queue.unrecorded -= found;
        gone
    }
}

impl Queue {
    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let taken = self.in_hand.iter().chain(&self.unacknowledged);
        taken.chain(&self.waiting)
    }

    fn entries_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        let taken = self.in_hand.iter_mut().chain(&mut self.unacknowledged);
        taken.chain(&mut self.waiting)
    }

    pub(super) fn forget_unrecorded(&mut self, gone: &[Entry]) {
        self.unrecorded -= gone.iter().filter(|entry| entry.is_unrecorded()).count();
    }
}
