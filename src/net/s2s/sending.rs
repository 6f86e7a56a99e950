//! The half of a connection that sends what waits for a link.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::router::{Core, Left, Parcel, RemoteLink, Tally, arrived, may_return, returned};
use crate::stanza::StanzaError;

use super::Peers;
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
}

/// What a sender found to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Filled {
    /// Something.
    Some,
    /// Nothing, or the last batch is not written yet.
    Nothing,
    /// Another connection sends.
    Replaced,
}

impl Sending {
    /// From now on this connection sends; `None` when another one does.
    pub fn begin(core: &Arc<Core>, link: Arc<RemoteLink>, reader: u64) -> Option<Sending> {
        link.up(reader).then(|| Sending::of(core, link, reader))
    }

    /// The same for a connection that the peer has made.
    pub fn answer(core: &Arc<Core>, link: Arc<RemoteLink>, reader: u64) -> Option<Sending> {
        link.answer(reader).then(|| Sending::of(core, link, reader))
    }

    /// For a link that is with this connection already.
    pub fn of(core: &Arc<Core>, link: Arc<RemoteLink>, reader: u64) -> Sending {
        Sending {
            core: core.clone(),
            link,
            reader,
            in_hand: VecDeque::new(),
        }
    }

    /// Whether something was taken and is not written.
    pub fn has_in_hand(&self) -> bool {
        !self.in_hand.is_empty()
    }

    /// Whether the connection need not stay for this link.
    pub fn is_idle(&self) -> bool {
        self.link.is_empty() && self.in_hand.is_empty()
    }

    /// Queues what may be written now, if the last batch has gone. Where there is a tally the stream
    /// counts, and what is taken is kept until the peer acknowledges it.
    pub fn fill(&mut self, conduit: &mut Conduit, tally: Option<&mut Tally>) -> Filled {
        if !conduit.out.is_empty() {
            return Filled::Nothing;
        }
        let durable = self.core.store.durable();
        let counts = tally.is_some();
        let taken = match tally {
            Some(tally) => tally.take(&self.link, self.reader, durable, BATCH_BYTES),
            None => self.link.take(self.reader, durable, BATCH_BYTES),
        };
        if let Some(gate) = taken.gate {
            let store = &self.core.store;
            let gates = &self.core.gates;
            gates.wait_for_link(gate, &self.link, || store.durable());
        }
        let any = !taken.parcels.is_empty();
        for parcel in taken.parcels {
            conduit.out.push(parcel.outgoing.head.clone());
            conduit.out.push(parcel.outgoing.tail.clone());
            if !counts {
                conduit.out.end_entry();
                self.in_hand.push_back(parcel);
            }
        }
        match (taken.is_replaced, any) {
            (true, _) => Filled::Replaced,
            (false, true) => Filled::Some,
            (false, false) => Filled::Nothing,
        }
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

    /// Ready when there is something to send, or another connection sends.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let durable = || self.core.store.durable();
        self.link.poll_ready(self.reader, context, durable)
    }

    /// The connection is gone, and the link waits for its stream to be resumed.
    pub fn suspend(mut self) {
        self.link.put_back(std::mem::take(&mut self.in_hand).into());
    }

    /// The peer has ended the stream with an error: what it does so for comes back, if that is
    /// known: not where something of another link was on its way, too.
    pub fn blame(&self, is_alone: bool) {
        if let Some(culprit) = self.link.blame(self.reader, is_alone) {
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

/// What a connection that has panicked was to send comes back: it may be one of those stanzas that it
/// has panicked upon.
pub(super) async fn give_back(peers: &Peers, link: &RemoteLink, number: u64) {
    let error = StanzaError::internal_server_error("something went wrong here");
    if link.is_served_by(number) {
        link.cut_off(&error, peers.now_ms());
    }
    let back = link.give_up(&error, peers.now_ms());
    return_all(&peers.core, back, &error).await;
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
