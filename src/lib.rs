//! Cairn: an XMPP server that is the whole machine.

pub mod addr;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod net;
pub mod router;
pub mod server;
pub mod stanza;
pub mod store;
pub mod stream;
pub mod xep;
pub mod xml;
