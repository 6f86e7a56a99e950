//! What was acknowledged and is lost is told whenever the store is verified.

use super::harness::{NOW_MS, Rig, device, options};
use super::model::{Say, State, Tx};
use crate::store::batch::Class;
use crate::store::log::{Log, Options};
use crate::store::report::{Damage, DamageKind};
use crate::store::sim::SimDevice;

fn big(key: u32, class: Class) -> Say {
    Say::Big {
        key,
        value: 1,
        bytes: 300,
        class,
    }
}

/// A store with a batch for each of ten keys, closed in order, and where its
/// last value lies on the device.
fn ten_batches(class: Class) -> (SimDevice, u64) {
    let mut rig = Rig::open(device(20));
    let mut say = |tx: Tx| {
        rig.append(&tx).expect("there is room");
        rig.commit();
    };
    for key in 0..10 {
        say(vec![
            big(key, class),
            Say::Small {
                key: 100 + key,
                value: 2,
            },
        ]);
    }
    let place = rig.state.keys[&9].place.expect("it lies in the log");
    let slot = rig.log.map.of(place.segment).expect("in use").slot;
    let at = rig.log.geometry().slot_at(slot) + u64::from(place.offset);
    (rig.close(), at)
}

fn verified(rig: &Rig) -> Vec<Damage> {
    let found = rig.log.verify(&rig.state, &rig.device).damage;
    found.into_iter().map(without_time).collect()
}

/// Before when it was written is known once something was written behind it.
fn without_time(damage: Damage) -> Damage {
    let between_ms = (damage.between_ms.0, None);
    Damage {
        between_ms,
        ..damage
    }
}

/// The same is told at once, after more was written, by those who only read,
/// when checkpoints have left it behind, and its segment was given back.
fn is_told_ever_after(rig: Rig, told: &[Damage]) {
    let mut rig = rig;
    assert_eq!(verified(&rig), told);
    for round in 0..3 {
        rig.append(&vec![big(20 + round, Class::State)])
            .expect("there is room");
        rig.commit();
        assert_eq!(verified(&rig), told, "round {round}");
        rig = Rig::open(rig.device.crash(&mut || 0));
        assert_eq!(verified(&rig), told, "round {round}, opened again");
    }
    for round in 0..3 {
        for key in 0..10 {
            rig.append(&vec![Say::Remove { key }]).expect("it is taken");
        }
        rig.log.begin_checkpoint();
        rig.settle();
        assert_eq!(verified(&rig), told, "checkpoint {round}");
        rig = Rig::open(rig.close());
        assert_eq!(verified(&rig), told, "checkpoint {round}, opened again");
    }
    assert_eq!(rig.recovery.damage, []);
    let read_only = Options {
        read_only: true,
        ..options()
    };
    let mut reader = Rig::try_open(rig.device.kill(), read_only).expect("it opens");
    assert_eq!(verified(&reader), told);
    let later_ms = NOW_MS + 91 * 24 * 3600 * 1000;
    let device = rig.close();
    reader.state = State::default();
    let opened = Log::open(&device, &mut reader.state, options(), later_ms);
    let (log, _) = opened.expect("it opens");
    // Only what still lies there rotten may be found.
    let found = log.verify(&reader.state, &device).damage;
    let is_told = found.iter().any(|damage| damage.batches.is_some());
    assert!(!is_told, "in the end it is told no more: {found:?}");
}

#[test]
fn a_rotten_last_batch_is_told_by_every_verification() {
    let (device, at) = ten_batches(Class::State);
    device.flip(at + 60, 0);
    let rig = Rig::open(device);
    let [damage] = &rig.recovery.damage[..] else {
        panic!("{:?}", rig.recovery)
    };
    assert_eq!(damage.kind, DamageKind::Chain);
    assert_eq!(damage.batches.map(|(first, _)| first), Some(10));
    assert_eq!(damage.hit, ["key 109"]);
    let told = without_time(damage.clone());
    is_told_ever_after(rig, &[told]);
}

#[test]
fn a_rotten_record_outside_the_chain_is_told_by_every_verification() {
    let (device, at) = ten_batches(Class::Archive { bucket: 1 });
    device.flip(at + 60, 0);
    let rig = Rig::open(device);
    let [damage] = &rig.recovery.damage[..] else {
        panic!("{:?}", rig.recovery)
    };
    assert_eq!(damage.kind, DamageKind::Records);
    let told = without_time(damage.clone());
    is_told_ever_after(rig, &[told]);
}

/// The hole is told, and not the sound batch behind it.
#[test]
fn batches_that_go_missing_under_a_running_log_are_told_by_their_place() {
    let mut rig = Rig::open(device(20));
    for key in 0..10 {
        rig.append(&vec![big(key, Class::State)])
            .expect("there is room");
        rig.commit();
    }
    let place = rig.state.keys[&4].place.expect("it lies in the log");
    let slot = rig.log.map.of(place.segment).expect("in use").slot;
    let start = place.offset - place.offset % 4096;
    rig.device
        .zero(rig.log.geometry().slot_at(slot) + u64::from(start), 4096);
    let found = verified(&rig);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].from, found[0].until), (start, start + 4096));
    assert_eq!(found[0].batches, Some((5, 5)));
    assert_eq!(found[0].hit, ["key 4"]);
}
