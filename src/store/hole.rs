//! Where the chain does not go on: a torn end, or damage.
//!
//! A batch is written only once the one before it is durable. So a hole with a
//! later batch behind it is damage, and so is one at or below the durable mark
//! of the superblock. Any other hole is where the last batch was torn, or never
//! written; but only if all was read that could say otherwise.

use super::fold::Fold;
use super::format::{Geometry, SegmentHeader, Use};
use super::own::Extent;
use super::replay::{At, Found, Replay};
use super::report::{Damage, DamageKind, Dropped};
use super::walk::{Step, Walk};

impl<F: Fold + ?Sized> Replay<'_, '_, F> {
    /// A later batch behind a hole: proof that what is missing was durable.
    pub(super) fn later(&mut self) -> Option<Found> {
        let At {
            segment,
            slot,
            offset,
            next,
            ..
        } = self.at;
        if self.clean && self.durable_batch < self.at.number {
            return None;
        }
        let from = offset.max(self.geometry.block);
        let found = self
            .later_in(segment, slot, from)
            .or_else(|| self.later_in(next.segment, next.slot, self.geometry.block));
        if found.is_some() || self.durable_batch < self.at.number {
            return found;
        }
        // Something durable is missing and the next segment does not go on:
        // look at every segment of the chain.
        let mut others = self.chain_segments();
        others.retain(|(id, _)| *id > segment && *id != next.segment);
        let block = self.geometry.block;
        others
            .into_iter()
            .find_map(|(id, slot)| self.later_in(id, slot, block))
    }

    fn later_in(&mut self, segment: u32, slot: u32, from: u32) -> Option<Found> {
        let block = self.geometry.block;
        let offsets = (from..self.geometry.segment_bytes).step_by(block as usize);
        let number = self.at.number;
        for offset in offsets {
            let found = self
                .header_at(segment, slot, offset)
                .filter(|found| found.header.number > number);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Segments of the chain by what their own headers say, oldest first.
    pub(super) fn chain_segments(&mut self) -> Vec<(u32, u32)> {
        let headers = self.segment_headers();
        let chain = headers
            .into_iter()
            .filter(|(_, header)| header.class == Use::Chain);
        let mut chain: Vec<(u32, u32)> = chain.map(|(slot, header)| (header.id, slot)).collect();
        chain.sort_unstable();
        chain
    }

    /// What the first blocks of all slots say.
    pub(super) fn segment_headers(&mut self) -> Vec<(u32, SegmentHeader)> {
        let salt = self.salt;
        let mut block = super::buffer::Buffer::zeroed(super::buffer::ALIGN);
        let mut read = |slot: u32| {
            self.device
                .read_at(block.as_mut_slice(), self.geometry.slot_at(slot))
                .ok()?;
            SegmentHeader::decode(block.as_slice(), salt).map(|header| (slot, header))
        };
        (0..self.map.slots).filter_map(&mut read).collect()
    }

    pub(super) fn skip_damage(&mut self, later: &Found) {
        let same = later.header.segment == self.at.segment;
        let until = if same {
            later.offset
        } else {
            self.geometry.segment_bytes
        };
        self.note_damage(until, later.header.number - 1, Some(later.header.time_ms));
        self.enter(later.header.segment, later.slot);
        self.at.segment = later.header.segment;
        self.at.slot = later.slot;
        self.at.offset = later.offset;
        self.at.number = later.header.number;
        self.at.previous = None;
    }

    fn note_damage(&mut self, until: u32, last: u64, time_ms: Option<u64>) {
        let from = self.at.offset.max(self.geometry.block).min(until);
        if self.at.number == 0 {
            // The beginning of what is salvaged: nothing is known to be missing.
            return;
        }
        let hit = self.describe_within((self.at.segment, self.at.slot), from, until);
        let damage = Damage::of(DamageKind::Chain, self.at.segment, from, until);
        self.report.damage.push(Damage {
            batches: Some((self.at.number, last)),
            between_ms: (Some(self.at.time_ms).filter(|&ms| ms > 0), time_ms),
            hit,
            ..damage
        });
    }

    /// Whose records in a range can still be read.
    pub(super) fn describe_within(&self, place: (u32, u32), from: u32, until: u32) -> Vec<String> {
        let mut walk = Walk::new(self.device, self.geometry, self.salt, place, from, until);
        let mut hit = Vec::new();
        while hit.len() < Damage::HIT_MAX {
            match walk.step() {
                Step::Frame(frame) => hit.extend(self.fold.describe(&frame.record)),
                Step::End => break,
                _ => {}
            }
        }
        hit.dedup();
        hit
    }

    /// Why it cannot be told whether the chain ends here: something does not
    /// read where the next batch may lie, or what the batch at hand names.
    pub(super) fn unreadable_end(&mut self, whole: Option<&Found>) -> Option<String> {
        let At {
            slot, offset, next, ..
        } = self.at;
        if self.clean && self.durable_batch < self.at.number {
            return None;
        }
        let Geometry {
            segment_bytes,
            block,
        } = self.geometry;
        // Looking for a later batch has gone through these.
        let mut places = vec![
            (slot, offset.max(block), segment_bytes),
            (next.slot, block, segment_bytes),
        ];
        for extent in whole.map(|found| self.extents(found)).unwrap_or_default() {
            let Extent { offset, len, .. } = extent;
            let Some(slot) = self.slot_of(extent.segment) else {
                continue;
            };
            self.window(slot).bytes(offset, len as usize);
            places.push((slot, offset, offset.saturating_add(len)));
        }
        places.retain(|(slot, ..)| *slot < self.map.slots);
        places.into_iter().find_map(|(slot, from, until)| {
            let at = self.geometry.slot_at(slot);
            let (offset, why) = self.window(slot).unreadable_in(from, until)?;
            Some(format!(
                "byte {} of its device does not read ({why}), and what was accepted last may lie there",
                at + u64::from(offset)
            ))
        })
    }

    /// What lies at the end is given up. Its numbers are used again, in the next
    /// segment: should it read once more, the later epoch is what counts.
    pub(super) fn pass_unreadable_end(&mut self) {
        let last = self.at.number.max(self.durable_batch);
        self.note_damage(self.geometry.segment_bytes, last, None);
        self.at.leave = true;
    }

    pub(super) fn end_of_chain(&mut self) {
        if self.durable_batch >= self.at.number {
            let until = self.geometry.segment_bytes;
            self.note_damage(until, self.durable_batch, None);
            self.at.number = self.durable_batch.saturating_add(1);
            self.at.leave = true;
            return;
        }
        if let Some(found) = self.expected() {
            let Found { header, offset, .. } = found;
            self.report.dropped = Some(Dropped {
                segment: header.segment,
                offset,
                bytes: header.len,
            });
        }
    }
}
