//! Damage is told from a torn end, quarantined, reported, and the rest served.

use std::collections::BTreeSet;

use super::crash::{Random, Seed};
use super::harness::{NOW_MS, Rig, SEGMENT, device, options};
use super::model::{Model, Say, Tx, apply_to_model, payload};
use crate::store::batch::Class;
use crate::store::disk::Device;
use crate::store::format::{SUPERBLOCKS_AT, Use};
use crate::store::formats::NEWEST;
use crate::store::log::Log;
use crate::store::report::{DamageKind, OpenError};
use crate::store::sim::SimDevice;

fn big(key: u32, value: u64) -> Say {
    Say::Big {
        key,
        value,
        bytes: 300,
        class: Class::State,
    }
}

/// A store with a batch for each key, closed in order.
fn one_batch_a_key(keys: u32) -> SimDevice {
    let mut rig = Rig::open(device(20));
    for key in 0..keys {
        rig.append(&vec![
            big(key, 1),
            Say::Small {
                key: 1000 + key,
                value: 2,
            },
        ])
        .expect("there is room");
        rig.commit();
    }
    rig.close()
}

fn find(device: &SimDevice, needle: &[u8]) -> u64 {
    let bytes = device.to_bytes();
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle);
    at.expect("it was written") as u64
}

#[test]
fn a_rotten_batch_is_quarantined_and_named_and_the_others_are_served() {
    let device = one_batch_a_key(40);
    let mut body = 17_u32.to_le_bytes().to_vec();
    body.extend(1_u64.to_le_bytes());
    device.flip(find(&device, &body) + 20, 3);
    let mut rig = Rig::open(device);
    let [damage] = &rig.recovery.damage[..] else {
        panic!("{:?}", rig.recovery)
    };
    assert_eq!(
        (damage.kind, damage.batches),
        (DamageKind::Chain, Some((18, 18)))
    );
    assert_eq!(
        damage.hit,
        ["key 1017"],
        "what can still be read of the batch is named"
    );
    assert!(damage.between_ms.0 < damage.between_ms.1);
    let expected: BTreeSet<u32> = (0..40)
        .chain(1000..1040)
        .filter(|key| key % 1000 != 17)
        .collect();
    assert_eq!(
        rig.state.keys.keys().copied().collect::<BTreeSet<_>>(),
        expected
    );
    // It stays readable, writable, and says so until a checkpoint has left the
    // damage behind.
    rig.append(&vec![big(17, 9)]).expect("there is room");
    rig.commit();
    let mut rig = Rig::open(rig.close());
    assert_eq!(rig.recovery.damage.len(), 1);
    assert_eq!(rig.state.keys[&17].value, 9);
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    let rig = Rig::open(rig.close());
    assert_eq!(rig.recovery.damage, []);
    assert_eq!(rig.state.keys[&17].value, 9);
}

#[test]
fn a_rotten_batch_is_told_from_a_torn_one_by_what_follows_it() {
    let mut rig = Rig::open(device(20));
    for key in 0..30 {
        rig.append(&vec![big(key, 1)]).expect("there is room");
        rig.commit();
    }
    // No superblock was written since: only the later batches speak for it.
    let device = rig.device.crash(&mut || 0);
    let mut body = 12_u32.to_le_bytes().to_vec();
    body.extend(1_u64.to_le_bytes());
    let at = find(&device, &body);
    // Its payload, its header, the whole block.
    for hit in 0..3 {
        let device = device.kill();
        match hit {
            0 => device.flip(at + 30, 2),
            1 => device.flip(at - at % 4096 + 9, 2),
            _ => device.zero(at - at % 4096, 4096),
        }
        let rig = Rig::open(device);
        assert_eq!(rig.recovery.damage.len(), 1, "{:?}", rig.recovery);
        assert_eq!(rig.recovery.damage[0].batches, Some((13, 13)));
        assert_eq!(rig.state.keys.len(), 29);
    }
}

#[test]
fn a_rotten_last_batch_is_damage_when_the_durable_mark_says_so() {
    let device = one_batch_a_key(10);
    let mut body = 9_u32.to_le_bytes().to_vec();
    body.extend(1_u64.to_le_bytes());
    device.flip(find(&device, &body) + 40, 0);
    let mut rig = Rig::open(device);
    assert_eq!(rig.recovery.damage.len(), 1, "{:?}", rig.recovery);
    assert_eq!(rig.recovery.dropped, None);
    assert_eq!(rig.state.keys.len(), 18);
    rig.append(&vec![big(9, 3)]).expect("there is room");
    rig.commit();
    let rig = Rig::open(rig.device.crash(&mut || 0));
    assert_eq!(
        rig.recovery.damage.len(),
        1,
        "what is damaged is not written over"
    );
    assert_eq!(rig.state.keys[&9].value, 3);
}

#[test]
fn a_torn_batch_is_dropped_with_its_length() {
    let mut rig = Rig::open(device(20));
    rig.append(&vec![big(1, 1)]).expect("there is room");
    rig.commit();
    rig.append(&vec![Say::Big {
        key: 2,
        value: 1,
        bytes: 9000,
        class: Class::State,
    }])
    .expect("there is room");
    let write = rig
        .log
        .next_write(NOW_MS)
        .expect("there is something to write");
    rig.device.fail(crate::store::sim::Faults {
        writes_left: Some(0),
        ..crate::store::sim::Faults::default()
    });
    drop(write.perform(&rig.device));
    // Half of it was carried out, and reached the medium.
    let mut rig = Rig::open(rig.device.kill());
    let dropped = rig.recovery.dropped.expect("it is told");
    assert!(dropped.bytes > 9000);
    assert_eq!(rig.recovery.damage, []);
    rig.check(&Model::from([(1, 1)]));
    rig.append(&vec![big(3, 3)]).expect("there is room");
    rig.commit();
    Rig::open(rig.device.crash(&mut || 0)).check(&Model::from([(1, 1), (3, 3)]));
}

#[test]
fn a_rotten_record_outside_the_chain_is_named_and_nothing_else_is_lost() {
    let mut rig = Rig::open(device(20));
    for key in 0..20 {
        let archived = Say::Big {
            key,
            value: 7,
            bytes: 500,
            class: Class::Archive { bucket: 1 },
        };
        rig.append(&vec![
            archived,
            Say::Small {
                key: 100 + key,
                value: 1,
            },
        ])
        .expect("there is room");
        rig.commit();
    }
    let place = rig.state.keys[&11].place.expect("it lies in the log");
    let slot = rig.log.map.of(place.segment).expect("in use").slot;
    let at = rig.log.geometry().slot_at(slot) + u64::from(place.offset);
    let device = rig.close();
    device.flip(at + 100, 1);
    let rig = Rig::open(device);
    let [damage] = &rig.recovery.damage[..] else {
        panic!("{:?}", rig.recovery)
    };
    assert_eq!(damage.kind, DamageKind::Records);
    assert_eq!(
        (rig.state.keys.len(), rig.state.keys.contains_key(&11)),
        (39, false)
    );
    assert!(
        rig.state.keys.contains_key(&111),
        "the rest of its batch is served"
    );
}

#[test]
fn either_superblock_is_enough_and_none_is_not_an_empty_store() {
    for broken in SUPERBLOCKS_AT {
        let device = one_batch_a_key(5);
        device.flip(broken + 60, 0);
        let rig = Rig::open(device);
        assert_eq!((rig.recovery.superblocks, rig.state.keys.len()), (1, 10));
        let rig = Rig::open(rig.device);
        assert_eq!(rig.recovery.superblocks, 2, "it was written anew");
    }
    let device = one_batch_a_key(5);
    SUPERBLOCKS_AT
        .iter()
        .for_each(|&at| device.flip(at + 60, 0));
    let refused = Rig::try_open(device, options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(refused, OpenError::Unreadable(_)), "{refused}");
    let device = one_batch_a_key(5);
    SUPERBLOCKS_AT.iter().for_each(|&at| device.zero(at, 4096));
    let refused = Rig::try_open(device, options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(refused, OpenError::Unreadable(_)), "{refused}");
}

#[test]
fn a_foreign_or_newer_or_short_device_is_refused() {
    let foreign = SimDevice::from_bytes(&vec![0x5a; 2 << 20]);
    let refused = Rig::try_open(foreign, options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(refused, OpenError::NotAStore), "{refused}");
    let newer = one_batch_a_key(1);
    let mut bytes = newer.to_bytes();
    bytes[8..10].copy_from_slice(&(NEWEST + 1).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    let refused = Rig::try_open(SimDevice::from_bytes(&bytes), options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(
        matches!(
            refused,
            OpenError::Newer { found, supported: NEWEST } if found == NEWEST + 1
        ),
        "{refused}"
    );
    let short = one_batch_a_key(1).to_bytes();
    let short = SimDevice::from_bytes(&short[..short.len() - SEGMENT as usize]);
    let refused = Rig::try_open(short, options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(refused, OpenError::Unreadable(_)), "{refused}");
    let tiny = Rig::try_open(device(3), options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(tiny, OpenError::TooSmall { .. }), "{tiny}");
}

/// A store with two checkpoints and a tail.
fn with_checkpoints() -> (SimDevice, Model, [(u64, u32); 2]) {
    let mut rig = Rig::open(device(24));
    let mut model = Model::default();
    let mut say = |rig: &mut Rig, tx: Tx| {
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.commit();
    };
    for round in 0..3_u32 {
        for key in 0..60 {
            say(
                &mut rig,
                vec![
                    big(key, u64::from(round)),
                    Say::Small {
                        key: 200 + key + round,
                        value: 1,
                    },
                ],
            );
        }
        say(&mut rig, vec![Say::Remove { key: round }]);
        if round < 2 {
            rig.log.begin_checkpoint();
            rig.settle();
        }
    }
    let places = [0, 1].map(|index: usize| {
        let standing = rig.log.standing[index].as_ref().expect("it stands");
        let slot = rig.log.map.of(standing.segments[0]).expect("in use").slot;
        (rig.log.geometry().slot_at(slot), standing.pointer.offset)
    });
    rig.check(&model);
    (rig.close(), model, places)
}

#[test]
fn a_damaged_checkpoint_costs_nothing_while_the_one_before_stands() {
    // An item, a whole block, the root.
    for hit in 0..3 {
        let (device, model, [(newest, root), _]) = with_checkpoints();
        match hit {
            0 => device.flip(newest + 4096 + 50, 1),
            1 => device.zero(newest + 4096, 4096),
            _ => device.flip(newest + u64::from(root) + 9, 1),
        }
        let mut rig = Rig::open(device);
        assert_eq!(
            rig.recovery
                .damage
                .iter()
                .map(|damage| damage.kind)
                .collect::<Vec<_>>(),
            [DamageKind::Checkpoint]
        );
        rig.check(&model);
        rig.settle();
        let rig = Rig::open(rig.close());
        assert_eq!(rig.recovery.damage, [], "a new checkpoint was made");
        rig.check(&model);
    }
}

#[test]
fn with_both_checkpoints_damaged_what_is_left_of_them_is_served() {
    let (device, model, [(newest, _), (older, _)]) = with_checkpoints();
    device.flip(newest + 4096 + 50, 1);
    device.flip(older + 4096 + 50, 1);
    let rig = Rig::open(device);
    assert_eq!(rig.recovery.damage.len(), 2, "{:?}", rig.recovery);
    let lost: Vec<u32> = model
        .keys()
        .copied()
        .filter(|key| !rig.state.keys.contains_key(key))
        .collect();
    assert!(lost.len() < 10, "{lost:?}");
    assert!(
        rig.state
            .model()
            .iter()
            .all(|(key, value)| model.get(key) == Some(value))
    );
}

#[test]
fn without_any_checkpoint_only_salvage_opens_the_store() {
    let (device, model, [(newest, root), (older, older_root)]) = with_checkpoints();
    device.flip(newest + u64::from(root) + 9, 1);
    device.flip(older + u64::from(older_root) + 9, 1);
    let refused = Rig::try_open(device.kill(), options())
        .map(|_| ())
        .expect_err("it is refused");
    assert!(matches!(refused, OpenError::Unreadable(_)), "{refused}");
    let salvage = crate::store::log::Options {
        salvage: true,
        ..options()
    };
    let mut rig = Rig::try_open(device, salvage).expect("it is salvaged");
    assert!(rig.recovery.salvaged);
    let saved = rig.state.model();
    assert!(
        model
            .iter()
            .all(|(key, value)| saved.get(key) == Some(value)),
        "nothing is lost that lies there"
    );
    rig.settle();
    let rig = Rig::open(rig.close());
    assert_eq!(rig.state.model(), saved);
}

/// Any single bit: what differs afterwards was reported, what is served is right.
#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    for seed in 0..250 {
        let _seed = Seed(seed, "flipped bit");
        let mut random = Random::new(seed);
        let (device, model, _) = with_checkpoints();
        let len = device.len();
        device.flip(random.below(len), random.below(8) as u8);
        let rig = Rig::open(device);
        let report = &rig.recovery;
        if rig.state.model() != model {
            assert!(!report.damage.is_empty(), "{report:?}");
        }
        let mut unreadable = 0;
        for held in rig.state.keys.values() {
            let Some(place) = held.place else { continue };
            match rig.log.fetch(place).perform(&rig.device) {
                Ok(fetched) => assert_eq!(
                    fetched.payload,
                    payload(held.value, fetched.payload.len() as u16)
                ),
                Err(_) => unreadable += 1,
            }
        }
        let verified = rig.log.verify(&rig.state, &rig.device);
        assert!(unreadable == 0 || !verified.is_clean());
        assert!(unreadable <= 1);
    }
}

#[test]
fn verify_finds_what_is_rotten_and_whose_it_is() {
    let (device, _, _) = with_checkpoints();
    let rig = Rig::open(device);
    let verified = rig.log.verify(&rig.state, &rig.device);
    assert!(verified.is_clean(), "{verified:?}");
    assert!(verified.records > 100 && verified.records_held >= 59);
    let place = rig.state.keys[&30].place.expect("it lies in the log");
    let slot = rig.log.map.of(place.segment).expect("in use").slot;
    rig.device.flip(
        rig.log.geometry().slot_at(slot) + u64::from(place.offset) + 70,
        0,
    );
    let verified = rig.log.verify(&rig.state, &rig.device);
    assert!(
        verified
            .damage
            .iter()
            .any(|damage| damage.hit.contains(&"key 30".to_owned())),
        "{verified:?}"
    );
}

#[test]
fn a_segment_that_was_given_back_is_no_damage_to_the_one_behind_it() {
    let mut rig = Rig::open(device(24));
    let filling = |key| Say::Big {
        key,
        value: 1,
        bytes: 28_400,
        class: Class::State,
    };
    let commit = |rig: &mut Rig, tx: Tx| {
        rig.append(&tx).expect("there is room");
        rig.commit();
    };
    for key in 0..13 {
        commit(&mut rig, vec![filling(key)]);
    }
    let segment = |rig: &Rig, key: u32| rig.state.keys[&key].place.map(|place| place.segment);
    // Exactly those of the segment before the last.
    let before = (0..13)
        .rev()
        .find_map(|key| segment(&rig, key).filter(|id| *id < rig.log.chain.segment));
    let in_it: Vec<u32> = (0..13)
        .filter(|key| segment(&rig, *key) == before)
        .collect();
    for key in in_it {
        commit(&mut rig, vec![Say::Remove { key }]);
    }
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    let before = before.expect("several were filled");
    assert!(rig.log.map.of(before).is_none());
    let is_left = |segment: &crate::store::segment::Segment| segment.class == Use::Chain;
    assert!(rig.log.map.of(before + 1).is_some_and(is_left));
    let mut earlier = rig.log.map.segments.range(..before);
    assert!(earlier.any(|(_, segment)| is_left(segment)));
    let verified = rig.log.verify(&rig.state, &rig.device);
    assert!(verified.is_clean(), "{verified:?}");
}

#[test]
fn a_log_that_is_only_read_writes_nothing() {
    let (device, model, _) = with_checkpoints();
    let before = device.to_bytes();
    let read_only = crate::store::log::Options {
        read_only: true,
        ..options()
    };
    let mut rig = Rig::try_open(device, read_only).expect("it opens");
    rig.check(&model);
    assert!(rig.append(&vec![big(1, 1)]).is_err());
    rig.settle();
    rig.log.close();
    assert!(rig.log.next_write(NOW_MS).is_none());
    assert_eq!(rig.device.to_bytes(), before);
    let mut nothing = super::model::State::default();
    let missing = Log::open(
        &SimDevice::new(0, 1 << 30),
        &mut nothing,
        rig.log.options.clone(),
        NOW_MS,
    );
    assert!(matches!(missing, Err(OpenError::NotAStore)));
}
