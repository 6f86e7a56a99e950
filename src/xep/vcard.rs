//! XEP-0054: everybody's card, kept as the element that its owner sent. Anybody may read it; it
//! is read from the log when its turn to be written comes.

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request, not_understood};
use crate::stanza::StanzaError;

const NS: &str = "vcard-temp";

/// XEP-0054.
pub const MODULE: Module = Module {
    name: "vcard",
    features: &[(Entity::Server, NS), (Entity::Account, NS)],
    iq: &[Iq {
        of: Entity::Account,
        name: "vCard",
        ns: NS,
        get: Some(get),
        set: Some(set),
    }],
    moments: Moments::NONE,
};

/// §3.1 and §3.3: without a card the owner hears that there is none; anybody else hears what is
/// said of an account that does not exist.
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    let owner = request.to.as_str();
    match cx.read(|state| state.account(owner)?.vcard()) {
        Some(_) => {
            let owner: Box<str> = owner.into();
            Ok(Reply::stored(Box::new(move |state| {
                state.account(&owner)?.vcard()
            })))
        }
        None if request.is_own() => Err(StanzaError::item_not_found("there is no vCard yet")),
        None => Err(not_understood()),
    }
}

/// §3.2: always the whole card; an empty one takes it away.
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    request.require_own()?;
    let owner = request.to.as_str();
    let card = &request.payload;
    match card.children().next() {
        Some(_) => cx.update(|tx| tx.put_vcard(owner, card.to_self_contained()))?,
        None => cx.update(|tx| tx.remove_vcard(owner))?,
    }
    Ok(Reply::Empty)
}
