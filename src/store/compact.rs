//! Compaction: copying what is live out of segments that are mostly dead.
//!
//! A copy keeps its record's sequence number, goes into a segment of packed
//! records, and is named by the chain like any other extent, at the moment at
//! which the state still held the original. So folding the chain in order
//! reaches the same state as the live process did, and a removal behind the
//! copy removes the copy.

use super::disk::Device;
use super::fold::{Fold, Place, Record};
use super::format::{FLAG_COPY, FLAG_PLACE, Geometry, Salt, Use, frame_len, record_of};
use super::group::Extra;
use super::log::{Head, Log};
use super::own;
use super::segment::Segment;
use super::walk::{Step, Walk};

/// A segment that is being emptied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    pub segment: u32,
    /// Where to read on.
    pub offset: u32,
}

/// A stretch of a segment that is to be read for compaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub segment: u32,
    pub slot: u32,
    pub offset: u32,
    pub end: u32,
    pub salt: Salt,
    pub geometry: Geometry,
}

/// Records of a segment, read and verified.
#[derive(Debug)]
pub(super) struct Loaded {
    pub segment: u32,
    bytes: Vec<u8>,
    frames: Vec<Place>,
    /// Where to read on; `None` at the end.
    next: Option<u32>,
    pub damaged_bytes: u64,
    pub read_bytes: u64,
}

impl Stretch {
    /// How far one step reads.
    const BYTES: u32 = 1 << 20;

    /// Reads it.
    pub fn load(&self, device: &dyn Device) -> Loaded {
        let place = (self.segment, self.slot);
        let mut walk = Walk::new(
            device,
            self.geometry,
            self.salt,
            place,
            self.offset,
            self.end,
        );
        let mut loaded = Loaded {
            segment: self.segment,
            bytes: Vec::new(),
            frames: Vec::new(),
            next: None,
            damaged_bytes: 0,
            read_bytes: 0,
        };
        let until = self.offset.saturating_add(Self::BYTES);
        loop {
            if walk.offset() >= until {
                loaded.next = Some(walk.offset());
                break;
            }
            match walk.step() {
                Step::Frame(frame)
                    if frame.record.kind <= Record::KIND_MAX && frame.flags & FLAG_PLACE == 0 =>
                {
                    loaded.frames.push(frame.place);
                    loaded.bytes.extend_from_slice(frame.bytes);
                }
                Step::Frame(_) | Step::Batch(_) => {}
                Step::Bad { from, until } => loaded.damaged_bytes += u64::from(until - from),
                Step::End => break,
            }
        }
        loaded.read_bytes = u64::from(walk.offset() - self.offset);
        loaded
    }
}

impl Log {
    /// The stretch that compaction has to read next, of the segment it is at.
    pub(super) fn stretch(&mut self) -> Option<Stretch> {
        let Compaction { segment, offset } = self.compaction?;
        let Some(found) = self
            .map
            .of(segment)
            .filter(|_| self.live.of(segment).records > 0)
        else {
            self.compaction = None;
            return None;
        };
        let (slot, end) = (found.slot, found.end);
        Some(Stretch {
            segment,
            slot,
            offset,
            end,
            salt: self.salt,
            geometry: self.geometry,
        })
    }

    /// Copies what is live of a stretch. Returns the bytes that were copied.
    pub(super) fn copy<F: Fold + ?Sized>(&mut self, fold: &mut F, loaded: &Loaded) -> u64 {
        let current = self
            .compaction
            .filter(|compaction| compaction.segment == loaded.segment);
        let Some(class) = self
            .map
            .of(loaded.segment)
            .map(packed_head)
            .filter(|_| current.is_some())
        else {
            return 0;
        };
        let mut extent = None;
        let (mut at, mut copied) = (0, 0);
        for &from in &loaded.frames {
            let len = from.len as usize;
            let record = record_of(&loaded.bytes[at..at + len]);
            at += len;
            if !fold.holds(&record, from) {
                continue;
            }
            debug_assert_eq!(frame_len(record.body.len(), record.payload.len()), len);
            if !self.room_for_copy(class, len, &mut extent) {
                self.name_extent(&mut extent);
                self.compaction = None;
                return copied;
            }
            let to = self.push_part(
                class,
                &record,
                Extra {
                    flags: FLAG_COPY,
                    head: &[],
                },
                &mut extent,
            );
            fold.moved(&record, from, to, &mut self.live);
            copied += u64::from(from.len);
            self.group().counts = true;
        }
        self.name_extent(&mut extent);
        self.compaction = loaded.next.map(|offset| Compaction {
            segment: loaded.segment,
            offset,
        });
        if self.compaction.is_none() && self.live.of(loaded.segment).records > 0 {
            // Something is held that could not be read: the segment stays.
            if let Some(segment) = self.map.segments.get_mut(&loaded.segment) {
                segment.damaged = true;
            }
        }
        copied
    }

    /// Room for one more copy; names the extent when its group is full.
    fn room_for_copy(&mut self, head: Head, len: usize, extent: &mut Option<own::Extent>) -> bool {
        let chain = 3 * own::FRAME_MAX;
        if self.map.available() <= Self::ROLL_RESERVE {
            return false;
        }
        if self
            .open
            .as_ref()
            .is_some_and(|group| !group.fits(chain, len, self.geometry))
        {
            self.name_extent(extent);
        }
        self.make_room(chain, len).is_ok() && {
            let end = self
                .heads
                .get(&head)
                .and_then(|id| self.map.of(*id))
                .map(|segment| segment.end);
            let fits =
                end.is_some_and(|end| end as usize + len <= self.geometry.segment_bytes as usize);
            fits || self.map.available() > Self::ROLL_RESERVE
        }
    }

    /// The segment that is most worth emptying, at or below a share of live
    /// bytes.
    pub(super) fn emptiest(&self, pressed: bool) -> Option<u32> {
        let worth = |segment: &&Segment| {
            let share =
                self.live.of(segment.id).bytes as f64 / f64::from(self.geometry.segment_bytes);
            let bound = if pressed || segment.packed {
                PACKED_SHARE_MAX
            } else {
                FRESH_SHARE_MAX
            };
            share > 0.0 && share < bound
        };
        let candidates = self
            .map
            .segments
            .values()
            .filter(|segment| self.can_be_emptied(segment))
            .filter(worth);
        candidates
            .min_by_key(|segment| self.live.of(segment.id).bytes)
            .map(|segment| segment.id)
    }

    /// Whether nothing is added to a segment any more, all of it is written, and
    /// it can be given back once it is empty. A record that still waits to be
    /// written is not on the device for compaction to read.
    pub(super) fn can_be_emptied(&self, segment: &Segment) -> bool {
        let filled = match segment.class {
            Use::Chain => segment.id < self.needed_from,
            Use::Kept | Use::Archive | Use::Blob => {
                !self.heads.values().any(|&id| id == segment.id)
            }
            Use::Checkpoint | Use::Wiping => false,
        };
        filled && !segment.damaged && self.written_end(segment.id).is_none()
    }
}

/// Segments as they were written are repacked below this share of live bytes,
/// once: what is wasted there is the padding of small commits.
const FRESH_SHARE_MAX: f64 = 0.85;
/// Packed segments are compacted when half of them is dead.
const PACKED_SHARE_MAX: f64 = 0.5;

/// Where copies out of a segment go.
fn packed_head(segment: &Segment) -> Head {
    match segment.class {
        Use::Archive | Use::Blob => Head {
            class: segment.class,
            packed: true,
            bucket: segment.bucket,
        },
        _ => Head {
            class: Use::Kept,
            packed: true,
            bucket: 0,
        },
    }
}
