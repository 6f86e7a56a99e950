//! The work of the store's two threads, and what becomes of a failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::{EAGER_COMMITS, Inner, LOOK_BYTES, Step, Store};
use crate::store::StoreError;
use crate::store::chore::Next;
use crate::store::commit::Write;
use crate::store::log::Log;
use crate::store::state::State;

/// The background loop looks again after so long at the latest.
const IDLE_MS: u64 = 500;

impl Store {
    /// Writes until [`stop`](Store::stop) was called and all is written, or the
    /// store has failed. `now_ms` reads the shell's clock.
    pub fn commit_loop(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        self.to_its_end("commits", || self.commit_until_stopped(now_ms))
    }

    /// Takes checkpoints, compacts, overwrites what was erased, grows the file,
    /// until [`stop`](Store::stop) was called or the store has failed.
    pub fn background_loop(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        self.to_its_end("tidies", || self.tidy_until_stopped(now_ms))
    }

    fn commit_until_stopped(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        loop {
            if self.commit_step(now_ms())? {
                continue;
            }
            let mut inner = self.lock();
            while !inner.due && !inner.stopping && inner.log.poisoned().is_none() {
                inner = self
                    .commit_wake
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if inner.stopping && inner.log.is_closed() {
                return Ok(());
            }
        }
    }

    fn tidy_until_stopped(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        loop {
            let now = now_ms();
            self.flush_retirements(now);
            let step = self.background_step(now)?;
            let inner = self.working(self.lock())?;
            if inner.stopping {
                return Ok(());
            }
            if let Step::Idle { until_ms } = step {
                let until_ms = until_ms.unwrap_or(u64::MAX).min(now + IDLE_MS);
                let wait = Duration::from_millis(until_ms.saturating_sub(now).max(1));
                drop(
                    self.background_wake
                        .wait_timeout(inner, wait)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
        }
    }

    /// Writes and syncs once what was appended so far; false when there was nothing.
    pub fn commit_step(&self, now_ms: u64) -> Result<bool, StoreError> {
        let Some(write) = self.next_write(now_ms)? else {
            return Ok(false);
        };
        let bytes = write.len() as u64;
        let written = write.perform(&*self.device);
        let mut inner = self.lock();
        inner.log.written(written);
        let wakes_background = inner.wakes_background(bytes);
        inner.retire_again(&self.limits);
        let durable = inner.log.durable();
        drop(self.working(inner)?);
        if wakes_background {
            self.background_wake.notify_one();
        }
        if self.durable.swap(durable.0, Ordering::AcqRel) != durable.0
            && let Some(callback) = self.on_durable.get()
        {
            callback(durable);
        }
        Ok(true)
    }

    /// One small step of background work.
    pub fn background_step(&self, now_ms: u64) -> Result<Step, StoreError> {
        let mut inner = self.working(self.lock())?;
        if inner.stopping {
            return Ok(Step::Idle { until_ms: None });
        }
        let next = inner.background(|log, state| log.next_chore(state, now_ms));
        let step = match next {
            Next::Idle { until_ms } if !inner.begin_wanted_checkpoint() => {
                inner.eager = inner.eager.saturating_sub(1);
                return Ok(Step::Idle { until_ms });
            }
            Next::Idle { .. } => Step::Took,
            Next::Again => Step::Took,
            Next::Chore(chore) => {
                inner.chores += 1;
                drop(inner);
                let done = chore.perform(&*self.device);
                inner = self.lock();
                inner.chores -= 1;
                inner.background(|log, state| log.finish(state, done, now_ms));
                Step::Took
            }
        };
        inner.due = true;
        inner.chores_end = inner.log.position();
        inner.eager = EAGER_COMMITS;
        drop(self.working(inner)?);
        self.commit_wake.notify_one();
        Ok(step)
    }

    /// Accepts nothing more; the commit loop writes what there is, closes the
    /// log in order and returns.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.commit_wake.notify_one();
        self.background_wake.notify_one();
    }

    fn next_write(&self, now_ms: u64) -> Result<Option<Write>, StoreError> {
        let mut inner = self.working(self.lock())?;
        if !inner.due && !inner.stopping {
            return Ok(None);
        }
        let mut write = inner.log.next_write(now_ms);
        if write.is_none() && inner.stopping && !inner.log.is_writing() {
            // What was put off has room now, or never.
            inner.log.give_up_reserve();
            inner.retire_again(&self.limits);
            write = inner.log.next_write(now_ms);
            if write.is_none() {
                inner.log.close();
                write = inner.log.next_write(now_ms);
            }
        }
        inner.due = write.is_some();
        inner.retired_at_ms = None;
        Ok(write)
    }

    /// Runs the loop of a thread. However it ends, but for being stopped, is a
    /// failure of the store: without it nothing would become durable, or the
    /// device would fill up.
    fn to_its_end(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(StoreError::Failed(why))) => Err(self.fail(&why)),
            Ok(Err(error)) => Err(self.fail(&error.to_string())),
            Err(panic) => {
                let why = words_of(&*panic);
                Err(self.fail(&format!("the thread that {what} has panicked: {why}")))
            }
        }
    }

    /// The lock again, unless the store has failed.
    fn working<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
    ) -> Result<MutexGuard<'a, Inner>, StoreError> {
        let Some(why) = inner.log.poisoned().map(str::to_owned) else {
            return Ok(inner);
        };
        drop(inner);
        Err(self.fail(&why))
    }

    /// Accepts and acknowledges nothing any more, and tells the listener, once.
    pub(super) fn fail(&self, why: &str) -> StoreError {
        let mut inner = self.lock();
        inner.log.poison(why.to_owned());
        let why = inner.log.poisoned().unwrap_or(why).to_owned();
        let listener = self.on_failure.get();
        let tell = listener.filter(|_| !std::mem::replace(&mut inner.failure_told, true));
        drop(inner);
        if let Some(callback) = tell {
            callback(&why);
        }
        self.commit_wake.notify_all();
        self.background_wake.notify_all();
        StoreError::Failed(why)
    }
}

impl Inner {
    fn begin_wanted_checkpoint(&mut self) -> bool {
        if self.checkpoints_wanted == 0 || self.stopping || self.log.checkpoint_is_running() {
            return false;
        }
        self.checkpoints_wanted -= 1;
        self.log.begin_checkpoint();
        self.log.checkpoint_is_running()
    }

    /// Whether a commit of so many bytes is reason enough to wake the background thread.
    fn wakes_background(&mut self, bytes: u64) -> bool {
        self.unseen_bytes += bytes;
        let wakes = self.eager > 0 || self.unseen_bytes >= LOOK_BYTES;
        if wakes {
            self.unseen_bytes = 0;
        }
        wakes
    }

    /// Background work appends too: copies and what the log notes of itself.
    pub(super) fn background<R>(&mut self, step: impl FnOnce(&mut Log, &mut State) -> R) -> R {
        self.folding = true;
        let result = step(&mut self.log, &mut self.state);
        self.folding = false;
        result
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why")
}
