//! RFC 6120 §7 and RFC 3921 §3 once a client is bound: the session request that old clients make
//! succeeds without effect (RFC 6121 §1.4), and a stream binds one resource.
//!
//! They are stanzas as any other, so they go where others go: stream management counts them, and
//! the answers stand under the bounds of the outbox.

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request, not_understood};
use crate::stanza::StanzaError;
use crate::stream::ns;

/// Binding, after it.
pub const MODULE: Module = Module {
    name: "bind",
    features: &[],
    iq: &[
        iq(Entity::Server, "session", ns::SESSION, begin_session),
        iq(Entity::Account, "session", ns::SESSION, begin_session),
        iq(Entity::Server, "bind", ns::BIND, refuse),
        iq(Entity::Account, "bind", ns::BIND, refuse),
    ],
    moments: Moments::NONE,
};

const fn iq(
    of: Entity,
    name: &'static str,
    ns: &'static str,
    set: fn(&mut Cx<'_>, &Request<'_>) -> Answer,
) -> Iq {
    Iq {
        of,
        name,
        ns,
        get: None,
        set: Some(set),
    }
}

fn begin_session(_: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    own_stream(request)?;
    Ok(Reply::Empty)
}

/// RFC 6120 §7.7.2.
fn refuse(_: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    own_stream(request)?;
    Err(StanzaError::not_allowed("this stream is bound already"))
}

/// Nobody asks for somebody else's stream.
fn own_stream(request: &Request<'_>) -> Result<(), StanzaError> {
    let is_own_domain = request.to.as_str() == request.from.domain();
    match request.is_own() || is_own_domain {
        true => Ok(()),
        false => Err(not_understood()),
    }
}
