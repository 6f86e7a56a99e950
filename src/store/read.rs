//! Reading one record at its place.

use std::io;

use super::buffer::{ALIGN, Buffer};
use super::disk::Device;
use super::fold::{Place, Record};
use super::format::{Frame, Geometry, Salt, decode_frame};

/// A record that is to be read; carried out with [`Read::perform`], outside the
/// lock.
#[derive(Debug)]
pub struct Read {
    place: Place,
    salt: Salt,
    from: From,
}

#[derive(Debug)]
enum From {
    /// It has not been written yet.
    Memory(Vec<u8>),
    /// It lies there on the device.
    Device(u64),
    /// Its segment is not in use any more.
    Nowhere,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Kind of the record.
    pub kind: u8,
    /// Version of its schema.
    pub version: u8,
    /// Its sequence number.
    pub seq: u64,
    /// Its body.
    pub body: bytes::Bytes,
    /// What lies beside it.
    pub payload: bytes::Bytes,
}

/// Why a record could not be read.
#[derive(Debug)]
pub enum FetchError {
    /// It is not there any more: it was moved or removed since its place was
    /// looked up. Look it up again.
    Gone,
    /// The device does not read.
    Device(io::Error),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FetchError::Gone => write!(f, "the record is not where it was"),
            FetchError::Device(error) => write!(f, "the device does not read: {error}"),
        }
    }
}

impl std::error::Error for FetchError {}

impl Read {
    pub(super) fn of(
        place: Place,
        waiting: Option<&[u8]>,
        slot: Option<u32>,
        geometry: Geometry,
        salt: Salt,
    ) -> Read {
        let within =
            u64::from(place.offset) + u64::from(place.len) <= u64::from(geometry.segment_bytes);
        let from = match (waiting, slot) {
            (Some(bytes), _) => From::Memory(bytes.to_vec()),
            (None, Some(slot)) if within => {
                From::Device(geometry.slot_at(slot) + u64::from(place.offset))
            }
            _ => From::Nowhere,
        };
        Read { place, salt, from }
    }

    /// Reads and verifies it.
    ///
    /// [`FetchError::Gone`] also when the bytes are damaged: who looks its
    /// place up again and finds it unchanged knows that.
    pub fn perform(self, device: &dyn Device) -> Result<Fetched, FetchError> {
        let bytes = match self.from {
            From::Memory(bytes) => bytes,
            From::Nowhere => return Err(FetchError::Gone),
            From::Device(at) => {
                read_range(device, at, self.place.len as usize).map_err(FetchError::Device)?
            }
        };
        let frame = decode_frame(&bytes, self.salt, self.place.segment, self.place.offset);
        let frame = frame
            .filter(|frame| frame.place == self.place)
            .ok_or(FetchError::Gone)?;
        let Frame {
            record:
                Record {
                    kind,
                    version,
                    seq,
                    body,
                    payload,
                },
            ..
        } = frame;
        let (from, split) = (
            super::format::FRAME_HEADER,
            super::format::FRAME_HEADER + body.len(),
        );
        let until = split + payload.len();
        let bytes = bytes::Bytes::from(bytes);
        Ok(Fetched {
            kind,
            version,
            seq,
            body: bytes.slice(from..split),
            payload: bytes.slice(split..until),
        })
    }
}

/// Reads `len` bytes from `at`, which need not be aligned.
pub(super) fn read_range(device: &dyn Device, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let skip = (at % ALIGN as u64) as usize;
    let mut buffer = Buffer::zeroed((skip + len).next_multiple_of(ALIGN));
    device.read_at(buffer.as_mut_slice(), at - skip as u64)?;
    Ok(buffer.as_slice()[skip..skip + len].to_vec())
}
