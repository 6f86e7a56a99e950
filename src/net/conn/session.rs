//! What a bound client sends: stanzas to the router, and the counts of XEP-0198.

use crate::router::{Entry, Turn, landed, receive};
use crate::stanza::Stanza;
use crate::stream::sm;

use super::{Connection, End, Request};

impl Connection {
    pub(super) fn stanza(&mut self, stanza: &Stanza) -> Result<(), End> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        if session.begin_turn(self.number) == Turn::Gone {
            self.leave();
            return Ok(());
        }
        let _entered = self.span.enter();
        let after = receive(&self.front.core, &session, stanza);
        session.handled(after);
        Ok(())
    }

    /// Answers `<r/>`: the count goes out once everything it counts is durable.
    pub(super) fn acknowledge(&mut self) -> Result<(), End> {
        if let Some(session) = &self.session {
            let link = session.link();
            let (connection, management) = (link.connection, link.management);
            drop(link);
            if connection == self.number
                && let Some(management) = management
            {
                let bytes = sm::acknowledge(management.handled);
                let entry = Entry::nonza(bytes, management.handled_after);
                self.front.core.push(session, entry);
            }
        }
        Ok(())
    }

    /// Handles `<a/>`.
    pub(super) fn acknowledged(&mut self, h: u32) -> Result<(), End> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        match session.outbox.acknowledge(self.number, h) {
            Ok(done) => {
                landed(&self.front.core, session, &done);
                if self.request == Request::Sent {
                    self.request = Request::Answered;
                }
                if session.outbox.unacknowledged() > 0 {
                    self.request_acknowledgement();
                }
            }
            Err(too_high) => self
                .stream
                .close_handled_count_too_high(too_high.h, too_high.sent),
        }
        Ok(())
    }
}
