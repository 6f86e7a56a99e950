//! The half of a connection that sends what waits for a link.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::router::{Core, Left, Parcel, RemoteLink, arrived, may_return, returned};
use crate::stanza::StanzaError;
use crate::stream::sm;

use super::conduit::Conduit;

/// What is taken from the link at a time: about one TLS record.
const BATCH_BYTES: usize = 16 * 1024;

/// One link's sender: a connection, by its number.
pub(in crate::net) struct Sending {
    core: Arc<Core>,
    pub link: Arc<RemoteLink>,
    reader: u64,
    /// Taken and not written, where no acknowledgement will tell of it.
    in_hand: VecDeque<Parcel>,
    is_managed: bool,
    /// `<r/>` was sent and not answered.
    has_asked: bool,
}

impl Sending {
    /// From now on this connection sends; `None` when another one does.
    pub fn begin(core: &Arc<Core>, link: Arc<RemoteLink>, reader: u64) -> Option<Sending> {
        link.up(reader).then(|| Sending {
            core: core.clone(),
            link,
            reader,
            in_hand: VecDeque::new(),
            is_managed: false,
            has_asked: false,
        })
    }

    /// Whether something was taken and is not written.
    pub fn has_in_hand(&self) -> bool {
        !self.in_hand.is_empty()
    }

    /// Whether the connection need not stay for this link.
    pub fn is_idle(&self) -> bool {
        self.link.is_empty() && self.in_hand.is_empty()
    }

    /// Whether the peer has not said how many stanzas it has, although it was asked.
    pub fn is_unanswered(&self) -> bool {
        self.has_asked
    }

    /// Queues what may be written now, if the last batch has gone. False when another connection
    /// sends.
    pub fn fill(&mut self, conduit: &mut Conduit) -> bool {
        if !conduit.out.is_empty() {
            return true;
        }
        let durable = self.core.store.durable();
        let taken = self.link.take(self.reader, durable, BATCH_BYTES);
        if let Some(gate) = taken.gate {
            let store = &self.core.store;
            let gates = &self.core.gates;
            gates.wait_for_link(gate, &self.link, || store.durable());
        }
        self.is_managed |= taken.is_managed;
        let any = !taken.parcels.is_empty();
        for parcel in taken.parcels {
            conduit.out.push(parcel.outgoing.head.clone());
            conduit.out.push(parcel.outgoing.tail.clone());
            if !taken.is_managed {
                conduit.out.end_entry();
                self.in_hand.push_back(parcel);
            }
        }
        if any && taken.is_managed && !self.has_asked {
            self.has_asked = true;
            conduit.say(sm::request());
        }
        !taken.is_replaced
    }

    /// So many more parcels are with the kernel: without XEP-0198 that is all we will ever know.
    pub fn written(&mut self, count: usize) {
        let count = count.min(self.in_hand.len());
        let done: Vec<Parcel> = self.in_hand.drain(..count).collect();
        if !done.is_empty() {
            self.link.sent(self.reader);
        }
        arrived(&self.core, &done);
    }

    /// The peer's count; the error is what it is and how many were sent.
    pub fn acknowledged(&mut self, h: u32, conduit: &mut Conduit) -> Result<(), (u32, u32)> {
        let done = self.link.acknowledge(self.reader, h);
        let done = done.map_err(|too_high| (too_high.h, too_high.sent))?;
        arrived(&self.core, &done);
        self.has_asked = self.link.unacknowledged() > 0;
        if self.has_asked {
            conduit.say(sm::request());
        }
        Ok(())
    }

    /// Likewise when the stream is resumed.
    pub fn resumed(&mut self, h: u32) -> Result<(), (u32, u32)> {
        let done = self.link.resumed(self.reader, h);
        let done = done.map_err(|too_high| (too_high.h, too_high.sent))?;
        arrived(&self.core, &done);
        Ok(())
    }

    /// Ready when there is something to send, or another connection sends.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let durable = || self.core.store.durable();
        self.link.poll_ready(self.reader, context, durable)
    }

    /// The peer has ended the stream with an error: what it does so for comes back, if that is
    /// known.
    pub fn blame(&self) {
        if let Some(culprit) = self.link.blame(self.reader) {
            let error = StanzaError::policy_violation(format!(
                "{} ends its streams when it is sent this",
                self.link.pair.remote
            ));
            returned(&self.core, vec![culprit], &error);
        }
    }

    /// The connection is gone, or its stream has ended: what becomes of the rest.
    pub fn end(mut self, in_order: bool, now_ms: u64) -> Left {
        let in_hand = std::mem::take(&mut self.in_hand).into();
        if !in_order {
            return self.link.lost(self.reader, in_hand, now_ms);
        }
        let (left, unknown) = self.link.ended(self.reader, in_hand, now_ms);
        arrived(&self.core, &unknown.done);
        returned(&self.core, unknown.lost, &unanswered());
        left
    }
}

/// Everything comes back, at the pace at which those who sent it read; who reads nothing holds it
/// up for a moment.
pub(in crate::net) async fn return_all(core: &Core, parcels: Vec<Parcel>, error: &StanzaError) {
    let mut pauses_left = PAUSES_MAX;
    for parcel in parcels {
        while pauses_left > 0 && !may_return(core, &parcel) {
            pauses_left -= 1;
            tokio::time::sleep(PAUSE).await;
        }
        returned(core, vec![parcel], error);
    }
}

/// How often is looked whether somebody has read on, and how many times in all.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_MAX: u32 = 3_000;

/// What was sent on a stream that has ended without a word of it.
pub(super) fn unanswered() -> StanzaError {
    StanzaError::remote_server_timeout("the connection to the other server was lost")
}
