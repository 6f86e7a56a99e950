//! Subscriptions to presence (RFC 6121 §3): who may see whom, and how that is asked for, granted,
//! refused and taken back.
//!
//! What a stanza comes to is decided by [`states`], a pure table; here it is applied to a roster,
//! told to the roster's owner, and passed on. An account's roster and its unanswered requests
//! change together, in one batch, with the account's shard locked. The two accounts of a pair
//! change one after the other: should the server stop in between, [`catch_up`] brings them back
//! in step when either logs in.

pub mod states;

use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::router::{
    Cargo, Cx, Entry, Module, Moments, Session, Shard, Wire, Wrapped, presence as route, reachable,
};
use crate::stanza::{Stanza, StanzaError, build};
use crate::store::{RosterEntry, State as Memory, StoreError, Tx};

use self::states::{Action, Half, State};
use super::{presence, roster};

/// RFC 6121 §3.
pub const MODULE: Module = Module {
    name: "subscription",
    features: &[],
    iq: &[],
    moments: Moments {
        presence_sent: Some(sent),
        presence_received: Some(received),
        available: Some(replay),
        account_removing: Some(account_removing),
        ..Moments::NONE
    },
};

/// A client has sent one of the four (RFC 6121 §3.1.2, §3.1.5, §3.2.2, §3.3.2, §3.4.2).
fn sent(
    cx: &mut Cx<'_>,
    session: &Arc<Session>,
    stanza: &Stanza,
    to: Option<&Jid>,
) -> Result<(), StanzaError> {
    let Some(action) = action_of(stanza) else {
        return Ok(());
    };
    let to = to.ok_or_else(|| StanzaError::bad_request("a subscription is to somebody"))?;
    // Subscriptions are between bare JIDs, whatever was written (§3.1.2 rule 1).
    let (owner, contact) = (session.jid.bare(), to.bare());
    if contact == owner {
        return Err(StanzaError::not_allowed(
            "one's own presence needs no subscription",
        ));
    }
    // Nothing is remembered of a request that can't get anywhere.
    if action == Action::Subscribe {
        reachable(cx.core, &contact)?;
        if cx.core.is_local(contact.domain()) && contact.local().is_none() {
            return Err(StanzaError::service_unavailable(
                "the server itself has no presence",
            ));
        }
    }
    let (before, met) = {
        let shard = cx.core.table.shard(owner.as_str());
        let (before, met) = cx.update(|tx| {
            let before = state_of(tx, owner.as_str(), contact.as_str());
            let met = before.outbound(action);
            keep(tx, &owner, &contact, before, met.state, None)?;
            Ok((before, met))
        })?;
        push_change(cx, &shard, &owner, &contact, before, met.state);
        (before, met)
    };
    // While the contact is still a subscriber (§3.2.2).
    if before.from == Half::Yes && met.state.from == Half::No {
        presence::retract(cx, &owner, &contact);
    }
    if met.is_routed {
        route(cx, &owner, &contact, &presence::with_lang(session, stanza));
    }
    if before.from != Half::Yes && met.state.from == Half::Yes {
        presence::announce(cx, &owner, &contact);
    }
    Ok(())
}

/// One of the four has arrived for an account of this server (RFC 6121 §3.1.3, §3.1.6, §3.2.3,
/// §3.3.3). What is for a resource that is not there is ignored, except a request (§8.5.3.2.2).
fn received(cx: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) {
    let is_there = |resource| cx.core.table.session(to.bare_str(), resource).is_some();
    if let Some(action) = action_of(stanza)
        && (action == Action::Subscribe || to.resource().is_none_or(is_there))
    {
        inbound(cx, &to.bare(), &from.bare(), action, stanza);
    }
}

fn inbound(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid, action: Action, stanza: &Stanza) {
    let exists = cx.peek(|state| state.account(owner.as_str()).is_some());
    if !exists || owner == contact {
        return;
    }
    let (before, met) = {
        let shard = cx.core.table.shard(owner.as_str());
        let changed = cx.update(|tx| {
            let before = state_of(tx, owner.as_str(), contact.as_str());
            let met = before.inbound(action);
            keep(tx, owner, contact, before, met.state, Some(stanza))?;
            Ok((before, met))
        });
        let (before, met) = match changed {
            Ok(changed) => changed,
            // The sender learns nothing of it: to them, nobody has answered yet.
            Err(error) => {
                tracing::debug!(account = owner.as_str(), ?action, ?error, "dropped");
                return;
            }
        };
        if met.is_delivered {
            deliver(cx, &shard, owner, contact, action, stanza);
        }
        push_change(cx, &shard, owner, contact, before, met.state);
        (before, met)
    };
    if before.from == Half::Yes && met.state.from == Half::No {
        presence::retract(cx, owner, contact);
    }
    if let Some(reply) = met.reply {
        route(cx, owner, contact, &stanza_of(reply));
    }
    // Whoever asked does not have it: they were refused once, or lost it.
    if met.reply == Some(Action::Subscribed) {
        presence::announce(cx, owner, contact);
    }
}

/// A request goes to whoever is there to answer it, news to whoever shows a roster, before the
/// push that it explains (RFC 6121 §3.1, implementation note; §3.1.6, §3.2.3, §3.3.3). A client
/// that reads slowly may miss it: the roster says the same, and a request is shown again.
fn deliver(
    cx: &Cx<'_>,
    shard: &Shard,
    owner: &Jid,
    contact: &Jid,
    action: Action,
    stanza: &Stanza,
) {
    let seats = shard
        .user(owner.as_str())
        .map_or(&[][..], |user| &user.seats);
    let hears = |session: &Session| match action {
        Action::Subscribe => session.is_available(),
        _ => session.is_interested(),
    };
    let outgoing = stanza.rewrite(&presence::between(contact, owner));
    for seat in seats.iter().filter(|seat| hears(&seat.session)) {
        let entry = Entry::at_will(outgoing.clone(), cx.after());
        cx.core.push(&seat.session, entry);
    }
}

/// RFC 6121 §3.1.3 rule 4: what the user has not answered is shown at every log-in. A request
/// that is answered or withdrawn before its turn comes is not found and not shown.
fn replay(cx: &mut Cx<'_>, session: &Arc<Session>) {
    let owner = session.jid.bare();
    let contacts: Vec<String> = cx.read(|state| {
        let account = state.account(owner.as_str());
        let requests = account.into_iter().flat_map(|a| a.subscription_requests());
        requests.map(|(contact, _)| contact.to_owned()).collect()
    });
    for contact in contacts {
        let owner = owner.clone();
        let request = Wrapped {
            find: Box::new(move |state| {
                let account = state.account(owner.as_str())?;
                account.subscription_request(&contact)
            }),
            before: Bytes::new(),
            behind: Bytes::new(),
        };
        let entry = Entry {
            wire: Wire::Wrapped(Arc::new(request)),
            after: cx.after(),
            cargo: Cargo::Transient,
        };
        cx.core.push(session, entry);
    }
}

/// The owner has logged in and believes to be subscribed to this contact of the same server, or
/// to have asked for that (`to`), or to have granted that (`grants`). Returns whether the contact
/// grants it; where the two rosters differ they are brought back in step.
pub(super) fn catch_up(
    cx: &mut Cx<'_>,
    owner: &Jid,
    contact: &Jid,
    to: Half,
    grants: bool,
) -> bool {
    let theirs = cx.peek(|state| {
        let account = state.account(contact.as_str())?;
        Some(state_in(account, owner.as_str()))
    });
    // The contact has given it up, or is not there any more.
    if grants && theirs.is_none_or(|theirs| theirs.to == Half::No) {
        let stanza = stanza_of(Action::Unsubscribe);
        inbound(cx, owner, contact, Action::Unsubscribe, &stanza);
    }
    match (to, theirs.map(|theirs| theirs.from)) {
        (Half::Yes, Some(Half::Yes)) => true,
        // What a probe would be answered with (RFC 6121 §4.3.2 rule 1).
        (Half::Yes, _) => {
            let stanza = stanza_of(Action::Unsubscribed);
            inbound(cx, owner, contact, Action::Unsubscribed, &stanza);
            false
        }
        // The request or its answer got lost (§3.1.2, at the end).
        (Half::Asked, Some(Half::No | Half::Yes)) => {
            route(cx, owner, contact, &stanza_of(Action::Subscribe));
            false
        }
        _ => false,
    }
}

/// The contact has left the owner's roster: both directions end (RFC 6121 §2.5.2).
pub(super) fn cancel(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid, was: State) {
    if was.to != Half::No {
        route(cx, owner, contact, &stanza_of(Action::Unsubscribe));
    }
    if was.from == Half::Yes {
        presence::retract(cx, owner, contact);
    }
    if was.from != Half::No {
        route(cx, owner, contact, &stanza_of(Action::Unsubscribed));
    }
}

/// Whoever gets the removed account's name later must not inherit who trusted it: it leaves all
/// subscriptions and requests of this server's users.
fn account_removing(cx: &mut Cx<'_>, removed: &Jid) {
    let met: Vec<(String, State)> = cx.peek(|state| {
        let accounts = state.accounts().map(|account| {
            let owner = account.owner().to_owned();
            (owner, state_in(account, removed.as_str()))
        });
        let concerned = |(_, met): &(String, State)| *met != State::default();
        accounts.filter(concerned).collect()
    });
    for (owner, state) in met {
        let Ok(owner) = Jid::parse(&owner) else {
            continue;
        };
        for action in [Action::Unsubscribed, Action::Unsubscribe] {
            inbound(cx, &owner, removed, action, &stanza_of(action));
        }
        if state.approved {
            disapprove(cx, &owner, removed);
        }
    }
}

/// Takes an approval in advance back in the owner's name.
fn disapprove(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid) {
    let shard = cx.core.table.shard(owner.as_str());
    let changed = cx.update(|tx| {
        let before = state_of(tx, owner.as_str(), contact.as_str());
        let after = before.outbound(Action::Unsubscribed).state;
        keep(tx, owner, contact, before, after, None)?;
        Ok((before, after))
    });
    if let Ok((before, after)) = changed {
        push_change(cx, &shard, owner, contact, before, after);
    }
}

/// The state between an account and a contact; the first of all when there is no such account.
pub(super) fn state_of(memory: &Memory, owner: &str, contact: &str) -> State {
    let account = memory.account(owner);
    account.map_or_else(State::default, |account| state_in(account, contact))
}

fn state_in(account: &crate::store::Account, contact: &str) -> State {
    let has_request = account.subscription_request(contact).is_some();
    let item = account.roster().item_of(contact);
    State::of(
        item.map(|item| item.subscription()).unwrap_or_default(),
        item.is_some_and(|item| item.ask()),
        item.is_some_and(|item| item.approved()),
        has_request,
    )
}

/// Forgets a request, if there is one.
pub(super) fn drop_request(tx: &mut Tx<'_>, owner: &Jid, contact: &Jid) -> Result<(), StoreError> {
    let account = tx.account(owner.as_str());
    let is_there = account.is_some_and(|a| a.subscription_request(contact.as_str()).is_some());
    match is_there {
        true => tx.remove_subscription_request(owner.as_str(), contact.as_str()),
        false => Ok(()),
    }
}

/// Makes a new state true: the roster item, and the request with the stanza that made it.
fn keep(
    tx: &mut Tx<'_>,
    owner: &Jid,
    contact: &Jid,
    before: State,
    after: State,
    request: Option<&Stanza>,
) -> Result<(), StoreError> {
    if shown(before) != shown(after) {
        let account = tx.account(owner.as_str());
        let item = account.and_then(|account| account.roster().item_of(contact.as_str()));
        let entry = RosterEntry {
            subscription: after.subscription(),
            ask: after.to == Half::Asked,
            approved: after.approved,
            ..item.map_or_else(
                || RosterEntry::new(contact.as_str()),
                |item| item.to_entry(),
            )
        };
        tx.put_roster_item(owner.as_str(), &entry)?;
    }
    match (before.from, after.from, request) {
        (Half::Asked, Half::Asked, _) => Ok(()),
        (Half::Asked, _, _) => drop_request(tx, owner, contact),
        (_, Half::Asked, Some(stanza)) => keep_request(tx, owner, contact, stanza),
        _ => Ok(()),
    }
}

/// The whole stanza is kept (RFC 6121 §3.1.3 rule 4), or, where it is longer than anything a
/// person would write, the request alone.
fn keep_request(
    tx: &mut Tx<'_>,
    owner: &Jid,
    contact: &Jid,
    stanza: &Stanza,
) -> Result<(), StoreError> {
    let whole = stanza.rewrite(&presence::between(contact, owner));
    match tx.put_subscription_request(owner.as_str(), contact.as_str(), whole) {
        Err(StoreError::TooBig { .. }) => {
            let type_ = Some(Action::Subscribe.as_str());
            let short = build::presence(type_, Some(owner), Some(contact), b"");
            tx.put_subscription_request(owner.as_str(), contact.as_str(), short)
        }
        kept => kept,
    }
}

/// What the roster shows of a state.
fn shown(state: State) -> (Half, bool, bool) {
    (state.to, state.from == Half::Yes, state.approved)
}

fn push_change(
    cx: &mut Cx<'_>,
    shard: &Shard,
    owner: &Jid,
    contact: &Jid,
    before: State,
    after: State,
) {
    if shown(before) != shown(after) {
        roster::push(cx, shard, owner, contact.as_str());
    }
}

fn action_of(stanza: &Stanza) -> Option<Action> {
    Action::from_word(&stanza.type_()?)
}

fn stanza_of(action: Action) -> Stanza {
    presence::bare(action.as_str())
}
