//! A session: one bound resource of one account, as the rest of the server sees it.
//!
//! It outlives its connection where stream management allows that (XEP-0198 §5); the connection
//! that currently serves it is a number in its [`Link`]. Everything here is small: a hundred
//! thousand of them are idle at a time.

use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addr::Jid;
use crate::stanza::Stanza;
use crate::store::Position;

use super::budget::{Budget, Taken};
use super::outbox::{Outbox, OutboxPool};

/// The `id` that resumes a stream (XEP-0198 §3): 128 bits from the kernel, never guessable.
pub type ResumptionId = [u8; 16];

/// Reads an id as it was told to the client: in hexadecimal.
pub fn resumption_id(text: &str) -> Option<ResumptionId> {
    let mut id = [0; 16];
    if text.len() != 2 * id.len() {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(id)
}

/// One bound resource.
#[derive(Debug)]
pub struct Session {
    /// Unique in this process, never used again.
    pub number: u64,
    /// The full JID.
    pub jid: Jid,
    /// What waits to be written to the client.
    pub outbox: Outbox,
    /// The `xml:lang` of its stream (RFC 6120 §4.7.4), `None` when it named none.
    pub lang: Option<Box<str>>,
    link: Mutex<Link>,
    presence: Mutex<PresenceState>,
    /// [`UNAVAILABLE`], or the priority of the last presence sent.
    priority: AtomicI16,
    interested: AtomicBool,
    has_backlog: AtomicBool,
    is_greeted: AtomicBool,
    ended: AtomicBool,
    /// Seconds since the server started at which something was last heard from the client.
    heard_at_s: AtomicU32,
}

const UNAVAILABLE: i16 = i16::MIN;

/// Which connection serves the session, and what it has handled of the client's stanzas.
#[derive(Debug, Default)]
pub struct Link {
    /// The connection's number; 0 while the session waits to be resumed.
    pub connection: u64,
    /// While it waits: until when, in ticks of the core.
    pub waits_until_ms: u64,
    /// A stanza of the client is being handled right now.
    pub busy: bool,
    /// Stream management, once the client has enabled it.
    pub management: Option<Management>,
}

/// The inbound half of XEP-0198.
#[derive(Debug, Clone, Copy)]
pub struct Management {
    /// With this the client may resume, if it asked for that.
    pub resumption_id: Option<ResumptionId>,
    /// How long a detached session waits, in milliseconds.
    pub resume_ms_max: u64,
    /// Stanzas handled, modulo 2^32.
    pub handled: u32,
    /// All of them count as handled once this is durable.
    pub handled_after: Position,
}

/// What RFC 6121 §4 makes the server remember of a session's presence.
#[derive(Debug, Default)]
pub struct PresenceState {
    /// The last broadcast presence, for those who subscribe or probe later.
    pub last: Option<Stanza>,
    /// Whom it has sent directed available presence (RFC 6121 §4.6.3).
    pub directed: Vec<Jid>,
    /// How far the session has been shown who is there, while it has not been shown all.
    pub greeting: Option<Greeting>,
    /// What this takes of the memory that all sessions share.
    taken: Taken,
}

/// A place in the row of all sessions that a session is shown when it becomes available: its
/// account's own first, then those of its contacts, in the order in which their roster items last
/// changed. An item that changes meanwhile moves to the end and none is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The version of the contact's item; 0 is the account itself.
    pub version: u64,
    /// The contact's sessions up to this number have been shown.
    pub number: u64,
}

impl PresenceState {
    /// Bytes that every session may take for its presence: one with a few words and some rooms.
    pub const OWN_BYTES: usize = 1_024;

    /// Bytes of an address besides its text: itself, in a vector that grows by doubling, and its
    /// allocation.
    pub const ADDRESS_BYTES: usize = 2 * size_of::<Jid>() + 32;

    /// Makes sure of memory for so many bytes more than there are.
    #[must_use]
    pub fn try_grow(&mut self, budget: &Arc<Budget>, more: usize) -> bool {
        let bytes = self.bytes() + more;
        let shared = bytes.saturating_sub(PresenceState::OWN_BYTES);
        self.taken.try_hold(budget, shared)
    }

    /// Takes what there is into account, whether there is room for it or not.
    pub fn grown(&mut self, budget: &Arc<Budget>) {
        let shared = self.bytes().saturating_sub(PresenceState::OWN_BYTES);
        self.taken.hold(budget, shared);
    }

    /// Gives back what is not needed any more.
    pub fn shrunk(&mut self) {
        if self.directed.capacity() > 2 * self.directed.len() {
            self.directed.shrink_to_fit();
        }
        let shared = self.bytes().saturating_sub(PresenceState::OWN_BYTES);
        self.taken.shrink_to(shared);
    }

    fn bytes(&self) -> usize {
        let directed = self.directed.iter();
        let addresses: usize = directed
            .map(|to| to.as_str().len() + PresenceState::ADDRESS_BYTES)
            .sum();
        self.last.as_ref().map_or(0, |last| last.bytes().len()) + addresses
    }
}

/// Whether the connection may handle a stanza now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may; [`Session::handled`] ends the turn.
    Yours,
    /// Another connection has taken the session over.
    Gone,
}

impl Session {
    /// A session just bound on `connection`.
    pub fn new(
        number: u64,
        jid: Jid,
        lang: Option<Box<str>>,
        connection: u64,
        outboxes: Arc<OutboxPool>,
    ) -> Arc<Session> {
        Session::with_outbox(
            number,
            jid,
            lang,
            Outbox::new(outboxes, connection),
            Link {
                connection,
                ..Link::default()
            },
        )
    }

    /// A session that waits to be resumed after a restart.
    pub fn hibernated(
        number: u64,
        jid: Jid,
        lang: Option<Box<str>>,
        outbox: Outbox,
        management: Management,
    ) -> Arc<Session> {
        Session::with_outbox(
            number,
            jid,
            lang,
            outbox,
            Link {
                management: Some(management),
                ..Link::default()
            },
        )
    }

    fn with_outbox(
        number: u64,
        jid: Jid,
        lang: Option<Box<str>>,
        outbox: Outbox,
        link: Link,
    ) -> Arc<Session> {
        Arc::new(Session {
            number,
            jid,
            outbox,
            lang,
            link: Mutex::new(link),
            presence: Mutex::new(PresenceState::default()),
            priority: AtomicI16::new(UNAVAILABLE),
            interested: AtomicBool::new(false),
            has_backlog: AtomicBool::new(false),
            is_greeted: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            heard_at_s: AtomicU32::new(0),
        })
    }

    /// The priority of an available resource (RFC 6121 §4.7.2.3); `None` while it is not
    /// available.
    pub fn priority(&self) -> Option<i8> {
        i8::try_from(self.priority.load(Ordering::Acquire)).ok()
    }

    /// Whether it has sent initial presence and not gone unavailable since.
    pub fn is_available(&self) -> bool {
        self.priority().is_some()
    }

    /// Changed only with the user's shard locked (`Table`), because routing reads it there.
    pub(super) fn set_priority(&self, priority: Option<i8>) {
        let value = priority.map_or(UNAVAILABLE, i16::from);
        self.priority.store(value, Ordering::Release);
    }

    /// Whether it has asked for its roster (RFC 6121 §2.1.6) and gets roster pushes.
    pub fn is_interested(&self) -> bool {
        self.interested.load(Ordering::Acquire)
    }

    /// It has asked for its roster.
    pub fn set_interested(&self) {
        self.interested.store(true, Ordering::Release);
    }

    /// Whether stored messages wait in the log for room in its outbox.
    pub fn has_backlog(&self) -> bool {
        self.has_backlog.load(Ordering::Acquire)
    }

    pub(super) fn set_has_backlog(&self, has: bool) {
        self.has_backlog.store(has, Ordering::Release);
    }

    /// Whether it is still being shown who is there: the rest waits for room in its outbox.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted.load(Ordering::Acquire)
    }

    /// Notes how far it has been shown who is there; `None` when it has been shown all.
    pub fn set_greeting(&self, state: &mut PresenceState, greeting: Option<Greeting>) {
        state.greeting = greeting;
        self.is_greeted.store(greeting.is_some(), Ordering::Release);
    }

    /// Whether something waits for room in its outbox.
    pub fn waits_for_room(&self) -> bool {
        self.has_backlog() || self.is_greeted()
    }

    /// Whether it is over: nothing is routed to it any more.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// True for the one caller that ends it.
    pub(super) fn begin_end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Something was heard from the client, `at_s` seconds after the server's start.
    pub fn heard(&self, at_s: u32) {
        self.heard_at_s.store(at_s, Ordering::Relaxed);
    }

    /// When something was last heard, in seconds after the server's start.
    pub fn heard_at_s(&self) -> u32 {
        self.heard_at_s.load(Ordering::Relaxed)
    }

    /// The connection's side of it; held for a few instructions only.
    pub fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its presence; held for a few instructions only.
    pub fn presence(&self) -> MutexGuard<'_, PresenceState> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the turn to handle one stanza that came in on `connection`. Turns keep a
    /// resumption from telling the client a count that a stanza in work is about to change.
    pub fn begin_turn(&self, connection: u64) -> Turn {
        let mut link = self.link();
        if link.connection != connection {
            return Turn::Gone;
        }
        link.busy = true;
        Turn::Yours
    }

    /// The turn is over: the stanza counts as handled once `after` is durable.
    pub fn handled(&self, after: Position) {
        let mut link = self.link();
        link.busy = false;
        if let Some(management) = &mut link.management {
            management.handled = management.handled.wrapping_add(1);
            management.handled_after = management.handled_after.max(after);
        }
    }

    /// Whether the client counts what we acknowledge, so that a message it sends must be
    /// durable before it counts as handled (DESIGN §1).
    pub fn counts(&self) -> bool {
        self.link().management.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Arc<Session> {
        let jid = Jid::parse("a@chat.example/r").expect("a valid JID");
        Session::new(1, jid, None, 7, OutboxPool::unbounded())
    }

    #[test]
    fn a_resumption_id_is_read_as_it_was_written() {
        let id = [7, 0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        assert_eq!(resumption_id(&crate::stanza::id::hex(&id)), Some(id));
        assert_eq!(resumption_id("07"), None);
        assert_eq!(resumption_id(&"+1".repeat(16)), None);
        assert_eq!(resumption_id(&"é".repeat(16)), None);
    }

    #[test]
    fn every_priority_survives_the_atomic() {
        let session = session();
        assert_eq!(session.priority(), None);
        for priority in [i8::MIN, -1, 0, 1, i8::MAX] {
            session.set_priority(Some(priority));
            assert_eq!(session.priority(), Some(priority));
        }
        session.set_priority(None);
        assert!(!session.is_available());
    }

    #[test]
    fn handled_counts_only_with_stream_management_and_keeps_the_latest_position() {
        let session = session();
        assert_eq!(session.begin_turn(7), Turn::Yours);
        session.handled(Position(3));
        assert!(session.link().management.is_none());
        session.link().management = Some(Management {
            resumption_id: None,
            resume_ms_max: 0,
            handled: u32::MAX,
            handled_after: Position(0),
        });
        session.handled(Position(9));
        session.handled(Position(4));
        let management = session.link().management.expect("it was set above");
        assert_eq!(
            (management.handled, management.handled_after),
            (1, Position(9))
        );
    }

    #[test]
    fn a_connection_that_was_replaced_gets_no_turn() {
        let session = session();
        session.link().connection = 8;
        assert_eq!(session.begin_turn(7), Turn::Gone);
    }
}
