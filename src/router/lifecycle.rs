//! The life of a session: bound, available, detached from its connection, resumed, over.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::addr::Jid;
use crate::crypto::CredentialsId;
use crate::stanza::{Stanza, StanzaError, StreamError, StreamErrorCondition};
use crate::store::{Account, MessageId};

use super::backlog;
use super::core::{Core, Cx};
use super::fate::{self, landed};
use super::outbox::{Cargo, Ending, Entry, NotHandedOver, Wire, too_slow};
use super::session::{Management, ResumptionId, Session};
use super::table::User;

/// Binds a full address to a connection (RFC 6120 §7). A session that has it gives way (§7.7.2.2,
/// first policy): it is usually the same client, back before its old connection timed out.
/// `proved` are the credentials that the client has authenticated with.
pub fn bind(
    core: &Core,
    jid: Jid,
    proved: &CredentialsId,
    lang: Option<Box<str>>,
    connection: u64,
) -> Result<Arc<Session>, StanzaError> {
    let account = jid.bare();
    let session = Session::new(
        core.next_number(),
        jid,
        lang,
        connection,
        core.outboxes.clone(),
    );
    let bare = account.bare_str();
    loop {
        let mut shard = core.table.shard(bare);
        // Looked up under the shard's lock: an account that is being removed first disappears
        // from the store and then ends the sessions it finds here.
        if !may_enter(core, bare, proved) {
            return Err(StanzaError::not_allowed(
                "this account or its password has changed meanwhile: log in again",
            ));
        }
        let seats = shard.user(bare).map_or(0, |user| user.seats.len());
        let old = shard
            .user(bare)
            .and_then(|user| user.seat(session.jid.resource()?))
            .map(|seat| seat.session.clone());
        let (old, condition, why) = match old {
            Some(old) => (
                old,
                StreamErrorCondition::Conflict,
                "another client has taken this resource",
            ),
            None if seats < core.config.limits.sessions_per_account => {
                shard.add(&session);
                return Ok(session);
            }
            // Sessions that only wait for a resumption keep nobody out, or a client that crashes
            // and asks for a new resource each time would lock its owner out.
            None => (
                shard
                    .user(bare)
                    .and_then(User::longest_detached)
                    .ok_or_else(|| {
                        StanzaError::resource_constraint(
                            "too many clients of this account are connected",
                        )
                    })?,
                StreamErrorCondition::ResourceConstraint,
                "another client of this account has taken the place of this one",
            ),
        };
        drop(shard);
        end(&mut core.cx(), &old, Some(StreamError::new(condition, why)));
    }
}

/// Whether a client that has authenticated with these credentials, perhaps some time ago, would
/// still be let in. Otherwise it is the former owner of a name, or knows a password that has been
/// replaced. Asked with the account's shard locked.
fn may_enter(core: &Core, bare: &str, proved: &CredentialsId) -> bool {
    let credentials = core.store.read(|state| {
        let account = state.account(bare).filter(|account| account.is_enabled());
        account.and_then(Account::credentials)
    });
    credentials.is_some_and(|credentials| credentials.id() == *proved)
}

/// Ends a session: nothing is routed to it any more, what never reached its client is kept or
/// given to others, and everybody who should know is told. Its connection, if it has one, says
/// `reason` and closes. Ending it twice is nothing.
pub fn end(cx: &mut Cx<'_>, session: &Arc<Session>, reason: Option<StreamError>) {
    if !session.begin_end() {
        return;
    }
    let core = cx.core;
    if let Some(reason) = reason {
        session.outbox.end(Ending::Discard(reason));
    }
    let bare = session.jid.bare_str();
    let undeliverable = {
        let mut shard = core.table.shard(bare);
        fate::close(core, &mut shard, session)
    };
    for entry in &undeliverable {
        tell_sender(cx, entry);
    }
    tell_end(cx, session);
}

/// Ends a session whose account is gone: nobody's any more at once, however long its client takes
/// to read what is queued for it, and `reason` behind that. Nothing of it is kept: there is
/// nobody to keep it for.
pub(super) fn farewell(cx: &mut Cx<'_>, session: &Arc<Session>, reason: StreamError) {
    if !session.begin_end() {
        return;
    }
    session.outbox.end(Ending::Discard(reason));
    let bare = session.jid.bare_str();
    {
        let mut shard = cx.core.table.shard(bare);
        shard.remove(session);
        shard.forget(bare);
    }
    tell_end(cx, session);
}

fn tell_end(cx: &mut Cx<'_>, session: &Arc<Session>) {
    let core = cx.core;
    let management = session.link().management;
    if let Some(id) = management.and_then(|m| m.resumption_id) {
        core.table.remove_resumable(&id);
        core.table.remove_detached(session);
    }
    core.table.remove_detached(session);
    for module in core.registry.modules() {
        let Some(ended) = module.moments.ended else {
            continue;
        };
        // The session is over for everybody, whatever one of them makes of it.
        let hear = AssertUnwindSafe(|| ended(cx, session));
        if catch_unwind(hear).is_err() {
            tracing::error!(module = module.name, session = %session.jid, "a module has panicked");
        }
    }
}

/// Entries that an ended session's connection had taken and could not write go the way of those
/// that were left in its outbox.
pub fn give_up(core: &Core, session: &Session) {
    let undeliverable = {
        let mut shard = core.table.shard(session.jid.bare_str());
        fate::give_back(core, &mut shard, session)
    };
    for entry in &undeliverable {
        tell_sender(&mut core.cx(), entry);
    }
}

/// Whoever waits for an answer from a client that is gone hears that there will be none
/// (RFC 6120 §8.2.3); whoever sent a message that could not be kept hears of it.
fn tell_sender(cx: &mut Cx<'_>, entry: &Entry) {
    let Wire::Ready(outgoing) = &entry.wire else {
        return;
    };
    let error = match entry.cargo {
        Cargo::Request(_) => {
            StanzaError::service_unavailable("the client has gone without an answer")
        }
        _ => StanzaError::resource_constraint("there was no room to keep this message"),
    };
    if let Ok(stanza) = Stanza::from_canonical(outgoing.to_bytes()) {
        super::route::bounce(cx, &stanza, &error);
    }
}

/// The session's last presence makes it available with this priority. One that can take messages
/// to the bare JID from now on, and could not before, gets what waits in offline storage.
pub fn set_available(cx: &mut Cx<'_>, session: &Arc<Session>, priority: i8) {
    let core = cx.core;
    let mut shard = core.table.shard(session.jid.bare_str());
    let could = session.priority().is_some_and(|before| before >= 0);
    session.set_priority(Some(priority));
    match (could, priority >= 0) {
        (false, true) => backlog::begin(core, &mut shard, session, MessageId(0)),
        (true, false) => backlog::leave(core, &mut shard, session),
        _ => {}
    }
}

/// The session is not available any more.
pub fn set_unavailable(cx: &mut Cx<'_>, session: &Session) {
    let mut shard = cx.core.table.shard(session.jid.bare_str());
    session.set_priority(None);
    backlog::leave(cx.core, &mut shard, session);
}

/// The client wants its stanzas counted (XEP-0198 §3). Returns the id to resume by, if it asked
/// for one, and for how long, in seconds. What the server sends is counted from the entry
/// [`Cargo::ManagementEnabled`] on, which the caller queues next.
pub fn enable_management(
    core: &Core,
    session: &Arc<Session>,
    resume: bool,
    max_s: Option<u32>,
) -> Option<(ResumptionId, u32)> {
    let granted_s = core.config.limits.resume_s;
    let wait_s = max_s.map_or(granted_s, |max| max.min(granted_s));
    let id = (resume && wait_s > 0).then(|| core.random::<16>());
    session.link().management = Some(Management {
        resumption_id: id,
        resume_ms_max: u64::from(wait_s) * 1_000,
        handled: 0,
        handled_after: crate::store::Position(0),
    });
    let id = id?;
    core.table.add_resumable(id, session);
    // Another connection may have taken the resource: then whoever ended the session has looked
    // for its id before it stood there.
    if session.is_ended() {
        core.table.remove_resumable(&id);
    }
    Some((id, wait_s))
}

/// The connection is gone without a word. A session that can be resumed waits for that; any
/// other is over.
pub fn connection_lost(core: &Core, session: &Arc<Session>, connection: u64) {
    let waits = {
        let mut link = session.link();
        if link.connection != connection {
            return;
        }
        link.busy = false;
        let waits = link
            .management
            .filter(|m| m.resumption_id.is_some() && session.outbox.detach(connection));
        if waits.is_some() {
            link.connection = 0;
        }
        waits
    };
    let Some(management) = waits else {
        end(&mut core.cx(), session, None);
        return;
    };
    let deadline_ms = (core.ticks)() + management.resume_ms_max;
    core.table.add_detached(deadline_ms, session);
    end_surplus(core);
    // Somebody may have resumed or ended it in this very moment, before it stood in the list.
    if session.link().connection != 0 || session.is_ended() {
        core.table.remove_detached(session);
    } else if !session.outbox.can_be_resumed() {
        core.table.hurry(session);
    }
}

/// What a resumption found.
pub enum Resumption {
    /// The session is served by the new connection from now on; the client's stanzas that were
    /// handled are counted in `handled`, which may be told once `after` is durable.
    Resumed {
        /// The session.
        session: Arc<Session>,
        /// The server's `h`.
        handled: u32,
        /// What the count waits for.
        after: crate::store::Position,
    },
    /// No such session, or somebody else's; or it can't go on where the client is; or the client
    /// would not be let in any more.
    NotFound,
    /// A stanza of its old connection is being handled right now: ask again in a moment.
    Busy,
    /// The client's `h` is more than it was sent. Its count is worth nothing, so the session is
    /// over.
    TooHigh(super::outbox::HandledCountTooHigh),
}

/// A client that has authenticated as `account`, with the credentials `proved`, wants its session
/// back (XEP-0198 §5).
pub fn resume(
    core: &Core,
    account: &Jid,
    proved: &CredentialsId,
    id: &ResumptionId,
    h: u32,
    connection: u64,
) -> Resumption {
    let Some(session) = core.table.resumable_by(id) else {
        return Resumption::NotFound;
    };
    if session.jid.bare_str() != account.bare_str() || session.is_ended() {
        return Resumption::NotFound;
    }
    let handed_over = {
        // As for `bind`: whoever removes the account ends its sessions after this, or before it.
        let _shard = core.table.shard(account.bare_str());
        if !may_enter(core, account.bare_str(), proved) {
            return Resumption::NotFound;
        }
        let mut link = session.link();
        if link.busy {
            return Resumption::Busy;
        }
        let Some(management) = link.management else {
            return Resumption::NotFound;
        };
        // Under one lock, so that of two that resume at once one has all of it.
        let handed_over = session.outbox.hand_over(connection, h);
        if handed_over.is_ok() {
            link.connection = connection;
        }
        handed_over.map(|done| (management, done))
    };
    let (management, done) = match handed_over {
        Ok(handed_over) => handed_over,
        // The session goes on waiting; its own client can bind and take its place.
        Err(NotHandedOver::Over | NotHandedOver::Behind) => return Resumption::NotFound,
        Err(NotHandedOver::TooHigh(too_high)) => {
            end(&mut core.cx(), &session, None);
            return Resumption::TooHigh(too_high);
        }
    };
    landed(core, &session, &done);
    core.table.remove_detached(&session);
    // The queue itself is rewound by the connection, behind its `<resumed/>`.
    Resumption::Resumed {
        handled: management.handled,
        after: management.handled_after,
        session,
    }
}

/// Ends sessions that wait for a resumption where there is no memory for as many.
fn end_surplus(core: &Core) {
    let sessions_max = core.config.limits.detached_sessions;
    for session in core.table.take_surplus(sessions_max) {
        let waits = session.link().connection == 0;
        if waits {
            tracing::info!(session = %session.jid, "logged out: too many sessions wait to be resumed");
            end(&mut core.cx(), &session, None);
        }
    }
}

/// Ends the sessions that have waited for a resumption long enough.
pub fn end_overdue(core: &Core) {
    end_surplus(core);
    let now_ms = (core.ticks)();
    for session in core.table.take_overdue(now_ms) {
        let waits = {
            let link = session.link();
            let is_late = link.waits_until_ms <= now_ms || !session.outbox.can_be_resumed();
            link.connection == 0 && is_late
        };
        if waits {
            tracing::info!(session = %session.jid, "logged out: it was not resumed in time");
            end_of_many(core, &session, None);
        }
    }
}

/// A session that can't be ended in order is no reason not to end the others.
fn end_of_many(core: &Core, session: &Arc<Session>, reason: Option<StreamError>) {
    let ending = AssertUnwindSafe(|| end(&mut core.cx(), session, reason));
    if catch_unwind(ending).is_err() {
        tracing::error!(session = %session.jid, "the end of a session has panicked");
    }
}

/// Ends the sessions that hold most of what waits for clients, until there is room again for all
/// who read what they are sent. What they did not get is kept as at every end.
pub fn relieve(core: &Core) {
    let mut excess = core.outboxes.excess();
    if excess == 0 {
        return;
    }
    let weigh = |session: Arc<Session>| match session.outbox.dispensable_bytes() {
        0 => None,
        bytes => Some((bytes, session)),
    };
    let mut heavy: Vec<_> = core.table.all().into_iter().filter_map(weigh).collect();
    heavy.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    for (bytes, session) in heavy {
        if excess == 0 {
            break;
        }
        tracing::warn!(session = %session.jid, bytes, "too much waits for all clients: this one reads too slowly");
        end_of_many(core, &session, Some(too_slow()));
        excess = excess.saturating_sub(bytes);
    }
}

/// Ends every session of an account that has been removed.
pub fn end_all(cx: &mut Cx<'_>, bare: &str, reason: &StreamError) {
    for session in cx.core.table.sessions(bare) {
        end(cx, &session, Some(reason.clone()));
    }
}
