//! What a stream asks its shell to do.

use bytes::Bytes;

use super::sasl::Mechanism;
use crate::addr::Jid;
use crate::crypto::{BindingType, ChannelBindings, PasswordCheck};
use crate::stanza::{SaslFailure, Stanza, StreamError};

/// One thing to do, in the order in which [`C2s::poll`](super::c2s::C2s::poll) gives
/// them. Where a method is named, the stream waits for it and takes no input before.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes.
    Send(Bytes),
    /// Write what is queued, then begin the TLS handshake on the bare socket, and call
    /// `tls_established`. A handshake that fails ends the connection without a word.
    StartTls,
    /// Fetch the credentials of an account and call `credentials`, with `None` if there
    /// is no such account, or `refuse_authentication` if it has failed too often.
    LookUp {
        /// The bare address.
        account: Jid,
        /// The mechanism that was chosen.
        mechanism: Mechanism,
    },
    /// Run the check where it may take milliseconds, and memory if
    /// `[auth] store = "argon2id"`, and call `verified` with its outcome.
    VerifyPassword(PasswordCheck),
    /// A stranger's `jabber:iq:register` (XEP-0077): call `registration_reply` with the
    /// whole iq that answers it.
    Register(Stanza),
    /// The client has proved who it is. For the log and for throttling.
    Authenticated {
        /// The bare address.
        account: Jid,
        /// How.
        mechanism: Mechanism,
        /// The channel binding that was used.
        binding: Option<BindingType>,
    },
    /// The client has failed to. For the log and for throttling.
    AuthenticationFailed {
        /// The account it tried, if it came to name one.
        account: Option<Jid>,
        /// What it was told.
        failure: SaslFailure,
        /// What it was not told.
        reason: &'static str,
    },
    /// Bind this full address, or another one for the same account, and call `bound`
    /// with the one that was bound or why none can be.
    Bind {
        /// With the resource that the client wants, or a random one.
        jid: Jid,
        /// Whether the client named the resource. RFC 6120 §7.7.2.2 leaves to the shell
        /// who gives way when it is in use.
        chosen_by_client: bool,
    },
    /// Begin stream management: call `sm_enabled` or `sm_failed`. From the reply on,
    /// stanzas are counted in both directions.
    SmEnable {
        /// Whether the client wants to be able to resume.
        resume: bool,
        /// For how long, if it says so.
        max_seconds: Option<u32>,
    },
    /// Resume a former stream of the authenticated account: call `resumed` or
    /// `sm_failed`. Whether it belongs to this account is for the shell to check.
    SmResume {
        /// The id that `sm_enabled` gave.
        previd: String,
        /// How many of our stanzas the client has handled.
        h: u32,
    },
    /// The client asks how many of its stanzas are handled: call `acknowledge` when
    /// those before this are as safe as they must be. The stream does not wait.
    SmRequest,
    /// The client has handled so many of our stanzas. If they are more than were sent,
    /// call `close_handled_count_too_high`.
    SmAck {
        /// The count, modulo 2^32.
        h: u32,
    },
    /// A stanza of the bound client. Its `from` is absent or right.
    Stanza(Stanza),
    /// It is over: write what is queued, close the connection. No action follows.
    Closed(Closed),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it; nothing is to be resumed (XEP-0198 §6).
    ByPeer,
    /// We ended it for this reason.
    Error(StreamError),
    /// The client ended it with a stream error.
    PeerError,
}

/// What the stream must know about the TLS session under it.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// `tls-exporter` (RFC 9266), 32 bytes; absent without extended master secret.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4): the hash of the certificate of this very
    /// session; absent if none is defined for it.
    pub server_end_point: Option<Vec<u8>>,
    /// For the log: `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The server name that the client asked for.
    pub sni: Option<String>,
    /// The protocol that was agreed on (XEP-0368).
    pub alpn: Option<Vec<u8>>,
}

impl TlsInfo {
    /// The channel bindings that it makes possible.
    pub fn into_bindings(self) -> ChannelBindings {
        ChannelBindings {
            exporter: self.exporter,
            server_end_point: self.server_end_point,
        }
    }
}
