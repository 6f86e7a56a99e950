//! A device in memory that behaves as badly as real ones may: what was not
//! synced is lost, torn or reordered by a crash, reads and writes fail when
//! told to, bits flip, and after a failed sync the cache lies.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::Device;

const BLOCK: usize = 4096;
/// What a medium writes at once: a crash tears a block between sectors.
const SECTOR: usize = 512;

type Block = Arc<[u8; BLOCK]>;

/// Blocks that were written at some time, the rest zeros.
#[derive(Clone, Default)]
struct Image {
    blocks: Vec<Option<Block>>,
}

/// The simulated device. Clones share it.
#[derive(Clone)]
pub struct SimDevice {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    durable: Image,
    /// Written since the last sync, in order: block and content.
    pending: Vec<(usize, Block)>,
    cache: Image,
    len: u64,
    len_max: u64,
    faults: Faults,
    writes: u64,
    syncs: u64,
    bytes_written: u64,
    history: Option<Vec<Op>>,
}

/// What is going to fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The write after this many more fails, as do all that follow.
    pub writes_left: Option<u64>,
    /// The sync after this many more fails, once: what was pending is lost, and
    /// the cache goes on to show it.
    pub syncs_left: Option<u64>,
    /// Growing fails.
    pub no_space: bool,
    /// Reads fail that touch the bytes from the first to the second.
    pub unreadable: Option<(u64, u64)>,
}

/// What was done to a device, in order.
#[derive(Clone)]
enum Op {
    Write(usize, Block),
    Sync,
    Grow(u64),
}

/// Everything that was done to a device since recording began.
pub struct History {
    start: Image,
    start_len: u64,
    len_max: u64,
    ops: Vec<Op>,
}

/// Decides for each pending block whether a crash keeps it: how many of its
/// eight sectors, as a mask.
pub type Choose<'a> = &'a mut dyn FnMut() -> u8;

impl Image {
    fn block(&self, index: usize) -> Option<&Block> {
        self.blocks.get(index)?.as_ref()
    }

    fn put(&mut self, index: usize, block: Block) {
        if self.blocks.len() <= index {
            self.blocks.resize(index + 1, None);
        }
        self.blocks[index] = Some(block);
    }

    fn tear(&mut self, index: usize, block: &Block, mask: u8) {
        match mask {
            0 => {}
            0xff => self.put(index, block.clone()),
            _ => {
                let mut torn = self.block(index).map_or([0; BLOCK], |old| **old);
                for sector in (0..8).filter(|sector| mask & (1 << sector) != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    torn[range.clone()].copy_from_slice(&block[range]);
                }
                self.put(index, Arc::new(torn));
            }
        }
    }
}

impl SimDevice {
    /// A device of `len` bytes that can grow up to `len_max`.
    pub fn new(len: u64, len_max: u64) -> SimDevice {
        SimDevice::with_image(Image::default(), len, len_max)
    }

    fn with_image(image: Image, len: u64, len_max: u64) -> SimDevice {
        let inner = Inner {
            durable: image.clone(),
            pending: Vec::new(),
            cache: image,
            len,
            len_max,
            faults: Faults::default(),
            writes: 0,
            syncs: 0,
            bytes_written: 0,
            history: None,
        };
        SimDevice {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// A device that holds `bytes`, durably.
    pub fn from_bytes(bytes: &[u8]) -> SimDevice {
        let len = bytes.len().next_multiple_of(BLOCK) as u64;
        let mut image = Image::default();
        for (index, chunk) in bytes.chunks(BLOCK).enumerate() {
            if chunk.iter().any(|&byte| byte != 0) {
                let mut block = [0; BLOCK];
                block[..chunk.len()].copy_from_slice(chunk);
                image.put(index, Arc::new(block));
            }
        }
        SimDevice::with_image(image, len, len)
    }

    /// Its durable content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let inner = self.lock();
        let mut bytes = vec![0; inner.len as usize];
        for (index, chunk) in bytes.chunks_mut(BLOCK).enumerate() {
            if let Some(block) = inner.durable.block(index) {
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        }
        bytes
    }

    /// Sets what is going to fail.
    pub fn fail(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Flips a bit, durably.
    pub fn flip(&self, at: u64, bit: u8) {
        let mut inner = self.lock();
        let index = (at / BLOCK as u64) as usize;
        let mut block = inner
            .durable
            .block(index)
            .map_or([0; BLOCK], |block| **block);
        block[(at % BLOCK as u64) as usize] ^= 1 << (bit % 8);
        let block = Arc::new(block);
        inner.durable.put(index, block.clone());
        inner.cache.put(index, block);
    }

    /// Fills a range with zeros, durably.
    pub fn zero(&self, at: u64, len: u64) {
        let mut inner = self.lock();
        for index in at / BLOCK as u64..(at + len).div_ceil(BLOCK as u64) {
            let block = Arc::new([0; BLOCK]);
            inner.durable.put(index as usize, block.clone());
            inner.cache.put(index as usize, block);
        }
    }

    /// How many writes and syncs there were, and the bytes of the writes.
    pub fn counts(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        (inner.writes, inner.syncs, inner.bytes_written)
    }

    /// What is there after a power cut: of every pending block the sectors that
    /// `choose` names. Also what a new opening sees, past the cache.
    pub fn crash(&self, choose: Choose<'_>) -> SimDevice {
        let inner = self.lock();
        let mut image = inner.durable.clone();
        for (index, block) in &inner.pending {
            image.tear(*index, block, choose());
        }
        SimDevice::with_image(image, inner.len, inner.len_max)
    }

    /// What is there after the process was killed: the cache stays, unless a
    /// sync had failed.
    pub fn kill(&self) -> SimDevice {
        self.crash(&mut || 0xff)
    }

    /// Begins to record.
    pub fn record(&self) -> History {
        let mut inner = self.lock();
        assert!(
            inner.pending.is_empty(),
            "recording begins with everything synced"
        );
        inner.history = Some(Vec::new());
        History {
            start: inner.durable.clone(),
            start_len: inner.len,
            len_max: inner.len_max,
            ops: Vec::new(),
        }
    }

    /// Ends the recording.
    pub fn stop_recording(&self, history: &mut History) {
        history.ops = self.lock().history.take().unwrap_or_default();
    }

    /// How many operations have been recorded so far.
    pub fn recorded(&self) -> usize {
        self.lock().history.as_ref().map_or(0, Vec::len)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nobody panics while holding the device")
    }
}

impl History {
    /// How many operations were recorded. A crash is possible after any number
    /// of them, including none.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How many blocks were pending after the first `ops` operations.
    pub fn pending(&self, ops: usize) -> usize {
        let since = self.ops[..ops]
            .iter()
            .rev()
            .take_while(|op| !matches!(op, Op::Sync));
        since.filter(|op| matches!(op, Op::Write(..))).count()
    }

    /// The device after a crash behind the first `ops` operations.
    pub fn crash(&self, ops: usize, choose: Choose<'_>) -> SimDevice {
        let mut image = self.start.clone();
        let mut len = self.start_len;
        let synced = self.ops[..ops]
            .iter()
            .rposition(|op| matches!(op, Op::Sync))
            .unwrap_or(0);
        for (index, op) in self.ops[..ops].iter().enumerate() {
            match op {
                Op::Write(at, block) if index < synced => image.put(*at, block.clone()),
                Op::Write(at, block) => image.tear(*at, block, choose()),
                Op::Grow(to) => len = *to,
                Op::Sync => {}
            }
        }
        SimDevice::with_image(image, len, self.len_max)
    }
}

impl Device for SimDevice {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        assert_aligned(at, buf.len());
        let inner = self.lock();
        if at + buf.len() as u64 > inner.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let touches = |&(from, until): &(u64, u64)| at < until && from < at + buf.len() as u64;
        if inner.faults.unreadable.as_ref().is_some_and(touches) {
            return Err(io::Error::other("the simulated read fails"));
        }
        for (chunk, index) in buf.chunks_mut(BLOCK).zip((at / BLOCK as u64) as usize..) {
            match inner.cache.block(index) {
                Some(block) => chunk.copy_from_slice(&block[..]),
                None => chunk.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        assert_aligned(at, buf.len());
        let mut inner = self.lock();
        if at + buf.len() as u64 > inner.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fails = match &mut inner.faults.writes_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        inner.writes += 1;
        inner.bytes_written += buf.len() as u64;
        let (blocks, _) = buf.as_chunks::<BLOCK>();
        // A write that fails may have been carried out in part.
        let carried = if fails {
            blocks.len() / 2
        } else {
            blocks.len()
        };
        for (block, index) in blocks[..carried].iter().zip((at / BLOCK as u64) as usize..) {
            let block = Arc::new(*block);
            inner.cache.put(index, block.clone());
            inner.pending.push((index, block.clone()));
            if let Some(history) = &mut inner.history {
                history.push(Op::Write(index, block));
            }
        }
        if fails {
            Err(io::Error::other("the simulated write fails"))
        } else {
            Ok(())
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.syncs += 1;
        if inner.faults.syncs_left == Some(0) {
            inner.faults.syncs_left = None;
            inner.pending.clear();
            return Err(io::Error::other("the simulated sync fails"));
        }
        if let Some(left) = &mut inner.faults.syncs_left {
            *left -= 1;
        }
        for (index, block) in std::mem::take(&mut inner.pending) {
            inner.durable.put(index, block);
        }
        if let Some(history) = &mut inner.history {
            history.push(Op::Sync);
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.lock().len
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.faults.no_space || len > inner.len_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.len = inner.len.max(len);
        if let Some(history) = &mut inner.history {
            history.push(Op::Grow(len));
        }
        Ok(())
    }

    fn grows(&self) -> bool {
        let inner = self.lock();
        inner.len < inner.len_max
    }
}

fn assert_aligned(at: u64, len: usize) {
    assert!(
        at.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK),
        "access is by whole blocks"
    );
}
