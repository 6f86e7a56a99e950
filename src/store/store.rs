//! The store as the rest of the server sees it: one lock around log and state,
//! one thread that makes what was appended durable, and one that tidies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::batch::AppendError;
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
mod retire;
mod work;

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
    /// Chores that some thread is in the middle of.
    chores: u32,
    /// The last append when a chore was done: its result, or one of before.
    chores_end: Position,
    /// A record is being folded: a panic then leaves log and state apart.
    folding: bool,
    failure_told: bool,
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

/// The background loop looks after so many bytes of commits too: far fewer than there are ready to be written to.
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
        let draft = Draft::new(log.format());
        Store {
            device: Arc::new(Fuse::new(device)),
            limits,
            ids,
            inner: Mutex::new(Inner {
                log,
                state,
                draft,
                awaited,
                unretired: Vec::new(),
                unseen_bytes: 0,
                eager: EAGER_COMMITS,
                chores: 0,
                chores_end: Position(0),
                retired_at_ms: None,
                due: true,
                stopping: false,
                checkpoints_wanted: 0,
                folding: false,
                failure_told: false,
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
            !message.is_outbound() && wanted(message.id) && !retired.any(|id| *id == message.id)
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

    /// Like [`update`](Store::update), within other limits than the store's own: for what was kept
    /// within others elsewhere.
    pub fn update_within<R, E: From<StoreError>>(
        &self,
        limits: &StoreLimits,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        let result = self.gather(limits, change)?;
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
        self.gather(&self.limits, change)
    }

    fn gather<R, E: From<StoreError>>(
        &self,
        limits: &StoreLimits,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        self.change(|inner| {
            let result = inner.apply(limits, change)?;
            if result.1 > inner.awaited {
                inner.awaited = result.1;
                inner.due = true;
                self.gathered.store(true, Ordering::Release);
            }
            Ok(result)
        })
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
        self.change(|inner| {
            let (result, _) = inner.apply(&self.limits, change)?;
            if inner.retired_at_ms.is_none() {
                // The background thread sees it when it looks next.
                inner.retired_at_ms = Some(now_ms);
            }
            Ok(result)
        })
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

    /// What the versions that clients remember are told with: see `StanzaIds::mark`.
    pub fn mark(&self) -> u64 {
        self.ids.mark()
    }

    /// What the store allows.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// The random name that the store got when it was made.
    pub fn id(&self) -> [u8; 16] {
        self.lock().log.identity().store_id
    }

    /// Other limits from now on: the configuration may be in the store itself. What is held already
    /// stays, whatever they say.
    pub fn set_limits(&mut self, limits: StoreLimits) {
        self.limits = limits;
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

    /// Changes what is behind the lock. A refusal may be the end of the log: then
    /// the shell hears of it now, and not with a commit that never comes.
    fn change<R, E>(&self, change: impl FnOnce(&mut Inner) -> Result<R, E>) -> Result<R, E> {
        let mut inner = self.lock();
        let result = change(&mut inner);
        if result.is_err()
            && let Some(why) = inner.log.poisoned().map(str::to_owned)
        {
            drop(inner);
            self.fail(&why);
        }
        result
    }

    /// A panic of a caller's closure leaves the state as it was, because only
    /// an append changes it. A panic inside an append leaves `folding` set: then
    /// half a batch may lie in the open group, and nothing is written any more.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.folding {
            let why = "a panic has left a record half folded";
            inner.log.poison(why.to_owned());
        }
        inner
    }
}

impl Inner {
    fn apply<R, E: From<StoreError>>(
        &mut self,
        limits: &StoreLimits,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<(R, Position), E> {
        let result = self.draft(limits, change)?;
        if self.stopping && !self.draft.is_empty() {
            return Err(StoreError::from(AppendError::Closed).into());
        }
        Ok((result, self.append_draft()?))
    }

    /// Says in the draft what changes; nothing has changed yet.
    fn draft<R, E>(
        &mut self,
        limits: &StoreLimits,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut tx = Tx::new(&self.state, limits, self.log.seq_next(), &mut self.draft);
        change(&mut tx)
    }

    /// Appends the draft and folds it; at which position that is durable.
    fn append_draft(&mut self) -> Result<Position, StoreError> {
        if self.draft.is_empty() {
            return Ok(self.awaited);
        }
        self.folding = true;
        let appended = self.log.append(&mut self.state, &self.draft.batch());
        self.folding = false;
        self.draft.clear();
        Ok(appended.map_err(StoreError::from)?.position)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
