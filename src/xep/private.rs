//! XEP-0049: elements that an account's clients keep for themselves, one by name and namespace.

use bytes::Bytes;

use crate::router::{Answer, Cx, Entity, Find, Iq, Module, Moments, Reply, Request};
use crate::stanza::StanzaError;
use crate::xml::{Element, Writer};

const NS: &str = "jabber:iq:private";

/// XEP-0049.
pub const MODULE: Module = Module {
    name: "private",
    features: &[(Entity::Server, NS), (Entity::Account, NS)],
    iq: &[Iq {
        of: Entity::Account,
        name: "query",
        ns: NS,
        get: Some(get),
        set: Some(set),
    }],
    moments: Moments::NONE,
};

/// What was never kept is an empty element of the name that was asked for.
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    request.require_own()?;
    let Some(asked) = request.payload.children().next() else {
        return Err(StanzaError::bad_request(
            "the query does not say which element it is about",
        ));
    };
    let asked = only_namespaced(&request.payload, asked)?;
    let owner = request.to.as_str();
    let place = cx.read(|state| state.account(owner)?.private(asked.name(), asked.ns()));
    Ok(match place {
        Some(_) => Reply::Stored {
            find: find(owner, &asked),
            before: "<query xmlns='jabber:iq:private'>",
            behind: "</query>",
        },
        None => Reply::Payload(nothing_kept(&asked)),
    })
}

fn find(owner: &str, asked: &Element<'_>) -> Find {
    let owner: Box<str> = owner.into();
    let (name, ns): (Box<str>, Box<str>) = (asked.name().into(), asked.ns().into());
    Box::new(move |state| state.account(&owner)?.private(&name, &ns))
}

/// An element without content takes away what was kept under its name.
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    request.require_own()?;
    let Some(element) = request.payload.children().next() else {
        return Err(StanzaError::not_acceptable("the query is empty"));
    };
    let element = only_namespaced(&request.payload, element)?;
    let owner = request.to.as_str();
    let (name, ns) = (element.name(), element.ns());
    match is_bare(&element) {
        true => cx.update(|tx| tx.remove_private(owner, name, ns))?,
        false => cx.update(|tx| tx.put_private(owner, name, ns, element.to_self_contained()))?,
    }
    Ok(Reply::Empty)
}

/// §2.3: one element, in a namespace of its own.
fn only_namespaced<'a>(
    query: &Element<'_>,
    first: Element<'a>,
) -> Result<Element<'a>, StanzaError> {
    if query.children().nth(1).is_some() {
        return Err(StanzaError::bad_request(
            "the query is about one element at a time",
        ));
    }
    match first.ns() {
        "" | NS | crate::xml::ns::CLIENT => Err(StanzaError::not_acceptable(
            "a private element has a namespace of its own",
        )),
        _ => Ok(first),
    }
}

/// Whether an element has neither content nor attributes of its own.
fn is_bare(element: &Element<'_>) -> bool {
    let mut attributes = element.attributes();
    element.is_empty() && attributes.all(|(name, _)| name == "xmlns" || name.starts_with("xmlns:"))
}

/// Name and namespace come from a validated stanza, where they stand as they are written here.
fn nothing_kept(asked: &Element<'_>) -> Bytes {
    let element = format!("<{} xmlns='{}'/>", asked.name(), asked.ns());
    let mut writer = Writer::new();
    writer
        .open_ns("query", NS)
        .splice_validated(element.as_bytes());
    writer.finish()
}
