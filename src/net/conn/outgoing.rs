//! The writing half of a connection: what was taken from the outbox and the socket has not taken
//! yet. It owns no memory while there is nothing to write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::net::transport::Transport;

/// Pieces that one write offers the socket at most.
const SLICES_MAX: usize = 64;

/// Bytes on their way.
#[derive(Debug, Default)]
pub struct OutgoingQueue {
    pieces: VecDeque<Bytes>,
    /// Of what was pushed since the last [`Progress::Done`], the stream's own words.
    own_bytes: usize,
    /// Where entries end whose fate matters, counted in bytes from when the queue was last empty.
    /// They have reached the client, as far as the server can tell without stream management,
    /// when the kernel has taken them.
    ends: VecDeque<u64>,
    pushed: u64,
    /// Bytes that the transport has taken. It may keep the last record back.
    taken: u64,
    /// Bytes that the kernel has taken.
    sent: u64,
}

/// How far a write came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything is with the kernel.
    Done,
    /// The socket is full.
    Blocked,
}

impl OutgoingQueue {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.sent == self.pushed
    }

    /// Adds bytes of the outbox, whose bounds they are under.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pushed += bytes.len() as u64;
            self.pieces.push_back(bytes);
        }
    }

    /// Adds bytes that no outbox answers for: whoever lets a client go on while they wait has to
    /// look at [`OutgoingQueue::own_bytes`].
    pub fn push_own(&mut self, bytes: Bytes) {
        self.own_bytes += bytes.len();
        self.push(bytes);
    }

    /// How much of the stream's own words waits, at most.
    pub fn own_bytes(&self) -> usize {
        let waiting = usize::try_from(self.pushed - self.taken).unwrap_or(usize::MAX);
        self.own_bytes.min(waiting)
    }

    /// An entry ends here whose fate matters.
    pub fn end_entry(&mut self) {
        self.ends.push_back(self.pushed);
    }

    /// Writes what the socket takes now.
    pub fn write(&mut self, transport: &mut Transport) -> io::Result<Progress> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match transport.try_write(&slices[..count]) {
                Ok(bytes) => {
                    // It takes nothing more before it has given away what it had.
                    self.sent = self.taken;
                    self.consume(bytes);
                    if !transport.is_write_pending() {
                        self.sent = self.taken;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        // The transport keeps less than a record.
        self.own_bytes = 0;
        match transport.try_flush()? {
            true => {
                self.sent = self.taken;
                Ok(Progress::Done)
            }
            false => Ok(Progress::Blocked),
        }
    }

    /// How many more entries whose fate matters are with the kernel in full. The memory is given
    /// back once nothing is left.
    pub fn take_written(&mut self) -> usize {
        let written = self.ends.partition_point(|end| *end <= self.sent);
        self.ends.drain(..written);
        if self.is_empty() {
            *self = OutgoingQueue::default();
        }
        written
    }

    fn consume(&mut self, mut taken: usize) {
        self.taken += taken as u64;
        while taken > 0 {
            let Some(first) = self.pieces.front_mut() else {
                return;
            };
            if first.len() > taken {
                *first = first.slice(taken..);
                return;
            }
            taken -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_leaves_from_the_front() {
        let mut queue = OutgoingQueue::default();
        for piece in ["abc", "", "de", "f"] {
            queue.push(Bytes::from_static(piece.as_bytes()));
        }
        queue.consume(4);
        let left: Vec<&[u8]> = queue.pieces.iter().map(|piece| &piece[..]).collect();
        assert_eq!(left, [&b"e"[..], b"f"]);
        queue.consume(2);
        assert!(queue.pieces.is_empty());
    }

    #[test]
    fn an_entry_is_written_when_its_last_byte_is_with_the_kernel() {
        let mut queue = OutgoingQueue::default();
        for piece in ["abc", "de", "f"] {
            queue.push(Bytes::from_static(piece.as_bytes()));
            queue.end_entry();
        }
        queue.push(Bytes::from_static(b"g"));
        queue.consume(5);
        assert_eq!(queue.take_written(), 0, "it may stand in a record");
        queue.sent = 4;
        assert_eq!(queue.take_written(), 1);
        queue.sent = 5;
        assert_eq!(queue.take_written(), 1);
        assert!(!queue.is_empty());
        queue.consume(2);
        queue.sent = 7;
        assert_eq!((queue.take_written(), queue.is_empty()), (1, true));
        assert_eq!((queue.pushed, queue.pieces.capacity()), (0, 0));
    }

    #[test]
    fn the_streams_own_words_are_told_from_the_outboxs() {
        let mut queue = OutgoingQueue::default();
        queue.push(Bytes::from_static(b"a stanza"));
        assert_eq!(queue.own_bytes(), 0);
        queue.push_own(Bytes::from_static(b"a reply"));
        assert_eq!(queue.own_bytes(), 7);
        queue.consume(10);
        assert_eq!(queue.own_bytes(), 5);
    }
}
