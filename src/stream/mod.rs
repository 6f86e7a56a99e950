//! XML streams (RFC 6120) as state machines: bytes and a clock in, actions out.
//!
//! [`c2s`] is the server's end of a client's stream, [`s2s`] has both ends of a stream between
//! servers, [`component`] the server's end of a component's stream. Beside them stand the parts that
//! streams of every kind share: [`sasl`], [`features`], [`bind`] and [`sm`].
//!
//! Architecture invariant: sans-IO. Nothing here knows a socket, a task, a clock or a
//! random source, nor the store: what is needed of them is asked for by an action and
//! told by a method.

mod action;
pub mod bind;
pub mod c2s;
pub mod component;
mod config;
pub mod features;
mod header;
pub mod s2s;
pub mod sasl;
pub mod sm;

pub use action::{Action, Closed, TlsInfo};
pub use config::{C2sConfig, C2sHost, ServerCaps};

/// Namespaces of stream negotiation.
pub mod ns {
    /// STARTTLS (RFC 6120 §5).
    pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
    /// SASL (RFC 6120 §6).
    pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// Resource binding (RFC 6120 §7).
    pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
    /// The session request of RFC 3921 §3, which no longer does anything.
    pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
    /// Channel bindings on offer (XEP-0440).
    pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
    /// In-band registration, the payload (XEP-0077).
    pub const REGISTER: &str = "jabber:iq:register";
    /// In-band registration, the feature (XEP-0077 §8).
    pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
    /// Stream management (XEP-0198).
    pub const SM: &str = "urn:xmpp:sm:3";
    /// Entity capabilities (XEP-0115).
    pub const CAPS: &str = "http://jabber.org/protocol/caps";
    /// Limits of a stream (XEP-0478).
    pub const LIMITS: &str = "urn:xmpp:stream-limits:0";
    /// Roster versioning (RFC 6121 §2.6.1).
    pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
    /// Pre-approval of subscriptions (RFC 6121 §3.4.1).
    pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
    /// XMPP ping (XEP-0199), with which a silent client is asked whether it is there.
    pub const PING: &str = "urn:xmpp:ping";
}
