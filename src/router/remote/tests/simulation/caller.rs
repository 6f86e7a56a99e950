//! The one that has called: as `net/s2s/outgoing.rs` does.

use bytes::BytesMut;

use super::super::*;
use super::{Wire, World};
use crate::stream::s2s::{Action, Outgoing};
use crate::stream::sm;

/// The end of the one that has called.
pub(super) struct Near {
    pub(super) number: u64,
    pub(super) out: Outgoing,
    pub(super) at_out: BytesMut,
    pub(super) is_settled: bool,
    /// With the name of the stream.
    pub(super) tally: Option<(String, Tally)>,
    pub(super) has_moved: bool,
}

impl World {
    /// As `net/s2s/outgoing.rs` does.
    pub(super) fn lost_near(&mut self, near: Near) {
        let link = self.caller.link.clone();
        let has_begun = near.tally.is_some();
        self.former = near.tally.or(self.former.take());
        let is_owed = self.former.is_some() && (near.has_moved || !has_begun);
        let left = match link.is_empty() && is_owed {
            true => link.lost_owed(near.number, self.now_ms),
            false if self.former.is_some() => link.lost(near.number, Vec::new(), self.now_ms),
            false => {
                let (left, unknown) = link.ended(near.number, Vec::new(), self.now_ms);
                self.caller.returned.extend(ids(&unknown.lost));
                left
            }
        };
        match left {
            Left::Reconnect => self.again(link.reconnect_at(self.now_ms)),
            Left::Nothing => self.former = None,
        }
    }

    pub(super) fn step_near(&mut self, index: usize) {
        let share = self.share(self.wires[index].to_out.len());
        let Wire { near, to_out, .. } = &mut self.wires[index];
        let Some(mut near) = near.take() else { return };
        near.at_out.unsplit(to_out.split_to(share));
        let mut says = BytesMut::new();
        loop {
            near.out.input(&mut near.at_out, self.now_ms);
            let Some(action) = near.out.poll() else { break };
            if !self.act_near(&mut near, &mut says, action) {
                self.wires[index].to_out.clear();
                self.lost_near(near);
                return;
            }
        }
        if near.is_settled
            && let Some((_, tally)) = &mut near.tally
        {
            let taken = tally.take(&self.caller.link, near.number, Position(0), 200);
            near.has_moved |= !taken.parcels.is_empty();
            for parcel in &taken.parcels {
                says.extend_from_slice(&parcel.outgoing.to_bytes());
            }
            if tally.asks() {
                says.extend_from_slice(&sm::request());
            }
        }
        let wire = &mut self.wires[index];
        if wire.far.is_some() {
            wire.to_in.unsplit(says);
        }
        wire.near = Some(near);
    }

    /// False when the connection is over.
    pub(super) fn act_near(
        &mut self,
        near: &mut Near,
        says: &mut BytesMut,
        action: Action,
    ) -> bool {
        match action {
            Action::Send(bytes) => says.extend_from_slice(&bytes),
            Action::Ready {
                is_bidirectional, ..
            } => {
                assert!(is_bidirectional);
                match &self.former {
                    Some((name, tally)) => near.out.resume(name, tally.handled()),
                    None => near.out.enable(),
                }
            }
            Action::Stanza(stanza) => {
                near.has_moved = true;
                self.caller.link.heard(near.number);
                let (name, tally) = near.tally.as_mut().expect("both wait for management");
                tally.handle(Position(0));
                let name = format!("{name} {}", self.releases);
                self.caller.handle(&name, &stanza);
            }
            Action::SmEnabled { id, .. } => {
                self.forget_former(0);
                let name = id.expect("it can be resumed");
                near.tally = Some((name, Tally::default()));
                near.is_settled = true;
            }
            Action::SmResumed { h } => {
                self.resumptions += 1;
                let (name, mut tally) = self.former.take().expect("it was asked for");
                tally.resumed(near.number, h).expect("the count is right");
                near.tally = Some((name, tally));
                near.is_settled = true;
            }
            Action::SmFailed { h } => {
                self.forget_former(h.unwrap_or(0));
                near.out.enable();
            }
            Action::SmRequest => {
                let (_, tally) = near.tally.as_ref().expect("it is managed");
                says.extend_from_slice(&sm::acknowledge(tally.handled()));
            }
            Action::SmAck { h } => {
                let (_, tally) = near.tally.as_mut().expect("it is managed");
                tally
                    .acknowledge(near.number, h)
                    .expect("the count is right");
            }
            // The peer has gone on with another connection.
            Action::Closed(_) => return false,
            other => panic!("not expected: {other:?}"),
        }
        true
    }

    pub(super) fn forget_former(&mut self, h: u32) {
        let former = self.former.take();
        let newly = former.and_then(|(_, tally)| tally.newly(h).ok());
        let link = &self.caller.link;
        let unknown = link.not_resumed(newly.unwrap_or(0) as usize);
        self.caller.returned.extend(ids(&unknown.lost));
    }
}
