//! Who is here: from a bare JID to its sessions, in shards.
//!
//! A shard's lock orders everything that happens to one user's messages: append, deliver, come
//! online, go offline. Lock order: shard, then store, then a session's own locks. No lock is held
//! across an await, and never two shards at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::MessageId;

use super::session::{ResumptionId, Session};

/// A power of two, so that a hash's top bits choose; far more than cores, so that two sessions
/// rarely meet at one lock.
const SHARDS: usize = 64;

/// All sessions of this server.
#[derive(Debug)]
pub struct Table {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    resumable: Mutex<HashMap<ResumptionId, Arc<Session>>>,
    /// By the end of their wait, in ticks of the core, and their number.
    detached: Mutex<BTreeMap<(u64, u64), Arc<Session>>>,
}

/// The users whose bare JIDs fall into one shard.
#[derive(Debug, Default)]
pub struct Shard {
    users: HashMap<Box<str>, User>,
}

/// One user who has a session.
#[derive(Debug, Default)]
pub struct User {
    /// In the order they were bound.
    pub seats: Vec<Seat>,
    /// Stored messages that stand in the outbox of a session, and of how many.
    in_flight: BTreeMap<MessageId, u16>,
    /// Sessions that are over while their connections still write what they had taken. What of it
    /// comes back is older than everything that waits in the log.
    leaving: usize,
}

/// A session's place at its user.
#[derive(Debug)]
pub struct Seat {
    /// Who sits here.
    pub session: Arc<Session>,
    /// Stored messages from this one on wait in the log until the outbox has room for them.
    pub backlog: Option<MessageId>,
    /// Stored messages that wait likewise and were sent to this very resource: nobody else gets
    /// them as long as it sits here (RFC 6121 §8.5.3.1).
    pub exact: VecDeque<MessageId>,
}

impl Seat {
    /// The first stored message that waits in the log for this session.
    pub fn first_waiting(&self) -> Option<MessageId> {
        self.backlog
            .into_iter()
            .chain(self.exact.front().copied())
            .min()
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// A table without sessions.
    pub fn new() -> Table {
        Table {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            resumable: Mutex::default(),
            detached: Mutex::default(),
        }
    }

    /// The shard of a bare JID, locked.
    pub fn shard(&self, bare: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(bare) as usize % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All sessions of a user, in the order they were bound.
    pub fn sessions(&self, bare: &str) -> Vec<Arc<Session>> {
        let shard = self.shard(bare);
        let seats = shard.user(bare).map_or(&[][..], |user| &user.seats);
        seats.iter().map(|seat| seat.session.clone()).collect()
    }

    /// The session of a full JID.
    pub fn session(&self, bare: &str, resource: &str) -> Option<Arc<Session>> {
        let shard = self.shard(bare);
        shard
            .user(bare)?
            .seat(resource)
            .map(|seat| seat.session.clone())
    }

    /// Every session there is, shard by shard; it may be a moment old when it is looked at.
    pub fn all(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let seats = shard.users.values().flat_map(|user| &user.seats);
            all.extend(seats.map(|seat| seat.session.clone()));
        }
        all
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard
                .users
                .values()
                .map(|user| user.seats.len())
                .sum::<usize>()
        };
        self.shards.iter().map(count).sum()
    }

    /// The session can be resumed by this id from now on.
    pub fn add_resumable(&self, id: ResumptionId, session: &Arc<Session>) {
        self.resumable().insert(id, session.clone());
    }

    /// The session that this id resumes.
    pub fn resumable_by(&self, id: &ResumptionId) -> Option<Arc<Session>> {
        self.resumable().get(id).cloned()
    }

    /// The id resumes nothing any more.
    pub fn remove_resumable(&self, id: &ResumptionId) {
        self.resumable().remove(id);
    }

    /// The session waits for a resumption until then.
    pub fn add_detached(&self, until_ms: u64, session: &Arc<Session>) {
        session.link().waits_until_ms = until_ms;
        let key = (until_ms, session.number);
        self.detached().insert(key, session.clone());
    }

    /// The session waits for nothing any more: the next look for overdue ones ends it.
    pub fn hurry(&self, session: &Arc<Session>) {
        self.remove_detached(session);
        self.add_detached(0, session);
    }

    /// The session waits no longer.
    pub fn remove_detached(&self, session: &Session) {
        let until_ms = session.link().waits_until_ms;
        self.detached().remove(&(until_ms, session.number));
    }

    /// The sessions whose wait is over; they wait no longer.
    pub fn take_overdue(&self, now_ms: u64) -> Vec<Arc<Session>> {
        let mut detached = self.detached();
        let later = detached.split_off(&(now_ms, u64::MAX));
        let overdue = std::mem::replace(&mut *detached, later);
        overdue.into_values().collect()
    }

    /// The sessions that wait, beyond so many, whose wait is over first; they wait no longer.
    pub fn take_surplus(&self, sessions_max: usize) -> Vec<Arc<Session>> {
        let mut detached = self.detached();
        let surplus = detached.len().saturating_sub(sessions_max);
        std::iter::from_fn(|| detached.pop_first().map(|(_, session)| session))
            .take(surplus)
            .collect()
    }

    fn detached(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<Session>>> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resumable(&self) -> MutexGuard<'_, HashMap<ResumptionId, Arc<Session>>> {
        self.resumable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// The user, when one of their sessions is here.
    pub fn user(&self, bare: &str) -> Option<&User> {
        self.users.get(bare)
    }

    /// Likewise, to change it.
    pub fn user_mut(&mut self, bare: &str) -> Option<&mut User> {
        self.users.get_mut(bare)
    }

    /// Seats a session; its full JID must be free.
    pub fn add(&mut self, session: &Arc<Session>) {
        let bare = session.jid.bare_str();
        let user = match self.users.get_mut(bare) {
            Some(user) => user,
            None => self.users.entry(bare.into()).or_default(),
        };
        debug_assert!(
            user.seats
                .iter()
                .all(|seat| seat.session.jid != session.jid)
        );
        // Most people have one: a vector would make room for four at once.
        user.seats.reserve_exact(1);
        user.seats.push(Seat {
            session: session.clone(),
            backlog: None,
            exact: VecDeque::new(),
        });
    }

    /// Takes a session's seat away, if it has one. [`Shard::tidy`] follows once what it left has
    /// been seen to.
    pub fn remove(&mut self, session: &Session) -> Option<Seat> {
        let user = self.users.get_mut(session.jid.bare_str())?;
        let mine = |seat: &Seat| seat.session.number == session.number;
        let index = user.seats.iter().position(mine)?;
        Some(user.seats.remove(index))
    }

    /// Forgets a user who has no session left, once it is known of every message that stood in an
    /// outbox whether it has been delivered.
    pub fn tidy(&mut self, bare: &str) {
        let is_over = |user: &User| {
            user.seats.is_empty() && user.in_flight.is_empty() && !user.waits_for_leaving()
        };
        if self.users.get(bare).is_some_and(is_over) {
            self.users.remove(bare);
        }
        self.give_back_memory();
    }

    /// Forgets a user whose account is gone, once the last session is.
    pub fn forget(&mut self, bare: &str) {
        if self
            .users
            .get(bare)
            .is_some_and(|user| user.seats.is_empty())
        {
            self.users.remove(bare);
        }
        self.give_back_memory();
    }

    fn give_back_memory(&mut self) {
        if self.users.is_empty() && self.users.capacity() > 64 {
            self.users = HashMap::new();
        }
    }
}

impl User {
    /// The seat of a resource.
    pub fn seat(&self, resource: &str) -> Option<&Seat> {
        let matches = |seat: &&Seat| seat.session.jid.resource() == Some(resource);
        self.seats.iter().find(matches)
    }

    /// The available sessions with the highest priority, if that is not negative: who gets
    /// `chat` and `normal` messages to the bare JID (RFC 6121 §8.5.2.1.1).
    pub fn most_available(&self) -> impl Iterator<Item = &Seat> {
        let highest = self
            .seats
            .iter()
            .filter_map(|seat| seat.session.priority())
            .max();
        let wanted = highest.filter(|&priority| priority >= 0);
        let matches = move |seat: &&Seat| wanted.is_some() && seat.session.priority() == wanted;
        self.seats.iter().filter(matches)
    }

    /// The available sessions whose priority is not negative.
    pub fn non_negative(&self) -> impl Iterator<Item = &Seat> {
        let matches = |seat: &&Seat| seat.session.priority().is_some_and(|p| p >= 0);
        self.seats.iter().filter(matches)
    }

    /// The session without a connection whose wait for a resumption is over first.
    pub fn longest_detached(&self) -> Option<Arc<Session>> {
        let waits_until_ms = |seat: &Seat| {
            let link = seat.session.link();
            (link.connection == 0).then_some(link.waits_until_ms)
        };
        let detached = self.seats.iter().filter_map(|seat| {
            let until_ms = waits_until_ms(seat)?;
            Some((until_ms, &seat.session))
        });
        let longest = detached.min_by_key(|(until_ms, _)| *until_ms)?;
        Some(longest.1.clone())
    }

    /// A stored message stands in one more outbox.
    pub fn took_off(&mut self, id: MessageId) {
        *self.in_flight.entry(id).or_insert(0) += 1;
    }

    /// Whether a stored message stands in somebody's outbox.
    pub fn is_in_flight(&self, id: MessageId) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// A session has acknowledged a stored message: it is delivered, whoever else holds it.
    pub fn landed(&mut self, id: MessageId) {
        self.in_flight.remove(&id);
    }

    /// An outbox that held a stored message is gone. True when nobody holds it any more and it
    /// was not delivered: it has to be delivered to somebody else.
    pub fn lost(&mut self, id: MessageId) -> bool {
        let Some(holders) = self.in_flight.get_mut(&id) else {
            return false;
        };
        *holders -= 1;
        let last = *holders == 0;
        if last {
            self.in_flight.remove(&id);
        }
        last
    }

    /// The number of the session that a stored message waits for in the log because it was sent
    /// to its very resource.
    pub fn exact_session(&self, id: MessageId) -> Option<u64> {
        let waits = |seat: &&Seat| seat.exact.binary_search(&id).is_ok();
        self.seats
            .iter()
            .find(waits)
            .map(|seat| seat.session.number)
    }

    /// A session is over and its connection still writes.
    pub fn begins_to_leave(&mut self) {
        self.leaving += 1;
    }

    /// One of those has written or given back everything. A user who was forgotten with the
    /// account meanwhile, and is back, waits for nobody.
    pub fn has_left(&mut self) {
        self.leaving = self.leaving.saturating_sub(1);
    }

    /// Whether stored messages stay in the log until it is known what comes back from connections
    /// whose sessions are over.
    pub fn waits_for_leaving(&self) -> bool {
        self.leaving > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Jid;
    use crate::router::outbox::OutboxPool;

    fn seated(table: &Table, full: &str, number: u64, priority: Option<i8>) -> Arc<Session> {
        let jid = Jid::parse(full).expect("a valid JID");
        let session = Session::new(number, jid, None, number, OutboxPool::unbounded());
        session.set_priority(priority);
        table.shard(session.jid.bare_str()).add(&session);
        session
    }

    fn numbers<'a>(seats: impl Iterator<Item = &'a Seat>) -> Vec<u64> {
        seats.map(|seat| seat.session.number).collect()
    }

    #[test]
    fn the_most_available_are_all_of_the_highest_non_negative_priority() {
        let table = Table::new();
        seated(&table, "a@b/1", 1, Some(5));
        seated(&table, "a@b/2", 2, Some(-1));
        seated(&table, "a@b/3", 3, Some(5));
        seated(&table, "a@b/4", 4, Some(0));
        seated(&table, "a@b/5", 5, None);
        let shard = table.shard("a@b");
        let user = shard.user("a@b").expect("five sessions");
        assert_eq!(numbers(user.most_available()), [1, 3]);
        assert_eq!(numbers(user.non_negative()), [1, 3, 4]);
    }

    #[test]
    fn nobody_is_most_available_when_all_priorities_are_negative() {
        let table = Table::new();
        seated(&table, "a@b/1", 1, Some(-5));
        seated(&table, "a@b/2", 2, None);
        let shard = table.shard("a@b");
        let user = shard.user("a@b").expect("two sessions");
        assert_eq!(user.most_available().count(), 0);
    }

    #[test]
    fn a_user_goes_with_the_last_session() {
        let table = Table::new();
        let one = seated(&table, "a@b/1", 1, None);
        let mut shard = table.shard("a@b");
        assert!(shard.remove(&one).is_some());
        assert!(shard.remove(&one).is_none());
        shard.tidy("a@b");
        assert!(shard.user("a@b").is_none());
    }

    #[test]
    fn a_message_is_lost_only_when_its_last_holder_is_and_nobody_acknowledged_it() {
        let mut user = User::default();
        user.took_off(MessageId(1));
        user.took_off(MessageId(1));
        assert!(!user.lost(MessageId(1)));
        assert!(user.lost(MessageId(1)));
        user.took_off(MessageId(2));
        user.took_off(MessageId(2));
        user.landed(MessageId(2));
        user.landed(MessageId(2));
        assert!(!user.lost(MessageId(2)));
        assert!(!user.is_in_flight(MessageId(2)));
    }
}
