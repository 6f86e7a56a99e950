//! Who waits for the log: sessions whose next entry may only be shown once a position is durable.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Position;

use super::remote::Link;
use super::session::Session;

/// Sessions by the position they wait for. An outbox tells of a gate once and of the next one
/// only when its first entry is another, so its size is bounded by the number of sessions times
/// the batches in flight (two).
#[derive(Debug, Default)]
pub struct Gates {
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    position: Position,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Session(Arc<Session>),
    Link(Arc<Link>),
}

impl Who {
    fn number(&self) -> u64 {
        match self {
            Who::Session(session) => session.number,
            Who::Link(link) => link.number,
        }
    }
}

impl Gates {
    /// `session` is woken once `position` is durable. `durable` is read again after it was
    /// entered, so that a commit in between is not missed.
    pub fn wait(&self, position: Position, session: &Arc<Session>, durable: impl Fn() -> Position) {
        self.enter(position, Who::Session(session.clone()), durable);
    }

    /// Likewise a link to another server.
    pub fn wait_for_link(
        &self,
        position: Position,
        link: &Arc<Link>,
        durable: impl Fn() -> Position,
    ) {
        self.enter(position, Who::Link(link.clone()), durable);
    }

    fn enter(&self, position: Position, who: Who, durable: impl Fn() -> Position) {
        self.lock().push(Reverse(Waiting { position, who }));
        if durable() >= position {
            self.open(durable());
        }
    }

    /// Everything up to `durable` is on the disk: wakes who waited for it.
    pub fn open(&self, durable: Position) {
        loop {
            // Woken one by one outside the lock: a waker may do anything.
            let mut heap = self.lock();
            match heap.peek() {
                Some(Reverse(first)) if first.position <= durable => {}
                _ => return,
            }
            let next = heap.pop();
            if heap.is_empty() && heap.capacity() > 1024 {
                *heap = BinaryHeap::new();
            }
            drop(heap);
            if let Some(Reverse(next)) = next {
                match next.who {
                    Who::Session(session) => session.outbox.wake(),
                    Who::Link(link) => link.wake(),
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BinaryHeap<Reverse<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        (self.position, self.who.number()).cmp(&(other.position, other.who.number()))
    }
}
