//! Stanzas: validated bytes with what routing needs noted beside them (RFC 6120 §8).
//!
//! A [`Stanza`] is never a tree and never changes. Forwarding builds a new start tag ([`Rewrite`]) and shares the rest;
//! what a handler reads of the payload it reads through [`crate::xml::Element`]; what the server says itself is written
//! by [`build`] and by the errors of [`error`].
//!
//! Invariants: every `Stanza` holds canonical bytes under the default namespace `jabber:client`; this layer knows no
//! clock and no random source, time and randomness are arguments.

pub mod build;
mod condition;
pub mod error;
mod first_level;
pub mod id;
mod kind;
mod rewrite;
#[allow(
    clippy::module_inception,
    reason = "the one noun the layer is named after"
)]
mod stanza;
pub mod time;

pub use error::{Application, Condition, ErrorType, SaslCondition, SaslFailure, StanzaError};
pub use error::{StreamError, StreamErrorCondition};
pub use first_level::{FirstLevel, Nonza};
pub use kind::Kind;
pub use rewrite::{Outgoing, Rewrite};
pub use stanza::{Head, Stanza};
