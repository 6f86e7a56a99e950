//! What goes back on a stream that serves both ways, and XEP-0198: one tally for all its links.

use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use crate::net::s2s::Peers;
use crate::net::s2s::former::RESUME_MS;
use crate::net::s2s::sending::{Filled, Sending, unanswered};
use crate::router::{
    Left, ManagedStream, PATIENCE_MS, RemoteLink, ResumptionId, arrived, resumption_id, returned,
};
use crate::stanza::{Condition, StreamError, StreamErrorCondition, id};
use crate::store::Position;
use crate::stream::s2s::Pair;
use crate::stream::sm;
use crate::stream::sm::SmEnabled;

/// How long what is unacknowledged waits for a peer that may resume its stream: as long as one that
/// looks for us does so, and that may have seen the loss a little later.
const AWAITED_MS: u64 = PATIENCE_MS + 15_000;

impl Connection {
    /// Serves the link of a pair too, where stanzas may be sent back and nobody else does.
    pub(super) fn attach(&mut self, pair: &Pair) -> bool {
        let core = &self.peers.core;
        let may_answer = self.pairs.iter().any(|(own, may)| *may && own == pair);
        if may_answer
            && let Some(link) = core.remotes.link(core, pair)
            && let Some(sending) = Sending::answer(core, link, self.number)
        {
            self.begin(sending);
            return true;
        }
        false
    }

    fn begin(&mut self, sending: Sending) {
        if let Some(managed) = &self.managed {
            managed.serve(self.number, &sending.link);
        }
        self.sendings.push_back(sending);
    }

    /// XEP-0198 §3.
    pub(super) fn enable(&mut self, resume: bool) {
        self.answers_from_ms = None;
        let Some(pair) = self.stream.header_pair().cloned() else {
            return self.stream.sm_failed(Condition::UnexpectedRequest, None);
        };
        let id: Option<ResumptionId> = resume.then(|| self.peers.core.random());
        let managed = Arc::new(ManagedStream::new(pair.clone(), id, self.number));
        for sending in &self.sendings {
            managed.serve(self.number, &sending.link);
        }
        // Who begins anew resumes nothing.
        let formers = self.peers.formers.all_of(&pair, self.peers.now_ms());
        self.peers.formers.alive(&managed);
        self.managed = Some(managed);
        self.stream.sm_enabled(&SmEnabled {
            id: id.map(|id| id::hex(&id)),
            max_seconds: id.and(u32::try_from(RESUME_MS / 1_000).ok()),
        });
        for former in formers {
            former.supersede();
            for link in give_up(&self.peers, &former) {
                if !self.attach(&link.pair) {
                    self.peers.core.remotes.dial(&link);
                }
            }
        }
    }

    /// XEP-0198 §5. The connection that has the stream still, as far as this side knows, ends.
    pub(super) fn resume(&mut self, previd: &str, h: u32) {
        self.answers_from_ms = None;
        let now_ms = self.peers.now_ms();
        let pair = self.stream.header_pair();
        let pair = pair.filter(|pair| self.pairs.iter().any(|(own, _)| own == *pair));
        let former = resumption_id(previd)
            .zip(pair)
            .and_then(|(id, pair)| self.peers.formers.find(&id, pair, now_ms));
        let Some(managed) = former else {
            return self.stream.sm_failed(Condition::ItemNotFound, None);
        };
        let taken = match managed.take_over(self.number, h) {
            Ok(taken) => taken,
            Err(wrong) => {
                return self
                    .stream
                    .close_handled_count_too_high(wrong.h, wrong.sent);
            }
        };
        tracing::info!("the stream is resumed");
        self.peers.formers.alive(&managed);
        arrived(&self.peers.core, &taken.done);
        for sending in &self.sendings {
            managed.serve(self.number, &sending.link);
        }
        self.managed = Some(managed.clone());
        for link in taken.links {
            let is_its = |(own, may): &(Pair, bool)| *may && *own == link.pair;
            if self.pairs.iter().any(is_its) {
                let sending = Sending::of(&self.peers.core, link, self.number);
                self.sendings.push_back(sending);
                continue;
            }
            // Not authorised here: what the peer has not got goes another way.
            managed.leave(&link);
            if link.lost(self.number, Vec::new(), now_ms) == Left::Reconnect {
                self.peers.core.remotes.dial(&link);
            }
        }
        self.resumes = true;
    }

    pub(super) fn acknowledged(&mut self, h: u32) {
        let Some(managed) = &self.managed else {
            return;
        };
        match managed.count(self.number, |tally| tally.acknowledge(self.number, h)) {
            Some(Ok(done)) => {
                // That it has no more than before is no answer that anybody could wait for.
                if !done.is_empty() {
                    self.question.is_answered();
                }
                arrived(&self.peers.core, &done);
            }
            Some(Err(wrong)) => self
                .stream
                .close_handled_count_too_high(wrong.h, wrong.sent),
            None => self.replaced(),
        }
    }

    /// The peer has ended the stream with an error.
    pub(super) fn blame(&self) {
        let managed = self.managed.as_ref();
        let sent =
            managed.and_then(|managed| managed.count(self.number, |tally| tally.unacknowledged()));
        for sending in &self.sendings {
            sending.blame(sent == Some(1));
        }
    }

    /// Queues what waits for one of the links, each in its turn.
    pub(super) fn fill(&mut self, now_ms: u64) {
        if self.answers_from_ms.is_some_and(|at| at <= now_ms) {
            self.answers_from_ms = None;
        }
        if self.answers_from_ms.is_some() || self.resumes {
            return;
        }
        for _ in 0..self.sendings.len() {
            let Some(mut sending) = self.sendings.pop_front() else {
                break;
            };
            let conduit = &mut self.conduit;
            let filled = match &self.managed {
                None => sending.fill(conduit, None),
                Some(managed) => managed
                    .count(self.number, |tally| sending.fill(conduit, Some(tally)))
                    .unwrap_or(Filled::Replaced),
            };
            match filled {
                Filled::Some => {
                    self.sendings.push_back(sending);
                    break;
                }
                Filled::Nothing => self.sendings.push_back(sending),
                Filled::Replaced => {}
            }
        }
        let asks = |managed: &Arc<ManagedStream>| {
            managed.count(self.number, crate::router::Tally::asks) == Some(true)
        };
        if self.managed.as_ref().is_some_and(asks) {
            self.conduit.say(sm::request());
        }
    }

    /// The entries of all links stand in one row, and only one link has any at a time.
    pub(super) fn written(&mut self) {
        let written = self.conduit.out.take_written();
        if written > 0
            && let Some(sending) = self.sendings.iter_mut().find(|s| s.has_in_hand())
        {
            sending.written(written);
        }
    }

    /// Whether the peer has not said how many stanzas it has, although it was asked.
    pub(super) fn is_unanswered(&self) -> bool {
        let asked = |managed: &Arc<ManagedStream>| {
            managed.count(self.number, |tally| tally.is_unanswered())
        };
        self.managed.as_ref().and_then(asked).unwrap_or(false)
    }

    /// Whether the peer is to be told a count, and what must be durable before.
    pub(super) fn owed(&self) -> (bool, Position) {
        let counts =
            |managed: &Arc<ManagedStream>| managed.count(self.number, |tally| tally.after());
        match self.managed.as_ref().and_then(counts) {
            Some(after) => (self.owes || self.resumes, after),
            None => (false, Position(0)),
        }
    }

    /// Tells the count that was asked for, or that a resumption begins with, once what it counts is
    /// durable. True when the stream has the latter to say, before anything else.
    pub(super) fn pay(&mut self) -> bool {
        let (owes, after) = self.owed();
        if !owes {
            self.owes = false;
            return false;
        }
        if self.peers.core.store.durable() < after {
            return false;
        }
        let counts =
            |managed: &Arc<ManagedStream>| managed.count(self.number, |tally| tally.handled());
        let Some(handled) = self.managed.as_ref().and_then(counts) else {
            return false;
        };
        if std::mem::take(&mut self.resumes) {
            self.stream.resumed(handled);
            return true;
        }
        self.owes = false;
        self.conduit.say(sm::acknowledge(handled));
        false
    }

    /// XEP-0198 §5: another connection has the stream.
    pub(super) fn replaced(&mut self) {
        let condition = StreamErrorCondition::Conflict;
        self.stream
            .close(StreamError::new(condition, "the stream was resumed"));
    }

    /// The connection is gone. One that was lost may be followed by another that resumes its stream:
    /// what is unacknowledged waits for that.
    pub(super) async fn leave(self, was_lost: bool) {
        let Connection {
            peers,
            number,
            sendings,
            managed,
            conduit,
            stream,
            slot,
            ..
        } = self;
        let resumable = managed
            .clone()
            .filter(|managed| was_lost && managed.id.is_some());
        match &managed {
            _ if was_lost => drop(conduit),
            Some(managed) => {
                peers.formers.ended(managed, number);
                conduit.close().await;
            }
            None => conduit.close().await,
        }
        drop((stream, slot));
        let now_ms = peers.now_ms();
        let mut is_awaited = false;
        if let Some(managed) = &resumable {
            peers.formers.lost(managed, number, now_ms);
            is_awaited = managed.suspend(number);
        }
        for sending in sendings {
            let link = sending.link.clone();
            if link.is_awaited(number) {
                sending.suspend();
            } else if sending.end(true, now_ms) == Left::Reconnect {
                peers.core.remotes.dial(&link);
            }
        }
        if let (true, Some(managed)) = (is_awaited, resumable) {
            awaited(&peers, &managed, number).await;
        }
    }
}

/// Waits for the stream to be resumed; then what is unacknowledged goes another way.
async fn awaited(peers: &Peers, managed: &ManagedStream, number: u64) {
    let replaced = std::future::poll_fn(|context| managed.poll_replaced(number, context));
    tokio::select! {
        () = replaced => return,
        () = tokio::time::sleep(Duration::from_millis(AWAITED_MS)) => {}
        () = peers.stopping.cancelled() => {}
    }
    tracing::info!("the peer has not resumed its stream");
    for link in give_up(peers, managed) {
        if !peers.stopping.is_cancelled() {
            peers.core.remotes.dial(&link);
        }
    }
}

/// Nobody waits for a lost stream any more. Returns the links that are to be connected.
fn give_up(peers: &Peers, managed: &ManagedStream) -> Vec<Arc<RemoteLink>> {
    let (mut links, reader) = managed.release();
    links.retain(|link| {
        let (left, unknown) = link.ended(reader, Vec::new(), peers.now_ms());
        arrived(&peers.core, &unknown.done);
        returned(&peers.core, unknown.lost, &unanswered());
        left == Left::Reconnect
    });
    links
}
