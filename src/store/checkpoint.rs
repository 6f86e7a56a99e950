//! Checkpoints: the state in slices, written while appends go on.
//!
//! A checkpoint begins at a boundary between two batches, the start of its
//! tail. It is complete when its root is durable and both superblocks name it.
//! It may hold what was appended meanwhile: recovery folds the whole tail over
//! it, and the last statement about a key decides.

use super::batch::AppendError;
use super::fold::{CheckpointItem, Cursor, Fold, Place, Record};
use super::format::{FLAG_PLACE, Use, frame_len, place_bytes, put_u32, u32_at};
use super::group::Extra;
use super::log::{Head, Log};
use super::own;
use super::segment::Segment;
use super::superblock::{Pointer, TailStart};

/// A complete checkpoint and the segments it lies in.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub pointer: Pointer,
    pub segments: Vec<u32>,
}

impl Standing {
    /// The checkpoint of a root with these runs.
    pub fn of(pointer: &Pointer, runs: &[Run]) -> Standing {
        let of_items = runs.iter().map(|run| run.segment);
        let mut segments: Vec<u32> = of_items.chain([pointer.segment]).collect();
        segments.dedup();
        Standing {
            pointer: *pointer,
            segments,
        }
    }
}

/// A checkpoint that is being written.
pub(super) struct Running {
    tail: TailStart,
    /// What [`Log::tail_bytes`] was when it was begun.
    tail_bytes: u64,
    begun_ms: u64,
    stage: Stage,
    runs: Vec<Run>,
    bytes: u64,
}

#[derive(Debug)]
enum Stage {
    Items(Option<Cursor>),
    Map {
        from: u32,
    },
    Root,
    /// Complete once this group is durable.
    Written {
        ticket: u64,
        root: Place,
        slot: u32,
    },
}

/// What a checkpoint holds in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub segment: u32,
    pub slot: u32,
    pub end: u32,
    pub frames: u32,
    /// The checksums of all its frames, in order.
    pub sum: u32,
}

impl Run {
    const BYTES: usize = 20;

    /// Takes the next frame's checksum into the sum.
    pub fn add(&mut self, crc: u32) {
        self.frames += 1;
        self.sum = self.sum.rotate_left(1) ^ crc;
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.segment, self.slot, self.end, self.frames, self.sum];
        for (index, field) in fields.into_iter().enumerate() {
            put_u32(&mut bytes, index * 4, field);
        }
        bytes
    }

    /// The runs that a root names.
    pub fn decode_all(root: &[u8]) -> Vec<Run> {
        let (runs, _) = root.as_chunks::<{ Self::BYTES }>();
        let field = |bytes: &[u8], index: usize| u32_at(bytes, index * 4);
        runs.iter()
            .map(|bytes| Run {
                segment: field(bytes, 0),
                slot: field(bytes, 1),
                end: field(bytes, 2),
                frames: field(bytes, 3),
                sum: field(bytes, 4),
            })
            .collect()
    }
}

/// What came of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// This many bytes were added; there is more to do.
    Wrote(u64),
    /// It waits for its root to become durable.
    Waiting,
    /// There was no room for it; it was given up.
    Abandoned,
}

impl Log {
    /// Whether a checkpoint is being written.
    pub fn checkpoint_is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Begins a checkpoint, unless one is being written.
    pub fn begin_checkpoint(&mut self) {
        if self.running.is_some()
            || self.poisoned.is_some()
            || self.closing
            || self.options.read_only
        {
            return;
        }
        self.seal();
        let tail = self.tail_start();
        self.heads.remove(&Head::CHECKPOINT);
        self.running = Some(Running {
            tail,
            tail_bytes: self.tail_bytes,
            begun_ms: self.now_ms,
            stage: Stage::Items(None),
            runs: Vec::new(),
            bytes: 0,
        });
    }

    /// The point that the chain has reached; no group is open.
    fn tail_start(&self) -> TailStart {
        let chain = self.chain;
        TailStart {
            segment: chain.segment,
            slot: chain.slot,
            offset: chain.offset,
            next: chain.next,
            previous: chain.previous,
            number: chain.number,
            seq_next: self.seq_next,
            position: self.position,
            id_next: self.map.id_next,
        }
    }

    /// Writes the next slice of the running checkpoint.
    pub(super) fn checkpoint_slice<F: Fold + ?Sized>(&mut self, fold: &F) -> Slice {
        let Some(mut running) = self.running.take() else {
            return Slice::Waiting;
        };
        let before = running.bytes;
        let stage = std::mem::replace(&mut running.stage, Stage::Root);
        let next = match stage {
            Stage::Items(cursor) => self.items_slice(fold, cursor, &mut running),
            Stage::Map { from } => self.map_slice(from, &mut running),
            Stage::Root => self.root_slice(&mut running),
            written @ Stage::Written { .. } => {
                running.stage = written;
                self.running = Some(running);
                return Slice::Waiting;
            }
        };
        match next {
            Ok(stage) => {
                running.stage = stage;
                let wrote = running.bytes - before;
                self.running = Some(running);
                Slice::Wrote(wrote)
            }
            Err(_) => {
                self.heads.remove(&Head::CHECKPOINT);
                Slice::Abandoned
            }
        }
    }

    /// Gives up the running checkpoint; its segments are freed like any that
    /// nothing refers to.
    pub(super) fn abandon_checkpoint(&mut self) {
        self.running = None;
        self.heads.remove(&Head::CHECKPOINT);
    }

    /// The group with this ticket is durable; perhaps that of the root.
    pub(super) fn checkpoint_is_durable(&mut self, durable: u64) {
        let Some(running) = &self.running else { return };
        let Stage::Written { ticket, root, slot } = running.stage else {
            return;
        };
        if ticket > durable {
            return;
        }
        let pointer = Pointer {
            segment: root.segment,
            slot,
            offset: root.offset,
            len: root.len,
            bytes: running.bytes,
            begun_ms: running.begun_ms,
            complete_ms: self.now_ms,
            tail: running.tail,
        };
        let complete = Standing::of(&pointer, &running.runs);
        self.tail_bytes -= running.tail_bytes;
        self.tail_bytes_before = running.tail_bytes;
        let [newest, _] = std::mem::take(&mut self.standing);
        if newest.is_some() {
            self.genesis = None;
        }
        self.standing = [Some(complete), newest];
        self.running = None;
        self.heads.remove(&Head::CHECKPOINT);
        self.superblock_due = true;
        self.renew = false;
    }

    /// Segments that a standing or running checkpoint lies in.
    pub(super) fn checkpoint_segments(&self) -> impl Iterator<Item = u32> + '_ {
        let standing = self
            .standing
            .iter()
            .flatten()
            .flat_map(|standing| standing.segments.iter().copied());
        let running = self
            .running
            .iter()
            .flat_map(|running| running.runs.iter().map(|run| run.segment));
        standing
            .chain(running)
            .chain(self.heads.get(&Head::CHECKPOINT).copied())
    }

    fn items_slice<F: Fold + ?Sized>(
        &mut self,
        fold: &F,
        cursor: Option<Cursor>,
        running: &mut Running,
    ) -> Result<Stage, AppendError> {
        let budget = self
            .options
            .slice_bytes
            .min(self.geometry.group_bytes_max() / 4);
        let mut outcome = Ok(());
        let next = fold.checkpoint(cursor, budget, &mut |item: CheckpointItem<'_>| {
            if outcome.is_ok() {
                let head = item.place.map(place_bytes);
                let flags = if head.is_some() { FLAG_PLACE } else { 0 };
                let head = head.as_ref().map_or(&[][..], |head| &head[..]);
                outcome = self
                    .push_item(&item.record, Extra { flags, head }, running)
                    .map(|_| ());
            }
        });
        outcome?;
        Ok(next.map_or(Stage::Map { from: 0 }, |cursor| Stage::Items(Some(cursor))))
    }

    fn map_slice(&mut self, from: u32, running: &mut Running) -> Result<Stage, AppendError> {
        const ENTRIES: usize = 256;
        if from == 0 {
            self.push_lost(running)?;
            self.push_sweep(running)?;
        }
        let segments: Vec<&Segment> = self
            .map
            .segments
            .range(from..)
            .map(|(_, segment)| segment)
            .take(ENTRIES)
            .collect();
        let next = segments.last().map_or(u32::MAX, |segment| segment.id + 1);
        let more = self.map.segments.range(next..).next().is_some();
        let body: Vec<u8> = segments
            .iter()
            .flat_map(|segment| segment.encode())
            .collect();
        let record = Record {
            kind: own::MAP,
            version: own::VERSION,
            seq: 0,
            body: &body,
            payload: &[],
        };
        self.push_item(&record, Extra::default(), running)?;
        Ok(if more {
            Stage::Map { from: next }
        } else {
            Stage::Root
        })
    }

    fn push_lost(&mut self, running: &mut Running) -> Result<(), AppendError> {
        for lost in self.lost.clone() {
            let (body, names) = lost.encode();
            let record = Record {
                kind: own::LOST,
                version: own::VERSION,
                seq: 0,
                body: &body,
                payload: names.as_bytes(),
            };
            self.push_item(&record, Extra::default(), running)?;
        }
        Ok(())
    }

    /// That free slots are to be overwritten. The record that asked for it may
    /// lie in front of the tail.
    fn push_sweep(&mut self, running: &mut Running) -> Result<(), AppendError> {
        if self.map.sweep_ms == 0 {
            return Ok(());
        }
        let record = Record {
            kind: own::SWEEP,
            version: own::VERSION,
            seq: 0,
            body: &self.map.sweep_ms.to_le_bytes(),
            payload: &[],
        };
        self.push_item(&record, Extra::default(), running)?;
        Ok(())
    }

    fn root_slice(&mut self, running: &mut Running) -> Result<Stage, AppendError> {
        let body: Vec<u8> = running.runs.iter().flat_map(Run::encode).collect();
        let record = Record {
            kind: own::ROOT,
            version: own::VERSION,
            seq: 0,
            body: &body,
            payload: &[],
        };
        let runs = running.runs.clone();
        let root = self.push_item(&record, Extra::default(), running)?;
        running.runs = runs;
        let slot = self
            .map
            .of(root.segment)
            .expect("the root was just written")
            .slot;
        Ok(Stage::Written {
            ticket: self.ticket,
            root,
            slot,
        })
    }

    fn push_item(
        &mut self,
        record: &Record<'_>,
        extra: Extra<'_>,
        running: &mut Running,
    ) -> Result<Place, AppendError> {
        let len = frame_len(extra.head.len() + record.body.len(), record.payload.len());
        if len > self.batch_bytes_max() {
            return Err(AppendError::TooBig {
                bytes: len,
                bytes_max: self.batch_bytes_max(),
            });
        }
        self.make_room(own::FRAME_MAX, len)?;
        if self.map.available() <= Self::ROLL_RESERVE {
            return Err(AppendError::Full);
        }
        let id = self
            .head_with_room(Head::CHECKPOINT, len)
            .ok_or(AppendError::Full)?;
        let header = self.header_of(id, Head::CHECKPOINT);
        let segment = self.map.of(id).expect("a head is a segment in use");
        let (slot, end, salt, geometry) = (segment.slot, segment.end, self.salt, self.geometry);
        debug_assert_eq!(segment.class, Use::Checkpoint);
        let part = self.group().part(&header, slot, end, salt, geometry);
        let place = part.push(record, extra, salt);
        let (end, crc) = (part.end(), part.last());
        self.map.extend(id, end);
        if running.runs.last().is_none_or(|run| run.segment != id) {
            running.runs.push(Run {
                segment: id,
                slot,
                ..Run::default()
            });
        }
        let run = running.runs.last_mut().expect("one was just pushed");
        run.add(crc);
        run.end = end;
        running.bytes += u64::from(place.len);
        Ok(place)
    }
}
