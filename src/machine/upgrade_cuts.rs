//! The power goes behind every write of an upgrade, of the boot loader that starts it, and of PID 1
//! that confirms it; what was not made durable by then is there, lost, torn or there out of order.
//! Whatever is left is started by the boot loader's contract (`image/grub/grub.cfg`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

use super::tests::bundle;
use super::*;
use crate::machine::boot_state::{ATTEMPTS, OFFSETS};
use crate::machine::release::LogFormats;
use crate::machine::source::fat::Fat;
use crate::machine::source::volume_fixture::fat;

const SECTOR: usize = 512;
/// Beyond one [`SYNC_EVERY`], so that some of it is durable before the rest comes.
const ROOT_BYTES: usize = 4 * 1024 * 1024 + 3 * BLOCK;
/// Ways in which what is not durable is torn, for each cut.
const TEARS: u64 = 6;

/// The partitions that matter, by their places below. Copies share what is not written to.
#[derive(Clone)]
struct Disk([Rc<Vec<u8>>; 5]);

const STATE: usize = 0;

fn boot_of(slot: Slot) -> usize {
    match slot {
        Slot::A => 1,
        Slot::B => 3,
    }
}

fn root_of(slot: Slot) -> usize {
    boot_of(slot) + 1
}

/// A write to a partition.
#[derive(Clone)]
struct Written {
    partition: usize,
    at: usize,
    bytes: Vec<u8>,
}

#[derive(Clone)]
enum Step {
    Write(Written),
    Sync(usize),
}

impl Disk {
    fn put(&mut self, written: &Written) {
        let Written { at, bytes, .. } = written;
        let partition = Rc::make_mut(&mut self.0[written.partition]);
        partition[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A disk that keeps what was done to it, in its order.
struct Recorder {
    disk: Disk,
    steps: Vec<Step>,
}

struct Partition {
    recorder: Rc<RefCell<Recorder>>,
    number: usize,
}

impl Medium for Partition {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        bytes.copy_from_slice(&self.recorder.borrow().disk.0[self.number][at..at + bytes.len()]);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let written = Written {
            partition: self.number,
            at: at as usize,
            bytes: bytes.to_vec(),
        };
        let mut recorder = self.recorder.borrow_mut();
        recorder.disk.put(&written);
        recorder.steps.push(Step::Write(written));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut recorder = self.recorder.borrow_mut();
        recorder.steps.push(Step::Sync(self.number));
        Ok(())
    }
}

/// What the boot loader does.
#[derive(Debug, PartialEq, Eq)]
enum Started {
    /// This system runs, from this slot.
    Runs(Slot, u8),
    /// A kernel runs whose root is not the one that it is told.
    Panics(Slot),
    /// No slot could be started.
    Nothing,
}

/// `load_env`: a variable that does not stand there stays as it is.
fn load_env(block: &[u8], slot: &mut Slot, left: &mut u8) -> bool {
    let Some(text) = std::str::from_utf8(block).ok() else {
        return false;
    };
    let Some(text) = text.strip_prefix("# GRUB Environment Block\n") else {
        return false;
    };
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "slot" => *slot = Slot::parse(value).expect("a slot"),
            "left" => *left = value.parse().expect("a number"),
            _ => {}
        }
    }
    true
}

impl Disk {
    fn block(&self, copy: usize) -> &[u8] {
        let at = OFFSETS[copy] as usize;
        &self.0[STATE][at..at + boot_state::BLOCK_BYTES]
    }

    /// `save_env`: rewrites these variables in the first block, if it is one.
    fn save_env(&mut self, slot: Slot, left: u8, fell_back: bool) -> Vec<Step> {
        let Some(state) = BootState::decode(self.block(0)) else {
            return Vec::new();
        };
        let mut state = state.spent(slot, left);
        state.fell_back = fell_back;
        let written = Written {
            partition: STATE,
            at: OFFSETS[0] as usize,
            bytes: state.encode().expect("it fits"),
        };
        self.put(&written);
        vec![Step::Write(written), Step::Sync(STATE)]
    }

    /// The script, from its first line to its last, and what it writes.
    fn start(&mut self) -> (Started, Vec<Step>) {
        let (mut slot, mut left, mut fell_back) = (Slot::A, ATTEMPTS, false);
        if !load_env(self.block(0), &mut slot, &mut left) {
            load_env(self.block(1), &mut slot, &mut left);
        }
        if (1..=3).contains(&left) {
            left -= 1;
        } else {
            (slot, left, fell_back) = (slot.other(), 2, true);
        }
        let mut steps = self.save_env(slot, left, fell_back);
        if let Some(started) = self.boots(slot) {
            return (started, steps);
        }
        slot = slot.other();
        steps.extend(self.save_env(slot, 2, true));
        (self.boots(slot).unwrap_or(Started::Nothing), steps)
    }

    /// `try`: `None` where a slot's files do not match their sums.
    fn boots(&self, slot: Slot) -> Option<Started> {
        let partition = &self.0[boot_of(slot)][..];
        let volume = Fat::open(partition)?;
        let file = |name: &str| volume.read(&[name], 1 << 20).ok().flatten();
        for line in String::from_utf8(file("sums")?).ok()?.lines() {
            let (sum, name) = line.split_once("  ")?;
            if hexadecimal(ring::digest::digest(&SHA256, &file(name)?).as_ref()) != sum {
                return None;
            }
        }
        // The kernel: it verifies its root.
        let entry = String::from_utf8(file("slot.env")?).expect("its sum is right");
        let version: u8 = entry.parse().expect("its sum is right");
        // The hash that a real entry has is as good as the bytes, and slower to compare.
        let [_, root] = system(version);
        let is_sound = self.0[root_of(slot)].starts_with(root);
        Some(match is_sound {
            true => Started::Runs(slot, version),
            false => Started::Panics(slot),
        })
    }
}

/// The partitions of systems 0, 1 and 2.
fn system(version: u8) -> &'static [Vec<u8>; 2] {
    static SYSTEMS: [OnceLock<[Vec<u8>; 2]>; 3] = [const { OnceLock::new() }; 3];
    SYSTEMS[usize::from(version)].get_or_init(|| made(version))
}

/// They are made as a bundle brings them.
fn made(version: u8) -> [Vec<u8>; 2] {
    let noise = |len: usize, seed: u64| {
        let mut random = Random(seed);
        (0..len / 8).flat_map(move |_| random.next().to_le_bytes())
    };
    let root: Vec<u8> = noise(ROOT_BYTES, u64::from(version) + 1).collect();
    let kernel: Vec<u8> = noise(150_000, u64::from(version) + 100).collect();
    let sum = |bytes: &[u8]| hexadecimal(ring::digest::digest(&SHA256, bytes).as_ref());
    let entry = version.to_string();
    let sums = format!(
        "{}  vmlinuz\n{}  slot.env\n",
        sum(&kernel),
        sum(entry.as_bytes())
    );
    let files: [(&str, &[u8]); 3] = [
        ("vmlinuz", &kernel),
        ("slot.env", entry.as_bytes()),
        ("sums", sums.as_bytes()),
    ];
    [fat("CAIRN BOOT", &files), root]
}

/// As xorshift: the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What the slot that does not run holds when an upgrade begins.
#[derive(Clone, Copy, Debug)]
enum Other {
    Nothing,
    /// A system that ran before.
    Proved,
    /// One that was brought and is to be tried at the next start.
    Waiting,
}

/// A machine whose slot `running` holds system 1 and has proved itself.
fn machine(running: Slot, other: Other) -> Disk {
    let blank = Rc::new(vec![0; 16_384]);
    let [boot, root] = system(1).clone();
    let none = [vec![0xee; boot.len()], vec![0xee; root.len()]];
    let mut disk = Disk(std::array::from_fn(|_| Rc::clone(&blank)));
    let mut fill = |slot, [boot, root]: [Vec<u8>; 2]| {
        disk.0[boot_of(slot)] = Rc::new(boot);
        disk.0[root_of(slot)] = Rc::new(root);
    };
    fill(running, [boot, root]);
    let mut state = BootState::default().confirmed(running);
    state.set_other("data", "0123");
    state.set_good(running, true);
    match other {
        Other::Nothing => fill(running.other(), none),
        Other::Proved => {
            fill(running.other(), system(0).clone());
            state.set_good(running.other(), true);
        }
        Other::Waiting => {
            fill(running.other(), system(0).clone());
            state = state.activated(running.other());
        }
    }
    let recorder = Rc::new(RefCell::new(Recorder {
        disk,
        steps: Vec::new(),
    }));
    let partition = Partition {
        recorder: Rc::clone(&recorder),
        number: STATE,
    };
    boot_state::write(&partition, &state).expect("it is written");
    recorder.borrow().disk.clone()
}

/// A bundle with system 2, and what takes it.
struct Bundle {
    bytes: Vec<u8>,
    release: Release,
}

impl Bundle {
    fn new() -> Bundle {
        let [mut boot, root] = system(2).clone();
        let used = boot.iter().rposition(|byte| *byte != 0).expect("a byte") + 1;
        boot.truncate(used.next_multiple_of(SECTOR));
        let (bytes, key) = bundle("0.3.0", &boot, &root);
        let release = Release {
            version: "0.2.0".to_owned(),
            floor: "0.2.0".to_owned(),
            log: LogFormats::OURS,
            keys: vec![key],
            kernel: String::new(),
        };
        Bundle { bytes, release }
    }

    /// PID 1 in `running` takes it: the disk afterwards, and every step.
    fn push(&self, disk: Disk, running: Slot) -> Recorder {
        let recorder = Rc::new(RefCell::new(Recorder {
            disk,
            steps: Vec::new(),
        }));
        let slot = running.other();
        let partition = |number| Partition {
            recorder: Rc::clone(&recorder),
            number,
        };
        let target = Target {
            slot,
            boot: partition(boot_of(slot)),
            root: partition(root_of(slot)),
            state: partition(STATE),
        };
        let mut upgrade = Upgrade::new(self.release.clone(), LogFormats::OURS.writes, target);
        for piece in self.bytes.chunks(BLOCK) {
            upgrade.feed(piece).expect("a sound piece");
        }
        upgrade.finish().expect("a sound bundle");
        let Ok(recorder) = Rc::try_unwrap(recorder) else {
            panic!("the upgrade is over");
        };
        recorder.into_inner()
    }
}

/// The system in `slot` has proved itself.
fn confirm(disk: Disk, slot: Slot) -> Recorder {
    let recorder = Rc::new(RefCell::new(Recorder {
        disk,
        steps: Vec::new(),
    }));
    let partition = Partition {
        recorder: Rc::clone(&recorder),
        number: STATE,
    };
    let mut state = boot_state::read(&partition).expect("it reads");
    state = state.confirmed(slot);
    state.set_good(slot, true);
    boot_state::write(&partition, &state).expect("it is written");
    drop(partition);
    let Ok(recorder) = Rc::try_unwrap(recorder) else {
        panic!("it is over");
    };
    recorder.into_inner()
}

/// What is left when the power goes behind the first `count` steps: as many disks as ways to lose.
fn left_by_a_cut(before: &Disk, steps: &[Step], seed: u64) -> Vec<Disk> {
    let mut durable = before.clone();
    let mut pending: Vec<Written> = Vec::new();
    for step in steps {
        match step {
            Step::Write(written) => pending.push(written.clone()),
            Step::Sync(partition) => pending.retain(|written| {
                if written.partition == *partition {
                    durable.put(written);
                }
                written.partition != *partition
            }),
        }
    }
    let with = |kept: &[Written]| {
        let mut disk = durable.clone();
        kept.iter().for_each(|written| disk.put(written));
        disk
    };
    let Some((last, earlier)) = pending.split_last() else {
        return vec![durable];
    };
    let mut disks = vec![
        with(&[]),
        with(&pending),
        with(earlier),
        with(std::slice::from_ref(last)),
    ];
    // Sector by sector, of every write some.
    for tear in 0..TEARS {
        let mut random = Random((seed + 1) * 1_000_003 + tear);
        let mut disk = durable.clone();
        for written in &pending {
            for (index, sector) in written.bytes.chunks(SECTOR).enumerate() {
                if random.next() % 4 > tear % 4 {
                    disk.put(&Written {
                        partition: written.partition,
                        at: written.at + index * SECTOR,
                        bytes: sector.to_vec(),
                    });
                }
            }
        }
        disks.push(disk);
    }
    disks
}

/// No slot boots that is not whole, also not one that nobody is sent to; the boot state never calls
/// one good that does not boot, and keeps where the data are.
fn is_honest(disk: &Disk) {
    let copies = [0, 1].map(|copy| BootState::decode(disk.block(copy)));
    let state = copies.into_iter().flatten().next().expect("a boot state");
    assert_eq!(state.other("data"), Some("0123"));
    for slot in [Slot::A, Slot::B] {
        let started = disk.boots(slot);
        assert_ne!(started, Some(Started::Panics(slot)), "half of one boots");
        assert!(
            !state.is_good(slot) || started.is_some(),
            "slot {slot} is called good"
        );
    }
}

/// An upgrade from `running` with a cut behind every step: only ever a whole system starts, the old
/// one until the new one is there, the new one from then on.
fn cut_everywhere(running: Slot, other: Other) {
    let bundle = Bundle::new();
    let before = machine(running, other);
    let pushed = bundle.push(before.clone(), running);
    let told = pushed.steps.len();
    // Its last four steps name the new slot to the boot loader, twice.
    let named = told - 4;
    let mut steps = pushed.steps;
    let mut disk = pushed.disk;
    // Then it is started, and proves itself.
    let (started, of_loader) = disk.start();
    assert_eq!(started, Started::Runs(running.other(), 2));
    steps.extend(of_loader);
    steps.extend(confirm(disk, running.other()).steps);
    // What was there before is as good as the old one: it was waiting to be tried.
    let untouched = match other {
        Other::Waiting => Started::Runs(running.other(), 0),
        _ => Started::Runs(running, 1),
    };
    let mut seen: HashMap<u8, usize> = HashMap::new();
    for count in 0..=steps.len() {
        for mut left in left_by_a_cut(&before, &steps[..count], count as u64) {
            is_honest(&left);
            let (started, _) = left.start();
            let Started::Runs(slot, version) = started else {
                panic!("{other:?}, step {count}: {started:?}");
            };
            let is_right = match version {
                1 => slot == running && count < told,
                2 => slot != running && count > named,
                _ => started == untouched && count <= 4,
            };
            assert!(is_right, "{other:?}, step {count}: {version} from {slot}");
            *seen.entry(version).or_default() += 1;
        }
    }
    assert!(seen[&1] > 100 && seen[&2] > 20, "{seen:?}");
}

#[test]
fn a_cut_leaves_a_whole_system_where_the_other_slot_is_empty() {
    cut_everywhere(Slot::A, Other::Nothing);
}

#[test]
fn a_cut_leaves_a_whole_system_where_the_other_slot_held_one() {
    cut_everywhere(Slot::A, Other::Proved);
    cut_everywhere(Slot::B, Other::Proved);
}

#[test]
fn a_cut_leaves_a_whole_system_where_the_other_slot_waited_to_be_tried() {
    cut_everywhere(Slot::A, Other::Waiting);
}

#[test]
fn after_any_cut_the_next_upgrade_goes_through() {
    let bundle = Bundle::new();
    let before = machine(Slot::A, Other::Proved);
    let steps = bundle.push(before.clone(), Slot::A).steps;
    for count in (0..steps.len()).step_by(7) {
        let mut left = left_by_a_cut(&before, &steps[..count], count as u64)
            .pop()
            .expect("one at least");
        let (started, _) = left.start();
        assert_eq!(started, Started::Runs(Slot::A, 1), "step {count}");
        let confirmed = confirm(left, Slot::A).disk;
        let mut pushed = bundle.push(confirmed, Slot::A).disk;
        assert_eq!(pushed.start().0, Started::Runs(Slot::B, 2), "step {count}");
    }
}

#[test]
fn a_new_system_that_never_confirms_itself_gives_way_after_three_starts() {
    let bundle = Bundle::new();
    let mut disk = bundle.push(machine(Slot::A, Other::Proved), Slot::A).disk;
    let versions: Vec<Started> = (0..4).map(|_| disk.start().0).collect();
    let new = || Started::Runs(Slot::B, 2);
    assert_eq!(versions, [new(), new(), new(), Started::Runs(Slot::A, 1)]);
}
