//! What the wire tests stand on: the real server as a process, and a small XMPP client that says
//! exactly what a test tells it to say. Nothing in here uses Cairn's own parser or SCRAM code: a
//! mistake must not be able to agree with itself.

pub mod client;
pub mod element;
pub mod gate;
pub mod http;
pub mod python;
pub mod scram;
pub mod screen;
pub mod server;
pub mod tls;
pub mod wire;

pub use client::Client;
pub use element::Element;
pub use http::Http;
pub use server::Server;
pub use tls::Tls;
pub use wire::{Seen, Wire};

/// The domain that every test server serves.
pub const DOMAIN: &str = "cairn.example";

/// Namespaces, by the names the specifications give them.
pub mod ns {
    pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
    pub const CLIENT: &str = "jabber:client";
    pub const DELAY: &str = "urn:xmpp:delay";
    pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
    pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
    pub const ROSTER: &str = "jabber:iq:roster";
    pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
    pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
    pub const SM: &str = "urn:xmpp:sm:3";
    pub const STANZA_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
    pub const STANZA_ID: &str = "urn:xmpp:sid:0";
    pub const STREAM: &str = "http://etherx.jabber.org/streams";
    pub const STREAM_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
}
