//! Reading a segment frame by frame, past whatever is damaged in it.

use std::collections::BTreeMap;
use std::io;

use super::buffer::{ALIGN, Buffer};
use super::disk::Device;
use super::format::{
    BATCH_HEADER, BatchHeader, FRAME_HEADER, Frame, Geometry, Salt, decode_frame, is_batch, u32_at,
};

/// A stretch of one segment in memory, read in large pieces.
///
/// Blocks that the device cannot read count as zeros: nothing verifies there.
/// Whoever would take that for proof that nothing lies there asks
/// [`unreadable_in`](Window::unreadable_in).
pub(super) struct Window<'d> {
    device: &'d dyn Device,
    at: u64,
    limit: u32,
    from: u32,
    buffer: Buffer,
    piece: usize,
    /// Blocks that could not be read at some time, and why.
    unreadable: BTreeMap<u32, io::Error>,
}

impl<'d> Window<'d> {
    /// How much is read at once.
    pub const PIECE: usize = 1 << 20;

    pub fn new(device: &'d dyn Device, geometry: Geometry, slot: u32) -> Window<'d> {
        Window {
            device,
            at: geometry.slot_at(slot),
            limit: geometry.segment_bytes,
            from: 0,
            buffer: Buffer::default(),
            piece: Self::PIECE.min(geometry.segment_bytes as usize),
            unreadable: BTreeMap::new(),
        }
    }

    /// The bytes from `offset`: `len` of them, or what the segment has left.
    pub fn bytes(&mut self, offset: u32, len: usize) -> &[u8] {
        let len = len.min(self.limit.saturating_sub(offset) as usize);
        if len == 0 {
            return &[];
        }
        let start = offset.checked_sub(self.from).map(|start| start as usize);
        let held = start.filter(|start| start + len <= self.buffer.len());
        let start = held.unwrap_or_else(|| {
            self.fill(offset, len);
            (offset - self.from) as usize
        });
        &self.buffer.as_slice()[start..start + len]
    }

    /// The first block between two offsets that was asked for and could not be
    /// read, and why.
    pub fn unreadable_in(&self, from: u32, until: u32) -> Option<(u32, &io::Error)> {
        let first = from - from % ALIGN as u32;
        let found = self.unreadable.range(first..until.max(first)).next();
        found.map(|(&offset, why)| (offset, why))
    }

    fn fill(&mut self, offset: u32, len: usize) {
        self.from = offset - offset % ALIGN as u32;
        let wanted = (offset - self.from) as usize + len;
        let wanted = wanted
            .max(self.piece)
            .next_multiple_of(ALIGN)
            .min((self.limit - self.from) as usize);
        if self.buffer.capacity() < wanted {
            self.buffer = Buffer::with_capacity(wanted);
        }
        self.buffer.resize(wanted);
        let at = self.at + u64::from(self.from);
        if self.device.read_at(self.buffer.as_mut_slice(), at).is_ok() {
            return;
        }
        for (block, index) in self.buffer.as_mut_slice().chunks_mut(ALIGN).zip(0_u64..) {
            let skip = index * ALIGN as u64;
            if let Err(why) = self.device.read_at(block, at + skip) {
                block.fill(0);
                self.unreadable.insert(self.from + skip as u32, why);
            }
        }
    }
}

/// Goes through a segment from its first block.
pub(super) struct Walk<'d> {
    window: Window<'d>,
    salt: Salt,
    geometry: Geometry,
    segment: u32,
    offset: u32,
    end: u32,
}

/// What comes next in a segment.
pub(super) enum Step<'a> {
    /// A frame that verifies.
    Frame(Frame<'a>),
    /// The header of a batch that verifies.
    Batch(BatchHeader),
    /// Bytes that do not.
    Bad { from: u32, until: u32 },
    /// Nothing.
    End,
}

impl<'d> Walk<'d> {
    /// From `offset` to `end` of `segment`.
    pub fn new(
        device: &'d dyn Device,
        geometry: Geometry,
        salt: Salt,
        (segment, slot): (u32, u32),
        offset: u32,
        end: u32,
    ) -> Walk<'d> {
        let window = Window::new(device, geometry, slot);
        Walk {
            window,
            salt,
            geometry,
            segment,
            offset,
            end: end.min(geometry.segment_bytes),
        }
    }

    /// Where the next step begins.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The next step.
    pub fn step(&mut self) -> Step<'_> {
        let (kind, bad_from) = self.skip_padding();
        if let Some(from) = bad_from {
            return Step::Bad {
                from,
                until: self.offset,
            };
        }
        let offset = self.offset;
        match kind {
            Some(Kind::Batch(header)) => {
                self.offset += BATCH_HEADER as u32;
                Step::Batch(header)
            }
            Some(Kind::Frame(len)) => {
                self.offset += len;
                let segment = self.segment;
                let bytes = self.window.bytes(offset, len as usize);
                Step::Frame(Frame::verified(bytes, segment, offset))
            }
            Some(Kind::Padding | Kind::Bad) | None => Step::End,
        }
    }

    /// Skips zeros to the next block, and what does not verify. Returns what
    /// comes then, and where the latter began.
    fn skip_padding(&mut self) -> (Option<Kind>, Option<u32>) {
        let mut bad_from = None;
        loop {
            let kind = self.kind_at(self.offset);
            match kind {
                Some(Kind::Bad) => {
                    bad_from = bad_from.or(Some(self.offset));
                    // The length of a damaged frame may still be right.
                    if let Some(next) = self.frame_behind(self.offset) {
                        self.offset = next;
                        return (None, bad_from);
                    }
                }
                Some(Kind::Padding) if bad_from.is_none() => {}
                // Padding behind damage may be damaged as well.
                Some(Kind::Padding) => {}
                Some(_) | None => return (kind, bad_from),
            }
            self.offset = (self.offset + 1).next_multiple_of(self.geometry.block);
        }
    }

    fn frame_behind(&mut self, offset: u32) -> Option<u32> {
        let len = u32_at(self.window.bytes(offset, FRAME_HEADER), 0);
        let next = offset
            .checked_add(len)
            .filter(|_| len as usize >= FRAME_HEADER)?;
        let frame = matches!(self.kind_at(next), Some(Kind::Frame(_)));
        frame.then_some(next)
    }

    fn kind_at(&mut self, offset: u32) -> Option<Kind> {
        let block = self.geometry.block;
        if offset.saturating_add(FRAME_HEADER as u32) > self.end {
            return (offset < self.end).then_some(Kind::Padding);
        }
        let (salt, segment) = (self.salt, self.segment);
        let max = self.geometry.segment_bytes - offset;
        let header = self.window.bytes(offset, BATCH_HEADER);
        if offset.is_multiple_of(block) && is_batch(header) {
            let header = BatchHeader::decode(header, salt, segment, offset);
            return Some(header.map_or(Kind::Bad, Kind::Batch));
        }
        let len = u32_at(header, 0);
        if len == 0 {
            return Some(Kind::Padding);
        }
        // Where less than a length's bytes are left of the block, what was read as one may be
        // padding and the first bytes of the next batch.
        let left = block - offset % block;
        let is_padding = left < 4 && header[..left as usize].iter().all(|byte| *byte == 0);
        if len <= max {
            let bytes = self.window.bytes(offset, len as usize);
            if decode_frame(bytes, salt, segment, offset).is_some() {
                return Some(Kind::Frame(len));
            }
        }
        Some(if is_padding { Kind::Padding } else { Kind::Bad })
    }
}

enum Kind {
    Batch(BatchHeader),
    Frame(u32),
    Padding,
    Bad,
}
