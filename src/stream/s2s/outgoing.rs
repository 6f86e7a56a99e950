//! The initiating entity: we have connected to another server, to send stanzas or to ask about a
//! dialback key.

mod open;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::dialback::{self, DIALBACK, Kind, Packet, Says};
use super::element::{self, Offered};
use super::wire::{Input, Wire};
use super::{Action, Failure, Identity, Pair, S2sConfig, Security, Verdict};
use crate::stanza::{Condition, FirstLevel, StreamError, StreamErrorCondition};
use crate::stream::{Closed, ns};
use crate::xml::{Element, StreamHeader, ns as xml_ns};

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To send stanzas of the pair.
    Send,
    /// To ask the remote domain's authoritative server about a key (XEP-0220 §2.1.2), and nothing
    /// else.
    Verify {
        /// The id of the stream that the key came in.
        stream_id: String,
        /// The key.
        key: String,
    },
}

/// One stream to another server. Driven like a [`C2s`](crate::stream::c2s::C2s).
#[derive(Debug)]
pub struct Outgoing {
    config: Arc<S2sConfig>,
    wire: Wire,
    pair: Pair,
    purpose: Purpose,
    state: State,
    /// The peer's certificate, once there is TLS.
    identity: Option<Arc<dyn Identity>>,
    /// The id of the peer's header, which dialback keys are for.
    stream_id: String,
    offered: Offered,
    is_bidirectional: bool,
    by_dialback_alone: bool,
    is_refused: bool,
    managed: bool,
}

/// What is awaited of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its header and its features.
    Features(Stage),
    /// `<proceed/>`.
    Proceed,
    /// The handshake, which the shell does.
    Handshake,
    /// The outcome of SASL.
    Success,
    /// The outcome of dialback.
    Dialback,
    /// The word of the authoritative server.
    Verification,
    /// Nothing: stanzas flow.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Plain,
    Secure,
    Authenticated,
}

impl Outgoing {
    /// A stream on a connection that stands since `connected_ms`. `seed` are 32 fresh bytes of the
    /// kernel's random source. `identity` is there for direct TLS.
    pub fn new(
        config: Arc<S2sConfig>,
        pair: Pair,
        purpose: Purpose,
        seed: [u8; 32],
        identity: Option<Arc<dyn Identity>>,
        connected_ms: u64,
    ) -> Outgoing {
        let (from, to) = (pair.local.clone(), Some(pair.remote.clone()));
        let mut wire = Wire::new(config.limits_before, seed, from, to);
        wire.deadline_ms = Some(connected_ms.saturating_add(config.negotiation_ms));
        let stage = match identity {
            Some(_) => Stage::Secure,
            None => Stage::Plain,
        };
        wire.failure = Some(Failure {
            condition: Condition::RemoteServerTimeout,
            text: "the other server has ended the stream".into(),
            is_of_target: true,
        });
        let header = wire.header(None);
        wire.say(header.into());
        Outgoing {
            config,
            wire,
            pair,
            purpose,
            state: State::Features(stage),
            identity,
            stream_id: String::new(),
            offered: Offered::default(),
            is_bidirectional: false,
            by_dialback_alone: false,
            is_refused: false,
            managed: false,
        }
    }

    /// Does not try SASL EXTERNAL, whatever is offered.
    #[must_use]
    pub fn by_dialback_alone(mut self) -> Outgoing {
        self.by_dialback_alone = true;
        self
    }

    /// Whether SASL EXTERNAL was refused and nothing was said of dialback since: a peer that ends
    /// the connection then may take a key on another one (XEP-0178 §3).
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Takes from the front of `bytes` until there is something to poll, or more bytes or an
    /// answer are needed. Between calls the buffer may only grow.
    pub fn input(&mut self, bytes: &mut BytesMut, now_ms: u64) {
        if self.wire.has_news(bytes) {
            self.moved(now_ms);
        }
        while let Some(input) = self.wire.next(bytes) {
            match input {
                Input::Header(header) => self.header(&header),
                Input::Element(element) => self.element(element, bytes, now_ms),
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.wire.poll()
    }

    /// Whether the handshake is awaited.
    pub fn is_waiting(&self) -> bool {
        self.wire.is_waiting
    }

    /// Whether stanzas flow.
    pub fn is_open(&self) -> bool {
        self.state == State::Open && !self.wire.has_ended()
    }

    /// When [`Outgoing::timeout`] is to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.wire.deadline_ms
    }

    /// Patience has ended.
    pub fn timeout(&mut self, now_ms: u64) {
        if self.wire.deadline_ms.is_none_or(|at| at > now_ms) {
            return;
        }
        if self.state == State::Open {
            return self.wire.finish();
        }
        self.is_refused = false;
        self.give_up(
            Condition::RemoteServerTimeout,
            "the other server does not answer in time".into(),
            true,
        );
    }

    /// Something is being sent or was received: the stream is in use.
    pub fn moved(&mut self, now_ms: u64) {
        if self.is_open() {
            let idle_ms = self.config.idle_ms;
            self.wire.deadline_ms = (idle_ms > 0).then(|| now_ms.saturating_add(idle_ms));
        }
    }

    /// Tells that the handshake is done.
    pub fn tls_established(&mut self, identity: Arc<dyn Identity>) {
        if self.state != State::Handshake {
            return;
        }
        self.wire.is_waiting = false;
        self.identity = Some(identity);
        self.restart(Stage::Secure);
    }

    /// The default language of the peer's stanzas (RFC 6120 §8.1.5).
    pub fn lang(&self) -> Option<&str> {
        self.wire.lang()
    }

    /// Ends the stream with an error.
    pub fn close(&mut self, error: StreamError) {
        self.wire.fail(error);
    }

    /// Ends the stream in order.
    pub fn finish(&mut self) {
        self.wire.finish();
    }

    fn restart(&mut self, stage: Stage) {
        self.wire.restart();
        self.state = State::Features(stage);
        let header = self.wire.header(None);
        self.wire.say(header.into());
    }

    fn header(&mut self, header: &StreamHeader) {
        if !matches!(header.version_numbers(), Some((major, _)) if major >= 1) {
            let text = "the other server does not speak XMPP 1.0, so not TLS either";
            return self.give_up(Condition::RemoteServerTimeout, text.into(), true);
        }
        self.stream_id = header.id.clone().unwrap_or_default();
    }

    fn element(&mut self, element: FirstLevel, rest: &mut BytesMut, now_ms: u64) {
        let nonza = match element {
            FirstLevel::Stanza(stanza) => return self.stanza(stanza),
            FirstLevel::Nonza(nonza) => nonza,
        };
        let element = nonza.element();
        match (self.state, element.ns(), element.name()) {
            (State::Features(stage), xml_ns::STREAMS, "features") => {
                self.offered = Offered::read(&element);
                self.features(stage, now_ms);
            }
            (State::Proceed, ns::TLS, "proceed") => {
                // What came behind it came without TLS.
                rest.clear();
                self.wire.act(Action::StartTls);
                self.wire.is_waiting = true;
                self.state = State::Handshake;
            }
            (State::Proceed, ns::TLS, "failure") => {
                let text = "the other server can't begin TLS";
                self.give_up(Condition::RemoteServerTimeout, text.into(), true);
            }
            (State::Success, ns::SASL, "success") => {
                self.wire.set_limits(self.config.limits_after);
                self.restart(Stage::Authenticated);
            }
            // XEP-0178 §3: what is refused there may be shown by dialback.
            (State::Success, ns::SASL, "failure") => {
                self.is_refused = true;
                self.send_key();
            }
            (_, DIALBACK, _) => self.dialback(&element, now_ms),
            (State::Open, ns::SM, _) => self.management(&element),
            (State::Open, ..) => self.wire.fail_with(
                StreamErrorCondition::UnsupportedStanzaType,
                "an element that is not supported here",
            ),
            _ => {
                let text = "the other server says something unexpected";
                self.give_up(Condition::RemoteServerTimeout, text.into(), true);
            }
        }
    }

    fn features(&mut self, stage: Stage, now_ms: u64) {
        match stage {
            Stage::Plain if self.offered.starttls => {
                self.state = State::Proceed;
                self.wire.say(element::starttls());
            }
            Stage::Plain => {
                let text = "the other server offers no TLS";
                self.give_up(Condition::RemoteServerTimeout, text.into(), true);
            }
            Stage::Secure => self.authenticate(),
            Stage::Authenticated => self.open(now_ms),
        }
    }

    fn authenticate(&mut self) {
        let remote = &self.pair.remote;
        if let Err(why) = self.config.proved(self.identity.as_ref(), remote)
            && self.config.security(remote) != Security::Dialback
        {
            let text = format!("the certificate of {remote} is not accepted: {why}");
            return self.give_up(Condition::RemoteServerTimeout, text.into(), true);
        }
        if let Purpose::Verify { stream_id, key } = &self.purpose {
            let bytes = dialback::verify(&self.pair, stream_id, key);
            self.state = State::Verification;
            return self.wire.say(bytes);
        }
        if self.offered.bidi {
            // XEP-0288 §2.2: before anything that authenticates.
            self.is_bidirectional = true;
            self.wire.say(element::bidi());
        }
        match self.offered.external && !self.by_dialback_alone {
            true => {
                self.state = State::Success;
                let authzid = STANDARD.encode(self.pair.local.as_str());
                self.wire.say(element::external(&authzid));
            }
            false => self.send_key(),
        }
    }

    fn send_key(&mut self) {
        let (remote, local) = (self.pair.remote.as_str(), self.pair.local.as_str());
        if self.stream_id.is_empty() {
            let text = "the other server takes neither our certificate nor dialback";
            return self.give_up(Condition::RemoteServerTimeout, text.into(), true);
        }
        let key = dialback::key(&self.config.secret, remote, local, &self.stream_id);
        self.state = State::Dialback;
        self.wire.say(dialback::result(&self.pair, &key));
    }

    fn dialback(&mut self, element: &Element<'_>, now_ms: u64) {
        self.is_refused = false;
        let Some(packet) = Packet::parse(element) else {
            let text = "this is no element of dialback";
            return self.wire.fail_with(StreamErrorCondition::InvalidXml, text);
        };
        let is_ours = self.config.local(&packet.to).as_ref() == Some(&self.pair.local)
            && self.config.remote(&packet.from).as_ref() == Some(&self.pair.remote);
        match (packet.kind, packet.says, self.state) {
            // Whoever wants to be authorised comes on a stream of its own.
            (kind, Says::Key(key), _) => {
                let packet = Packet {
                    says: Says::Key(key),
                    kind,
                    ..packet
                };
                let refusal = dialback::refusal(&packet, Condition::NotAllowed);
                self.wire.say(refusal);
            }
            (Kind::Result, Says::Outcome(verdict), State::Dialback) if is_ours => match verdict {
                Verdict::Valid => {
                    self.wire.set_limits(self.config.limits_after);
                    self.open(now_ms);
                }
                Verdict::Invalid => self.give_up(
                    // XEP-0220 §2.1.1.
                    Condition::InternalServerError,
                    "the other server does not believe that we are who we are".into(),
                    false,
                ),
                Verdict::Unknown(condition) => self.give_up(
                    Condition::RemoteServerTimeout,
                    format!("the other server could not authorise us: {condition}").into(),
                    false,
                ),
            },
            (Kind::Verify, Says::Outcome(verdict), State::Verification)
                if is_ours && self.is_asked_about(&packet.id) =>
            {
                self.wire.failure = None;
                self.wire.act(Action::Verified(verdict));
                self.state = State::Open;
                self.wire.finish();
            }
            // Outcomes that nobody has asked for are worth nothing.
            (_, Says::Outcome(_), _) => {}
        }
    }

    fn is_asked_about(&self, id: &str) -> bool {
        matches!(&self.purpose, Purpose::Verify { stream_id, .. } if stream_id == id)
    }

    fn open(&mut self, now_ms: u64) {
        self.state = State::Open;
        self.wire.failure = None;
        self.moved(now_ms);
        self.wire.act(Action::Ready {
            may_manage: self.offered.sm && self.config.stream_management,
            is_bidirectional: self.is_bidirectional,
        });
    }

    /// The stream is of no use: why, for whoever waits for it.
    fn give_up(&mut self, condition: Condition, text: Cow<'static, str>, is_of_target: bool) {
        self.wire.failure = Some(Failure {
            condition,
            text,
            is_of_target,
        });
        self.wire.finish();
    }

    /// The connection was lost, or could not be secured, before the stream was of use.
    pub fn lost(&mut self, why: Cow<'static, str>) {
        if let Some(failure) = &mut self.wire.failure {
            failure.text = why;
        }
        self.wire.close(Closed::PeerError);
    }
}
