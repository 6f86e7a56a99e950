//! XEP-0030: what the server and its accounts are and can do. The features are those that the
//! modules name; nothing is listed twice.

use crate::config::Host;
use crate::router::{
    Answer, Cx, Entity, Iq, Module, Moments, Registry, Reply, Request, not_understood,
};
use crate::stanza::StanzaError;
use crate::xml::Writer;

use super::access::sees_presence;
use super::form::Form;
use super::{caps, contact};

const INFO: &str = "http://jabber.org/protocol/disco#info";
const ITEMS: &str = "http://jabber.org/protocol/disco#items";

/// XEP-0030.
pub const MODULE: Module = Module {
    name: "disco",
    features: &[
        (Entity::Server, INFO),
        (Entity::Server, ITEMS),
        (Entity::Account, INFO),
        (Entity::Account, ITEMS),
    ],
    iq: &[
        get(Entity::Server, INFO, server_info),
        get(Entity::Server, ITEMS, server_items),
        get(Entity::Account, INFO, account_info),
        get(Entity::Account, ITEMS, account_items),
    ],
    moments: Moments::NONE,
};

const fn get(of: Entity, ns: &'static str, answer: crate::router::IqFn) -> Iq {
    Iq {
        of,
        name: "query",
        ns,
        get: Some(answer),
        set: None,
    }
}

/// What an entity says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What it is, in one or more ways.
    pub identities: Vec<Identity>,
    /// What it can do, in the order of bytes.
    pub features: Vec<&'static str>,
    /// What else there is to say (XEP-0128).
    pub forms: Vec<Form>,
}

/// One way to see an entity, from the registry of service discovery identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The attribute `category`.
    pub category: &'static str,
    /// The attribute `type`.
    pub type_: &'static str,
    /// The attribute `name`.
    pub name: Option<&'static str>,
}

impl Info {
    /// What the server says of itself as one of its domains; the same in the life of a process.
    pub fn of_server(registry: &Registry, host: &Host) -> Info {
        Info {
            identities: vec![Identity {
                category: "server",
                type_: "im",
                name: Some(super::SOFTWARE),
            }],
            features: features(registry, Entity::Server),
            forms: contact::form(&host.contact).into_iter().collect(),
        }
    }

    fn of_account(registry: &Registry) -> Info {
        Info {
            identities: vec![Identity {
                category: "account",
                type_: "registered",
                name: None,
            }],
            features: features(registry, Entity::Account),
            forms: Vec::new(),
        }
    }

    fn answer(&self, node: Option<&str>) -> Answer {
        let mut writer = Writer::new();
        writer.open_ns("query", INFO).attr_opt("node", node);
        for identity in &self.identities {
            writer
                .open("identity")
                .attr("category", identity.category)
                .attr("type", identity.type_)
                .attr_opt("name", identity.name)
                .close();
        }
        for feature in &self.features {
            writer.open("feature").attr("var", feature).close();
        }
        for form in &self.forms {
            form.write(&mut writer);
        }
        Ok(Reply::Payload(writer.finish()))
    }
}

fn features(registry: &Registry, of: Entity) -> Vec<&'static str> {
    let mut features: Vec<_> = registry.features(of).collect();
    features.sort_unstable();
    features.dedup();
    features
}

/// §3.2 has the answer mirror the node. Some clients send an empty one where they mean none.
fn node_of<'a>(request: &Request<'a>) -> (Option<std::borrow::Cow<'a, str>>, bool) {
    let node = request.payload.attr("node");
    let names_one = node.as_deref().is_some_and(|node| !node.is_empty());
    (node, names_one)
}

fn no_such_node() -> StanzaError {
    StanzaError::item_not_found("there is no such node")
}

fn server_info(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    let host = cx.core.hosts.policy(request.to.domain());
    let info = Info::of_server(&cx.core.registry, host);
    let (node, names_one) = node_of(request);
    // XEP-0115 §6.2: the one node that the server has is that of its capabilities.
    if names_one && node.as_deref() != Some(&caps::node(&info)) {
        return Err(no_such_node());
    }
    info.answer(node.as_deref())
}

/// The components that are connected (XEP-0114): of the others nobody could ask anything.
fn server_items(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    let (node, names_one) = node_of(request);
    if names_one {
        return Err(no_such_node());
    }
    let mut writer = Writer::new();
    writer
        .open_ns("query", ITEMS)
        .attr_opt("node", node.as_deref());
    for domain in cx.core.components.connected() {
        writer.open("item").attr("jid", domain.as_str()).close();
    }
    Ok(Reply::Payload(writer.finish()))
}

/// §8 rule 1: whoever may not see the account's presence is told what is told of an account that
/// does not exist.
fn account_info(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    if !sees_presence(cx, request.to, request.from) {
        return Err(not_understood());
    }
    let (node, names_one) = node_of(request);
    match names_one {
        true => Err(no_such_node()),
        false => Info::of_account(&cx.core.registry).answer(node.as_deref()),
    }
}

/// §4.1: the available resources. §8 rule 2: to whoever may not see them, and of an account that
/// does not exist, nothing.
fn account_items(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    let (node, names_one) = node_of(request);
    if !sees_presence(cx, request.to, request.from) {
        return no_items(node.as_deref());
    }
    if names_one {
        return Err(no_such_node());
    }
    let mut writer = Writer::new();
    writer
        .open_ns("query", ITEMS)
        .attr_opt("node", node.as_deref());
    for session in cx.core.table.sessions(request.to.as_str()) {
        if session.is_available() {
            writer
                .open("item")
                .attr("jid", session.jid.as_str())
                .close();
        }
    }
    Ok(Reply::Payload(writer.finish()))
}

fn no_items(node: Option<&str>) -> Answer {
    let mut writer = Writer::new();
    writer.open_ns("query", ITEMS).attr_opt("node", node);
    Ok(Reply::Payload(writer.finish()))
}
