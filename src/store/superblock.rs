//! The superblock: what a store is and where its history begins. Two copies,
//! written one after the other with a sync between.

use std::ops::RangeInclusive;

use super::buffer::{ALIGN, Buffer};
use super::disk::Device;
use super::format::{
    Geometry, SEGMENTS_AT, SUPERBLOCKS_AT, Successor, put_u32, put_u64, u32_at, u64_at,
};
use super::formats::READS;
use super::report::OpenError;

const MAGIC: &[u8; 8] = b"CAIRNLOG";
const STORE_ID: std::ops::Range<usize> = 24..40;
const CRC_AT: usize = ALIGN - 4;
const POINTERS_AT: usize = 128;
const POINTER_BYTES: usize = 128;

/// The name of the store whose superblock begins with these bytes, if it does: nothing else is
/// looked at.
#[must_use]
pub fn store_id(head: &[u8]) -> Option<[u8; 16]> {
    head.strip_prefix(MAGIC)?;
    head.get(STORE_ID)?.try_into().ok()
}

/// The format that the log of this superblock has, whether it is one that this program reads;
/// `None` where the block does not verify.
#[must_use]
pub fn format(block: &[u8]) -> Option<u16> {
    block.strip_prefix(MAGIC)?;
    let verifies =
        block.len() == ALIGN && u32_at(block, CRC_AT) == crc32fast::hash(&block[..CRC_AT]);
    verifies.then(|| u16::from_le_bytes([block[8], block[9]]))
}

/// What a store is and where its history begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The format of the log.
    pub format: u16,
    /// Grows with every write of the superblock; the higher one counts.
    pub generation: u64,
    /// Sizes.
    pub geometry: Geometry,
    /// Random name of the store.
    pub store_id: [u8; 16],
    /// Random bytes in every checksum.
    pub salt: [u8; 8],
    /// When it was created.
    pub created_ms: u64,
    /// Segments that the device held; a device that has fewer was cut off.
    pub slots: u32,
    /// How often it has been opened for writing.
    pub epoch: u64,
    /// The first batch that this epoch writes: what older epochs left at or
    /// behind it was dropped, for good.
    pub epoch_batch: u64,
    /// Batches up to this one are durable: if one is missing, it is damage.
    pub durable_batch: u64,
    /// Identities of segments below this one are given away.
    pub id_floor: u32,
    /// Nothing was written behind it: the store was closed in order.
    pub clean: bool,
    /// The newest complete checkpoint, and the one before it.
    pub checkpoints: [Option<Pointer>; 2],
    /// Where the chain begins, as long as fewer than two checkpoints stand.
    pub genesis: Option<TailStart>,
}

/// A point of the chain, from which recovery can read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailStart {
    /// The segment in which the next batch lies, or the one before it if the
    /// rest of it was too small.
    pub segment: u32,
    /// Its slot.
    pub slot: u32,
    /// Where in it.
    pub offset: u32,
    /// The segment after it.
    pub next: Successor,
    /// Checksum of the batch before.
    pub previous: u32,
    /// Number of the next batch.
    pub number: u64,
    /// Sequence number of the next record.
    pub seq_next: u64,
    /// Position of the last append before.
    pub position: u64,
    /// Identity that the next new segment gets.
    pub id_next: u32,
}

/// Where a checkpoint lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Segment of its root.
    pub segment: u32,
    /// Slot of that segment.
    pub slot: u32,
    /// Where in it the root's frame begins.
    pub offset: u32,
    /// Length of the root's frame.
    pub len: u32,
    /// Bytes of the whole checkpoint.
    pub bytes: u64,
    /// When it was begun.
    pub begun_ms: u64,
    /// When it was complete.
    pub complete_ms: u64,
    /// Where the tail begins that belongs to it.
    pub tail: TailStart,
}

/// What lies where a superblock should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A superblock.
    Superblock(Box<Superblock>),
    /// A superblock of a newer format.
    Newer(u16),
    /// Zeros.
    Blank,
    /// Something of ours that does not verify.
    Damaged,
    /// Something that was never ours.
    Foreign,
}

impl Superblock {
    /// The block of it.
    pub fn encode(&self) -> Buffer {
        let mut block = Buffer::zeroed(ALIGN);
        let bytes = block.as_mut_slice();
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&self.format.to_le_bytes());
        bytes[10] = u8::from(self.clean);
        put_u32(bytes, 12, self.geometry.block);
        put_u32(bytes, 16, self.geometry.segment_bytes);
        put_u32(bytes, 20, self.slots);
        bytes[STORE_ID].copy_from_slice(&self.store_id);
        bytes[40..48].copy_from_slice(&self.salt);
        put_u64(bytes, 48, self.created_ms);
        put_u64(bytes, 56, self.generation);
        put_u64(bytes, 64, self.epoch);
        put_u64(bytes, 72, self.epoch_batch);
        put_u64(bytes, 80, self.durable_batch);
        put_u32(bytes, 88, self.id_floor);
        let pointers = self.checkpoints.iter().copied().enumerate();
        for (index, pointer) in pointers.filter_map(|(index, pointer)| Some((index, pointer?))) {
            let at = POINTERS_AT + index * POINTER_BYTES;
            pointer.encode(&mut bytes[at..at + POINTER_BYTES]);
        }
        if let Some(genesis) = &self.genesis {
            let at = POINTERS_AT + 2 * POINTER_BYTES;
            put_u32(bytes, at, 1);
            genesis.encode(&mut bytes[at + 48..at + POINTER_BYTES]);
        }
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        put_u32(bytes, CRC_AT, crc);
        block
    }

    /// Reads what lies in a superblock's place; `reads` are the formats that are understood.
    pub fn decode(bytes: &[u8], reads: &RangeInclusive<u16>) -> Found {
        if bytes.len() != ALIGN || bytes[..8] != *MAGIC {
            let blank = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
            return match blank(bytes) {
                true => Found::Blank,
                // Only a part of the block was written.
                false if blank(&bytes[..512]) => Found::Damaged,
                false => Found::Foreign,
            };
        }
        let Some(format) = format(bytes) else {
            return Found::Damaged;
        };
        if format > *reads.end() {
            return Found::Newer(format);
        }
        if format < *reads.start() {
            return Found::Damaged;
        }
        let geometry = Geometry {
            block: u32_at(bytes, 12),
            segment_bytes: u32_at(bytes, 16),
        };
        if !geometry.is_sane() {
            return Found::Damaged;
        }
        let pointer = |index: usize| Pointer::decode(&bytes[POINTERS_AT + index * POINTER_BYTES..]);
        let genesis_at = POINTERS_AT + 2 * POINTER_BYTES;
        let genesis =
            (u32_at(bytes, genesis_at) == 1).then(|| TailStart::decode(&bytes[genesis_at + 48..]));
        Found::Superblock(Box::new(Superblock {
            format,
            generation: u64_at(bytes, 56),
            geometry,
            store_id: bytes[STORE_ID].try_into().expect("sixteen bytes"),
            salt: bytes[40..48].try_into().expect("eight bytes"),
            created_ms: u64_at(bytes, 48),
            slots: u32_at(bytes, 20),
            epoch: u64_at(bytes, 64),
            epoch_batch: u64_at(bytes, 72),
            durable_batch: u64_at(bytes, 80),
            id_floor: u32_at(bytes, 88),
            clean: bytes[10] == 1,
            checkpoints: [pointer(0), pointer(1)],
            genesis,
        }))
    }

    /// Writes both copies, the second only when the first is durable; `last`
    /// the one that counts so far: a crash may have left the other torn, and
    /// another crash now must not tear this one as well.
    pub(super) fn write(&self, device: &dyn Device, last: usize) -> std::io::Result<()> {
        let block = self.encode();
        for at in [SUPERBLOCKS_AT[1 - last], SUPERBLOCKS_AT[last]] {
            device.write_at(block.as_slice(), at)?;
            device.sync()?;
        }
        Ok(())
    }
}

impl Pointer {
    fn encode(&self, bytes: &mut [u8]) {
        put_u32(bytes, 0, 1);
        put_u32(bytes, 4, self.segment);
        put_u32(bytes, 8, self.slot);
        put_u32(bytes, 12, self.offset);
        put_u32(bytes, 16, self.len);
        put_u64(bytes, 24, self.bytes);
        put_u64(bytes, 32, self.begun_ms);
        put_u64(bytes, 40, self.complete_ms);
        self.tail.encode(&mut bytes[48..]);
    }

    fn decode(bytes: &[u8]) -> Option<Pointer> {
        (u32_at(bytes, 0) == 1).then(|| Pointer {
            segment: u32_at(bytes, 4),
            slot: u32_at(bytes, 8),
            offset: u32_at(bytes, 12),
            len: u32_at(bytes, 16),
            bytes: u64_at(bytes, 24),
            begun_ms: u64_at(bytes, 32),
            complete_ms: u64_at(bytes, 40),
            tail: TailStart::decode(&bytes[48..]),
        })
    }
}

impl TailStart {
    /// Whether recovery can begin there.
    pub(super) fn is_sane(&self, geometry: Geometry) -> bool {
        self.offset.is_multiple_of(geometry.block) && self.offset <= geometry.segment_bytes
    }

    fn encode(&self, bytes: &mut [u8]) {
        put_u32(bytes, 0, self.segment);
        put_u32(bytes, 4, self.slot);
        put_u32(bytes, 8, self.offset);
        put_u32(bytes, 12, self.next.segment);
        put_u32(bytes, 16, self.next.slot);
        put_u32(bytes, 20, self.previous);
        put_u64(bytes, 24, self.number);
        put_u64(bytes, 32, self.seq_next);
        put_u64(bytes, 40, self.position);
        put_u32(bytes, 48, self.id_next);
    }

    fn decode(bytes: &[u8]) -> TailStart {
        TailStart {
            segment: u32_at(bytes, 0),
            slot: u32_at(bytes, 4),
            offset: u32_at(bytes, 8),
            next: Successor {
                segment: u32_at(bytes, 12),
                slot: u32_at(bytes, 16),
            },
            previous: u32_at(bytes, 20),
            number: u64_at(bytes, 24),
            seq_next: u64_at(bytes, 32),
            position: u64_at(bytes, 40),
            id_next: u32_at(bytes, 48),
        }
    }
}

/// The superblock that counts.
pub(super) struct Current {
    pub superblock: Superblock,
    /// Which of the two it is.
    pub index: usize,
    /// How many verify.
    pub verified: u8,
}

/// The newer of the two superblocks. `None` on an empty device. One of a newer format is an error
/// whatever the other is: an opening may have been cut off while it raised the format.
pub(super) fn find(
    device: &dyn Device,
    reads: &RangeInclusive<u16>,
) -> Result<Option<Current>, OpenError> {
    let mut found = Vec::with_capacity(2);
    for at in SUPERBLOCKS_AT {
        let mut block = Buffer::zeroed(ALIGN);
        let beyond = at + ALIGN as u64 > device.len();
        let read = if beyond {
            Ok(())
        } else {
            device.read_at(block.as_mut_slice(), at)
        };
        found.push(read.map_or(Found::Damaged, |()| {
            Superblock::decode(block.as_slice(), reads)
        }));
    }
    let newer = found.iter().find_map(|found| match found {
        Found::Newer(version) => Some(*version),
        _ => None,
    });
    if let Some(found) = newer {
        return Err(OpenError::Newer {
            found,
            supported: *reads.end(),
        });
    }
    match <[Found; 2]>::try_from(found).expect("two were read") {
        [Found::Superblock(first), Found::Superblock(second)] => {
            let index = usize::from(first.generation < second.generation);
            let superblock = if index == 0 { *first } else { *second };
            Ok(Some(Current {
                superblock,
                index,
                verified: 2,
            }))
        }
        [Found::Superblock(only), _] => Ok(Some(Current {
            superblock: *only,
            index: 0,
            verified: 1,
        })),
        [_, Found::Superblock(only)] => Ok(Some(Current {
            superblock: *only,
            index: 1,
            verified: 1,
        })),
        [Found::Foreign, _] | [_, Found::Foreign] => Err(OpenError::NotAStore),
        [_, Found::Blank] if segments_are_blank(device)? => Ok(None),
        _ => Err(OpenError::Unreadable("both superblocks are damaged".into())),
    }
}

/// Where on a device the last segment of its store ends, in bytes: what lies behind is not used.
/// `None` where no superblock verifies, or its store does not fit.
pub fn end_of_segments(device: &dyn Device) -> Option<u64> {
    let Superblock {
        geometry, slots, ..
    } = find(device, &READS).ok()??.superblock;
    let end = geometry.len_for(geometry.slots(device.len()).max(slots));
    (end <= device.len()).then_some(end)
}

/// Whether no segment has ever been written, in any geometry: then a superblock
/// that does not verify is one that was being created.
fn segments_are_blank(device: &dyn Device) -> Result<bool, OpenError> {
    let mut block = Buffer::zeroed(ALIGN);
    for at in (SEGMENTS_AT..device.len()).step_by(Geometry::SEGMENT_BYTES_MIN as usize) {
        device.read_at(block.as_mut_slice(), at)?;
        if block.as_slice().iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A superblock of a device of `len` bytes, for tests of what lies around a store.
#[cfg(test)]
pub(crate) fn example(len: u64, segment_bytes: u32) -> Superblock {
    let geometry = Geometry {
        block: 4096,
        segment_bytes,
    };
    Superblock {
        format: *READS.end(),
        generation: 1,
        geometry,
        store_id: [7; 16],
        salt: [3; 8],
        created_ms: 1,
        slots: geometry.slots(len),
        epoch: 1,
        epoch_batch: 1,
        durable_batch: 0,
        id_floor: 1,
        clean: false,
        checkpoints: [None, None],
        genesis: None,
    }
}
