//! The roster (RFC 6121 §2): the contacts of an account, kept by the server, pushed to whoever
//! asked for them.
//!
//! A roster changes with its owner's shard locked, and what tells of the change is queued before
//! the lock is let go. So every client hears of the changes in the order of their versions, and a
//! roster it is given holds exactly what the pushes behind it do not.

use bytes::Bytes;

use crate::addr::Jid;
use crate::router::{
    Answer, Cx, Entity, Entry, Iq, Module, Moments, Reply, Request, Session, Shard, nobody_answers,
};
use crate::stanza::{Outgoing, Stanza, StanzaError, build};
use crate::store::{Roster, RosterChange, RosterEntry, RosterItem};
use crate::xml::{Element, Writer};

use super::subscription;

/// The roster's namespace.
pub const NS: &str = "jabber:iq:roster";

/// Bytes of a handle or of a group's name (RFC 6121 §2.3.3 leaves the number to the server).
const NAME_BYTES_MAX: usize = 1_023;

/// Groups of one contact.
const GROUPS_MAX: usize = 64;

/// A client that missed more changes than this is sent the whole roster instead.
const CHANGES_MAX: usize = 50;

/// RFC 6121 §2.
pub const MODULE: Module = Module {
    name: "roster",
    features: &[(Entity::Server, NS)],
    iq: &[Iq {
        of: Entity::Account,
        name: "query",
        ns: NS,
        get: Some(get),
        set: Some(set),
    }],
    moments: Moments {
        iq_to_client: Some(guard_clients),
        ..Moments::NONE
    },
};

/// RFC 6121 §2.1.6: a push is the word of the client's own server. None of another account is
/// delivered, for the client that looks at its sender badly.
fn guard_clients(_: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
    let is_own = from.bare_str() == to.bare_str();
    match !is_own && stanza.payload().is_some_and(|(ns, _)| ns == NS) {
        true => Err(nobody_answers()),
        false => Ok(()),
    }
}

/// RFC 6121 §2.1.3 and §2.6: the roster, or what has changed since the version that the client
/// remembers. Whoever asks is interested in pushes from then on.
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    request.require_own()?;
    let core = cx.core;
    let owner = request.from.bare_str();
    let shard = core.table.shard(owner);
    let Some(session) = shard
        .user(owner)
        .and_then(|user| user.seat(request.from.resource()?))
        .map(|seat| seat.session.clone())
    else {
        return Ok(Reply::Sent);
    };
    session.set_interested();
    let known = request.payload.attr("ver");
    let mark = core.store.mark();
    let news = cx.read(|state| match state.account(owner) {
        Some(account) => news(account.roster(), known.as_deref(), mark),
        None => News::Whole(empty_query()),
    });
    let (payload, pushes) = match news {
        News::Whole(payload) => (payload, Vec::new()),
        News::Changes(pushes) => (Bytes::new(), pushes),
    };
    let id = request.stanza.id().unwrap_or_default();
    let answered_by = request.stanza.to().map(|_| request.to);
    let result = build::iq_result(Some(request.from), answered_by, &id, &payload);
    core.push(&session, Entry::transient(result.into(), cx.after()));
    for payload in pushes {
        push_to(cx, &session, &payload);
    }
    Ok(Reply::Sent)
}

/// RFC 6121 §2.3 to §2.5: one item is added, changed or removed.
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    request.require_own()?;
    let owner = request.from.bare();
    let (contact, wanted) = wanted(&request.payload)?;
    if contact == owner {
        return Err(StanzaError::not_allowed("nobody is a contact of their own"));
    }
    match wanted {
        Wanted::Item { name, groups } => put(cx, &owner, &contact, name, groups)?,
        Wanted::Removal => remove(cx, &owner, &contact)?,
    }
    Ok(Reply::Empty)
}

/// Tells every interested client of the owner what the contact's item is like now. The owner's
/// shard has been locked since before the change.
pub(super) fn push(cx: &mut Cx<'_>, shard: &Shard, owner: &Jid, contact: &str) {
    let seats = shard
        .user(owner.as_str())
        .map_or(&[][..], |user| &user.seats);
    let mut interested = seats
        .iter()
        .map(|seat| &seat.session)
        .filter(|session| session.is_interested())
        .peekable();
    if interested.peek().is_none() {
        return;
    }
    let mark = cx.core.store.mark();
    let payload = cx.read(|state| {
        let roster = state.account(owner.as_str())?.roster();
        let version = mark + roster.version();
        Some(match roster.item_of(contact) {
            Some(item) => query(version, |writer| write_item(writer, &item)),
            None => query(version, |writer| write_removal(writer, contact)),
        })
    });
    let Some(payload) = payload else { return };
    for session in interested {
        push_to(cx, session, &payload);
    }
}

/// What a client that remembers a version has to be told.
enum News {
    /// Everything.
    Whole(Bytes),
    /// Nothing but these pushes, one a change.
    Changes(Vec<Bytes>),
}

/// Versions are told with the store's mark: a client that remembers one of a store that was restored
/// since gets the whole roster.
fn news(roster: &Roster, known: Option<&str>, mark: u64) -> News {
    let changes = known
        .and_then(|version| version.parse::<u64>().ok()?.checked_sub(mark))
        .and_then(|version| roster.changes_since(version))
        .filter(|changes| changes.len() <= CHANGES_MAX);
    match changes {
        Some(changes) => News::Changes(
            changes
                .iter()
                .map(|change| change_query(change, mark))
                .collect(),
        ),
        None => News::Whole(query(mark + roster.version(), |writer| {
            for item in roster.iter() {
                write_item(writer, &item);
            }
        })),
    }
}

fn change_query(change: &RosterChange<'_>, mark: u64) -> Bytes {
    query(mark + change.version(), |writer| match change {
        RosterChange::Put(item) => write_item(writer, item),
        RosterChange::Removed { contact, .. } => write_removal(writer, contact),
    })
}

fn empty_query() -> Bytes {
    query(0, |_| {})
}

/// `<query/>` with the version that the roster has with what `fill` writes.
fn query(version: u64, fill: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("query", NS).attr_display("ver", version);
    fill(&mut writer);
    writer.finish()
}

fn write_item(writer: &mut Writer, item: &RosterItem<'_>) {
    writer
        .open("item")
        .attr("jid", item.contact)
        .attr_opt("name", Some(item.name).filter(|name| !name.is_empty()))
        .attr("subscription", item.subscription().as_str())
        .attr_opt("ask", item.ask().then_some("subscribe"))
        .attr_opt("approved", item.approved().then_some("true"));
    for group in item.groups() {
        writer.leaf("group", group);
    }
    writer.close();
}

fn write_removal(writer: &mut Writer, contact: &str) {
    writer
        .open("item")
        .attr("jid", contact)
        .attr("subscription", "remove")
        .close();
}

/// RFC 6121 §2.1.6: a push has no `from`, so that it is from the account itself.
fn push_to(cx: &Cx<'_>, session: &std::sync::Arc<Session>, payload: &[u8]) {
    let id = format!("roster-{}", cx.core.next_number());
    let bytes = build::iq_set(Some(&session.jid), None, &id, payload);
    let outgoing = Outgoing::from(bytes);
    cx.core
        .push(session, Entry::transient(outgoing, cx.after()));
}

/// What a roster set asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// The contact is to have this handle and stand in these groups.
    Item {
        /// Empty for none.
        name: String,
        /// In the client's order.
        groups: Vec<String>,
    },
    /// The contact is to go.
    Removal,
}

/// Reads `<query/>` (RFC 6121 §2.1.2, errors of §2.3.3). Of what the item says of the
/// subscription only `remove` counts: the rest is the server's to say (§2.1.2.5).
fn wanted(query: &Element<'_>) -> Result<(Jid, Wanted), StanzaError> {
    let mut items = query.children();
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(StanzaError::bad_request(
            "a roster set holds exactly one item",
        ));
    };
    if !item.is("item", NS) {
        return Err(StanzaError::bad_request("a roster set holds an item"));
    }
    let contact = item
        .attr("jid")
        .ok_or_else(|| StanzaError::bad_request("a roster item needs a jid"))?;
    let contact = Jid::parse(&contact)
        .map_err(|_| StanzaError::jid_malformed("the jid of this item is no valid address"))?;
    if item.attr("subscription").as_deref() == Some("remove") {
        return Ok((contact, Wanted::Removal));
    }
    let name = item.attr("name").unwrap_or_default();
    if name.len() > NAME_BYTES_MAX {
        return Err(StanzaError::not_acceptable("this handle is too long"));
    }
    let wanted = Wanted::Item {
        name: name.into_owned(),
        groups: groups(&item)?,
    };
    Ok((contact, wanted))
}

fn groups(item: &Element<'_>) -> Result<Vec<String>, StanzaError> {
    let mut groups: Vec<String> = Vec::new();
    for group in item.children().filter(|child| child.is("group", NS)) {
        let name = group.text();
        if name.is_empty() {
            return Err(StanzaError::not_acceptable("a group needs a name"));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(StanzaError::not_acceptable("this group's name is too long"));
        }
        if groups.iter().any(|known| *known == name) {
            return Err(StanzaError::bad_request("a group is named twice"));
        }
        if groups.len() == GROUPS_MAX {
            return Err(StanzaError::not_acceptable("these are too many groups"));
        }
        groups.push(name.into_owned());
    }
    Ok(groups)
}

/// RFC 6121 §2.3.2, §2.4.2: an item is replaced as a whole, but for what the server says of it.
fn put(
    cx: &mut Cx<'_>,
    owner: &Jid,
    contact: &Jid,
    name: String,
    groups: Vec<String>,
) -> Result<(), StanzaError> {
    let core = cx.core;
    let shard = core.table.shard(owner.as_str());
    cx.update(|tx| {
        let account = tx.account(owner.as_str());
        let old = account
            .and_then(|account| account.roster().item_of(contact.as_str()))
            .map(|item| item.to_entry());
        let kept = old
            .clone()
            .unwrap_or_else(|| RosterEntry::new(contact.as_str()));
        let new = RosterEntry {
            name,
            groups,
            ..kept
        };
        if old.as_ref() != Some(&new) {
            tx.put_roster_item(owner.as_str(), &new)?;
        }
        Ok(())
    })?;
    push(cx, &shard, owner, contact.as_str());
    Ok(())
}

/// RFC 6121 §2.5.2: the item goes, and with it both directions of the subscription.
fn remove(cx: &mut Cx<'_>, owner: &Jid, contact: &Jid) -> Result<(), StanzaError> {
    let core = cx.core;
    let shard = core.table.shard(owner.as_str());
    let state = cx.update(|tx| {
        let before = subscription::state_of(tx, owner.as_str(), contact.as_str());
        match tx.remove_roster_item(owner.as_str(), contact.as_str())? {
            Some(_) => subscription::drop_request(tx, owner, contact).map(|()| Some(before)),
            None => Ok(None),
        }
    })?;
    let Some(state) = state else {
        return Err(StanzaError::item_not_found(
            "this contact is not in the roster",
        ));
    };
    push(cx, &shard, owner, contact.as_str());
    drop(shard);
    subscription::cancel(cx, owner, contact, state);
    Ok(())
}
