//! The log's own records: segments opened and freed, extents, erasure. Their
//! kinds lie above [`Record::KIND_MAX`](super::fold::Record::KIND_MAX).

use super::fold::Record;
use super::format::{Use, put_u32, put_u64, u32_at, u64_at};

pub(super) const OPENED: u8 = 0xF0;
pub(super) const FREED: u8 = 0xF1;
pub(super) const EXTENT: u8 = 0xF2;
pub(super) const ERASE: u8 = 0xF3;
pub(super) const WIPED: u8 = 0xF4;
/// Items of a checkpoint: entries of the segment map, and its root.
pub(super) const MAP: u8 = 0xF8;
pub(super) const ROOT: u8 = 0xF9;
/// Others: what was lost, and the free slots that are to be overwritten.
pub(super) const LOST: u8 = 0xFA;
pub(super) const SWEEP: u8 = 0xFB;

/// A record of the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Opened {
        id: u32,
        slot: u32,
        class: Use,
        packed: bool,
        bucket: u32,
        /// Its slot holds what is to be erased since then; 0: nothing.
        erase_ms: u64,
    },
    Freed {
        id: u32,
        why: Freed,
    },
    Extent(Extent),
    /// Inline copies older than this record are to be erased: those in chain
    /// and checkpoint segments below `before`.
    Erase {
        before: u32,
        at_ms: u64,
    },
    Wiped {
        id: u32,
    },
}

/// Why a segment was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// Nothing in it is live.
    Empty,
    /// The same, and it is overwritten before it is used again.
    Wipe,
    /// All of it has expired.
    Expired,
}

/// Frames of one append in a segment other than the chain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
    pub frames: u32,
    /// Checksum of the frame before the first.
    pub chain: u32,
    /// Checksum of the last.
    pub last: u32,
}

/// Version of all their bodies.
pub(super) const VERSION: u8 = 1;
/// The longest body of them, and more than the frame of one takes.
pub(super) const BODY_MAX: usize = 24;
pub(super) const FRAME_MAX: usize = super::format::FRAME_HEADER + BODY_MAX;

impl Own {
    /// Kind and body.
    pub fn encode(&self) -> (u8, [u8; BODY_MAX]) {
        let mut body = [0; BODY_MAX];
        let kind = match *self {
            Own::Opened {
                id,
                slot,
                class,
                packed,
                bucket,
                erase_ms,
            } => {
                put_u32(&mut body, 0, id);
                put_u32(&mut body, 4, slot);
                put_u32(&mut body, 8, bucket);
                body[12] = class as u8;
                body[13] = u8::from(packed);
                put_u64(&mut body, 16, erase_ms);
                OPENED
            }
            Own::Freed { id, why } => {
                put_u32(&mut body, 0, id);
                body[4] = match why {
                    Freed::Empty => 0,
                    Freed::Wipe => 1,
                    Freed::Expired => 2,
                };
                FREED
            }
            Own::Extent(extent) => {
                put_u32(&mut body, 0, extent.segment);
                put_u32(&mut body, 4, extent.offset);
                put_u32(&mut body, 8, extent.len);
                put_u32(&mut body, 12, extent.frames);
                put_u32(&mut body, 16, extent.chain);
                put_u32(&mut body, 20, extent.last);
                EXTENT
            }
            Own::Erase { before, at_ms } => {
                put_u32(&mut body, 0, before);
                put_u64(&mut body, 8, at_ms);
                ERASE
            }
            Own::Wiped { id } => {
                put_u32(&mut body, 0, id);
                WIPED
            }
        };
        (kind, body)
    }

    /// `None` for a kind, version or content that this program does not know.
    pub fn decode(record: &Record<'_>) -> Option<Own> {
        let body = record.body;
        if record.version != VERSION || body.len() != BODY_MAX {
            return None;
        }
        Some(match record.kind {
            OPENED => Own::Opened {
                id: u32_at(body, 0),
                slot: u32_at(body, 4),
                bucket: u32_at(body, 8),
                class: Use::from_byte(body[12])?,
                packed: body[13] == 1,
                erase_ms: u64_at(body, 16),
            },
            FREED => {
                let why = match body[4] {
                    0 => Freed::Empty,
                    1 => Freed::Wipe,
                    2 => Freed::Expired,
                    _ => return None,
                };
                Own::Freed {
                    id: u32_at(body, 0),
                    why,
                }
            }
            EXTENT => Own::Extent(Extent {
                segment: u32_at(body, 0),
                offset: u32_at(body, 4),
                len: u32_at(body, 8),
                frames: u32_at(body, 12),
                chain: u32_at(body, 16),
                last: u32_at(body, 20),
            }),
            ERASE => Own::Erase {
                before: u32_at(body, 0),
                at_ms: u64_at(body, 8),
            },
            WIPED => Own::Wiped {
                id: u32_at(body, 0),
            },
            _ => return None,
        })
    }
}
