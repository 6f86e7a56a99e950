//! The store beside the bare device: appends a second, recovery, bytes on disk.
//!
//! `cargo bench --bench store -- [FOLDER [appends|recovery|bytes]]`; the folder
//! should lie on the disk that is of interest (default: the target directory).
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints what it measured"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use cairn::store::batch::Batch;
use cairn::store::buffer::Buffer;
use cairn::store::chore::Next;
use cairn::store::disk::{Access, Device, FileDevice};
use cairn::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};
use cairn::store::format::Use;
use cairn::store::log::{Log, Options};
use cairn::store::sim::SimDevice;

const PAYLOAD: usize = 428;
const ROUND: Duration = Duration::from_millis(1200);
const ROUNDS: usize = 7;

/// Messages by number, each at its place: as little as a state can do.
#[derive(Default)]
struct Messages(Vec<Option<Place>>);

fn key(record: &Record<'_>) -> u64 {
    u64::from_le_bytes(record.body[..8].try_into().expect("a key of eight bytes"))
}

impl Messages {
    fn put(&mut self, key: u64, place: Place, live: &mut Live) {
        let key = key as usize;
        if self.0.len() <= key {
            self.0.resize(key + 1, None);
        }
        live.hold(place);
        if let Some(old) = self.0[key].replace(place) {
            live.release(old);
        }
    }
}

impl Fold for Messages {
    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), Unreadable> {
        self.put(key(record), place, live);
        Ok(())
    }

    fn holds(&self, record: &Record<'_>, place: Place) -> bool {
        self.0.get(key(record) as usize) == Some(&Some(place))
    }

    fn moved(&mut self, record: &Record<'_>, _: Place, to: Place, live: &mut Live) {
        self.put(key(record), to, live);
    }

    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        let from = cursor.map_or(0, |cursor| {
            u64::from_le_bytes(cursor.0.try_into().expect("ours"))
        }) as usize;
        let until = (from + budget_bytes / 64).min(self.0.len());
        for (key, place) in (from..until).zip(&self.0[from..until]) {
            let (key, Some(place)) = (key as u64, *place) else {
                continue;
            };
            let body = key.to_le_bytes();
            let record = Record {
                kind: 1,
                version: 1,
                seq: key,
                body: &body,
                payload: &[],
            };
            emit(CheckpointItem {
                record,
                place: Some(place),
            });
        }
        (until < self.0.len()).then(|| Cursor((until as u64).to_le_bytes().to_vec()))
    }

    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable> {
        self.put(
            key(&item.record),
            item.place.expect("only references"),
            live,
        );
        Ok(())
    }

    fn reset(&mut self) {
        self.0.clear();
    }
}

/// A device in memory whose sync always takes as long as that of a quick disk:
/// what differs on it is our own doing. It forgets what is written.
struct Steady {
    sim: SimDevice,
}

const STEADY_SYNC: Duration = Duration::from_micros(150);

impl Device for Steady {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.sim.read_at(buf, at)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(STEADY_SYNC);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.sim.len()
    }

    fn grow(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn grows(&self) -> bool {
        false
    }
}

struct Store {
    inner: Mutex<(Log, Messages)>,
    wake: Condvar,
    durable: Condvar,
    device: Box<dyn Device>,
    stop: AtomicBool,
}

impl Store {
    fn open(path: &Path) -> Store {
        Store::on(Box::new(
            FileDevice::open(path, Access::Create).expect("the file opens"),
        ))
    }

    fn on(device: Box<dyn Device>) -> Store {
        Store::with(device, Options::default())
    }

    fn with(device: Box<dyn Device>, mut options: Options) -> Store {
        options.random = *b"twenty-four random bytes";
        let mut state = Messages::default();
        let (log, _) = Log::open(&*device, &mut state, options, now_ms()).expect("the store opens");
        Store {
            inner: Mutex::new((log, state)),
            wake: Condvar::new(),
            durable: Condvar::new(),
            device,
            stop: AtomicBool::new(false),
        }
    }

    fn run(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.chore_loop());
            self.commit_loop();
        });
    }

    /// The committing thread.
    fn commit_loop(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut inner = self.inner.lock().expect("nobody panicked");
            if let Some(write) = inner.0.next_write(now_ms()) {
                drop(inner);
                let written = write.perform(&*self.device);
                let mut inner = self.inner.lock().expect("nobody panicked");
                inner.0.written(written);
                drop(inner);
                self.durable.notify_all();
            } else {
                drop(
                    self.wake
                        .wait_timeout(inner, Duration::from_millis(5))
                        .expect("nobody panicked"),
                );
            }
        }
    }

    /// The thread that works in the background.
    fn chore_loop(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            if !self.chore() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn chore(&self) -> bool {
        let mut inner = self.inner.lock().expect("nobody panicked");
        let (log, state) = &mut *inner;
        match log.next_chore(state, now_ms()) {
            Next::Chore(chore) => {
                drop(inner);
                let done = chore.perform(&*self.device);
                let mut inner = self.inner.lock().expect("nobody panicked");
                let (log, state) = &mut *inner;
                log.finish(state, done, now_ms());
                true
            }
            Next::Again => true,
            Next::Idle { .. } => false,
        }
    }

    fn append_and_wait(&self, key: u64, payload: &[u8]) {
        let body = key.to_le_bytes();
        let batch = Batch::new().state(1, 1, &body, payload);
        let mut inner = self.inner.lock().expect("nobody panicked");
        let (log, state) = &mut *inner;
        let appended = log.append(state, &batch).expect("there is room");
        self.wake.notify_one();
        while inner.0.durable() < appended.position {
            inner = self.durable.wait(inner).expect("nobody panicked");
        }
    }
}

/// The bare limit: the same committers and threads, payloads gathered in one
/// buffer, written to a file beside and synced.
struct Bare<'d> {
    inner: Mutex<BareInner>,
    wake: Condvar,
    durable: Condvar,
    device: &'d dyn Device,
    stop: AtomicBool,
}

struct BareInner {
    buffer: Buffer,
    appended: u64,
    durable: u64,
}

impl Bare<'_> {
    fn commit_loop(&self) {
        let mut at = 0;
        let mut spare = Buffer::with_capacity(1 << 20);
        while !self.stop.load(Ordering::Relaxed) {
            let mut inner = self.inner.lock().expect("nobody panicked");
            if inner.buffer.is_empty() {
                drop(
                    self.wake
                        .wait_timeout(inner, Duration::from_millis(5))
                        .expect("nobody panicked"),
                );
                continue;
            }
            std::mem::swap(&mut spare, &mut inner.buffer);
            let upto = inner.appended;
            drop(inner);
            spare.pad_to(4096);
            if at + spare.len() as u64 > self.device.len() {
                at = 0;
            }
            self.device
                .write_at(spare.as_slice(), at)
                .expect("it writes");
            self.device.sync().expect("it syncs");
            at += spare.len() as u64;
            spare.clear();
            self.inner.lock().expect("nobody panicked").durable = upto;
            self.durable.notify_all();
        }
    }

    fn append_and_wait(&self, payload: &[u8]) {
        let mut inner = self.inner.lock().expect("nobody panicked");
        inner.buffer.extend(payload);
        inner.appended += 1;
        let upto = inner.appended;
        self.wake.notify_one();
        while inner.durable < upto {
            inner = self.durable.wait(inner).expect("nobody panicked");
        }
    }
}

fn rate(
    committers: usize,
    append: &(dyn Fn(u64) + Sync),
    commit: &(dyn Fn() + Sync),
    stop: &AtomicBool,
) -> f64 {
    let (done, next) = (AtomicU64::new(0), AtomicU64::new(0));
    let running = AtomicBool::new(true);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(commit);
        let threads: Vec<_> = (0..committers)
            .map(|_| {
                scope.spawn(|| {
                    while running.load(Ordering::Relaxed) {
                        append(next.fetch_add(1, Ordering::Relaxed));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        std::thread::sleep(ROUND);
        running.store(false, Ordering::Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("it ends"));
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

fn appends(folder: &Path) {
    println!(
        "appends a second, {PAYLOAD} bytes each, acknowledged when durable (median of {ROUNDS} rounds)"
    );
    println!(
        "{:>10} {:>10} {:>10} {:>7}",
        "committers", "store", "bare", "share"
    );
    let (path, bare_path) = (folder.join("appends.log"), folder.join("bare.log"));
    println!("on the disk");
    for committers in [1, 16, 256] {
        let _ = std::fs::remove_file(&path);
        side_by_side(committers, &Store::open(&path), &written_file(&bare_path));
    }
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_file(&bare_path);
    println!("on a device in memory that syncs in {STEADY_SYNC:?}");
    let steady = || Steady {
        sim: SimDevice::new(4 << 30, 4 << 30),
    };
    for committers in [1, 16, 256] {
        side_by_side(committers, &Store::on(Box::new(steady())), &steady());
    }
}

fn side_by_side(committers: usize, store: &Store, device: &dyn Device) {
    let payload = vec![0x61; PAYLOAD];
    let (mut ours, mut limits, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    settle(store);
    for _ in 0..ROUNDS {
        store.stop.store(false, Ordering::Relaxed);
        let append = |key: u64| store.append_and_wait(key % 100_000, &payload);
        let rate_ours = rate(committers, &append, &|| store.run(), &store.stop);
        let buffer = Buffer::with_capacity(1 << 20);
        let bare = Bare {
            inner: Mutex::new(BareInner {
                buffer,
                appended: 0,
                durable: 0,
            }),
            wake: Condvar::new(),
            durable: Condvar::new(),
            device,
            stop: AtomicBool::new(false),
        };
        let append = |_| bare.append_and_wait(&payload);
        let limit = rate(committers, &append, &|| bare.commit_loop(), &bare.stop);
        ours.push(rate_ours);
        limits.push(limit);
        shares.push(rate_ours / limit * 100.0);
    }
    let all = shares
        .iter()
        .map(|share| format!("{share:.0}"))
        .collect::<Vec<_>>()
        .join(" ");
    let (ours, limit, share) = (median(ours), median(limits), median(shares));
    println!("{committers:>10} {ours:>10.0} {limit:>10.0} {share:>6.0}%   ({all})");
}

/// A file of the store's size that was written before, so that the bare writer
/// pays no more than the store, which fills its segments ahead.
fn written_file(path: &Path) -> FileDevice {
    let _ = std::fs::remove_file(path);
    let device = FileDevice::open(path, Access::Create).expect("the file opens");
    let zeros = Buffer::zeroed(1 << 20);
    device.grow(96 << 20).expect("it grows");
    for at in (0..device.len()).step_by(zeros.len()) {
        device.write_at(zeros.as_slice(), at).expect("it writes");
    }
    device.sync().expect("it syncs");
    device
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn recovery(folder: &Path) {
    let path = folder.join("recovery.log");
    let _ = std::fs::remove_file(&path);
    let payload = vec![0x61; PAYLOAD];
    let records = 1_000_000_u64;
    {
        let store = unhurried(&path);
        fill(&store, 0..records, 64, &payload);
        checkpoint_twice(&store);
        close(&store);
    }
    reopen(&path, "from a checkpoint");
    {
        let store = unhurried(&path);
        fill(&store, 0..100_000, 64, &payload);
        close(&store);
    }
    reopen(&path, "with a tail of up to 100,000 records more");
    let _ = std::fs::remove_file(&path);
}

fn reopen(path: &Path, what: &str) {
    let device = FileDevice::open(path, Access::Read).expect("the file opens");
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let begin = Instant::now();
    let mut state = Messages::default();
    let (_, recovery) = Log::open(&device, &mut state, options, now_ms()).expect("the store opens");
    let elapsed = begin.elapsed().as_secs_f64();
    let folded = recovery.items + recovery.records;
    println!(
        "recovery {what}: {folded} records ({} of the tail) in {elapsed:.3} s, {:.2} s a million",
        recovery.records,
        elapsed / folded as f64 * 1e6
    );
}

fn bytes_on_disk(folder: &Path) {
    let payload = vec![0x61; PAYLOAD];
    for a_commit in [1, 64] {
        let path = folder.join("space.log");
        let _ = std::fs::remove_file(&path);
        let store = unhurried(&path);
        let messages = 200_000_u64;
        fill(&store, 0..messages, a_commit, &payload);
        checkpoint_twice(&store);
        let stat = store.inner.lock().expect("nobody panicked").0.stat();
        let records = stat
            .classes
            .iter()
            .filter(|stat| matches!(stat.class, Use::Kept | Use::Chain));
        let bytes: u64 = records.map(|stat| stat.bytes).sum();
        let used =
            u64::from(stat.segments - stat.segments_free) * u64::from(stat.geometry.segment_bytes);
        let share = |bytes: u64| bytes as f64 / messages as f64 / PAYLOAD as f64;
        println!(
            "{a_commit:>2} a commit: {:.2} times the payload; with both checkpoints, all segments whole, {:.2} ({} MiB)",
            share(bytes),
            share(used),
            used >> 20
        );
        let _ = std::fs::remove_file(&path);
    }
}

/// A store whose background work takes all the time it wants.
fn unhurried(path: &Path) -> Store {
    let options = Options {
        background_bytes_per_s: 0,
        ..Options::default()
    };
    let device = FileDevice::open(path, Access::Create).expect("the file opens");
    Store::with(Box::new(device), options)
}

/// Two checkpoints from here on, and all the work that they make possible.
fn checkpoint_twice(store: &Store) {
    for _ in 0..2 {
        settle(store);
        store
            .inner
            .lock()
            .expect("nobody panicked")
            .0
            .begin_checkpoint();
        settle(store);
    }
}

/// Appends in one thread, so many in a commit, with the background work that
/// becomes due.
fn fill(store: &Store, keys: std::ops::Range<u64>, a_commit: u64, payload: &[u8]) {
    for key in keys {
        let body = key.to_le_bytes();
        let batch = Batch::new().state(1, 1, &body, payload);
        let mut inner = store.inner.lock().expect("nobody panicked");
        let (log, state) = &mut *inner;
        log.append(state, &batch).expect("there is room");
        drop(inner);
        if (key + 1).is_multiple_of(a_commit) {
            commit(store);
            store.chore();
        }
    }
    commit(store);
}

fn commit(store: &Store) -> bool {
    let write = store
        .inner
        .lock()
        .expect("nobody panicked")
        .0
        .next_write(now_ms());
    let Some(write) = write else { return false };
    let written = write.perform(&*store.device);
    store
        .inner
        .lock()
        .expect("nobody panicked")
        .0
        .written(written);
    true
}

fn settle(store: &Store) {
    let mut idle = 0;
    while idle < 3 {
        let worked = store.chore() | commit(store);
        idle = if worked { 0 } else { idle + 1 };
        if !worked {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn close(store: &Store) {
    store.inner.lock().expect("nobody panicked").0.close();
    while commit(store) {}
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is right").as_millis() as u64
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let folder = arguments
        .first()
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let wanted = |name: &str| arguments.get(1).is_none_or(|only| only == name);
    if wanted("appends") {
        appends(&folder);
    }
    if wanted("recovery") {
        recovery(&folder);
    }
    if wanted("bytes") {
        bytes_on_disk(&folder);
    }
}
