//! What a log does when nothing goes wrong.

use super::harness::{Rig, device, options};
use super::model::{Model, Say, Tx, apply_to_model};
use crate::store::batch::{AppendError, Class};
use crate::store::fold::Position;
use crate::store::sim::SimDevice;

fn big(key: u32, value: u64) -> Say {
    Say::Big {
        key,
        value,
        bytes: 428,
        class: Class::State,
    }
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let mut rig = Rig::open(device(16));
    assert!(rig.recovery.created);
    let mut model = Model::default();
    for round in 0..50 {
        let archived = Say::Big {
            key: 1000 + round,
            value: 7,
            bytes: 900,
            class: Class::Archive { bucket: round / 20 },
        };
        let tx: Tx = vec![
            big(round, u64::from(round)),
            Say::Small {
                key: 100 + round,
                value: 5,
            },
            archived,
        ];
        let appended = rig.append(&tx).expect("there is room");
        assert!(rig.log.durable() < appended.position);
        if round % 3 == 0 {
            rig.commit();
            assert_eq!(rig.log.durable(), appended.position);
        }
        apply_to_model(&mut model, &tx);
    }
    rig.check(&model);
    rig.commit();
    rig.check(&model);
    let device = rig.device.crash(&mut || 0);
    let rig = Rig::open(device);
    assert_eq!(rig.log.position(), Position(50));
    assert_eq!(rig.recovery.damage, []);
    rig.check(&model);
    let rig = Rig::open(rig.close());
    assert!(rig.recovery.clean);
    rig.check(&model);
}

#[test]
fn what_was_not_synced_is_gone_as_a_whole() {
    let mut rig = Rig::open(device(16));
    rig.append(&vec![big(1, 1)]).expect("there is room");
    rig.commit();
    rig.append(&vec![big(2, 2), big(3, 3)])
        .expect("there is room");
    let rig = Rig::open(rig.device.crash(&mut || 0));
    rig.check(&Model::from([(1, 1)]));
}

#[test]
fn checkpoints_and_compaction_keep_the_state_and_give_space_back() {
    let mut rig = Rig::open(device(24));
    let mut model = Model::default();
    for round in 0..3000_u32 {
        let tx = vec![
            big(round % 50, u64::from(round)),
            Say::Small {
                key: 100 + round % 30,
                value: u64::from(round),
            },
        ];
        rig.append(&tx)
            .unwrap_or_else(|why| panic!("round {round}: {why}"));
        apply_to_model(&mut model, &tx);
        rig.write_one();
        rig.chore();
    }
    rig.commit();
    rig.check(&model);
    rig.settle();
    rig.check(&model);
    assert!(rig.recovery.created);
    let rig = Rig::open(rig.device.crash(&mut || 0));
    assert!(rig.recovery.checkpoint_ms.is_some());
    assert_eq!(rig.recovery.damage, []);
    rig.check(&model);
}

#[test]
fn a_full_device_takes_removals_and_recovers() {
    let mut rig = Rig::open(device(20));
    let mut model = Model::default();
    let mut key = 0;
    loop {
        let tx = vec![Say::Big {
            key,
            value: 1,
            bytes: 3000,
            class: Class::State,
        }];
        match rig.append(&tx) {
            Ok(_) => apply_to_model(&mut model, &tx),
            Err(AppendError::Full) => {
                rig.settle();
                if rig.append(&tx) == Err(AppendError::Full) {
                    break;
                }
                apply_to_model(&mut model, &tx);
            }
            Err(other) => panic!("{other}"),
        }
        key += 1;
        rig.write_one();
    }
    rig.check(&model);
    for key in 0..key {
        let tx = vec![Say::Remove { key }];
        rig.append(&tx)
            .unwrap_or_else(|why| panic!("removal {key}: {why}"));
        apply_to_model(&mut model, &tx);
        rig.commit();
        (0..16).for_each(|_| _ = rig.chore());
    }
    rig.settle();
    rig.append(&vec![big(1, 1)]).expect("there is room again");
}

#[test]
fn a_file_grows_ahead_of_need() {
    let mut rig = Rig::open(SimDevice::new(0, 8 << 20));
    for round in 0..4000_u32 {
        rig.append(&vec![big(round, 1)])
            .unwrap_or_else(|why| panic!("round {round}: {why}"));
        if round % 16 == 0 {
            rig.commit();
            rig.chore();
        }
    }
    rig.settle();
    let rig = Rig::try_open(rig.device.crash(&mut || 0), options()).expect("it opens");
    assert_eq!(rig.state.keys.len(), 4000 - 15 + 15);
}

#[test]
fn a_batch_goes_to_a_bounded_number_of_segments() {
    let mut rig = Rig::open(device(40));
    let archived = |key, bucket| Say::Big {
        key,
        value: 1,
        bytes: 3000,
        class: Class::Archive { bucket },
    };
    let many: Tx = (0..9).map(|bucket| archived(bucket, bucket)).collect();
    let refused = rig.append(&many).expect_err("it is refused");
    assert!(matches!(refused, AppendError::TooBig { .. }));
    let mut model = Model::default();
    for round in 0..12 {
        let tx: Tx = (0..8)
            .map(|index| archived(round * 8 + index, index % 4))
            .collect();
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
    }
    rig.check(&model);
    rig.commit();
    Rig::open(rig.device.crash(&mut || 0)).check(&model);
}
