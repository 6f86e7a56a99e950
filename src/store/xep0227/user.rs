//! One `<user/>`, read into what the store takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{NS_DELAY, NS_OWN, NS_PRIVATE, NS_ROSTER, NS_SCRAM, NS_VCARD};
use crate::addr::Jid;
use crate::crypto::{Credentials, Hash, ScramKeys, argon2id};
use crate::stanza::time::from_datetime;
use crate::stanza::{Kind, Stanza};
use crate::store::state::{RosterEntry, Subscription};
use crate::xml::{Element, ns};

/// What was read of a user so far.
#[derive(Debug)]
pub(super) struct User {
    pub owner: Jid,
    pub password: Option<String>,
    pub sha256: Option<ScramKeys>,
    pub sha1: Option<ScramKeys>,
    pub argon2id: Option<String>,
    pub created_at_ms: Option<u64>,
    pub is_disabled: bool,
    pub last_activity: Option<(u64, String)>,
    pub roster: Vec<RosterEntry>,
    pub requests: Vec<(String, Bytes)>,
    pub vcard: Option<Bytes>,
    pub private: Vec<(String, String, Bytes)>,
    pub messages: Vec<Message>,
    /// Bytes that all of it holds.
    pub bytes: usize,
    /// What could not be taken over.
    pub notes: Vec<String>,
}

/// A waiting message.
#[derive(Debug)]
pub(super) struct Message {
    pub received_at_ms: Option<u64>,
    pub stanza: Bytes,
}

/// How an account came to be able to log in.
pub(super) enum Login {
    /// By these credentials.
    Credentials(Credentials),
    /// By this password, of which credentials are still to be made.
    Password(String),
    /// Not at all.
    None,
}

impl User {
    pub(super) fn new(owner: Jid, password: Option<String>) -> User {
        User {
            owner,
            password,
            sha256: None,
            sha1: None,
            argon2id: None,
            created_at_ms: None,
            is_disabled: false,
            last_activity: None,
            roster: Vec::new(),
            requests: Vec::new(),
            vcard: None,
            private: Vec::new(),
            messages: Vec::new(),
            bytes: 0,
            notes: Vec::new(),
        }
    }

    /// The best that the export says about the password.
    pub(super) fn login(&mut self) -> Login {
        if let Some(sha256) = self.sha256.take() {
            return Login::Credentials(Credentials::Scram {
                sha256,
                sha1: self.sha1.take(),
            });
        }
        if let Some(phc) = self.argon2id.take() {
            return Login::Credentials(Credentials::Argon2id { phc });
        }
        if let Some(password) = self.password.take() {
            return Login::Password(password);
        }
        self.sha1.take().map_or(Login::None, |keys| {
            Login::Credentials(Credentials::ScramSha1 { keys })
        })
    }

    /// Takes one child of `<user/>` over.
    pub(super) fn child(&mut self, child: &Element<'_>) {
        self.bytes += child.raw().len();
        match (child.name(), child.ns()) {
            ("scram-credentials", NS_SCRAM) => self.scram(child),
            ("query", NS_ROSTER) => child.children().for_each(|item| self.roster_item(&item)),
            ("query", NS_PRIVATE) => child
                .children()
                .for_each(|element| self.private_element(&element)),
            ("vCard", NS_VCARD) => self.vcard = Some(child.to_self_contained()),
            ("presence", ns::CLIENT) => self.request(child),
            ("argon2id", NS_OWN) => {
                let phc = child.text();
                if argon2id::is_valid(&phc) {
                    self.argon2id = Some(phc.into_owned());
                } else {
                    self.note("its argon2id hash is none");
                }
            }
            ("created", NS_OWN) => {
                self.created_at_ms = child.attr("at").and_then(|at| from_datetime(&at));
            }
            ("disabled", NS_OWN) => self.is_disabled = true,
            ("last-activity", NS_OWN) => {
                let at_ms = child.attr("at").and_then(|at| from_datetime(&at));
                self.last_activity = at_ms.map(|at_ms| (at_ms, child.text().into_owned()));
            }
            (name, ns) => self.note(&format!("<{name} xmlns='{ns}'/> was left out")),
        }
    }

    /// Takes one child of `<offline-messages/>` over.
    pub(super) fn message(&mut self, element: &Element<'_>) {
        self.bytes += element.raw().len();
        let stanza = Stanza::from_canonical(element.to_self_contained());
        let Some(stanza) = stanza.ok().filter(|stanza| stanza.kind() == Kind::Message) else {
            self.note(&format!(
                "<{}/> among the messages was left out",
                element.name()
            ));
            return;
        };
        // The exporting server's own stamp becomes ours; those of others stay in the message.
        let host = self.owner.domain();
        let is_stamp = |child: &Element<'_>| {
            child.is("delay", NS_DELAY) && child.attr("from").is_none_or(|from| from == host)
        };
        let stamp = stanza
            .children()
            .find(is_stamp)
            .and_then(|delay| from_datetime(&delay.attr("stamp")?));
        let stanza = stanza.without_children(is_stamp);
        self.messages.push(Message {
            received_at_ms: stamp,
            stanza: stanza.bytes().clone(),
        });
    }

    pub(super) fn note(&mut self, what: &str) {
        const NOTES_MAX: usize = 32;
        if self.notes.len() < NOTES_MAX {
            self.notes.push(format!("{}: {what}", self.owner));
        }
    }

    fn scram(&mut self, element: &Element<'_>) {
        let mechanism = element.attr("mechanism").unwrap_or_default();
        let (hash, keys) = match &*mechanism {
            "SCRAM-SHA-256" => (Hash::Sha256, &mut self.sha256),
            "SCRAM-SHA-1" => (Hash::Sha1, &mut self.sha1),
            other => {
                let what = format!("{other} is a mechanism that this server does not have");
                return self.note(&what);
            }
        };
        *keys = scram_keys(hash, element);
        if keys.is_none() {
            self.note(&format!("its {mechanism} credentials are none"));
        }
    }

    fn roster_item(&mut self, item: &Element<'_>) {
        match roster_entry(item) {
            Some(entry) => self.roster.push(entry),
            None => {
                let jid = item.attr("jid").unwrap_or_default();
                self.note(&format!("the roster item {jid:?} is none"));
            }
        }
    }

    fn private_element(&mut self, element: &Element<'_>) {
        let (name, namespace) = (element.name().to_owned(), element.ns().to_owned());
        self.private
            .push((name, namespace, element.to_self_contained()));
    }

    fn request(&mut self, presence: &Element<'_>) {
        let from = presence
            .attr("from")
            .and_then(|from| Jid::parse(&from).ok());
        match from.filter(|_| presence.attr("type").as_deref() == Some("subscribe")) {
            Some(from) => {
                let contact = from.bare_str().to_owned();
                self.requests.push((contact, presence.to_self_contained()));
            }
            None => self.note("a presence that asks for nothing was left out"),
        }
    }
}

fn scram_keys(hash: Hash, element: &Element<'_>) -> Option<ScramKeys> {
    let text = |name: &str| {
        element
            .child(name, NS_SCRAM)
            .map(|child| child.text().trim().to_owned())
    };
    let base64 = |name: &str| STANDARD.decode(text(name)?).ok();
    let iterations = text("iter-count")?.parse().ok()?;
    let (salt, stored, server) = (
        base64("salt")?,
        base64("stored-key")?,
        base64("server-key")?,
    );
    ScramKeys::from_parts(hash, &salt, iterations, &stored, &server).ok()
}

/// `subscription='remove'` is a command and no state (RFC 6121 §2.1.2.5).
fn roster_entry(item: &Element<'_>) -> Option<RosterEntry> {
    let contact = Jid::parse(&item.attr("jid")?).ok()?;
    let subscription = match item.attr("subscription") {
        Some(word) => Subscription::from_word(&word)?,
        None => Subscription::None,
    };
    let groups = item.children().filter(|child| child.is("group", NS_ROSTER));
    let mut groups: Vec<String> = groups.map(|group| group.text().into_owned()).collect();
    groups.retain(|group| !group.is_empty());
    let is_true = |name: &str| {
        item.attr(name)
            .is_some_and(|word| matches!(&*word, "true" | "1"))
    };
    item.is("item", NS_ROSTER).then(|| RosterEntry {
        contact: contact.as_str().to_owned(),
        name: item.attr("name").unwrap_or_default().into_owned(),
        groups,
        subscription,
        ask: item.attr("ask").as_deref() == Some("subscribe"),
        approved: is_true("approved"),
    })
}
