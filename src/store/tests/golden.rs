//! A log as the first version wrote it. It opens in every later version.

use super::harness::{Rig, device};
use super::model::{Model, Say};
use crate::store::batch::Class;
use crate::store::sim::SimDevice;

/// Blocks that are not zeros: index, length without trailing zeros, content.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = (bytes.len() as u64).to_le_bytes().to_vec();
    for (index, block) in bytes.chunks(4096).enumerate() {
        let len = block
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        if len > 0 {
            packed.extend((index as u32).to_le_bytes());
            packed.extend((len as u32).to_le_bytes());
            packed.extend(&block[..len]);
        }
    }
    packed
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let number =
        |at: usize| u32::from_le_bytes(packed[at..at + 4].try_into().expect("four bytes")) as usize;
    let mut bytes = vec![0; number(0)];
    let mut at = 8;
    while at < packed.len() {
        let (index, len) = (number(at), number(at + 4));
        bytes[index * 4096..index * 4096 + len].copy_from_slice(&packed[at + 8..at + 8 + len]);
        at += 8 + len;
    }
    bytes
}

/// Two checkpoints, a tail, all classes, moved and removed and erased records,
/// and a batch that was torn.
fn golden() -> (SimDevice, Model) {
    let mut rig = Rig::open(device(24));
    for round in 0..3_u32 {
        for key in 0..16 {
            let value = u64::from(round * 100 + key);
            let class = match key % 8 {
                6 => Class::Archive { bucket: round },
                7 => Class::Blob { bucket: 9 },
                _ => Class::State,
            };
            let big = Say::Big {
                key: round * 20 + key,
                value,
                bytes: 40,
                class,
            };
            rig.append(&vec![
                big,
                Say::Small {
                    key: 100 + key,
                    value,
                },
            ])
            .expect("there is room");
            rig.commit();
        }
        rig.append(&vec![Say::Remove { key: round * 20 }])
            .expect("there is room");
        if round < 2 {
            rig.log.begin_checkpoint();
            rig.settle();
        }
    }
    rig.append(&vec![Say::RemoveOwner {
        owner: 2,
        erase: true,
    }])
    .expect("there is room");
    rig.commit();
    let model = rig.state.model();
    rig.append(&vec![Say::Big {
        key: 1,
        value: 1,
        bytes: 14_000,
        class: Class::State,
    }])
    .expect("there is room");
    let write = rig
        .log
        .next_write(rig.now_ms)
        .expect("there is something to write");
    let torn = crate::store::sim::Faults {
        writes_left: Some(0),
        ..Default::default()
    };
    rig.device.fail(torn);
    drop(write.perform(&rig.device));
    (rig.device.kill(), model)
}

#[test]
fn the_log_of_the_first_version_opens() {
    let packed = include_bytes!("../../../tests/fixtures/log-v1.bin");
    let rig = Rig::open(SimDevice::from_bytes(&unpack(packed)));
    let (_, model) = golden();
    assert_eq!(rig.recovery.damage, []);
    assert!(
        rig.recovery.checkpoint_ms.is_some() && rig.recovery.dropped.is_some(),
        "{:?}",
        rig.recovery
    );
    rig.check(&model);
    let verified = rig.log.verify(&rig.state, &rig.device);
    assert!(verified.is_clean(), "{verified:?}");
}

/// Only for a new version of the format: the old fixture stays.
#[test]
#[ignore = "writes the fixture"]
fn write_the_fixture() {
    let (device, _) = golden();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/log-v1.bin");
    std::fs::write(path, pack(&device.to_bytes())).expect("it is written");
}
