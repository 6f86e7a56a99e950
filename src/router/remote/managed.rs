//! A stream of another server with XEP-0198, over all the connections that carry it: each resumes
//! the one before, which may believe itself alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::router::outbox::HandledCountTooHigh;
use crate::router::session::ResumptionId;
use crate::stream::s2s::Pair;

use super::link::{FRUITLESS_MAX, Link};
use super::parcel::Parcel;
use super::tally::Tally;

/// The receiving entity's side of a stream that is managed.
#[derive(Debug)]
pub struct ManagedStream {
    /// The domains of its header.
    pub pair: Pair,
    /// What resumes it, if it can be.
    pub id: Option<ResumptionId>,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    /// The connection that carries it, or did so last.
    reader: u64,
    tally: Tally,
    /// The links that are served on it (XEP-0288).
    links: Vec<Arc<Link>>,
    /// Its connection is gone, and what is unacknowledged waits for another.
    is_lost: bool,
    /// The peer has begun another stream in its place.
    is_superseded: bool,
    /// What was acknowledged when it was lost last, and how often it was since that has changed.
    acknowledged: u32,
    fruitless: u32,
    waker: Option<Waker>,
}

/// What a connection that resumes a stream finds.
#[derive(Debug)]
pub struct TakenOver {
    /// The peer newly has these.
    pub done: Vec<Parcel>,
    /// The links that are with the connection now. What of them is unacknowledged waits again.
    pub links: Vec<Arc<Link>>,
}

impl ManagedStream {
    /// Management begins on a connection, by its number.
    pub fn new(pair: Pair, id: Option<ResumptionId>, reader: u64) -> ManagedStream {
        ManagedStream {
            pair,
            id,
            course: Mutex::new(Course {
                reader,
                tally: Tally::default(),
                links: Vec::new(),
                is_lost: false,
                is_superseded: false,
                acknowledged: 0,
                fruitless: 0,
                waker: None,
            }),
        }
    }

    /// Counts, or does what is counted; `None` when another connection carries the stream. What is
    /// done in here is done before another connection tells the count.
    pub fn count<T>(&self, reader: u64, course: impl FnOnce(&mut Tally) -> T) -> Option<T> {
        let mut own = self.lock();
        (own.reader == reader).then(|| course(&mut own.tally))
    }

    /// Whether this connection carries it, or did so last.
    pub fn is_with(&self, reader: u64) -> bool {
        self.lock().reader == reader
    }

    /// A link is served on it too.
    pub fn serve(&self, reader: u64, link: &Arc<Link>) {
        let mut course = self.lock();
        if course.reader == reader {
            course.links.push(link.clone());
        }
    }

    /// The peer has begun anew for the same domains: once the connection is lost, nobody need wait for
    /// it to be resumed.
    pub fn supersede(&self) {
        self.lock().is_superseded = true;
    }

    /// The connection is lost. True when something of a link is unacknowledged, and waits for the
    /// stream to be resumed; what of the links does not is the caller's.
    pub fn suspend(&self, reader: u64) -> bool {
        let mut course = self.lock();
        if course.reader != reader {
            return false;
        }
        if course.is_superseded {
            course.tally.forget_links();
            course.links = Vec::new();
            return false;
        }
        course.is_lost = true;
        // A peer that comes again and again and takes nothing is not to hold it for ever.
        let acknowledged = course.tally.acknowledged();
        course.fruitless = match course.tally.unacknowledged() {
            0 => 0,
            _ if course.acknowledged == acknowledged => course.fruitless.saturating_add(1),
            _ => 1,
        };
        course.acknowledged = acknowledged;
        if course.fruitless > FRUITLESS_MAX {
            course.tally.forget_links();
            course.links = Vec::new();
            return false;
        }
        course.links.retain(|link| link.suspend(reader));
        !course.links.is_empty()
    }

    /// Nobody waits for it to be resumed any more: the links that did, and whose connection it was.
    /// Its counts stay.
    pub fn release(&self) -> (Vec<Arc<Link>>, u64) {
        let mut course = self.lock();
        if !course.is_lost {
            return (Vec::new(), course.reader);
        }
        course.tally.forget_links();
        course.wake();
        (std::mem::take(&mut course.links), course.reader)
    }

    /// Another connection resumes it; the peer has handled `h`. The former one finds itself
    /// replaced. Where the count is wrong nothing changes.
    pub fn take_over(&self, reader: u64, h: u32) -> Result<TakenOver, HandledCountTooHigh> {
        let mut course = self.lock();
        course.tally.newly(h)?;
        course.is_lost = false;
        course.is_superseded = false;
        let former = std::mem::replace(&mut course.reader, reader);
        course.links.retain(|link| link.hand_over(former, reader));
        let done = course.tally.resumed(reader, h)?;
        course.wake();
        Ok(TakenOver {
            done,
            links: course.links.clone(),
        })
    }

    /// The connection that has taken it over does not serve this link.
    pub fn leave(&self, link: &Arc<Link>) {
        self.lock().links.retain(|own| !Arc::ptr_eq(own, link));
    }

    /// Ready when another connection carries the stream, or, once it is lost, nothing waits for it.
    pub fn poll_replaced(&self, reader: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut course = self.lock();
        if course.reader != reader || (course.is_lost && course.links.is_empty()) {
            return Poll::Ready(());
        }
        course.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
