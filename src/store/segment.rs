//! The segment map: which slot of the device holds which segment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::format::{Use, put_u32, put_u64, u32_at, u64_at};
use super::log::Head;

/// One segment in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub id: u32,
    pub slot: u32,
    pub class: Use,
    /// Written by compaction, so as dense as it can be.
    pub packed: bool,
    pub bucket: u32,
    /// End of what was written into it.
    pub end: u32,
    /// When its bytes were asked to be erased; 0: never.
    pub erase_ms: u64,
    /// It could not be read whole, so it is never emptied.
    pub damaged: bool,
}

impl Segment {
    pub const BYTES: usize = 32;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        put_u32(&mut bytes, 0, self.id);
        put_u32(&mut bytes, 4, self.slot);
        bytes[8] = self.class as u8;
        bytes[9] = u8::from(self.packed);
        put_u32(&mut bytes, 12, self.bucket);
        put_u32(&mut bytes, 16, self.end);
        put_u64(&mut bytes, 24, self.erase_ms);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Segment> {
        let bytes = bytes.get(..Self::BYTES)?;
        Some(Segment {
            id: u32_at(bytes, 0),
            slot: u32_at(bytes, 4),
            class: Use::from_byte(bytes[8])?,
            packed: bytes[9] & 1 == 1,
            bucket: u32_at(bytes, 12),
            end: u32_at(bytes, 16),
            erase_ms: u64_at(bytes, 24),
            damaged: false,
        })
    }
}

/// The segments in use and the slots that are free.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    pub segments: BTreeMap<u32, Segment>,
    free: BTreeSet<u32>,
    /// Slots that the device has room for.
    pub slots: u32,
    /// Identity of the next new segment.
    pub id_next: u32,
    /// Free slots that were never written: writing them costs a file system more
    /// than writing them again.
    raw: BTreeSet<u32>,
    /// Free slots that hold what their last segment held.
    stale: BTreeSet<u32>,
    /// Free slots that are to be overwritten, and since when; 0: none.
    sweep: BTreeSet<u32>,
    pub sweep_ms: u64,
    /// Overwritten, and released with the next group.
    cleaned: BTreeSet<u32>,
}

impl Map {
    /// Slots that a segment can be opened in right now.
    pub fn available(&self) -> u32 {
        self.free.len() as u32
    }

    /// Takes the lowest free slot for a new segment.
    pub fn allocate(&mut self, class: Use, packed: bool, bucket: u32) -> Option<&mut Segment> {
        if self.id_next == u32::MAX {
            return None;
        }
        let best = |slot: &&u32| !self.sweep.contains(slot) && !self.raw.contains(slot);
        let clean = self.free.iter().find(best).copied();
        let slot = clean.or_else(|| self.free.first().copied())?;
        self.free.remove(&slot);
        self.stale.remove(&slot);
        self.raw.remove(&slot);
        // A slot that was to be overwritten passes that on to its new segment.
        let erase_ms = if self.sweep.remove(&slot) {
            self.sweep_ms
        } else {
            0
        };
        let id = self.id_next;
        self.id_next += 1;
        let segment = Segment {
            id,
            slot,
            class,
            packed,
            bucket,
            end: 0,
            erase_ms,
            damaged: false,
        };
        Some(self.segments.entry(id).or_insert(segment))
    }

    /// A slot whose segment is durably retired can be used again.
    pub fn release_slot(&mut self, slot: u32) {
        let fresh = self.free.insert(slot);
        debug_assert!(fresh, "a slot is released once");
        if !self.cleaned.remove(&slot) {
            self.stale.insert(slot);
        }
    }

    /// A slot that was overwritten is about to be released.
    pub fn clean(&mut self, slot: u32) {
        self.cleaned.insert(slot);
    }

    /// What lies in free slots is to be overwritten.
    pub fn sweep(&mut self, at_ms: u64) {
        self.sweep.extend(&self.stale);
        if !self.sweep.is_empty() && self.sweep_ms == 0 {
            self.sweep_ms = at_ms.max(1);
        }
    }

    /// What lies in free slots was to be overwritten at that time: recovery
    /// takes it for all of them.
    pub fn sweep_since(&mut self, at_ms: u64) {
        if self.sweep_ms == 0 {
            self.sweep_ms = at_ms.max(1);
        }
    }

    /// Takes the next free slot that is to be overwritten, as a segment of its
    /// own.
    pub fn sweep_next(&mut self) -> Option<(u32, u32)> {
        while let Some(slot) = self.sweep.pop_first() {
            if self.free.remove(&slot) {
                self.stale.remove(&slot);
                self.raw.remove(&slot);
                let id = self.id_next;
                self.id_next += 1;
                let (class, erase_ms) = (Use::Wiping, self.sweep_ms);
                let segment = Segment {
                    id,
                    slot,
                    class,
                    packed: false,
                    bucket: 0,
                    end: 0,
                    erase_ms,
                    damaged: false,
                };
                self.segments.insert(id, segment);
                return Some((id, slot));
            }
        }
        self.sweep_ms = 0;
        None
    }

    /// How many free slots are still to be overwritten.
    pub fn sweep_left(&self) -> usize {
        self.sweep.len()
    }

    /// The device holds `slots` segments now.
    pub fn grow(&mut self, slots: u32) {
        self.free.extend(self.slots..slots);
        self.raw.extend(self.slots..slots);
        self.slots = self.slots.max(slots);
    }

    /// Recomputes the free slots from the segments in use.
    pub fn settle(&mut self, slots: u32) {
        let used: BTreeSet<u32> = self.segments.values().map(|segment| segment.slot).collect();
        self.slots = slots;
        self.free = (0..slots).filter(|slot| !used.contains(slot)).collect();
        self.stale = self.free.clone();
        self.sweep = if self.sweep_ms > 0 {
            self.free.clone()
        } else {
            BTreeSet::new()
        };
    }

    /// Free slots behind all that is used have perhaps never been written.
    pub fn suspect_raw(&mut self) {
        let last = self.segments.values().map(|segment| segment.slot).max();
        self.raw = self
            .free
            .range(last.map_or(0, |last| last + 1)..)
            .copied()
            .collect();
    }

    /// Takes a free slot that was never written, to be filled with zeros, if few
    /// others are left.
    pub fn take_raw(&mut self) -> Option<u32> {
        const WRITTEN_MIN: usize = 2;
        if self.free.len() - self.raw.len() >= WRITTEN_MIN {
            return None;
        }
        let slot = self.raw.pop_first()?;
        let free = self.free.remove(&slot);
        debug_assert!(free, "a slot that was never written is free");
        free.then_some(slot)
    }

    /// Gives a slot back that was filled with zeros, or could not be.
    pub fn put_back(&mut self, slot: u32) {
        let fresh = self.free.insert(slot);
        debug_assert!(fresh, "a slot is given back once");
    }

    /// The segment with this identity.
    pub fn of(&self, id: u32) -> Option<&Segment> {
        self.segments.get(&id)
    }

    /// Records that what belongs to `id` now ends at `end`, if not later.
    pub fn extend(&mut self, id: u32, end: u32) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.end = segment.end.max(end);
        }
    }

    /// Marks a segment for erasure.
    pub fn erase(&mut self, id: u32, at_ms: u64) {
        if let Some(segment) = self.segments.get_mut(&id)
            && segment.erase_ms == 0
        {
            segment.erase_ms = at_ms.max(1);
        }
    }

    /// Marks the checkpoints and the chain below `before`, which hold inline
    /// copies of everything, and what is being filled, because behind its end
    /// lies what its slot held before.
    pub fn erase_inline(&mut self, before: u32, heads: &[u32], at_ms: u64) {
        for (id, segment) in self.segments.range_mut(..before) {
            let inline = matches!(segment.class, Use::Chain | Use::Checkpoint);
            if segment.erase_ms == 0 && (inline || heads.contains(id)) {
                segment.erase_ms = at_ms.max(1);
            }
        }
    }

    /// The segments outside the chain that go on being filled: of each kind the
    /// newest, if it is not full.
    pub fn unfilled(&self, segment_bytes: u32, block: u32) -> HashMap<Head, u32> {
        let fillable = self
            .segments
            .values()
            .filter(|segment| matches!(segment.class, Use::Kept | Use::Archive | Use::Blob));
        let mut newest: HashMap<Head, &Segment> = HashMap::new();
        for segment in fillable {
            let Segment {
                class,
                packed,
                bucket,
                ..
            } = *segment;
            newest.insert(
                Head {
                    class,
                    packed,
                    bucket,
                },
                segment,
            );
        }
        newest.retain(|_, segment| {
            segment.end > 0
                && segment.end < segment_bytes
                && segment.end.is_multiple_of(block)
                && segment.slot < self.slots
        });
        newest
            .into_iter()
            .map(|(head, segment)| (head, segment.id))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_being_overwritten_is_not_filled_ahead_as_well() {
        let mut map = Map::default();
        map.settle(4);
        map.suspect_raw();
        map.sweep(1);
        let swept: Vec<u32> = std::iter::from_fn(|| map.sweep_next())
            .map(|(_, slot)| slot)
            .collect();
        assert_eq!(swept, [0, 1, 2, 3]);
        assert_eq!((map.take_raw(), map.available()), (None, 0));
        map.segments.clear();
        swept.into_iter().for_each(|slot| map.release_slot(slot));
        assert_eq!(map.available(), 4);
    }
}
