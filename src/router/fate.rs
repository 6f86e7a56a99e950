//! What becomes of a message once it stands in an outbox: its client has it and it is retired, or
//! its session ends and it is kept and goes to somebody else.

use crate::stanza::Outgoing;
use crate::store::MessageId;

use super::backlog;
use super::core::Core;
use super::outbox::{Cargo, Entry, Wire};
use super::session::Session;
use super::table::{Shard, User};

/// The client has these: the records of stored messages among them are retired.
pub fn landed(core: &Core, session: &Session, entries: &[Entry]) {
    let recorded = entries.iter().filter_map(|entry| match entry.cargo {
        Cargo::Recorded(id) => Some(id),
        _ => None,
    });
    let done: Vec<MessageId> = recorded.collect();
    if done.is_empty() && !session.is_ended() {
        return;
    }
    let owner = session.jid.bare_str();
    let mut shard = core.table.shard(owner);
    // Whoever holds them besides, they are delivered.
    retire(core, owner, &done);
    if let Some(user) = shard.user_mut(owner) {
        done.iter().for_each(|id| user.landed(*id));
        if session.outbox.has_left() {
            user.has_left();
            settle(core, user);
        }
    }
    shard.tidy(owner);
}

fn retire(core: &Core, owner: &str, ids: &[MessageId]) {
    if ids.is_empty() {
        return;
    }
    if let Err(error) = core.store.retire_later(owner, ids, (core.clock)()) {
        // They are delivered again, to the next session; the store's failure ends the process.
        tracing::error!(account = owner, %error, "delivered messages could not be retired");
    }
}

/// A session is over: its seat is taken away, and what never reached its client is kept where
/// offline storage would take it and goes to the account's other sessions, if there are any, with
/// what waited in the log for it. Returns the entries that nobody gets any more.
pub(super) fn close(core: &Core, shard: &mut Shard, session: &Session) -> Vec<Entry> {
    let owner = session.jid.bare_str();
    let has_unrecorded = session.outbox.has_unrecorded();
    if let Some(user) = shard.user_mut(owner).filter(|_| has_unrecorded) {
        record_waiting(core, user);
    }
    let left = session.outbox.finish();
    let waited = shard.remove(session).and_then(|seat| seat.first_waiting());
    let undeliverable = match shard.user_mut(owner) {
        Some(user) => {
            if session.outbox.leaves() {
                user.begins_to_leave();
            }
            redeliver(core, user, owner, left, waited)
        }
        None => left,
    };
    shard.tidy(owner);
    undeliverable
}

/// The connection of an ended session is done: what it had taken and could not write goes the way
/// of what was left in the outbox. Returns the entries that nobody gets any more.
pub(super) fn give_back(core: &Core, shard: &mut Shard, session: &Session) -> Vec<Entry> {
    let Some(left) = session.outbox.leave() else {
        return Vec::new();
    };
    let owner = session.jid.bare_str();
    let undeliverable = match shard.user_mut(owner) {
        Some(user) => {
            user.has_left();
            let undeliverable = redeliver(core, user, owner, left, None);
            settle(core, user);
            undeliverable
        }
        None => left,
    };
    shard.tidy(owner);
    undeliverable
}

/// Once it is known of everything whether it was delivered, what waits in the log goes on.
fn settle(core: &Core, user: &mut User) {
    if !user.waits_for_leaving() {
        backlog::fill_all(core, user);
    }
}

fn redeliver(
    core: &Core,
    user: &mut User,
    owner: &str,
    left: Vec<Entry>,
    waited: Option<MessageId>,
) -> Vec<Entry> {
    let mut first = waited;
    let mut undeliverable = Vec::new();
    for entry in left {
        let freed = match entry.cargo {
            Cargo::Recorded(id) => user.lost(id).then_some(id),
            // There was no room for it, and perhaps there is now.
            Cargo::Message(received_at_ms) => {
                let recorded = record_entry(core, owner, &entry, received_at_ms);
                if recorded.is_none() {
                    undeliverable.push(entry);
                }
                recorded
            }
            Cargo::Request(_) => {
                undeliverable.push(entry);
                None
            }
            Cargo::Transient
            | Cargo::AtWill
            | Cargo::Unstored
            | Cargo::Nonza
            | Cargo::ManagementEnabled => None,
        };
        first = first.into_iter().chain(freed).min();
    }
    if let Some(first) = first {
        backlog::bequeath(core, user, first);
    }
    undeliverable
}

/// Gives a record to every message of the account that is only on its way. A record's number is
/// its place in the order of delivery, so they come first whenever another message gets one.
pub(super) fn record_waiting(core: &Core, user: &mut User) {
    for index in 0..user.seats.len() {
        let session = user.seats[index].session.clone();
        record_waiting_for(core, user, &session);
    }
}

/// Likewise of one session.
pub(super) fn record_waiting_for(core: &Core, user: &mut User, session: &Session) {
    let owner = session.jid.bare_str();
    let mut recorded = Vec::new();
    for (outgoing, received_at_ms) in session.outbox.unrecorded() {
        match record(core, owner, &outgoing, received_at_ms) {
            Some(id) => recorded.push((outgoing, id)),
            None => break,
        }
    }
    if recorded.is_empty() {
        return;
    }
    recorded.iter().for_each(|(_, id)| user.took_off(*id));
    let delivered = session.outbox.record(&recorded);
    delivered.iter().for_each(|id| user.landed(*id));
    retire(core, owner, &delivered);
}

fn record_entry(core: &Core, owner: &str, entry: &Entry, received_at_ms: u64) -> Option<MessageId> {
    match &entry.wire {
        Wire::Ready(outgoing) => record(core, owner, outgoing, received_at_ms),
        Wire::Stored { .. } | Wire::Wrapped(_) => None,
    }
}

/// `None` when the store has no room for it.
fn record(core: &Core, owner: &str, outgoing: &Outgoing, received_at_ms: u64) -> Option<MessageId> {
    let put = core
        .store
        .update(|tx| tx.put_message(owner, received_at_ms, 0, outgoing.clone()));
    match put {
        Ok((id, _)) => Some(id),
        Err(error) => {
            tracing::warn!(account = owner, %error, "a message that was on its way could not be kept");
            None
        }
    }
}
