//! What damage to checkpoints costs the state of the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::tests::{credentials, dump, entry};
use super::*;
use crate::store::disk::Device;
use crate::store::fold::Fold;
use crate::store::log::{Log, Options};
use crate::store::records::Kind;
use crate::store::report::Recovery;
use crate::store::sim::SimDevice;
use crate::store::store::Store;
use crate::store::{StoreError, StoreLimits, Tx};

const NOW_MS: u64 = 1_700_000_000_000;
const SEGMENT: u32 = 65536;
const ALICE: &str = "alice@chat.example";
const BOB: &str = "bob@chat.example";

type Dump = BTreeMap<String, String>;

fn options() -> Options {
    Options {
        segment_bytes: Some(SEGMENT),
        random: *b"a name for the store,sal",
        background_bytes_per_s: 0,
        ..Options::default()
    }
}

fn say(store: &Store, change: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError>) {
    store.update(change).expect("it is taken");
    while store.commit_step(NOW_MS).expect("the device works") {}
}

fn everything(tx: &mut Tx<'_>, owner: &str, round: u8) -> Result<(), StoreError> {
    for contact in 0..3 {
        let contact = format!("contact{contact}{round}@chat.example");
        tx.put_roster_item(owner, &entry(&contact, "a name"))?;
    }
    let text = Bytes::from(format!("<message>{round}</message>"));
    let id = tx.put_message(owner, NOW_MS, 1, text.clone())?;
    tx.put_message(owner, NOW_MS, 1, text)?;
    tx.retire_messages(owner, &[id])?;
    tx.put_vcard(owner, Bytes::from_static(b"<vCard/>"))?;
    tx.put_private(
        owner,
        &format!("n{round}"),
        "a ns",
        Bytes::from_static(b"<n/>"),
    )?;
    tx.put_last_activity(owner, NOW_MS + u64::from(round), "bye")?;
    tx.put_setting(&format!("setting {round}"), &[round; 9])
}

/// Two checkpoints; between them Bob came and something of Alice went.
fn two_checkpoints() -> (SimDevice, Dump) {
    let len = 65536 + 40 * u64::from(SEGMENT);
    let device = SimDevice::new(len, len);
    let (store, _) = open_store(&device);
    let checkpoint = || {
        store.begin_checkpoint();
        store.tidy(&|| NOW_MS).expect("the device works");
    };
    say(&store, |tx| tx.put_account(ALICE, &credentials(0), NOW_MS));
    say(&store, |tx| everything(tx, ALICE, 1));
    checkpoint();
    say(&store, |tx| tx.put_account(BOB, &credentials(2), NOW_MS));
    say(&store, |tx| everything(tx, BOB, 2));
    say(&store, |tx| {
        tx.remove_roster_item(ALICE, "contact01@chat.example")
            .map(drop)?;
        tx.remove_private(ALICE, "n1", "a ns")
    });
    say(&store, |tx| everything(tx, ALICE, 3));
    checkpoint();
    say(&store, |tx| everything(tx, BOB, 4));
    let expected = store.read(dump);
    drop(store);
    (device, expected)
}

fn open_store(device: &SimDevice) -> (Store, Recovery) {
    let device: Arc<dyn Device> = Arc::new(device.clone());
    Store::open(device, options(), StoreLimits::default(), NOW_MS).expect("the store opens")
}

/// Where the items of the newer and of the older checkpoint lie on the device.
fn items(device: &SimDevice) -> [Vec<u64>; 2] {
    let read_only = Options {
        read_only: true,
        ..options()
    };
    let mut state = State::new();
    let (log, _) = Log::open(device, &mut state, read_only, NOW_MS).expect("it opens");
    [0, 1].map(|index: usize| {
        let standing = log.standing[index].as_ref().expect("it stands");
        assert_eq!(standing.segments.len(), 1);
        let slot = log.map.of(standing.segments[0]).expect("in use").slot;
        let bytes = device.to_bytes();
        let (start, end) = (4096, standing.pointer.offset);
        let at = log.geometry().slot_at(slot);
        let mut frames = Vec::new();
        let mut offset = start;
        while offset < end {
            let from = (at + u64::from(offset)) as usize;
            let len = u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four"));
            if len == 0 {
                offset = (offset + 1).next_multiple_of(4096);
                continue;
            }
            frames.push(from as u64);
            offset += len;
        }
        frames
    })
}

fn all_can_be_read(store: &Store) {
    let places = store.read(|state| {
        let mut places = Vec::new();
        let cursor = state.checkpoint(None, usize::MAX, &mut |item| places.extend(item.place));
        assert_eq!(cursor, None);
        places
    });
    let verified = store.verify();
    assert_eq!(verified.records_held, places.len() as u64);
    assert_eq!(verified.damage, [], "what stands is whole");
}

#[test]
fn damage_to_any_item_of_the_newest_checkpoint_costs_nothing() {
    let (device, expected) = two_checkpoints();
    let [newest, _] = items(&device);
    assert!(newest.len() > 10, "{}", newest.len());
    for at in newest {
        let device = device.kill();
        device.flip(at + 40, 1);
        let (store, recovery) = open_store(&device);
        assert_eq!(recovery.damage.len(), 1, "{recovery:?}");
        assert_eq!((recovery.invalid, store.read(dump)), (0, expected.clone()));
        store.tidy(&|| NOW_MS).expect("the device works");
        drop(store);
        let (store, recovery) = open_store(&device.kill());
        assert_eq!(
            (recovery.damage, store.read(dump)),
            (vec![], expected.clone())
        );
        all_can_be_read(&store);
    }
}

#[test]
fn damage_to_the_first_checkpoint_is_made_good_from_the_beginning_of_the_log() {
    let len = 65536 + 40 * u64::from(SEGMENT);
    let device = SimDevice::new(len, len);
    let (store, _) = open_store(&device);
    say(&store, |tx| tx.put_account(BOB, &credentials(2), NOW_MS));
    say(&store, |tx| everything(tx, BOB, 1));
    store.begin_checkpoint();
    store.tidy(&|| NOW_MS).expect("the device works");
    let expected = store.read(dump);
    drop(store);
    let read_only = Options {
        read_only: true,
        ..options()
    };
    let (log, _) = Log::open(&device, &mut State::new(), read_only, NOW_MS).expect("it opens");
    let pointer = log.standing[0].as_ref().expect("it stands").pointer;
    let at = log.geometry().slot_at(pointer.slot);
    for at in (at + 4096..at + u64::from(pointer.offset)).step_by(97) {
        let device = device.kill();
        device.flip(at, 1);
        let (store, _) = open_store(&device);
        assert_eq!(store.read(dump), expected);
    }
}

/// What is damaged in one of them, the other has, or the tail; but the items of
/// an account whose image is damaged are only in the other.
#[test]
fn damage_to_different_items_of_both_checkpoints_costs_nothing() {
    let (device, expected) = two_checkpoints();
    let bytes = device.to_bytes();
    let kind = |at: u64| Kind::from_number(bytes[at as usize + 8]);
    let [newest, older] = items(&device);
    let pairs = newest
        .iter()
        .flat_map(|new| older.iter().map(move |old| (*new, *old)));
    let mut different = 0;
    for (new, old) in pairs {
        let device = device.kill();
        device.flip(new + 40, 1);
        device.flip(old + 40, 1);
        let (store, recovery) = open_store(&device);
        assert_eq!(recovery.damage.len(), 2, "{recovery:?}");
        if kind(new) != kind(old) && kind(old) != Some(Kind::AccountImage) {
            different += 1;
            assert_eq!(
                without_history(&store.read(dump)),
                without_history(&expected),
                "{:?} and {:?}",
                kind(new),
                kind(old)
            );
        }
    }
    assert!(different > 20);
}

/// Everything but the versions of rosters, which say less after such damage.
fn without_history(dump: &Dump) -> Dump {
    let strip = |text: &str| {
        let (before, roster) = text.split_once(", version").unwrap_or((text, ""));
        let after = roster
            .rsplit_once("messages")
            .map_or("", |(_, after)| after);
        format!("{before}{after}")
    };
    dump.iter()
        .map(|(owner, text)| (owner.clone(), strip(text)))
        .collect()
}
