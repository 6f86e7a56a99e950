//! XEP-0199: the server, and an account to its owner, say that they are there.

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request, not_understood};

const NS: &str = "urn:xmpp:ping";

/// XEP-0199.
pub const MODULE: Module = Module {
    name: "ping",
    features: &[(Entity::Server, NS), (Entity::Account, NS)],
    iq: &[
        Iq {
            of: Entity::Server,
            name: "ping",
            ns: NS,
            get: Some(pong),
            set: None,
        },
        Iq {
            of: Entity::Account,
            name: "ping",
            ns: NS,
            get: Some(account_pong),
            set: None,
        },
    ],
    moments: Moments::NONE,
};

fn pong(_: &mut Cx<'_>, _: &Request<'_>) -> Answer {
    Ok(Reply::Empty)
}

/// §4.2 has the server answer for the sender's own account. For anybody else's it would tell
/// that the account exists.
fn account_pong(_: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    match request.is_own() {
        true => Ok(Reply::Empty),
        false => Err(not_understood()),
    }
}
