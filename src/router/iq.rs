//! IQ semantics (RFC 6120 §8.2.3): every `get` and `set` is answered exactly once, by the client
//! it is for or by what the registry names, and no answer is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::stanza::{Kind, Stanza, StanzaError, build};

use super::core::{Core, Cx};
use super::deliver::crowded;
use super::lifecycle;
use super::module::{Answer, Entity, Reply, Request};
use super::outbox::{Cargo, Entry, Pushed, Wire, Wrapped, question};
use super::route::to_session;
use super::session::Session;
use super::{deliver, remote};

/// Routes an IQ of `from`, a session of this server or somebody of another one.
pub(super) fn route(
    core: &Arc<Core>,
    cx: &mut Cx<'_>,
    from: &Jid,
    to: Option<Jid>,
    stanza: &Stanza,
) -> Result<(), StanzaError> {
    let is_request = check(stanza)?;
    // RFC 6120 §10.3.3: without `to` it is for the sender's own account.
    let to = to.unwrap_or_else(|| from.bare());
    if !core.is_local(to.domain()) {
        if !is_request && let Some(answering) = session_of(cx, from) {
            let id = stanza.id().unwrap_or_default();
            answering.outbox.answered(question(&to, &id));
        }
        return remote::send(cx, from, &to, stanza);
    }
    match (to.local(), to.resource()) {
        (Some(_), Some(resource)) => to_client(cx, from, &to, resource, stanza, is_request),
        // Nobody here has asked anything: an answer without a question is dropped.
        _ if !is_request => Ok(()),
        (None, Some(_)) => Err(StanzaError::service_unavailable(
            "the server has no such resource",
        )),
        (Some(_), None) => answer(core, cx, Entity::Account, from, &to, stanza),
        (None, None) => answer(core, cx, Entity::Server, from, &to, stanza),
    }
}

/// RFC 6120 §8.2.3: `id`, one of four types, and exactly one payload in a request. True for a
/// request.
fn check(stanza: &Stanza) -> Result<bool, StanzaError> {
    if stanza.id().is_none_or(|id| id.is_empty()) {
        return Err(StanzaError::bad_request("an iq needs an id"));
    }
    match stanza.type_().as_deref() {
        Some("get" | "set") => match stanza.children().take(2).count() {
            1 => Ok(true),
            _ => Err(StanzaError::bad_request(
                "an iq request has exactly one payload",
            )),
        },
        Some("result" | "error") => Ok(false),
        _ => Err(StanzaError::bad_request(
            "the type of an iq is get, set, result or error",
        )),
    }
}

fn to_client(
    cx: &mut Cx<'_>,
    from: &Jid,
    to: &Jid,
    resource: &str,
    stanza: &Stanza,
    is_request: bool,
) -> Result<(), StanzaError> {
    if is_request {
        let modules = cx.core.registry.modules().iter();
        for guard in modules.filter_map(|module| module.moments.iq_to_client) {
            guard(cx, from, to, stanza)?;
        }
    }
    // RFC 6121 §8.5.3.2.3: nobody there is service-unavailable, whether the account exists or not.
    let Some(session) = cx.core.table.session(to.bare_str(), resource) else {
        return match is_request {
            true => Err(nobody_answers()),
            false => Ok(()),
        };
    };
    let id = stanza.id().unwrap_or_default();
    let cargo = match is_request {
        true => Cargo::Request(question(from, &id)),
        false => {
            if let Some(answering) = session_of(cx, from) {
                answering.outbox.answered(question(to, &id));
            }
            Cargo::AtWill
        }
    };
    let pushed = to_session(cx, &session, Some(from), Some(to), stanza, cargo);
    match pushed {
        _ if !is_request || pushed.is_queued() => Ok(()),
        Pushed::Refused => Err(crowded()),
        _ => Err(StanzaError::service_unavailable(
            "the client takes no more requests",
        )),
    }
}

/// The answer to a request for a client that is not there, and to whoever may not know whether it
/// is: these two must not differ.
pub fn nobody_answers() -> StanzaError {
    StanzaError::service_unavailable("nobody is there to answer this")
}

/// Has the registry answer, on behalf of the server or of an account.
fn answer(
    core: &Arc<Core>,
    cx: &mut Cx<'_>,
    of: Entity,
    from: &Jid,
    to: &Jid,
    stanza: &Stanza,
) -> Result<(), StanzaError> {
    let Some(payload) = stanza.children().next() else {
        return Err(StanzaError::bad_request(
            "an iq request has exactly one payload",
        ));
    };
    let is_set = stanza.type_().as_deref() == Some("set");
    let entry = core
        .registry
        .iq(of, payload.ns(), payload.name())
        .ok_or_else(not_understood)?;
    let handler = if is_set { entry.set } else { entry.get };
    let handler = handler.ok_or_else(not_understood)?;
    let request = Request {
        stanza,
        payload,
        from,
        to,
        is_set,
    };
    let reply = handler(cx, &request);
    reply_with(core, cx, from, stanza, reply)
}

/// The answer to what nothing here answers, and of an account to whoever may not know whether
/// there is one (RFC 6121 §8.5.1): these two must not differ.
pub fn not_understood() -> StanzaError {
    StanzaError::service_unavailable("nothing here answers this request")
}

fn reply_with(
    core: &Arc<Core>,
    cx: &mut Cx<'_>,
    from: &Jid,
    stanza: &Stanza,
    answer: Answer,
) -> Result<(), StanzaError> {
    let id = stanza.id().unwrap_or_default();
    let answered_by = stanza.to().and_then(|to| Jid::parse(&to).ok());
    let answered_by = answered_by.as_ref();
    let result = |payload: &[u8]| build::iq_result(Some(from), answered_by, &id, payload);
    match answer? {
        Reply::Empty => send(core, cx, stanza, from, ready(result(b""))),
        Reply::Payload(payload) => send(core, cx, stanza, from, ready(result(&payload))),
        Reply::Stored {
            find,
            before,
            behind,
        } => {
            let mut start = build::start(
                Kind::Iq,
                Some("result"),
                Some(from),
                answered_by,
                Some(&id),
                0,
            );
            let wrapped = Wrapped {
                find,
                before: [&start.finish_open(), before.as_bytes()].concat().into(),
                behind: [behind.as_bytes(), b"</iq>"].concat().into(),
            };
            send(core, cx, stanza, from, Wire::Wrapped(Arc::new(wrapped)));
        }
        Reply::Sent => {}
        Reply::Farewell(error) => {
            send(core, cx, stanza, from, ready(result(b"")));
            if let Some(session) = session_of(cx, from) {
                lifecycle::farewell(cx, &session, error);
            }
        }
        Reply::Later(job) => later(core, from.clone(), stanza.clone(), job)?,
    }
    Ok(())
}

type Job = Box<dyn FnOnce(&mut Cx<'_>) -> Answer + Send>;

fn later(core: &Arc<Core>, from: Jid, stanza: Stanza, job: Job) -> Result<(), StanzaError> {
    let owned = core.clone();
    let Some(place) = core.jobs.enter(&from) else {
        return Err(StanzaError::resource_constraint(
            "a request of this account is being worked on: try again in a moment",
        ));
    };
    (core.spawn)(Box::new(move || {
        let mut cx = owned.cx();
        // A request is answered whatever happens to what works on it.
        let work = AssertUnwindSafe(|| job(&mut cx));
        let answer = catch_unwind(work).unwrap_or_else(|_| {
            tracing::error!(%from, "a job has panicked");
            Err(StanzaError::internal_server_error(
                "something went wrong here",
            ))
        });
        // Whoever has the answer may ask again.
        drop(place);
        if let Err(error) = reply_with(&owned, &mut cx, &from, &stanza, answer) {
            let refusal = ready(stanza.error_reply_to(&error, &from));
            send(&owned, &mut cx, &stanza, &from, refusal);
        }
    }));
    Ok(())
}

fn ready(bytes: Bytes) -> Wire {
    Wire::Ready(bytes.into())
}

fn session_of(cx: &Cx<'_>, full: &Jid) -> Option<Arc<Session>> {
    cx.core.table.session(full.bare_str(), full.resource()?)
}

/// Sends the answer to a request to whoever asked, here or elsewhere.
fn send(core: &Arc<Core>, cx: &mut Cx<'_>, asked: &Stanza, to: &Jid, wire: Wire) {
    if !core.is_local(to.domain()) {
        let of = asked.to().and_then(|of| Jid::parse(&of).ok());
        if let Some(of) = of {
            send_elsewhere(core, cx, of, to, wire);
        }
        return;
    }
    if let Some(session) = session_of(cx, to) {
        let entry = Entry {
            wire,
            after: cx.after(),
            cargo: Cargo::Transient,
        };
        cx.core.push(&session, entry);
    }
}

/// What stands in the log is read on a thread that may wait for the disk.
fn send_elsewhere(core: &Arc<Core>, cx: &mut Cx<'_>, of: Jid, to: &Jid, wire: Wire) {
    match wire {
        Wire::Ready(outgoing) => remote::send_own(cx, &of, to, outgoing),
        Wire::Wrapped(wrapped) => {
            let (core_there, to) = (core.clone(), to.clone());
            (core.spawn)(Box::new(move || {
                let outgoing = deliver::wrapped_value(&core_there, &to, &wrapped);
                remote::send_own(&mut core_there.cx(), &of, &to, outgoing);
            }));
        }
        Wire::Stored { .. } => debug_assert!(false, "no answer is a stored message"),
    }
}
