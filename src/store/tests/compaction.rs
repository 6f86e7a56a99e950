//! Compaction reads only what is there: what is full and not yet written waits.

use super::harness::{Rig, device};
use super::model::{Model, Say, apply_to_model};
use crate::store::batch::Class;

const ARCHIVE: Class = Class::Archive { bucket: 1 };

fn archived(key: u32, bytes: u16) -> Say {
    Say::Big {
        key,
        value: 1,
        bytes,
        class: ARCHIVE,
    }
}

fn say(rig: &mut Rig, model: &mut Model, say: Say) {
    let tx = vec![say];
    rig.append(&tx).expect("there is room");
    apply_to_model(model, &tx);
}

/// A segment is full as soon as a record goes to the next one, though its last part may still
/// wait to be written.
#[test]
fn a_full_segment_is_emptied_only_when_all_of_it_is_written() {
    let mut rig = Rig::open(device(24));
    let mut model = Model::default();
    for key in 0..4 {
        say(&mut rig, &mut model, archived(key, 12_000));
    }
    rig.commit();
    let first = rig.state.keys[&0].place.expect("it lies there").segment;
    for key in 0..3 {
        say(&mut rig, &mut model, Say::Remove { key });
    }
    rig.commit();
    say(&mut rig, &mut model, archived(4, 3_000));
    say(&mut rig, &mut model, archived(5, 12_000));
    let place = |rig: &Rig, key: u32| rig.state.keys[&key].place.expect("it lies there");
    assert_eq!(place(&rig, 4).segment, first, "the rest of the first");
    assert_ne!(place(&rig, 5).segment, first, "and the next");
    // Nothing is written meanwhile.
    for _ in 0..20 {
        rig.chore();
    }
    rig.settle();
    assert_eq!(rig.log.stat().segments_damaged, 0);
    assert_ne!(place(&rig, 4).segment, first, "it was moved once written");
    assert!(
        rig.log.map.of(first).is_none(),
        "and its segment given back"
    );
    rig.check(&model);
    Rig::open(rig.device.kill()).check(&model);
}
