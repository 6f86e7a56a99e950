//! Stored messages that wait in the log for a session until its outbox has room for them: a long
//! queue costs the log's space and not memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::store::MessageId;

use super::core::Core;
use super::outbox::{Cargo, Entry, Wire};
use super::session::Session;
use super::table::{Seat, Shard, User};

/// How many stored messages stand in an outbox at a time; the rest wait in the log.
const SLICE: usize = if cfg!(test) { 4 } else { 64 };

/// A session has become able to take stored messages: what nobody else holds is queued, in order.
pub(super) fn begin(core: &Core, shard: &mut Shard, session: &Arc<Session>, from: MessageId) {
    if let Some(user) = shard.user_mut(session.jid.bare_str()) {
        enter(core, user, session, from);
    }
}

/// The session's outbox has room: the next stored messages are queued.
pub fn continue_backlog(core: &Core, session: &Arc<Session>) {
    let mut shard = core.table.shard(session.jid.bare_str());
    if let Some(user) = shard.user_mut(session.jid.bare_str()) {
        fill(core, user, session);
    }
}

/// Stored messages from this one on are for the session, and perhaps for others too.
pub(super) fn enter(core: &Core, user: &mut User, session: &Arc<Session>, from: MessageId) {
    if let Some(seat) = seat_of(user, session) {
        seat.backlog = Some(seat.backlog.map_or(from, |earlier| earlier.min(from)));
    }
    fill(core, user, session);
}

/// A stored message, the last of all, is for this session and for nobody else.
pub(super) fn enter_exact(core: &Core, user: &mut User, session: &Arc<Session>, id: MessageId) {
    if let Some(seat) = seat_of(user, session) {
        seat.exact.push_back(id);
    }
    fill(core, user, session);
}

/// The session takes no messages to the bare JID any more: what waits for it in the log is for
/// others, if there are any.
pub(super) fn leave(core: &Core, shard: &mut Shard, session: &Session) {
    let Some(user) = shard.user_mut(session.jid.bare_str()) else {
        return;
    };
    if let Some(first) = seat_of(user, session).and_then(|seat| seat.backlog.take()) {
        bequeath(core, user, first);
    }
}

/// Stored messages from this one on lost a session that they waited for.
pub(super) fn bequeath(core: &Core, user: &mut User, first: MessageId) {
    let heirs = user.most_available().map(|seat| seat.session.clone());
    for heir in heirs.collect::<Vec<_>>() {
        enter(core, user, &heir, first);
    }
}

/// Nobody has to be waited for any more.
pub(super) fn fill_all(core: &Core, user: &mut User) {
    let sessions = user.seats.iter().map(|seat| seat.session.clone());
    for session in sessions.collect::<Vec<_>>() {
        fill(core, user, &session);
    }
}

/// Stored messages that wait in the log for this session, in order.
pub(super) fn waiting(core: &Core, user: &User, session: &Session) -> Vec<MessageId> {
    let is_seat = |seat: &&Seat| seat.session.number == session.number;
    let Some(seat) = user.seats.iter().find(is_seat) else {
        return Vec::new();
    };
    let Some(wanted) = Wanted::of(seat) else {
        return Vec::new();
    };
    let is_wanted = |id| wanted.takes(user, id);
    let owner = session.jid.bare_str();
    let (stored, _) = core
        .store
        .messages_waiting(owner, wanted.from, usize::MAX, is_wanted);
    stored.into_iter().map(|message| message.id).collect()
}

fn seat_of<'a>(user: &'a mut User, session: &Session) -> Option<&'a mut Seat> {
    let matches = |seat: &&mut Seat| seat.session.number == session.number;
    user.seats.iter_mut().find(matches)
}

/// Which stored messages a session takes.
struct Wanted {
    session: u64,
    from: MessageId,
    /// Messages that were sent to no resource, from this one on.
    any_from: Option<MessageId>,
}

impl Wanted {
    fn of(seat: &Seat) -> Option<Wanted> {
        let is_eligible = seat.session.priority().is_some_and(|p| p >= 0);
        let any_from = seat.backlog.filter(|_| is_eligible);
        Some(Wanted {
            session: seat.session.number,
            from: any_from
                .into_iter()
                .chain(seat.exact.front().copied())
                .min()?,
            any_from,
        })
    }

    fn takes(&self, user: &User, id: MessageId) -> bool {
        let is_mine = match user.exact_session(id) {
            Some(number) => number == self.session,
            None => self.any_from.is_some_and(|from| id >= from),
        };
        is_mine && !user.is_in_flight(id)
    }
}

fn fill(core: &Core, user: &mut User, session: &Arc<Session>) {
    if user.waits_for_leaving() {
        return;
    }
    let Some(seat) = seat_of(user, session) else {
        return;
    };
    let Some(wanted) = Wanted::of(seat) else {
        seat.backlog = None;
        session.set_has_backlog(false);
        return;
    };
    let room = SLICE
        .saturating_sub(session.outbox.waiting())
        .min(session.outbox.room());
    let owner = session.jid.bare_str();
    let is_wanted = |id| wanted.takes(user, id);
    let (stored, position) = core
        .store
        .messages_waiting(owner, wanted.from, room + 1, is_wanted);
    let mut left = None;
    for (index, message) in stored.into_iter().enumerate() {
        let entry = Entry {
            wire: Wire::Stored {
                id: message.id,
                received_at_ms: message.received_at_ms,
            },
            after: position,
            cargo: Cargo::Recorded(message.id),
        };
        if index == room || !core.push(session, entry).is_queued() {
            left = Some(message.id);
            break;
        }
        user.took_off(message.id);
    }
    session.set_has_backlog(left.is_some());
    if let Some(seat) = seat_of(user, session) {
        advance(seat, wanted.any_from, left);
    }
}

/// Everything in front of `left` has been queued.
fn advance(seat: &mut Seat, any_from: Option<MessageId>, left: Option<MessageId>) {
    let Some(left) = left else {
        seat.backlog = None;
        seat.exact = VecDeque::new();
        return;
    };
    seat.backlog = any_from.map(|from| from.max(left));
    let queued = seat.exact.partition_point(|id| *id < left);
    seat.exact.drain(..queued);
}
