//! Handing out what is to be written, one group at a time.
//!
//! A group goes out only when the one before it is durable. That is what makes
//! a batch prove all before it durable, and a hole in front of a batch damage.

use std::io;
use std::sync::Arc;

use super::buffer::Buffer;
use super::disk::Device;
use super::format::{Geometry, SUPERBLOCKS_AT};
use super::group::{Blocks, Seal, Sealed};
use super::log::Log;
use super::superblock::Superblock;

/// Bytes to be written and synced, in the order of its phases.
pub struct Write {
    content: Content,
    geometry: Geometry,
}

#[derive(Clone)]
enum Content {
    Group(Arc<Sealed>),
    Superblock(Arc<Buffer>),
}

/// What is being written.
pub(super) struct Flying {
    content: Content,
    /// Generation and cleanness of a superblock.
    superblock: Option<Superblock>,
}

/// How a [`Write`] went.
#[derive(Debug)]
#[must_use = "the log does not go on before it knows"]
pub struct Written(io::Result<()>);

impl Write {
    /// Writes and syncs.
    pub fn perform(self, device: &dyn Device) -> Written {
        Written(self.try_perform(device))
    }

    /// Bytes that are written.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Group(group) => group.writes.iter().map(|blocks| blocks.buffer.len()).sum(),
            Content::Superblock(block) => block.len() * 2,
        }
    }

    /// Whether it writes nothing; it never does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn try_perform(&self, device: &dyn Device) -> io::Result<()> {
        match &self.content {
            Content::Group(group) => {
                for blocks in &group.writes {
                    let at = self.geometry.slot_at(blocks.slot) + u64::from(blocks.base);
                    device.write_at(blocks.buffer.as_slice(), at)?;
                }
                device.sync()
            }
            Content::Superblock(block) => SUPERBLOCKS_AT.iter().try_for_each(|&at| {
                device.write_at(block.as_slice(), at)?;
                device.sync()
            }),
        }
    }
}

impl Flying {
    pub fn blocks(&self) -> &[Blocks] {
        match &self.content {
            Content::Group(group) => &group.writes,
            Content::Superblock(_) => &[],
        }
    }
}

impl Log {
    /// The next thing to be written, if any, and if nothing is being written.
    /// It takes all that was appended so far.
    pub fn next_write(&mut self, now_ms: u64) -> Option<Write> {
        self.tick(now_ms);
        if self.flying.is_some() || self.poisoned.is_some() || self.options.read_only {
            return None;
        }
        if self.superblock_due {
            return Some(self.write_superblock(false));
        }
        if self.sealed.is_empty() && self.open.as_ref().is_some_and(|group| !group.is_empty()) {
            self.seal();
        }
        let Some(group) = self.sealed.pop_front() else {
            let last = self.closing && !self.closed;
            return last.then(|| self.write_superblock(true));
        };
        let content = Content::Group(Arc::new(group));
        self.flying = Some(Flying {
            content: content.clone(),
            superblock: None,
        });
        Some(Write {
            content,
            geometry: self.geometry,
        })
    }

    /// Takes note of how a write went. After a failure nothing is acknowledged
    /// any more.
    pub fn written(&mut self, written: Written) {
        let Some(flying) = self.flying.take() else {
            debug_assert!(false, "what was written was handed out");
            return;
        };
        if let Err(error) = written.0 {
            self.flying = Some(flying);
            self.poison(format!("a write or sync failed: {error}"));
            return;
        }
        match (flying.content, flying.superblock) {
            (Content::Group(group), _) => self.group_is_durable(group),
            (Content::Superblock(_), Some(superblock)) => self.superblock_is_durable(&superblock),
            (Content::Superblock(_), None) => {
                debug_assert!(false, "a superblock is kept with its write");
            }
        }
    }

    /// Removals may use what is kept free for background work: the log is about
    /// to be closed, so none follows, and they take a segment of it at most.
    pub fn give_up_reserve(&mut self) {
        self.reserve_given_up = true;
    }

    /// Takes no more appends; once [`Log::next_write`] has nothing left, the
    /// log is closed in order.
    pub fn close(&mut self) {
        self.closing = true;
        self.abandon_checkpoint();
        self.compaction = None;
        // What is only read has nothing to be put in order.
        self.closed |= self.options.read_only;
    }

    /// Whether something was handed out that is being written.
    pub fn is_writing(&self) -> bool {
        self.flying.is_some()
    }

    /// Whether it was closed in order and all is written.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// From now on nothing is acknowledged.
    pub(super) fn poison(&mut self, why: String) {
        self.poisoned.get_or_insert(why);
    }

    /// What time it is.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Completes the open group and queues it.
    pub(super) fn seal(&mut self) {
        let Some(group) = self.open.take() else {
            return;
        };
        if group.is_empty() {
            return;
        }
        for part in &group.parts {
            let end = self.geometry.padded(part.end());
            self.map.extend(part.segment, end);
        }
        let counts = group.counts;
        let seal = Seal {
            epoch: self.epoch,
            time_ms: self.now_ms,
            seq_next: self.seq_next,
            next: self.chain.next,
            previous: self.chain.previous,
        };
        let (group, crc) = group.seal(&seal, self.salt, self.geometry);
        if let Some(crc) = crc {
            let blocks = group.writes.last().expect("a batch is written");
            let end = blocks.base + blocks.buffer.len() as u32;
            self.allowance.earn(blocks.buffer.len() as u64);
            self.tail_bytes += if counts {
                blocks.buffer.len() as u64
            } else {
                0
            };
            self.chain.offset = end;
            self.chain.previous = crc;
            self.chain.number += 1;
            self.map.extend(self.chain.segment, end);
        }
        self.sealed.push_back(group);
    }

    fn group_is_durable(&mut self, group: Arc<Sealed>) {
        self.durable = self.durable.max(group.position);
        self.durable_batch = group.number.unwrap_or(self.durable_batch);
        for &slot in &group.frees {
            self.map.release_slot(slot);
        }
        self.wipes.extend(&group.wipes);
        self.checkpoint_is_durable(group.ticket);
        if let Some(group) = Arc::into_inner(group) {
            self.keep_spare(group);
        }
    }

    /// Keeps the memory of a written group for the next one.
    fn keep_spare(&mut self, group: Sealed) {
        const SPARE_MAX: usize = 2;
        const SPARE_BYTES_MAX: usize = 1 << 20;
        for mut blocks in group.writes.into_iter().rev().take(1) {
            if self.spare.len() < SPARE_MAX && blocks.buffer.capacity() <= SPARE_BYTES_MAX {
                blocks.buffer.clear();
                self.spare.push(blocks.buffer);
            }
        }
    }

    fn write_superblock(&mut self, clean: bool) -> Write {
        let superblock = self.superblock(clean);
        let content = Content::Superblock(Arc::new(superblock.encode()));
        self.flying = Some(Flying {
            content: content.clone(),
            superblock: Some(superblock),
        });
        Write {
            content,
            geometry: self.geometry,
        }
    }

    /// The superblock as it has to be now.
    pub(super) fn superblock(&self, clean: bool) -> Superblock {
        Superblock {
            format: self.format,
            generation: self.generation.saturating_add(1),
            geometry: self.geometry,
            store_id: self.identity.store_id,
            salt: self.identity.salt,
            created_ms: self.identity.created_ms,
            slots: self.map.slots,
            epoch: self.epoch,
            epoch_batch: self.epoch_batch,
            durable_batch: self.durable_batch,
            id_floor: self.map.id_next,
            clean,
            checkpoints: [0, 1].map(|index: usize| {
                self.standing[index]
                    .as_ref()
                    .map(|standing| standing.pointer)
            }),
            genesis: self.genesis,
        }
    }

    /// What only an older superblock needed can be given back now.
    pub(super) fn superblock_is_durable(&mut self, superblock: &Superblock) {
        self.generation = superblock.generation;
        self.superblock_due = false;
        self.closed = superblock.clean;
        let [newest, older] = superblock
            .checkpoints
            .map(|pointer| pointer.map(|pointer| pointer.tail));
        if let Some(tail) = older.or(superblock.genesis).or(newest) {
            self.needed_from = tail.segment;
        }
    }
}
