//! A device that does not read: what it holds is refused or reported, never taken as not there.

use super::harness::{Rig, SEGMENT, device, options};
use super::model::{Model, Say, apply_to_model};
use crate::store::batch::Class;
use crate::store::fold::Place;
use crate::store::log::Options;
use crate::store::read::FetchError;
use crate::store::report::{DamageKind, OpenError};
use crate::store::sim::{Faults, SimDevice};

const ARCHIVE: Class = Class::Archive { bucket: 1 };

fn big(key: u32, class: Class) -> Say {
    Say::Big {
        key,
        value: 1,
        bytes: 3_000,
        class,
    }
}

/// A commit for each key.
fn ten(class: Class) -> (Rig, Model) {
    let mut rig = Rig::open(device(20));
    let mut model = Model::default();
    for key in 0..10 {
        let tx = vec![big(key, class)];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.commit();
    }
    (rig, model)
}

fn place_of(rig: &Rig, key: u32) -> Place {
    rig.state.keys[&key].place.expect("it lies in the log")
}

/// The device as a new process finds it, with the block unreadable in which the record lies.
fn unreadable(rig: &Rig, place: Place) -> SimDevice {
    let device = rig.device.kill();
    fail_at(rig, &device, place);
    device
}

fn fail_at(rig: &Rig, device: &SimDevice, place: Place) {
    let slot = rig.log.map.of(place.segment).expect("it is in use").slot;
    let at = rig.log.geometry().slot_at(slot) + u64::from(place.offset);
    device.fail(Faults {
        unreadable: Some((at, at + 1)),
        ..Faults::default()
    });
}

#[track_caller]
fn refused(device: SimDevice, options: Options) -> OpenError {
    let opened = Rig::try_open(device, options).map(|_| ());
    opened.expect_err("it does not read")
}

#[test]
fn an_end_of_the_log_that_does_not_read_is_not_taken_for_its_end() {
    for class in [Class::State, ARCHIVE] {
        let (rig, model) = ten(class);
        let last = place_of(&rig, 9);
        let device = unreadable(&rig, last);
        let before = device.to_bytes();
        let why = refused(device.clone(), options());
        assert!(matches!(why, OpenError::Unreadable(_)), "{why}");
        assert!(why.to_string().contains("the simulated read fails"));
        assert_eq!(device.to_bytes(), before, "nothing is written over it");
        // It was a loose cable.
        device.fail(Faults::default());
        let rig = Rig::open(device);
        assert_eq!(rig.recovery.damage, []);
        rig.check(&model);
    }
}

#[test]
fn a_place_where_the_log_may_go_on_and_that_does_not_read_is_not_taken_for_its_end() {
    let (mut rig, mut model) = ten(Class::State);
    let next = rig.log.chain.next.segment;
    let key = (10..).find(|&key| {
        let tx = vec![big(key, Class::State)];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.commit();
        place_of(&rig, key).segment == next
    });
    let first = place_of(&rig, key.expect("a segment fills up"));
    let device = unreadable(&rig, first);
    let why = refused(device.clone(), options());
    assert!(matches!(why, OpenError::Unreadable(_)), "{why}");
    device.fail(Faults::default());
    Rig::open(device).check(&model);
}

#[test]
fn salvage_opens_a_store_whose_end_does_not_read_and_says_what_is_lost() {
    for class in [Class::State, ARCHIVE] {
        let (rig, mut model) = ten(class);
        let lost = place_of(&rig, 9);
        let device = unreadable(&rig, lost);
        let salvage = Options {
            salvage: true,
            ..options()
        };
        let mut rig = Rig::try_open(device, salvage).expect("the rest can be read");
        assert!(rig.recovery.salvaged);
        let [damage] = &rig.recovery.damage[..] else {
            panic!("{:?}", rig.recovery)
        };
        assert_eq!(damage.batches, Some((10, 10)), "{damage:?}");
        model.remove(&9);
        rig.check(&model);
        let tx = vec![big(11, class)];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.log.begin_checkpoint();
        rig.settle();
        // From now on it opens as it is, and the loss is still told.
        let rig = Rig::open(unreadable(&rig, lost));
        rig.check(&model);
        assert!(!rig.log.verify(&rig.state, &rig.device).is_clean());
    }
}

#[test]
fn what_was_given_up_stays_away_when_it_reads_again() {
    for acknowledged in [false, true] {
        let (rig, mut model) = ten(Class::State);
        let lost = place_of(&rig, 9);
        let device = unreadable(&rig, lost);
        if acknowledged {
            // The durable mark of the superblocks says so.
            device.fail(Faults::default());
            let healthy = Rig::open(device.clone());
            fail_at(&healthy, &device, lost);
        }
        let salvage = Options {
            salvage: true,
            ..options()
        };
        let mut rig = Rig::try_open(device, salvage).expect("the rest can be read");
        model.remove(&9);
        for key in 20..23 {
            let tx = vec![big(key, Class::State)];
            rig.append(&tx).expect("there is room");
            apply_to_model(&mut model, &tx);
            rig.commit();
        }
        // Once with the fault, then without, over several openings.
        let rig = Rig::open(unreadable(&rig, lost));
        rig.check(&model);
        let rig = Rig::open(rig.device.kill());
        rig.check(&model);
        Rig::open(rig.device.kill()).check(&model);
    }
}

#[test]
fn what_does_not_read_in_front_of_a_later_batch_is_damage() {
    for (class, kind) in [
        (Class::State, DamageKind::Chain),
        (ARCHIVE, DamageKind::Records),
    ] {
        let (rig, mut model) = ten(class);
        let rig = Rig::open(unreadable(&rig, place_of(&rig, 4)));
        let [damage] = &rig.recovery.damage[..] else {
            panic!("{:?}", rig.recovery)
        };
        assert_eq!((damage.kind, damage.batches), (kind, Some((5, 5))));
        model.remove(&4);
        rig.check(&model);
    }
}

#[test]
fn a_store_that_was_closed_in_order_needs_nothing_behind_its_end() {
    let (rig, model) = ten(Class::State);
    let behind = Place {
        offset: rig.log.chain.offset,
        ..place_of(&rig, 9)
    };
    let slot = rig.log.map.of(behind.segment).expect("in use").slot;
    let at = rig.log.geometry().slot_at(slot) + u64::from(behind.offset);
    let device = rig.close();
    device.fail(Faults {
        unreadable: Some((at, at + u64::from(SEGMENT))),
        ..Faults::default()
    });
    Rig::open(device).check(&model);
}

#[test]
fn compaction_leaves_where_it_is_what_it_cannot_read() {
    let (mut rig, mut model) = ten(ARCHIVE);
    // The next segment begins, and most of the first is dead.
    for key in 10..24 {
        let tx = vec![big(key, ARCHIVE)];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.commit();
    }
    let kept = place_of(&rig, 3);
    assert_ne!(place_of(&rig, 23).segment, kept.segment);
    for key in (0..10).filter(|key| ![3, 7].contains(key)) {
        let tx = vec![Say::Remove { key }];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
    }
    rig.commit();
    fail_at(&rig, &rig.device, kept);
    rig.settle();
    assert_eq!(place_of(&rig, 3), kept, "it stays");
    assert_ne!(place_of(&rig, 7).segment, kept.segment, "others are moved");
    assert_eq!(rig.log.stat().segments_damaged, 1);
    let read = rig.log.fetch(kept).perform(&rig.device);
    assert!(matches!(read, Err(FetchError::Device(_))), "{read:?}");
    rig.device.fail(Faults::default());
    rig.check(&model);
    Rig::open(rig.device.kill()).check(&model);
}

#[test]
fn checkpoints_that_do_not_read_cost_nothing_while_the_chain_is_whole() {
    let (mut rig, model) = ten(Class::State);
    rig.log.begin_checkpoint();
    rig.settle();
    let root = rig.log.standing[0].as_ref().expect("it stands").pointer;
    let device = unreadable(
        &rig,
        Place {
            segment: root.segment,
            offset: root.offset,
            len: root.len,
        },
    );
    let rig = Rig::open(device);
    assert_eq!(rig.recovery.damage[0].kind, DamageKind::Checkpoint);
    rig.check(&model);
}

#[test]
fn a_superblock_that_does_not_read_is_no_empty_place() {
    let (rig, model) = ten(Class::State);
    let device = rig.device.kill();
    for (from, until) in [(0, 4096), (32768, 32769)] {
        device.fail(Faults {
            unreadable: Some((from, until)),
            ..Faults::default()
        });
        let rig = Rig::open(device.clone());
        assert_eq!(rig.recovery.superblocks, 1);
        rig.check(&model);
    }
    device.fail(Faults {
        unreadable: Some((0, 65536)),
        ..Faults::default()
    });
    let why = refused(device.clone(), options());
    assert!(matches!(why, OpenError::Unreadable(_)), "{why}");
    device.fail(Faults::default());
    Rig::open(device).check(&model);
}
