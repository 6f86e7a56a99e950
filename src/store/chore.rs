//! What keeps the log in shape between commits: growing, checkpoints,
//! compaction, giving back, overwriting. Each step is small and bounded.

use std::io;

use super::buffer::Buffer;
use super::checkpoint::Slice;
use super::compact::{Compaction, Loaded, Stretch};
use super::disk::{Device, is_full};
use super::fold::Fold;
use super::format::{Geometry, Use};
use super::log::Log;
use super::own::{self, Freed, Own};

/// Work on the device that is done outside the lock.
#[derive(Debug)]
#[must_use = "the log waits for it"]
pub struct Chore {
    ticket: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Grow { len: u64 },
    Load(Stretch),
    Wipe { segment: u32, at: u64, len: u32 },
    Prepare { slot: u32, at: u64, len: u32 },
}

/// A chore that was done.
#[derive(Debug)]
#[must_use = "the log waits for it"]
pub struct Done {
    ticket: u64,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// The length that the device has now.
    Grown(Room<u64>),
    Loaded(Loaded),
    Wiped {
        segment: u32,
        result: io::Result<()>,
    },
    Prepared {
        slot: u32,
        room: Room<()>,
    },
}

/// How it went to take more of the file system's room.
#[derive(Debug)]
enum Room<T> {
    Made(T),
    /// There is none; nothing has changed.
    Refused,
    /// What was written before may be lost.
    Failed(io::Error),
}

/// What there is to do between commits.
#[derive(Debug)]
pub enum Next {
    /// This, outside the lock; then [`Log::finish`].
    Chore(Chore),
    /// A step was taken under the lock; there may be another. Let appends and
    /// writes have their turn first.
    Again,
    /// Nothing now; at the latest at this time it is worth asking again.
    Idle {
        /// In milliseconds of the Unix epoch.
        until_ms: Option<u64>,
    },
}

/// A budget of bytes that fills with time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    bytes: i64,
    at_ms: u64,
}

impl Chore {
    /// Does it.
    pub fn perform(self, device: &dyn Device) -> Done {
        let outcome = match self.work {
            Work::Grow { len } => Outcome::Grown(
                Room::made_by(|| {
                    device.grow(len)?;
                    Ok(device.len())
                })
                .synced(device),
            ),
            Work::Load(stretch) => Outcome::Loaded(stretch.load(device)),
            Work::Wipe { segment, at, len } => Outcome::Wiped {
                segment,
                result: wipe(device, at, len),
            },
            Work::Prepare { slot, at, len } => {
                let room = Room::made_by(|| write_zeros(device, at, len));
                Outcome::Prepared {
                    slot,
                    room: room.synced(device),
                }
            }
        };
        Done {
            ticket: self.ticket,
            outcome,
        }
    }
}

impl<T> Room<T> {
    fn made_by(make: impl FnOnce() -> io::Result<T>) -> Room<T> {
        match make() {
            Ok(made) => Room::Made(made),
            Err(error) if is_full(&error) => Room::Refused,
            Err(error) => Room::Failed(error),
        }
    }

    /// A sync that fails is never a refusal: it is about everything that was
    /// written, the commits too.
    fn synced(self, device: &dyn Device) -> Room<T> {
        match self {
            Room::Made(made) => match device.sync() {
                Ok(()) => Room::Made(made),
                Err(error) => Room::Failed(error),
            },
            other => other,
        }
    }
}

impl Log {
    /// The next step between commits. At most one chore is under way at a time.
    pub fn next_chore<F: Fold + ?Sized>(&mut self, fold: &mut F, now_ms: u64) -> Next {
        self.tick(now_ms);
        if self.chore_out || self.closing || self.poisoned.is_some() || self.options.read_only {
            return Next::Idle { until_ms: None };
        }
        if let Some(work) = self.growth() {
            return self.hand_out(work);
        }
        if self.give_back() {
            return Next::Again;
        }
        if self.backlog_bytes() > self.geometry.group_bytes_max() {
            return Next::Idle {
                until_ms: Some(self.now_ms + 1),
            };
        }
        let pressed = self.is_pressed();
        if !pressed
            && let Some(until_ms) = self
                .allowance
                .wait_ms(self.options.background_bytes_per_s, self.now_ms)
        {
            return Next::Idle {
                until_ms: Some(until_ms),
            };
        }
        if let Some(work) = self.preparation() {
            return self.hand_out(work);
        }
        // One free slot at a time, so that the others stay free.
        if !self.is_wiping() && self.sweep_one() {
            return Next::Again;
        }
        if let Some(next) = self.checkpoint_step(fold) {
            return next;
        }
        // By turns, so that neither keeps the other waiting.
        self.wipes_next = !self.wipes_next;
        let work = if self.wipes_next {
            self.next_wipe().or_else(|| self.next_load(pressed))
        } else {
            self.next_load(pressed).or_else(|| self.next_wipe())
        };
        work.map_or(Next::Idle { until_ms: None }, |work| self.hand_out(work))
    }

    fn next_load(&mut self, pressed: bool) -> Option<Work> {
        if self.compaction.is_none() {
            self.compaction = self
                .candidate(pressed)
                .map(|segment| Compaction { segment, offset: 0 });
        }
        self.stretch().map(Work::Load)
    }

    fn is_wiping(&self) -> bool {
        let mut segments = self.map.segments.values();
        segments.any(|segment| segment.class == Use::Wiping)
    }

    /// Takes a chore back that was done.
    pub fn finish<F: Fold + ?Sized>(&mut self, fold: &mut F, done: Done, now_ms: u64) {
        self.tick(now_ms);
        if done.ticket != self.chore_ticket {
            debug_assert!(false, "a chore of this log");
            return;
        }
        self.chore_out = false;
        if self.poisoned.is_some() {
            return;
        }
        match done.outcome {
            Outcome::Grown(Room::Made(len)) => {
                self.grow_failed_ms = None;
                self.map.grow(self.geometry.slots(len));
            }
            Outcome::Grown(Room::Refused) => self.grow_failed_ms = Some(self.now_ms),
            Outcome::Grown(Room::Failed(error)) => {
                self.poison(format!("growing the file failed: {error}"));
            }
            Outcome::Loaded(loaded) => {
                let copied = if self.closing {
                    0
                } else {
                    self.copy(fold, &loaded)
                };
                self.allowance.spend(loaded.read_bytes + copied);
            }
            Outcome::Wiped {
                result: Err(error), ..
            } => {
                self.poison(format!("overwriting an erased segment failed: {error}"));
            }
            Outcome::Wiped {
                segment,
                result: Ok(()),
            } => self.wiped(segment),
            Outcome::Prepared { slot, room } => self.prepared(slot, room),
        }
    }

    /// Drops the segments of an archive's or blob's buckets below `before`:
    /// what they hold has expired.
    pub fn expire<F: Fold + ?Sized>(&mut self, fold: &mut F, class: Use, before: u32) -> usize {
        if self.poisoned.is_some() || self.closing || !matches!(class, Use::Archive | Use::Blob) {
            return 0;
        }
        let expired = self
            .map
            .segments
            .values()
            .filter(|segment| segment.class == class && segment.bucket < before);
        let expired: Vec<u32> = expired.map(|segment| segment.id).collect();
        let mut count = 0;
        for id in expired {
            if self.make_room(own::FRAME_MAX, 0).is_err() {
                break;
            }
            self.heads.retain(|_, head| *head != id);
            fold.expired(id, &mut self.live);
            self.live.forget(id);
            self.free(id, Freed::Expired);
            count += 1;
        }
        count
    }

    /// Segments that are kept free for compaction and checkpoints: an ordinary
    /// append is refused rather than take one of them.
    pub(super) fn reserve_ordinary(&self) -> u32 {
        let slack = (self.map.slots / 16).max(2);
        self.reserve_internal() + self.checkpoint_segments_expected() + slack
    }

    /// Segments that not even a removal takes.
    pub(super) fn reserve_internal(&self) -> u32 {
        2 + Self::ROLL_RESERVE + self.checkpoint_segments_expected()
    }

    /// The chain can always go on to one more segment.
    pub(super) const ROLL_RESERVE: u32 = 1;

    /// Whether space is so short that background work takes no regard.
    pub fn is_pressed(&self) -> bool {
        self.map.available() <= self.reserve_ordinary() + 1
    }

    fn checkpoint_segments_expected(&self) -> u32 {
        let last = self.standing[0]
            .as_ref()
            .map_or(0, |standing| standing.segments.len() as u64);
        let more = self.tail_bytes / 4 / u64::from(self.geometry.segment_bytes);
        u32::try_from(last + more)
            .unwrap_or(u32::MAX)
            .min(self.map.slots / 8)
            + 1
    }

    fn hand_out(&mut self, work: Work) -> Next {
        self.chore_ticket += 1;
        self.chore_out = true;
        Next::Chore(Chore {
            ticket: self.chore_ticket,
            work,
        })
    }

    /// Grows a file before its segments run out.
    fn growth(&self) -> Option<Work> {
        const RETRY_MS: u64 = 60_000;
        let step = self.options.grow_segments.max(1);
        let retry = self
            .grow_failed_ms
            .is_some_and(|failed_ms| self.now_ms < failed_ms + RETRY_MS);
        if !self.grows || retry || self.map.available() > self.reserve_ordinary() + step / 2 + 1 {
            return None;
        }
        let wanted = self.geometry.len_for(self.map.slots.saturating_add(step));
        let len = wanted.min(self.options.len_max.unwrap_or(u64::MAX));
        (self.geometry.slots(len) > self.map.slots).then_some(Work::Grow { len })
    }

    /// Fills the next segments of a file with zeros before they are needed: a
    /// commit into blocks that were never written has the file system's own
    /// records to write as well.
    fn preparation(&mut self) -> Option<Work> {
        let slot = self.map.take_raw()?;
        let at = self.geometry.slot_at(slot);
        Some(Work::Prepare {
            slot,
            at,
            len: self.geometry.segment_bytes,
        })
    }

    fn prepared(&mut self, slot: u32, room: Room<()>) {
        self.allowance.spend(u64::from(self.geometry.segment_bytes));
        match room {
            Room::Made(()) => self.map.put_back(slot),
            // A file with holes on a full file system: the slot stays unused.
            Room::Refused => {}
            Room::Failed(error) => self.poison(format!("writing a new segment failed: {error}")),
        }
    }

    /// Frees segments that hold nothing any more.
    fn give_back(&mut self) -> bool {
        const AT_ONCE: usize = 16;
        let standing: Vec<u32> = self.checkpoint_segments().collect();
        let superblock_due = self.superblock_due;
        let empty = self
            .map
            .segments
            .values()
            .filter(|segment| match segment.class {
                Use::Checkpoint => !superblock_due && !standing.contains(&segment.id),
                _ => self.can_be_emptied(segment) && self.live.of(segment.id).records == 0,
            });
        let empty: Vec<(u32, bool)> = empty
            .take(AT_ONCE)
            .map(|segment| (segment.id, segment.erase_ms > 0))
            .collect();
        for &(id, erase) in &empty {
            if self.make_room(own::FRAME_MAX, 0).is_err() {
                return false;
            }
            self.free(id, if erase { Freed::Wipe } else { Freed::Empty });
        }
        !empty.is_empty()
    }

    fn free(&mut self, id: u32, why: Freed) {
        self.push_own(&Own::Freed { id, why });
        let Some(segment) = self.map.segments.get_mut(&id) else {
            return;
        };
        if why == Freed::Wipe {
            segment.class = Use::Wiping;
            self.group().wipes.push(id);
        } else {
            let slot = segment.slot;
            self.map.segments.remove(&id);
            self.group().frees.push(slot);
        }
    }

    fn checkpoint_step<F: Fold + ?Sized>(&mut self, fold: &F) -> Option<Next> {
        if self.running.is_none() && self.checkpoint_is_due() {
            self.begin_checkpoint();
        }
        self.running.as_ref()?;
        match self.checkpoint_slice(fold) {
            Slice::Wrote(bytes) => {
                self.allowance.spend(bytes);
                Some(Next::Again)
            }
            // Compaction meanwhile; it can help where there was no room.
            Slice::Waiting => None,
            Slice::Abandoned => None,
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let segment_bytes = u64::from(self.geometry.segment_bytes);
        let last = self.standing[0]
            .as_ref()
            .map_or(0, |standing| standing.pointer.bytes);
        let bound = self.options.checkpoint_bytes.unwrap_or_else(|| {
            let most = segment_bytes * u64::from(self.map.slots / 8).max(2);
            last.max(4 * segment_bytes).min(most)
        });
        let sealed = self
            .map
            .segments
            .range(self.needed_from..self.chain.segment);
        let mut sealed = sealed
            .map(|(_, segment)| segment)
            .filter(|segment| segment.class == Use::Chain);
        self.tail_bytes >= bound
            || self.renew
            || (self.is_pressed()
                && self.tail_bytes + self.tail_bytes_before > 0
                && sealed.next().is_some())
            || self.erasure_needs_checkpoint()
    }

    fn candidate(&self, pressed: bool) -> Option<u32> {
        let erased = self.map.segments.values().find(|segment| {
            self.erasure_is_due(segment.erase_ms)
                && self.can_be_emptied(segment)
                && self.live.of(segment.id).records > 0
        });
        erased
            .map(|segment| segment.id)
            .or_else(|| self.emptiest(pressed))
    }

    fn next_wipe(&mut self) -> Option<Work> {
        let segment = self.wipes.front().and_then(|&id| self.map.of(id))?;
        let at = self.geometry.slot_at(segment.slot);
        Some(Work::Wipe {
            segment: segment.id,
            at,
            len: self.geometry.segment_bytes,
        })
    }

    fn wiped(&mut self, segment: u32) {
        self.allowance.spend(u64::from(self.geometry.segment_bytes));
        if self.make_room(own::FRAME_MAX, 0).is_err() {
            return;
        }
        self.wipes.retain(|&id| id != segment);
        self.push_own(&Own::Wiped { id: segment });
        if let Some(segment) = self.map.segments.remove(&segment) {
            self.group().frees.push(segment.slot);
            self.map.clean(segment.slot);
        }
    }
}

impl Allowance {
    /// Until when there is nothing to spend.
    fn wait_ms(&mut self, bytes_per_s: u64, now_ms: u64) -> Option<u64> {
        if bytes_per_s == 0 {
            return None;
        }
        let rate = i64::try_from(bytes_per_s).unwrap_or(i64::MAX / 1000) / 1000;
        let rate = rate.max(1);
        let passed = i64::try_from(now_ms.saturating_sub(self.at_ms))
            .unwrap_or(i64::MAX)
            .min(1000);
        self.at_ms = now_ms;
        let full = self.bytes.max(rate * 100);
        self.bytes = (self.bytes + passed * rate).min(full);
        (self.bytes < 0).then(|| now_ms + (-self.bytes / rate).cast_unsigned() + 1)
    }

    /// What comes in earns background work its share, so that this keeps up.
    pub fn earn(&mut self, bytes: u64) {
        self.bytes = self
            .bytes
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX / 2) * 2);
    }

    fn spend(&mut self, bytes: u64) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX / 2);
    }
}

fn wipe(device: &dyn Device, at: u64, len: u32) -> io::Result<()> {
    write_zeros(device, at, len)?;
    device.sync()
}

fn write_zeros(device: &dyn Device, at: u64, len: u32) -> io::Result<()> {
    const PIECE: u32 = 1 << 20;
    let zeros = Buffer::zeroed(PIECE.min(len) as usize);
    for offset in (0..len).step_by(zeros.len()) {
        device.write_at(zeros.as_slice(), at + u64::from(offset))?;
    }
    Ok(())
}

/// The size of segment that suits a device.
pub(super) fn geometry_for(device: &dyn Device, wanted: Option<u32>) -> Geometry {
    let block = device
        .physical_block_bytes()
        .clamp(4096, 32768)
        .next_power_of_two();
    let segment_bytes = wanted.unwrap_or_else(|| {
        if device.grows() {
            return Geometry::SEGMENT_BYTES_DEFAULT;
        }
        // At least some sixty segments, so that the reserve stays a small part.
        let fitting = (device.len() / 64).max(1).ilog2();
        (1_u32 << fitting.min(31)).clamp(1 << 20, Geometry::SEGMENT_BYTES_DEFAULT)
    });
    Geometry {
        block,
        segment_bytes: segment_bytes.max(block * 8),
    }
}
