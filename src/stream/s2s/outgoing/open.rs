//! A stream that the peer takes stanzas on, and stream management beside them (XEP-0198).

use super::super::Action;
use super::super::element;
use super::{Outgoing, State};
use crate::stanza::{Stanza, StreamErrorCondition};
use crate::stream::ns;
use crate::stream::sm::SmElement;
use crate::xml::Element;

impl Outgoing {
    /// Asks for stream management that can be resumed; the answer is [`Action::SmEnabled`] or
    /// [`Action::SmFailed`].
    pub fn enable(&mut self) {
        self.wire.say(element::sm_enable());
    }

    /// Asks to resume a former stream, of which `h` stanzas of the peer were handled; the answer is
    /// [`Action::SmResumed`] or [`Action::SmFailed`].
    pub fn resume(&mut self, previd: &str, h: u32) {
        self.wire.say(element::sm_resume(previd, h));
    }

    /// Ends the stream because [`Action::SmAck`] counts more than the `sent` stanzas.
    pub fn close_handled_count_too_high(&mut self, h: u32, sent: u32) {
        self.wire.handled_count_too_high(h, sent);
    }

    /// XEP-0288 §2.2: the peer sends here what it would send on a stream of its own, for the pair
    /// that was authorised and no other.
    pub(super) fn stanza(&mut self, stanza: Stanza) {
        use StreamErrorCondition as C;
        if self.state != State::Open || !self.is_bidirectional {
            let text = "stanzas do not flow this way on this stream";
            return self.wire.fail_with(C::NotAuthorized, text);
        }
        let Some((from, to)) = stanza.addresses() else {
            let text = "a stanza between servers has a valid from and to";
            return self.wire.fail_with(C::ImproperAddressing, text);
        };
        let is_of_pair =
            from.domain() == self.pair.remote.as_str() && to.domain() == self.pair.local.as_str();
        match is_of_pair {
            true => self.wire.act(Action::Stanza(stanza)),
            false => self
                .wire
                .fail_with(C::InvalidFrom, "not authorised for this pair of domains"),
        }
    }

    pub(super) fn management(&mut self, element: &Element<'_>) {
        let number = |name: &str| element.attr(name)?.parse::<u32>().ok();
        let is_true = |name: &str| matches!(element.attr(name).as_deref(), Some("true" | "1"));
        let action = match (element.name(), self.managed) {
            ("enabled", false) => {
                self.managed = true;
                let id = element.attr("id").filter(|_| is_true("resume"));
                Some(Action::SmEnabled {
                    id: id.map(std::borrow::Cow::into_owned),
                    max_seconds: number("max"),
                })
            }
            ("resumed", false) => number("h").map(|h| {
                self.managed = true;
                Action::SmResumed { h }
            }),
            ("failed", false) => Some(Action::SmFailed { h: number("h") }),
            (_, true) => match SmElement::parse(element) {
                Some(SmElement::Request) => Some(Action::SmRequest),
                Some(SmElement::Acknowledge { h }) => Some(Action::SmAck { h }),
                _ => None,
            },
            _ => None,
        };
        debug_assert_eq!(element.ns(), ns::SM);
        match action {
            Some(action) => self.wire.act(action),
            None => self.wire.fail_with(
                StreamErrorCondition::InvalidXml,
                "stream management that was not asked for",
            ),
        }
    }
}
