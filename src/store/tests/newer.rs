//! What a later version of this program wrote is refused, and left as it is.

use super::harness::{NOW_MS, Rig, device, options};
use super::model::State;
use crate::store::batch::{Batch, Class, Entry};
use crate::store::buffer::Buffer;
use crate::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};
use crate::store::format::{decode_frame, encode_frame};
use crate::store::group::Extra;
use crate::store::log::Log;
use crate::store::own;
use crate::store::report::OpenError;
use crate::store::sim::SimDevice;

const BODY: &[u8] = &[0; own::BODY_MAX];

/// Kinds and versions that neither the tests' state nor the server's knows.
const OF_THE_STATE: [(u8, u8); 2] = [(200, 1), (2, 2)];

/// The log's own that it does not know.
const OF_THE_LOG: [(u8, u8); 6] = [
    (0xF5, 1),
    (own::EXTENT, 2),
    (own::FREED, 2),
    (own::MAP, 2),
    (own::LOST, 2),
    (own::SWEEP, 2),
];

fn record(kind: u8, version: u8) -> Record<'static> {
    Record {
        kind,
        version,
        seq: 1,
        body: BODY,
        payload: &[],
    }
}

/// Opening it says that it is newer, and changes nothing.
#[track_caller]
fn is_refused(device: &SimDevice, newer: (u8, u8)) {
    let before = device.to_bytes();
    let (mut model, mut state) = (State::default(), crate::store::State::new());
    let opened = [
        Log::open(device, &mut model, options(), NOW_MS),
        Log::open(device, &mut state, options(), NOW_MS),
    ];
    let (kind, version) = newer;
    let told = Unreadable::Newer { kind, version };
    for opened in opened {
        let refused = opened.map(|_| ()).expect_err("it is newer");
        assert!(
            matches!(&refused, OpenError::NewerRecord(why) if *why == told),
            "{newer:?}: {refused}"
        );
        assert!(refused.to_string().contains("install that version"));
    }
    assert_eq!(device.to_bytes(), before, "the later version can read it");
}

#[test]
fn a_newer_record_of_the_state_is_refused_wherever_it_lies() {
    let archive = Class::Archive { bucket: 1 };
    for (kind, version) in OF_THE_STATE {
        for class in [Class::State, archive] {
            let mut later = Later::new(None);
            let device = device(20);
            let opened = Log::open(&device, &mut later, options(), NOW_MS);
            let (mut log, _) = opened.expect("a new store");
            let entry = Entry {
                class,
                kind,
                version,
                body: BODY,
                payload: &[],
            };
            let batch = Batch {
                entries: vec![entry],
                ..Batch::default()
            };
            log.append(&mut later, &batch).expect("there is room");
            while let Some(write) = log.next_write(NOW_MS) {
                log.written(write.perform(&device));
            }
            is_refused(&device.kill(), (kind, version));
        }
    }
}

#[test]
fn a_newer_record_of_the_log_is_refused() {
    for (kind, version) in OF_THE_LOG {
        let mut rig = Rig::open(device(20));
        rig.log.make_room(own::FRAME_MAX, 0).expect("there is room");
        rig.log.push_chain(&record(kind, version), Extra::default());
        rig.commit();
        is_refused(&rig.device.kill(), (kind, version));
    }
}

/// A device with one complete checkpoint that holds this item.
fn with_checkpoint(item: Option<Record<'static>>) -> (SimDevice, Log) {
    let mut later = Later::new(item);
    let device = device(20);
    let opened = Log::open(&device, &mut later, options(), NOW_MS);
    let (mut log, _) = opened.expect("a new store");
    log.begin_checkpoint();
    while log.checkpoint_is_running() {
        // There is nothing to do outside the lock.
        let _ = log.next_chore(&mut later, NOW_MS);
        while let Some(write) = log.next_write(NOW_MS) {
            log.written(write.perform(&device));
        }
    }
    (device.kill(), log)
}

#[test]
fn a_newer_item_of_a_checkpoint_is_refused() {
    for (kind, version) in OF_THE_STATE.into_iter().chain(OF_THE_LOG) {
        let (device, _) = with_checkpoint(Some(record(kind, version)));
        is_refused(&device, (kind, version));
    }
}

#[test]
fn a_segment_of_a_class_to_come_is_refused_and_its_slot_not_given_away() {
    const ENTRY: &[u8] = &{
        let mut entry = [0; 32];
        (entry[0], entry[4], entry[8]) = (90, 9, 7);
        entry
    };
    let map = Record {
        body: ENTRY,
        ..record(own::MAP, 1)
    };
    let (device, _) = with_checkpoint(Some(map));
    is_refused(&device, (own::MAP, 1));
}

#[test]
fn a_newer_root_of_a_checkpoint_is_refused() {
    let (device, log) = with_checkpoint(None);
    let root = log.standing[0].as_ref().expect("it stands").pointer;
    let at = (log.geometry().slot_at(root.slot) + u64::from(root.offset)) as usize;
    let mut bytes = device.to_bytes();
    let len = root.len as usize;
    let mut newer = Buffer::with_capacity(4096);
    let frame = decode_frame(&bytes[at..at + len], log.salt, root.segment, root.offset);
    let frame = frame.expect("the root verifies");
    let record = Record {
        version: 2,
        ..frame.record
    };
    let (segment, offset) = (root.segment, root.offset);
    encode_frame(
        &record,
        0,
        log.salt,
        segment,
        offset,
        frame.chain,
        &mut newer,
    );
    bytes[at..at + len].copy_from_slice(newer.as_slice());
    is_refused(&SimDevice::from_bytes(&bytes), (own::ROOT, 2));
}

/// The state of a later version: takes every record, and its checkpoints hold one item more.
struct Later {
    state: State,
    item: Option<Record<'static>>,
}

impl Later {
    fn new(item: Option<Record<'static>>) -> Later {
        let state = State::default();
        Later { state, item }
    }
}

impl Fold for Later {
    fn apply(&mut self, _: &Record<'_>, _: Place, _: &mut Live) -> Result<(), Unreadable> {
        Ok(())
    }

    fn holds(&self, record: &Record<'_>, place: Place) -> bool {
        self.state.holds(record, place)
    }

    fn moved(&mut self, record: &Record<'_>, from: Place, to: Place, live: &mut Live) {
        self.state.moved(record, from, to, live);
    }

    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        let next = self.state.checkpoint(cursor, budget_bytes, emit);
        if let (None, Some(record)) = (&next, self.item) {
            let place = None;
            emit(CheckpointItem { record, place });
        }
        next
    }

    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable> {
        self.state.restore(item, live)
    }

    fn reset(&mut self) {
        self.state.reset();
    }
}
