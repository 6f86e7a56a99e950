//! The receiving entity: a server has connected to us.

mod authorize;
mod session;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::config::domain_of;
use super::element::{self, BIDI, BIDI_FEATURE, DIALBACK_FEATURE, EXTERNAL};
use super::wire::{Input, Wire};
use super::{Action, Identity, Pair, Proof, S2sConfig, Security};
use crate::addr::Jid;
use crate::stanza::{FirstLevel, SaslCondition, SaslFailure, StreamError, StreamErrorCondition};
use crate::stream::ns;
use crate::xml::{StreamHeader, Writer};

use authorize::Pairs;

/// One stream from another server. Driven like a [`C2s`](crate::stream::c2s::C2s).
#[derive(Debug)]
pub struct Incoming {
    config: Arc<S2sConfig>,
    wire: Wire,
    stage: Stage,
    /// The peer's certificate, once there is TLS.
    identity: Option<Arc<dyn Identity>>,
    /// The domains of the peer's header.
    header_pair: Option<Pair>,
    /// The id of our header in force, which dialback keys are for.
    stream_id: String,
    pairs: Pairs,
    is_bidirectional: bool,
    managed: bool,
    failures: u32,
    /// An answer to `<enable/>` or `<resume/>` is awaited; the former stream's id.
    asked: Option<Asked>,
}

#[derive(Debug)]
enum Asked {
    Enable,
    Resume(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No TLS.
    Plain,
    /// TLS.
    Secure,
    /// SASL EXTERNAL is done; a new header was sent.
    Authenticated,
}

/// Failed SASL negotiations on one stream (RFC 6120 §6.4.5).
const FAILURES_MAX: u32 = 3;

impl Incoming {
    /// A stream on a connection accepted at `accepted_ms`. `seed` are 32 fresh bytes of the
    /// kernel's random source. `identity` is there for direct TLS.
    pub fn new(
        config: Arc<S2sConfig>,
        seed: [u8; 32],
        identity: Option<Arc<dyn Identity>>,
        accepted_ms: u64,
    ) -> Incoming {
        let mut wire = Wire::new(config.limits_before, seed, config.domains[0].clone(), None);
        wire.deadline_ms = Some(accepted_ms.saturating_add(config.negotiation_ms));
        Incoming {
            pairs: Pairs::new(config.pairs_max),
            config,
            wire,
            stage: match identity {
                Some(_) => Stage::Secure,
                None => Stage::Plain,
            },
            identity,
            header_pair: None,
            stream_id: String::new(),
            is_bidirectional: false,
            managed: false,
            failures: 0,
            asked: None,
        }
    }

    /// Takes from the front of `bytes` until there is something to poll, or more bytes or an
    /// answer are needed. Between calls the buffer may only grow.
    pub fn input(&mut self, bytes: &mut BytesMut, now_ms: u64) {
        if self.wire.has_news(bytes) {
            self.heard(now_ms);
        }
        while let Some(input) = self.wire.next(bytes) {
            match input {
                Input::Header(header) => self.open(&header),
                Input::Element(element) => self.element(element, bytes),
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.wire.poll()
    }

    /// Whether an answer is awaited and input is left alone until it comes.
    pub fn is_waiting(&self) -> bool {
        self.wire.is_waiting
    }

    /// When [`Incoming::timeout`] is to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.wire.deadline_ms
    }

    /// Patience has ended: a peer that is authorised for nothing yet, or that is silent.
    pub fn timeout(&mut self, now_ms: u64) {
        if self.wire.deadline_ms.is_none_or(|at| at > now_ms) {
            return;
        }
        match self.pairs.is_empty() {
            true => self.wire.fail_with(
                StreamErrorCondition::ConnectionTimeout,
                "authorisation took too long",
            ),
            // RFC 6120 §4.6.4: nobody has anything to say.
            false => self.wire.finish(),
        }
    }

    /// The domains that the peer's header named, once it did.
    pub fn header_pair(&self) -> Option<&Pair> {
        self.header_pair.as_ref()
    }

    /// Whether anything is authorised.
    pub fn is_authorized(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// Tells that the handshake is done.
    pub fn tls_established(&mut self, identity: Arc<dyn Identity>, now_ms: u64) {
        if self.stage != Stage::Plain || !self.wire.is_waiting {
            return;
        }
        self.wire.is_waiting = false;
        self.identity = Some(identity);
        self.stage = Stage::Secure;
        self.wire.restart();
        self.heard(now_ms);
    }

    /// The default language of the peer's stanzas (RFC 6120 §8.1.5).
    pub fn lang(&self) -> Option<&str> {
        self.wire.lang()
    }

    /// Ends the stream with an error.
    pub fn close(&mut self, error: StreamError) {
        self.stop_waiting();
        self.wire.fail(error);
    }

    /// Ends the stream in order.
    pub fn finish(&mut self) {
        self.wire.finish();
    }

    /// A sign of life.
    fn heard(&mut self, now_ms: u64) {
        if !self.pairs.is_empty() && !self.wire.has_ended() {
            let idle_ms = self.config.idle_ms;
            self.wire.deadline_ms = (idle_ms > 0).then(|| now_ms.saturating_add(idle_ms));
        }
    }

    /// The peer's header; ours and the features are the answer (RFC 6120 §4.7).
    fn open(&mut self, header: &StreamHeader) {
        match self.judge(header) {
            Ok(pair) => {
                if let Some((local, remote)) = pair {
                    self.wire.from = local;
                    self.wire.to = remote;
                }
            }
            Err(error) => return self.wire.fail(error),
        }
        self.stream_id = self.wire.draw();
        let id = self.stream_id.clone();
        let mut bytes = self.wire.header(Some(&id));
        bytes.extend_from_slice(&self.features());
        self.wire.say(bytes.into());
    }

    fn judge(&mut self, header: &StreamHeader) -> Result<Option<(Jid, Option<Jid>)>, StreamError> {
        use StreamErrorCondition as C;
        let to = header.to.as_deref().unwrap_or_default();
        let local = self
            .config
            .local(to)
            .ok_or_else(|| StreamError::new(C::HostUnknown, "this domain is not served here"))?;
        if !matches!(header.version_numbers(), Some((major, _)) if major >= 1) {
            let text = "version 1.0 is needed, for TLS";
            return Err(StreamError::new(C::UnsupportedVersion, text));
        }
        let Some(from) = &header.from else {
            // RFC 6120 §4.7.1 asks for it; dialback does not need it.
            return Ok(Some((local, None)));
        };
        let remote = domain_of(from)
            .ok_or_else(|| StreamError::new(C::ImproperAddressing, "from is not a domain"))?;
        if self.config.domains.contains(&remote) {
            return Err(StreamError::new(C::InvalidFrom, "that domain is our own"));
        }
        if !self.config.policy.admits(remote.as_str()) {
            let text = "this server does not talk with yours";
            return Err(StreamError::new(C::PolicyViolation, text));
        }
        let pair = Pair { local, remote };
        match &self.header_pair {
            Some(before) if self.stage == Stage::Authenticated && *before != pair => {
                let text = "another domain than before";
                return Err(StreamError::new(C::InvalidFrom, text));
            }
            _ => self.header_pair = Some(pair.clone()),
        }
        Ok(Some((pair.local, Some(pair.remote))))
    }

    /// Who can't be known in any way is told with what is wrong with its certificate, once it asks to
    /// be: before, it may only want to know whether a key is ours (XEP-0220 §2.3), for which it
    /// needs no certificate.
    fn hopeless(&self) -> Option<StreamError> {
        let identity = self.identity.as_ref()?;
        let remote = &self.header_pair.as_ref()?.remote;
        if self.config.security(remote) != Security::Certificate || !self.pairs.is_empty() {
            return None;
        }
        let why = self.config.proved(Some(identity), remote).err()?;
        // It is to come again: the fault is ours.
        let condition = match identity.is_undecided() {
            true => StreamErrorCondition::InternalServerError,
            false => StreamErrorCondition::NotAuthorized,
        };
        let text = format!("your certificate is not accepted for {remote}: {why}");
        Some(StreamError::new(condition, text))
    }

    fn features(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.open("stream:features");
        match self.stage {
            Stage::Plain => {
                writer.open_ns("starttls", ns::TLS).open("required");
                writer.close().close();
            }
            Stage::Secure => {
                if self.proved_by_header().is_ok() {
                    writer.open_ns("mechanisms", ns::SASL);
                    writer.leaf("mechanism", EXTERNAL).close();
                }
                writer.open_ns("dialback", DIALBACK_FEATURE);
                writer.open("errors").close().close();
            }
            Stage::Authenticated if self.config.stream_management => {
                writer.empty("sm", ns::SM);
            }
            Stage::Authenticated => {}
        }
        if self.stage != Stage::Authenticated {
            writer.empty("bidi", BIDI_FEATURE);
        }
        writer.close();
        writer.finish()
    }

    /// The pair of the header, if the certificate answers for it.
    fn proved_by_header(&self) -> Result<Pair, std::borrow::Cow<'static, str>> {
        let pair = self.header_pair.as_ref().ok_or("your header has no from")?;
        self.config.proved(self.identity.as_ref(), &pair.remote)?;
        Ok(pair.clone())
    }

    fn element(&mut self, element: FirstLevel, rest: &mut BytesMut) {
        match (self.stage, element) {
            (Stage::Plain, element) => self.element_without_tls(&element, rest),
            (_, FirstLevel::Stanza(stanza)) => self.stanza(stanza),
            (_, FirstLevel::Nonza(nonza)) => {
                let element = nonza.element();
                match (element.ns(), element.name()) {
                    (ns::SASL, "auth") if self.stage == Stage::Secure => {
                        let mechanism = element.attr("mechanism").unwrap_or_default();
                        self.authenticate(&mechanism, &element.text());
                    }
                    (BIDI, "bidi") if self.pairs.is_empty() => self.is_bidirectional = true,
                    (super::dialback::DIALBACK, _) => self.dialback(&element),
                    (ns::SM, _) => self.management(&element),
                    _ => self.wire.fail_with(
                        StreamErrorCondition::UnsupportedStanzaType,
                        "an element that is not supported here",
                    ),
                }
            }
        }
    }

    fn element_without_tls(&mut self, element: &FirstLevel, rest: &mut BytesMut) {
        let is_starttls = match element {
            FirstLevel::Nonza(nonza) => nonza.element().is("starttls", ns::TLS),
            FirstLevel::Stanza(_) => false,
        };
        if !is_starttls {
            let text = "TLS comes first";
            return self
                .wire
                .fail_with(StreamErrorCondition::PolicyViolation, text);
        }
        // Nothing may stand behind it: see the same step of a client's stream.
        let is_blank = rest.iter().all(u8::is_ascii_whitespace);
        rest.clear();
        if !is_blank {
            let text = "data behind starttls";
            return self
                .wire
                .fail_with(StreamErrorCondition::PolicyViolation, text);
        }
        self.wire.say(element::proceed());
        self.wire.act(Action::StartTls);
        self.wire.is_waiting = true;
    }

    /// SASL EXTERNAL (XEP-0178 §3).
    fn authenticate(&mut self, mechanism: &str, initial: &str) {
        let outcome = match mechanism {
            EXTERNAL => self.external(initial.trim()),
            _ => Err((
                SaslCondition::InvalidMechanism,
                "only EXTERNAL is offered".into(),
            )),
        };
        match outcome {
            Ok(pair) => {
                self.wire.say(element::success());
                self.wire.restart();
                self.stage = Stage::Authenticated;
                self.authorize(pair, Proof::External);
            }
            Err((condition, why)) => {
                let mut writer = Writer::new();
                SaslFailure::new(condition, why.clone()).write(&mut writer);
                self.wire.say(writer.finish());
                if let Some(pair) = &self.header_pair {
                    let domain = pair.remote.clone();
                    self.wire.act(Action::Refused { domain, why });
                }
                self.failures += 1;
                if self.failures > FAILURES_MAX {
                    self.wire.fail_with(
                        StreamErrorCondition::PolicyViolation,
                        "too many failed authentications",
                    );
                }
            }
        }
    }

    fn external(
        &self,
        initial: &str,
    ) -> Result<Pair, (SaslCondition, std::borrow::Cow<'static, str>)> {
        let is_undecided = |identity: &Arc<dyn Identity>| identity.is_undecided();
        let condition = match self.identity.as_ref().is_some_and(is_undecided) {
            true => SaslCondition::TemporaryAuthFailure,
            false => SaslCondition::NotAuthorized,
        };
        let pair = self.proved_by_header().map_err(|why| (condition, why))?;
        if matches!(initial, "" | "=") {
            return Ok(pair);
        }
        let decoded = STANDARD.decode(initial).ok();
        let named = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let named = named.ok_or((
            SaslCondition::IncorrectEncoding,
            "this is no base64 of a domain".into(),
        ))?;
        match domain_of(&named) {
            Some(domain) if domain == pair.remote => Ok(pair),
            _ => Err((
                SaslCondition::InvalidAuthzid,
                "the domain is not that of the stream's header".into(),
            )),
        }
    }
}
