//! Driving a log as the shell does, on a simulated device.

use crate::store::batch::{AppendError, Appended};
use crate::store::chore::Next;
use crate::store::disk::Device;
use crate::store::log::{Log, Options};
use crate::store::report::{OpenError, Recovery};
use crate::store::sim::SimDevice;

use super::model::{Encoded, Model, State, Tx, payload};

pub const SEGMENT: u32 = 65536;
pub const NOW_MS: u64 = 1_700_000_000_000;

/// A log, its state and its device.
pub struct Rig {
    pub device: SimDevice,
    pub log: Log,
    pub state: State,
    pub recovery: Recovery,
    pub now_ms: u64,
}

pub fn options() -> Options {
    Options {
        segment_bytes: Some(SEGMENT),
        random: *b"a name for the store,sal",
        background_bytes_per_s: 0,
        checkpoint_bytes: Some(u64::from(SEGMENT)),
        slice_bytes: 1024,
        ..Options::default()
    }
}

/// A device of fixed size with so many segments.
pub fn device(segments: u64) -> SimDevice {
    let len = 65536 + segments * u64::from(SEGMENT);
    SimDevice::new(len, len)
}

impl Rig {
    pub fn open(device: SimDevice) -> Rig {
        Rig::try_open(device, options()).expect("the store opens")
    }

    pub fn try_open(device: SimDevice, options: Options) -> Result<Rig, OpenError> {
        let mut state = State::default();
        let (log, recovery) = Log::open(&device, &mut state, options, NOW_MS)?;
        Ok(Rig {
            device,
            log,
            state,
            recovery,
            now_ms: NOW_MS,
        })
    }

    pub fn append(&mut self, tx: &Tx) -> Result<Appended, AppendError> {
        let encoded = Encoded::of(tx);
        self.log.append(&mut self.state, &encoded.batch())
    }

    /// Writes the next group or superblock, if there is one.
    pub fn write_one(&mut self) -> bool {
        self.now_ms += 1;
        let Some(write) = self.log.next_write(self.now_ms) else {
            return false;
        };
        let written = write.perform(&self.device);
        self.log.written(written);
        true
    }

    /// Makes everything durable.
    pub fn commit(&mut self) {
        while self.write_one() {}
    }

    /// Takes one step of background work. Returns whether there was one.
    pub fn chore(&mut self) -> bool {
        self.now_ms += 1;
        match self.log.next_chore(&mut self.state, self.now_ms) {
            Next::Chore(chore) => {
                let done = chore.perform(&self.device);
                self.log.finish(&mut self.state, done, self.now_ms);
                true
            }
            Next::Again => true,
            Next::Idle { .. } => false,
        }
    }

    /// Works until there is nothing to do and everything is durable.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let worked = self.chore();
            let wrote = self.write_one();
            if !worked && !wrote {
                return;
            }
        }
        panic!("background work comes to an end");
    }

    /// Closes in order.
    pub fn close(mut self) -> SimDevice {
        self.log.close();
        self.commit();
        assert!(self.log.is_closed());
        self.device
    }

    /// The state is what the model says, every value can be read, and the
    /// accounts of what is live are right.
    pub fn check(&self, model: &Model) {
        assert_eq!(&self.state.model(), model);
        let mut live = std::collections::HashMap::<u32, (u64, u64)>::new();
        for (key, held) in &self.state.keys {
            let Some(place) = held.place else { continue };
            let fetched = self.log.fetch(place).perform(&self.device);
            let fetched = fetched.unwrap_or_else(|why| panic!("key {key} at {place:?}: {why}"));
            assert_eq!(fetched.seq, held.seq);
            assert_eq!(
                fetched.payload,
                payload(held.value, fetched.payload.len() as u16)
            );
            let sum = live.entry(place.segment).or_default();
            *sum = (sum.0 + u64::from(place.len), sum.1 + 1);
        }
        let counted = self
            .log
            .live
            .segments()
            .map(|(id, held)| (id, (held.bytes, held.records)));
        assert_eq!(counted.collect::<std::collections::HashMap<_, _>>(), live);
        assert!(self.device.len() >= self.log.geometry().len_for(1));
    }
}
