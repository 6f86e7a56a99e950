//! A bound stream: stanzas, and stream management (XEP-0198) beside them.

use super::{C2s, Waiting};
use crate::addr::Jid;
use crate::stanza::{Condition, FirstLevel, Nonza, Stanza, StreamError, StreamErrorCondition};
use crate::stream::sm::{SmElement, SmEnabled};
use crate::stream::{Action, sm};

impl C2s {
    /// Answers [`Action::SmEnable`].
    pub fn sm_enabled(&mut self, enabled: &SmEnabled) {
        if self.answered(Waiting::Enabling) {
            self.managed = true;
            self.send(sm::enabled(enabled));
        }
    }

    /// Answers [`Action::SmRequest`], or tells the count unasked.
    pub fn acknowledge(&mut self, h: u32) {
        if self.managed {
            self.send(sm::acknowledge(h));
        }
    }

    /// Asks the client how much it has handled; the answer is an [`Action::SmAck`].
    pub fn request_acknowledgement(&mut self) {
        if self.managed {
            self.send(sm::request());
        }
    }

    pub(super) fn element_of_session(&mut self, element: FirstLevel) {
        match element {
            FirstLevel::Stanza(stanza) => self.stanza(stanza),
            FirstLevel::Nonza(nonza) => self.nonza_of_session(&nonza),
        }
    }

    fn stanza(&mut self, stanza: Stanza) {
        // RFC 6120 §8.1.2.1: a client speaks for itself alone.
        if let Some(from) = stanza.from()
            && !self.is_own(&from)
        {
            return self.fail(StreamError::new(
                StreamErrorCondition::InvalidFrom,
                "a stanza in another one's name",
            ));
        }
        self.actions.push_back(Action::Stanza(stanza));
    }

    fn is_own(&self, from: &str) -> bool {
        let own = self.jid.as_ref().expect("the stream is bound");
        from == own.as_str()
            || from == own.bare_str()
            || Jid::parse(from).is_ok_and(|from| from == *own || from.as_str() == own.bare_str())
    }

    fn nonza_of_session(&mut self, nonza: &Nonza) {
        let Some(element) = SmElement::parse(&nonza.element()) else {
            return self.refuse_unsupported();
        };
        match element {
            _ if !self.config.stream_management => {
                self.send(sm::failed(Condition::FeatureNotImplemented, None));
            }
            SmElement::Enable {
                resume,
                max_seconds,
            } if !self.managed => {
                self.await_answer(
                    Waiting::Enabling,
                    Action::SmEnable {
                        resume,
                        max_seconds,
                    },
                );
            }
            SmElement::Request if self.managed => self.actions.push_back(Action::SmRequest),
            SmElement::Acknowledge { h } if self.managed => {
                self.actions.push_back(Action::SmAck { h });
            }
            // XEP-0198 §3: at most once.
            SmElement::Enable { .. } => self.fail(StreamError::new(
                StreamErrorCondition::PolicyViolation,
                "stream management is enabled already",
            )),
            SmElement::Resume { .. } | SmElement::Request | SmElement::Acknowledge { .. } => {
                self.send(sm::failed(Condition::UnexpectedRequest, None));
            }
            SmElement::Malformed => self.fail(StreamError::new(
                StreamErrorCondition::InvalidXml,
                "malformed stream management",
            )),
        }
    }

    /// RFC 6120 §4.9.3.24.
    pub(super) fn refuse_unsupported(&mut self) {
        self.fail(StreamError::new(
            StreamErrorCondition::UnsupportedStanzaType,
            "an element that is not supported here",
        ));
    }
}
