//! Whatever ends the store's work is told, and nothing is acknowledged after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;

use super::*;
use crate::store::batch::{Batch, Class, Entry, Purpose};

/// Panics where a real one would fail, once told to.
struct Panicking {
    device: SimDevice,
    panics: Arc<AtomicBool>,
}

impl Device for Panicking {
    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<()> {
        self.device.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> std::io::Result<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "a defect");
        self.device.write_at(buf, at)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.device.sync()
    }

    fn len(&self) -> u64 {
        self.device.len()
    }

    fn grow(&self, len: u64) -> std::io::Result<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "a defect");
        self.device.grow(len)
    }

    fn grows(&self) -> bool {
        self.device.grows()
    }
}

/// Counts how often a failure is told, and keeps the last reason.
fn listen(store: &Store) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    store.on_failure(Box::new(move |why| {
        listener.lock().expect("no panic").push(why.to_owned());
    }));
    told
}

#[track_caller]
fn assert_told_once(told: &Mutex<Vec<String>>, part: &str) {
    let told = told.lock().expect("no panic");
    assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
}

#[track_caller]
fn assert_failed<T: std::fmt::Debug>(result: &Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Failed(_))), "{result:?}");
}

#[test]
fn a_panic_of_either_thread_is_a_failure_of_the_store() {
    type Loop = fn(&Store) -> Result<(), StoreError>;
    let loops: [(&str, Loop); 2] = [
        ("commits", |store| store.commit_loop(&|| NOW_MS)),
        ("tidies", |store| store.background_loop(&|| NOW_MS)),
    ];
    for (name, run) in loops {
        let panics = Arc::new(AtomicBool::new(false));
        let device = Panicking {
            device: SimDevice::new(0, 1 << 30),
            panics: Arc::clone(&panics),
        };
        let (limits, device) = (StoreLimits::default(), Arc::new(device));
        let (store, _) = Store::open(device, options(), limits, NOW_MS).expect("a new store");
        let told = listen(&store);
        store
            .update(|tx| tx.put_setting("name", b"value"))
            .expect("there is room");
        panics.store(true, Ordering::Relaxed);
        assert_failed(&run(&store));
        assert_told_once(&told, name);
        assert_failed(&store.update(|tx| tx.put_setting("name", b"more")));
        assert_failed(&store.commit_step(NOW_MS));
        assert_failed(&store.background_step(NOW_MS));
        assert_told_once(&told, "a defect");
    }
}

#[test]
fn a_panic_in_the_middle_of_an_append_ends_the_store_and_half_a_batch_is_never_written() {
    let device = device();
    let store = store(&device);
    let told = listen(&store);
    let durable = store.durable();
    put(&store, b"lies in the open group").expect("it fits");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.lock().background(|_, _| panic!("a defect"));
    }));
    assert!(panicked.is_err());
    assert_failed(&store.background_step(NOW_MS));
    assert_failed(&store.commit_step(NOW_MS));
    assert_failed(&put(&store, b"refused"));
    assert_failed(&store.commit_loop(&|| NOW_MS));
    assert_failed(&store.background_loop(&|| NOW_MS));
    assert_eq!(store.durable(), durable);
    assert_told_once(&told, "half folded");
    assert_eq!(waiting(&open(&device.kill())), []);
}

#[test]
fn a_record_that_the_state_refuses_is_told_at_once() {
    let store = store(&device());
    let told = listen(&store);
    let refused = store.change(|inner| {
        let entry = Entry {
            class: Class::State,
            kind: 200,
            version: 1,
            body: b"of another world",
            payload: b"",
        };
        let batch = Batch {
            entries: vec![entry],
            purpose: Purpose::Store,
            erases: false,
        };
        let appended = inner.log.append(&mut inner.state, &batch);
        appended.map(drop).map_err(StoreError::from)
    });
    assert_failed(&refused);
    assert_told_once(&told, "");
    assert_failed(&store.commit_loop(&|| NOW_MS));
    assert_told_once(&told, "");
}

#[test]
fn a_message_that_does_not_read_is_told_from_one_that_is_not_there() {
    let device = device();
    let store = store(&device);
    let id = put(&store, b"one").expect("it fits");
    commit(&store);
    device.fail(Faults {
        unreadable: Some((0, device.len())),
        ..Faults::default()
    });
    let read = store.message(OWNER, id);
    assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
    assert_eq!(waiting(&store), [id], "it is still there");
    put(&store, b"two").expect("the store goes on");
    commit(&store);
    device.fail(Faults::default());
    let read = store.message(OWNER, id).expect("it reads again");
    assert_eq!(read.as_deref(), Some(&b"one"[..]));
}

/// Fills a store and the reserve that removals have, which ends as well where nothing is tidied;
/// returns a message whose retirement is refused.
fn fill_up(store: &Store) -> MessageId {
    let ids: Vec<_> = (0..300)
        .map(|_| put(store, b"one").expect("it fits"))
        .collect();
    let filled = (0..).find_map(|_| {
        commit(store);
        let filler = store.update(|tx| tx.put_setting("filler", &[b'x'; 8000]));
        filler.err()
    });
    assert_eq!(filled, Some(StoreError::Full));
    let retired = ids.iter().find_map(|&id| {
        commit(store);
        let retired = store.update(|tx| tx.retire_messages(OWNER, &[id]));
        retired.err().map(|error| (id, error))
    });
    let (id, refusal) = retired.expect("the reserve ends");
    assert_eq!(refusal, StoreError::Full);
    id
}

#[test]
fn a_retirement_waits_while_the_device_is_full() {
    let len = 65536 + 14 * u64::from(SEGMENT);
    let device = SimDevice::new(len, len);
    let store = store(&device);
    let id = fill_up(&store);
    store
        .retire_later(OWNER, &[id], NOW_MS)
        .expect("it is put off");
    settle(&store);
    assert!(!waiting(&store).contains(&id));
    assert!(!waiting(&open(&device.kill())).contains(&id));
}

#[test]
fn a_retirement_is_written_when_the_file_has_grown_and_nobody_else_commits() {
    let device = SimDevice::new(0, 1 << 30);
    let store = store(&device);
    device.fail(Faults {
        no_space: true,
        ..Faults::default()
    });
    let id = fill_up(&store);
    store
        .retire_later(OWNER, &[id], NOW_MS)
        .expect("it is put off");
    let free = store.stat().log.segments_free;
    device.fail(Faults::default());
    let grown = store.background_step(NOW_MS + 120_000);
    assert_eq!(grown, Ok(Step::Took));
    assert!(store.stat().log.segments_free > free, "it has grown");
    store.flush_retirements(NOW_MS + 120_000);
    commit(&store);
    assert!(!waiting(&store).contains(&id));
    assert!(!waiting(&open(&device.kill())).contains(&id));
}

#[test]
fn what_was_put_off_for_want_of_room_is_written_before_the_log_is_closed() {
    let len = 65536 + 14 * u64::from(SEGMENT);
    let device = SimDevice::new(len, len);
    let store = store(&device);
    let id = fill_up(&store);
    store
        .retire_later(OWNER, &[id], NOW_MS)
        .expect("it is put off");
    store.stop();
    assert_eq!(store.commit_loop(&|| NOW_MS), Ok(()));
    let reopened = open(&device);
    assert!(!waiting(&reopened).contains(&id));
    // The reserve was not eaten up by that.
    let rest = waiting(&reopened);
    assert!(!rest.is_empty());
    reopened
        .retire_later(OWNER, &rest, NOW_MS)
        .expect("it is put off");
    settle(&reopened);
    put(&reopened, b"again").expect("there is room again");
}

#[test]
fn what_was_put_off_is_written_before_the_log_is_closed() {
    let device = device();
    store(&device);
    let options = Options {
        backlog_bytes_max: 20_000,
        ..options()
    };
    let store = open_with(&device, options);
    let first = put(&store, b"one").expect("it fits");
    while put(&store, &[b'x'; 1000]).is_ok() {}
    store
        .retire_later(OWNER, &[first], NOW_MS)
        .expect("it is put off");
    store.stop();
    assert_failed(&put(&store, b"too late"));
    assert_eq!(store.commit_loop(&|| NOW_MS), Ok(()));
    assert!(store.lock().log.is_closed());
    let reopened = open(&device);
    assert!(!waiting(&reopened).contains(&first));
    assert!(!waiting(&reopened).is_empty());
}
