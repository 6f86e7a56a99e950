//! A crash at any point, with any part of what was pending, recovers every
//! acknowledged batch, no half batch, nothing that was removed, in order.

use super::harness::{Rig, device, options};
use super::model::{Model, OWNED, Say, Tx, apply_to_model};
use crate::store::batch::{AppendError, Class};
use crate::store::disk::Device;
use crate::store::format::Use;
use crate::store::sim::{History, SimDevice};

/// A small generator of random numbers (xorshift64*): the seed is all there is
/// to a run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// Names the seed of a test that fails.
pub struct Seed(pub u64, pub &'static str);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: {} with seed {}", self.1, self.0);
        }
    }
}

/// What was appended, and what was acknowledged when.
#[derive(Default)]
pub struct Story {
    pub txs: Vec<Tx>,
    /// Operations on the device so far, and the position acknowledged by then.
    acked: Vec<(usize, u64)>,
}

impl Story {
    fn model(&self, position: u64) -> Model {
        let mut model = Model::default();
        self.txs[..position as usize]
            .iter()
            .for_each(|tx| apply_to_model(&mut model, tx));
        model
    }

    fn acked_at(&self, ops: usize) -> u64 {
        self.acked
            .iter()
            .take_while(|(at, _)| *at <= ops)
            .last()
            .map_or(0, |(_, position)| *position)
    }

    /// A device after a crash holds what it must.
    pub fn check(&self, device: SimDevice, acked: u64, what: &str) -> Rig {
        let rig = Rig::try_open(device, options()).unwrap_or_else(|why| panic!("{what}: {why}"));
        let position = rig.log.position().0;
        assert!(
            position >= acked,
            "{what}: {acked} was acknowledged, {position} recovered"
        );
        assert!(
            position <= self.txs.len() as u64,
            "{what}: {position} recovered, more than was ever appended"
        );
        assert_eq!(rig.recovery.damage, [], "{what}");
        assert_eq!(rig.recovery.invalid, 0, "{what}");
        rig.check(&self.model(position));
        rig
    }
}

fn random_say(random: &mut Random, keys: u64) -> Say {
    let key = random.below(keys) as u32;
    let value = random.next();
    match random.below(20) {
        0..8 => {
            let class = match random.below(8) {
                0 => Class::Archive {
                    bucket: random.below(3) as u32,
                },
                1 => Class::Blob {
                    bucket: random.below(2) as u32,
                },
                _ => Class::State,
            };
            let bytes = if random.below(12) == 0 {
                6_500
            } else {
                random.below(900) as u16
            };
            Say::Big {
                key,
                value,
                bytes,
                class,
            }
        }
        8..12 => Say::Small { key, value },
        12..19 => Say::Remove { key },
        _ => Say::RemoveOwner {
            owner: key / OWNED,
            erase: random.below(2) == 0,
        },
    }
}

fn random_tx(random: &mut Random, keys: u64) -> Tx {
    (0..1 + random.below(4))
        .map(|_| random_say(random, keys))
        .collect()
}

/// Works on a log at random for so many steps, while the device records.
/// Sometimes writes are rare, so that much happens within one group.
fn work(rig: &mut Rig, random: &mut Random, story: &mut Story, steps: usize, keys: u64) {
    let lazy = random.below(3) == 0;
    for _ in 0..steps {
        match random.below(16) {
            6..11 if lazy && random.below(6) > 0 => _ = rig.chore(),
            0..6 => {
                let tx = random_tx(random, keys);
                match rig.append(&tx) {
                    Ok(appended) => {
                        story.txs.push(tx);
                        assert_eq!(appended.position.0, story.txs.len() as u64);
                    }
                    Err(AppendError::Full) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            6..11 => _ = rig.write_one(),
            11..15 => _ = rig.chore(),
            _ if random.below(6) == 0 => rig.log.begin_checkpoint(),
            _ if random.below(40) == 0 => rig.now_ms += 4 * 24 * 3600 * 1000,
            _ => _ = rig.chore(),
        }
        story
            .acked
            .push((rig.device.recorded(), rig.log.durable().0));
    }
}

fn mask(random: &mut Random, style: u64) -> u8 {
    match style {
        0 => 0,
        1 => 0xff,
        2 => [0, 0xff][random.below(2) as usize],
        3 => [0xff, 0xff, 0xff, 0][random.below(4) as usize],
        _ => random.next() as u8,
    }
}

/// Opens what a crash leaves, crashes again while that is being recovered and
/// worked on, and checks each time.
fn crash_and_crash_again(
    story: &Story,
    history: &History,
    ops: usize,
    random: &mut Random,
    style: u64,
) {
    let acked = story.acked_at(ops);
    let crashed = history.crash(ops, &mut || mask(random, style));
    let mut second = crashed.record();
    let mut rig = story.check(
        crashed,
        acked,
        &format!("crash after {ops} operations, style {style}"),
    );
    // What was recovered is served, so it must not go away again.
    let recovered = rig.log.position().0;
    let mut longer = Story {
        txs: story.txs[..recovered as usize].to_vec(),
        acked: Vec::new(),
    };
    let opened = rig.device.recorded();
    longer.acked.push((opened, recovered));
    work(&mut rig, random, &mut longer, 12, 40);
    rig.device.stop_recording(&mut second);
    for further in [false, true] {
        let at = random.below(second.len() as u64 + 1) as usize;
        let again = second.crash(at, &mut || mask(random, style));
        let what =
            format!("crash after {ops} operations, style {style}, then after {at} of {opened}");
        // While it was opened, the first story still counts.
        let (story, acked) = if at < opened {
            (story, acked)
        } else {
            (&longer, longer.acked_at(at))
        };
        let rig = story.check(again, acked, &what);
        if !further {
            continue;
        }
        let told = story.txs[..rig.log.position().0 as usize].to_vec();
        crash_on_and_on(rig, told, random, style, &what);
    }
}

/// What one opening drops is still there when later ones look: a few more of
/// them, with a little said in each.
fn crash_on_and_on(mut rig: Rig, txs: Vec<Tx>, random: &mut Random, style: u64, what: &str) {
    let mut story = Story {
        txs,
        acked: Vec::new(),
    };
    for opening in 3..6 {
        work(&mut rig, random, &mut story, 6, 40);
        let acked = rig.log.durable().0;
        let crashed = rig.device.crash(&mut || mask(random, style));
        rig = story.check(crashed, acked, &format!("{what}, opened {opening} times"));
        story.txs.truncate(rig.log.position().0 as usize);
    }
}

fn recorded_run(seed: u64, segments: u64, steps: usize, keys: u64) -> (Story, History, Random) {
    let mut random = Random::new(seed);
    let device = if seed.is_multiple_of(2) {
        device(segments)
    } else {
        SimDevice::new(0, device(segments).len())
    };
    let mut history = device.record();
    let mut rig = Rig::open(device);
    let mut story = Story::default();
    story.acked.push((rig.device.recorded(), 0));
    work(&mut rig, &mut random, &mut story, steps, keys);
    rig.check(&story.model(story.txs.len() as u64));
    rig.device.stop_recording(&mut history);
    (story, history, random)
}

#[test]
fn a_crash_after_every_operation_of_short_workloads_is_recovered_from() {
    for seed in 0..6 {
        let _seed = Seed(seed, "short workload");
        let (story, history, mut random) = recorded_run(seed, 24, 60, 40);
        for ops in 0..=history.len() {
            for style in 0..5 {
                crash_and_crash_again(&story, &history, ops, &mut random, style);
            }
        }
    }
}

#[test]
fn a_crash_somewhere_in_long_workloads_is_recovered_from() {
    for seed in 100..108 {
        let _seed = Seed(seed, "long workload");
        let (story, history, mut random) = recorded_run(seed, 32, 1500, 120);
        for _ in 0..25 {
            let ops = random.below(history.len() as u64 + 1) as usize;
            let style = random.below(5);
            crash_and_crash_again(&story, &history, ops, &mut random, style);
        }
    }
}

/// Seeds that are given by hand: `SOAK=from..until cargo test --release soak -- --ignored`.
#[test]
#[ignore = "runs as long as it is told to"]
fn soak() {
    let range = std::env::var("SOAK").unwrap_or_else(|_| "0..50".into());
    let (from, until) = range.split_once("..").expect("a range of seeds");
    let (from, until): (u64, u64) = (
        from.parse().expect("a number"),
        until.parse().expect("a number"),
    );
    for seed in from..until {
        let _seed = Seed(seed, "soak");
        let keys = 40 + seed % 5 * 40;
        let (story, history, mut random) = recorded_run(seed, 20 + seed % 4 * 6, 800, keys);
        for _ in 0..60 {
            let ops = random.below(history.len() as u64 + 1) as usize;
            let style = random.below(5);
            crash_and_crash_again(&story, &history, ops, &mut random, style);
        }
    }
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote() {
    for seed in 200..206 {
        let _seed = Seed(seed, "killed process");
        let mut random = Random::new(seed);
        let mut story = Story::default();
        let mut rig = Rig::open(device(32));
        for _ in 0..12 {
            work(&mut rig, &mut random, &mut story, 120, 100);
            let acked = rig.log.durable().0;
            rig = story.check(rig.device.kill(), acked, "killed");
            story.txs.truncate(rig.log.position().0 as usize);
        }
    }
}

/// Both superblocks are torn only if they are written at once, or in an order
/// that does not look at which of them is sound.
#[test]
fn two_crashes_while_superblocks_are_written_leave_one_of_them() {
    let device = device(16);
    let mut rig = Rig::open(device);
    rig.append(&vec![Say::Small { key: 1, value: 1 }])
        .expect("there is room");
    rig.commit();
    let mut history = rig.device.record();
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    rig.device.stop_recording(&mut history);
    let mut random = Random::new(7);
    for ops in 0..=history.len() {
        for _ in 0..12 {
            let crashed = history.crash(ops, &mut || random.next() as u8);
            let mut second = crashed.record();
            let rig = Rig::open(crashed);
            rig.device.stop_recording(&mut second);
            for ops in 0..=second.len() {
                let again = Rig::open(second.crash(ops, &mut || random.next() as u8));
                again.check(&Model::from([(1, 1)]));
            }
        }
    }
}

/// A slot that was freed and one that is filled in the same group must not be
/// the same slot: the freeing may be lost and what filled it not.
#[test]
fn a_freed_slot_is_not_filled_before_that_is_durable() {
    let mut rig = Rig::open(device(24));
    for key in 0..40 {
        let class = Class::Archive { bucket: 1 };
        rig.append(&vec![Say::Big {
            key,
            value: 1,
            bytes: 3000,
            class,
        }])
        .expect("there is room");
    }
    rig.commit();
    let model = rig.state.model();
    for key in 0..40 {
        rig.append(&vec![Say::Remove { key }])
            .expect("there is room");
    }
    // In one group: everything is removed, its segments are freed, and others
    // are opened.
    while rig.chore() {}
    for key in 100..110 {
        let class = Class::Archive { bucket: 10 + key };
        rig.append(&vec![Say::Big {
            key,
            value: 1,
            bytes: 3000,
            class,
        }])
        .expect("there is room");
    }
    let write = rig
        .log
        .next_write(rig.now_ms)
        .expect("there is something to write");
    rig.device.fail(crate::store::sim::Faults {
        syncs_left: Some(0),
        ..Default::default()
    });
    let mut history = rig.device.record();
    drop(write.perform(&rig.device));
    rig.device.stop_recording(&mut history);
    // Everything reached the medium but the batch that says so.
    let batch = history.len() - 1;
    let mut index = 0;
    let crashed = history.crash(history.len(), &mut || {
        index += 1;
        if index > batch { 0 } else { 0xff }
    });
    Rig::open(crashed).check(&model);
}

#[test]
fn what_recovery_dropped_stays_dropped() {
    let mut rig = Rig::open(device(16));
    rig.append(&vec![Say::Small { key: 1, value: 1 }])
        .expect("there is room");
    rig.commit();
    rig.append(&vec![Say::Big {
        key: 2,
        value: 2,
        bytes: 6000,
        class: Class::State,
    }])
    .expect("there is room");
    let write = rig
        .log
        .next_write(rig.now_ms)
        .expect("there is something to write");
    let mut history = rig.device.record();
    drop(write.perform(&rig.device));
    rig.device.stop_recording(&mut history);
    let whole = history.crash(history.len() - 1, &mut || 0xff).to_bytes();
    let mut kept = 0;
    let torn = history.crash(history.len() - 1, &mut || {
        kept += 1;
        if kept > 1 { 0 } else { 0xff }
    });
    let rig = Rig::open(torn);
    rig.check(&Model::from([(1, 1)]));
    // The medium shows the missing blocks again, behind the superblocks.
    let mut bytes = rig.device.to_bytes();
    bytes[65536..].copy_from_slice(&whole[65536..]);
    Rig::open(SimDevice::from_bytes(&bytes)).check(&Model::from([(1, 1)]));
}

#[test]
fn identities_of_segments_that_were_lost_are_not_used_again() {
    let mut rig = Rig::open(device(16));
    let archived = |key| {
        vec![Say::Big {
            key,
            value: 1,
            bytes: 10,
            class: Class::Archive { bucket: 1 },
        }]
    };
    rig.append(&archived(1)).expect("there is room");
    let lost = rig.state.keys[&1]
        .place
        .expect("it lies in the log")
        .segment;
    let mut rig = Rig::open(rig.device.crash(&mut || 0));
    rig.append(&archived(1)).expect("there is room");
    assert!(
        rig.state.keys[&1]
            .place
            .expect("it lies in the log")
            .segment
            > lost
    );
}

#[test]
fn what_expired_stays_away() {
    let mut rig = Rig::open(device(24));
    let mut model = Model::default();
    for key in 0..60 {
        let class = Class::Archive { bucket: key / 20 };
        let tx = vec![Say::Big {
            key,
            value: 1,
            bytes: 600,
            class,
        }];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.commit();
    }
    assert_eq!(rig.log.expire(&mut rig.state, Use::Archive, 2), 4);
    model.retain(|key, _| *key >= 40);
    rig.check(&model);
    rig.commit();
    let mut rig = Rig::open(rig.device.crash(&mut || 0));
    rig.check(&model);
    rig.log.begin_checkpoint();
    rig.settle();
    let rig = Rig::open(rig.device.crash(&mut || 0));
    rig.check(&model);
}
