//! How a stream ends (RFC 6120 §4.4, §4.9), and how long it waits for anything.

use bytes::Bytes;

use super::{C2s, Stage, Waiting};
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::stream::header::FOOTER;
use crate::stream::{Action, Closed, ns, sm};
use crate::xml::Writer;

impl C2s {
    /// When [`timeout`](C2s::timeout) is to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline_ms.filter(|_| !self.ended)
    }

    /// Does what the deadline was set for; nothing if it is not reached.
    pub fn timeout(&mut self, now_ms: u64) {
        if self.deadline().is_none_or(|deadline| now_ms < deadline) {
            return;
        }
        if self.stage == Stage::Bound && !self.probed {
            self.probed = true;
            self.deadline_ms = Some(now_ms.saturating_add(self.config.probe_ms));
            let probe = self.probe();
            return self.send(probe);
        }
        let text = if self.stage == Stage::Bound {
            "no sign of life"
        } else {
            "not logged in in time"
        };
        self.fail(StreamError::new(
            StreamErrorCondition::ConnectionTimeout,
            text,
        ));
    }

    /// Ends the stream with an error (RFC 6120 §4.9): a conflict, a shutdown, a queue that
    /// grew too long.
    pub fn close(&mut self, error: StreamError) {
        self.fail(error);
    }

    /// Ends the stream because [`Action::SmAck`] counts more than the `sent` stanzas
    /// (XEP-0198 §4).
    pub fn close_handled_count_too_high(&mut self, h: u32, sent: u32) {
        let error = StreamError::new(
            StreamErrorCondition::UndefinedCondition,
            "handled count too high",
        );
        self.end_with(&sm::handled_count_too_high(h, sent), error);
    }

    pub(super) fn fail(&mut self, error: StreamError) {
        let mut writer = Writer::new();
        error.write(&mut writer);
        self.end_with(&writer.finish(), error);
    }

    /// RFC 6120 §4.9.1.2: even an error that concerns the header comes behind our own.
    /// Behind `<proceed/>` nothing may be said without TLS, not even that.
    fn end_with(&mut self, element: &[u8], error: StreamError) {
        if !self.ended && self.waiting != Some(Waiting::Tls) {
            let mut bytes = if self.header_sent {
                Vec::new()
            } else {
                self.header()
            };
            bytes.extend_from_slice(element);
            bytes.extend_from_slice(FOOTER);
            self.send(bytes.into());
        }
        self.closed(Closed::Error(error));
    }

    /// The client's footer: ours follows.
    pub(super) fn peer_closed(&mut self) {
        self.send(Bytes::from_static(FOOTER));
        self.closed(Closed::ByPeer);
    }

    /// The client's stream error, behind which it closes (RFC 6120 §4.9.1.1).
    pub(super) fn peer_failed(&mut self) {
        self.send(Bytes::from_static(FOOTER));
        self.closed(Closed::PeerError);
    }

    /// A sign of life.
    pub(super) fn heard(&mut self, now_ms: u64) {
        if self.stage == Stage::Bound && !self.ended {
            self.listen(now_ms);
        }
    }

    pub(super) fn listen(&mut self, now_ms: u64) {
        self.probed = false;
        let idle_ms = self.config.idle_ms;
        self.deadline_ms = (idle_ms > 0).then(|| now_ms.saturating_add(idle_ms));
    }

    /// Something that a client answers.
    fn probe(&self) -> Bytes {
        if self.managed {
            return sm::request();
        }
        let mut writer = Writer::new();
        writer
            .open("iq")
            .attr("type", "get")
            .attr("id", "are-you-there")
            .attr_opt("from", self.domain.as_ref().map(|domain| domain.as_str()))
            .attr_opt("to", self.jid.as_ref().map(|jid| jid.as_str()))
            .empty("ping", ns::PING);
        writer.finish()
    }

    fn closed(&mut self, how: Closed) {
        if !self.ended {
            self.ended = true;
            self.waiting = None;
            self.deadline_ms = None;
            self.actions.push_back(Action::Closed(how));
        }
    }
}
