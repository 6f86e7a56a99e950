//! Stanzas of another server, each checked against the pairs, and stream management beside them.

use super::super::Action;
use super::{Asked, Incoming};
use crate::stanza::{Condition, Stanza, StreamErrorCondition};
use crate::stream::sm::{self, SmElement, SmEnabled};
use crate::xml::Element;

impl Incoming {
    /// RFC 6120 §8.1.1.2, §8.1.2.2: both addresses, and both of a pair that was authorised.
    pub(super) fn stanza(&mut self, stanza: Stanza) {
        use StreamErrorCondition as C;
        if self.pairs.is_empty() {
            let text = "authenticate before you send this";
            return self.wire.fail_with(C::NotAuthorized, text);
        }
        let Some((from, to)) = stanza.addresses() else {
            let text = "a stanza between servers has a valid from and to";
            return self.wire.fail_with(C::ImproperAddressing, text);
        };
        if self.pairs.contains(to.domain(), from.domain()) {
            return self.wire.act(Action::Stanza(stanza));
        }
        match self
            .config
            .domains
            .iter()
            .any(|own| own.as_str() == to.domain())
        {
            false => self.wire.fail_with(C::HostUnknown, "to is not served here"),
            true if self.pairs.speaks(from.domain()) => {
                let text = "not authorised for this pair of domains";
                self.wire.fail_with(C::InvalidFrom, text);
            }
            true => self
                .wire
                .fail_with(C::InvalidFrom, "a stanza in another domain's name"),
        }
    }

    pub(super) fn management(&mut self, element: &Element<'_>) {
        if self.pairs.is_empty() || !self.config.stream_management {
            let failed = sm::failed(Condition::UnexpectedRequest, None);
            return self.wire.say(failed);
        }
        match SmElement::parse(element) {
            Some(SmElement::Enable {
                resume,
                max_seconds,
            }) if !self.managed => {
                self.wire.act(Action::SmEnable {
                    resume,
                    max_seconds,
                });
                self.wire.is_waiting = true;
                self.asked = Some(Asked::Enable);
            }
            Some(SmElement::Resume { previd, h }) if !self.managed => {
                self.wire.act(Action::SmResume {
                    previd: previd.clone(),
                    h,
                });
                self.wire.is_waiting = true;
                self.asked = Some(Asked::Resume(previd));
            }
            Some(SmElement::Request) if self.managed => self.wire.act(Action::SmRequest),
            Some(SmElement::Acknowledge { h }) if self.managed => {
                self.wire.act(Action::SmAck { h });
            }
            Some(SmElement::Malformed) | None => self.wire.fail_with(
                StreamErrorCondition::InvalidXml,
                "malformed stream management",
            ),
            Some(_) => {
                let failed = sm::failed(Condition::UnexpectedRequest, None);
                self.wire.say(failed);
            }
        }
    }

    /// Answers [`Action::SmEnable`].
    pub fn sm_enabled(&mut self, enabled: &SmEnabled) {
        if self.asked.take().is_some() {
            self.wire.is_waiting = false;
            self.managed = true;
            self.wire.say(sm::enabled(enabled));
        }
    }

    /// Answers [`Action::SmEnable`] or [`Action::SmResume`] with no.
    pub fn sm_failed(&mut self, condition: Condition, h: Option<u32>) {
        if self.asked.take().is_some() {
            self.wire.is_waiting = false;
            self.wire.say(sm::failed(condition, h));
        }
    }

    /// Answers [`Action::SmResume`]: `h` stanzas of the former stream were handled.
    pub fn resumed(&mut self, h: u32) {
        if let Some(Asked::Resume(previd)) = self.asked.take() {
            self.wire.is_waiting = false;
            self.managed = true;
            self.wire.say(sm::resumed(&previd, h));
        }
    }

    /// The stream ends instead of an answer to [`Action::SmEnable`] or [`Action::SmResume`]: the peer
    /// may hear why.
    pub(super) fn stop_waiting(&mut self) {
        if self.asked.take().is_some() {
            self.wire.is_waiting = false;
        }
    }

    /// Ends the stream because [`Action::SmAck`] or [`Action::SmResume`] counts more than the `sent` stanzas.
    pub fn close_handled_count_too_high(&mut self, h: u32, sent: u32) {
        self.stop_waiting();
        self.wire.handled_count_too_high(h, sent);
    }
}
