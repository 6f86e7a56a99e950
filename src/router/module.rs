//! What an extension is to the router: a [`Module`], a constant that names the IQ payloads it
//! answers, the moments it wants to hear of and the features it adds. The table of all of them
//! stands in `xep::ALL`; the router is given it and knows no extension by name.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::stanza::{Stanza, StanzaError, StreamError};
use crate::xml::Element;

use super::core::Cx;
use super::outbox::Find;
use super::session::Session;

/// One extension.
#[derive(Debug)]
pub struct Module {
    /// Its short name, for the log and the documentation.
    pub name: &'static str,
    /// Features it adds to the answers of service discovery (XEP-0030).
    pub features: &'static [(Entity, &'static str)],
    /// The IQ payloads that it answers.
    pub iq: &'static [Iq],
    /// The moments of a session's life it wants to hear of.
    pub moments: Moments,
}

/// Whose features, or whose IQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// The server: its domain.
    Server,
    /// A local account: its bare JID, or no `to` at all for one's own (RFC 6120 §10.3.3).
    Account,
}

/// One IQ payload that a module answers.
#[derive(Debug)]
pub struct Iq {
    /// Who is asked.
    pub of: Entity,
    /// The payload's name.
    pub name: &'static str,
    /// The payload's namespace.
    pub ns: &'static str,
    /// What answers a `get`.
    pub get: Option<IqFn>,
    /// What answers a `set`.
    pub set: Option<IqFn>,
}

/// Answers one IQ request: synchronous, no waiting. That its effects wait for the log is seen to
/// by whoever called it.
pub type IqFn = fn(&mut Cx<'_>, &Request<'_>) -> Answer;

/// What comes of a request.
pub type Answer = Result<Reply, StanzaError>;

/// A result for the one who asked.
pub enum Reply {
    /// `<iq type='result'/>`.
    Empty,
    /// The same around a payload.
    Payload(Bytes),
    /// A payload that stands in the log.
    Stored {
        /// Where it stands.
        find: Find,
        /// What belongs in front of it: start tags of our own.
        before: &'static str,
        /// What belongs behind it: their end tags.
        behind: &'static str,
    },
    /// Nothing: the handler has queued its answer itself, because the answer's place among what
    /// else the client is sent matters.
    Sent,
    /// `<iq type='result'/>`, and it is the last thing this session hears: its stream ends with
    /// this error behind it.
    Farewell(StreamError),
    /// Work that would hold up other sessions (a password's keys take milliseconds): it is done
    /// on a thread for such things, and its reply is the reply.
    Later(Box<dyn FnOnce(&mut Cx<'_>) -> Answer + Send>),
}

impl Reply {
    /// A payload that stands in the log as it is sent.
    pub fn stored(find: Find) -> Reply {
        Reply::Stored {
            find,
            before: "",
            behind: "",
        }
    }
}

/// An IQ request (`get` or `set`) that this server or one of its accounts has to answer.
///
/// An account that is asked need not exist. It is asked all the same, and has nothing and nobody
/// who may see it: so whoever asks learns nothing about who has an account.
#[derive(Debug)]
pub struct Request<'a> {
    /// The whole stanza.
    pub stanza: &'a Stanza,
    /// Its one payload.
    pub payload: Element<'a>,
    /// Who asks; a full JID for a client of this server.
    pub from: &'a Jid,
    /// Who is asked: the server's domain or an account's bare JID.
    pub to: &'a Jid,
    /// `set` rather than `get`.
    pub is_set: bool,
}

impl Request<'_> {
    /// Whether an account asks about itself.
    pub fn is_own(&self) -> bool {
        self.from.bare_str() == self.to.as_str()
    }

    /// Refuses everybody but the account's owner (RFC 6120 §8.3.3.4), whether the account exists
    /// or not.
    pub fn require_own(&self) -> Result<(), StanzaError> {
        match self.is_own() {
            true => Ok(()),
            false => Err(StanzaError::forbidden("this belongs to somebody else")),
        }
    }
}

/// Called in the order of the module table.
#[derive(Debug, Default)]
pub struct Moments {
    /// An IQ request from one client to another (from, to, stanza), before anybody looks whether
    /// that other client is there: an error refuses it.
    pub iq_to_client: Option<fn(&mut Cx<'_>, &Jid, &Jid, &Stanza) -> Result<(), StanzaError>>,
    /// A presence stanza that a session of this server has sent.
    pub presence_sent:
        Option<fn(&mut Cx<'_>, &Arc<Session>, &Stanza, Option<&Jid>) -> Result<(), StanzaError>>,
    /// A presence stanza for a local account or session: from, to, stanza.
    pub presence_received: Option<fn(&mut Cx<'_>, &Jid, &Jid, &Stanza)>,
    /// A session has become available for the first time or again.
    pub available: Option<fn(&mut Cx<'_>, &Arc<Session>)>,
    /// A session that is still being greeted has room in its outbox again.
    pub room: Option<fn(&mut Cx<'_>, &Arc<Session>)>,
    /// A session is over; it is not in the table any more.
    pub ended: Option<fn(&mut Cx<'_>, &Arc<Session>)>,
    /// An account is about to be removed. It still has all that it had, its sessions included.
    pub account_removing: Option<fn(&mut Cx<'_>, &Jid)>,
}

impl Moments {
    /// None of them.
    pub const NONE: Moments = Moments {
        iq_to_client: None,
        presence_sent: None,
        presence_received: None,
        available: None,
        room: None,
        ended: None,
        account_removing: None,
    };
}

/// The modules, and from an IQ payload to what answers it.
#[derive(Debug)]
pub struct Registry {
    modules: &'static [&'static Module],
    iq: HashMap<(Entity, &'static str, &'static str), &'static Iq>,
}

impl Registry {
    /// # Panics
    /// When two modules answer the same payload: the table is a constant of the program.
    pub fn new(modules: &'static [&'static Module]) -> Registry {
        let mut iq = HashMap::new();
        for (module, entry) in modules
            .iter()
            .flat_map(|m| m.iq.iter().map(move |iq| (m, iq)))
        {
            let taken = iq.insert((entry.of, entry.ns, entry.name), entry);
            assert!(
                taken.is_none(),
                "{}: {} is answered twice",
                module.name,
                entry.ns
            );
        }
        Registry { modules, iq }
    }

    /// In the order of the table.
    pub fn modules(&self) -> &'static [&'static Module] {
        self.modules
    }

    /// What answers this payload when `of` is asked.
    pub fn iq(&self, of: Entity, ns: &str, name: &str) -> Option<&'static Iq> {
        // The key's strings live as long as the program, those of the question need not: a
        // `HashMap` only compares them.
        self.iq
            .get(&(of, ns, name) as &(Entity, &str, &str))
            .copied()
    }

    /// The features of the server or of an account, in the order of the table.
    pub fn features(&self, of: Entity) -> impl Iterator<Item = &'static str> {
        let all = self.modules.iter().flat_map(|module| module.features);
        all.filter(move |(entity, _)| *entity == of)
            .map(|(_, feature)| *feature)
    }
}
