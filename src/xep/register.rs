//! XEP-0077: an account's owner changes its password or gives it up; whoever has none yet makes
//! one before the log-in, where the configuration allows that.

use bytes::Bytes;

use crate::addr::Jid;
use crate::config::RegistrationMode;
use crate::router::{Answer, Core, Cx, Entity, Iq, Module, Moments, Reply, Request};
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::store::{Position, State, StoreError};
use crate::xml::{Element, Writer};

use super::account::{self, Refusal};

const NS: &str = "jabber:iq:register";

/// XEP-0077, for those who are logged in.
pub const MODULE: Module = Module {
    name: "register",
    features: &[(Entity::Server, NS)],
    iq: &[
        Iq {
            of: Entity::Server,
            name: "query",
            ns: NS,
            get: Some(registered),
            set: Some(change),
        },
        // Without `to` it is for the account itself.
        Iq {
            of: Entity::Account,
            name: "query",
            ns: NS,
            get: Some(registered),
            set: Some(change),
        },
    ],
    moments: Moments::NONE,
};

/// §3.1: whoever is logged in is registered.
fn registered(_: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    require_own(request)?;
    let mut writer = Writer::new();
    writer
        .open_ns("query", NS)
        .open("registered")
        .close()
        .leaf("username", request.from.local().unwrap_or_default())
        .leaf("password", "")
        .leaf(
            "instructions",
            "Send your username and a new password to change your password.",
        );
    Ok(Reply::Payload(writer.finish()))
}

fn change(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    require_own(request)?;
    match request.payload.has_child("remove", NS) {
        true => remove(cx, request),
        false => change_password(cx, request),
    }
}

/// A domain answers for the registrations of its users, an account only for its own.
fn require_own(request: &Request<'_>) -> Result<(), StanzaError> {
    match request.to.local() {
        None if request.from.domain() == request.to.domain() => Ok(()),
        None => Err(StanzaError::forbidden("your account is in another domain")),
        Some(_) => request.require_own(),
    }
}

/// §3.2. The result is the last that the session hears; the account's other sessions are over at
/// once.
fn remove(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    if request.payload.children().count() != 1 {
        return Err(StanzaError::bad_request("<remove/> stands alone"));
    }
    let owner = request.from.bare();
    let resource = request.from.resource().unwrap_or_default();
    let session = cx.core.table.session(owner.as_str(), resource);
    account::remove(cx, &owner, session.as_deref())?;
    tracing::info!(account = %owner, "an account was removed by its owner");
    Ok(Reply::Farewell(account::gone()))
}

/// §3.3. The keys take their time, elsewhere. In that time the account may be removed, and its
/// name be given to somebody else: then this is not their password.
fn change_password(cx: &Cx<'_>, request: &Request<'_>) -> Answer {
    let owner = request.from.bare();
    let (Some(username), Some(password)) = fields(&request.payload) else {
        return Err(StanzaError::bad_request(
            "a change of password needs a username and a password",
        ));
    };
    let named = Jid::from_parts(Some(&username), owner.domain(), None);
    if named.ok().as_ref() != Some(&owner) {
        return Err(StanzaError::forbidden(
            "only the owner changes an account's password",
        ));
    }
    let password = account::password(&password, &owner)?;
    let asked_for = cx.peek(|state| born_ms(state, &owner));
    Ok(Reply::Later(Box::new(move |cx| {
        let new = account::NewPassword::of(cx.core, &owner, &password);
        cx.update(|tx| match born_ms(tx, &owner) == asked_for {
            true => new.set(tx, owner.as_str()),
            false => Err(StoreError::NoAccount),
        })?;
        tracing::info!(account = %owner, "a password was changed by its owner");
        Ok(Reply::Empty)
    })))
}

fn born_ms(state: &State, owner: &Jid) -> Option<u64> {
    Some(state.account(owner.as_str())?.created_at_ms())
}

fn fields(query: &Element<'_>) -> (Option<String>, Option<String>) {
    let text = |name| query.child(name, NS).map(|child| child.text().into_owned());
    (text("username"), text("password"))
}

/// The answer to a client that is not logged in.
#[derive(Debug)]
pub struct StrangerReply {
    /// A whole iq.
    pub iq: Bytes,
    /// It may be shown once this is durable.
    pub after: Position,
    /// The client has learnt that somebody has this name. Whoever limits failed log-ins counts it
    /// as one, or registering would be the way to find out who has an account.
    pub told_of_account: bool,
}

/// Answers what a client asks before its log-in (§3.1), on a stream for this domain. `is_allowed` is asked last, when all else
/// is in order, and counts this registration against the client's address.
///
/// It derives keys: it is nothing for a thread that serves clients.
pub fn answer_stranger(
    core: &Core,
    domain: &Jid,
    stanza: &Stanza,
    is_allowed: impl FnOnce() -> bool,
) -> StrangerReply {
    let outcome = stranger(core, domain, stanza, is_allowed);
    let told_of_account = matches!(&outcome, Err(error) if error.condition == Condition::Conflict);
    let (iq, after) = match outcome {
        Ok((payload, after)) => (stanza.result_reply(&payload), after),
        Err(error) => (stanza.error_reply(&error), Position::default()),
    };
    StrangerReply {
        iq,
        after,
        told_of_account,
    }
}

fn stranger(
    core: &Core,
    domain: &Jid,
    stanza: &Stanza,
    is_allowed: impl FnOnce() -> bool,
) -> Result<(Bytes, Position), StanzaError> {
    if core.hosts.policy(domain.domain()).registration.mode != RegistrationMode::Open {
        return Err(StanzaError::service_unavailable(
            "accounts are made by the operator of this server",
        ));
    }
    let is_for_us = stanza.to().is_none_or(|to| to == domain.as_str());
    let query = stanza.child("query", NS).filter(|_| is_for_us);
    let query = query.ok_or_else(|| StanzaError::unexpected_request("log in first"))?;
    if stanza.is_type("get") {
        return Ok((form(), Position::default()));
    }
    let (Some(username), Some(password)) = fields(&query) else {
        return Err(StanzaError::not_acceptable(
            "a registration needs a username and a password",
        ));
    };
    let position = register(core, domain, &username, &password, is_allowed)?;
    Ok((Bytes::new(), position))
}

fn form() -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("query", NS)
        .leaf(
            "instructions",
            "Choose a username and a password for this server.",
        )
        .leaf("username", "")
        .leaf("password", "");
    writer.finish()
}

fn register(
    core: &Core,
    domain: &Jid,
    username: &str,
    password: &str,
    is_allowed: impl FnOnce() -> bool,
) -> Result<Position, StanzaError> {
    let address = account::address(domain, username)?;
    account::check_name(&address)?;
    let password = account::password(password, &address)?;
    if core
        .store
        .read(|state| state.account(address.as_str()).is_some())
    {
        return Err(Refusal::Taken.into());
    }
    if !is_allowed() {
        return Err(StanzaError::resource_constraint(
            "too many accounts were made from your network: try again in an hour",
        ));
    }
    account::check_neighbours(&core.store, &address)?;
    let credentials = account::credentials(core, domain.domain(), &password);
    let position = account::create(&core.store, &address, &credentials, (core.clock)())?;
    tracing::info!(account = %address, "an account was registered");
    Ok(position)
}
