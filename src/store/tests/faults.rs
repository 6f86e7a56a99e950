//! After a failed write or sync nothing is acknowledged any more.

use super::crash::{Random, Seed};
use super::harness::{Rig, device};
use super::model::{Model, Say, apply_to_model};
use crate::store::batch::{AppendError, Class};
use crate::store::disk::Device;
use crate::store::sim::Faults;

fn big(key: u32, value: u64) -> Say {
    Say::Big {
        key,
        value,
        bytes: 700,
        class: Class::State,
    }
}

#[test]
fn after_any_failed_write_or_sync_nothing_more_is_acknowledged_and_nothing_is_lost() {
    for seed in 0..120 {
        let _seed = Seed(seed, "fault");
        let mut random = Random::new(seed);
        let mut rig = Rig::open(device(24));
        let left = Some(random.below(80));
        rig.device.fail(match seed % 2 {
            0 => Faults {
                writes_left: left,
                ..Faults::default()
            },
            _ => Faults {
                syncs_left: left,
                ..Faults::default()
            },
        });
        let mut models = vec![Model::default()];
        for round in 0..400 {
            let tx = vec![
                big(round % 37, u64::from(round)),
                Say::Small {
                    key: 100 + round % 11,
                    value: 1,
                },
            ];
            match rig.append(&tx) {
                Ok(_) => {
                    let mut model = models.last().expect("there is one").clone();
                    apply_to_model(&mut model, &tx);
                    models.push(model);
                }
                Err(AppendError::Poisoned(_)) => break,
                Err(other) => panic!("{other}"),
            }
            rig.write_one();
            rig.chore();
        }
        assert!(rig.log.poisoned().is_some());
        let acked = rig.log.durable().0;
        assert!(!rig.write_one() && !rig.chore(), "nothing more is done");
        assert_eq!(rig.log.durable().0, acked);
        let rig = Rig::open(rig.device.crash(&mut || random.next() as u8));
        let position = rig.log.position().0;
        assert!(position >= acked);
        rig.check(&models[position as usize]);
    }
}

#[test]
fn the_cache_does_not_hide_what_a_failed_sync_lost() {
    let mut rig = Rig::open(device(24));
    rig.append(&vec![big(1, 1)]).expect("there is room");
    rig.commit();
    rig.device.fail(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    rig.append(&vec![big(2, 2)]).expect("there is room");
    rig.commit();
    assert!(rig.log.poisoned().is_some());
    // The cache still has it, the medium does not.
    let place = rig.state.keys[&2].place.expect("it lies in the log");
    assert!(rig.log.fetch(place).perform(&rig.device).is_ok());
    Rig::open(rig.device.kill()).check(&Model::from([(1, 1)]));
}

#[test]
fn a_file_that_cannot_grow_is_full_not_broken() {
    let mut rig = Rig::open(crate::store::sim::SimDevice::new(0, 1 << 30));
    rig.device.fail(Faults {
        no_space: true,
        ..Faults::default()
    });
    let mut key = 0;
    let refused = loop {
        rig.commit();
        (0..4).for_each(|_| _ = rig.chore());
        key += 1;
        if let Err(why) = rig.append(&vec![Say::Big {
            key,
            value: 1,
            bytes: 5000,
            class: Class::State,
        }]) {
            break why;
        }
    };
    assert_eq!(refused, AppendError::Full);
    assert!(rig.log.stat().is_full);
    rig.device.fail(Faults::default());
    rig.now_ms += 120_000;
    rig.settle();
    rig.append(&vec![big(1, 1)]).expect("it has grown");
}

#[test]
fn a_sync_that_fails_while_the_file_grows_is_a_failure() {
    let mut rig = Rig::open(crate::store::sim::SimDevice::new(0, 1 << 30));
    rig.commit();
    let len = rig.device.len();
    rig.device.fail(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    assert!(rig.chore(), "a new file has to grow");
    assert!(rig.device.len() > len, "and it did");
    let why = rig.log.poisoned().expect("what was written may be lost");
    assert!(why.starts_with("growing"), "{why}");
}
