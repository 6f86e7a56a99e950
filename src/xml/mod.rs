//! XML as XMPP uses it, from bytes to elements and back (RFC 6120 §11).
//!
//! Bytes pass through this layer once: [`Framer`] finds where an element ends while it arrives, `scan`
//! validates the whole element in one pass and notes what routing needs, [`Element`] reads payloads on demand,
//! [`Writer`] makes new ones. No tree is ever built.
//!
//! Invariants: this layer knows no socket, clock or stanza semantics; nothing that was not validated by `scan` or
//! written by [`Writer`] leaves it; every limit holds while its object is still incomplete.

mod canonical;
mod chars;
mod cursor;
mod element;
mod error;
mod escape;
mod frame;
mod header;
mod limits;
mod names;
mod scan;
mod write;

pub use canonical::canonicalise;
pub use cursor::Span;
pub use element::{Attributes, Children, Element};
pub use error::XmlError;
pub use escape::{escape_attribute, escape_text, unescape};
pub use frame::{Frame, Framer};
pub use header::{Content, StreamHeader, StreamScope};
pub use limits::Limits;
pub use scan::{NsRef, Scan, scan, scan_fragment};
pub use write::Writer;

/// Namespace names that this layer itself must know.
pub mod ns {
    /// Content of a client's stream (RFC 6120 §4.8.3); the default namespace of every canonical stanza.
    pub const CLIENT: &str = "jabber:client";
    /// Content of a stream between servers (RFC 6120 §4.8.3).
    pub const SERVER: &str = "jabber:server";
    /// Content of a component's stream (XEP-0114).
    pub const COMPONENT: &str = "jabber:component:accept";
    /// The stream element, features and stream errors (RFC 6120 §4.8.1).
    pub const STREAMS: &str = "http://etherx.jabber.org/streams";
    /// What the prefix `xml` is bound to by definition (Namespaces in XML 1.0 §3).
    pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
    /// What the prefix `xmlns` is bound to by definition (Namespaces in XML 1.0 §3).
    pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
}
