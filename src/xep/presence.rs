//! Presence (RFC 6121 §4): who is available, told to those who may know and to nobody else.
//!
//! What a session last broadcast is kept with it, as a copy of its own, stamped with its address
//! and language: later recipients get a new start tag and share the rest.
//!
//! Two threads may tell the same contact about the same session at the same time: one because it
//! has changed, one because the contact has just come. Neither holds a lock over both. So whoever
//! shows a session's presence looks again afterwards ([`show`]), and whoever broadcasts looks
//! whether the session has ended meanwhile: what a contact hears last is what is true.

mod greeting;

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::router::{
    Cx, Entry, Module, Moments, PresenceState, Pushed, Session, nobody_answers, presence as route,
    reachable, set_available, set_unavailable,
};
use crate::stanza::{Kind, Rewrite, Stanza, StanzaError, build, time};
use crate::xml::{Writer, ns};

use super::subscription::{
    self,
    states::{Action, Half},
};

/// RFC 6121 §4.
pub const MODULE: Module = Module {
    name: "presence",
    features: &[],
    iq: &[],
    moments: Moments {
        iq_to_client: Some(guard_clients),
        presence_sent: Some(sent),
        presence_received: Some(received),
        room: Some(greeting::go_on),
        ended: Some(ended),
        account_removing: Some(account_removing),
        ..Moments::NONE
    },
};

/// Bytes of one presence: it is kept in memory for as long as its session is available.
const BYTES_MAX: usize = 10_000;

/// Addresses that one session has sent directed presence; rooms are most of them.
const DIRECTED_MAX: usize = 500;

/// How often a presence that changes while it is shown is shown again.
const LOOKS_MAX: usize = 4;

/// The `type` of a presence (RFC 6121 §4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Available,
    Unavailable,
    Probe,
    Error,
    /// One of the four of RFC 6121 §3.
    Subscription,
}

impl Type {
    fn of(stanza: &Stanza) -> Option<Type> {
        match stanza.type_().as_deref() {
            None => Some(Type::Available),
            Some("unavailable") => Some(Type::Unavailable),
            Some("probe") => Some(Type::Probe),
            Some("error") => Some(Type::Error),
            Some(word) => Action::from_word(word).map(|_| Type::Subscription),
        }
    }
}

/// A client has sent a presence.
fn sent(
    cx: &mut Cx<'_>,
    session: &Arc<Session>,
    stanza: &Stanza,
    to: Option<&Jid>,
) -> Result<(), StanzaError> {
    let Some(type_) = Type::of(stanza) else {
        return Err(StanzaError::bad_request("this is no type of presence"));
    };
    match (type_, to) {
        (Type::Available, None) => available(cx, session, stanza)?,
        (Type::Available, Some(to)) => directed(cx, session, stanza, to)?,
        (Type::Unavailable, None) => unavailable(cx, session, stanza),
        (Type::Unavailable, Some(to)) => directed_unavailable(cx, session, stanza, to),
        (Type::Probe, to) => {
            let to = to.cloned().unwrap_or_else(|| session.jid.bare());
            reachable(cx.core, &to)?;
            route(cx, &session.jid, &to, stanza);
        }
        (Type::Error, Some(to)) => route(cx, &session.jid, to, &with_lang(session, stanza)),
        (Type::Error, None) | (Type::Subscription, _) => {}
    }
    Ok(())
}

/// A presence has arrived for an account of this server.
fn received(cx: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) {
    match Type::of(stanza) {
        Some(Type::Available | Type::Error) => deliver(cx, from, to, stanza),
        Some(Type::Unavailable) => {
            forget_directed(cx, to.bare_str(), from);
            deliver(cx, from, to, stanza);
        }
        Some(Type::Probe) => answer_probe(cx, from, to, stanza),
        Some(Type::Subscription) | None => {}
    }
}

/// Initial and subsequent presence (RFC 6121 §4.2.2, §4.4.2).
fn available(cx: &mut Cx<'_>, session: &Arc<Session>, stanza: &Stanza) -> Result<(), StanzaError> {
    let priority = priority_of(stanza)?;
    if stanza.bytes().len() > BYTES_MAX {
        return Err(StanzaError::policy_violation("this presence is too long"));
    }
    let stanza = own_copy(session, stanza);
    let is_initial = !session.is_available();
    remember(cx, session, &stanza)?;
    set_available(cx, session, priority);
    broadcast(cx, session, &stanza);
    if is_initial {
        greeting::begin(cx, session);
    }
    if session.is_ended() {
        session.presence().last = None;
        broadcast(cx, session, &bare("unavailable"));
    }
    Ok(())
}

/// Keeps the last presence, where there is memory for it.
fn remember(cx: &Cx<'_>, session: &Session, stanza: &Stanza) -> Result<(), StanzaError> {
    let mut state = session.presence();
    let before = state.last.as_ref().map_or(0, |last| last.bytes().len());
    let more = stanza.bytes().len().saturating_sub(before);
    if !state.try_grow(&cx.core.presences, more) {
        return Err(StanzaError::resource_constraint(
            "too many long presences are kept: send a shorter one",
        ));
    }
    state.last = Some(stanza.clone());
    state.shrunk();
    Ok(())
}

/// The client leaves with a word (RFC 6121 §4.5.2).
fn unavailable(cx: &mut Cx<'_>, session: &Arc<Session>, stanza: &Stanza) {
    let stanza = match stanza.bytes().len() > BYTES_MAX {
        true => bare("unavailable"),
        false => own_copy(session, stanza),
    };
    let was_available = leave(cx, session, &stanza);
    // Its own presence is what the client itself is subscribed to as well.
    if was_available {
        let own = session.jid.bare();
        hand(cx, session, &session.jid, &own, &stanza);
    }
}

/// The session is over, whether its client said so or not.
fn ended(cx: &mut Cx<'_>, session: &Arc<Session>) {
    leave(cx, session, &bare("unavailable"));
}

/// While the store still knows who may see them.
fn account_removing(cx: &mut Cx<'_>, removed: &Jid) {
    for session in cx.core.table.sessions(removed.as_str()) {
        ended(cx, &session);
    }
}

/// Tells everybody who has seen the session that it is gone. True when it was available.
fn leave(cx: &mut Cx<'_>, session: &Arc<Session>, stanza: &Stanza) -> bool {
    let (was_available, directed) = {
        let mut state = session.presence();
        session.set_greeting(&mut state, None);
        let left = (state.last.take().is_some(), mem::take(&mut state.directed));
        state.shrunk();
        left
    };
    set_unavailable(cx, session);
    if was_available {
        broadcast(cx, session, stanza);
    }
    // Whoever got directed presence is told too (§4.6.3), but not twice.
    let own = session.jid.bare();
    for to in directed {
        if !was_available || !is_subscriber(cx, &own, &to) {
            route(cx, &session.jid, &to, stanza);
        }
    }
    was_available
}

/// To all subscribers and to the account's own available resources, this one included.
fn broadcast(cx: &mut Cx<'_>, session: &Session, stanza: &Stanza) {
    let own = session.jid.bare();
    for contact in contacts(cx, &own, Direction::From) {
        route(cx, &session.jid, &contact.jid, stanza);
    }
    route(cx, &session.jid, &own, stanza);
}

/// The account's current presence goes to somebody who may see it from now on (RFC 6121 §3.1.5).
pub(super) fn announce(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid) {
    for session in cx.core.table.sessions(owner.as_str()) {
        show(&session, |stanza| route(cx, &session.jid, contact, stanza));
    }
}

/// The account is gone for somebody who may not see it any more (RFC 6121 §3.2.2), even where
/// directed presence was sent to them (§4.6.1).
pub(super) fn retract(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid) {
    let gone = bare("unavailable");
    for session in cx.core.table.sessions(owner.as_str()) {
        let is_concerned = {
            let mut state = session.presence();
            let before = state.directed.len();
            state
                .directed
                .retain(|to| to.bare_str() != contact.as_str());
            state.shrunk();
            state.last.is_some() || state.directed.len() < before
        };
        if is_concerned {
            route(cx, &session.jid, contact, &gone);
        }
    }
}

/// Hands the session's last presence to `send`, again when it has changed meanwhile.
fn show(session: &Session, mut send: impl FnMut(&Stanza)) {
    let mut shown: Option<Stanza> = None;
    for _ in 0..LOOKS_MAX {
        let last = session.presence().last.clone();
        match (&shown, &last) {
            (None, None) => return,
            (Some(shown), Some(last)) if is_same(shown, last) => return,
            (_, Some(last)) => send(last),
            (Some(_), None) => return send(&bare("unavailable")),
        }
        shown = last;
    }
}

fn show_to_session(cx: &Cx<'_>, of: &Session, session: &Arc<Session>, own: &Jid) {
    show(of, |stanza| hand(cx, session, &of.jid, own, stanza));
}

/// Not equal but the very same: two presences may say the same at different times.
fn is_same(one: &Stanza, other: &Stanza) -> bool {
    one.bytes().as_ptr() == other.bytes().as_ptr()
}

/// RFC 6121 §4.6.3: available presence for one address. It is noted, so that the address hears of
/// the end too, unless the address will hear of it as a subscriber.
fn directed(
    cx: &mut Cx<'_>,
    session: &Arc<Session>,
    stanza: &Stanza,
    to: &Jid,
) -> Result<(), StanzaError> {
    reachable(cx.core, to)?;
    let own = session.jid.bare();
    let hears_anyway =
        to.bare_str() == own.as_str() || (session.is_available() && is_subscriber(cx, &own, to));
    if !hears_anyway {
        let mut state = session.presence();
        if !state.directed.contains(to) {
            let more = to.as_str().len() + PresenceState::ADDRESS_BYTES;
            if state.directed.len() == DIRECTED_MAX || !state.try_grow(&cx.core.presences, more) {
                return Err(StanzaError::resource_constraint(
                    "directed presence went to too many addresses",
                ));
            }
            state.directed.push(to.clone());
        }
    }
    route(cx, &session.jid, to, &with_lang(session, stanza));
    if session.is_ended() {
        route(cx, &session.jid, to, &bare("unavailable"));
    }
    Ok(())
}

fn directed_unavailable(cx: &mut Cx<'_>, session: &Session, stanza: &Stanza, to: &Jid) {
    let mut state = session.presence();
    state.directed.retain(|known| known != to);
    state.shrunk();
    drop(state);
    route(cx, &session.jid, to, &with_lang(session, stanza));
}

/// RFC 6121 §4.6.1: whoever says that they are gone need not be told that this side is.
fn forget_directed(cx: &Cx<'_>, owner: &str, gone: &Jid) {
    let shard = cx.core.table.shard(owner);
    let seats = shard.user(owner).map_or(&[][..], |user| &user.seats);
    for seat in seats {
        let mut state = seat.session.presence();
        if !state.directed.is_empty() {
            state.directed.retain(|to| to != gone);
            state.shrunk();
        }
    }
}

/// RFC 6121 §8.5.2.1.2 and §8.5.3: to the resource that is named, connected or not available as
/// it may be, or to all that are available. Where there is none, nobody misses it.
fn deliver(cx: &Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) {
    let shard = cx.core.table.shard(to.bare_str());
    let Some(user) = shard.user(to.bare_str()) else {
        return;
    };
    let is_meant = |session: &Session| match to.resource() {
        Some(resource) => session.jid.resource() == Some(resource),
        None => session.is_available(),
    };
    let mut meant = user
        .seats
        .iter()
        .filter(|seat| is_meant(&seat.session))
        .peekable();
    if meant.peek().is_none() {
        return;
    }
    let outgoing = stanza.rewrite(&between(from, to));
    for seat in meant {
        let entry = Entry::at_will(outgoing.clone(), cx.after());
        let refused = cx.core.push(&seat.session, entry) == Pushed::Refused;
        // A contact's presence is not lost on somebody who believes to know it.
        if refused && (from.bare_str() == to.bare_str() || is_subscriber(cx, &from.bare(), to)) {
            let entry = Entry::transient(outgoing.clone(), cx.after());
            cx.core.push(&seat.session, entry);
        }
    }
}

/// To this very session, whatever `to` says.
fn hand(cx: &Cx<'_>, session: &Arc<Session>, from: &Jid, to: &Jid, stanza: &Stanza) {
    let outgoing = stanza.rewrite(&between(from, to));
    cx.core
        .push(session, Entry::transient(outgoing, cx.after()));
}

/// RFC 6121 §4.3.2 and §4.6.6.
fn answer_probe(cx: &mut Cx<'_>, from: &Jid, to: &Jid, probe: &Stanza) {
    let owner = to.bare();
    let is_granted = from.bare_str() == owner.as_str() || is_subscriber(cx, &owner, from);
    let session = to
        .resource()
        .and_then(|resource| cx.core.table.session(owner.as_str(), resource));
    match (is_granted, to.resource()) {
        (true, None) => show_all(cx, from, &owner, probe),
        // Of one resource only whether it is there (§4.3.2, at the end).
        (true, Some(_)) => match session.filter(|session| session.is_available()) {
            Some(_) => route(cx, to, from, &available_alone()),
            None => route(cx, to, from, &mirrored("unavailable", probe, b"")),
        },
        (false, _) => match session.filter(|session| was_directed(session, from)) {
            Some(_) => route(cx, to, from, &available_alone()),
            None => refuse_probe(cx, from, &owner, probe),
        },
    }
}

fn show_all(cx: &mut Cx<'_>, from: &Jid, owner: &Jid, probe: &Stanza) {
    let mut is_there = false;
    for session in cx.core.table.sessions(owner.as_str()) {
        show(&session, |stanza| {
            is_there = true;
            route(cx, &session.jid, from, stanza);
        });
    }
    if !is_there {
        let since_ms = cx.peek(|state| {
            let activity = state.account(owner.as_str())?.last_activity();
            activity.map(|(at_ms, _)| at_ms)
        });
        let delay = since_ms
            .map(|at_ms| delay(owner, at_ms))
            .unwrap_or_default();
        route(cx, owner, from, &mirrored("unavailable", probe, &delay));
    }
}

/// The same for accounts that do not exist, that never heard of the prober and that refuse it.
fn refuse_probe(cx: &mut Cx<'_>, from: &Jid, owner: &Jid, probe: &Stanza) {
    let refusal = mirrored(Action::Unsubscribed.as_str(), probe, b"");
    let core = cx.core;
    let asker = from.bare();
    // A client's curiosity must not cancel what it has asked for and nobody has answered yet.
    let believes = cx.peek(|state| subscription::state_of(state, asker.as_str(), owner.as_str()));
    match from.resource() {
        Some(resource) if core.is_local(from.domain()) && believes.to != Half::Yes => {
            if let Some(session) = core.table.session(asker.as_str(), resource) {
                hand(cx, &session, owner, from, &refusal);
            }
        }
        _ => route(cx, owner, &asker, &refusal),
    }
}

/// RFC 6121 §8.5.3.1: a request reaches only a client whose presence is shared with the sender, by
/// a subscription or directed to it. Anybody else meets what they meet where nobody is: an answer
/// would tell that a guessed resource is connected.
fn guard_clients(cx: &mut Cx<'_>, from: &Jid, to: &Jid, _: &Stanza) -> Result<(), StanzaError> {
    let owner = to.bare();
    if from.bare_str() == owner.as_str() || is_subscriber(cx, &owner, from) {
        return Ok(());
    }
    let session = to
        .resource()
        .and_then(|resource| cx.core.table.session(owner.as_str(), resource));
    match session.is_some_and(|session| was_directed(&session, from)) {
        true => Ok(()),
        false => Err(nobody_answers()),
    }
}

/// Whether the session has sent directed presence to this address or to its bare JID.
fn was_directed(session: &Session, to: &Jid) -> bool {
    let state = session.presence();
    let mut known = state.directed.iter();
    known.any(|known| known == to || known.as_str() == to.bare_str())
}

/// RFC 6121 §4.7.2.3: at most one whole number from -128 to 127, and 0 where there is none.
fn priority_of(stanza: &Stanza) -> Result<i8, StanzaError> {
    let mut priorities = stanza
        .children()
        .filter(|child| child.is("priority", ns::CLIENT));
    let Some(priority) = priorities.next() else {
        return Ok(0);
    };
    let number = priority.text().trim_ascii().parse().ok();
    match (number, priorities.next()) {
        (Some(number), None) => Ok(number),
        _ => Err(StanzaError::bad_request(
            "a priority is one whole number from -128 to 127",
        )),
    }
}

/// Which half of a roster is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Whom the account's presence goes to.
    From,
    /// These, and whose presence the account gets or has asked for.
    Any,
}

struct Contact {
    jid: Jid,
    /// The account's subscription to the contact.
    to: Half,
    /// Whether the contact is subscribed to the account.
    from: bool,
    /// The roster's version when the item last changed.
    version: u64,
}

/// The contacts of an account. Their addresses are read after the store has been let go.
fn contacts(cx: &Cx<'_>, owner: &Jid, direction: Direction) -> Vec<Contact> {
    let mut names = String::new();
    let mut found: Vec<(usize, Half, bool, u64)> = Vec::new();
    cx.peek(|state| {
        let account = state.account(owner.as_str());
        for item in account
            .into_iter()
            .flat_map(|account| account.roster().iter())
        {
            let to = match (item.subscription().has_to(), item.ask()) {
                (true, _) => Half::Yes,
                (false, true) => Half::Asked,
                (false, false) => Half::No,
            };
            let from = item.subscription().has_from();
            let is_meant = match direction {
                Direction::From => from,
                Direction::Any => from || to != Half::No,
            };
            if is_meant {
                names.push_str(item.contact);
                found.push((item.contact.len(), to, from, item.version));
            }
        }
    });
    let mut rest = names.as_str();
    let contact = |(len, to, from, version)| {
        let (name, behind) = rest.split_at(len);
        rest = behind;
        let jid = Jid::parse(name).ok()?;
        Some(Contact {
            jid,
            to,
            from,
            version,
        })
    };
    found.into_iter().filter_map(contact).collect()
}

/// Whether somebody is subscribed to the owner's presence.
fn is_subscriber(cx: &Cx<'_>, owner: &Jid, who: &Jid) -> bool {
    cx.peek(|state| {
        let account = state.account(owner.as_str());
        let item = account.and_then(|account| account.roster().item_of(who.bare_str()));
        item.is_some_and(|item| item.subscription().has_from())
    })
}

/// The stanza as it is kept: in memory of its own, so that no buffer that was read into stays
/// alive with it, and with everything that is the same for all recipients.
fn own_copy(session: &Session, stanza: &Stanza) -> Stanza {
    let stamped = stanza.rewrite(&Rewrite {
        from: Some(&session.jid),
        lang: session.lang.as_deref(),
        ..Rewrite::default()
    });
    Stanza::from_canonical(stamped.to_bytes()).expect("a stamped stanza is a stanza")
}

/// The stanza in the language of its stream, where it names none itself (RFC 6120 §8.1.5). What
/// is shown later is shown in the name of others, so the language goes with the stanza.
pub(super) fn with_lang(session: &Session, stanza: &Stanza) -> Stanza {
    match session.lang.is_some() && stanza.lang().is_none() {
        true => own_copy(session, stanza),
        false => stanza.clone(),
    }
}

/// The start tag of a presence from one to another.
pub(super) fn between<'a>(from: &'a Jid, to: &'a Jid) -> Rewrite<'a> {
    Rewrite {
        from: Some(from),
        to: Some(to),
        ..Rewrite::default()
    }
}

/// A presence of this type, or of none, and nothing else.
pub(super) fn bare(type_: &str) -> Stanza {
    built(build::presence(Some(type_), None, None, b""))
}

fn available_alone() -> Stanza {
    built(build::presence(None, None, None, b""))
}

/// An answer to a probe that says nothing of a resource repeats its `id` (RFC 6121 §4.3.2.1).
fn mirrored(type_: &str, probe: &Stanza, payload: &[u8]) -> Stanza {
    let id = probe.id();
    let (kind, type_) = (Kind::Presence, Some(type_));
    let mut writer = build::start(kind, type_, None, None, id.as_deref(), payload.len());
    built(writer.splice_validated(payload).finish())
}

/// Since when an account has been unavailable (XEP-0203).
fn delay(owner: &Jid, at_ms: u64) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("delay", "urn:xmpp:delay")
        .attr("from", owner.domain())
        .attr("stamp", &time::to_datetime(at_ms));
    writer.finish()
}

fn built(bytes: Bytes) -> Stanza {
    Stanza::from_canonical(bytes).expect("what the server writes is a stanza")
}
