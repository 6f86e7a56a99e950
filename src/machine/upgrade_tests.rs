use std::io::Cursor;
use std::os::unix::fs::FileExt;

use minisign::KeyPair;

use super::*;
use crate::machine::bundle::Manifest;
use crate::machine::release::{LogFormats, Release};

/// Of the log, which every release here reads.
const FORMAT: u32 = LogFormats::OURS.reads_to;

struct Made {
    bundle: Vec<u8>,
    release: Release,
    boot: Vec<u8>,
    root: Vec<u8>,
}

fn part(bytes: &[u8]) -> Part {
    let sum = ring::digest::digest(&SHA256, bytes);
    Part {
        bytes: bytes.len() as u64,
        sha256: hexadecimal(sum.as_ref()),
    }
}

pub(super) fn bundle(version: &str, boot: &[u8], root: &[u8]) -> (Vec<u8>, String) {
    let manifest = Manifest {
        version: version.to_owned(),
        floor: "0.1.0".to_owned(),
        log: LogFormats::OURS,
        boot: part(boot),
        root: part(root),
    };
    let manifest = toml::to_string(&manifest).expect("it is plain");
    let keys = KeyPair::generate_unencrypted_keypair().expect("a key");
    let signature = minisign::sign(None, &keys.sk, Cursor::new(&manifest), None, None)
        .expect("a signature")
        .into_string();
    let mut bundle = MAGIC.to_vec();
    for part in [signature.as_bytes(), manifest.as_bytes()] {
        bundle.extend((part.len() as u32).to_le_bytes());
        bundle.extend(part);
    }
    bundle.extend(boot);
    bundle.extend(root);
    (bundle, keys.pk.to_base64())
}

fn made(version: &str) -> Made {
    let boot: Vec<u8> = (0..200_704_u32).map(|at| (at % 251) as u8).collect();
    let root: Vec<u8> = (0..307_200_u32).map(|at| (at % 241) as u8).collect();
    let (bundle, key) = bundle(version, &boot, &root);
    let release = Release {
        version: "0.2.0".to_owned(),
        floor: "0.2.0".to_owned(),
        log: LogFormats::OURS,
        keys: vec![key],
        kernel: String::new(),
    };
    Made {
        bundle,
        release,
        boot,
        root,
    }
}

/// Slot b, full of what an older release left there, and the target that writes to it.
fn slot() -> (Target, Target) {
    let file = || {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&vec![0xee; 400_000], 0)
            .expect("it is filled");
        file
    };
    let target = Target {
        slot: Slot::B,
        boot: file(),
        root: file(),
        state: file(),
    };
    let mut state = BootState::default();
    state.set_good(Slot::B, true);
    boot_state::write(&target.state, &state).expect("it is written");
    let again = |file: &File| file.try_clone().expect("a descriptor");
    let same = Target {
        slot: Slot::B,
        boot: again(&target.boot),
        root: again(&target.root),
        state: again(&target.state),
    };
    (target, same)
}

fn state(slot: &Target) -> BootState {
    boot_state::read(&slot.state).expect("it reads")
}

fn read(file: &File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("it is there");
    bytes
}

#[test]
fn a_bundle_is_written_in_pieces_of_any_length() {
    let made = made("0.3.0");
    for piece in [1_000, 65_536, 100_000, made.bundle.len()] {
        let (target, slot) = slot();
        let mut upgrade = Upgrade::new(made.release.clone(), FORMAT, target);
        for bytes in made.bundle.chunks(piece) {
            upgrade.feed(bytes).expect("a sound piece");
        }
        let manifest = upgrade.finish().expect("a sound bundle");
        assert_eq!(manifest.version, "0.3.0");
        assert_eq!(read(&slot.boot, made.boot.len()), made.boot);
        assert_eq!(read(&slot.root, made.root.len()), made.root);
        assert_eq!(state(&slot).slot, Slot::B, "it is tried at the next start");
    }
}

#[test]
fn nothing_is_touched_before_the_manifest_is_verified_and_fits() {
    let made = made("0.3.0");
    let mut stranger = made.release.clone();
    stranger.keys = vec![bundle("0.3.0", &made.boot, &made.root).1];
    let mut old = made.release.clone();
    old.floor = "0.4.0".to_owned();
    let mut garbled = made.bundle.clone();
    // Within the manifest.
    garbled[MAGIC.len() + 400] ^= 1;
    let cases = [
        (made.bundle.clone(), stranger, FORMAT, "not signed by a key"),
        (made.bundle.clone(), old, FORMAT, "below 0.4.0"),
        (
            made.bundle.clone(),
            made.release.clone(),
            FORMAT + 1,
            "cannot read the data",
        ),
        (garbled, made.release.clone(), FORMAT, "sign"),
        (vec![0; 4096], made.release, FORMAT, "no bundle"),
    ];
    for (bytes, release, format, why) in cases {
        let (target, slot) = slot();
        let said = Upgrade::new(release, format, target)
            .feed(&bytes)
            .expect_err("it is refused");
        assert!(said.contains(why), "{said}");
        assert_eq!(read(&slot.boot, 4096), vec![0xee; 4096]);
        assert_eq!(read(&slot.root, 4096), vec![0xee; 4096]);
        assert!(state(&slot).is_good(Slot::B), "it is what it was");
    }
}

#[test]
fn a_damaged_or_truncated_bundle_leaves_a_slot_that_does_not_boot() {
    let made = made("0.3.0");
    let len = made.bundle.len();
    for at in [
        len - 1,
        len - made.root.len() - 1,
        len - made.root.len() + 70_000,
    ] {
        let (target, slot) = slot();
        let mut bytes = made.bundle.clone();
        bytes[at] ^= 0x10;
        let mut upgrade = Upgrade::new(made.release.clone(), FORMAT, target);
        let said = upgrade.feed(&bytes).expect_err("it is damaged");
        assert!(said.contains("damaged"), "{said}");
        assert_eq!(read(&slot.boot, 512), vec![0; 512]);
        let state = state(&slot);
        assert!(state.slot == Slot::A && !state.is_good(Slot::B));
    }
    for cut in [len - 1, len - made.root.len(), len / 4] {
        let (target, slot) = slot();
        let mut upgrade = Upgrade::new(made.release.clone(), FORMAT, target);
        upgrade.feed(&made.bundle[..cut]).expect("so far so good");
        let said = upgrade.finish().expect_err("it is not whole");
        assert!(said.contains("send it again"), "{said}");
        assert_eq!(read(&slot.boot, 512), vec![0; 512]);
    }
    let (target, _) = slot();
    let mut upgrade = Upgrade::new(made.release, FORMAT, target);
    upgrade.feed(&made.bundle).expect("it is whole");
    upgrade.feed(b"x").expect_err("and nothing may follow");
}
