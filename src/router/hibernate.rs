//! Sessions over a restart: an orderly stop writes those that can be resumed to the log, the next
//! start puts them back, waiting (DESIGN §1, XEP-0198 §5).

use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::stanza::Stanza;
use crate::store::{HibernatedSession, MessageId, Position, QueuedStanza, State};

use super::backlog;
use super::core::Core;
use super::deliver::{missing, wrapped_value};
use super::fate::record_waiting_for;
use super::outbox::{Cargo, Entry, Outbox, Wire, question};
use super::session::{Greeting, Management, ResumptionId, Session};

/// Names of what a sleeping session remembers besides its queue.
mod property {
    pub(super) const PRIORITY: &str = "priority";
    pub(super) const INTERESTED: &str = "interested";
    pub(super) const LANG: &str = "lang";
    pub(super) const DIRECTED: &str = "directed";
    pub(super) const GREETED: &str = "greeted";
    /// The place in the queue of a request that the client has not answered.
    pub(super) const UNANSWERED: &str = "unanswered";
}

/// Puts every session that can be resumed to sleep; returns how many. Their connections are gone
/// and nothing is routed any more. The others leave what they did not get to offline storage.
///
/// All of them together may have more than the store takes at once, so `until_durable` blocks
/// until a position is durable or nothing more will be.
pub fn hibernate(core: &Core, until_durable: &dyn Fn(Position)) -> usize {
    super::remote::return_unrecorded(core);
    let has_room = || {
        if core.store.is_behind() {
            until_durable(core.store.position());
        }
    };
    let resumable = |session: &Arc<Session>| {
        let management = session.link().management?;
        let id = management.resumption_id?;
        session.outbox.can_be_resumed().then_some((management, id))
    };
    // These first: those that go to sleep have to take along that the others are gone.
    for session in core.table.all() {
        if resumable(&session).is_none() {
            has_room();
            super::end(&mut core.cx(), &session, None);
        }
    }
    let mut asleep = 0;
    for session in core.table.all() {
        if let Some((management, id)) = resumable(&session) {
            has_room();
            asleep += usize::from(put_to_sleep(core, &session, &management, &id));
        }
    }
    asleep
}

fn put_to_sleep(
    core: &Core,
    session: &Session,
    management: &Management,
    id: &ResumptionId,
) -> bool {
    let now_ms = (core.clock)();
    let owner = session.jid.bare_str();
    let acknowledged_outbound = session.outbox.acknowledged();
    let left_ms = {
        let link = session.link();
        match link.connection {
            0 => link.waits_until_ms.saturating_sub((core.ticks)()),
            _ => management.resume_ms_max,
        }
    };
    let (queue, unanswered) = queue(core, session);
    let presence = session.presence();
    let mut properties = Vec::new();
    let mut remember =
        |name: &str, value: &str| properties.push((name.to_owned(), value.to_owned()));
    if let Some(priority) = session.priority() {
        remember(property::PRIORITY, &priority.to_string());
    }
    if session.is_interested() {
        remember(property::INTERESTED, "");
    }
    if let Some(lang) = &session.lang {
        remember(property::LANG, lang);
    }
    if session.is_greeted() {
        remember(property::GREETED, "");
    }
    for jid in &presence.directed {
        remember(property::DIRECTED, jid.as_str());
    }
    for place in unanswered {
        remember(property::UNANSWERED, &place.to_string());
    }
    let sleeping = HibernatedSession {
        id: crate::stanza::id::hex(id),
        resource: session.jid.resource().unwrap_or_default().to_owned(),
        // The ticks of this process end with it.
        expires_at_ms: now_ms + left_ms,
        handled_inbound: management.handled,
        acknowledged_outbound,
        presence: presence
            .last
            .as_ref()
            .map_or_else(Bytes::new, |last| last.bytes().clone()),
        queue,
        properties,
    };
    let kept = core.store.update(|tx| tx.put_hibernated(owner, &sleeping));
    if let Err(error) = &kept {
        tracing::warn!(session = %session.jid, %error, "this session can't be resumed after the restart");
    }
    kept.is_ok()
}

/// What the session has not acknowledged, and behind it what waits for it in the log: a message
/// that was sent to this very resource is nobody else's when it wakes. With it, the places of the
/// requests whose senders wait for an answer.
fn queue(core: &Core, session: &Session) -> (Vec<QueuedStanza>, Vec<usize>) {
    let owner = session.jid.bare_str();
    let mut shard = core.table.shard(owner);
    let mut waits = Vec::new();
    if let Some(user) = shard.user_mut(owner) {
        // So that they are not lost with a session that does not come back.
        record_waiting_for(core, user, session);
        waits = backlog::waiting(core, user, session);
        // Two that wait for the same message do not both wake with it.
        waits.iter().for_each(|id| user.took_off(*id));
    }
    let entries = session.outbox.finish();
    let places = entries.iter().enumerate();
    let unanswered = places
        .filter(|(_, entry)| matches!(entry.cargo, Cargo::Request(_)))
        .map(|(place, _)| place)
        .collect();
    let queue = entries
        .iter()
        .map(|entry| queued(core, &session.jid, entry));
    let waits = waits.into_iter().map(|id| QueuedStanza {
        message: Some(id),
        stanza: Bytes::new(),
    });
    (queue.chain(waits).collect(), unanswered)
}

/// A message keeps its record; anything else is kept as it stands.
fn queued(core: &Core, to: &Jid, entry: &Entry) -> QueuedStanza {
    let message = match entry.cargo {
        // Another resource may have had it meanwhile: then only the bytes are left of it.
        Cargo::Recorded(id) => is_kept(core, to.bare_str(), id).then_some(id),
        _ => None,
    };
    let stanza = match (&entry.wire, message) {
        // It has its place, for it is counted; nothing is left of it.
        _ if entry.cargo == Cargo::Unstored => Bytes::new(),
        (Wire::Ready(outgoing), None) => outgoing.to_bytes(),
        (Wire::Stored { .. }, None) => missing(to).to_bytes(),
        (Wire::Wrapped(wrapped), None) => wrapped_value(core, to, wrapped).to_bytes(),
        _ => Bytes::new(),
    };
    QueuedStanza { message, stanza }
}

/// Puts the sleeping sessions back; returns how many. They wait for their clients as after a lost
/// connection. One whose time is up meanwhile comes back too and ends at the next look for such:
/// whoever saw it available has to hear that it is gone. Called before anybody can connect.
pub fn wake(core: &Core) -> usize {
    let sleeping: Vec<(String, String)> = core.store.read(|state| {
        let of_account = |account: &crate::store::Account| {
            let owner = account.owner().to_owned();
            account
                .hibernated()
                .map(move |(id, _)| (owner.clone(), id.to_owned()))
                .collect::<Vec<_>>()
        };
        state.accounts().flat_map(of_account).collect()
    });
    let mut awake = Vec::new();
    for (owner, id) in sleeping {
        match core.store.hibernated(&owner, &id) {
            Ok(Some(session)) => awake.extend(wake_one(core, &owner, &session)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(account = owner, %error, "a sleeping session can't be read");
            }
        }
        // From now on it lives in memory: after a crash its messages are delivered again.
        if let Err(error) = core.store.update(|tx| tx.remove_hibernated(&owner, &id)) {
            tracing::warn!(account = owner, %error, "a sleeping session can't be forgotten");
        }
    }
    // Only now is it known what stands in whose queue: the rest that waits in the log comes behind.
    for session in &awake {
        let mut shard = core.table.shard(session.jid.bare_str());
        if session.priority().is_some_and(|priority| priority >= 0) {
            backlog::begin(core, &mut shard, session, MessageId(0));
        }
    }
    awake.len()
}

fn wake_one(core: &Core, owner: &str, sleeping: &HibernatedSession) -> Option<Arc<Session>> {
    let id = super::session::resumption_id(&sleeping.id)?;
    let jid = Jid::parse(owner)
        .ok()?
        .with_resource(&sleeping.resource)
        .ok()?;
    let mut entries: Vec<Entry> = sleeping
        .queue
        .iter()
        .map(|queued| entry(core, &jid, queued))
        .collect();
    let unanswered = sleeping
        .properties
        .iter()
        .filter(|(key, _)| key == property::UNANSWERED);
    for place in unanswered.filter_map(|(_, place)| place.parse::<usize>().ok()) {
        if let Some(entry) = entries.get_mut(place) {
            wait_for_answer(entry);
        }
    }
    let outbox = Outbox::hibernated(
        core.outboxes.clone(),
        sleeping.acknowledged_outbound,
        entries,
    );
    let value = |name: &str| {
        let property = sleeping.properties.iter().find(|(key, _)| key == name);
        property.map(|(_, value)| value.as_str())
    };
    let management = Management {
        resumption_id: Some(id),
        resume_ms_max: u64::from(core.config.limits.resume_s) * 1_000,
        handled: sleeping.handled_inbound,
        handled_after: Position(0),
    };
    let lang = value(property::LANG).map(Into::into);
    let session = Session::hibernated(core.next_number(), jid, lang, outbox, management);
    if value(property::INTERESTED).is_some() {
        session.set_interested();
    }
    {
        let mut presence = session.presence();
        if !sleeping.presence.is_empty() {
            presence.last = Stanza::from_canonical(sleeping.presence.clone()).ok();
        }
        let directed = sleeping
            .properties
            .iter()
            .filter(|(key, _)| key == property::DIRECTED);
        presence.directed = directed
            .filter_map(|(_, jid)| Jid::parse(jid).ok())
            .collect();
        // From the beginning: who was shown before may have gone with the last process.
        if value(property::GREETED).is_some() {
            session.set_greeting(&mut presence, Some(Greeting::default()));
        }
        presence.grown(&core.presences);
    }
    let mut shard = core.table.shard(owner);
    shard.add(&session);
    session.set_priority(value(property::PRIORITY).and_then(|priority| priority.parse().ok()));
    if let Some(user) = shard.user_mut(owner) {
        for message in sleeping.queue.iter().filter_map(|queued| queued.message) {
            user.took_off(message);
        }
    }
    drop(shard);
    core.table.add_resumable(id, &session);
    // If the wall clock was set back meanwhile, nobody gets more time than there ever is.
    let left_ms = sleeping.expires_at_ms.saturating_sub((core.clock)());
    let left_ms = left_ms.min(management.resume_ms_max);
    core.table.add_detached((core.ticks)() + left_ms, &session);
    Some(session)
}

/// Whoever sent this request is told if its client never answers.
fn wait_for_answer(entry: &mut Entry) {
    let Wire::Ready(outgoing) = &entry.wire else {
        return;
    };
    let Ok(stanza) = Stanza::from_canonical(outgoing.to_bytes()) else {
        return;
    };
    let from = stanza.from().and_then(|from| Jid::parse(&from).ok());
    if let (Some(from), Some(id)) = (from, stanza.id()) {
        entry.cargo = Cargo::Request(question(&from, &id));
    }
}

fn is_kept(core: &Core, owner: &str, id: MessageId) -> bool {
    let find = |state: &State| Some(state.account(owner)?.messages().find(id)?.id);
    core.store.read(find).is_some()
}

fn entry(core: &Core, to: &Jid, queued: &QueuedStanza) -> Entry {
    let owner = to.bare_str();
    let received_at_ms = queued.message.and_then(|id| {
        core.store
            .read(|state| Some(state.account(owner)?.messages().find(id)?.received_at_ms))
    });
    match (queued.message, received_at_ms) {
        (Some(id), Some(received_at_ms)) => Entry {
            wire: Wire::Stored { id, received_at_ms },
            after: Position(0),
            cargo: Cargo::Recorded(id),
        },
        _ if queued.stanza.is_empty() => Entry::transient(missing(to), Position(0)),
        _ => Entry::transient(queued.stanza.clone().into(), Position(0)),
    }
}
