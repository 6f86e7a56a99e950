//! Reports: how the store is doing, and whether all of it can be read.

use std::ops::RangeInclusive;

use super::disk::Device;
use super::fold::{Cursor, Fold, Place};
use super::format::{
    BATCH_HEADER, BatchHeader, Geometry, SUPERBLOCKS_AT, Salt, SegmentHeader, Use,
};
use super::log::{Identity, Log};
use super::read::Read;
use super::report::{Damage, DamageKind, name_hits};
use super::superblock::{Found, Superblock};
use super::walk::{Step, Walk, Window};

/// How the store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub identity: Identity,
    /// The format in which it is written.
    pub format: u16,
    /// Its sizes.
    pub geometry: Geometry,
    /// How often it has been opened for writing.
    pub epoch: u64,
    /// Position of the last append.
    pub position: u64,
    /// Position up to which everything is durable.
    pub durable: u64,
    /// Bytes that wait to be written.
    pub backlog_bytes: usize,
    /// Segments of the device.
    pub segments: u32,
    /// Of them, free.
    pub segments_free: u32,
    /// Segments that an ordinary append never takes.
    pub segments_reserved: u32,
    /// What the segments in use are used for.
    pub classes: Vec<ClassStat>,
    /// Bytes that recovery would have to follow behind the newest checkpoint.
    pub tail_bytes: u64,
    /// When the newest checkpoint was begun and complete, and its size.
    pub checkpoint: Option<CheckpointStat>,
    /// Whether another is being written.
    pub checkpoint_is_running: bool,
    /// What is to be overwritten.
    pub erasure: Option<ErasureStat>,
    /// Segments of which a part cannot be read and is still referred to.
    pub segments_damaged: u32,
    /// Whether new records are refused.
    pub is_full: bool,
    /// Why nothing is acknowledged any more, if so.
    pub failure: Option<String>,
}

/// The segments of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassStat {
    /// The class.
    pub class: Use,
    /// How many segments.
    pub segments: u32,
    /// Bytes written into them.
    pub bytes: u64,
    /// Bytes of records that the state refers to.
    pub bytes_live: u64,
    /// How many records these are.
    pub records_live: u64,
}

/// A checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointStat {
    /// When it was begun.
    pub begun_ms: u64,
    /// When it was complete.
    pub complete_ms: u64,
    /// Its size.
    pub bytes: u64,
}

/// What has been removed for good and may still be readable on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureStat {
    /// The oldest request.
    pub since_ms: u64,
    /// When it will have been served.
    pub until_ms: u64,
    /// Segments in use that are to be emptied and overwritten.
    pub segments: u32,
    /// Free segments that are to be overwritten.
    pub segments_free: u32,
}

/// Everything that is to be read to verify a log; read outside the lock.
#[derive(Debug)]
pub struct Verifier {
    reads: RangeInclusive<u16>,
    geometry: Geometry,
    salt: Salt,
    segments: Vec<Part>,
    needed_from: u32,
    lost: Vec<Damage>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    id: u32,
    slot: u32,
    class: Use,
    end: u32,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Batches of the chain that verify.
    pub batches: u64,
    /// Records that verify, of the log's own too.
    pub records: u64,
    /// Records that the state refers to, and that were read at their place.
    pub records_held: u64,
    /// Superblocks that verify, of two.
    pub superblocks: u8,
    /// What does not.
    pub damage: Vec<Damage>,
}

impl Verification {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.superblocks == 2
    }
}

impl Log {
    /// How the store is doing.
    pub fn stat(&self) -> Stat {
        let checkpoint = self.standing[0].as_ref().map(|standing| CheckpointStat {
            begun_ms: standing.pointer.begun_ms,
            complete_ms: standing.pointer.complete_ms,
            bytes: standing.pointer.bytes,
        });
        let damaged = self.map.segments.values().filter(|segment| segment.damaged);
        Stat {
            identity: self.identity,
            format: self.format,
            geometry: self.geometry,
            epoch: self.epoch,
            position: self.position,
            durable: self.durable,
            backlog_bytes: self.backlog_bytes(),
            segments: self.map.slots,
            segments_free: self.map.available(),
            segments_reserved: self.reserve_ordinary(),
            classes: self.class_stats(),
            tail_bytes: self.tail_bytes,
            checkpoint,
            checkpoint_is_running: self.running.is_some(),
            erasure: self.erasure_stat(),
            segments_damaged: damaged.count() as u32,
            is_full: self.map.available() < self.reserve_ordinary(),
            failure: self.poisoned.clone(),
        }
    }

    fn class_stats(&self) -> Vec<ClassStat> {
        let classes = [
            Use::Chain,
            Use::Kept,
            Use::Archive,
            Use::Blob,
            Use::Checkpoint,
            Use::Wiping,
        ];
        let stat = |class: Use| {
            let mut stat = ClassStat {
                class,
                segments: 0,
                bytes: 0,
                bytes_live: 0,
                records_live: 0,
            };
            for segment in self
                .map
                .segments
                .values()
                .filter(|segment| segment.class == class)
            {
                let held = self.live.of(segment.id);
                stat.segments += 1;
                stat.bytes += u64::from(segment.end);
                stat.bytes_live += held.bytes;
                stat.records_live += held.records;
            }
            stat
        };
        classes
            .into_iter()
            .map(stat)
            .filter(|stat| stat.segments > 0)
            .collect()
    }

    fn erasure_stat(&self) -> Option<ErasureStat> {
        let marked = self
            .map
            .segments
            .values()
            .filter(|segment| segment.erase_ms > 0);
        let since_ms = marked
            .clone()
            .map(|segment| segment.erase_ms)
            .chain([self.map.sweep_ms].into_iter().filter(|&ms| ms > 0))
            .min()?;
        Some(ErasureStat {
            since_ms,
            until_ms: since_ms.saturating_add(self.options.erase_within_ms),
            segments: marked.count() as u32,
            segments_free: self.map.sweep_left() as u32,
        })
    }

    /// What is to be read to verify everything.
    pub fn verifier(&self) -> Verifier {
        let segments = self
            .map
            .segments
            .values()
            .filter(|segment| segment.class != Use::Wiping && segment.end > 0);
        // What still waits to be written is not read.
        let written = |id: u32, end: u32| self.written_end(id).map_or(end, |from| end.min(from));
        Verifier {
            reads: self.options.formats.reads.clone(),
            geometry: self.geometry,
            salt: self.salt,
            segments: segments
                .map(|segment| {
                    let end = written(segment.id, segment.end);
                    Part {
                        id: segment.id,
                        slot: segment.slot,
                        class: segment.class,
                        end,
                    }
                })
                .collect(),
            needed_from: self.needed_from,
            lost: self.lost.iter().map(|lost| lost.damage.clone()).collect(),
        }
    }

    /// From where a segment's content still waits to be written; `None` when
    /// all of it is.
    pub(super) fn written_end(&self, id: u32) -> Option<u32> {
        let sealed = self.sealed.iter().flat_map(|group| &group.writes);
        let waiting = sealed.chain(self.flying.iter().flat_map(super::commit::Flying::blocks));
        let waiting = waiting
            .filter(|blocks| blocks.segment == id)
            .map(|blocks| blocks.base);
        waiting
            .chain(self.open.iter().filter_map(|group| group.base_of(id)))
            .min()
    }

    /// The next records that the state refers to, to be read one by one.
    pub fn places<F: Fold + ?Sized>(
        &self,
        fold: &F,
        cursor: Option<Cursor>,
    ) -> (Vec<(Place, Read)>, Option<Cursor>) {
        const SLICE_BYTES: usize = 64 << 10;
        let mut places = Vec::new();
        let next = fold.checkpoint(cursor, SLICE_BYTES, &mut |item| places.extend(item.place));
        places.sort_unstable();
        (
            places
                .into_iter()
                .map(|place| (place, self.fetch(place)))
                .collect(),
            next,
        )
    }

    /// Drops from a report what is not in use any more, and adds whose records
    /// were hit.
    pub fn confirm<F: Fold + ?Sized>(&self, fold: &F, report: &mut Verification) {
        let is_lost = |damage: &Damage| self.lost.iter().any(|lost| lost.damage == *damage);
        report
            .damage
            .retain(|damage| self.map.of(damage.segment).is_some() || is_lost(damage));
        name_hits(fold, &mut report.damage);
    }

    /// Verifies everything at once, of a log that nobody else uses.
    pub fn verify<F: Fold + ?Sized>(&self, fold: &F, device: &dyn Device) -> Verification {
        let mut report = self.verifier().run(device);
        let mut cursor = None;
        loop {
            let (places, next) = self.places(fold, cursor);
            for (place, read) in places {
                report.take(place, read.perform(device).is_ok());
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        self.confirm(fold, &mut report);
        report
    }
}

impl Verification {
    /// Takes note of damage, unless recovery knew of it.
    fn add(&mut self, damage: Damage, block: u32) {
        let known = self.damage.iter().any(|known| {
            // What was noted in the log is anybody's number.
            let until = known.until.checked_next_multiple_of(block);
            known.segment == damage.segment
                && known.from <= damage.from
                && until.is_none_or(|until| damage.until <= until)
        });
        if !known {
            self.damage.push(damage);
        }
    }

    /// Takes note of a record that the state refers to.
    pub fn take(&mut self, place: Place, readable: bool) {
        self.records_held += 1;
        if readable || self.damage.iter().any(|damage| damage.covers(place)) {
            return;
        }
        let until = place.offset + place.len;
        self.damage.push(Damage::of(
            DamageKind::Records,
            place.segment,
            place.offset,
            until,
        ));
    }
}

impl Verifier {
    /// Reads everything.
    pub fn run(&self, device: &dyn Device) -> Verification {
        let mut report = Verification {
            damage: self.lost.clone(),
            ..Verification::default()
        };
        for at in SUPERBLOCKS_AT {
            let mut block = super::buffer::Buffer::zeroed(super::buffer::ALIGN);
            let read = device.read_at(block.as_mut_slice(), at);
            let whole = read.is_ok()
                && matches!(
                    Superblock::decode(block.as_slice(), &self.reads),
                    Found::Superblock(_)
                );
            report.superblocks += u8::from(whole);
        }
        let mut last = None;
        for part in &self.segments {
            self.segment(device, part, &mut last, &mut report);
        }
        report
    }

    fn segment(
        &self,
        device: &dyn Device,
        part: &Part,
        last: &mut Option<Last>,
        report: &mut Verification,
    ) {
        report.segments += 1;
        report.bytes += u64::from(part.end);
        let block = self.geometry.block;
        let mut window = Window::new(device, self.geometry, part.slot);
        let header =
            SegmentHeader::decode(window.bytes(0, self.geometry.block as usize), self.salt);
        if header.is_none_or(|header| header.id != part.id || header.class != part.class)
            && part.end > 0
        {
            report.add(part.damage(0, block), block);
        }
        let place = (part.id, part.slot);
        let mut walk = Walk::new(
            device,
            self.geometry,
            self.salt,
            place,
            self.geometry.block,
            part.end,
        );
        loop {
            match walk.step() {
                Step::Frame(_) => report.records += 1,
                Step::Batch(header) => {
                    let offset = walk.offset() - BATCH_HEADER as u32;
                    report.batches += 1;
                    let gap = last.and_then(|last| self.gap(&last, part, offset, &header));
                    if let Some(gap) = gap {
                        report.add(gap, block);
                    }
                    *last = Some(Last {
                        header,
                        end: offset + self.geometry.padded(header.len),
                    });
                }
                Step::Bad { from, until } => report.add(part.damage(from, until), block),
                Step::End => return,
            }
        }
    }
}

/// The batch before the one at hand, and where it ends.
#[derive(Clone, Copy, Debug)]
struct Last {
    header: BatchHeader,
    end: u32,
}

impl Verifier {
    /// What is missing between two batches, if anything is.
    fn gap(&self, last: &Last, part: &Part, offset: u32, behind: &BatchHeader) -> Option<Damage> {
        let before = &last.header;
        // Segments in between may have been given back.
        let is_next = before.segment == part.id || before.next.segment == part.id;
        let follows = behind.number == before.number + 1 && behind.previous == before.crc;
        if part.id < self.needed_from || !is_next || follows {
            return None;
        }
        if behind.number <= before.number + 1 {
            return Some(part.damage(offset, offset + self.geometry.block));
        }
        let missing = (before.number + 1, behind.number - 1);
        if self.is_lost(missing) {
            return None;
        }
        let until = if before.segment == part.id {
            offset
        } else {
            self.geometry.segment_bytes
        };
        let damage = Damage::of(DamageKind::Chain, before.segment, last.end, until);
        Some(Damage {
            batches: Some(missing),
            between_ms: (Some(before.time_ms), Some(behind.time_ms)),
            ..damage
        })
    }

    /// Whether recovery knows that these batches are missing.
    fn is_lost(&self, (first, last): (u64, u64)) -> bool {
        let batches = self.lost.iter().filter_map(|lost| lost.batches);
        batches
            .into_iter()
            .any(|lost| lost.0 <= first && last <= lost.1)
    }
}

impl Part {
    fn damage(&self, from: u32, until: u32) -> Damage {
        let kind = match self.class {
            Use::Chain => DamageKind::Chain,
            Use::Checkpoint => DamageKind::Checkpoint,
            _ => DamageKind::Records,
        };
        Damage::of(kind, self.id, from, until)
    }
}
