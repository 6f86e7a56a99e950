//! The bytes of the log: geometry, superblock, segment header, batch header and
//! record frame. `docs/log-format.md` draws them.
//!
//! All numbers are little-endian. Every checksum is a CRC-32 that begins with
//! the store's salt and in which the structure's own place stands for the field
//! of the checksum, so a block that was written elsewhere, in another store or
//! in an earlier life of its segment never verifies.

use super::fold::{Place, Record};

/// Where the two superblocks lie.
pub const SUPERBLOCKS_AT: [u64; 2] = [0, 32768];
/// Where the first segment begins.
pub const SEGMENTS_AT: u64 = 65536;
/// Bytes of a frame before its body.
pub const FRAME_HEADER: usize = 32;
/// Bytes of a batch before its first frame.
pub const BATCH_HEADER: usize = 80;
/// Bytes of a reference in front of a checkpoint item's body.
pub const PLACE_BYTES: usize = 12;

const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"CBAT");
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"CSEG");

/// Sizes that are fixed when a store is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The unit of commits: no block is ever written twice once it holds
    /// acknowledged bytes. A power of two from 4096 to 32768.
    pub block: u32,
    /// Bytes of a segment, a power of two.
    pub segment_bytes: u32,
}

impl Geometry {
    /// The smallest segment there is.
    pub const SEGMENT_BYTES_MIN: u32 = 65536;
    /// The largest segment there is.
    pub const SEGMENT_BYTES_MAX: u32 = 64 << 20;
    /// The segment that a device of ordinary size gets.
    pub const SEGMENT_BYTES_DEFAULT: u32 = 8 << 20;

    /// Whether the sizes are ones this program can work with.
    pub fn is_sane(&self) -> bool {
        self.block.is_power_of_two()
            && (4096..=32768).contains(&self.block)
            && self.segment_bytes.is_power_of_two()
            && (Self::SEGMENT_BYTES_MIN..=Self::SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            && self.block * 8 <= self.segment_bytes
    }

    /// How many whole segments a device of `len` bytes holds.
    pub fn slots(&self, len: u64) -> u32 {
        let slots = len.saturating_sub(SEGMENTS_AT) / u64::from(self.segment_bytes);
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// First byte of a slot on the device.
    pub fn slot_at(&self, slot: u32) -> u64 {
        SEGMENTS_AT + u64::from(slot) * u64::from(self.segment_bytes)
    }

    /// Length of a device that holds `slots` segments.
    pub fn len_for(&self, slots: u32) -> u64 {
        self.slot_at(slots)
    }

    /// Largest group of batches that is written at once, in one segment.
    pub fn group_bytes_max(&self) -> usize {
        self.segment_bytes as usize / 2
    }

    /// `bytes`, rounded up to whole blocks.
    pub fn padded(&self, bytes: u32) -> u32 {
        bytes.next_multiple_of(self.block)
    }
}

/// The salt of a store, folded into the start of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// The salt of a store with these random bytes.
    pub fn new(random: [u8; 8]) -> Salt {
        Salt(crc32fast::hash(&random))
    }

    /// Checksum of `bytes` whose last four before `at` bytes stand for `place`.
    fn crc(self, before: &[u8], place: u32, after: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(before);
        hasher.update(&place.to_le_bytes());
        hasher.update(after);
        hasher.finalize()
    }
}

/// What a segment is for, as written on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Use {
    /// The chain of batches.
    Chain = 1,
    /// Records of the state class that compaction has moved out of the chain.
    Kept = 2,
    /// Records of an archive's bucket.
    Archive = 3,
    /// Records of a blob's bucket.
    Blob = 4,
    /// Checkpoints.
    Checkpoint = 5,
    /// Nothing any more, but to be overwritten before it is used again.
    Wiping = 6,
}

impl Use {
    pub(super) fn from_byte(byte: u8) -> Option<Use> {
        [
            Use::Chain,
            Use::Kept,
            Use::Archive,
            Use::Blob,
            Use::Checkpoint,
            Use::Wiping,
        ]
        .into_iter()
        .find(|&class| class as u8 == byte)
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Identity of the segment.
    pub id: u32,
    /// What it is for.
    pub class: Use,
    /// Whether compaction wrote it.
    pub packed: bool,
    /// Its bucket, of an archive or blob.
    pub bucket: u32,
    /// Epoch in which it was begun.
    pub epoch: u64,
}

impl SegmentHeader {
    const BYTES: usize = 32;

    /// Appends the block to `out`.
    pub fn encode(&self, salt: Salt, block: u32, out: &mut super::buffer::Buffer) {
        let mut bytes = [0; Self::BYTES];
        put_u32(&mut bytes, 0, SEGMENT_MAGIC);
        put_u32(&mut bytes, 4, self.id);
        bytes[8] = self.class as u8;
        bytes[9] = u8::from(self.packed);
        put_u32(&mut bytes, 12, self.bucket);
        put_u64(&mut bytes, 16, self.epoch);
        let crc = salt.crc(&bytes[..28], 0, &[]);
        put_u32(&mut bytes, 28, crc);
        out.extend(&bytes);
        out.pad_to(block as usize);
    }

    /// Reads it; `None` when these bytes are none of this store.
    pub fn decode(bytes: &[u8], salt: Salt) -> Option<SegmentHeader> {
        let bytes = bytes.get(..Self::BYTES)?;
        if u32_at(bytes, 0) != SEGMENT_MAGIC || u32_at(bytes, 28) != salt.crc(&bytes[..28], 0, &[])
        {
            return None;
        }
        Some(SegmentHeader {
            id: u32_at(bytes, 4),
            class: Use::from_byte(bytes[8])?,
            packed: bytes[9] & 1 == 1,
            bucket: u32_at(bytes, 12),
            epoch: u64_at(bytes, 16),
        })
    }
}

/// The commit record of a group of appends: stands in front of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of header and frames, without the padding.
    pub len: u32,
    /// Number of the batch; one more than the one before.
    pub number: u64,
    /// Number of the opening of the store that wrote it.
    pub epoch: u64,
    /// Position of its last append.
    pub position: u64,
    /// When it was written, in milliseconds of the Unix epoch.
    pub time_ms: u64,
    /// Sequence number that the next record gets.
    pub seq_next: u64,
    /// The segment it lies in.
    pub segment: u32,
    /// How many frames it has.
    pub frames: u32,
    /// The segment that will follow this one: announced here, long before it
    /// is used.
    pub next: Successor,
    /// Checksum of the header before it: the chain.
    pub previous: u32,
    /// Checksum of its last frame.
    pub last: u32,
    /// Its own checksum.
    pub crc: u32,
}

/// The segment that continues the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Successor {
    /// Its identity.
    pub segment: u32,
    /// Where it lies.
    pub slot: u32,
}

impl BatchHeader {
    /// Writes it into the first [`BATCH_HEADER`] bytes of `out`; the batch
    /// begins at `offset` of its segment. Returns its checksum.
    pub fn encode(&self, salt: Salt, offset: u32, out: &mut [u8]) -> u32 {
        let bytes = &mut out[..BATCH_HEADER];
        bytes.fill(0);
        put_u32(bytes, 0, BATCH_MAGIC);
        put_u32(bytes, 4, self.len);
        put_u64(bytes, 8, self.number);
        put_u64(bytes, 16, self.epoch);
        put_u64(bytes, 24, self.position);
        put_u64(bytes, 32, self.time_ms);
        put_u64(bytes, 40, self.seq_next);
        put_u32(bytes, 48, self.segment);
        put_u32(bytes, 52, self.frames);
        put_u32(bytes, 56, self.next.segment);
        put_u32(bytes, 60, self.next.slot);
        put_u32(bytes, 64, self.previous);
        put_u32(bytes, 68, self.last);
        let crc = salt.crc(&bytes[..76], offset, &[]);
        put_u32(bytes, 76, crc);
        crc
    }

    /// Reads the header at `offset` of `segment`; `None` when there is none.
    pub fn decode(bytes: &[u8], salt: Salt, segment: u32, offset: u32) -> Option<BatchHeader> {
        let bytes = bytes.get(..BATCH_HEADER)?;
        if !is_batch(bytes) || u32_at(bytes, 48) != segment {
            return None;
        }
        let crc = u32_at(bytes, 76);
        if crc != salt.crc(&bytes[..76], offset, &[]) || (u32_at(bytes, 4) as usize) < BATCH_HEADER
        {
            return None;
        }
        Some(BatchHeader {
            len: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            epoch: u64_at(bytes, 16),
            position: u64_at(bytes, 24),
            time_ms: u64_at(bytes, 32),
            seq_next: u64_at(bytes, 40),
            segment,
            frames: u32_at(bytes, 52),
            next: Successor {
                segment: u32_at(bytes, 56),
                slot: u32_at(bytes, 60),
            },
            previous: u32_at(bytes, 64),
            last: u32_at(bytes, 68),
            crc,
        })
    }
}

/// Whether a block begins like a batch; its checksum decides.
pub fn is_batch(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && u32_at(bytes, 0) == BATCH_MAGIC
}

/// Flag of a frame: compaction's copy of an older record.
pub const FLAG_COPY: u16 = 1;
/// Flag of a frame: the body begins with a place (checkpoint items).
pub const FLAG_PLACE: u16 = 2;

/// A record's frame, read and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The record.
    pub record: Record<'a>,
    /// Its flags.
    pub flags: u16,
    /// Checksum of the frame before it.
    pub chain: u32,
    /// Its own checksum.
    pub crc: u32,
    /// Where it lies.
    pub place: Place,
    /// All of it.
    pub bytes: &'a [u8],
}

/// Length of the frame of a record with such a body and payload.
pub fn frame_len(body: usize, payload: usize) -> usize {
    FRAME_HEADER + body + payload
}

/// Appends the frame of `record` to `out`, whose first byte lies at `base` of
/// `segment`. Returns its place and checksum.
pub fn encode_frame(
    record: &Record<'_>,
    flags: u16,
    salt: Salt,
    segment: u32,
    base: u32,
    chain: u32,
    out: &mut super::buffer::Buffer,
) -> (Place, u32) {
    encode_frame_parts(record, &[], flags, salt, segment, base, chain, out)
}

/// As [`encode_frame`], with `head` in front of the body.
#[allow(clippy::too_many_arguments, reason = "the fields of a frame")]
pub fn encode_frame_parts(
    record: &Record<'_>,
    head: &[u8],
    flags: u16,
    salt: Salt,
    segment: u32,
    base: u32,
    chain: u32,
    out: &mut super::buffer::Buffer,
) -> (Place, u32) {
    let start = out.len();
    let len = frame_len(head.len() + record.body.len(), record.payload.len());
    let place = Place {
        segment,
        offset: base + start as u32,
        len: len as u32,
    };
    let mut header = [0; FRAME_HEADER];
    put_u32(&mut header, 0, place.len);
    put_u32(&mut header, 4, (head.len() + record.body.len()) as u32);
    header[8] = record.kind;
    header[9] = record.version;
    header[10..12].copy_from_slice(&flags.to_le_bytes());
    put_u32(&mut header, 12, segment);
    put_u64(&mut header, 16, record.seq);
    put_u32(&mut header, 24, chain);
    put_u32(&mut header, 28, place.offset);
    out.extend(&header);
    out.extend(head);
    out.extend(record.body);
    out.extend(record.payload);
    // The offset stands where the checksum will: one pass over contiguous bytes.
    let bytes = &mut out.as_mut_slice()[start..];
    let mut hasher = crc32fast::Hasher::new_with_initial(salt.0);
    hasher.update(bytes);
    let crc = hasher.finalize();
    put_u32(bytes, 28, crc);
    (place, crc)
}

/// Reads the frame that begins with `bytes`, at `offset` of `segment`; `None`
/// when there is none that verifies.
pub fn decode_frame(bytes: &[u8], salt: Salt, segment: u32, offset: u32) -> Option<Frame<'_>> {
    let header = bytes.get(..FRAME_HEADER)?;
    let len = u32_at(header, 0) as usize;
    let body_len = u32_at(header, 4) as usize;
    if len < FRAME_HEADER || body_len > len - FRAME_HEADER || u32_at(header, 12) != segment {
        return None;
    }
    let bytes = bytes.get(..len)?;
    let crc = u32_at(header, 28);
    if crc != salt.crc(&bytes[..28], offset, &bytes[FRAME_HEADER..]) {
        return None;
    }
    Some(Frame::verified(bytes, segment, offset))
}

impl<'a> Frame<'a> {
    /// The frame of these bytes, which were verified before.
    pub(super) fn verified(bytes: &'a [u8], segment: u32, offset: u32) -> Frame<'a> {
        Frame {
            record: record_of(bytes),
            flags: u16::from_le_bytes([bytes[10], bytes[11]]),
            chain: u32_at(bytes, 24),
            crc: u32_at(bytes, 28),
            place: Place {
                segment,
                offset,
                len: bytes.len() as u32,
            },
            bytes,
        }
    }
}

/// The record of the frame that `bytes` begin with and that was verified before.
pub(super) fn record_of(bytes: &[u8]) -> Record<'_> {
    let frame = &bytes[..u32_at(bytes, 0) as usize];
    let body_len = u32_at(frame, 4) as usize;
    let (body, payload) = frame[FRAME_HEADER..].split_at(body_len);
    Record {
        kind: frame[8],
        version: frame[9],
        seq: u64_at(frame, 16),
        body,
        payload,
    }
}

/// A place as twelve bytes.
pub fn place_bytes(place: Place) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    put_u32(&mut bytes, 0, place.segment);
    put_u32(&mut bytes, 4, place.offset);
    put_u32(&mut bytes, 8, place.len);
    bytes
}

/// A place of twelve bytes.
pub fn place_from(bytes: &[u8]) -> Option<Place> {
    let bytes = bytes.get(..PLACE_BYTES)?;
    Some(Place {
        segment: u32_at(bytes, 0),
        offset: u32_at(bytes, 4),
        len: u32_at(bytes, 8),
    })
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The number at `at`, of bytes whose length was checked.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The number at `at`, of bytes whose length was checked.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::buffer::Buffer;

    const SALT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn a_frame_verifies_only_where_it_was_written() {
        let salt = Salt::new(SALT);
        let record = Record {
            kind: 3,
            version: 1,
            seq: 9,
            body: b"body",
            payload: b"payload",
        };
        let mut out = Buffer::default();
        let (place, crc) = encode_frame(&record, FLAG_COPY, salt, 7, 4096, 5, &mut out);
        assert_eq!(
            place,
            Place {
                segment: 7,
                offset: 4096,
                len: 43
            }
        );
        let frame = decode_frame(out.as_slice(), salt, 7, 4096).expect("it is whole");
        assert_eq!(
            (frame.record, frame.crc, frame.chain, frame.place),
            (record, crc, 5, place)
        );
        assert_eq!(decode_frame(out.as_slice(), salt, 7, 8192), None);
        assert_eq!(decode_frame(out.as_slice(), salt, 8, 4096), None);
        assert_eq!(
            decode_frame(out.as_slice(), Salt::new([0; 8]), 7, 4096),
            None
        );
        for byte in 0..out.len() {
            let mut bytes = out.as_slice().to_vec();
            bytes[byte] ^= 0x10;
            assert_eq!(decode_frame(&bytes, salt, 7, 4096), None, "byte {byte}");
        }
    }

    #[test]
    fn a_batch_header_is_what_was_written() {
        let salt = Salt::new(SALT);
        let mut header = BatchHeader {
            len: 100,
            number: 1,
            epoch: 2,
            position: 3,
            time_ms: 4,
            seq_next: 5,
            segment: 6,
            frames: 7,
            next: Successor {
                segment: 8,
                slot: 9,
            },
            previous: 10,
            last: 11,
            crc: 0,
        };
        let mut bytes = [0xff; 100];
        header.crc = header.encode(salt, 8192, &mut bytes);
        assert_eq!(BatchHeader::decode(&bytes, salt, 6, 8192), Some(header));
        assert_eq!(BatchHeader::decode(&bytes, salt, 6, 4096), None);
    }
}
