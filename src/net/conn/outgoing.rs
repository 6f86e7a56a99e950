//! The writing half of a connection: what was taken from the outbox and the socket has not taken
//! yet. It owns no memory while there is nothing to write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::router::Entry;

use crate::net::transport::Transport;

/// Pieces that one write offers the socket at most.
const SLICES_MAX: usize = 64;

/// Bytes on their way.
#[derive(Debug, Default)]
pub struct OutgoingQueue {
    pieces: VecDeque<Bytes>,
    /// What the pieces hold.
    bytes: usize,
    /// Of what was pushed since the last [`Progress::Done`], the stream's own words.
    own_bytes: usize,
    /// Entries whose bytes are among the pieces; they have reached the client, as far as the
    /// server can tell without stream management, when all of it is written.
    entries: Vec<Entry>,
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
        self.pieces.is_empty() && self.entries.is_empty()
    }

    /// Adds bytes of the outbox, whose bounds they are under.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
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
        self.own_bytes.min(self.bytes)
    }

    /// Remembers what is being written until it is.
    pub fn remember(&mut self, entry: Entry) {
        self.entries.push(entry);
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
                Ok(taken) => self.consume(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        // The transport keeps less than a record.
        self.own_bytes = 0;
        match transport.try_flush()? {
            true => Ok(Progress::Done),
            false => Ok(Progress::Blocked),
        }
    }

    /// What has not been written in full; the transport is gone.
    pub fn take_unwritten(&mut self) -> Vec<Entry> {
        self.pieces = VecDeque::new();
        (self.bytes, self.own_bytes) = (0, 0);
        std::mem::take(&mut self.entries)
    }

    /// What has been written in full, once [`Progress::Done`] was met; the memory is given back.
    pub fn take_written(&mut self) -> Vec<Entry> {
        debug_assert!(self.pieces.is_empty());
        self.pieces = VecDeque::new();
        std::mem::take(&mut self.entries)
    }

    fn consume(&mut self, mut taken: usize) {
        self.bytes = self.bytes.saturating_sub(taken);
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
        assert!(queue.is_empty());
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
