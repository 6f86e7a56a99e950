//! Erasure: what was removed for good is overwritten within a stated time.
//!
//! A removal marks every segment that may hold what it removed: those out of
//! which it took something, the whole chain and every checkpoint (they hold
//! inline copies), and the free slots (they hold what was there before). Marked
//! segments are emptied and overwritten; marked free slots are overwritten.

use super::format::Use;
use super::log::Log;
use super::own::{self, Own};

impl Log {
    /// Marks what may hold inline copies of what is being removed.
    pub(super) fn erase_inline(&mut self) {
        let erase = Own::Erase {
            before: self.map.id_next,
            at_ms: self.now_ms,
        };
        self.push_own(&erase);
        let heads: Vec<u32> = self.heads.values().copied().collect();
        self.map.erase_inline(self.map.id_next, &heads, self.now_ms);
        self.map.sweep(self.now_ms);
    }

    /// Whether it is time to empty what was marked at `erase_ms`.
    pub(super) fn erasure_is_due(&self, erase_ms: u64) -> bool {
        // Some time is left for several removals to be served at once.
        erase_ms > 0 && self.now_ms >= erase_ms.saturating_add(self.options.erase_within_ms / 4)
    }

    /// Whether marked inline copies are only given back by a new checkpoint.
    pub(super) fn erasure_needs_checkpoint(&self) -> bool {
        if self.is_sweeping() {
            return false;
        }
        self.map.segments.values().any(|segment| {
            self.erasure_is_due(segment.erase_ms)
                && match segment.class {
                    Use::Chain => (self.needed_from..=self.chain.segment).contains(&segment.id),
                    Use::Checkpoint => true,
                    _ => false,
                }
        })
    }

    /// Whether free slots are still to be overwritten. The chain goes on in one of
    /// them, and would have to leave it again, so its turn comes after.
    fn is_sweeping(&self) -> bool {
        self.map.sweep_left() > 0 && self.erasure_is_due(self.map.sweep_ms)
    }

    /// Takes marked segments out of use as heads, and one marked free slot at a
    /// time to be overwritten. Returns whether a step was taken.
    pub(super) fn sweep_one(&mut self) -> bool {
        let due = |id: u32| {
            self.map
                .of(id)
                .is_some_and(|segment| self.erasure_is_due(segment.erase_ms))
        };
        if due(self.chain.segment)
            && !self.is_sweeping()
            && self.chain.offset > 0
            && self.map.available() > self.reserve_internal()
        {
            self.seal();
            return self.roll().is_ok();
        }
        let heads: Vec<u32> = self.heads.values().copied().filter(|&id| due(id)).collect();
        let running = self.running.is_some();
        self.heads
            .retain(|head, id| !heads.contains(id) || (running && head.class == Use::Checkpoint));
        if !self.erasure_is_due(self.map.sweep_ms) || !self.wipes.is_empty() {
            return false;
        }
        if self.map.available() <= self.reserve_internal()
            || self.make_room(own::FRAME_MAX, 0).is_err()
        {
            return false;
        }
        let erase_ms = self.map.sweep_ms;
        let Some((id, slot)) = self.map.sweep_next() else {
            return false;
        };
        self.push_own(&Own::Opened {
            id,
            slot,
            class: Use::Wiping,
            packed: false,
            bucket: 0,
            erase_ms,
        });
        self.group().wipes.push(id);
        true
    }
}
