//! The server's end of a component's stream (XEP-0114, `jabber:component:accept`) as a state
//! machine.
//!
//! The header names the component's domain, `<handshake/>` shows that the secret is known, and
//! then every stanza is of that domain: who in it, is the component's own affair. There is no
//! TLS, no SASL and no stream management, so nobody knows what of it has arrived.
//!
//! Architecture invariant: like [`c2s`](super::c2s), it knows no socket, clock or randomness.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::Closed;
use super::header::{FOOTER, is_language_tag};
use crate::addr::Jid;
use crate::crypto::{Hash, constant_time_eq};
use crate::stanza::{FirstLevel, Nonza, Stanza, StreamError, StreamErrorCondition, id};
use crate::xml::{Content, Frame, Framer, Limits, StreamHeader, StreamScope, Writer, ns};

#[cfg(test)]
mod tests;

/// What a component and the server both know. It is overwritten when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text as it is, for both sides hash its very bytes; `None` where there is none.
    pub fn new(text: String) -> Option<Secret> {
        (!text.is_empty()).then(|| Secret(Zeroizing::new(text)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What all streams of components have in common.
#[derive(Debug)]
pub struct ComponentConfig {
    /// Each component's domain and the secret that it shares with the server.
    pub components: Vec<(Jid, Secret)>,
    /// Bounds before the handshake.
    pub limits_before: Limits,
    /// Bounds afterwards.
    pub limits_after: Limits,
    /// Milliseconds until the handshake must be done.
    pub negotiation_ms: u64,
}

/// One thing to do, in the order given.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes.
    Send(Bytes),
    /// Somebody wants to be the component of this domain. The stream takes no input before
    /// [`Component::check`] or [`Component::close`] was called.
    Handshake(Jid),
    /// A stanza of the component's domain. Its `to` was not looked at.
    Stanza(Stanza),
    /// It is over. No action follows.
    Closed(Closed),
}

#[derive(Debug)]
enum Stage {
    /// No header yet.
    Fresh,
    /// The header has named this one of the components.
    Named(usize),
    /// The handshake waits for the shell: whether it is right.
    Asked(usize, bool),
    /// It was right; the shell looks whether the place is free.
    Right(usize),
    /// The component is connected.
    Open(usize),
}

/// One stream of a component. Driven like a [`C2s`](super::c2s::C2s).
#[derive(Debug)]
pub struct Component {
    config: Arc<ComponentConfig>,
    framer: Framer,
    actions: VecDeque<Action>,
    stage: Stage,
    scope: Option<Arc<StreamScope>>,
    lang: Option<Box<str>>,
    /// The id of our header, which the handshake is for.
    id: String,
    header_sent: bool,
    ended: bool,
    deadline_ms: Option<u64>,
}

impl Component {
    /// A stream on a connection accepted at `accepted_ms`. `seed` are fresh bytes of the kernel's
    /// random source: the id that the handshake is for comes from them.
    pub fn new(config: Arc<ComponentConfig>, seed: [u8; 16], accepted_ms: u64) -> Component {
        Component {
            framer: Framer::new(config.limits_before),
            actions: VecDeque::new(),
            stage: Stage::Fresh,
            scope: None,
            lang: None,
            id: id::hex(&seed),
            header_sent: false,
            ended: false,
            deadline_ms: Some(accepted_ms.saturating_add(config.negotiation_ms)),
            config,
        }
    }

    /// Takes from the front of `bytes` until there is something to poll, or more bytes or an
    /// answer are needed. Between calls the buffer may only grow.
    pub fn input(&mut self, bytes: &mut BytesMut) {
        while self.actions.is_empty() && !self.is_waiting() && !self.ended {
            match self.framer.next(bytes) {
                Ok(None) => {
                    self.actions = VecDeque::new();
                    return;
                }
                Ok(Some(frame)) => {
                    if let Err(error) = self.frame(frame) {
                        self.close(error);
                    }
                }
                Err(error) => self.close(error.into()),
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

    /// When [`Component::timeout`] is to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// The handshake has taken too long.
    pub fn timeout(&mut self, now_ms: u64) {
        if self.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            let condition = StreamErrorCondition::ConnectionTimeout;
            self.close(StreamError::new(condition, "the handshake took too long"));
        }
    }

    /// Answers [`Action::Handshake`]: whether the secret was right. If so, the shell calls
    /// [`Component::accept`] or [`Component::close`]; if not, the stream has ended.
    pub fn check(&mut self) -> bool {
        let Stage::Asked(at, is_right) = self.stage else {
            return false;
        };
        if !is_right {
            let text = "this is not the hash of the stream's id and the component's secret";
            self.fail(StreamErrorCondition::NotAuthorized, text);
            return false;
        }
        self.stage = Stage::Right(at);
        true
    }

    /// The component has its place: an empty `<handshake/>` tells it so.
    pub fn accept(&mut self) {
        let Stage::Right(at) = self.stage else {
            return;
        };
        self.stage = Stage::Open(at);
        self.deadline_ms = None;
        self.framer.set_limits(self.config.limits_after);
        self.say(Bytes::from_static(b"<handshake/>"));
    }

    /// The default language of the component's stanzas (RFC 6120 §8.1.5).
    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// Ends the stream with an error.
    pub fn close(&mut self, error: StreamError) {
        if self.ended {
            return;
        }
        let mut bytes = match self.header_sent {
            true => Vec::new(),
            false => self.header(None),
        };
        let mut writer = Writer::new();
        error.write(&mut writer);
        bytes.extend_from_slice(&writer.finish());
        bytes.extend_from_slice(FOOTER);
        self.say(bytes.into());
        self.end(Closed::Error(error));
    }

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Asked(..) | Stage::Right(_))
    }

    fn frame(&mut self, frame: Frame) -> Result<(), StreamError> {
        match frame {
            Frame::Header(bytes) => self.open(&bytes),
            Frame::Footer => {
                self.say(Bytes::from_static(FOOTER));
                self.end(Closed::ByPeer);
                Ok(())
            }
            Frame::Element(bytes) => {
                let scope = self.scope.as_ref();
                let scope = scope.expect("the framer gives elements behind a header");
                match FirstLevel::parse(bytes, scope, self.framer.limits())? {
                    FirstLevel::Stanza(stanza) => self.stanza(stanza),
                    FirstLevel::Nonza(nonza) => self.nonza(&nonza),
                }
            }
        }
    }

    /// XEP-0114 §3: `to` is the component's own domain.
    fn open(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        use StreamErrorCondition as C;
        let header = StreamHeader::parse(bytes, Content::Component, self.framer.limits())?;
        self.scope = Some(Arc::new(header.scope.clone()));
        let lang = header.lang.as_deref().filter(|lang| is_language_tag(lang));
        self.lang = lang.map(Into::into);
        let to = header.to.as_deref().and_then(|to| Jid::parse(to).ok());
        let mut known = self.config.components.iter();
        let at = to.and_then(|to| known.position(|(domain, _)| *domain == to));
        let Some(at) = at else {
            let text = "no component of this domain is configured here";
            return Err(StreamError::new(C::HostUnknown, text));
        };
        self.stage = Stage::Named(at);
        let bytes = self.header(Some(at));
        self.say(bytes.into());
        Ok(())
    }

    /// Our header. The domain is repeated only if it is a component's.
    fn header(&mut self, at: Option<usize>) -> Vec<u8> {
        self.header_sent = true;
        let domain = at.map(|at| self.config.components[at].0.as_str());
        let mut writer = Writer::new();
        writer
            .open("stream:stream")
            .attr("xmlns", ns::COMPONENT)
            .attr("xmlns:stream", ns::STREAMS)
            .attr_opt("from", domain)
            .attr("id", &self.id);
        [b"<?xml version='1.0'?>".as_slice(), &writer.finish_open()].concat()
    }

    fn nonza(&mut self, nonza: &Nonza) -> Result<(), StreamError> {
        use StreamErrorCondition as C;
        let element = nonza.element();
        if element.is("error", ns::STREAMS) {
            self.say(Bytes::from_static(FOOTER));
            self.end(Closed::PeerError);
            return Ok(());
        }
        match self.stage {
            // Behind the edge the content namespace is that of clients.
            Stage::Named(at) if element.is("handshake", ns::CLIENT) => {
                let (domain, secret) = &self.config.components[at];
                let expected = handshake(&self.id, secret);
                let given = element.text();
                let is_right = constant_time_eq(expected.as_bytes(), given.trim().as_bytes());
                self.actions.push_back(Action::Handshake(domain.clone()));
                self.stage = Stage::Asked(at, is_right);
                Ok(())
            }
            Stage::Named(_) => Err(StreamError::new(
                C::NotAuthorized,
                "the handshake comes first",
            )),
            _ => Err(StreamError::new(
                C::UnsupportedStanzaType,
                "an element that is not supported here",
            )),
        }
    }

    /// XEP-0114 §3: a component speaks for everybody at its domain and for nobody else.
    fn stanza(&mut self, stanza: Stanza) -> Result<(), StreamError> {
        use StreamErrorCondition as C;
        let Stage::Open(at) = self.stage else {
            return Err(StreamError::new(
                C::NotAuthorized,
                "the handshake comes first",
            ));
        };
        let domain = self.config.components[at].0.as_str();
        let from = stanza.from().and_then(|from| Jid::parse(&from).ok());
        match from {
            Some(from) if from.domain() == domain => {
                self.actions.push_back(Action::Stanza(stanza));
                Ok(())
            }
            _ => {
                let text = "a stanza of a component has a from at the component's domain";
                Err(StreamError::new(C::InvalidFrom, text))
            }
        }
    }

    fn fail(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.close(StreamError::new(condition, text));
    }

    fn say(&mut self, bytes: Bytes) {
        self.actions.push_back(Action::Send(bytes));
    }

    fn end(&mut self, how: Closed) {
        self.ended = true;
        self.deadline_ms = None;
        self.actions.push_back(Action::Closed(how));
    }
}

/// XEP-0114 §3: SHA-1 of the stream's id and the secret, in lower-case hexadecimal.
fn handshake(id: &str, secret: &Secret) -> String {
    let message = Zeroizing::new([id.as_bytes(), secret.0.as_bytes()].concat());
    id::hex(Hash::Sha1.digest(&message).as_bytes())
}
