//! The store as the rest of the server sees it: one lock around log and state,
//! one thread that makes what was appended durable, and one that tidies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::chore::Next;
use super::commit::Write;
use super::disk::Device;
use super::draft::Draft;
use super::error::StoreError;
use super::fold::Position;
use super::fuse::Fuse;
use super::limits::StoreLimits;
use super::log::{Log, Options};
use super::report::{OpenError, Recovery};
use super::stanza_id::StanzaIds;
use super::state::{MessageId, State, StoredMessage};
use super::tx::Tx;
use super::verify::Stat;

mod operate;

/// Everything the server remembers, shared by all its parts.
///
/// - [`read`](Store::read) sees the state with everything that was appended,
///   durable or not. An effect that leaves the server because of it has to wait
///   until [`durable`](Store::durable) has reached the
///   [`position`](Store::position) of that moment.
/// - [`update`](Store::update) changes the state at once and gives back the
///   position at which the change is durable.
/// - [`commit_loop`](Store::commit_loop) writes, and
///   [`background_loop`](Store::background_loop) keeps the log in shape: two
///   threads of the shell run them. Reading, growing and overwriting happen
///   outside the lock, so no commit waits for them. After a failed write
///   nothing is accepted any more and the shell is told, so that it ends the
///   process.
///
/// The store reads no clock: the time is an argument.
pub struct Store {
    pub(super) device: Arc<dyn Device>,
    limits: StoreLimits,
    ids: StanzaIds,
    inner: Mutex<Inner>,
    /// There is something to write, or to stop for.
    commit_wake: Condvar,
    /// There may be something to tidy, or to stop for.
    background_wake: Condvar,
    durable: AtomicU64,
    /// Something was gathered for a commit that nobody has asked for yet.
    gathered: AtomicBool,
    on_durable: OnceLock<OnDurable>,
    on_failure: OnceLock<OnFailure>,
}

/// Is told the position that has become durable.
pub type OnDurable = Box<dyn Fn(Position) + Send + Sync>;

/// Is told why the store has failed.
pub type OnFailure = Box<dyn Fn(&str) + Send + Sync>;

pub(super) struct Inner {
    pub(super) log: Log,
    state: State,
    draft: Draft,
    /// The last append that somebody waits for.
    awaited: Position,
    /// Retirements that found too much waiting to be written.
    unretired: Vec<(Box<str>, Box<[MessageId]>)>,
    /// Bytes that were written since the background thread was woken.
    unseen_bytes: u64,
    /// See [`EAGER_COMMITS`].
    eager: u8,
    /// When the oldest retirement was appended that no commit has taken along.
    retired_at_ms: Option<u64>,
    /// There is something to write.
    due: bool,
    stopping: bool,
    /// Checkpoints that were asked for by hand.
    checkpoints_wanted: u8,
    /// A record is being folded: a panic then leaves log and state apart.
    folding: bool,
    failed: Option<String>,
}

/// What a step of background work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Took,
    /// There is nothing to do before this time, or before the next commit.
    Idle {
        /// Unix time in milliseconds.
        until_ms: Option<u64>,
    },
}

/// The background loop looks again after so long at the latest.
const IDLE_MS: u64 = 500;

/// It looks after so many bytes of commits too: far fewer than there are ready to be written to.
const LOOK_BYTES: u64 = 128 * 1024;

/// In the middle of something it looks after each commit, and after so many looks that found
/// nothing to do it is not in the middle of something any more.
const EAGER_COMMITS: u8 = 4;

/// How a store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStat {
    /// The log and its device.
    pub log: Stat,
    /// Accounts.
    pub accounts: usize,
    /// Messages that wait for their recipient.
    pub messages: usize,
}

impl Store {
    /// How long a lazy retirement may wait for a commit to take it along; the background
    /// thread's next look, which may be half a second later, writes it then.
    pub const RETIREMENT_DELAY_MS: u64 = 1_000;

    /// Opens the store on a device, or creates it on an empty one. The report
    /// says what recovery found; damage in it is for the operator to see.
    pub fn open(
        device: Arc<dyn Device>,
        options: Options,
        limits: StoreLimits,
        now_ms: u64,
    ) -> Result<(Store, Recovery), OpenError> {
        let mut state = State::new();
        let (log, recovery) = Log::open(&*device, &mut state, options, now_ms)?;
        Ok((Store::new(device, log, state, limits), recovery))
    }

    /// A store over an opened log and the state it folded into.
    pub fn new(device: Arc<dyn Device>, log: Log, state: State, limits: StoreLimits) -> Store {
        let ids = StanzaIds::new(&log.identity());
        let durable = log.durable();
        let awaited = log.position();
        Store {
            device: Arc::new(Fuse::new(device)),
            limits,
            ids,
            inner: Mutex::new(Inner {
                log,
                state,
                draft: Draft::default(),
                awaited,
                unretired: Vec::new(),
                unseen_bytes: 0,
                eager: EAGER_COMMITS,
                retired_at_ms: None,
                due: true,
                stopping: false,
                checkpoints_wanted: 0,
                folding: false,
                failed: None,
            }),
            commit_wake: Condvar::new(),
            background_wake: Condvar::new(),
            durable: AtomicU64::new(durable.0),
            gathered: AtomicBool::new(false),
            on_durable: OnceLock::new(),
            on_failure: OnceLock::new(),
        }
    }

    /// Looks at the state. The lock is held meanwhile: be brief.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Looks at the state; gives back as well at which position all of it is durable.
    pub fn read_at<R>(&self, look: impl FnOnce(&State) -> R) -> (R, Position) {
        let inner = self.lock();
        (look(&inner.state), inner.awaited)
    }

    /// The first `count` messages from number `from` on that wait for the account's next client
    /// and that `wanted` takes; and the position at which all of them are durable. A message
    /// whose retirement has been asked for is none of them, though it may not be appended yet.
    pub fn messages_waiting(
        &self,
        owner: &str,
        from: MessageId,
        count: usize,
        wanted: impl Fn(MessageId) -> bool,
    ) -> (Vec<StoredMessage>, Position) {
        let inner = self.lock();
        let unretired = inner
            .unretired
            .iter()
            .filter(|(whose, _)| &**whose == owner);
        let messages = inner.state.account(owner).map(|account| {
            let before = MessageId(from.0.saturating_sub(1));
            account.messages().after(before)
        });
        let is_waiting = |message: &&StoredMessage| {
            let mut retired = unretired.clone().flat_map(|(_, ids)| ids.iter());
            wanted(message.id) && !retired.any(|id| *id == message.id)
        };
        let waiting = messages.into_iter().flatten().filter(is_waiting);
        (waiting.take(count).copied().collect(), inner.awaited)
    }

    /// Changes the state: all that `change` states, or nothing when it returns
    /// an error or the store refuses.
    ///
    /// A change that states nothing is durable when everything before it is.
    pub fn update<R, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        let result = self.update_gathered(change)?;
        self.commit_soon();
        Ok(result)
    }

    /// Like [`update`](Store::update), but the commit begins only at
    /// [`commit_soon`](Store::commit_soon): whoever has more to append first lets
    /// one commit carry all of it.
    pub fn update_gathered<R, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        let mut inner = self.lock();
        let result = inner.apply(&self.limits, change)?;
        if result.1 > inner.awaited {
            inner.awaited = result.1;
            inner.due = true;
            self.gathered.store(true, Ordering::Release);
        }
        Ok(result)
    }

    /// Begins a commit of what was gathered, if anything was.
    pub fn commit_soon(&self) {
        if self.gathered.swap(false, Ordering::AcqRel) {
            self.commit_wake.notify_one();
        }
    }

    /// Like [`update`](Store::update) for what nobody waits for: the next commit
    /// takes it along, or it is written after
    /// [`RETIREMENT_DELAY_MS`](Store::RETIREMENT_DELAY_MS). A crash before that
    /// forgets it.
    pub fn update_later<R, E: From<StoreError>>(
        &self,
        now_ms: u64,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut inner = self.lock();
        let (result, _) = inner.apply(&self.limits, change)?;
        if inner.retired_at_ms.is_none() {
            // The background thread sees it when it looks next.
            inner.retired_at_ms = Some(now_ms);
        }
        Ok(result)
    }

    /// Forgets messages that have reached their recipient, without a commit of
    /// its own: the next one takes it along, or [`tick`](Store::tick) sees to it.
    ///
    /// The state forgets them at once. A crash before they are durable brings
    /// them back, and they are delivered once more.
    pub fn retire_later(
        &self,
        owner: &str,
        ids: &[MessageId],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let before = inner.log.position();
        match inner.retire(&self.limits, owner, ids) {
            // Forgetting it would deliver the messages twice.
            Err(StoreError::Overloaded) => {
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
    }

    /// Writes lazy retirements that have waited long enough. The background
    /// loop does this too.
    pub fn flush_retirements(&self, now_ms: u64) {
        let mut inner = self.lock();
        if inner
            .retired_at_ms
            .is_some_and(|at| now_ms.saturating_sub(at) >= Store::RETIREMENT_DELAY_MS)
        {
            inner.due = true;
            drop(inner);
            self.commit_wake.notify_one();
        }
    }

    /// Everything that [`read`](Store::read) shows now is durable when
    /// [`durable`](Store::durable) reaches this.
    pub fn position(&self) -> Position {
        self.lock().awaited
    }

    /// Everything at or below it is durable.
    pub fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    /// The id under which a message is known outside (XEP-0359): the same
    /// whenever it is asked for, and no hint at how many there are.
    pub fn stanza_id(&self, message: MessageId) -> String {
        self.ids.id_of(message)
    }

    /// The message of such an id; `None` for what was never given out.
    pub fn message_of(&self, stanza_id: &str) -> Option<MessageId> {
        self.ids.message_of(stanza_id)
    }

    /// What the store allows.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// Is told the position that has become durable, after every commit, on
    /// the commit thread and outside the lock.
    pub fn on_durable(&self, callback: OnDurable) {
        let set = self.on_durable.set(callback);
        debug_assert!(set.is_ok(), "there is one listener");
    }

    /// Is told once why the store has failed. The process has to end: what it
    /// holds in memory is no longer what the device holds.
    pub fn on_failure(&self, callback: OnFailure) {
        let set = self.on_failure.set(callback);
        debug_assert!(set.is_ok(), "there is one listener");
    }

    /// Writes until [`stop`](Store::stop) was called and all is written, or the
    /// store has failed. `now_ms` reads the shell's clock.
    pub fn commit_loop(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
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
        inner.retire_again(&self.limits)?;
        let durable = inner.log.durable();
        let failed = inner.log.poisoned().map(str::to_owned);
        drop(inner);
        if let Some(why) = failed {
            return Err(self.fail(&why));
        }
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

    /// Takes checkpoints, compacts, overwrites what was erased, grows the file,
    /// until [`stop`](Store::stop) was called or the store has failed.
    pub fn background_loop(&self, now_ms: &dyn Fn() -> u64) -> Result<(), StoreError> {
        loop {
            let now = now_ms();
            self.flush_retirements(now);
            let step = self.background_step(now)?;
            let inner = self.lock();
            if inner.stopping {
                return Ok(());
            }
            if let Some(why) = &inner.failed {
                return Err(StoreError::Failed(why.clone()));
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

    /// One small step of background work.
    pub fn background_step(&self, now_ms: u64) -> Result<Step, StoreError> {
        let mut inner = self.lock();
        let next = inner.background(|log, state| log.next_chore(state, now_ms));
        let step = match next {
            Next::Idle { until_ms } if !inner.begin_wanted_checkpoint() => {
                inner.eager = inner.eager.saturating_sub(1);
                return Ok(Step::Idle { until_ms });
            }
            Next::Idle { .. } => Step::Took,
            Next::Again => Step::Took,
            Next::Chore(chore) => {
                drop(inner);
                let done = chore.perform(&*self.device);
                inner = self.lock();
                inner.background(|log, state| log.finish(state, done, now_ms));
                Step::Took
            }
        };
        let failed = inner.log.poisoned().map(str::to_owned);
        inner.due = true;
        inner.eager = EAGER_COMMITS;
        drop(inner);
        if let Some(why) = failed {
            return Err(self.fail(&why));
        }
        self.commit_wake.notify_one();
        Ok(step)
    }

    /// Accepts nothing more; the commit loop writes what there is, closes the
    /// log in order and returns.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        inner.log.close();
        drop(inner);
        self.commit_wake.notify_one();
        self.background_wake.notify_one();
    }

    fn next_write(&self, now_ms: u64) -> Result<Option<Write>, StoreError> {
        let mut inner = self.lock();
        if let Some(why) = inner.log.poisoned() {
            let why = why.to_owned();
            drop(inner);
            return Err(self.fail(&why));
        }
        if !inner.due && !inner.stopping {
            return Ok(None);
        }
        let write = inner.log.next_write(now_ms);
        inner.due = write.is_some();
        inner.retired_at_ms = None;
        Ok(write)
    }

    /// Tells the listener, the first time.
    fn fail(&self, why: &str) -> StoreError {
        let first = self.lock().failed.replace(why.to_owned()).is_none();
        if first && let Some(callback) = self.on_failure.get() {
            callback(why);
        }
        StoreError::Failed(why.to_owned())
    }

    /// A panic of a caller's closure leaves the state as it was, because only
    /// an append changes it; a panic inside an append is told by `folding`.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// An account that is gone has nothing to retire.
    fn retire(
        &mut self,
        limits: &StoreLimits,
        owner: &str,
        ids: &[MessageId],
    ) -> Result<(), StoreError> {
        let retired = self.apply(limits, |tx| match tx.retire_messages(owner, ids) {
            Err(StoreError::NoAccount) => Ok(()),
            other => other,
        });
        retired.map(|((), _)| ())
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

    fn retire_again(&mut self, limits: &StoreLimits) -> Result<(), StoreError> {
        while let Some((owner, ids)) = self.unretired.pop() {
            match self.retire(limits, &owner, &ids) {
                Err(StoreError::Overloaded) => {
                    self.unretired.push((owner, ids));
                    return Ok(());
                }
                // The failure is told by the write that follows.
                Err(StoreError::Failed(_)) => return Ok(()),
                // A full device has room for it once something was given back.
                Err(StoreError::Full) => {
                    self.unretired.push((owner, ids));
                    return Ok(());
                }
                other => other?,
            }
            self.due = true;
        }
        Ok(())
    }

    /// Background work appends too: copies and what the log notes of itself.
    fn background<R>(&mut self, step: impl FnOnce(&mut Log, &mut State) -> R) -> R {
        self.folding = true;
        let result = step(&mut self.log, &mut self.state);
        self.folding = false;
        result
    }

    fn apply<R, E: From<StoreError>>(
        &mut self,
        limits: &StoreLimits,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        if self.folding {
            return Err(StoreError::Failed("a record could not be folded".to_owned()).into());
        }
        let mut tx = Tx::new(&self.state, limits, self.log.seq_next(), &mut self.draft);
        let result = change(&mut tx)?;
        if self.draft.is_empty() {
            return Ok((result, self.awaited));
        }
        self.folding = true;
        let appended = self.log.append(&mut self.state, &self.draft.batch());
        self.folding = false;
        self.draft.clear();
        Ok((result, appended.map_err(StoreError::from)?.position))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
