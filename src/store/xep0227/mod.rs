//! XEP-0227 (version 1.1): all accounts in a form that other servers read, and
//! back.
//!
//! Exported are credentials, roster, requests for presence, waiting messages,
//! vCard and private XML elements. What the XEP has no place for stands in the
//! namespace [`NS_OWN`]: argon2id hashes, whether an account may log in, when
//! it was created and last seen. Sleeping sessions are not exported; what they
//! have not delivered of the stored messages is among those.
//!
//! Whoever holds an export can pose as this server to its users and try
//! passwords: it is to be kept like the store itself.

mod export;
mod import;
mod read;
mod user;

#[cfg(test)]
mod tests;

pub use export::{ExportError, Exported, export, export_account};
pub use import::{Existing, ImportError, ImportOptions, Imported, import};

/// The format's own namespace.
pub const NS: &str = "urn:xmpp:pie:0";
/// SCRAM credentials.
pub const NS_SCRAM: &str = "urn:xmpp:pie:0#scram";
/// What only this server exports.
pub const NS_OWN: &str = "urn:x-cairn:export:0";

const NS_ROSTER: &str = "jabber:iq:roster";
const NS_PRIVATE: &str = "jabber:iq:private";
const NS_VCARD: &str = "vcard-temp";
const NS_DELAY: &str = "urn:xmpp:delay";
const NS_XINCLUDE: &str = "http://www.w3.org/2001/XInclude";
