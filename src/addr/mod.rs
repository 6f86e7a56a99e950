//! Addresses (RFC 7622): the one place where a JID is prepared and compared.
//!
//! Everything behind the edge handles a [`Jid`], which is already normalised,
//! so that two addresses are the same exactly when their texts are equal.
//!
//! Architecture invariant: pure; knows no stanza, stream or store.

pub mod domain;
mod jid;
pub mod lookalike;
pub mod precis;
mod punycode;

pub use jid::{Jid, JidError, PART_BYTES_MAX};
pub use lookalike::{is_lookalike_risk, lookalike_key};
