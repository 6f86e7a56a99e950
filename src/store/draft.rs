//! The records of a transaction on their way into the log.

use std::ops::Range;

use bytes::Bytes;

use super::batch::{Batch, Class, Entry, Purpose};
use super::records::{Kind, version_in};
use crate::stanza::Outgoing;

/// The records of a transaction, in buffers that the next one uses again.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The format of the log that they are for.
    format: u16,
    bytes: Vec<u8>,
    records: Vec<DraftRecord>,
}

#[derive(Debug)]
struct DraftRecord {
    kind: Kind,
    body: Range<usize>,
    payload: DraftPayload,
}

#[derive(Debug)]
enum DraftPayload {
    Shared(Bytes),
    Copied(Range<usize>),
}

/// Room that is kept for the next transaction.
const KEPT_BYTES: usize = 64 << 10;
const KEPT_RECORDS: usize = 256;

impl Draft {
    /// For a log of this format.
    pub(crate) fn new(format: u16) -> Draft {
        Draft {
            format,
            bytes: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The version in which a body of this kind is to be written.
    pub(crate) fn version_of(&self, kind: Kind) -> u8 {
        version_in(kind, self.format)
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets the records and, after an unusually large transaction, the room for them.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.records.shrink_to(KEPT_RECORDS);
    }

    /// Adds a record. A payload in one piece is not copied.
    pub(crate) fn push(&mut self, kind: Kind, payload: Outgoing, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        body(&mut self.bytes);
        let end = self.bytes.len();
        let payload = if payload.tail.is_empty() {
            DraftPayload::Shared(payload.head)
        } else {
            self.bytes.extend_from_slice(&payload.head);
            self.bytes.extend_from_slice(&payload.tail);
            DraftPayload::Copied(end..self.bytes.len())
        };
        self.records.push(DraftRecord {
            kind,
            body: start..end,
            payload,
        });
    }

    /// The records as the log takes them.
    pub(crate) fn batch(&self) -> Batch<'_> {
        let entries = self.records.iter().map(|record| Entry {
            class: Class::State,
            kind: record.kind as u8,
            version: self.version_of(record.kind),
            body: &self.bytes[record.body.clone()],
            payload: match &record.payload {
                DraftPayload::Shared(bytes) => bytes,
                DraftPayload::Copied(range) => &self.bytes[range.clone()],
            },
        });
        let only_removes = self.records.iter().all(|record| record.kind.is_removal());
        let erases = self
            .records
            .iter()
            .any(|record| record.kind == Kind::AccountRemoved);
        Batch {
            entries: entries.collect(),
            purpose: if only_removes {
                Purpose::Remove
            } else {
                Purpose::Store
            },
            erases,
        }
    }
}
