//! The server's end of a client's stream (RFC 6120), from the first byte to the last.
//!
//! The shell owns the socket, TLS, the clock and the account store. It drives a [`C2s`]
//! like this, on every read and after every answer to an action:
//!
//! ```
//! # use std::sync::Arc;
//! # use bytes::BytesMut;
//! # use cairn::addr::Jid;
//! # use cairn::stream::{Action, C2sConfig, TlsInfo, c2s::C2s};
//! # let config = Arc::new(C2sConfig::new(vec![Jid::parse("a.example").unwrap()], [0; 32]));
//! # let (seed, now_ms, mut written) = ([1; 32], 0, Vec::new());
//! let mut stream = C2s::new(config, seed, None, now_ms);
//! let mut buffer = BytesMut::from(
//!     "<stream:stream to='a.example' version='1.0' xmlns='jabber:client'
//!         xmlns:stream='http://etherx.jabber.org/streams'>
//!      <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
//! );
//! loop {
//!     stream.input(&mut buffer, now_ms);
//!     let Some(action) = stream.poll() else {
//!         break; // Read more into the buffer, unless stream.is_waiting().
//!     };
//!     match action {
//!         Action::Send(bytes) => written.extend_from_slice(&bytes),
//!         // Answered at once here; it may as well be later, from another task's result.
//!         Action::StartTls => stream.tls_established(TlsInfo::default(), now_ms),
//!         Action::Closed(_) => break,
//!         other => panic!("not in this example: {other:?}"),
//!     }
//! }
//! assert!(written.ends_with(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
//! ```
//!
//! At [`C2s::deadline`] it calls [`C2s::timeout`]. What it sends to the client itself,
//! stanzas, it writes between the bytes of [`Action::Send`], in the order of events.
//!
//! Invariants: no action follows [`Action::Closed`]; while an answer is awaited no input
//! is taken; every byte that arrives without TLS is forgotten when TLS begins; nothing
//! but an [`Action::Send`] was said to the client, so a transcript of those is complete.

mod authentication;
mod binding;
mod ending;
mod opening;
mod session;
mod tls;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::sasl::Sasl;
use super::{Action, C2sConfig, C2sHost, TlsInfo};
use crate::addr::Jid;
use crate::crypto::{ChannelBindings, hmac_sha256};
use crate::stanza::id;
use crate::stanza::{FirstLevel, StreamError, StreamErrorCondition};
use crate::xml::{Frame, Framer, StreamScope, Writer};

/// One client's stream. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct C2s {
    config: Arc<C2sConfig>,
    framer: Framer,
    actions: VecDeque<Action>,
    stage: Stage,
    waiting: Option<Waiting>,
    /// Whether it is over.
    ended: bool,
    /// What the client's header put in scope; `None` until it came, anew in each stage.
    scope: Option<Arc<StreamScope>>,
    /// Whether our header went out in this stage: no error is sent before it.
    header_sent: bool,
    /// The domain that the client came for; the same in all stages.
    domain: Option<Jid>,
    /// Who the client's header says it is.
    claimed: Option<Jid>,
    /// `xml:lang` of the client's header.
    lang: Option<Box<str>>,
    /// The bare address after authentication, the full one after binding.
    jid: Option<Jid>,
    /// What is needed until the stream is bound, and no longer.
    login: Option<Box<Login>>,
    /// Whether stream management is on.
    managed: bool,
    /// Whether a silent client was asked whether it is there.
    probed: bool,
    /// When the present patience ends; see [`C2s::deadline`].
    deadline_ms: Option<u64>,
}

/// How far the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No TLS.
    Plain,
    /// TLS, no identity.
    Secure,
    /// An identity, no resource.
    Authenticated,
    /// A full address: stanzas flow.
    Bound,
}

/// Which answer of the shell is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Tls,
    Credentials,
    Password,
    Registration,
    Binding,
    Enabling,
    Resumption,
}

#[derive(Debug)]
struct Login {
    seed: [u8; 32],
    drawn: u64,
    bindings: ChannelBindings,
    sasl: Option<Sasl>,
    failures: u32,
    /// The iq that asked for a resource.
    bind_request: Option<crate::stanza::Stanza>,
    /// The id of the stream that the client wants to resume.
    previd: Option<String>,
}

impl C2s {
    /// A stream on a connection accepted at `accepted_ms`. `seed` are 32 fresh bytes of the kernel's
    /// random source, from which ids and nonces derive. `tls` is there for direct TLS.
    pub fn new(
        config: Arc<C2sConfig>,
        seed: [u8; 32],
        tls: Option<TlsInfo>,
        accepted_ms: u64,
    ) -> C2s {
        let framer = Framer::new(config.limits_before);
        let stage = if tls.is_some() {
            Stage::Secure
        } else {
            Stage::Plain
        };
        let login = Login {
            seed,
            drawn: 0,
            bindings: tls.map(TlsInfo::into_bindings).unwrap_or_default(),
            sasl: None,
            failures: 0,
            bind_request: None,
            previd: None,
        };
        C2s {
            deadline_ms: Some(accepted_ms.saturating_add(config.login_ms)),
            config,
            framer,
            actions: VecDeque::new(),
            stage,
            waiting: None,
            ended: false,
            scope: None,
            header_sent: false,
            domain: None,
            claimed: None,
            lang: None,
            jid: None,
            login: Some(Box::new(login)),
            managed: false,
            probed: false,
        }
    }

    /// Takes from the front of `bytes` until there is something to [`poll`](C2s::poll),
    /// or more bytes or an answer are needed. Between calls the buffer may only grow.
    pub fn input(&mut self, bytes: &mut BytesMut, now_ms: u64) {
        // Half a stanza stays in the buffer and says nothing more.
        if bytes.len() > self.framer.looked_at() {
            self.heard(now_ms);
        }
        while self.actions.is_empty() && self.waiting.is_none() && !self.ended {
            match self.framer.next(bytes) {
                Ok(None) => return self.rest(),
                Ok(Some(frame)) => self.frame(frame, bytes),
                Err(error) => self.fail(error.into()),
            }
        }
        if self.ended {
            bytes.clear();
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether an answer is awaited and input is left alone until it comes.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The full address once bound or resumed, the bare one once authenticated.
    pub fn jid(&self) -> Option<&Jid> {
        self.jid.as_ref()
    }

    /// The domain that the client came for, once it has said so.
    pub fn domain(&self) -> Option<&Jid> {
        self.domain.as_ref()
    }

    /// What holds for that domain.
    fn host(&self) -> &C2sHost {
        self.config.host(self.domain.as_ref())
    }

    /// Whether stanzas flow.
    pub fn is_bound(&self) -> bool {
        self.stage == Stage::Bound
    }

    /// The default language of the client's stanzas, which goes on those that have none
    /// (RFC 6120 §8.1.5).
    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// Nothing to do: an idle session keeps no room for actions.
    fn rest(&mut self) {
        if self.stage == Stage::Bound {
            self.actions = VecDeque::new();
        }
    }

    fn frame(&mut self, frame: Frame, rest: &mut BytesMut) {
        match frame {
            Frame::Header(bytes) => self.open(&bytes),
            Frame::Footer => self.peer_closed(),
            Frame::Element(bytes) => match self.first_level(bytes) {
                Ok(first_level) => self.element(first_level, rest),
                Err(error) => self.fail(error),
            },
        }
    }

    fn first_level(&self, bytes: Bytes) -> Result<FirstLevel, StreamError> {
        let scope = self
            .scope
            .as_ref()
            .expect("the framer gives elements behind a header");
        Ok(FirstLevel::parse(bytes, scope, self.framer.limits())?)
    }

    fn element(&mut self, first_level: FirstLevel, rest: &mut BytesMut) {
        if let FirstLevel::Nonza(nonza) = &first_level
            && nonza.element().is("error", crate::xml::ns::STREAMS)
        {
            return self.peer_failed();
        }
        match self.stage {
            Stage::Plain => self.element_without_tls(&first_level, rest),
            Stage::Secure => self.element_before_authentication(first_level),
            Stage::Authenticated => self.element_before_binding(first_level),
            Stage::Bound => self.element_of_session(first_level),
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if !self.ended {
            self.actions.push_back(Action::Send(bytes));
        }
    }

    fn send_with(&mut self, write: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new();
        write(&mut writer);
        self.send(writer.finish());
    }

    /// Takes note of an answer; `false` if it is not the one awaited, because the stream
    /// has ended since.
    fn answered(&mut self, answer: Waiting) -> bool {
        let awaited = self.waiting == Some(answer);
        debug_assert!(awaited || self.ended, "{answer:?} was not asked for");
        if awaited {
            self.waiting = None;
        }
        awaited
    }

    fn await_answer(&mut self, waiting: Waiting, action: Action) {
        self.waiting = Some(waiting);
        self.actions.push_back(action);
    }

    /// A new stream on the same connection (RFC 6120 §4.3.3).
    fn restart(&mut self, stage: Stage) {
        self.stage = stage;
        self.framer.restart();
        if stage == Stage::Authenticated {
            self.framer.set_limits(self.config.limits_after);
        }
        self.scope = None;
        self.header_sent = false;
    }

    fn refuse_unauthorized(&mut self) {
        // RFC 6120 §4.9.3.12: also for what we would not know anyway.
        self.fail(StreamError::new(
            StreamErrorCondition::NotAuthorized,
            "log in before you send this",
        ));
    }
}

impl Login {
    /// An unguessable text: 128 bits of the seed and a counter, in hexadecimal.
    fn draw(&mut self, what: &str) -> String {
        self.drawn += 1;
        let random = hmac_sha256(&self.seed, &[what.as_bytes(), &self.drawn.to_be_bytes()]);
        id::hex(&random[..16])
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}

#[cfg(test)]
mod tests;
