//! The greeting: a session that becomes available is shown who else is, in slices, as its outbox
//! has room (RFC 6121 §4.2.2).

use std::sync::Arc;

use crate::addr::Jid;
use crate::router::{Cx, Greeting, Session, presence as route};

use super::super::subscription::{self, states::Half};
use super::{Direction, bare, contacts, show_to_session};

/// A session has become available: it is shown who else is, and what waits for it.
pub(super) fn begin(cx: &mut Cx<'_>, session: &Arc<Session>) {
    session.set_greeting(&mut session.presence(), Some(Greeting::default()));
    go_on(cx, session);
}

/// Shows the session as many as its outbox has room for; the others have their turn when it has
/// room again. How many there are is up to its contacts.
pub(super) fn go_on(cx: &mut Cx<'_>, session: &Arc<Session>) {
    let Some(from) = session.presence().greeting else {
        return;
    };
    let left = show_from(cx, session, from);
    {
        let mut state = session.presence();
        // It may have said goodbye, or been ended, meanwhile.
        if state.greeting != Some(from) {
            return;
        }
        session.set_greeting(&mut state, left);
    }
    if left.is_some() {
        return;
    }
    for module in cx.core.registry.modules() {
        if let Some(available) = module.moments.available {
            available(cx, session);
        }
    }
}

/// Shows a session who is there from some place in the row on; gives back the place at which its
/// outbox had no room left.
fn show_from(cx: &mut Cx<'_>, session: &Arc<Session>, from: Greeting) -> Option<Greeting> {
    let core = cx.core;
    let own = session.jid.bare();
    if from.version == 0
        && let Err(number) = show_account(cx, session, &own, from.number)
    {
        return Some(Greeting { version: 0, number });
    }
    let mut contacts = contacts(cx, &own, Direction::Any);
    contacts.retain(|contact| contact.version >= from.version);
    contacts.sort_unstable_by_key(|contact| contact.version);
    for contact in contacts {
        let version = contact.version;
        let shown = if version == from.version {
            from.number
        } else {
            0
        };
        if session.outbox.room() == 0 {
            let number = shown;
            return Some(Greeting { version, number });
        }
        if !core.is_local(contact.jid.domain()) {
            // RFC 6121 §4.3.1; contacts of this server need no probe.
            if contact.to == Half::Yes {
                route(cx, &own, &contact.jid, &bare("probe"));
            }
            continue;
        }
        if subscription::catch_up(cx, &own, &contact.jid, contact.to, contact.from)
            && let Err(number) = show_account(cx, session, &contact.jid, shown)
        {
            return Some(Greeting { version, number });
        }
    }
    None
}

/// Shows a session those of an account that come behind `shown`; the error is the last one that
/// there was room for.
fn show_account(
    cx: &Cx<'_>,
    session: &Arc<Session>,
    account: &Jid,
    mut shown: u64,
) -> Result<(), u64> {
    let own = session.jid.bare();
    let mut others = cx.core.table.sessions(account.as_str());
    others.retain(|other| other.number > shown && other.number != session.number);
    others.sort_unstable_by_key(|other| other.number);
    for other in others {
        if session.outbox.room() == 0 {
            return Err(shown);
        }
        show_to_session(cx, &other, session, &own);
        shown = other.number;
    }
    Ok(())
}
