//! Messages to a local account: recorded where DESIGN §1 promises it, handed to whoever is
//! there, kept for whoever is not, and retired once somebody has them.

use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::stanza::{Kind, Outgoing, Rewrite, Stanza, StanzaError, build};
use crate::store::MessageId;
use crate::xml::{Element, Writer};

use super::backlog;
use super::core::{Core, Cx};
use super::fate::record_waiting;
use super::message::{Destination, Keep, MessageType, Recipient, destination};
use super::outbox::{Cargo, Entry, Outbox, Wire, Wrapped};
use super::session::Session;
use super::table::{Seat, Shard, User};

const STANZA_ID: &str = "urn:xmpp:sid:0";
const DELAY: &str = "urn:xmpp:delay";
const CARBONS: &str = "urn:xmpp:carbons:2";

/// An outbox with so many entries waiting takes recorded messages from the log from then on: who
/// reads slowly costs the log's space and not memory.
const CROWDED: usize = if cfg!(test) { 8 } else { 256 };

/// Delivers a message to an account of this server.
pub fn message(cx: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
    let owner = to.bare_str();
    let type_ = MessageType::of(stanza);
    if !cx.peek(|state| state.account(owner).is_some()) {
        return to_no_account(to, type_, stanza);
    }
    let core = cx.core;
    let stanza = &stanza.without_children(|child| is_forged(core, child));
    let mut shard = core.table.shard(owner);
    let exact = exact_seat(&shard, to);
    let recipient = Recipient {
        is_full: to.is_full(),
        is_connected: exact.is_some(),
        is_available: shard
            .user(owner)
            .is_some_and(|user| user.non_negative().next().is_some()),
    };
    let keep = Keep::of(stanza, type_);
    let targets: Vec<Target> = match (destination(type_, keep, recipient), shard.user(owner)) {
        (Destination::Exact, _) => exact.into_iter().collect(),
        (Destination::MostAvailable, Some(user)) => {
            let target = |seat| Target::of(user, seat);
            user.most_available().map(target).collect()
        }
        (Destination::NonNegative, Some(user)) => {
            let target = |seat| Target::of(user, seat);
            user.non_negative().map(target).collect()
        }
        (Destination::Bounce, _) => return Err(nobody()),
        (Destination::Ignore, _) => return Ok(()),
        _ => Vec::new(),
    };
    if targets.is_empty() {
        return match keep {
            Keep::Store => record(cx, &mut shard, from, to, stanza).map(drop),
            Keep::Refuse => Err(nobody()),
            Keep::Forget | Keep::Drop => Ok(()),
        };
    }
    // Several recipients share one record: whoever has it has it for all of them.
    let must_be_recorded =
        cx.must_be_durable || targets.len() > 1 || targets.iter().any(|target| target.is_behind);
    let recorded = match keep {
        Keep::Store if must_be_recorded => Some(record(cx, &mut shard, from, to, stanza)?),
        _ => None,
    };
    let cargo = match (recorded, keep) {
        (Some(id), _) => Cargo::Recorded(id),
        (None, Keep::Store) => Cargo::Message(cx.now_ms),
        (None, Keep::Refuse | Keep::Forget) => Cargo::Unstored,
        (None, Keep::Drop) => Cargo::AtWill,
    };
    let entry = Entry {
        wire: Wire::Ready(outgoing(cx, from, to, stanza, recorded)),
        after: cx.after(),
        cargo,
    };
    let is_queued = hand_out(core, &mut shard, owner, &targets, &entry);
    match entry.cargo {
        // Whoever it was for reads too slowly and is being cut off: it waits for the next session.
        Cargo::Message(_) if !is_queued => record(cx, &mut shard, from, to, stanza).map(drop),
        Cargo::Unstored | Cargo::AtWill if !is_queued => Err(crowded()),
        _ => Ok(()),
    }
}

/// RFC 6121 §8.5.1. What would vanish without a trace at somebody who is offline does so here too:
/// otherwise it would tell who has an account and disturb nobody.
fn to_no_account(to: &Jid, type_: MessageType, stanza: &Stanza) -> Result<(), StanzaError> {
    let offline = Recipient {
        is_full: to.is_full(),
        is_connected: false,
        is_available: false,
    };
    let keep = Keep::of(stanza, type_);
    match (destination(type_, keep, offline), keep) {
        (Destination::Ignore, _) | (Destination::Offline, Keep::Forget | Keep::Drop) => Ok(()),
        _ => Err(nobody()),
    }
}

/// What only a server may say: carbons (XEP-0280), which come from the account's own; and in the
/// name of this server's domain or of one of its accounts, ids of stored messages (XEP-0359 §5)
/// and delays (XEP-0203).
fn is_forged(core: &Core, child: &Element<'_>) -> bool {
    let attribute = match (child.ns(), child.name()) {
        (STANZA_ID, "stanza-id") => child.attr("by"),
        (DELAY, "delay") => child.attr("from"),
        (CARBONS, "received" | "sent") => return true,
        _ => return false,
    };
    let speaker = attribute.and_then(|address| Jid::parse(&address).ok());
    speaker.is_some_and(|speaker| core.is_local(speaker.domain()))
}

/// A session that gets the message.
struct Target {
    session: Arc<Session>,
    /// Stored messages wait for it in the log, or it reads slowly: this one queues in the log.
    is_behind: bool,
    /// The message names its resource.
    is_exact: bool,
}

impl Target {
    fn of(user: &User, seat: &Seat) -> Target {
        Target {
            session: seat.session.clone(),
            is_behind: user.waits_for_leaving()
                || seat.first_waiting().is_some()
                || is_crowded(&seat.session.outbox),
            is_exact: false,
        }
    }
}

fn is_crowded(outbox: &Outbox) -> bool {
    outbox.waiting() >= CROWDED || outbox.room() == 0
}

fn exact_seat(shard: &Shard, to: &Jid) -> Option<Target> {
    let user = shard.user(to.bare_str())?;
    let target = Target::of(user, user.seat(to.resource()?)?);
    Some(Target {
        is_exact: true,
        ..target
    })
}

/// True when it stands in somebody's outbox.
fn hand_out(
    core: &Core,
    shard: &mut Shard,
    owner: &str,
    targets: &[Target],
    entry: &Entry,
) -> bool {
    let mut is_queued = false;
    for target in targets {
        let Cargo::Recorded(id) = entry.cargo else {
            is_queued |= core.push(&target.session, entry.clone()).is_queued();
            continue;
        };
        let Some(user) = shard.user_mut(owner) else {
            return is_queued;
        };
        if !target.is_behind && core.push(&target.session, entry.clone()).is_queued() {
            user.took_off(id);
            is_queued = true;
            continue;
        }
        match target.is_exact {
            true => backlog::enter_exact(core, user, &target.session, id),
            false => backlog::enter(core, user, &target.session, id),
        }
    }
    is_queued
}

/// What is not stored can only be sent again.
pub(super) fn crowded() -> StanzaError {
    StanzaError::resource_constraint("too much waits for this client already")
}

fn nobody() -> StanzaError {
    StanzaError::service_unavailable("nobody is there to take this")
}

/// Appends the message to the recipient's queue in the log, behind those that came before it.
fn record(
    cx: &mut Cx<'_>,
    shard: &mut Shard,
    from: &Jid,
    to: &Jid,
    stanza: &Stanza,
) -> Result<MessageId, StanzaError> {
    let owner = to.bare_str();
    if let Some(user) = shard.user_mut(owner) {
        record_waiting(cx.core, user);
    }
    let lang = cx.lang;
    let stored = stanza.rewrite(&Rewrite {
        from: Some(from),
        to: Some(to),
        lang,
        insert: b"",
    });
    let now_ms = cx.now_ms;
    cx.update(|tx| tx.put_message(owner, now_ms, 0, stored))
}

fn outgoing(cx: &Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza, id: Option<MessageId>) -> Outgoing {
    let insert = id.map(|id| stanza_id(cx.core, to, id)).unwrap_or_default();
    stanza.rewrite(&Rewrite {
        from: Some(from),
        to: Some(to),
        lang: cx.lang,
        insert: &insert,
    })
}

/// `<stanza-id/>` (XEP-0359 §3): assigned by the account that stores the message.
fn stanza_id(core: &Core, owner: &Jid, id: MessageId) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("stanza-id", STANZA_ID)
        .attr("by", owner.bare_str())
        .attr("id", &core.store.stanza_id(id))
        .close();
    writer.finish()
}

/// What a stored message is when it is delivered later: with its `<stanza-id/>` and a `<delay/>`
/// (XEP-0203) that tells when the server accepted it.
pub fn stored_message(
    core: &Core,
    owner: &Jid,
    stored: &Stanza,
    id: MessageId,
    received_at_ms: u64,
) -> Outgoing {
    let mut writer = Writer::new();
    writer
        .open_ns("delay", DELAY)
        .attr("from", owner.domain())
        .attr("stamp", &crate::stanza::time::to_datetime(received_at_ms))
        .close();
    let insert = [stanza_id(core, owner, id), writer.finish()].concat();
    stored.rewrite(&Rewrite {
        insert: &insert,
        ..Rewrite::default()
    })
}

/// A payload that stands in the log with what belongs around it. One that is gone meanwhile, such
/// as a subscription request that was withdrawn, may leave nothing at all; as it has been counted
/// (XEP-0198 §4), a message that says nothing takes its place. Blocks on the disk.
pub fn wrapped_value(core: &Core, to: &Jid, wrapped: &Wrapped) -> Outgoing {
    let payload = match core.store.fetch_at(&wrapped.find) {
        Ok(value) => value.map(|value| value.payload).unwrap_or_default(),
        Err(error) => {
            tracing::error!(%error, "a stored value can't be read");
            Bytes::new()
        }
    };
    let outgoing = Outgoing {
        head: wrapped.before.clone(),
        tail: [&payload[..], &wrapped.behind[..]].concat().into(),
    };
    match outgoing.is_empty() {
        true => missing(to),
        false => outgoing,
    }
}

/// Stands for a stanza that is counted and not there any more: says nothing.
pub fn missing(to: &Jid) -> Outgoing {
    let (type_, from) = (Some("headline"), to.domain_jid());
    build::start(Kind::Message, type_, Some(to), Some(&from), None, 0)
        .finish()
        .into()
}
