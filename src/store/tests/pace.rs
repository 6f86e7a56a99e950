//! Background work keeps to its bandwidth, and its parts do not starve each other.

use super::harness::{Rig, SEGMENT, device, options};
use super::model::Say;
use crate::store::batch::Class;
use crate::store::log::Options;

const BYTES_PER_S: u64 = 4 * SEGMENT as u64;

/// A store that has been opened again, so that every free slot may hold something,
/// and of which an owner has just been removed for good.
fn rig_with_much_to_overwrite() -> Rig {
    let mut rig = Rig::open(device(128));
    for key in 0..64 {
        let (value, bytes, class) = (1, 3000, Class::State);
        let big = Say::Big {
            key,
            value,
            bytes,
            class,
        };
        rig.append(&vec![big]).expect("there is room");
        rig.commit();
    }
    let options = Options {
        background_bytes_per_s: BYTES_PER_S,
        checkpoint_bytes: None,
        erase_within_ms: 0,
        ..options()
    };
    let mut rig = Rig::try_open(rig.close(), options).expect("it opens");
    let (owner, erase) = (1, true);
    rig.append(&vec![Say::RemoveOwner { owner, erase }])
        .expect("a removal is taken");
    rig.commit();
    rig
}

#[test]
fn overwriting_keeps_to_the_bandwidth_and_leaves_room_for_others() {
    let mut rig = rig_with_much_to_overwrite();
    let written = rig.device.counts().2;
    let began_ms = rig.now_ms;
    while rig.now_ms < began_ms + 10_000 {
        rig.chore();
        rig.write_one();
        assert!(!rig.log.stat().is_full, "others have room meanwhile");
    }
    let written = rig.device.counts().2 - written;
    // Commits earn more for background work, those that note what it did too.
    assert!(written > 4 * BYTES_PER_S, "it makes progress: {written}");
    assert!(written < 20 * BYTES_PER_S, "{written} in ten seconds");
}

#[test]
fn a_checkpoint_does_not_wait_until_everything_is_overwritten() {
    let mut rig = rig_with_much_to_overwrite();
    rig.log.begin_checkpoint();
    let began_ms = rig.now_ms;
    while rig.log.stat().checkpoint.is_none() {
        rig.chore();
        rig.write_one();
        assert!(rig.now_ms < began_ms + 5_000, "it has its turn");
    }
    assert!(
        rig.log.stat().erasure.is_some(),
        "there is more to overwrite"
    );
}
