//! What both ends of a stream between servers share: frames in, actions out, the two headers, and
//! the end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Action, Failure};
use crate::addr::Jid;
use crate::crypto::hmac_sha256;
use crate::stanza::error::STREAM_ERRORS;
use crate::stanza::{FirstLevel, StreamError, StreamErrorCondition, id};
use crate::stream::header::{FOOTER, is_language_tag};
use crate::stream::{Closed, sm};
use crate::xml::{Content, Element, Frame, Framer, Limits, StreamHeader, StreamScope, Writer, ns};

use super::dialback::DIALBACK;

/// One stream's carrier: no matter which end it is.
#[derive(Debug)]
pub(super) struct Wire {
    framer: Framer,
    actions: VecDeque<Action>,
    ended: bool,
    /// What the peer's header put in scope; `None` until it came, anew after each restart.
    scope: Option<Arc<StreamScope>>,
    /// `xml:lang` of the peer's header.
    lang: Option<Box<str>>,
    header_sent: bool,
    /// An answer of the shell is awaited; no input is taken.
    pub is_waiting: bool,
    /// The addresses that our header names: from and to.
    pub from: Jid,
    pub to: Option<Jid>,
    /// Fresh bytes of the kernel's, from which ids derive.
    seed: [u8; 32],
    drawn: u64,
    /// When patience ends.
    pub deadline_ms: Option<u64>,
    /// What an end at this moment means for those who wait for the stream; told before the end.
    pub failure: Option<Failure>,
}

/// Of the words of a peer so many are repeated.
const TEXT_CHARS_MAX: usize = 300;

/// What a frame is.
#[derive(Debug)]
pub(super) enum Input {
    Header(StreamHeader),
    Element(FirstLevel),
}

impl Wire {
    pub fn new(limits: Limits, seed: [u8; 32], from: Jid, to: Option<Jid>) -> Wire {
        Wire {
            framer: Framer::new(limits),
            actions: VecDeque::new(),
            ended: false,
            scope: None,
            lang: None,
            header_sent: false,
            is_waiting: false,
            from,
            to,
            seed,
            drawn: 0,
            deadline_ms: None,
            failure: None,
        }
    }

    /// The next frame, if there is one and somebody may look at it.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Option<Input> {
        while self.actions.is_empty() && !self.is_waiting && !self.ended {
            match self.framer.next(bytes) {
                Ok(None) => {
                    self.actions = VecDeque::new();
                    return None;
                }
                Ok(Some(frame)) => match self.read(frame) {
                    Ok(Some(input)) => return Some(input),
                    Ok(None) => {}
                    Err(error) => self.fail(error),
                },
                Err(error) => self.fail(error.into()),
            }
        }
        if self.ended {
            bytes.clear();
        }
        None
    }

    fn read(&mut self, frame: Frame) -> Result<Option<Input>, StreamError> {
        match frame {
            Frame::Header(bytes) => {
                let header = StreamHeader::parse(&bytes, Content::Server, self.framer.limits())?;
                self.scope = Some(Arc::new(header.scope.clone()));
                let lang = header.lang.as_deref().filter(|lang| is_language_tag(lang));
                self.lang = lang.map(Into::into);
                Ok(Some(Input::Header(header)))
            }
            Frame::Footer => {
                self.say(Bytes::from_static(FOOTER));
                self.close(Closed::ByPeer);
                Ok(None)
            }
            Frame::Element(bytes) => {
                let scope = self
                    .scope
                    .as_ref()
                    .expect("the framer gives elements behind a header");
                let element = FirstLevel::parse(bytes, scope, self.framer.limits())?;
                if let FirstLevel::Nonza(nonza) = &element
                    && nonza.element().is("error", ns::STREAMS)
                {
                    self.note_error(&nonza.element());
                    self.say(Bytes::from_static(FOOTER));
                    self.close(Closed::PeerError);
                    return Ok(None);
                }
                Ok(Some(Input::Element(element)))
            }
        }
    }

    /// Who waits for the stream hears why the peer has ended it.
    fn note_error(&mut self, error: &Element<'_>) {
        let Some(failure) = &mut self.failure else {
            return;
        };
        let mut said = error.children().filter(|child| child.ns() == STREAM_ERRORS);
        let condition = said.next().map(|child| child.name().to_owned());
        let text = error
            .child("text", STREAM_ERRORS)
            .map(|text| text.text().into_owned());
        let words = [condition, text].into_iter().flatten();
        let words: Vec<String> = words.collect();
        let words: String = words.join(": ").chars().take(TEXT_CHARS_MAX).collect();
        failure.text = format!("the other server has ended the stream: {words}").into();
    }

    /// Whether new bytes stand in the buffer.
    pub fn has_news(&self, bytes: &BytesMut) -> bool {
        bytes.len() > self.framer.looked_at()
    }

    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn act(&mut self, action: Action) {
        if !self.ended {
            self.actions.push_back(action);
        }
    }

    pub fn say(&mut self, bytes: Bytes) {
        self.act(Action::Send(bytes));
    }

    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A new stream on the same connection (RFC 6120 §4.3.3).
    pub fn restart(&mut self) {
        self.framer.restart();
        self.scope = None;
        self.header_sent = false;
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.set_limits(limits);
    }

    /// An unguessable text: 128 bits.
    pub fn draw(&mut self) -> String {
        self.drawn += 1;
        let random = hmac_sha256(&self.seed, &[b"s2s", &self.drawn.to_be_bytes()]);
        id::hex(&random[..16])
    }

    /// Our header; with an id where we are the receiving entity (RFC 6120 §4.7.3).
    pub fn header(&mut self, id: Option<&str>) -> Vec<u8> {
        self.header_sent = true;
        let mut writer = Writer::new();
        writer
            .open("stream:stream")
            .attr("xmlns", ns::SERVER)
            .attr("xmlns:stream", ns::STREAMS)
            .attr("xmlns:db", DIALBACK)
            .attr("from", self.from.as_str())
            .attr_opt("to", self.to.as_ref().map(Jid::as_str))
            .attr_opt("id", id)
            .attr("version", "1.0")
            .attr("xml:lang", "en");
        [b"<?xml version='1.0'?>".as_slice(), &writer.finish_open()].concat()
    }

    pub fn fail(&mut self, error: StreamError) {
        let mut writer = Writer::new();
        error.write(&mut writer);
        self.end_with(&writer.finish(), error);
    }

    pub fn fail_with(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.fail(StreamError::new(condition, text));
    }

    pub fn handled_count_too_high(&mut self, h: u32, sent: u32) {
        let condition = StreamErrorCondition::UndefinedCondition;
        let error = StreamError::new(condition, "handled count too high");
        self.end_with(&sm::handled_count_too_high(h, sent), error);
    }

    /// Behind `<proceed/>` nothing may be said without TLS.
    fn end_with(&mut self, element: &[u8], error: StreamError) {
        if !self.ended && !self.is_waiting {
            let id = self.draw();
            let mut bytes = match self.header_sent {
                true => Vec::new(),
                false => self.header(Some(&id)),
            };
            bytes.extend_from_slice(element);
            bytes.extend_from_slice(FOOTER);
            self.say(bytes.into());
        }
        self.close(Closed::Error(error));
    }

    /// Ends our direction in order: the peer's footer is not waited for.
    pub fn finish(&mut self) {
        if self.header_sent && !self.is_waiting {
            self.say(Bytes::from_static(FOOTER));
        }
        self.close(Closed::ByPeer);
    }

    pub fn close(&mut self, how: Closed) {
        if self.ended {
            return;
        }
        if let Some(failure) = self.failure.take() {
            self.actions.push_back(Action::Failed(failure));
        }
        self.ended = true;
        self.is_waiting = false;
        self.deadline_ms = None;
        self.actions.push_back(Action::Closed(how));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}
