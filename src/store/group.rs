//! A group of appends that is written and synced at once: one atomic batch of
//! the chain, and the parts in other segments that it names.

use super::buffer::Buffer;
use super::fold::{Place, Record};
use super::format::{
    BATCH_HEADER, BatchHeader, Geometry, Salt, SegmentHeader, Successor, encode_frame_parts,
};
use super::log::Chain;

/// A group while it is filled.
pub(super) struct Group {
    /// Counts groups since the log was opened.
    pub ticket: u64,
    /// Number of its batch, if it gets frames.
    pub number: u64,
    pub segment: u32,
    pub slot: u32,
    /// Where the batch begins in the segment.
    pub start: u32,
    /// Bytes of frames that fit.
    capacity: usize,
    bytes: Run,
    frames: u32,
    /// Position of the last append up to its end.
    pub position: u64,
    /// It holds more than the log's own records.
    pub counts: bool,
    /// Frames in segments other than the chain's.
    pub parts: Vec<Part>,
    /// Slots that can be used again once the group is durable.
    pub frees: Vec<u32>,
    /// Segments that can be overwritten then.
    pub wipes: Vec<u32>,
}

/// Frames for one segment other than the chain's.
pub(super) struct Part {
    pub segment: u32,
    pub slot: u32,
    bytes: Run,
}

/// Bytes that go to one place of one segment, frame after frame.
struct Run {
    segment: u32,
    /// Where in the segment the first byte of `buffer` lies.
    base: u32,
    buffer: Buffer,
    /// Checksum of the frame before the next.
    last: u32,
}

/// A group that is ready to be written.
pub(super) struct Sealed {
    pub ticket: u64,
    /// Number of its batch, if it has one.
    pub number: Option<u64>,
    pub position: u64,
    pub frees: Vec<u32>,
    pub wipes: Vec<u32>,
    pub writes: Vec<Blocks>,
}

/// Whole blocks and where they go.
pub(super) struct Blocks {
    pub segment: u32,
    pub slot: u32,
    pub base: u32,
    pub buffer: Buffer,
}

/// What a group's header says beside its own content.
pub(super) struct Seal {
    pub epoch: u64,
    pub time_ms: u64,
    pub seq_next: u64,
    pub next: Successor,
    pub previous: u32,
}

/// A record's flags and what stands in front of its body.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
    pub flags: u16,
    pub head: &'a [u8],
}

impl Run {
    /// Begins at `offset`; a segment that holds nothing yet gets its header.
    fn begin(
        offset: u32,
        header: &SegmentHeader,
        salt: Salt,
        geometry: Geometry,
        mut buffer: Buffer,
    ) -> Run {
        let fresh = offset == 0;
        if fresh {
            header.encode(salt, geometry.block, &mut buffer);
        }
        Run {
            segment: header.id,
            base: offset,
            buffer,
            last: 0,
        }
    }

    fn end(&self) -> u32 {
        self.base + self.buffer.len() as u32
    }

    fn push(&mut self, record: &Record<'_>, extra: Extra<'_>, salt: Salt) -> Place {
        let (place, crc) = encode_frame_parts(
            record,
            extra.head,
            extra.flags,
            salt,
            self.segment,
            self.base,
            self.last,
            &mut self.buffer,
        );
        self.last = crc;
        place
    }

    fn bytes_at(&self, place: Place) -> Option<&[u8]> {
        let from = place.offset.checked_sub(self.base)? as usize;
        self.buffer
            .as_slice()
            .get(from..from.checked_add(place.len as usize)?)
    }
}

impl Group {
    /// A group whose batch comes next in the chain, behind the append at
    /// `position`; `header` is that of the chain's segment.
    pub fn begin(
        ticket: u64,
        position: u64,
        chain: &Chain,
        header: &SegmentHeader,
        salt: Salt,
        geometry: Geometry,
        buffer: Buffer,
    ) -> Group {
        let Chain {
            slot,
            offset,
            previous,
            number,
            ..
        } = *chain;
        let mut bytes = Run::begin(offset, header, salt, geometry, buffer);
        let start = bytes.end();
        bytes.buffer.extend(&[0; BATCH_HEADER]);
        bytes.last = previous;
        let room = (geometry.segment_bytes - start) as usize;
        Group {
            ticket,
            number,
            segment: header.id,
            slot,
            start,
            capacity: room.min(geometry.group_bytes_max()),
            bytes,
            frames: 0,
            position,
            counts: false,
            parts: Vec::new(),
            frees: Vec::new(),
            wipes: Vec::new(),
        }
    }

    /// Whether frames of `chain` bytes and parts of `parts` bytes fit as well.
    pub fn fits(&self, chain: usize, parts: usize, geometry: Geometry) -> bool {
        let held: usize = self.parts.iter().map(|part| part.bytes.buffer.len()).sum();
        self.batch_len() + chain <= self.capacity
            && (held == 0 || held + parts <= geometry.group_bytes_max())
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.frames == 0 && self.parts.is_empty()
    }

    /// Bytes that wait in it.
    pub fn len(&self) -> usize {
        self.batch_len()
            + self
                .parts
                .iter()
                .map(|part| part.bytes.buffer.len())
                .sum::<usize>()
    }

    fn batch_len(&self) -> usize {
        (self.bytes.end() - self.start) as usize
    }

    /// Adds a frame to the chain.
    pub fn push(&mut self, record: &Record<'_>, extra: Extra<'_>, salt: Salt) -> Place {
        self.frames += 1;
        self.bytes.push(record, extra, salt)
    }

    /// The part for the segment of `header`, which is written up to `end`.
    pub fn part(
        &mut self,
        header: &SegmentHeader,
        slot: u32,
        end: u32,
        salt: Salt,
        geometry: Geometry,
    ) -> &mut Part {
        let at = self.parts.iter().position(|part| part.segment == header.id);
        let at = at.unwrap_or_else(|| {
            let bytes = Run::begin(end, header, salt, geometry, Buffer::default());
            self.parts.push(Part {
                segment: header.id,
                slot,
                bytes,
            });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    /// The frame at `place`, if it waits here.
    pub fn bytes_at(&self, place: Place) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.segment == place.segment);
        match part {
            Some(part) => part.bytes.bytes_at(place),
            None if self.segment == place.segment => self.bytes.bytes_at(place),
            None => None,
        }
    }

    /// Where its content of a segment begins, if it has any.
    pub fn base_of(&self, segment: u32) -> Option<u32> {
        let part = self.parts.iter().find(|part| part.segment == segment);
        part.map(|part| part.bytes.base)
            .or((self.segment == segment).then_some(self.bytes.base))
    }

    /// Completes it: writes the header, pads everything to whole blocks.
    /// Returns it with the checksum of its header, if it has a batch.
    pub fn seal(mut self, seal: &Seal, salt: Salt, geometry: Geometry) -> (Sealed, Option<u32>) {
        let block = geometry.block as usize;
        let mut writes: Vec<Blocks> = Vec::with_capacity(self.parts.len() + 1);
        for mut part in self.parts {
            part.bytes.buffer.pad_to(block);
            writes.push(Blocks {
                segment: part.segment,
                slot: part.slot,
                base: part.bytes.base,
                buffer: part.bytes.buffer,
            });
        }
        let mut crc = None;
        if self.frames > 0 {
            let header = BatchHeader {
                len: self.bytes.end() - self.start,
                number: self.number,
                epoch: seal.epoch,
                position: self.position,
                time_ms: seal.time_ms,
                seq_next: seal.seq_next,
                segment: self.segment,
                frames: self.frames,
                next: seal.next,
                previous: seal.previous,
                last: self.bytes.last,
                crc: 0,
            };
            let at = (self.start - self.bytes.base) as usize;
            crc = Some(header.encode(
                salt,
                self.start,
                &mut self.bytes.buffer.as_mut_slice()[at..],
            ));
            self.bytes.buffer.pad_to(block);
            writes.push(Blocks {
                segment: self.segment,
                slot: self.slot,
                base: self.bytes.base,
                buffer: self.bytes.buffer,
            });
        }
        let number = crc.is_some().then_some(self.number);
        let sealed = Sealed {
            ticket: self.ticket,
            number,
            position: self.position,
            frees: self.frees,
            wipes: self.wipes,
            writes,
        };
        (sealed, crc)
    }
}

impl Part {
    /// Where the next frame would begin.
    pub fn end(&self) -> u32 {
        self.bytes.end()
    }

    /// Checksum of the last frame; 0 before the first.
    pub fn last(&self) -> u32 {
        self.bytes.last
    }

    /// Adds a frame.
    pub fn push(&mut self, record: &Record<'_>, extra: Extra<'_>, salt: Salt) -> Place {
        self.bytes.push(record, extra, salt)
    }
}

impl Blocks {
    /// The frame at `place`, if it lies here.
    pub fn bytes_at(&self, place: Place) -> Option<&[u8]> {
        if place.segment != self.segment {
            return None;
        }
        let from = place.offset.checked_sub(self.base)? as usize;
        self.buffer
            .as_slice()
            .get(from..from.checked_add(place.len as usize)?)
    }
}
