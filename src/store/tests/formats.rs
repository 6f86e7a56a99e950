//! Two versions of the program on one log: what either may write, and what the older one refuses.

use std::sync::Arc;

use super::crash::{Random, Seed};
use super::harness::{NOW_MS, Rig, device, options};
use super::model::{Model, Say, apply_to_model};
use crate::crypto::Credentials;
use crate::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};
use crate::store::formats::{Formats, READS};
use crate::store::log::{Log, Options};
use crate::store::records::{Kind, version_in};
use crate::store::report::OpenError;
use crate::store::sim::SimDevice;
use crate::store::{Store, StoreLimits, superblock};

const OLD: u16 = *READS.end();
const NEXT: u16 = OLD + 1;

/// A version of the program that reads up to one format and may write up to another.
fn version(reads_to: u16, writes: u16) -> Options {
    let formats = Formats {
        reads: *READS.start()..=reads_to,
        writes,
    };
    Options {
        formats,
        ..options()
    }
}

/// What runs in the old slot.
fn old() -> Options {
    version(OLD, OLD)
}

/// The new one, while the old one is in the other slot.
fn held_back() -> Options {
    version(NEXT, OLD)
}

/// The new one, when everything that may have to read the log knows its format.
fn free() -> Options {
    version(NEXT, NEXT)
}

fn open(device: SimDevice, options: Options) -> Rig {
    Rig::try_open(device, options).expect("it opens")
}

fn say(rig: &mut Rig, model: &mut Model, value: u64) {
    let tx = vec![Say::Small {
        key: value as u32 % 7,
        value,
    }];
    rig.append(&tx).expect("there is room");
    apply_to_model(model, &tx);
    rig.commit();
}

/// Opening says which format it is and which are read, and writes nothing.
#[track_caller]
fn is_refused(device: &SimDevice, options: Options) {
    let before = device.to_bytes();
    let refused = Rig::try_open(device.clone(), options).map(|_| ());
    let refused = refused.expect_err("it is newer");
    assert!(
        matches!(
            refused,
            OpenError::Newer {
                found: NEXT,
                supported: OLD
            }
        ),
        "{refused}"
    );
    let said = refused.to_string();
    let told = format!("has format {NEXT} and this program reads up to {OLD}");
    assert!(said.contains(&told), "{said}");
    assert_eq!(device.to_bytes(), before);
}

#[test]
fn a_log_keeps_its_format_while_a_newer_one_is_not_permitted() {
    let mut model = Model::default();
    let mut rig = open(device(20), old());
    say(&mut rig, &mut model, 1);
    let mut device = rig.close();
    for (value, options) in [held_back(), old(), held_back(), old()]
        .into_iter()
        .enumerate()
    {
        let mut rig = open(device, options);
        assert_eq!((rig.log.format(), rig.recovery.raised_from), (OLD, None));
        rig.check(&model);
        say(&mut rig, &mut model, 10 + value as u64);
        rig.log.begin_checkpoint();
        rig.settle();
        device = rig.close();
    }
}

#[test]
fn a_log_is_raised_when_that_is_permitted_and_the_older_version_refuses_it_from_then_on() {
    let mut model = Model::default();
    let mut rig = open(device(20), old());
    say(&mut rig, &mut model, 1);
    let mut rig = open(rig.close(), free());
    assert_eq!(
        (rig.log.format(), rig.recovery.raised_from),
        (NEXT, Some(OLD))
    );
    rig.check(&model);
    say(&mut rig, &mut model, 2);
    assert_eq!(rig.log.stat().format, NEXT);
    let verified = rig.log.verify(&rig.state, &rig.device);
    assert!(verified.is_clean(), "{verified:?}");
    let device = rig.close();
    is_refused(&device, old());
    // What is not permitted any more is not taken back either.
    let rig = open(device, held_back());
    assert_eq!((rig.log.format(), rig.recovery.raised_from), (NEXT, None));
    rig.check(&model);
}

#[test]
fn a_version_writes_no_format_that_it_does_not_read_whatever_it_is_permitted() {
    let rig = open(device(20), version(OLD, u16::MAX));
    assert_eq!(rig.log.format(), OLD);
}

#[test]
fn a_new_log_has_the_format_that_is_permitted() {
    for (options, format) in [(old(), OLD), (held_back(), OLD), (free(), NEXT)] {
        let rig = open(device(20), options);
        assert_eq!((rig.log.format(), rig.recovery.format), (format, format));
        assert_eq!(rig.recovery.raised_from, None);
    }
}

#[test]
fn who_only_reads_raises_nothing() {
    let device = open(device(20), old()).close();
    let before = device.to_bytes();
    let options = Options {
        read_only: true,
        ..free()
    };
    let rig = open(device, options);
    assert_eq!((rig.log.format(), rig.recovery.format), (OLD, OLD));
    assert_eq!(rig.device.to_bytes(), before);
}

#[test]
fn one_superblock_of_a_newer_format_is_enough_to_be_refused() {
    let old_one = open(device(20), old()).close().to_bytes();
    let new_one = open(SimDevice::from_bytes(&old_one), free())
        .close()
        .to_bytes();
    for at in [0, 32_768] {
        let mut bytes = old_one.clone();
        bytes[at..at + 4096].copy_from_slice(&new_one[at..at + 4096]);
        is_refused(&SimDevice::from_bytes(&bytes), old());
        assert_eq!(
            open(SimDevice::from_bytes(&bytes), held_back())
                .log
                .format(),
            NEXT
        );
    }
}

/// Whatever the power does while a log is raised: the older version reads it as it was or refuses
/// it, the newer one reads it, and once one opening was through it stays raised.
#[test]
fn a_log_is_raised_wholly_or_not_at_all() {
    for seed in 0..12 {
        let _seed = Seed(seed, "raising");
        let mut random = Random::new(seed);
        let mut model = Model::default();
        let mut rig = open(device(20), old());
        for value in 0..random.below(6) {
            say(&mut rig, &mut model, value);
        }
        if random.below(2) == 0 {
            rig.log.begin_checkpoint();
            rig.settle();
        }
        let device = rig.device.kill();
        let mut history = device.record();
        let mut rig = open(device, free());
        let raised = rig.device.recorded();
        let before = model.clone();
        say(&mut rig, &mut model, 100);
        rig.device.stop_recording(&mut history);
        for ops in 0..=history.len() {
            for _ in 0..6 {
                let crashed = history.crash(ops, &mut || random.next() as u8);
                let bytes = crashed.to_bytes();
                match Rig::try_open(crashed, old()) {
                    Ok(rig) => {
                        assert!(ops < raised, "it was raised durably");
                        rig.check(&before);
                    }
                    Err(OpenError::Newer { found: NEXT, .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                let rig = open(SimDevice::from_bytes(&bytes), held_back());
                let format = rig.log.format();
                assert!(ops < raised || format == NEXT, "what is raised stays so");
                let held = rig.state.model();
                assert!(held == before || (held == model && format == NEXT));
                rig.check(&held);
            }
        }
    }
}

/// A machine whose slots are filled with one version or the other, in any order, as upgrades do it:
/// what is in the other slot can always read the log.
#[test]
fn the_other_slot_can_always_be_gone_back_to() {
    for seed in 0..40 {
        let _seed = Seed(seed, "two slots");
        let mut random = Random::new(seed);
        let mut model = Model::default();
        // What the system in each slot reads; both are told what the other one does.
        let mut slots = [OLD, OLD];
        let mut running = 0;
        let mut device = device(20);
        for step in 0..24 {
            let options = version(slots[running], slots[1 - running].min(slots[running]));
            let before = open_format(&device);
            let mut rig = open(device, options);
            rig.check(&model);
            assert!(before.is_none_or(|before| before <= rig.log.format()));
            say(&mut rig, &mut model, step);
            let format = rig.log.format();
            device = match random.below(3) {
                0 => rig.close(),
                1 => rig.device.kill(),
                _ => rig.device.crash(&mut || random.next() as u8),
            };
            // An upgrade that can read the log, or a step back.
            if random.below(2) == 0 {
                let offered = OLD + random.below(2) as u16;
                if offered >= format {
                    slots[1 - running] = offered;
                }
            }
            if random.below(2) == 0 {
                running = 1 - running;
            }
        }
    }
}

fn open_format(device: &SimDevice) -> Option<u16> {
    superblock::format(&device.to_bytes()[..4096])
}

/// A store with what was put on it before, and one account more.
fn put_account(device: &SimDevice, options: Options, owner: &str) {
    let (device, limits) = (Arc::new(device.clone()), StoreLimits::default());
    let (store, _) = Store::open(device, options, limits, NOW_MS).expect("it opens");
    let credentials = Credentials::Argon2id {
        phc: "$argon2id$".to_owned(),
    };
    store
        .update(|tx| tx.put_account(owner, &credentials, NOW_MS))
        .expect("it is new");
    while store.commit_step(NOW_MS).expect("the device works") {}
}

/// A state that only sees which versions of an account's record there are.
#[derive(Default)]
struct Accounts(Vec<u8>);

impl Fold for Accounts {
    fn apply(&mut self, record: &Record<'_>, _: Place, _: &mut Live) -> Result<(), Unreadable> {
        if record.kind == Kind::Account as u8 {
            self.0.push(record.version);
        }
        Ok(())
    }

    fn holds(&self, _: &Record<'_>, _: Place) -> bool {
        false
    }

    fn moved(&mut self, _: &Record<'_>, _: Place, _: Place, _: &mut Live) {}

    fn checkpoint(
        &self,
        _: Option<Cursor>,
        _: usize,
        _: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        None
    }

    fn restore(&mut self, _: CheckpointItem<'_>, _: &mut Live) -> Result<(), Unreadable> {
        Ok(())
    }

    fn reset(&mut self) {
        self.0.clear();
    }
}

#[test]
fn records_are_written_in_the_versions_of_the_format() {
    let device = device(20);
    put_account(&device, held_back(), "romeo@montague.example");
    put_account(&device, old(), "juliet@capulet.example");
    put_account(&device, free(), "nurse@capulet.example");
    is_refused(&device, old());
    put_account(&device, held_back(), "paris@verona.example");
    let mut accounts = Accounts::default();
    Log::open(&device, &mut accounts, free(), NOW_MS).expect("it opens");
    let written = [OLD, OLD, NEXT, NEXT].map(|format| version_in(Kind::Account, format));
    assert_eq!(accounts.0, written);
    assert!(written[3] == 2, "there is something to tell them apart by");
    let open = |options| {
        Store::open(
            Arc::new(device.clone()),
            options,
            StoreLimits::default(),
            NOW_MS,
        )
    };
    let (store, _) = open(free()).expect("it opens");
    let is_there = |owner: &str| {
        store.read(|state| {
            state
                .account(owner)
                .is_some_and(|account| account.is_enabled())
        })
    };
    for owner in [
        "romeo@montague.example",
        "nurse@capulet.example",
        "paris@verona.example",
    ] {
        assert!(is_there(owner), "{owner}");
    }
}
