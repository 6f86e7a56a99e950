//! Following the chain from a point on, batch by batch, and folding it.

use std::collections::HashMap;

use super::disk::Device;
use super::fold::{Fold, Live, Place, Record, Unreadable};
use super::format::{
    BATCH_HEADER, BatchHeader, Geometry, Salt, Successor, Use, decode_frame, record_of,
};
use super::lost::Lost;
use super::own::{Extent, Freed, Own};
use super::report::{Damage, DamageKind, OpenError, Recovery};
use super::segment::{Map, Segment};
use super::superblock::{Superblock, TailStart};
use super::walk::Window;

/// Reads the chain and folds it.
pub(super) struct Replay<'d, 'f, F: Fold + ?Sized> {
    pub device: &'d dyn Device,
    pub geometry: Geometry,
    pub salt: Salt,
    pub fold: &'f mut F,
    pub live: Live,
    pub map: Map,
    pub at: At,
    /// Batches from this one on count only when this epoch or a later one
    /// wrote them.
    pub epoch_batch: u64,
    pub epoch: u64,
    /// Up to this batch, what is missing is damage.
    pub durable_batch: u64,
    pub report: Recovery,
    /// What was lost before, as the checkpoint says.
    pub lost: Vec<Lost>,
    pub tail_bytes: u64,
    /// Nothing can lie behind the last durable batch.
    pub clean: bool,
    /// An end that does not read is passed as damage.
    pub salvage: bool,
    /// Segments that the batch at hand announces.
    announced: Vec<(u32, u32)>,
    windows: HashMap<u32, Window<'d>>,
    suspects: Vec<Damage>,
    frames: Vec<Place>,
}

/// A point of the chain and what must come there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At {
    pub segment: u32,
    pub slot: u32,
    pub offset: u32,
    pub next: Successor,
    /// `None` behind damage, where the chain cannot be checked.
    pub previous: Option<u32>,
    pub number: u64,
    pub epoch: u64,
    pub time_ms: u64,
    pub seq_next: u64,
    pub position: u64,
    /// The rest of the segment is damaged and stays as it is.
    pub leave: bool,
}

impl At {
    fn of(tail: &TailStart) -> At {
        At {
            segment: tail.segment,
            slot: tail.slot,
            offset: tail.offset,
            next: tail.next,
            previous: Some(tail.previous),
            number: tail.number,
            epoch: 0,
            time_ms: 0,
            seq_next: tail.seq_next,
            position: tail.position,
            leave: false,
        }
    }
}

/// A batch header that verifies, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub header: BatchHeader,
    pub slot: u32,
    pub offset: u32,
}

impl<'d, 'f, F: Fold + ?Sized> Replay<'d, 'f, F> {
    pub fn new(device: &'d dyn Device, fold: &'f mut F, superblock: &Superblock) -> Self {
        Replay {
            device,
            geometry: superblock.geometry,
            salt: Salt::new(superblock.salt),
            fold,
            live: Live::default(),
            map: Map::default(),
            at: At::default(),
            epoch_batch: superblock.epoch_batch,
            epoch: superblock.epoch,
            durable_batch: superblock.durable_batch,
            report: Recovery::default(),
            lost: Vec::new(),
            tail_bytes: 0,
            clean: superblock.clean,
            salvage: false,
            announced: Vec::new(),
            windows: HashMap::new(),
            suspects: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// The chain is to be followed from there.
    pub fn begin(&mut self, tail: &TailStart) {
        self.at = At::of(tail);
        self.map.id_next = self.map.id_next.max(tail.id_next);
    }

    /// Folds everything from where it is to the end of the chain.
    pub fn run(&mut self) -> Result<(), OpenError> {
        self.enter(self.at.segment, self.at.slot);
        self.enter(self.at.next.segment, self.at.next.slot);
        loop {
            let found = self.expected();
            let whole = found.filter(|found| self.frames_verify(found));
            if let Some(found) = whole
                && (self.is_followed(&found)
                    || self.is_durable(&found)
                    || self.extents_verify(&found))
            {
                self.take(&found)?;
                continue;
            }
            match (self.later(), whole) {
                // It was durable once; only what it names elsewhere is damaged.
                (Some(_), Some(found)) => self.take(&found)?,
                (Some(later), None) => self.skip_damage(&later),
                (None, whole) => match self.unreadable_end(whole.as_ref()) {
                    None => {
                        self.end_of_chain();
                        break;
                    }
                    Some(why) if !self.salvage => return Err(OpenError::Unreadable(why)),
                    Some(_) => {
                        self.report.salvaged = true;
                        let Some(found) = whole else {
                            self.pass_unreadable_end();
                            break;
                        };
                        self.take(&found)?;
                    }
                },
            }
        }
        self.report.damage.append(&mut self.suspects);
        Ok(())
    }

    /// The header of the next batch, here or at the start of the next segment.
    ///
    /// There may be two: a batch that an earlier opening dropped, and the one
    /// that has its number since and went to the other place. The later opening
    /// knew of both.
    pub fn expected(&mut self) -> Option<Found> {
        let here = (
            self.at.segment,
            self.at.slot,
            self.at.offset.max(self.geometry.block),
        );
        let there = (self.at.next.segment, self.at.next.slot, self.geometry.block);
        let (number, previous) = (self.at.number, self.at.previous);
        let found = [there, here].map(|(segment, slot, offset)| {
            self.header_at(segment, slot, offset).filter(|found| {
                found.header.number == number
                    && previous.is_none_or(|previous| previous == found.header.previous)
            })
        });
        found
            .into_iter()
            .flatten()
            .max_by_key(|found| found.header.epoch)
    }

    /// A batch header at `offset` that is not of a dropped past.
    pub fn header_at(&mut self, segment: u32, slot: u32, offset: u32) -> Option<Found> {
        let end = u64::from(offset) + BATCH_HEADER as u64;
        if slot >= self.map.slots || end > u64::from(self.geometry.segment_bytes) {
            return None;
        }
        let salt = self.salt;
        let bytes = self.window(slot).bytes(offset, BATCH_HEADER);
        let header = BatchHeader::decode(bytes, salt, segment, offset)?;
        let dropped = header.number >= self.epoch_batch && header.epoch < self.epoch;
        let fits = header.len <= self.geometry.segment_bytes - offset;
        (!dropped && fits && header.epoch >= self.at.epoch).then_some(Found {
            header,
            slot,
            offset,
        })
    }

    /// Whether all its frames verify; remembers where they are.
    fn frames_verify(&mut self, found: &Found) -> bool {
        let Found {
            header,
            slot,
            offset,
        } = *found;
        let salt = self.salt;
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        let bytes = self.window(slot).bytes(offset, header.len as usize);
        let (mut at, mut chain) = (BATCH_HEADER, header.previous);
        while at < bytes.len() {
            let frame = decode_frame(&bytes[at..], salt, header.segment, offset + at as u32);
            let Some(frame) = frame.filter(|frame| frame.chain == chain) else {
                break;
            };
            chain = frame.crc;
            at += frame.bytes.len();
            frames.push(frame.place);
        }
        let whole =
            at == bytes.len() && chain == header.last && frames.len() == header.frames as usize;
        self.frames = frames;
        whole
    }

    /// Whether a batch behind it proves that it was durable.
    fn is_followed(&mut self, found: &Found) -> bool {
        let Found {
            header,
            slot,
            offset,
        } = *found;
        let end = offset + self.geometry.padded(header.len);
        let (next, block) = (header.next, self.geometry.block);
        let places = [
            (header.segment, slot, end),
            (next.segment, next.slot, block),
        ];
        places.into_iter().any(|(segment, slot, offset)| {
            self.header_at(segment, slot, offset).is_some_and(|next| {
                next.header.previous == header.crc
                    && next.header.number == header.number.saturating_add(1)
            })
        })
    }

    fn is_durable(&self, found: &Found) -> bool {
        found.header.number <= self.durable_batch
    }

    /// Whether everything verifies that a batch names elsewhere.
    fn extents_verify(&mut self, found: &Found) -> bool {
        let extents = self.extents(found);
        extents
            .iter()
            .all(|extent| self.extent_bytes(extent).is_some())
    }

    pub(super) fn extents(&mut self, found: &Found) -> Vec<Extent> {
        let frames = std::mem::take(&mut self.frames);
        let bytes = self
            .window(found.slot)
            .bytes(found.offset, found.header.len as usize);
        let records = frames
            .iter()
            .map(|place| record_in(bytes, found.offset, *place));
        let (mut extents, mut announced) = (Vec::new(), Vec::new());
        for record in records {
            match Own::decode(&record) {
                Some(Own::Extent(extent)) => extents.push(extent),
                Some(Own::Opened { id, slot, .. }) => announced.push((id, slot)),
                _ => {}
            }
        }
        self.frames = frames;
        self.announced = announced;
        extents
    }

    /// The bytes of an extent, if all its frames verify.
    fn extent_bytes(&mut self, extent: &Extent) -> Option<Vec<u8>> {
        // Announced in the same batch perhaps, so not in the map yet: then its
        // slot is only known once the batch is taken.
        let slot = self.slot_of(extent.segment)?;
        if u64::from(extent.offset) + u64::from(extent.len) > u64::from(self.geometry.segment_bytes)
        {
            return None;
        }
        let salt = self.salt;
        let bytes = self.window(slot).bytes(extent.offset, extent.len as usize);
        let (mut at, mut chain, mut frames) = (0, extent.chain, 0);
        while at < bytes.len() {
            let frame = decode_frame(
                &bytes[at..],
                salt,
                extent.segment,
                extent.offset + at as u32,
            )?;
            if frame.chain != chain {
                return None;
            }
            chain = frame.crc;
            at += frame.bytes.len();
            frames += 1;
        }
        (chain == extent.last && frames == extent.frames).then(|| bytes.to_vec())
    }

    /// The slot of a segment: of the map, or announced in the batch at hand.
    pub(super) fn slot_of(&mut self, segment: u32) -> Option<u32> {
        let known = self.map.of(segment).map(|segment| segment.slot);
        let announced = self
            .announced
            .iter()
            .find(|(id, _)| *id == segment)
            .map(|(_, slot)| *slot);
        known.or(announced).filter(|slot| *slot < self.map.slots)
    }

    /// Folds a batch and goes on behind it.
    fn take(&mut self, found: &Found) -> Result<(), Unreadable> {
        let Found {
            header,
            slot,
            offset,
        } = *found;
        let padded = self.geometry.padded(header.len);
        let records = self.report.records;
        if header.segment != self.at.segment {
            self.enter(header.segment, slot);
        }
        self.enter(header.next.segment, header.next.slot);
        self.map.extend(header.segment, offset + padded);
        let frames = std::mem::take(&mut self.frames);
        let bytes = self
            .window(slot)
            .bytes(offset, header.len as usize)
            .to_vec();
        for place in &frames {
            let record = record_in(&bytes, offset, *place);
            if record.kind > Record::KIND_MAX {
                self.take_own(&record, &header)?;
            } else {
                self.fold_one(&record, *place)?;
            }
        }
        self.frames = frames;
        self.at = At {
            segment: header.segment,
            slot,
            offset: offset + padded,
            next: header.next,
            previous: Some(header.crc),
            number: header.number.saturating_add(1),
            epoch: header.epoch,
            time_ms: header.time_ms,
            seq_next: header.seq_next.max(self.at.seq_next),
            position: header.position.max(self.at.position),
            leave: false,
        };
        self.tail_bytes += if self.report.records > records {
            u64::from(padded)
        } else {
            0
        };
        self.report.batches += 1;
        Ok(())
    }

    pub fn fold_one(&mut self, record: &Record<'_>, place: Place) -> Result<(), Unreadable> {
        self.report.records += 1;
        match self.fold.apply(record, place, &mut self.live) {
            Err(Unreadable::Invalid { .. }) => self.report.invalid += 1,
            other => other?,
        }
        for segment in self.live.take_erased() {
            self.map.erase(segment, self.at.time_ms);
        }
        Ok(())
    }

    fn take_own(&mut self, record: &Record<'_>, header: &BatchHeader) -> Result<(), Unreadable> {
        let Some(own) = Own::decode(record) else {
            let Record { kind, version, .. } = *record;
            return Err(Unreadable::Newer { kind, version });
        };
        match own {
            Own::Opened {
                id,
                slot,
                class,
                packed,
                bucket,
                erase_ms,
            } => {
                let fresh = Segment {
                    id,
                    slot,
                    class,
                    packed,
                    bucket,
                    end: 0,
                    erase_ms,
                    damaged: false,
                };
                self.map.id_next = self.map.id_next.max(id.saturating_add(1));
                self.map.segments.entry(id).or_insert(fresh);
            }
            Own::Freed { id, why } => {
                self.suspects.retain(|suspect| suspect.segment != id);
                match why {
                    Freed::Wipe => {
                        if let Some(segment) = self.map.segments.get_mut(&id) {
                            segment.class = Use::Wiping;
                        }
                    }
                    Freed::Empty => {
                        self.map.segments.remove(&id);
                    }
                    Freed::Expired => {
                        self.fold.expired(id, &mut self.live);
                        self.live.forget(id);
                        self.map.segments.remove(&id);
                    }
                }
            }
            Own::Extent(extent) => self.take_extent(&extent, header)?,
            Own::Erase { before, at_ms } => {
                let Geometry {
                    segment_bytes,
                    block,
                } = self.geometry;
                let heads: Vec<u32> = self
                    .map
                    .unfilled(segment_bytes, block)
                    .into_values()
                    .collect();
                self.map.erase_inline(before, &heads, at_ms);
                self.map.sweep_since(at_ms);
            }
            Own::Wiped { id } => {
                self.map.segments.remove(&id);
            }
        }
        Ok(())
    }

    fn take_extent(&mut self, extent: &Extent, header: &BatchHeader) -> Result<(), Unreadable> {
        let end = extent.offset.saturating_add(extent.len);
        self.map.extend(
            extent.segment,
            self.geometry.padded(end.min(self.geometry.segment_bytes)),
        );
        if self
            .map
            .of(extent.segment)
            .is_none_or(|segment| segment.class == Use::Wiping)
        {
            // Retired since.
            return Ok(());
        }
        let Some(bytes) = self.extent_bytes(extent) else {
            // Retired later in the chain, or damaged: the end will tell.
            let damage = Damage::of(DamageKind::Records, extent.segment, extent.offset, end);
            let slot = self.slot_of(extent.segment).unwrap_or(self.map.slots);
            self.suspects.push(Damage {
                hit: self.describe_within((extent.segment, slot), extent.offset, end),
                batches: Some((header.number, header.number)),
                between_ms: (Some(header.time_ms), Some(header.time_ms)),
                ..damage
            });
            return Ok(());
        };
        let mut at = 0;
        while at < bytes.len() {
            let record = record_of(&bytes[at..]);
            let len = super::format::frame_len(record.body.len(), record.payload.len());
            let offset = extent.offset + at as u32;
            self.fold_one(
                &record,
                Place {
                    segment: extent.segment,
                    offset,
                    len: len as u32,
                },
            )?;
            at += len;
        }
        Ok(())
    }

    /// A chain segment comes into use. Where the chain has it counts for more than a segment header
    /// that was found elsewhere: what is appended goes there.
    pub fn enter(&mut self, id: u32, slot: u32) {
        self.map.id_next = self.map.id_next.max(id.saturating_add(1));
        // A slot that was to be overwritten passes that on; no record says of
        // this one that it was none.
        let erase_ms = self.map.sweep_ms;
        let segment = self.map.segments.entry(id).or_insert(Segment {
            id,
            slot,
            class: Use::Chain,
            packed: false,
            bucket: 0,
            end: 0,
            erase_ms,
            damaged: false,
        });
        if segment.class == Use::Chain {
            segment.slot = slot;
        }
    }

    pub(super) fn window(&mut self, slot: u32) -> &mut Window<'d> {
        const WINDOWS_MAX: usize = 6;
        if self.windows.len() >= WINDOWS_MAX && !self.windows.contains_key(&slot) {
            // Each batch asks for both of these.
            let chain = [self.at.slot, self.at.next.slot];
            let other = self
                .windows
                .keys()
                .copied()
                .find(|held| !chain.contains(held));
            other.map(|other| self.windows.remove(&other));
        }
        let (device, geometry) = (self.device, self.geometry);
        self.windows
            .entry(slot)
            .or_insert_with(|| Window::new(device, geometry, slot))
    }
}

fn record_in(batch: &[u8], offset: u32, place: Place) -> Record<'_> {
    let from = (place.offset - offset) as usize;
    record_of(&batch[from..from + place.len as usize])
}
