//! The one that was called: as `net/s2s/incoming/management.rs` does.

use bytes::BytesMut;

use super::super::*;
use super::{AWAITED_MS, Wire, World, name_of};
use crate::router::session::resumption_id;
use crate::stanza::Condition;
use crate::stream::s2s::{Action, Incoming};
use crate::stream::sm::{self, SmEnabled};

/// The end of the one that was called.
pub(super) struct Far {
    pub(super) number: u64,
    pub(super) inn: Incoming,
    pub(super) at_in: BytesMut,
    pub(super) has_link: bool,
    pub(super) is_settled: bool,
    pub(super) managed: Option<Arc<ManagedStream>>,
    /// It has to answer `<r/>`.
    pub(super) owes: bool,
}

impl World {
    /// The one that is called can't connect by itself: what waits there waits for the other one to
    /// come, and comes back in the end.
    pub(super) fn called_connects(&mut self) {
        if self.is_kind {
            return self.called_answers();
        }
        let patience_ms = self.dice.roll(60_000);
        self.fails_at_ms = Some(self.now_ms + patience_ms);
    }

    /// What it has to say goes on a stream that the other one has made, if there is one.
    pub(super) fn called_answers(&mut self) {
        let stand = self.wires.iter_mut().filter(|wire| wire.near.is_some());
        for far in stand.filter_map(|wire| wire.far.as_mut()) {
            if let Some(managed) = &far.managed
                && self.called.link.answer(far.number)
            {
                far.has_link = true;
                managed.serve(far.number, &self.called.link);
            }
        }
    }

    /// As `net/s2s/incoming/management.rs` does.
    pub(super) fn lost_far(&mut self, far: &Far) {
        if let Some(managed) = &far.managed
            && managed.is_with(far.number)
        {
            // Some streams are forgotten: a receiver that was started again.
            if !self.is_kind && self.dice.roll(4) == 0 {
                self.formers.remove(&managed.id.expect("it has one"));
            }
            if managed.suspend(far.number) {
                let until_ms = self.now_ms + AWAITED_MS;
                let until_ms = if self.is_kind { u64::MAX } else { until_ms };
                self.awaited.push((managed.clone(), until_ms));
            }
        }
        if far.has_link && !self.called.link.is_awaited(far.number) {
            self.ended_far(far.number);
        }
    }

    pub(super) fn ended_far(&mut self, number: u64) {
        let (left, unknown) = self.called.link.ended(number, Vec::new(), self.now_ms);
        self.called.returned.extend(ids(&unknown.lost));
        if left == Left::Reconnect {
            self.called_connects();
        }
    }

    pub(super) fn release(&mut self, stream: &ManagedStream) {
        let (links, reader) = stream.release();
        for _ in links {
            // What goes another way from here may be handled twice.
            self.releases += 1;
            self.ended_far(reader);
        }
    }

    pub(super) fn step_far(&mut self, index: usize) {
        let share = self.share(self.wires[index].to_in.len());
        let Wire { far, to_in, .. } = &mut self.wires[index];
        let Some(mut far) = far.take() else { return };
        far.at_in.unsplit(to_in.split_to(share));
        let mut says = BytesMut::new();
        loop {
            let is_with = |managed: &Arc<ManagedStream>| managed.is_with(far.number);
            if !far.managed.as_ref().is_none_or(is_with) {
                // Another connection has resumed its stream.
                self.half_open += 1;
                return self.lost_far(&far);
            }
            far.inn.input(&mut far.at_in, self.now_ms);
            let Some(action) = far.inn.poll() else { break };
            self.act_far(&mut far, &mut says, action);
        }
        self.fill_far(&mut far, &mut says);
        let wire = &mut self.wires[index];
        if wire.near.is_some() {
            wire.to_out.unsplit(says);
        }
        wire.far = Some(far);
    }

    pub(super) fn fill_far(&mut self, far: &mut Far, says: &mut BytesMut) {
        let Some(managed) = far.managed.as_ref().filter(|_| far.is_settled) else {
            return;
        };
        let link = &self.called.link;
        let said = managed.count(far.number, |tally| {
            if std::mem::take(&mut far.owes) {
                says.extend_from_slice(&sm::acknowledge(tally.handled()));
            }
            if far.has_link {
                let taken = tally.take(link, far.number, Position(0), 200);
                for parcel in &taken.parcels {
                    says.extend_from_slice(&parcel.outgoing.to_bytes());
                }
            }
            if tally.asks() {
                says.extend_from_slice(&sm::request());
            }
        });
        said.expect("it carries the stream");
    }

    pub(super) fn act_far(&mut self, far: &mut Far, says: &mut BytesMut, action: Action) {
        match action {
            Action::Send(bytes) => says.extend_from_slice(&bytes),
            Action::Authorized { may_answer, .. } => {
                assert!(may_answer);
                far.has_link = self.called.link.answer(far.number);
            }
            Action::Stanza(stanza) => {
                let managed = far.managed.as_ref().expect("it is managed");
                let name = name_of(managed);
                let called = &mut self.called;
                let counted = managed.count(far.number, |tally| {
                    called.handle(&name, &stanza);
                    tally.handle(Position(0));
                });
                counted.expect("it carries the stream");
            }
            Action::SmEnable { .. } => self.enable_far(far),
            Action::SmResume { previd, h } => self.resume_far(far, &previd, h),
            Action::SmRequest => far.owes = true,
            Action::SmAck { h } => {
                let managed = far.managed.as_ref().expect("it is managed");
                let done = managed.count(far.number, |tally| tally.acknowledge(far.number, h));
                done.expect("it carries it").expect("the count is right");
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    pub(super) fn enable_far(&mut self, far: &mut Far) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&far.number.to_le_bytes());
        let pair = self.called.link.pair.clone();
        let managed = Arc::new(ManagedStream::new(pair, Some(id), far.number));
        if far.has_link {
            managed.serve(far.number, &self.called.link);
        }
        for former in self.formers.values().cloned().collect::<Vec<_>>() {
            former.supersede();
            self.release(&former);
        }
        if !far.has_link && self.called.link.answer(far.number) {
            far.has_link = true;
            managed.serve(far.number, &self.called.link);
        }
        self.formers.insert(id, managed.clone());
        far.inn.sm_enabled(&SmEnabled {
            id: Some(name_of(&managed)),
            max_seconds: None,
        });
        far.managed = Some(managed);
        far.is_settled = true;
    }

    pub(super) fn resume_far(&mut self, far: &mut Far, previd: &str, h: u32) {
        let id = resumption_id(previd).expect("it is ours");
        let Some(managed) = self.formers.get(&id).cloned() else {
            return far.inn.sm_failed(Condition::ItemNotFound, None);
        };
        let taken = managed.take_over(far.number, h);
        let taken = taken.expect("the count is right");
        if far.has_link {
            managed.serve(far.number, &self.called.link);
        }
        far.has_link |= !taken.links.is_empty();
        let handled = managed.count(far.number, |tally| tally.handled());
        far.inn.resumed(handled.expect("it carries it"));
        far.managed = Some(managed);
        far.is_settled = true;
    }
}
