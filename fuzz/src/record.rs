//! Target `record`: recovery of a log from arbitrary bytes.
//!
//! The first byte chooses what the rest does to a device:
//! - *raw*: blocks of the input lie on an otherwise empty device;
//! - *rot*: a sound log is changed, as media do it (bits, blocks lost or misplaced);
//! - *forge*: structures with right checksums and wrong content are put into a sound log, as a defect of ours would.
//!
//! Whatever it is, opening ends with a log or an error, never with a panic, and never takes more memory than the device
//! is long. What is appended to a log that had rotted is there when it is opened again.

use std::collections::HashMap;
use std::sync::OnceLock;

use cairn::store::batch::{AppendError, Batch, Class, Entry};
use cairn::store::buffer::Buffer;
use cairn::store::chore::Next;
use cairn::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};
use cairn::store::format::{
    BATCH_HEADER, BatchHeader, SEGMENTS_AT, SUPERBLOCKS_AT, Salt, Successor, encode_frame,
};
use cairn::store::formats::READS;
use cairn::store::log::{Log, Options};
use cairn::store::sim::SimDevice;
use cairn::store::superblock::{Found, Superblock};

const SEGMENT: u64 = 65536;
const SEGMENTS: u64 = 24;
const BLOCK: usize = 4096;
const RANDOM: [u8; 24] = *b"random for every fuzzing";
const KEY: u64 = 0x4141_4141_4141_4141;

/// Runs the target on one input; panics on a finding.
pub fn record(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let mut input = Input(rest);
    let salvage = mode & 0x80 != 0;
    match mode % 3 {
        0 => drop(open(raw(&mut input), salvage)),
        1 => {
            let mut bytes = sound().to_vec();
            rot(&mut bytes, &mut input);
            if let Some(log) = open(SimDevice::from_bytes(&bytes), salvage) {
                goes_on(log);
            }
        }
        _ => {
            let mut bytes = sound().to_vec();
            forge(&mut bytes, &mut input);
            if let Some((log, state, device)) = open(SimDevice::from_bytes(&bytes), salvage) {
                drop(log.verify(&state, &device));
            }
        }
    }
}

/// Numbers out of the input; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let len = N.min(self.0.len());
        bytes[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        bytes
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// Mostly a small number, sometimes any.
    fn number(&mut self) -> u64 {
        match self.u8() {
            0xff => u64::from_le_bytes(self.take()),
            0xfe => u64::MAX,
            small => u64::from(small),
        }
    }

    fn at(&mut self) -> usize {
        self.u32() as usize % device_len()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn device_len() -> usize {
    (SEGMENTS_AT + SEGMENTS * SEGMENT) as usize
}

fn raw(input: &mut Input<'_>) -> SimDevice {
    let mut bytes = vec![0; device_len()];
    while !input.is_empty() {
        let at = input.at();
        let len = usize::from(input.u16());
        let piece = input.bytes(len);
        let len = piece.len().min(bytes.len() - at);
        bytes[at..at + len].copy_from_slice(&piece[..len]);
    }
    SimDevice::from_bytes(&bytes)
}

fn rot(bytes: &mut [u8], input: &mut Input<'_>) {
    for _ in 0..16 {
        if input.is_empty() {
            return;
        }
        let kind = input.u8() % 4;
        let at = input.at();
        let block = at - at % BLOCK;
        match kind {
            0 => bytes[at] ^= input.u8(),
            1 => bytes[block..block + BLOCK].fill(0),
            2 => bytes[block..block + BLOCK].fill(input.u8()),
            _ => {
                let from = input.at();
                let from = from - from % BLOCK;
                bytes.copy_within(from..from + BLOCK, block);
            }
        }
    }
}

fn forge(bytes: &mut [u8], input: &mut Input<'_>) {
    let Found::Superblock(sound) = Superblock::decode(&bytes[..BLOCK], &READS) else {
        unreachable!("the sound log has one");
    };
    let salt = Salt::new(sound.salt);
    for _ in 0..12 {
        if input.is_empty() {
            return;
        }
        match input.u8() % 3 {
            0 => forge_superblock(bytes, &sound, input),
            1 => forge_frame(bytes, salt, input),
            _ => forge_batch(bytes, salt, input),
        }
    }
}

fn forge_superblock(bytes: &mut [u8], sound: &Superblock, input: &mut Input<'_>) {
    let mut forged = sound.clone();
    forged.generation = input.number();
    forged.epoch = input.number();
    forged.epoch_batch = input.number();
    forged.durable_batch = input.number();
    forged.clean = input.u8() & 1 == 1;
    for pointer in forged.checkpoints.iter_mut().flatten() {
        match input.u8() % 4 {
            0 => pointer.segment = input.number() as u32,
            1 => pointer.slot = input.number() as u32,
            2 => pointer.offset = input.u32(),
            _ => {}
        }
        match input.u8() % 6 {
            0 => pointer.tail.segment = input.number() as u32,
            1 => pointer.tail.slot = input.number() as u32,
            2 => pointer.tail.offset = input.u32(),
            3 => pointer.tail.number = input.number(),
            4 => pointer.tail.next.slot = input.number() as u32,
            _ => {}
        }
    }
    if input.u8() & 1 == 1 {
        forged.checkpoints = [None, None];
    }
    let block = forged.encode();
    for at in SUPERBLOCKS_AT {
        bytes[at as usize..at as usize + BLOCK].copy_from_slice(block.as_slice());
    }
}

/// A frame that verifies, somewhere.
fn forge_frame(bytes: &mut [u8], salt: Salt, input: &mut Input<'_>) {
    let slot = u64::from(input.u8()) % SEGMENTS;
    let (segment, offset) = (input.number() as u32, u32::from(input.u16()));
    let kind = input.u8();
    let len = usize::from(input.u8());
    let body = input.bytes(len);
    let record = Record {
        kind,
        version: input.u8() % 3,
        seq: input.number(),
        body: &body,
        payload: &[],
    };
    let mut frame = Buffer::default();
    encode_frame(
        &record,
        u16::from(input.u8() % 4),
        salt,
        segment,
        offset,
        input.u32(),
        &mut frame,
    );
    put(
        bytes,
        SEGMENTS_AT + slot * SEGMENT + u64::from(offset),
        frame.as_slice(),
    );
}

/// A batch that continues the chain, with any records in it.
fn forge_batch(bytes: &mut [u8], salt: Salt, input: &mut Input<'_>) {
    let slot = u64::from(input.u8()) % SEGMENTS;
    let start = SEGMENTS_AT + slot * SEGMENT;
    let segment = u32::from_le_bytes(
        bytes[start as usize + 4..][..4]
            .try_into()
            .expect("four bytes"),
    );
    let Some((last, end)) = last_batch(&bytes[start as usize..][..SEGMENT as usize], salt, segment)
    else {
        return;
    };
    let mut batch = Buffer::default();
    batch.extend(&[0; BATCH_HEADER]);
    let (mut chain, mut frames) = (last.crc, 0);
    for _ in 0..1 + input.u8() % 6 {
        let kind = match input.u8() % 4 {
            0 => 1,
            1 => 0xF0 + input.u8() % 10,
            2 => 0xF2,
            _ => input.u8(),
        };
        let mut body = vec![0; 24];
        for field in body.chunks_mut(4) {
            field.copy_from_slice(&(input.number() as u32).to_le_bytes());
        }
        let record = Record {
            kind,
            version: 1,
            seq: input.number(),
            body: &body,
            payload: &[],
        };
        (_, chain) = encode_frame(&record, 0, salt, segment, end, chain, &mut batch);
        frames += 1;
    }
    let header = BatchHeader {
        len: batch.len() as u32,
        number: last
            .number
            .wrapping_add(1 + input.number().saturating_sub(200)),
        epoch: last.epoch,
        position: input.number(),
        time_ms: input.number(),
        seq_next: input.number(),
        segment,
        frames,
        next: match input.u8() % 4 {
            0 => Successor {
                segment: input.number() as u32,
                slot: input.number() as u32,
            },
            _ => last.next,
        },
        previous: last.crc,
        last: chain,
        crc: 0,
    };
    header.encode(salt, end, batch.as_mut_slice());
    put(bytes, start + u64::from(end), batch.as_slice());
}

/// The last batch of a segment, and where the next would begin.
fn last_batch(segment: &[u8], salt: Salt, id: u32) -> Option<(BatchHeader, u32)> {
    let offsets = (BLOCK..segment.len()).step_by(BLOCK);
    let headers = offsets.filter_map(|offset| {
        let header = BatchHeader::decode(&segment[offset..], salt, id, offset as u32)?;
        Some((
            header,
            (offset as u32)
                .checked_add(header.len)?
                .next_multiple_of(BLOCK as u32),
        ))
    });
    headers.max_by_key(|(header, _)| header.number)
}

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    let at = (at as usize).min(bytes.len());
    let len = what.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&what[..len]);
}

fn options(salvage: bool) -> Options {
    Options {
        segment_bytes: Some(SEGMENT as u32),
        random: RANDOM,
        background_bytes_per_s: 0,
        slice_bytes: 512,
        salvage,
        ..Options::default()
    }
}

fn open(device: SimDevice, salvage: bool) -> Option<(Log, State, SimDevice)> {
    let mut state = State::default();
    let (log, _) = Log::open(&device, &mut state, options(salvage), 1).ok()?;
    Some((log, state, device))
}

/// A log that had rotted takes appends and keeps them.
fn goes_on((mut log, mut state, device): (Log, State, SimDevice)) {
    let body = KEY.to_le_bytes();
    let appended = log.append(&mut state, &Batch::new().state(1, 1, &body, b"payload"));
    let Ok(appended) = appended else {
        assert_eq!(appended.map(|_| ()), Err(AppendError::Full));
        return;
    };
    log.begin_checkpoint();
    for now_ms in 2..400 {
        work(&mut log, &mut state, &device, now_ms);
    }
    assert!(log.durable() >= appended.position && log.poisoned().is_none());
    let device = device.crash(&mut || 0);
    let mut again = State::default();
    let (log, _) =
        Log::open(&device, &mut again, options(false), 1000).expect("what was open opens again");
    assert!(log.position() >= appended.position);
    let place = *again.0.get(&KEY).expect("what was acknowledged is there");
    let fetched = log.fetch(place).perform(&device).expect("and can be read");
    assert_eq!(&fetched.payload[..], b"payload");
}

fn work(log: &mut Log, state: &mut State, device: &SimDevice, now_ms: u64) {
    if let Next::Chore(chore) = log.next_chore(state, now_ms) {
        let done = chore.perform(device);
        log.finish(state, done, now_ms);
    }
    if let Some(write) = log.next_write(now_ms) {
        let written = write.perform(device);
        log.written(written);
    }
}

/// A log with two checkpoints, a tail, an archive and moved records.
fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let device = SimDevice::new(device_len() as u64, device_len() as u64);
        let mut state = State::default();
        let opened = Log::open(&device, &mut state, options(false), 1);
        let (mut log, _) = opened.expect("an empty device becomes a log");
        for round in 0..3_u64 {
            for key in 0..14_u64 {
                let body = (round * 10 + key).to_le_bytes();
                let class = if key % 7 == 6 {
                    Class::Archive { bucket: 1 }
                } else {
                    Class::State
                };
                let entry = Entry {
                    class,
                    kind: 1,
                    version: 1,
                    body: &body,
                    payload: &[7; 60],
                };
                let batch = Batch {
                    entries: vec![entry],
                    ..Batch::default()
                };
                log.append(&mut state, &batch).expect("there is room");
                work(&mut log, &mut state, &device, round + 2);
            }
            if round < 2 {
                log.begin_checkpoint();
                (0..60).for_each(|_| work(&mut log, &mut state, &device, 10));
            }
        }
        device.to_bytes()
    })
}

/// Records by key, each at its place.
#[derive(Default)]
struct State(HashMap<u64, Place>);

fn key(record: &Record<'_>) -> Result<u64, Unreadable> {
    let Record {
        kind,
        version,
        body,
        ..
    } = *record;
    if version > 1 {
        return Err(Unreadable::Newer { kind, version });
    }
    let key = body.first_chunk().map(|key| u64::from_le_bytes(*key));
    key.ok_or(Unreadable::Invalid {
        kind,
        version,
        why: "shorter than a key",
    })
}

impl State {
    fn put(&mut self, key: u64, place: Place, live: &mut Live) {
        live.hold(place);
        if let Some(old) = self.0.insert(key, place) {
            live.release(old);
        }
    }
}

impl Fold for State {
    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), Unreadable> {
        self.put(key(record)?, place, live);
        Ok(())
    }

    fn holds(&self, record: &Record<'_>, place: Place) -> bool {
        key(record).is_ok_and(|key| self.0.get(&key) == Some(&place))
    }

    fn moved(&mut self, record: &Record<'_>, _: Place, to: Place, live: &mut Live) {
        if let Ok(key) = key(record) {
            self.put(key, to, live);
        }
    }

    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        let from =
            cursor.map(|cursor| u64::from_le_bytes(cursor.0.try_into().expect("our cursor")));
        let mut keys: Vec<u64> = self
            .0
            .keys()
            .copied()
            .filter(|key| from.is_none_or(|from| *key >= from))
            .collect();
        keys.sort_unstable();
        let slice = budget_bytes / 32 + 1;
        for key in keys.iter().take(slice) {
            let body = key.to_le_bytes();
            let record = Record {
                kind: 1,
                version: 1,
                seq: 0,
                body: &body,
                payload: &[],
            };
            emit(CheckpointItem {
                record,
                place: self.0.get(key).copied(),
            });
        }
        keys.get(slice)
            .map(|key| Cursor(key.to_le_bytes().to_vec()))
    }

    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable> {
        let (kind, version) = (item.record.kind, item.record.version);
        let place = item.place.ok_or(Unreadable::Invalid {
            kind,
            version,
            why: "without a place",
        })?;
        self.put(key(&item.record)?, place, live);
        Ok(())
    }

    fn reset(&mut self) {
        self.0.clear();
    }

    fn expired(&mut self, segment: u32, live: &mut Live) {
        self.0.retain(|_, place| {
            let stays = place.segment != segment;
            if !stays {
                live.release(*place);
            }
            stays
        });
    }
}
