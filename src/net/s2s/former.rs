//! Streams of other servers that were lost and may be resumed (XEP-0198 §5): of each only the
//! count of what was handled, for we send nothing on them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::router::ResumptionId;
use crate::store::Position;
use crate::stream::s2s::Pair;

/// Streams that are remembered at most.
const FORMERS_MAX: usize = 4_096;

/// For how long.
pub const RESUME_MS: u64 = 300_000;

/// A lost stream.
#[derive(Clone, Debug)]
pub struct Former {
    /// Whose.
    pub pair: Pair,
    /// How many of its stanzas were handled, modulo 2^32.
    pub handled: u32,
    /// The count may be told once this is durable.
    pub after: Position,
    /// Nobody remembers it from then on.
    pub until_ms: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Formers {
    lost: Mutex<HashMap<ResumptionId, Former>>,
}

impl Formers {
    /// Remembers one, in the place of the oldest if need be.
    pub fn keep(&self, id: ResumptionId, former: Former, now_ms: u64) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() >= FORMERS_MAX {
            lost.retain(|_, former| former.until_ms > now_ms);
        }
        if lost.len() >= FORMERS_MAX {
            let oldest = lost.iter().min_by_key(|(_, former)| former.until_ms);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.map(|id| lost.remove(&id));
        }
        lost.insert(id, former);
    }

    /// Gives one to whoever resumes it, for the same pair of domains.
    pub fn take(&self, id: &ResumptionId, pair: &Pair, now_ms: u64) -> Option<Former> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let is_theirs = lost
            .get(id)
            .is_some_and(|former| former.pair == *pair && former.until_ms > now_ms);
        is_theirs.then(|| lost.remove(id)).flatten()
    }
}
