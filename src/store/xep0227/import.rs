//! Reading, and putting it into the store.

use std::io;

use super::read::{Declarations, Level, ReadError, Source, Validated};
use super::user::{Login, User};
use bytes::Bytes;

use super::{NS, NS_XINCLUDE};
use crate::addr::Jid;
use crate::crypto::Credentials;
use crate::store::state::RosterEntry;
use crate::store::{Store, StoreError, StoreLimits, Tx};
use crate::xml::Element;

/// How a document is taken over.
pub struct ImportOptions<'a> {
    /// Whether this server serves a host; accounts of others are noted and left out.
    pub serves: &'a dyn Fn(&str) -> bool,
    /// What becomes of an account that exists already.
    pub existing: Existing,
    /// Makes credentials of an account's password, where an export has nothing better.
    pub new_credentials: &'a mut dyn FnMut(&Jid, &str) -> Option<Credentials>,
    /// Opens a file that the document includes (XInclude), by its relative path
    /// without `..`.
    pub include: &'a mut dyn FnMut(&str) -> io::Result<Box<dyn io::Read>>,
    /// Lets what waits be written and the file grow, when the store takes no
    /// more before that: [`Store::tidy`] where no loop runs, else a short sleep.
    pub pause: &'a mut dyn FnMut() -> Result<(), StoreError>,
    /// Limits instead of the store's own.
    pub limits: Option<StoreLimits>,
    /// Unix time in milliseconds: when accounts and messages of unknown age came.
    pub now_ms: u64,
}

/// What becomes of an account that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is removed with everything it has, and made anew.
    Replace,
}

/// What an import has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Accounts that were created.
    pub accounts: u64,
    /// Of those, accounts with keys for SCRAM-SHA-1 alone.
    pub sha1_alone: u64,
    /// Accounts that existed and were kept as they were.
    pub kept: u64,
    /// Waiting messages.
    pub messages: u64,
    /// What could not be taken over, in words for the operator; the first thousand.
    pub notes: Vec<String>,
}

/// Why an import ended early. Accounts that were read before are there.
#[derive(Debug)]
pub enum ImportError {
    /// The document cannot be read.
    Input(io::Error),
    /// It is not the XML that it should be.
    Document {
        /// The last account that was read.
        behind: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// The store does not take it.
    Store(StoreError),
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImportError::Input(error) => write!(f, "the document cannot be read: {error}"),
            ImportError::Document {
                behind: Some(behind),
                why,
            } => {
                write!(
                    f,
                    "the document is broken behind the account {behind}: {why}"
                )
            }
            ImportError::Document { behind: None, why } => {
                write!(f, "the document is broken: {why}")
            }
            ImportError::Store(error) => write!(f, "the store does not take it: {error}"),
        }
    }
}

impl std::error::Error for ImportError {}

/// Reads a document and creates the accounts in it, one after the other. What
/// is held in memory is one account at a time, of at most [`USER_BYTES_MAX`].
pub fn import<'a>(
    store: &'a Store,
    document: Box<dyn io::Read + 'a>,
    options: ImportOptions<'a>,
) -> Result<Imported, ImportError> {
    let mut import = Import {
        store,
        options,
        imported: Imported::default(),
        behind: None,
    };
    match import.document(&mut Source::new(document), Kind::ServerData, None, 0) {
        Ok(()) => Ok(import.imported),
        Err(Stop::Store(error)) => Err(ImportError::Store(error)),
        Err(Stop::Read(ReadError::Input(error))) => Err(ImportError::Input(error)),
        Err(Stop::Read(error)) => {
            let why = match error {
                ReadError::Ends => "it ends before it is complete".to_owned(),
                ReadError::Unexpected(why) => why,
                ReadError::Xml(error) => error.to_string(),
                ReadError::Input(error) => error.to_string(),
            };
            Err(ImportError::Document {
                behind: import.behind,
                why,
            })
        }
    }
}

/// Bytes of one account in a document.
pub const USER_BYTES_MAX: usize = 128 << 20;

const NOTES_MAX: usize = 1_000;
/// After so many pauses in a row a full store ends an import. Where a loop runs, a pause is about
/// a millisecond, and growing a file takes many.
const FULL_TRIES: usize = 5_000;
const INCLUDES_DEEP_MAX: usize = 4;

struct Import<'a> {
    store: &'a Store,
    options: ImportOptions<'a>,
    imported: Imported,
    behind: Option<String>,
}

/// The levels of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ServerData,
    Host,
    User,
    Messages,
}

enum Stop {
    Read(ReadError),
    Store(StoreError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Read(error)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::ServerData => "server-data",
            Kind::Host => "host",
            Kind::User => "user",
            Kind::Messages => "offline-messages",
        }
    }

    /// What its children are that hold other levels.
    fn inner(self) -> Option<Kind> {
        match self {
            Kind::ServerData => Some(Kind::Host),
            Kind::Host => Some(Kind::User),
            Kind::User => Some(Kind::Messages),
            Kind::Messages => None,
        }
    }
}

/// What the levels around say: the host, then the user.
enum Around<'u> {
    Nothing,
    Host(String),
    User(&'u mut User),
}

impl Import<'_> {
    /// A document whose root is of a kind; the level around an included one is that of its `<include/>`.
    fn document(
        &mut self,
        source: &mut Source<'_>,
        kind: Kind,
        host: Option<&str>,
        depth: usize,
    ) -> Result<(), Stop> {
        let around = host.map_or(Around::Nothing, |host| Around::Host(host.to_owned()));
        self.level(source, kind, around, &Declarations::default(), depth)?;
        if source.is_at_end()? {
            Ok(())
        } else {
            Err(ReadError::Unexpected("something follows the document".to_owned()).into())
        }
    }

    /// Reads an element that holds others, from its start tag to its end tag.
    fn level(
        &mut self,
        source: &mut Source<'_>,
        kind: Kind,
        around: Around<'_>,
        declarations: &Declarations,
        depth: usize,
    ) -> Result<(), Stop> {
        let mut level = source.open(declarations)?;
        let start = level.start.element();
        if !start.is(kind.name(), NS) {
            let what = format!(
                "<{} xmlns='{}'/> instead of <{}/>",
                start.name(),
                start.ns(),
                kind.name()
            );
            return Err(ReadError::Unexpected(what).into());
        }
        match (kind, around) {
            (Kind::ServerData, _) => {
                self.children(source, kind, &mut level, Around::Nothing, depth)
            }
            (Kind::Host, _) => {
                let host = start.attr("jid").unwrap_or_default().into_owned();
                self.host(source, &mut level, &host, depth)
            }
            (Kind::User, Around::Host(host)) => {
                let name = start.attr("name").unwrap_or_default().into_owned();
                let password = start.attr("password").map(std::borrow::Cow::into_owned);
                self.user(source, &mut level, &host, &name, password, depth)
            }
            (Kind::Messages, Around::User(user)) => {
                self.children(source, kind, &mut level, Around::User(user), depth)
            }
            (kind, _) => {
                Err(ReadError::Unexpected(format!("<{}/> in the wrong place", kind.name())).into())
            }
        }
    }

    fn host(
        &mut self,
        source: &mut Source<'_>,
        level: &mut Level,
        host: &str,
        depth: usize,
    ) -> Result<(), Stop> {
        if !(self.options.serves)(host) {
            self.note(format!(
                "{host}: this server does not serve it, so its accounts were left out"
            ));
        }
        self.children(
            source,
            Kind::Host,
            level,
            Around::Host(host.to_owned()),
            depth,
        )
    }

    fn user(
        &mut self,
        source: &mut Source<'_>,
        level: &mut Level,
        host: &str,
        name: &str,
        password: Option<String>,
        depth: usize,
    ) -> Result<(), Stop> {
        let owner = Jid::from_parts(Some(name), host, None);
        let is_ours = (self.options.serves)(host);
        // What is not wanted is still read, to find its end.
        let nobody = || Jid::from_parts(Some("nobody"), "invalid", None).expect("an address");
        let mut user = User::new(owner.clone().unwrap_or_else(|_| nobody()), password);
        self.children(source, Kind::User, level, Around::User(&mut user), depth)?;
        match owner {
            Ok(_) if is_ours => self.put(user),
            Ok(_) => Ok(()),
            Err(error) => {
                self.note(format!("{name}@{host} is no address: {error}"));
                Ok(())
            }
        }
    }

    fn children(
        &mut self,
        source: &mut Source<'_>,
        kind: Kind,
        level: &mut Level,
        mut around: Around<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        if level.is_empty() {
            return Ok(());
        }
        loop {
            let name = source.peek()?;
            if let Some(inner) = kind
                .inner()
                .filter(|inner| name.as_deref() == Some(inner.name()))
            {
                let around = match &mut around {
                    Around::Nothing => Around::Nothing,
                    Around::Host(host) => Around::Host(host.clone()),
                    Around::User(user) => Around::User(user),
                };
                let declarations = level.declarations.clone();
                self.level(source, inner, around, &declarations, depth)?;
                continue;
            }
            let Some(child) = source.child(level)? else {
                return Ok(());
            };
            self.child(kind, &child, &mut around, depth)?;
        }
    }

    /// An element that holds no other level.
    fn child(
        &mut self,
        kind: Kind,
        child: &Validated,
        around: &mut Around<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        let element = child.element();
        match around {
            Around::User(user) => {
                if kind == Kind::Messages {
                    user.message(&element);
                } else if element.is("include", NS_XINCLUDE) {
                    self.include_part(&element, user)?;
                } else {
                    user.child(&element);
                }
                if user.bytes > USER_BYTES_MAX {
                    let why = format!(
                        "the account {} has more than {USER_BYTES_MAX} bytes",
                        user.owner
                    );
                    return Err(ReadError::Unexpected(why).into());
                }
            }
            Around::Nothing | Around::Host(_) if element.is("include", NS_XINCLUDE) => {
                let host = match around {
                    Around::Host(host) => Some(host.as_str()),
                    _ => None,
                };
                let inner = kind.inner().expect("the levels above a user hold others");
                let Some(file) = self.open(&element, depth) else {
                    return Ok(());
                };
                self.document(&mut Source::new(file?), inner, host, depth + 1)?;
            }
            Around::Nothing | Around::Host(_) => {
                self.note(format!(
                    "<{} xmlns='{}'/> was left out",
                    element.name(),
                    element.ns()
                ));
            }
        }
        Ok(())
    }

    /// A part of a user that stands in a file of its own.
    fn include_part(&mut self, element: &Element<'_>, user: &mut User) -> Result<(), Stop> {
        let Some(file) = self.open(element, 0) else {
            return Ok(());
        };
        let part = Source::new(file?).whole()?;
        let part = part.element();
        if part.is("offline-messages", NS) {
            part.children().for_each(|message| user.message(&message));
        } else {
            user.child(&part);
        }
        Ok(())
    }

    /// The file of an `<include/>` that a server must support: a relative
    /// reference, whole. Others are noted.
    fn open(
        &mut self,
        element: &Element<'_>,
        depth: usize,
    ) -> Option<Result<Box<dyn io::Read>, Stop>> {
        let href = element.attr("href").unwrap_or_default().into_owned();
        let path = percent_decoded(&href).filter(|path| is_relative(path));
        let is_plain = element.attr("parse").is_none() && element.attr("xpointer").is_none();
        match path.filter(|_| is_plain && depth < INCLUDES_DEEP_MAX) {
            Some(path) => {
                Some((self.options.include)(&path).map_err(|error| Stop::Read(error.into())))
            }
            None => {
                self.note(format!("the include {href:?} was left out"));
                None
            }
        }
    }

    fn note(&mut self, what: String) {
        if self.imported.notes.len() < NOTES_MAX {
            self.imported.notes.push(what);
        }
    }
}

/// Putting what was read into the store.
impl Import<'_> {
    fn put(&mut self, mut user: User) -> Result<(), Stop> {
        let owner = user.owner.as_str().to_owned();
        self.behind = Some(owner.clone());
        let exists = self.store.read(|state| state.account(&owner).is_some());
        if exists && self.options.existing == Existing::Keep {
            self.imported.kept += 1;
            self.note(format!("{owner}: the account exists and was kept as it is"));
            return Ok(());
        }
        let credentials = match user.login() {
            Login::Credentials(credentials) => Some(credentials),
            Login::Password(password) => (self.options.new_credentials)(&user.owner, &password),
            Login::None => None,
        };
        let Some(credentials) = credentials else {
            self.note(format!(
                "{owner}: the account was left out, it has no credentials"
            ));
            return Ok(());
        };
        let created_at_ms = user.created_at_ms.unwrap_or(self.options.now_ms);
        let account = |tx: &mut Tx<'_>| {
            if exists {
                tx.remove_account(&owner)?;
            }
            tx.put_account(&owner, &credentials, created_at_ms)?;
            if user.is_disabled {
                tx.set_enabled(&owner, false)?;
            }
            match &user.last_activity {
                Some((at_ms, status)) => tx.put_last_activity(&owner, *at_ms, status),
                None => Ok(()),
            }
        };
        let values = values_of(&user, self.options.now_ms);
        // All at once where nothing is in the way, so that a crash leaves whole accounts.
        let whole = self.try_update(|tx| {
            account(tx)?;
            values.iter().try_for_each(|value| value.put(tx, &owner))
        })?;
        let mut refused = Vec::new();
        let mut messages = values.iter().filter(|value| value.is_message()).count() as u64;
        if whole.is_err() {
            self.try_update(account)?.map_err(Stop::Store)?;
            for value in &values {
                let put = self.try_update(|tx| value.put(tx, &owner))?;
                if let Err(error) = put {
                    messages -= u64::from(value.is_message());
                    refused.push(format!("{owner}: {} was left out: {error}", value.what()));
                }
            }
        }
        self.imported.accounts += 1;
        self.imported.sha1_alone += u64::from(matches!(credentials, Credentials::ScramSha1 { .. }));
        self.imported.messages += messages;
        user.notes
            .iter()
            .cloned()
            .chain(refused)
            .for_each(|note| self.note(note));
        Ok(())
    }

    /// Changes the store; refusals of this one value come back, and what makes
    /// any further import pointless ends it.
    fn try_update(
        &mut self,
        change: impl Fn(&mut Tx<'_>) -> Result<(), StoreError>,
    ) -> Result<Result<(), StoreError>, Stop> {
        let mut tries_left = FULL_TRIES;
        loop {
            let updated = match &self.options.limits {
                None => self.store.update(&change),
                Some(limits) => self.store.update_within(limits, &change),
            };
            match updated {
                Ok(((), _)) => return Ok(Ok(())),
                Err(StoreError::Overloaded) => (self.options.pause)().map_err(Stop::Store)?,
                // A file is full as well when it has not grown yet.
                Err(StoreError::Full) if tries_left > 0 => {
                    tries_left -= 1;
                    (self.options.pause)().map_err(Stop::Store)?;
                }
                Err(error @ (StoreError::Full | StoreError::Failed(_))) => {
                    return Err(Stop::Store(error));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// One thing that an account has.
enum Value<'u> {
    Item(&'u RosterEntry),
    Request(&'u str, &'u Bytes),
    Vcard(&'u Bytes),
    Private(&'u str, &'u str, &'u Bytes),
    Message(u64, &'u Bytes),
}

impl Value<'_> {
    fn put(&self, tx: &mut Tx<'_>, owner: &str) -> Result<(), StoreError> {
        match *self {
            Value::Item(item) => tx.put_roster_item(owner, item).map(drop),
            Value::Request(contact, stanza) => {
                tx.put_subscription_request(owner, contact, stanza.clone())
            }
            Value::Vcard(element) => tx.put_vcard(owner, element.clone()),
            Value::Private(name, namespace, element) => {
                tx.put_private(owner, name, namespace, element.clone())
            }
            Value::Message(received_at_ms, stanza) => tx
                .put_message(owner, received_at_ms, 0, stanza.clone())
                .map(drop),
        }
    }

    fn is_message(&self) -> bool {
        matches!(self, Value::Message(..))
    }

    fn what(&self) -> String {
        match self {
            Value::Item(item) => format!("the roster item {}", item.contact),
            Value::Request(contact, _) => format!("the subscription request of {contact}"),
            Value::Vcard(_) => "the vCard".to_owned(),
            Value::Private(name, ..) => format!("the private element {name}"),
            Value::Message(..) => "a message".to_owned(),
        }
    }
}

fn values_of(user: &User, now_ms: u64) -> Vec<Value<'_>> {
    let items = user.roster.iter().map(Value::Item);
    let requests = user
        .requests
        .iter()
        .map(|(contact, stanza)| Value::Request(contact, stanza));
    let private = user
        .private
        .iter()
        .map(|(name, ns, element)| Value::Private(name, ns, element));
    let messages = user.messages.iter();
    let messages = messages
        .map(|message| Value::Message(message.received_at_ms.unwrap_or(now_ms), &message.stanza));
    items
        .chain(requests)
        .chain(user.vcard.iter().map(Value::Vcard))
        .chain(private)
        .chain(messages)
        .collect()
}

/// A path that stays below the document's own folder.
fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains([':', '\\', '\0'])
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// A relative reference as a path (RFC 3986 §2.1).
fn percent_decoded(href: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(href.len());
    let mut rest = href.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [
            char::from(rest.next()?).to_digit(16)?,
            char::from(rest.next()?).to_digit(16)?,
        ];
        bytes.push((digits[0] * 16 + digits[1]) as u8);
    }
    String::from_utf8(bytes).ok()
}
