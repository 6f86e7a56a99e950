//! The messages of an account that have not reached it yet.

use std::collections::VecDeque;
use std::fmt;

use super::profile::Slot;
use crate::store::fold::Place;
use crate::store::records::ArchivedMessageV1;

/// The number of a stored message: the sequence number of the record that put
/// it, so ids grow strictly over the whole server and outlive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The flag of a message that its owner has sent and another server does not have yet.
///
/// It belongs to format 1 of the log: every program that was ever released knows it. One that did
/// not would deliver such a message to its sender, so a further flag needs a further
/// [format](crate::store::formats).
pub const OUTBOUND: u8 = 1;

/// A message that waits; its bytes are on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number.
    pub id: MessageId,
    /// Where it stands now; compaction may move it.
    pub place: Place,
    /// Unix time in milliseconds at which the server took it.
    pub received_at_ms: u64,
    /// [`OUTBOUND`], or nothing.
    pub flags: u8,
}

impl StoredMessage {
    /// Whether it is on its way from its owner to another server, rather than to its owner.
    pub fn is_outbound(&self) -> bool {
        self.flags & OUTBOUND != 0
    }

    /// The message of a record.
    pub(super) fn of(body: &ArchivedMessageV1<'_>, slot: Slot) -> StoredMessage {
        StoredMessage {
            id: MessageId(slot.seq),
            place: slot.place,
            received_at_ms: body.received_at_ms.to_native(),
            flags: body.flags,
        }
    }
}

/// The messages of one account, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    queue: VecDeque<StoredMessage>,
    bytes: u64,
}

impl Messages {
    /// No messages.
    pub(crate) const fn new() -> Messages {
        Messages {
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bytes that they take on the device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The messages, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &StoredMessage> + ExactSizeIterator {
        self.queue.iter()
    }

    /// The messages behind `id`, oldest first.
    pub fn after(&self, id: MessageId) -> impl DoubleEndedIterator<Item = &StoredMessage> {
        let start = self.queue.partition_point(|message| message.id <= id);
        self.queue.range(start..)
    }

    /// The message with this number.
    pub fn find(&self, id: MessageId) -> Option<&StoredMessage> {
        self.queue
            .binary_search_by_key(&id, |message| message.id)
            .ok()
            .map(|at| &self.queue[at])
    }

    /// Puts a message at the place of its number; gives back the one that
    /// stood there.
    pub(crate) fn put(&mut self, message: StoredMessage) -> Option<StoredMessage> {
        self.bytes += u64::from(message.place.len);
        let replaced = match self.queue.back() {
            Some(last) if last.id >= message.id => {
                match self
                    .queue
                    .binary_search_by_key(&message.id, |stored| stored.id)
                {
                    Ok(at) => Some(std::mem::replace(&mut self.queue[at], message)),
                    Err(at) => {
                        self.queue.insert(at, message);
                        None
                    }
                }
            }
            _ => {
                self.queue.push_back(message);
                None
            }
        };
        self.bytes -= replaced.map_or(0, |old| u64::from(old.place.len));
        replaced
    }

    /// Says where a message stands now; gives back where it stood.
    pub(crate) fn relocate(&mut self, id: MessageId, to: Place) -> Option<Place> {
        let at = self
            .queue
            .binary_search_by_key(&id, |message| message.id)
            .ok()?;
        let from = std::mem::replace(&mut self.queue[at].place, to);
        self.bytes = self.bytes - u64::from(from.len) + u64::from(to.len);
        Some(from)
    }

    /// Takes out the messages `first..=last`, handing each to `taken`.
    pub(crate) fn take(
        &mut self,
        first: MessageId,
        last: MessageId,
        mut taken: impl FnMut(StoredMessage),
    ) {
        let start = self.queue.partition_point(|message| message.id < first);
        let end = self.queue.partition_point(|message| message.id <= last);
        for message in self.queue.drain(start..end) {
            self.bytes -= u64::from(message.place.len);
            taken(message);
        }
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
    }
}

/// An empty queue keeps room for so many messages: an online recipient's
/// queue fills and empties all the time.
const KEPT_CAPACITY: usize = 4;

/// Writes those of `ids` that stand in the queue as
/// [`RetiredV1`](crate::store::records::RetiredV1) has them; false when none does.
///
/// Messages that follow each other in the queue become one run, whatever ids
/// of other accounts lie between theirs: no message of this account can ever
/// come to stand between them.
pub(crate) fn encode_runs(
    messages: &Messages,
    ids: &[MessageId],
    first: &mut u64,
    runs: &mut Vec<u8>,
) -> bool {
    let position = |id: &MessageId| {
        messages
            .queue
            .binary_search_by_key(id, |message| message.id)
            .ok()
    };
    let mut positions: Vec<usize> = ids.iter().filter_map(position).collect();
    positions.sort_unstable();
    positions.dedup();
    let Some(start) = positions.first() else {
        return false;
    };
    *first = messages.queue[*start].id.0;
    let mut end = *first;
    for run in positions.chunk_by(|before, next| before + 1 == *next) {
        let (start, last) = (
            messages.queue[run[0]].id.0,
            messages.queue[run[run.len() - 1]].id.0,
        );
        write_leb128(start - end, runs);
        write_leb128(last - start, runs);
        end = last + 1;
    }
    true
}

/// Reads such a list, handing each run's first and last id to `run`; `None`
/// when the bytes are no such list.
pub(crate) fn decode_runs(
    first: u64,
    mut runs: &[u8],
    mut run: impl FnMut(MessageId, MessageId),
) -> Option<()> {
    let mut end = first;
    while !runs.is_empty() {
        let start = end.checked_add(read_leb128(&mut runs)?)?;
        let last = start.checked_add(read_leb128(&mut runs)?)?;
        end = last.checked_add(1)?;
        run(MessageId(start), MessageId(last));
    }
    Some(())
}

fn write_leb128(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_leb128(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
