//! Cairn: an XMPP server that is the whole machine.
//!
//! # The way of a stanza
//!
//! ```text
//!        bytes           stanzas           decisions           effects
//!  TCP ─► net::transport ─► xml::Framer ─► stream::c2s ─► router ─► sessions ─► bytes
//!                                                          │  ▲
//!                                                          ▼  │
//!                                                         xep::* ──► store
//! ```
//!
//! What stands in the middle is pure: bytes or stanzas and a clock go in,
//! actions come out. Sockets, tasks, timers and randomness stay in the shell, so
//! the rules of the protocols and of the store can be fuzzed and simulated.
//!
//! # The map, lowest layer first
//!
//! | layer | module | knows | does not know |
//! |---|---|---|---|
//! | 0 | [`addr`] | addresses (RFC 7622) | stanzas |
//! | 0 | [`xml`] | the XML of RFC 6120 §11: frames, elements, writing | XMPP's namespaces |
//! | 1 | [`stanza`] | stanzas, their errors, forwarding | streams, sessions |
//! | 1 | [`crypto`] | SCRAM, password hashes, tokens | where they come from |
//! | 2 | [`stream`] | a stream from its header to its end, as a state machine | sockets, clocks |
//! | 2 | [`store`] | the log, and the state that follows from it | who asks |
//! | 3 | [`config`] | keys, defaults, limits that fit the machine | what they are for |
//! | 4 | [`router`] | sessions, and where a stanza goes | extensions |
//! | 5 | [`xep`] | one file or folder an extension | sockets |
//! | 6 | [`net`] | listeners, TLS, one task a connection | what stanzas mean |
//! | 6 | [`service`] | the operator's socket, accounts, moving in and out | sessions |
//! | 6 | [`http`] | administration from outside, over HTTPS | streams, sessions |
//! | 6 | [`machine`] | PID 1: the machine around the server | XMPP |
//! | 7 | [`server`] | all of it: wires the parts together | |
//! | 8 | [`cli`] | the command line | |
//!
//! A module names its own and lower layers only. The first three rows are pure:
//! no runtime, socket, file (but `store/disk.rs`), clock or source of
//! randomness. `net/tls` alone names rustls. `tests/tidy.rs` holds all of this.

pub mod addr;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod http;
pub mod machine;
pub mod net;
pub mod router;
pub mod server;
pub mod service;
pub mod stanza;
pub mod store;
pub mod stream;
pub mod xep;
pub mod xml;
