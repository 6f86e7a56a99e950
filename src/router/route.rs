//! From one stanza to its effects: whom it is for, and what answers it (RFC 6120 §10, RFC 6121
//! §8). Every stanza of every session comes through [`receive`].

use std::sync::Arc;

use crate::addr::Jid;
use crate::stanza::{Kind, Rewrite, Stanza, StanzaError};
use crate::store::Position;

use super::core::{Core, Cx};
use super::outbox::{Cargo, Entry, Pushed, Wire};
use super::session::Session;
use super::{backlog, deliver, iq, remote};

/// Handles a stanza that a client has sent on its bound stream; the stream has seen to its `from`
/// (RFC 6120 §8.1.2.1). It counts as handled once the returned position is durable; the
/// caller asks for the commit (`Store::commit_soon`) behind the last stanza that it has at hand.
pub fn receive(core: &Arc<Core>, session: &Arc<Session>, stanza: &Stanza) -> Position {
    let mut cx = core.cx();
    // What comes behind its end is said in nobody's name: the address may be another's by now.
    if session.is_ended() {
        return cx.after();
    }
    cx.must_be_durable = session.counts();
    cx.gathers = true;
    cx.lang = session.lang.as_deref();
    let to = match stanza.to() {
        None => None,
        Some(text) => match Jid::parse(&text) {
            Ok(jid) => Some(jid),
            Err(_) => {
                let error =
                    StanzaError::jid_malformed("the `to` of this stanza is no valid address");
                answer_error(&mut cx, &session.jid, stanza, &error);
                return cx.after();
            }
        },
    };
    let outcome = match stanza.kind() {
        Kind::Message => {
            // RFC 6121 §8.1.1.1: a message without `to` is for the sender's bare JID.
            let to = to.unwrap_or_else(|| session.jid.bare());
            message(&mut cx, &session.jid, &to, stanza)
        }
        Kind::Presence => presence_sent(&mut cx, session, stanza, to.as_ref()),
        Kind::Iq => iq::route(core, &mut cx, &session.jid, to, stanza),
    };
    if let Err(error) = outcome {
        answer_error(&mut cx, &session.jid, stanza, &error);
    }
    cx.after()
}

fn message(cx: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
    if !cx.core.is_local(to.domain()) {
        return remote::send(cx, from, to, stanza);
    }
    if to.local().is_none() {
        return match stanza.type_().as_deref() {
            Some("error") => Ok(()),
            _ => Err(StanzaError::service_unavailable(
                "the server takes no messages",
            )),
        };
    }
    deliver::message(cx, from, to, stanza)
}

fn presence_sent(
    cx: &mut Cx<'_>,
    session: &Arc<Session>,
    stanza: &Stanza,
    to: Option<&Jid>,
) -> Result<(), StanzaError> {
    for module in cx.core.registry.modules() {
        if let Some(sent) = module.moments.presence_sent {
            sent(cx, session, stanza, to)?;
        }
    }
    Ok(())
}

/// What handles a stanza of another server, besides the stanza.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// The other server counts our acknowledgements (XEP-0198).
    pub counts: bool,
    /// The language of its stream.
    pub lang: Option<&'a str>,
}

/// Handles a stanza of another server, whose stream has seen to both addresses (RFC 6120
/// §8.1.2.2): `from` is of a domain that was authorised, `to` of one that is served here. It
/// counts as handled once the returned position is durable; the caller asks for the commit.
pub fn receive_remote(core: &Arc<Core>, remote: Remote<'_>, stanza: &Stanza) -> Position {
    debug_assert!(stanza.addresses().is_some_and(|(from, to)| {
        !core.is_served(from.domain()) && core.is_served(to.domain())
    }));
    receive_elsewhere(core, remote, stanza)
}

/// The same, wherever it is for.
pub(super) fn receive_elsewhere(core: &Arc<Core>, remote: Remote<'_>, stanza: &Stanza) -> Position {
    let mut cx = core.cx();
    cx.must_be_durable = remote.counts;
    cx.gathers = true;
    cx.lang = remote.lang;
    let Some((from, to)) = stanza.addresses() else {
        return cx.after();
    };
    let outcome = match stanza.kind() {
        Kind::Message => message(&mut cx, &from, &to, stanza),
        Kind::Presence => {
            presence(&mut cx, &from, &to, stanza);
            Ok(())
        }
        Kind::Iq => iq::route(core, &mut cx, &from, Some(to), stanza),
    };
    if let Err(error) = outcome {
        answer_error(&mut cx, &from, stanza, &error);
    }
    cx.after()
}

/// Sends a presence stanza on behalf of a session or an account, wherever `to` is. Presence for
/// domains that this server can't reach is dropped: nobody waits for an answer.
pub fn presence(cx: &mut Cx<'_>, from: &Jid, to: &Jid, stanza: &Stanza) {
    if !cx.core.is_local(to.domain()) {
        // What is answered to somebody elsewhere on behalf of nobody here goes nowhere.
        if cx.core.is_served(from.domain()) || cx.core.components.has(to.domain()) {
            drop(remote::send(cx, from, to, stanza));
        }
        return;
    }
    if to.local().is_none() {
        return;
    }
    for module in cx.core.registry.modules() {
        if let Some(received) = module.moments.presence_received {
            received(cx, from, to, stanza);
        }
    }
}

/// Puts a stanza into one session's outbox, its start tag rewritten for it. The caller holds no
/// shard: order matters only between messages, which go another way.
pub fn to_session(
    cx: &Cx<'_>,
    session: &Arc<Session>,
    from: Option<&Jid>,
    to: Option<&Jid>,
    stanza: &Stanza,
    cargo: Cargo,
) -> Pushed {
    let outgoing = stanza.rewrite(&Rewrite {
        from,
        to,
        lang: cx.lang,
        insert: b"",
    });
    let entry = Entry {
        wire: Wire::Ready(outgoing),
        after: cx.after(),
        cargo,
    };
    cx.core.push(session, entry)
}

/// The session's outbox has room again: what waits for that is queued.
pub fn refill(core: &Core, session: &Arc<Session>) {
    if session.has_backlog() {
        backlog::continue_backlog(core, session);
    }
    if session.is_greeted() {
        let mut cx = core.cx();
        for module in core.registry.modules() {
            if let Some(room) = module.moments.room {
                room(&mut cx, session);
            }
        }
    }
}

/// Refuses what is for a domain that this server has no way to, before anything is remembered of
/// it (RFC 6120 §10.4).
pub fn reachable(core: &Core, to: &Jid) -> Result<(), StanzaError> {
    match core.is_local(to.domain()) {
        true => Ok(()),
        false => remote::reachable(core, to.domain()),
    }
}

/// Answers a stanza with an error to whoever sent it as `from`, here or elsewhere: there is none
/// for an error, nor for an IQ result (RFC 6120 §8.3.1 rule 4, §8.2.3).
fn answer_error(cx: &mut Cx<'_>, from: &Jid, stanza: &Stanza, error: &StanzaError) {
    if !stanza.may_be_refused() {
        return;
    }
    let bytes = stanza.error_reply_to(error, from);
    if !cx.core.is_local(from.domain()) {
        let of = stanza.to().and_then(|to| Jid::parse(&to).ok());
        let is_component = cx.core.components.has(from.domain());
        match of.filter(|of| is_component || cx.core.is_served(of.domain())) {
            Some(of) => remote::send_own(cx, &of, from, bytes.into()),
            // The bytes name whom the component has named, who may be nobody.
            None if is_component => {
                remote::send_own(cx, &cx.core.domain.clone(), from, bytes.into());
            }
            None => {}
        }
        return;
    }
    if let Some(resource) = from.resource()
        && let Some(session) = cx.core.table.session(from.bare_str(), resource)
    {
        cx.core
            .push(&session, Entry::transient(bytes.into(), cx.after()));
    }
}

/// A stanza that was on its way (with its own `from` and `to`) will not arrive: its sender is
/// told.
pub fn bounce(cx: &mut Cx<'_>, stanza: &Stanza, error: &StanzaError) {
    let sender = stanza.from().and_then(|from| Jid::parse(&from).ok());
    if let Some(sender) = sender {
        answer_error(cx, &sender, stanza, error);
    }
}
