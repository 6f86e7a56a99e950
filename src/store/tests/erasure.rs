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
