//! What a stored message costs on the device, once background work is done.

use super::harness::{Rig, options};
use super::model::Say;
use crate::store::batch::Class;
use crate::store::log::Options;
use crate::store::sim::SimDevice;

const PAYLOAD: u16 = 428;

/// Stores messages, so many in a commit; returns the bytes in use afterwards.
fn bytes_of(class: Class, messages: u32, a_commit: u32) -> u64 {
    let options = Options {
        segment_bytes: Some(1 << 20),
        checkpoint_bytes: None,
        slice_bytes: 128 << 10,
        ..options()
    };
    let device = SimDevice::new(0, 1 << 30);
    let mut rig = Rig::try_open(device, options).expect("it opens");
    for key in 0..messages {
        let message = Say::Big {
            key,
            value: 1,
            bytes: PAYLOAD,
            class,
        };
        rig.append(&vec![message]).expect("there is room");
        if key % a_commit == 0 {
            rig.commit();
            while rig.chore() {}
        }
    }
    rig.settle();
    for _ in 0..2 {
        rig.log.begin_checkpoint();
        rig.settle();
    }
    let stat = rig.log.stat();
    u64::from(stat.segments - stat.segments_free) << 20
}

/// What one more message takes, all segments counted whole, the checkpoints'
/// share of it too.
#[test]
fn a_message_takes_at_most_one_and_a_half_times_its_payload() {
    for a_commit in [1, 8, 64] {
        for class in [Class::State, Class::Archive { bucket: 1 }] {
            let (few, many) = (4_000, 16_000);
            let more =
                bytes_of(class, many, a_commit).saturating_sub(bytes_of(class, few, a_commit));
            let share = more as f64 / f64::from(many - few) / f64::from(PAYLOAD);
            println!("{class:?}, {a_commit} a commit: {share:.2} times the payload");
            assert!(
                share <= 1.5,
                "{class:?}, {a_commit} a commit: {share:.2} times the payload"
            );
        }
    }
}
