//! Streams between servers (RFC 6120 §4, §13.7) as state machines.
//!
//! [`Incoming`] is the receiving entity's end, [`Outgoing`] the initiating entity's. A domain that
//! wants to send is authorised for a *pair* of domains, its own and the one it sends to: by its
//! certificate (SASL EXTERNAL, XEP-0178, or dialback without dialling back, XEP-0344), or, where
//! the configuration lets it, by dialback proper (XEP-0220). One stream may carry many pairs
//! (XEP-0220 §2.6), each authorised for itself; every stanza is checked against them.
//!
//! Whatever comes without TLS is refused, dialback included.
//!
//! Architecture invariant: like [`c2s`](super::c2s), these know no socket, clock or randomness.
//! What a certificate says is asked of an [`Identity`].

mod config;
mod dialback;
mod element;
mod incoming;
mod outgoing;
mod policy;
mod wire;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

pub use config::{Dialback, S2sConfig};
pub use dialback::key;
pub use incoming::Incoming;
pub use outgoing::{Outgoing, Purpose};
pub use policy::{Mode, Policy, Security};

use super::Closed;
use crate::addr::Jid;
use crate::stanza::{Condition, Stanza};

/// Two domains between which stanzas flow in one direction or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The domain that is served here.
    pub local: Jid,
    /// The domain that the peer serves.
    pub remote: Jid,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.local, self.remote)
    }
}

/// What the TLS session under a stream says of the peer.
pub trait Identity: Send + Sync + fmt::Debug {
    /// Whether the peer's certificate is valid for a domain (RFC 6120 §13.7.1, RFC 9525); if not,
    /// why, in words for the other server's operator.
    fn speaks_for(&self, domain: &Jid) -> Result<(), Cow<'static, str>>;

    /// Whether it is so because the signed zone of the domain says so (DANE).
    fn is_by_dane(&self) -> bool {
        false
    }

    /// Whether nobody can tell at this moment: it is not valid now and may be so later.
    fn is_undecided(&self) -> bool {
        false
    }
}

/// How a pair came to be authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// SASL EXTERNAL (XEP-0178).
    External,
    /// Dialback, and a certificate that made dialling back unnecessary (XEP-0344).
    Certificate,
    /// Dialback with the authoritative server's word (XEP-0220).
    Dialback,
}

/// A dialback key that the authoritative server has to be asked about (XEP-0220 §2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// For which pair the peer wants to be authorised.
    pub pair: Pair,
    /// The id of the stream that the key came in.
    pub stream_id: String,
    /// The key.
    pub key: String,
}

/// What is known of a key once the authoritative server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is its own.
    Valid,
    /// It is not.
    Invalid,
    /// There was no answer (XEP-0220 §2.5).
    Unknown(Condition),
}

/// One thing to do, in the order given. Where a method is named, the stream waits for it and
/// takes no input before.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes.
    Send(Bytes),
    /// Write what is queued, begin the TLS handshake, call `tls_established`.
    StartTls,
    /// Stanzas of the remote domain of this pair, for the local one, are taken from now on. With
    /// `may_answer` stanzas may be sent the other way too (XEP-0288).
    Authorized {
        /// The pair.
        pair: Pair,
        /// Why.
        proof: Proof,
        /// Whether the stream is bidirectional.
        may_answer: bool,
    },
    /// The peer has not shown that it may speak for a domain. For the log.
    Refused {
        /// The domain.
        domain: Jid,
        /// Why.
        why: Cow<'static, str>,
    },
    /// Ask the authoritative server, and call `dialled_back`; the stream goes on meanwhile.
    DialBack(Challenge),
    /// What the authoritative server says ([`Purpose::Verify`]).
    Verified(Verdict),
    /// The peer takes our stanzas from now on. The shell may begin stream management first, if
    /// the peer offers it: `enable` or `resume`.
    Ready {
        /// Whether stream management is on offer (XEP-0198).
        may_manage: bool,
        /// Whether the peer may send its stanzas here too (XEP-0288).
        is_bidirectional: bool,
    },
    /// No domain of the peer could be reached this way: why stanzas come back.
    Failed(Failure),
    /// A stanza of an authorised pair.
    Stanza(Stanza),
    /// Begin stream management (incoming): call `sm_enabled` or `sm_failed`.
    SmEnable {
        /// Whether the peer wants to be able to resume.
        resume: bool,
        /// For how long.
        max_seconds: Option<u32>,
    },
    /// Resume a former stream (incoming): call `resumed` or `sm_failed`.
    SmResume {
        /// Its id.
        previd: String,
        /// How many of our stanzas the peer has handled.
        h: u32,
    },
    /// The peer asks how many of its stanzas are handled.
    SmRequest,
    /// The peer has handled so many of our stanzas.
    SmAck {
        /// Modulo 2^32.
        h: u32,
    },
    /// The peer has enabled stream management (outgoing).
    SmEnabled {
        /// What resumes it.
        id: Option<String>,
        /// For how many seconds, if the peer says so.
        max_seconds: Option<u32>,
    },
    /// The peer has resumed a former stream, of which it has handled so much (outgoing).
    SmResumed {
        /// Modulo 2^32.
        h: u32,
    },
    /// The peer does not resume, or does not enable (outgoing).
    SmFailed {
        /// What it had handled of the former stream, if it knows.
        h: Option<u32>,
    },
    /// It is over. No action follows.
    Closed(Closed),
}

/// Why the initiating entity got nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What senders are told: `remote-server-not-found`, `remote-server-timeout` and the like.
    pub condition: Condition,
    /// Words for senders and for the log.
    pub text: Cow<'static, str>,
    /// Another target of the same domain may do better: this one has a fault of its own.
    pub is_of_target: bool,
}
