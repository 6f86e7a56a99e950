//! What the operator asks of the store: how it is, whether all of it can be read,
//! and to tidy up now.

use super::{Step, Store, StoreStat};
use crate::store::StoreError;
use crate::store::verify::Verification;

impl Store {
    /// How the store is doing.
    pub fn stat(&self) -> StoreStat {
        let inner = self.lock();
        let accounts = inner.state.account_count();
        let messages = inner
            .state
            .accounts()
            .map(|account| account.messages().len())
            .sum();
        StoreStat {
            log: inner.log.stat(),
            accounts,
            messages,
        }
    }

    /// Whether so much waits to be written that a burst of changes may soon be refused: whoever
    /// can wait lets it become durable first.
    pub fn is_behind(&self) -> bool {
        self.lock().log.is_behind()
    }

    /// Reads everything on the device and checks it, outside the lock.
    pub fn verify(&self) -> Verification {
        let verifier = self.lock().log.verifier();
        let mut report = verifier.run(&*self.device);
        let mut cursor = None;
        loop {
            let (places, next) = {
                let inner = self.lock();
                inner.log.places(&inner.state, cursor)
            };
            for (place, read) in places {
                report.take(place, read.perform(&*self.device).is_ok());
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let inner = self.lock();
        inner.log.confirm(&inner.state, &mut report);
        report
    }

    /// Gives back what is dead without waiting until that is worth it: asks for
    /// two checkpoints, because the log keeps what the older one needs. The
    /// background loop does the work, or [`tidy`](Store::tidy).
    pub fn compact(&self) {
        self.lock().checkpoints_wanted = 2;
        self.background_wake.notify_one();
    }

    /// Whether background work is under way: a checkpoint, a step in some thread, or the result of
    /// one that is still to be written. After that there may be more to do.
    pub fn is_tidying(&self) -> bool {
        let inner = self.lock();
        inner.chores > 0
            || inner.log.checkpoint_is_running()
            || inner.log.durable() < inner.chores_end
    }

    /// Does all background work there is and writes it: for a store on which
    /// no loop runs.
    pub fn tidy(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        loop {
            let step = self.background_step(now_ms())?;
            while self.commit_step(now_ms())? {}
            if step == (Step::Idle { until_ms: None }) {
                return Ok(());
            }
        }
    }

    /// Begins a checkpoint now. Once it stands, the log in front of it can be
    /// taken back by [`Store::background_step`].
    pub fn begin_checkpoint(&self) {
        let mut inner = self.lock();
        inner.background(|log, _| log.begin_checkpoint());
        inner.due = true;
        drop(inner);
        self.commit_wake.notify_one();
        self.background_wake.notify_one();
    }
}
