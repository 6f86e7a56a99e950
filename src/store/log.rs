//! The log: appends, reads, and what the rest of the engine shares.
//!
//! The caller holds one lock around log and state. Under it, [`Log::append`]
//! encodes and folds; [`Log::next_write`] hands out what is to be written, which
//! the caller writes outside the lock and reports with [`Log::written`].

use std::collections::{HashMap, VecDeque};

use super::batch::{AppendError, Appended, Batch, Class, Entry, Purpose};
use super::buffer::Buffer;
use super::checkpoint::{Running, Standing};
use super::commit::Flying;
use super::compact::Compaction;
use super::fold::{Fold, Live, Place, Position, Record};
use super::format::{BATCH_HEADER, Geometry, Salt, SegmentHeader, Successor, Use, frame_len};
use super::formats::Formats;
use super::group::{Extra, Group, Sealed};
use super::lost::Lost;
use super::own::{self, Extent, Own};
use super::read::Read;
use super::segment::Map;
use super::superblock::TailStart;

/// How a log is opened and how it works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment of a store that is created; else chosen by the size
    /// of the device.
    pub segment_bytes: Option<u32>,
    /// A file does not grow beyond this.
    pub len_max: Option<u64>,
    /// By how many segments a file grows at once.
    pub grow_segments: u32,
    /// Appends are refused while this many bytes wait to be written.
    pub backlog_bytes_max: usize,
    /// A checkpoint is begun when the tail is this long; else chosen by the
    /// size of a segment.
    pub checkpoint_bytes: Option<u64>,
    /// Bytes a second that checkpoints and compaction may write and read;
    /// without regard to it when space is short. 0: no limit.
    pub background_bytes_per_s: u64,
    /// Bytes of one slice of a checkpoint.
    pub slice_bytes: usize,
    /// What was removed for good is overwritten within this time.
    pub erase_within_ms: u64,
    /// Nothing is ever written.
    pub read_only: bool,
    /// When no checkpoint can be read, go through every segment and take what
    /// there is, and when the end of the log does not read, give it up, instead
    /// of refusing to open.
    pub salvage: bool,
    /// Which formats are read, and which one may be written.
    pub formats: Formats,
    /// Random bytes, for the name and the salt of a store that is created.
    pub random: [u8; 24],
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: None,
            len_max: None,
            grow_segments: 8,
            backlog_bytes_max: 32 << 20,
            checkpoint_bytes: None,
            background_bytes_per_s: 16 << 20,
            slice_bytes: 128 << 10,
            erase_within_ms: 3 * 24 * 3600 * 1000,
            read_only: false,
            salvage: false,
            formats: Formats::default(),
            random: [0; 24],
        }
    }
}

/// What a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random name.
    pub store_id: [u8; 16],
    /// Random bytes in every checksum.
    pub salt: [u8; 8],
    /// When it was created.
    pub created_ms: u64,
}

/// The log on one device.
pub struct Log {
    pub(super) identity: Identity,
    pub(super) format: u16,
    pub(super) geometry: Geometry,
    pub(super) salt: Salt,
    pub(super) options: Options,
    pub(super) epoch: u64,
    pub(super) epoch_batch: u64,
    pub(super) generation: u64,
    pub(super) map: Map,
    pub(super) live: Live,
    pub(super) chain: Chain,
    /// Segments of the other classes that are being filled.
    pub(super) heads: HashMap<Head, u32>,
    pub(super) open: Option<Group>,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) flying: Option<Flying>,
    pub(super) spare: Vec<Buffer>,
    pub(super) ticket: u64,
    pub(super) seq_next: u64,
    pub(super) position: u64,
    pub(super) durable: u64,
    pub(super) durable_batch: u64,
    /// Bytes of batches with appends or copies since the newest checkpoint was
    /// begun: what a new one would save recovery.
    pub(super) tail_bytes: u64,
    /// The same between the beginnings of the two standing checkpoints.
    pub(super) tail_bytes_before: u64,
    pub(super) standing: [Option<Standing>; 2],
    pub(super) genesis: Option<TailStart>,
    /// Segments of the chain below this one are read by no recovery.
    pub(super) needed_from: u32,
    pub(super) running: Option<Running>,
    /// What was acknowledged and could not be recovered.
    pub(super) lost: Vec<Lost>,
    pub(super) compaction: Option<Compaction>,
    pub(super) superblock_due: bool,
    /// A checkpoint was found damaged: write a new one soon.
    pub(super) renew: bool,
    /// Removals are taken as long as there is any room at all.
    pub(super) reserve_given_up: bool,
    pub(super) closing: bool,
    pub(super) closed: bool,
    pub(super) poisoned: Option<String>,
    pub(super) now_ms: u64,
    pub(super) allowance: super::chore::Allowance,
    pub(super) chore_ticket: u64,
    pub(super) chore_out: bool,
    /// Segments that can be overwritten: that they were freed is durable.
    pub(super) wipes: VecDeque<u32>,
    /// Overwriting has its turn before compaction.
    pub(super) wipes_next: bool,
    pub(super) grows: bool,
    pub(super) grow_failed_ms: Option<u64>,
}

/// Where the chain goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub segment: u32,
    pub slot: u32,
    /// 0 while the segment has no header yet.
    pub offset: u32,
    pub next: Successor,
    pub previous: u32,
    pub number: u64,
}

/// What the segments of a class other than the chain are filled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Head {
    pub class: Use,
    pub packed: bool,
    pub bucket: u32,
}

impl Head {
    /// More than this many are not filled at the same time.
    const MAX: usize = 24;
    /// No batch goes to more than this many.
    const BATCH_MAX: usize = 8;
}

impl Log {
    /// Appends a batch: encodes it into the open group and folds it at once.
    /// What other sessions may see of it waits until [`Log::durable`] has
    /// reached its position.
    pub fn append<F: Fold + ?Sized>(
        &mut self,
        fold: &mut F,
        batch: &Batch<'_>,
    ) -> Result<Appended, AppendError> {
        self.admit(batch)?;
        let (chain, parts) = Self::room_for(batch);
        self.make_room(chain, parts)?;
        self.position += 1;
        let appended = Appended {
            position: Position(self.position),
            seq: self.seq_next,
        };
        if batch.erases {
            self.erase_inline();
        }
        let mut extent = None;
        for entry in &batch.entries {
            let Entry {
                class,
                kind,
                version,
                body,
                payload,
            } = *entry;
            let record = Record {
                kind,
                version,
                seq: self.seq_next,
                body,
                payload,
            };
            self.seq_next += 1;
            let place = match Head::of(class) {
                None => {
                    self.name_extent(&mut extent);
                    self.push_chain(&record, Extra::default())
                }
                Some(head) => self.push_part(head, &record, Extra::default(), &mut extent),
            };
            if let Err(why) = fold.apply(&record, place, &mut self.live) {
                self.poisoned = Some(why.to_string());
                return Err(AppendError::Refused(why));
            }
        }
        self.name_extent(&mut extent);
        for segment in self.live.take_erased() {
            self.map.erase(segment, self.now_ms);
        }
        let position = self.position;
        self.group().position = position;
        self.group().counts = true;
        Ok(appended)
    }

    /// Everything at or below it is durable.
    pub fn durable(&self) -> Position {
        Position(self.durable)
    }

    /// Position of the last append.
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// Sequence number that the next record gets.
    pub fn seq_next(&self) -> u64 {
        self.seq_next
    }

    /// What the store is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The format in which it is written.
    pub fn format(&self) -> u16 {
        self.format
    }

    /// Why nothing is acknowledged any more, if so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Largest sum of frames that one batch may hold in one class.
    pub fn batch_bytes_max(&self) -> usize {
        // A group's header, its extents and its segments' announcements fit beside it.
        self.geometry.group_bytes_max() - self.geometry.block as usize
    }

    /// Reads what lies at `place`: at once when it still waits to be written,
    /// else from the device, outside the lock.
    pub fn fetch(&self, place: Place) -> Read {
        let waiting = self
            .open
            .iter()
            .filter_map(|group| group.bytes_at(place))
            .next();
        let sealed = self.sealed.iter().flat_map(|group| &group.writes);
        let flying = self.flying.iter().flat_map(Flying::blocks);
        let waiting = waiting.or_else(|| {
            sealed
                .chain(flying)
                .find_map(|blocks| blocks.bytes_at(place))
        });
        let slot = self.map.of(place.segment).map(|segment| segment.slot);
        Read::of(place, waiting, slot, self.geometry, self.salt)
    }

    /// Sizes of the store.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn admit(&self, batch: &Batch<'_>) -> Result<(), AppendError> {
        if let Some(why) = &self.poisoned {
            return Err(AppendError::Poisoned(why.clone()));
        }
        if self.closing || self.options.read_only {
            return Err(AppendError::Closed);
        }
        let (chain, parts) = Self::room_for(batch);
        let (bytes, bytes_max) = (chain.max(parts), self.batch_bytes_max());
        if bytes > bytes_max {
            return Err(AppendError::TooBig { bytes, bytes_max });
        }
        debug_assert!(
            batch
                .entries
                .iter()
                .all(|entry| (1..=Record::KIND_MAX).contains(&entry.kind))
        );
        if self.backlog_bytes() > self.options.backlog_bytes_max {
            return Err(AppendError::Overloaded);
        }
        let reserve = match batch.purpose {
            Purpose::Store => self.reserve_ordinary(),
            Purpose::Remove if self.reserve_given_up => 0,
            Purpose::Remove => self.reserve_internal(),
        };
        let heads = Self::heads_of(batch);
        if heads > Head::BATCH_MAX {
            let (bytes, bytes_max) = (heads * bytes_max, Head::BATCH_MAX * bytes_max);
            return Err(AppendError::TooBig { bytes, bytes_max });
        }
        // Each may need a new segment, and once more when it was given up for
        // another in between.
        if self.map.available() < reserve.max(1 + 2 * heads as u32) {
            return Err(AppendError::Full);
        }
        Ok(())
    }

    /// How many classes and buckets other than the chain a batch goes to.
    fn heads_of(batch: &Batch<'_>) -> usize {
        let mut heads: Vec<Head> = Vec::new();
        for head in batch
            .entries
            .iter()
            .filter_map(|entry| Head::of(entry.class))
        {
            if !heads.contains(&head) {
                heads.push(head);
            }
        }
        heads.len()
    }

    /// Bytes of a batch in the chain, and in other segments.
    fn room_for(batch: &Batch<'_>) -> (usize, usize) {
        let mut room = (own::FRAME_MAX, 0);
        for entry in &batch.entries {
            let len = frame_len(entry.body.len(), entry.payload.len());
            match entry.class {
                Class::State => room.0 += len,
                // An extent at most, and the announcement of a segment.
                Class::Archive { .. } | Class::Blob { .. } => {
                    room.0 += 3 * own::FRAME_MAX;
                    room.1 += len;
                }
            }
        }
        room
    }

    /// Whether half of what may wait to be written does.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog_bytes() > self.options.backlog_bytes_max / 2
    }

    /// Bytes that wait to be written.
    pub(super) fn backlog_bytes(&self) -> usize {
        let sealed: usize = self
            .sealed
            .iter()
            .flat_map(|group| &group.writes)
            .map(|blocks| blocks.buffer.len())
            .sum();
        sealed + self.open.as_ref().map_or(0, Group::len)
    }

    /// Opens a group that takes `chain` more bytes of frames and `parts` bytes
    /// elsewhere, when the open one does not.
    pub(super) fn make_room(&mut self, chain: usize, parts: usize) -> Result<(), AppendError> {
        if let Some(group) = &self.open {
            if group.fits(chain, parts, self.geometry) {
                return Ok(());
            }
            self.seal();
        }
        let left = self.geometry.segment_bytes - self.chain.offset;
        if chain + BATCH_HEADER + self.geometry.block as usize > left as usize {
            self.roll()?;
        }
        let header = self.header_of(self.chain.segment, Head::CHAIN);
        self.ticket += 1;
        let buffer = self.spare.pop();
        let buffer = buffer.unwrap_or_else(|| Buffer::with_capacity(64 << 10));
        let (salt, geometry) = (self.salt, self.geometry);
        let group = Group::begin(
            self.ticket,
            self.position,
            &self.chain,
            &header,
            salt,
            geometry,
            buffer,
        );
        self.open = Some(group);
        Ok(())
    }

    /// The chain goes on in the segment that was announced for it.
    pub(super) fn roll(&mut self) -> Result<(), AppendError> {
        debug_assert!(self.open.is_none(), "a group lies in one segment");
        let following = self
            .map
            .allocate(Use::Chain, false, 0)
            .ok_or(AppendError::Full)?;
        let following = Successor {
            segment: following.id,
            slot: following.slot,
        };
        let Successor { segment, slot } = self.chain.next;
        self.chain = Chain {
            segment,
            slot,
            offset: 0,
            next: following,
            ..self.chain
        };
        Ok(())
    }

    /// The open group; [`Log::make_room`] has made sure that there is one.
    pub(super) fn group(&mut self) -> &mut Group {
        self.open.as_mut().expect("room was made")
    }

    pub(super) fn header_of(&self, id: u32, head: Head) -> SegmentHeader {
        let Head {
            class,
            packed,
            bucket,
        } = head;
        SegmentHeader {
            id,
            class,
            packed,
            bucket,
            epoch: self.epoch,
        }
    }

    pub(super) fn push_chain(&mut self, record: &Record<'_>, extra: Extra<'_>) -> Place {
        let salt = self.salt;
        self.group().push(record, extra, salt)
    }

    /// Adds one of the log's own records to the open group.
    pub(super) fn push_own(&mut self, own: &Own) {
        let (kind, body) = own.encode();
        let record = Record {
            kind,
            version: own::VERSION,
            seq: 0,
            body: &body,
            payload: &[],
        };
        self.push_chain(&record, Extra::default());
    }

    /// Adds a record to the segment that `head` fills, and to `extent`, which
    /// is named in the chain when another segment's turn comes.
    pub(super) fn push_part(
        &mut self,
        head: Head,
        record: &Record<'_>,
        extra: Extra<'_>,
        extent: &mut Option<Extent>,
    ) -> Place {
        let len = frame_len(extra.head.len() + record.body.len(), record.payload.len());
        let id = self
            .head_with_room(head, len)
            .expect("room was made for the records of a batch");
        if extent.is_some_and(|extent| extent.segment != id) {
            self.name_extent(extent);
        }
        let header = self.header_of(id, head);
        let (salt, geometry) = (self.salt, self.geometry);
        let segment = self.map.of(id).expect("a head is a segment in use");
        let (slot, end) = (segment.slot, segment.end);
        let part = self
            .open
            .as_mut()
            .expect("room was made")
            .part(&header, slot, end, salt, geometry);
        let chain = part.last();
        let place = part.push(record, extra, salt);
        let (end, last) = (part.end(), part.last());
        self.map.extend(id, end);
        let named = extent.get_or_insert(Extent {
            segment: id,
            offset: place.offset,
            len: 0,
            frames: 0,
            chain,
            last,
        });
        named.len += place.len;
        named.frames += 1;
        named.last = last;
        place
    }

    /// The segment that `head` fills, with room for `len` more bytes; a new one
    /// is announced first.
    pub(super) fn head_with_room(&mut self, head: Head, len: usize) -> Option<u32> {
        if let Some(&id) = self.heads.get(&head) {
            let end = self.map.of(id).expect("a head is a segment in use").end;
            if end as usize + len <= self.geometry.segment_bytes as usize {
                return Some(id);
            }
        }
        let Head {
            class,
            packed,
            bucket,
        } = head;
        let segment = self.map.allocate(class, packed, bucket)?;
        let (id, slot, erase_ms) = (segment.id, segment.slot, segment.erase_ms);
        self.push_own(&Own::Opened {
            id,
            slot,
            class,
            packed,
            bucket,
            erase_ms,
        });
        if self.heads.len() >= Head::MAX && !self.heads.contains_key(&head) {
            let oldest = self
                .heads
                .iter()
                .min_by_key(|(_, id)| **id)
                .map(|(head, _)| *head);
            oldest.map(|oldest| self.heads.remove(&oldest));
        }
        self.heads.insert(head, id);
        Some(id)
    }

    /// Names in the chain what was added to another segment.
    pub(super) fn name_extent(&mut self, extent: &mut Option<Extent>) {
        if let Some(extent) = extent.take() {
            self.push_own(&Own::Extent(extent));
        }
    }
}

impl Head {
    pub const CHAIN: Head = Head {
        class: Use::Chain,
        packed: false,
        bucket: 0,
    };
    pub const CHECKPOINT: Head = Head {
        class: Use::Checkpoint,
        packed: true,
        bucket: 0,
    };

    fn of(class: Class) -> Option<Head> {
        match class {
            Class::State => None,
            Class::Archive { bucket } => Some(Head {
                class: Use::Archive,
                packed: false,
                bucket,
            }),
            Class::Blob { bucket } => Some(Head {
                class: Use::Blob,
                packed: false,
                bucket,
            }),
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("epoch", &self.epoch)
            .field("position", &self.position)
            .field("durable", &self.durable)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}
