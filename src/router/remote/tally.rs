//! What XEP-0198 counts on one stream: the peer's stanzas that were handled, and ours that the peer
//! has not acknowledged yet, over all links that are served on the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::router::outbox::HandledCountTooHigh;
use crate::store::Position;

use super::link::{Link, Taken};
use super::parcel::Parcel;

/// The counts of one stream, over all the connections that carry it one after another.
#[derive(Debug)]
pub struct Tally {
    handled: u32,
    after: Position,
    /// Of ours so many were acknowledged, modulo 2^32.
    acknowledged: u32,
    /// Whose those are that were sent behind them, oldest first.
    row: VecDeque<Stretch>,
    /// `<r/>` was sent and not answered.
    has_asked: bool,
}

/// Stanzas of one link that were sent one behind the other.
#[derive(Debug)]
struct Stretch {
    /// It keeps them; `None` when they went another way.
    link: Option<Arc<Link>>,
    count: u32,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            handled: 0,
            after: Position(0),
            acknowledged: 0,
            row: VecDeque::new(),
            has_asked: false,
        }
    }
}

impl Tally {
    /// One more of the peer's stanzas is handled; that may be told once this is durable.
    pub fn handle(&mut self, after: Position) {
        self.handled = self.handled.wrapping_add(1);
        self.after = self.after.max(after);
    }

    /// How many of the peer's stanzas are handled, modulo 2^32.
    pub fn handled(&self) -> u32 {
        self.handled
    }

    /// What must be durable before [`Tally::handled`] is told.
    pub fn after(&self) -> Position {
        self.after
    }

    /// How many of ours were acknowledged, modulo 2^32.
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Takes what may be written now of one link, as [`Link::take`]; the link keeps it.
    pub fn take(
        &mut self,
        link: &Arc<Link>,
        reader: u64,
        durable: Position,
        bytes_max: usize,
    ) -> Taken {
        let taken = link.take_unacknowledged(reader, durable, bytes_max);
        let count = u32::try_from(taken.parcels.len()).unwrap_or(u32::MAX);
        match self.row.back_mut() {
            _ if count == 0 => {}
            Some(last) if last.is_of(link) => last.count += count,
            _ => self.row.push_back(Stretch {
                link: Some(link.clone()),
                count,
            }),
        }
        taken
    }

    /// How many of ours were sent and not acknowledged.
    pub fn unacknowledged(&self) -> u32 {
        self.row.iter().map(|stretch| stretch.count).sum()
    }

    /// Whether the peer is to be asked for its count now: it has stanzas, and has answered what was
    /// asked before.
    pub fn asks(&mut self) -> bool {
        let asks = !self.has_asked && !self.row.is_empty();
        self.has_asked |= asks;
        asks
    }

    /// Whether the peer has not said how many stanzas it has, although it was asked.
    pub fn is_unanswered(&self) -> bool {
        self.has_asked
    }

    /// The peer has handled so many of the stream's stanzas. Returns those that it newly has.
    pub fn acknowledge(&mut self, reader: u64, h: u32) -> Result<Vec<Parcel>, HandledCountTooHigh> {
        let mut count = self.newly(h)?;
        self.acknowledged = h;
        self.has_asked = false;
        let mut done = Vec::new();
        while count > 0
            && let Some(first) = self.row.front_mut()
        {
            let part = count.min(first.count);
            if let Some(link) = &first.link {
                done.extend(link.settle(reader, part as usize));
            }
            count -= part;
            first.count -= part;
            if first.count == 0 {
                self.row.pop_front();
            }
        }
        if self.row.is_empty() {
            self.row = VecDeque::new();
        }
        Ok(done)
    }

    /// The stream is resumed by this connection, which its links are with: the peer has handled
    /// `h`, the rest is sent again in its order. Returns what the peer newly has.
    pub fn resumed(&mut self, reader: u64, h: u32) -> Result<Vec<Parcel>, HandledCountTooHigh> {
        let done = self.acknowledge(reader, h)?;
        for stretch in std::mem::take(&mut self.row) {
            if let Some(link) = stretch.link {
                link.send_again(reader);
            }
        }
        Ok(done)
    }

    /// How many stanzas the peer newly has when it has `h`.
    pub fn newly(&self, h: u32) -> Result<u32, HandledCountTooHigh> {
        let (count, unacknowledged) = (h.wrapping_sub(self.acknowledged), self.unacknowledged());
        match count <= unacknowledged {
            true => Ok(count),
            false => {
                let sent = self.acknowledged.wrapping_add(unacknowledged);
                Err(HandledCountTooHigh { h, sent })
            }
        }
    }

    /// What is unacknowledged goes another way; that it was sent still counts.
    pub fn forget_links(&mut self) {
        for stretch in &mut self.row {
            stretch.link = None;
        }
    }
}

impl Stretch {
    fn is_of(&self, link: &Arc<Link>) -> bool {
        self.link.as_ref().is_some_and(|own| Arc::ptr_eq(own, link))
    }
}
