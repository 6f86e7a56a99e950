//! Writing.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{NS, NS_DELAY, NS_OWN, NS_PRIVATE, NS_ROSTER, NS_SCRAM};
use crate::crypto::{Credentials, ScramKeys};
use crate::stanza::time::to_datetime;
use crate::stanza::{Rewrite, Stanza};
use crate::store::state::{Account, RosterItem};
use crate::store::{Store, StoreError};
use crate::xml::{Element, Limits, Writer, scan_fragment};

/// What an export holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Accounts.
    pub accounts: u64,
    /// Waiting messages.
    pub messages: u64,
    /// Values that could not be read and are missing in it, in words for the operator.
    pub missing: Vec<String>,
}

/// Why an export ended early.
#[derive(Debug)]
pub enum ExportError {
    /// Where it goes to does not take it.
    Output(io::Error),
    /// The store has failed.
    Store(StoreError),
}

impl std::fmt::Display for ExportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExportError::Output(error) => write!(f, "the export cannot be written: {error}"),
            ExportError::Store(error) => write!(f, "the store cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> ExportError {
        ExportError::Output(error)
    }
}

/// Writes all accounts, host by host, each as it is at its moment. One value
/// is held in memory at a time, whatever the size of the store.
pub fn export(store: &Store, out: &mut dyn io::Write) -> Result<Exported, ExportError> {
    let mut owners: Vec<(String, String)> = store.read(|state| {
        let owners = state.accounts().map(|account| address(account.owner()));
        owners
            .map(|(name, host)| (host.to_owned(), name.to_owned()))
            .collect()
    });
    owners.sort_unstable();
    let mut export = Export {
        store,
        out,
        exported: Exported::default(),
    };
    export
        .out
        .write_all(b"<?xml version='1.0' encoding='UTF-8'?>\n")?;
    export.put(&Writer::new().open_ns("server-data", NS).finish_open())?;
    for accounts in owners.chunk_by(|one, other| one.0 == other.0) {
        export.put(
            &Writer::new()
                .open("host")
                .attr("jid", &accounts[0].0)
                .finish_open(),
        )?;
        for (host, name) in accounts {
            export.account(host, name)?;
        }
        export.out.write_all(b"</host>\n")?;
    }
    export.out.write_all(b"</server-data>\n")?;
    export.out.flush()?;
    Ok(export.exported)
}

/// Writes one account as the `<user/>` of such a document, in whose default namespace it is. `None`
/// where there is no such account.
pub fn export_account(
    store: &Store,
    owner: &str,
    out: &mut dyn io::Write,
) -> Result<Option<Exported>, ExportError> {
    let (name, host) = address(owner);
    let mut export = Export {
        store,
        out,
        exported: Exported::default(),
    };
    export.account(host, name)?;
    Ok((export.exported.accounts > 0).then_some(export.exported))
}

struct Export<'a> {
    store: &'a Store,
    out: &'a mut dyn io::Write,
    exported: Exported,
}

impl Export<'_> {
    /// An account that was removed meanwhile is left out.
    fn account(&mut self, host: &str, name: &str) -> Result<(), ExportError> {
        let owner = format!("{name}@{host}");
        let Some(account) = self.store.read(|state| state.account(&owner).cloned()) else {
            return Ok(());
        };
        self.exported.accounts += 1;
        self.put(&Writer::new().open("user").attr("name", name).finish_open())?;
        self.credentials(&account)?;
        self.own(&account)?;
        if !account.roster().is_empty() {
            self.put(&roster(&account))?;
        }
        for (contact, _) in account.subscription_requests() {
            let stanza = self.store.subscription_request(&owner, contact);
            self.element(stanza, || {
                format!("the subscription request of {contact} to {owner}")
            })?;
        }
        self.element(self.store.vcard(&owner), || format!("the vCard of {owner}"))?;
        self.private(&account)?;
        self.messages(&account, host)?;
        self.out.write_all(b"</user>\n")?;
        Ok(())
    }

    fn credentials(&mut self, account: &Account) -> Result<(), ExportError> {
        match account.credentials() {
            Some(Credentials::Scram { sha256, sha1 }) => {
                self.put(&scram("SCRAM-SHA-256", &sha256))?;
                sha1.iter()
                    .try_for_each(|keys| self.put(&scram("SCRAM-SHA-1", keys)))
            }
            Some(Credentials::ScramSha1 { keys }) => self.put(&scram("SCRAM-SHA-1", &keys)),
            Some(Credentials::Argon2id { phc }) => self.put(
                &Writer::new()
                    .open_ns("argon2id", NS_OWN)
                    .text(&phc)
                    .finish(),
            ),
            None => Ok(()),
        }
    }

    /// What the XEP has no place for.
    fn own(&mut self, account: &Account) -> Result<(), ExportError> {
        let created = to_datetime(account.created_at_ms());
        self.put(
            &Writer::new()
                .open_ns("created", NS_OWN)
                .attr("at", &created)
                .finish(),
        )?;
        if !account.is_enabled() {
            self.put(&Writer::new().open_ns("disabled", NS_OWN).finish())?;
        }
        if let Some((at_ms, status)) = account.last_activity() {
            let mut writer = Writer::new();
            writer
                .open_ns("last-activity", NS_OWN)
                .attr("at", &to_datetime(at_ms))
                .text(status);
            self.put(&writer.finish())?;
        }
        Ok(())
    }

    fn private(&mut self, account: &Account) -> Result<(), ExportError> {
        if account.private_elements().next().is_none() {
            return Ok(());
        }
        self.put(&Writer::new().open_ns("query", NS_PRIVATE).finish_open())?;
        for (name, namespace, _) in account.private_elements() {
            let element = self.store.private(account.owner(), name, namespace);
            self.element(element, || {
                format!("the private element {name} of {}", account.owner())
            })?;
        }
        self.out.write_all(b"</query>")?;
        Ok(())
    }

    /// Messages with the time at which they came, as XEP-0203 says it.
    fn messages(&mut self, account: &Account, host: &str) -> Result<(), ExportError> {
        let mut messages = account
            .messages()
            .iter()
            .filter(|message| !message.is_outbound())
            .peekable();
        if messages.peek().is_none() {
            return Ok(());
        }
        self.out.write_all(b"<offline-messages>")?;
        for message in messages {
            let stamp = to_datetime(message.received_at_ms);
            let delay = Writer::new()
                .open_ns("delay", NS_DELAY)
                .attr("from", host)
                .attr("stamp", &stamp)
                .finish();
            let stanza = self
                .store
                .message(account.owner(), message.id)
                .map(|stanza| {
                    stanza.map(|bytes| match Stanza::from_canonical(bytes.clone()) {
                        Ok(stanza) => stanza
                            .rewrite(&Rewrite {
                                insert: &delay,
                                ..Rewrite::default()
                            })
                            .to_bytes(),
                        Err(_) => bytes,
                    })
                });
            let what = || format!("a message for {}, received at {stamp}", account.owner());
            if self.element(stanza, what)? {
                self.exported.messages += 1;
            }
        }
        self.out.write_all(b"</offline-messages>")?;
        Ok(())
    }

    /// Writes a stored element with every declaration that it needs; whether
    /// there was one. One that cannot be read is noted and left out.
    fn element(
        &mut self,
        stored: Result<Option<Bytes>, StoreError>,
        what: impl FnOnce() -> String,
    ) -> Result<bool, ExportError> {
        let bytes = match stored {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(false),
            Err(StoreError::Failed(why)) => {
                return Err(ExportError::Store(StoreError::Failed(why)));
            }
            Err(error) => {
                self.exported.missing.push(format!("{}: {error}", what()));
                return Ok(false);
            }
        };
        // Validated again, because a store can rot, and one bad byte would spoil the whole document.
        let valid = scan_fragment(&bytes, &Limits::own()).is_ok();
        match Element::from_canonical(&bytes).filter(|_| valid) {
            Some(element) => self.put(&element.to_self_contained())?,
            None => self
                .exported
                .missing
                .push(format!("{}: it is no XML element", what())),
        }
        Ok(valid)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.out.write_all(bytes)?;
        Ok(())
    }
}

/// Name and host of an account.
fn address(owner: &str) -> (&str, &str) {
    owner.split_once('@').unwrap_or(("", owner))
}

fn scram(mechanism: &str, keys: &ScramKeys) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("scram-credentials", NS_SCRAM)
        .attr("mechanism", mechanism);
    writer.leaf("iter-count", &keys.iterations().to_string());
    writer.leaf("salt", &STANDARD.encode(keys.salt()));
    writer.leaf("server-key", &STANDARD.encode(keys.server_key().as_bytes()));
    writer.leaf("stored-key", &STANDARD.encode(keys.stored_key().as_bytes()));
    writer.finish()
}

fn roster(account: &Account) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("query", NS_ROSTER);
    for item in account.roster().iter() {
        roster_item(&item, &mut writer);
    }
    writer.finish()
}

fn roster_item(item: &RosterItem<'_>, writer: &mut Writer) {
    writer.open("item").attr("jid", item.contact);
    writer.attr_opt("name", Some(item.name).filter(|name| !name.is_empty()));
    writer.attr("subscription", item.subscription().as_str());
    writer.attr_opt("ask", item.ask().then_some("subscribe"));
    writer.attr_opt("approved", item.approved().then_some("true"));
    for group in item.groups() {
        writer.leaf("group", group);
    }
    writer.close();
}
