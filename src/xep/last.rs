//! XEP-0012: since when the server runs, and since when somebody is away, for those who may see
//! that anyway.

use std::sync::Arc;

use crate::addr::Jid;
use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request, Session};
use crate::stanza::{Stanza, StanzaError};
use crate::xml::{Writer, ns};

use super::access::sees_presence;

const NS: &str = "jabber:iq:last";

/// A longer status is kept shortened to this.
const STATUS_BYTES_MAX: usize = 512;

/// XEP-0012. It stands before the module that makes an ended session unavailable, because it
/// asks whether the session was available when it ended.
pub const MODULE: Module = Module {
    name: "last",
    features: &[(Entity::Server, NS), (Entity::Account, NS)],
    iq: &[
        Iq {
            of: Entity::Server,
            name: "query",
            ns: NS,
            get: Some(uptime),
            set: None,
        },
        Iq {
            of: Entity::Account,
            name: "query",
            ns: NS,
            get: Some(away),
            set: None,
        },
    ],
    moments: Moments {
        iq_to_client: Some(guard_clients),
        presence_sent: Some(note_status),
        ended: Some(note_end),
        ..Moments::NONE
    },
};

/// §4: seconds since the server started.
fn uptime(cx: &mut Cx<'_>, _: &Request<'_>) -> Answer {
    let now_ms = (cx.core.ticks)();
    Ok(answer(now_ms - cx.core.started_at_ms, ""))
}

/// §2: seconds since the last session of the account ended, and what it said as it went; 0 while
/// there is a session.
fn away(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    if !sees_presence(cx, request.to, request.from) {
        return Err(not_yours());
    }
    let owner = request.to.as_str();
    if !cx.core.table.sessions(owner).is_empty() {
        return Ok(answer(0, ""));
    }
    let now_ms = cx.now_ms;
    let last = cx.read(|state| {
        let (at_ms, status) = state.account(owner)?.last_activity()?;
        Some((at_ms, status.to_owned()))
    });
    match last {
        Some((at_ms, status)) => Ok(answer(now_ms.saturating_sub(at_ms), &status)),
        None => Err(StanzaError::item_not_found(
            "nobody has logged in there yet",
        )),
    }
}

fn answer(since_ms: u64, status: &str) -> Reply {
    let mut writer = Writer::new();
    writer
        .open_ns("query", NS)
        .attr_display("seconds", since_ms / 1_000)
        .text(status);
    Reply::Payload(writer.finish())
}

fn not_yours() -> StanzaError {
    StanzaError::forbidden("you may not see whether this user is there")
}

/// §3: a question to a client is not even delivered for somebody who may not see its presence.
fn guard_clients(
    cx: &mut Cx<'_>,
    from: &Jid,
    to: &Jid,
    stanza: &Stanza,
) -> Result<(), StanzaError> {
    let asks = stanza.payload().is_some_and(|(ns, _)| ns == NS);
    match asks && !sees_presence(cx, to, from) {
        true => Err(not_yours()),
        false => Ok(()),
    }
}

/// The last session that was available says something as it goes: that is kept.
fn note_status(
    cx: &mut Cx<'_>,
    session: &Arc<Session>,
    stanza: &Stanza,
    to: Option<&Jid>,
) -> Result<(), StanzaError> {
    let leaves = to.is_none() && stanza.is_type("unavailable") && session.is_available();
    if leaves {
        let sessions = cx.core.table.sessions(session.jid.bare_str());
        let available = sessions.iter().filter(|session| session.is_available());
        if available.count() == 1 {
            let status = stanza.child("status", ns::CLIENT);
            let said = status.map(|status| status.text().into_owned());
            note(cx, session, Some(&said.unwrap_or_default()));
        }
    }
    Ok(())
}

/// The last session of an account is over. One that was still available has not said goodbye, so
/// whatever was said before does not count.
fn note_end(cx: &mut Cx<'_>, session: &Arc<Session>) {
    let has_others = !cx.core.table.sessions(session.jid.bare_str()).is_empty();
    if !has_others {
        let said = session.is_available().then_some("");
        note(cx, session, said);
    }
}

/// Records that the account was there until now. Losing this would be no loss to speak of, so a
/// store that takes nothing more is not complained to anybody.
fn note(cx: &mut Cx<'_>, session: &Session, said: Option<&str>) {
    let owner = session.jid.bare_str();
    let now_ms = cx.now_ms;
    let noted = cx.core.store.update_later(now_ms, |tx| {
        let Some(account) = tx.account(owner) else {
            return Ok(());
        };
        let before = account.last_activity().map_or("", |(_, status)| status);
        let status = said.map_or_else(|| before.to_owned(), |said| shortened(said).to_owned());
        tx.put_last_activity(owner, now_ms, &status)
    });
    if let Err(error) = noted {
        tracing::debug!(account = owner, %error, "the end of a session was not noted");
    }
}

fn shortened(status: &str) -> &str {
    &status[..status.floor_char_boundary(STATUS_BYTES_MAX)]
}
