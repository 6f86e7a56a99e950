//! What was removed for good is overwritten within the stated time.

use super::harness::{Rig, device};
use super::model::{Model, OWNED, Say, apply_to_model};
use crate::store::batch::Class;

const SECRET: u64 = 0x5345_4352_4554_2121;

fn copies_of_the_secret(rig: &Rig) -> usize {
    let needle = SECRET.to_le_bytes();
    rig.device
        .to_bytes()
        .windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

#[test]
fn nothing_of_an_erased_owner_is_left_on_the_device() {
    let mut rig = Rig::open(device(32));
    let mut model = Model::default();
    for round in 0..400_u32 {
        let key = round % 64;
        let value = if key / OWNED == 3 {
            SECRET
        } else {
            u64::from(round)
        };
        let class = if round % 5 == 0 {
            Class::Archive { bucket: 1 }
        } else {
            Class::State
        };
        let tx = vec![
            Say::Big {
                key,
                value,
                bytes: 400,
                class,
            },
            Say::Small {
                key: 64 + key,
                value,
            },
        ];
        rig.append(&tx).expect("there is room");
        apply_to_model(&mut model, &tx);
        rig.write_one();
        rig.chore();
    }
    rig.settle();
    assert!(copies_of_the_secret(&rig) > 10);
    assert_eq!(rig.log.stat().erasure, None);
    for owner in [3, 3 + 64 / OWNED] {
        let tx = vec![Say::RemoveOwner { owner, erase: true }];
        rig.append(&tx).expect("a removal is taken");
        apply_to_model(&mut model, &tx);
    }
    rig.settle();
    rig.check(&model);
    let erasure = rig.log.stat().erasure.expect("it is pending");
    assert!(erasure.segments > 0);
    // Half of the time later, and over a crash.
    let now_ms = rig.now_ms + rig.log.options.erase_within_ms / 2;
    let mut rig = Rig::open(rig.device.crash(&mut || 0));
    rig.now_ms = now_ms;
    rig.settle();
    rig.check(&model);
    assert_eq!(rig.log.stat().erasure, None);
    assert_eq!(copies_of_the_secret(&rig), 0);
    assert!(now_ms < erasure.until_ms);
    Rig::open(rig.device.crash(&mut || 0)).check(&model);
}

/// A device whose free slots hold the secret of an owner that was erased just
/// now: others took the place of what was written there.
fn secrets_in_free_slots() -> Rig {
    let mut rig = Rig::open(device(32));
    let say = |rig: &mut Rig, key: u32, value: u64| {
        let tx = vec![Say::Big {
            key,
            value,
            bytes: 3000,
            class: Class::State,
        }];
        rig.append(&tx).expect("there is room");
        rig.commit();
    };
    for key in 24..32 {
        (0..8).for_each(|_| say(&mut rig, key, SECRET));
    }
    for key in 24..32 {
        say(&mut rig, key, 1);
    }
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    assert!(copies_of_the_secret(&rig) > 10);
    rig.append(&vec![Say::RemoveOwner {
        owner: 24 / OWNED,
        erase: true,
    }])
    .expect("a removal is taken");
    rig.commit();
    let erasure = rig.log.stat().erasure.expect("it is pending");
    assert!(erasure.segments_free > 0);
    rig
}

/// The time has come, and the device was opened again.
fn all_is_overwritten(rig: &Rig) {
    let since_ms = rig.log.stat().erasure.map(|erasure| erasure.since_ms);
    let now_ms = rig.now_ms + rig.log.options.erase_within_ms / 2;
    let mut rig = Rig::open(rig.device.crash(&mut || 0));
    let erasure = rig.log.stat().erasure;
    assert_eq!(erasure.map(|erasure| erasure.since_ms), since_ms);
    rig.now_ms = now_ms;
    rig.settle();
    assert_eq!(rig.log.stat().erasure, None);
    assert_eq!(copies_of_the_secret(&rig), 0);
    let rig = Rig::open(rig.close());
    rig.check(&rig.state.model());
}

#[test]
fn free_slots_are_overwritten_though_checkpoints_came_between() {
    let mut rig = secrets_in_free_slots();
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    assert!(copies_of_the_secret(&rig) > 0);
    all_is_overwritten(&rig);
}

#[test]
fn a_slot_that_is_used_before_it_was_overwritten_is_overwritten_later() {
    let mut rig = secrets_in_free_slots();
    // Segments of each kind begin in such slots, with little in them.
    for bucket in 0..8 {
        let tx = vec![Say::Big {
            key: 100 + bucket,
            value: 1,
            bytes: 10,
            class: Class::Archive { bucket },
        }];
        rig.append(&tx).expect("there is room");
        rig.commit();
    }
    for key in 200..210 {
        let tx = vec![Say::Big {
            key,
            value: 1,
            bytes: 28_000,
            class: Class::State,
        }];
        rig.append(&tx).expect("there is room");
        rig.commit();
    }
    // Opened before any checkpoint has written down what became of the slots.
    rig = Rig::open(rig.device.crash(&mut || 0));
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    all_is_overwritten(&rig);
}
