//! Forgetting messages that have reached their recipient, without a commit of its own.

use super::{Inner, Store};
use crate::store::state::MessageId;
use crate::store::{StoreError, StoreLimits};

impl Store {
    /// Forgets messages that have reached their recipient, without a commit of
    /// its own: the next one takes it along, or
    /// [`flush_retirements`](Store::flush_retirements) sees to it. What finds no
    /// room is put off until there is some.
    ///
    /// The state forgets them at once. A crash before they are durable brings
    /// them back, and they are delivered once more.
    pub fn retire_later(
        &self,
        owner: &str,
        ids: &[MessageId],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.change(|inner| {
            let before = inner.log.position();
            match inner.retire(&self.limits, owner, ids) {
                // Forgetting it would deliver the messages twice.
                Err(StoreError::Overloaded | StoreError::Full) => {
                    inner.unretired.push((owner.into(), ids.into()));
                    return Ok(());
                }
                other => other?,
            }
            if inner.log.position() > before && inner.retired_at_ms.is_none() {
                // The background thread sees it when it looks next.
                inner.retired_at_ms = Some(now_ms);
            }
            Ok(())
        })
    }

    /// Writes lazy retirements that have waited long enough, and those for which
    /// there is room again. The background loop does this too.
    pub fn flush_retirements(&self, now_ms: u64) {
        let mut inner = self.lock();
        let waited = inner
            .retired_at_ms
            .is_some_and(|at| now_ms.saturating_sub(at) >= Store::RETIREMENT_DELAY_MS);
        // Room may come without a commit, as when the file has grown.
        if inner.retire_again(&self.limits) || waited {
            inner.due = true;
            drop(inner);
            self.commit_wake.notify_one();
        }
    }
}

impl Inner {
    /// An account that is gone has nothing to retire. Taken until the log is
    /// closed, also of a store that stops.
    fn retire(
        &mut self,
        limits: &StoreLimits,
        owner: &str,
        ids: &[MessageId],
    ) -> Result<(), StoreError> {
        let drafted = self.draft(limits, |tx| tx.retire_messages(owner, ids));
        match drafted {
            Err(StoreError::NoAccount) => return Ok(()),
            other => other?,
        }
        self.append_draft().map(drop)
    }

    /// Appends what was put off, as far as there is room; whether any was.
    pub(super) fn retire_again(&mut self, limits: &StoreLimits) -> bool {
        let mut any = false;
        while let Some((owner, ids)) = self.unretired.pop() {
            match self.retire(limits, &owner, &ids) {
                Ok(()) => any = true,
                // A full device has room for it once something was given back.
                Err(StoreError::Overloaded | StoreError::Full) => {
                    self.unretired.push((owner, ids));
                    break;
                }
                // The log says why, to whoever asks it next.
                Err(StoreError::Failed(_)) => break,
                Err(error) => debug_assert!(false, "it was refused when it came: {error}"),
            }
        }
        self.due |= any;
        any
    }
}
