//! What a torn batch leaves behind never stands in for what was acknowledged
//! after it, however often the store is opened again.

use super::crash::{Random, Seed, Story};
use super::harness::{Rig, SEGMENT, device};
use super::model::{Model, Say, Tx, apply_to_model};
use crate::store::batch::Class;
use crate::store::sim::SimDevice;

fn small(key: u32) -> Tx {
    vec![Say::Small { key, value: 1 }]
}

fn big(key: u32, bytes: u16) -> Say {
    Say::Big {
        key,
        value: 1,
        bytes,
        class: Class::State,
    }
}

/// Commits batches of one block until so many bytes are left of the segment.
fn fill_up_to(rig: &mut Rig, model: &mut Model, left: u32) {
    let mut key = 1000;
    while rig.log.chain.offset < SEGMENT - left {
        say(rig, model, &small(key));
        key += 1;
    }
}

fn say(rig: &mut Rig, model: &mut Model, tx: &Tx) {
    rig.append(tx).expect("there is room");
    rig.commit();
    apply_to_model(model, tx);
}

/// Writes what was appended, and crashes: of its blocks those are kept that
/// `keeps` names.
fn torn(rig: &mut Rig, mut keeps: impl FnMut(usize) -> bool) -> SimDevice {
    let write = rig
        .log
        .next_write(rig.now_ms)
        .expect("there is something to write");
    let mut history = rig.device.record();
    drop(write.perform(&rig.device));
    rig.device.stop_recording(&mut history);
    let mut index = 0;
    history.crash(history.len() - 1, &mut || {
        index += 1;
        if keeps(index - 1) { 0xff } else { 0 }
    })
}

/// Whatever was dropped: the next epoch rolls into the next segment, and what
/// it says there is found by every opening after it.
fn goes_on_in_the_next_segment(torn: SimDevice, mut model: Model) {
    let mut rig = Rig::open(torn);
    rig.check(&model);
    let segment = rig.log.chain.segment;
    say(&mut rig, &mut model, &vec![big(3, 28_000)]);
    assert_ne!(
        rig.log.chain.segment, segment,
        "it went to the next segment"
    );
    say(&mut rig, &mut model, &small(4));
    for opening in 0..5 {
        rig = Rig::open(rig.device.crash(&mut || 0));
        assert_eq!(rig.recovery.damage, [], "opening {opening}");
        rig.check(&model);
        let verified = rig.log.verify(&rig.state, &rig.device);
        assert!(verified.is_clean(), "opening {opening}: {verified:?}");
        if opening > 1 {
            say(&mut rig, &mut model, &small(10 + opening));
        }
    }
}

#[test]
fn a_torn_header_at_the_end_of_a_segment_does_not_hide_what_followed_in_the_next() {
    let mut rig = Rig::open(device(20));
    let mut model = Model::new();
    fill_up_to(&mut rig, &mut model, 5 * 4096);
    rig.append(&vec![big(2, 14_000)]).expect("there is room");
    // Only the block with the header reaches the medium.
    let torn = torn(&mut rig, |block| block == 0);
    let found = Rig::open(torn.kill());
    assert!(found.recovery.dropped.is_some());
    goes_on_in_the_next_segment(torn, model);
}

#[test]
fn a_batch_that_was_dropped_for_its_extent_does_not_come_back() {
    let mut rig = Rig::open(device(20));
    let mut model = Model::new();
    fill_up_to(&mut rig, &mut model, 5 * 4096);
    let archived = Say::Big {
        key: 2,
        value: 1,
        bytes: 500,
        class: Class::Archive { bucket: 1 },
    };
    rig.append(&vec![archived, Say::Small { key: 5, value: 1 }])
        .expect("there is room");
    // The segment's header and the extent are written first, the batch last.
    let torn = torn(&mut rig, |block| block == 2);
    let found = Rig::open(torn.kill());
    assert!(found.recovery.dropped.is_some());
    goes_on_in_the_next_segment(torn, model);
}

/// Few batches, all of several blocks: every other one is at the end of a
/// segment, and many are torn.
#[test]
fn batches_torn_over_and_over_never_hide_what_was_acknowledged() {
    for seed in 0..60 {
        let _seed = Seed(seed, "torn over and over");
        let mut random = Random::new(seed);
        let mut rig = Rig::open(device(24));
        let mut story = Story::default();
        for round in 0..30 {
            let class = match random.below(4) {
                0 => Class::Archive { bucket: 1 },
                _ => Class::State,
            };
            for _ in 0..1 + random.below(2) {
                let bytes = random.below(16_000) as u16;
                let (key, value) = (random.below(20) as u32, random.next());
                let tx = vec![
                    Say::Big {
                        key,
                        value,
                        bytes,
                        class,
                    },
                    Say::Small { key: 50, value },
                ];
                rig.append(&tx).expect("there is room");
                story.txs.push(tx);
            }
            if random.below(2) == 0 {
                rig.commit();
            }
            if random.below(3) == 0 {
                rig.settle();
            }
            let acked = rig.log.durable().0;
            let torn = if acked < rig.log.position().0 {
                torn(&mut rig, |_| random.below(2) == 0)
            } else {
                rig.device.crash(&mut || 0)
            };
            rig = story.check(torn, acked, &format!("round {round}"));
            story.txs.truncate(rig.log.position().0 as usize);
        }
    }
}
