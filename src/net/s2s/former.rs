//! Streams of other servers that may be resumed (XEP-0198 §5): those that were lost, and those whose
//! connection stands, as far as this side knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::router::{ManagedStream, ResumptionId};
use crate::stream::s2s::Pair;

/// Lost streams that are remembered at most.
const LOST_MAX: usize = 4_096;

/// For how long.
pub const RESUME_MS: u64 = 300_000;

/// A stream that may be resumed.
#[derive(Debug)]
enum Former {
    /// Its connection has it.
    Alive(Weak<ManagedStream>),
    /// It was lost; nobody remembers it from `until_ms` on.
    Lost {
        stream: Arc<ManagedStream>,
        until_ms: u64,
    },
}

/// All of them.
#[derive(Debug, Default)]
pub struct Formers {
    all: Mutex<HashMap<ResumptionId, Former>>,
}

impl Formers {
    /// A connection has this stream.
    pub fn alive(&self, stream: &Arc<ManagedStream>) {
        if let Some(id) = stream.id {
            let stream = Arc::downgrade(stream);
            self.lock().insert(id, Former::Alive(stream));
        }
    }

    /// It was lost with this connection, and is remembered, in the place of the one lost first if
    /// need be. Not where another connection has it.
    pub fn lost(&self, stream: &Arc<ManagedStream>, reader: u64, now_ms: u64) {
        let Some(id) = stream.id else {
            return;
        };
        let mut all = self.lock();
        if !stream.is_with(reader) {
            return;
        }
        if all.len() >= LOST_MAX {
            all.retain(|_, former| former.is_of_use(now_ms));
            let lost = |(id, former): (&ResumptionId, &Former)| Some((former.until_ms()?, *id));
            let lost: Vec<_> = all.iter().filter_map(lost).collect();
            if lost.len() >= LOST_MAX
                && let Some((_, oldest)) = lost.into_iter().min()
            {
                all.remove(&oldest);
            }
        }
        let former = Former::Lost {
            stream: stream.clone(),
            until_ms: now_ms + RESUME_MS,
        };
        all.insert(id, former);
    }

    /// It has ended with this connection, in order: nobody resumes it.
    pub fn ended(&self, stream: &ManagedStream, reader: u64) {
        let mut all = self.lock();
        if let Some(id) = &stream.id
            && stream.is_with(reader)
        {
            all.remove(id);
        }
    }

    /// The stream that somebody wants to resume, for the same pair of domains.
    pub fn find(&self, id: &ResumptionId, pair: &Pair, now_ms: u64) -> Option<Arc<ManagedStream>> {
        let all = self.lock();
        let stream = all.get(id)?.stream(now_ms)?;
        (stream.pair == *pair).then_some(stream)
    }

    /// Those of a pair of domains.
    pub fn all_of(&self, pair: &Pair, now_ms: u64) -> Vec<Arc<ManagedStream>> {
        let all = self.lock();
        let streams = all.values().filter_map(|former| former.stream(now_ms));
        streams.filter(|stream| stream.pair == *pair).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResumptionId, Former>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Former {
    fn stream(&self, now_ms: u64) -> Option<Arc<ManagedStream>> {
        match self {
            Former::Alive(stream) => stream.upgrade(),
            Former::Lost { stream, until_ms } => (*until_ms > now_ms).then(|| stream.clone()),
        }
    }

    fn until_ms(&self) -> Option<u64> {
        match self {
            Former::Alive(_) => None,
            Former::Lost { until_ms, .. } => Some(*until_ms),
        }
    }

    fn is_of_use(&self, now_ms: u64) -> bool {
        match self {
            Former::Alive(stream) => stream.strong_count() > 0,
            Former::Lost { until_ms, .. } => *until_ms > now_ms,
        }
    }
}
