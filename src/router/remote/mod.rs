//! The way to other servers, and the beginning of that to components: a [`Link`] for each pair of
//! domains, and what comes back when there is no way.
//!
//! A message that a client's stream counts (XEP-0198) stands in the log, among those of its
//! sender, until the other server has it (DESIGN §1).

mod asker;
mod link;
mod managed;
mod parcel;
mod tally;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::addr::Jid;
use crate::stanza::{Kind, Outgoing, Rewrite, Stanza, StanzaError};
use crate::store::{MessageId, OUTBOUND, Position};
use crate::stream::s2s::{Mode, Pair, Policy};

use super::component;
use super::core::{Core, Cx};
use super::message::{MessageType, is_recorded_for_others};
use super::route::bounce;

pub use asker::{Asker, Askers, Room};
pub use link::{Left, Link, NotResumed, PATIENCE_MS, Posted, Taken};
pub use managed::{ManagedStream, TakenOver};
pub use parcel::{Freight, Parcel};
pub use tally::Tally;

/// Links that are remembered at most: those in use, and those whose last attempt has failed.
const LINKS_MAX: usize = if cfg!(test) { 8 } else { 20_000 };

/// What comes back waits while so much waits for its sender already.
const RETURNED_MAX: usize = 500;

/// Has the shell connect.
pub type Dial = Box<dyn Fn(&Arc<Link>) + Send + Sync>;

/// All links.
pub struct Remotes {
    /// Who is talked with.
    pub policy: Arc<Policy>,
    /// On whose behalf.
    pub askers: Askers,
    room: Arc<Room>,
    links: Mutex<HashMap<Pair, Arc<Link>>>,
    dial: OnceLock<Dial>,
}

impl Remotes {
    /// No links yet.
    pub fn new(policy: Arc<Policy>, room: Arc<Room>) -> Remotes {
        Remotes {
            policy,
            askers: Askers::default(),
            room,
            links: Mutex::default(),
            dial: OnceLock::new(),
        }
    }

    /// From now on `dial` connects. Without one there is no way to anywhere.
    pub fn connect_with(&self, dial: Dial) {
        drop(self.dial.set(dial));
    }

    /// The link of a pair, if it is in use.
    pub fn find(&self, pair: &Pair) -> Option<Arc<Link>> {
        self.links().get(pair).cloned()
    }

    /// The links there are.
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.links().values().cloned().collect()
    }

    /// The link of a pair; `None` when there are too many.
    pub fn link(&self, core: &Core, pair: &Pair) -> Option<Arc<Link>> {
        let now_ms = (core.ticks)();
        let mut links = self.links();
        if let Some(link) = links.get(pair) {
            return Some(link.clone());
        }
        if links.len() >= LINKS_MAX {
            links.retain(|_, link| Arc::strong_count(link) > 1 || !link.is_forgettable(now_ms));
        }
        if links.len() >= LINKS_MAX {
            // That one has failed a moment ago is good to know and no more.
            links.retain(|_, link| Arc::strong_count(link) > 1 || !link.is_at_rest());
        }
        if links.len() >= LINKS_MAX {
            return None;
        }
        let link = Link::new(pair.clone(), core.next_number(), self.room.clone());
        let link = Arc::new(link);
        links.insert(pair.clone(), link.clone());
        Some(link)
    }

    /// Forgets links that nobody needs.
    pub fn tidy(&self, now_ms: u64) {
        let mut links = self.links();
        links.retain(|_, link| Arc::strong_count(link) > 1 || !link.is_forgettable(now_ms));
        if links.is_empty() {
            *links = HashMap::new();
        }
    }

    /// Has the shell connect a link.
    pub fn dial(&self, link: &Arc<Link>) {
        if let Some(dial) = self.dial.get() {
            dial(link);
        }
    }

    fn has_a_way(&self) -> bool {
        self.policy.mode != Mode::Off && self.dial.get().is_some()
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Pair, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what is for a domain that this server does not talk with, before anything is
/// remembered of it (RFC 6120 §10.4).
pub(super) fn reachable(core: &Core, domain: &str) -> Result<(), StanzaError> {
    if core.components.has(domain) {
        return Ok(());
    }
    if !core.remotes.has_a_way() {
        return Err(StanzaError::remote_server_not_found(format!(
            "this server talks with no other: it has no way to {domain}"
        )));
    }
    match core.remotes.policy.admits(domain) {
        true => Ok(()),
        false => Err(StanzaError::not_allowed(format!(
            "this server does not talk with {domain}"
        ))),
    }
}

/// Sends a stanza of somebody here to another server.
pub(super) fn send(
    cx: &mut Cx<'_>,
    from: &Jid,
    to: &Jid,
    stanza: &Stanza,
) -> Result<(), StanzaError> {
    reachable(cx.core, to.domain())?;
    cx.core.components.is_there(to.domain())?;
    let outgoing = stanza.rewrite(&Rewrite {
        from: Some(from),
        to: Some(to),
        lang: cx.lang,
        insert: b"",
    });
    let freight = freight(cx, from, stanza, &outgoing)?;
    let asker = asker(cx.core, from, to);
    post(cx, from, to, outgoing, freight, asker)
}

/// Sends what we have written ourselves, with both addresses.
pub(super) fn send_own(cx: &mut Cx<'_>, from: &Jid, to: &Jid, outgoing: Outgoing) {
    // An answer that can't be delivered is nothing that anybody could be told.
    if reachable(cx.core, to.domain()).is_ok() {
        let asker = cx.core.remotes.askers.family_of(to.domain());
        drop(post(cx, from, to, outgoing, Freight::Plain, asker));
    }
}

/// On whose behalf somebody's stanza goes: an account's, else the domain's that has brought it
/// about, so that nobody is many by inventing addresses.
fn asker(core: &Core, from: &Jid, to: &Jid) -> Asker {
    let askers = &core.remotes.askers;
    let owner = from.bare_str();
    if !core.is_local(from.domain()) {
        return askers.family_of(from.domain());
    }
    match core.store.read(|state| state.account(owner).is_some()) {
        true => askers.named(owner),
        false => askers.family_of(to.domain()),
    }
}

/// A message of somebody whose stream counts is recorded.
fn freight(
    cx: &mut Cx<'_>,
    from: &Jid,
    stanza: &Stanza,
    outgoing: &Outgoing,
) -> Result<Freight, StanzaError> {
    match stanza.kind() {
        Kind::Iq => Ok(match stanza.may_be_refused() {
            true => Freight::Request,
            false => Freight::Plain,
        }),
        Kind::Presence => Ok(Freight::Plain),
        Kind::Message => {
            let is_kept = is_recorded_for_others(stanza, MessageType::of(stanza));
            let owner = from.bare_str();
            let has_account = || cx.peek(|state| state.account(owner).is_some());
            if !cx.must_be_durable || !is_kept || !has_account() {
                return Ok(Freight::Plain);
            }
            let now_ms = cx.now_ms;
            let kept = outgoing.clone();
            let id = cx.update(|tx| tx.put_message(owner, now_ms, OUTBOUND, kept))?;
            Ok(Freight::Recorded(owner.into(), id))
        }
    }
}

fn post(
    cx: &mut Cx<'_>,
    from: &Jid,
    to: &Jid,
    outgoing: Outgoing,
    freight: Freight,
    asker: Asker,
) -> Result<(), StanzaError> {
    let core = cx.core;
    let recorded = match &freight {
        Freight::Recorded(owner, id) => Some((owner.clone(), *id)),
        Freight::Request | Freight::Plain => None,
    };
    let pair = Pair {
        local: from.domain_jid(),
        remote: to.domain_jid(),
    };
    let parcel = Parcel::new(outgoing, cx.after(), freight, asker);
    let posted = hand_over(core, &pair, parcel);
    if posted.is_err()
        && let Some((owner, id)) = recorded
    {
        retire(core, &owner, &[id]);
    }
    posted
}

fn hand_over(core: &Core, pair: &Pair, parcel: Parcel) -> Result<(), StanzaError> {
    if let Some(link) = core.components.link(pair.remote.domain()) {
        return component::post(core, link, parcel);
    }
    let link = core.remotes.link(core, pair).ok_or_else(|| {
        StanzaError::resource_constraint("this server talks with too many others already")
    })?;
    let durable = core.store.durable();
    match link.post(parcel, durable, (core.ticks)()) {
        Posted::Queued => {}
        Posted::Gated(gate) => core
            .gates
            .wait_for_link(gate, &link, || core.store.durable()),
        Posted::Connect => core.remotes.dial(&link),
        Posted::Refused(error) => return Err(error),
    }
    Ok(())
}

/// The other server has these.
pub fn arrived(core: &Core, parcels: &[Parcel]) {
    for parcel in parcels {
        if let Freight::Recorded(owner, id) = &parcel.freight {
            retire(core, owner, &[*id]);
        }
    }
}

/// Whether a parcel could come back now without its sender being cut off for reading too slowly:
/// thousands may come back at once.
pub fn may_return(core: &Core, parcel: &Parcel) -> bool {
    let stanza = Stanza::from_canonical(parcel.outgoing.to_bytes()).ok();
    let from = stanza.and_then(|stanza| Jid::parse(&stanza.from()?).ok());
    let session = from.and_then(|from| core.table.session(from.bare_str(), from.resource()?));
    session.is_none_or(|session| session.outbox.waiting() < RETURNED_MAX)
}

/// These will not arrive: whoever sent them is told, once (RFC 6120 §10.4, §8.3).
pub fn returned(core: &Core, parcels: Vec<Parcel>, error: &StanzaError) {
    let mut cx = core.cx();
    for parcel in parcels {
        match Stanza::from_canonical(parcel.outgoing.to_bytes()) {
            Ok(stanza) => bounce(&mut cx, &stanza, error),
            Err(error) => tracing::error!(%error, "what was sent can't be read"),
        }
        if let Freight::Recorded(owner, id) = &parcel.freight {
            retire(core, owner, &[*id]);
        }
    }
}

/// The server stops: what stands in no log comes back, also where it may have arrived. A session that
/// can be resumed hears of it after the start.
pub(super) fn return_unrecorded(core: &Core) {
    for link in core.remotes.all() {
        let error = |what: &str| {
            let remote = &link.pair.remote;
            let text = format!("this server has stopped before {remote} {what}");
            StanzaError::remote_server_timeout(text)
        };
        let unrecorded = link.leave_to_the_log();
        let unknown = error("said that it has it: it may have arrived");
        returned(core, unrecorded.unknown, &unknown);
        returned(core, unrecorded.waiting, &error("could be reached"));
    }
}

fn retire(core: &Core, owner: &str, ids: &[MessageId]) {
    if let Err(error) = core.store.retire_later(owner, ids, (core.clock)()) {
        // They are sent again after the next start; the store's failure ends the process.
        tracing::error!(account = owner, %error, "messages that were sent could not be retired");
    }
}

/// After a start: what stands in the log for other servers goes on its way. Blocks on the disk.
pub fn send_recorded(core: &Core) -> usize {
    let waiting: Vec<(String, MessageId)> = core.store.read(|state| {
        let of_account = |account: &crate::store::Account| {
            let outbound = account.messages().iter().filter(|m| m.is_outbound());
            let owner = account.owner().to_owned();
            let ids: Vec<_> = outbound.map(|message| message.id).collect();
            ids.into_iter().map(move |id| (owner.clone(), id))
        };
        let mut all: Vec<_> = state.accounts().flat_map(of_account).collect();
        all.sort_by_key(|(_, id)| *id);
        all
    });
    let mut sent = 0;
    for (owner, id) in waiting {
        sent += usize::from(send_one_recorded(core, &owner, id));
    }
    sent
}

fn send_one_recorded(core: &Core, owner: &str, id: MessageId) -> bool {
    let stored = core.store.message(owner, id);
    let stanza = stored.map(|bytes| bytes.map(Stanza::from_canonical));
    let Ok(Some(Ok(stanza))) = stanza else {
        tracing::error!(account = owner, id = id.0, "a stored message can't be read");
        return false;
    };
    let Some((from, to)) = stanza.addresses() else {
        return false;
    };
    let freight = Freight::Recorded(owner.into(), id);
    let asker = core.remotes.askers.named(owner);
    let parcel = Parcel::new((&stanza).into(), Position(0), freight, asker);
    let posted = match core.components.link(to.domain()) {
        Some(link) => component::keep(core, link, parcel),
        // It waits for a start with a way to anywhere.
        None if !core.remotes.has_a_way() => return false,
        None => {
            let pair = Pair {
                local: from.domain_jid(),
                remote: to.domain_jid(),
            };
            reachable(core, to.domain()).and_then(|()| hand_over(core, &pair, parcel))
        }
    };
    if let Err(error) = posted {
        bounce(&mut core.cx(), &stanza, &error);
        retire(core, owner, &[id]);
        return false;
    }
    true
}
