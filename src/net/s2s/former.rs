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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Jid;

    fn pair(remote: &str) -> Pair {
        let jid = |text| Jid::parse(text).expect("an address");
        Pair {
            local: jid("here.example"),
            remote: jid(remote),
        }
    }

    fn stream(number: u16, reader: u64) -> Arc<ManagedStream> {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_le_bytes());
        let pair = pair("there.example");
        Arc::new(ManagedStream::new(pair, Some(id), reader))
    }

    fn is_found(formers: &Formers, stream: &ManagedStream, now_ms: u64) -> bool {
        let id = stream.id.expect("it has one");
        formers.find(&id, &stream.pair, now_ms).is_some()
    }

    #[test]
    fn a_stream_is_found_while_it_stands_and_for_a_while_after_its_loss() {
        let (formers, stream) = (Formers::default(), stream(1, 7));
        formers.alive(&stream);
        assert!(is_found(&formers, &stream, 0));
        let id = stream.id.expect("it has one");
        let other = pair("other.example");
        assert!(formers.find(&id, &other, 0).is_none(), "not theirs");
        formers.lost(&stream, 7, 1_000);
        assert!(is_found(&formers, &stream, RESUME_MS + 999));
        assert!(!is_found(&formers, &stream, RESUME_MS + 1_000));
    }

    #[test]
    fn a_connection_that_was_replaced_loses_and_ends_nothing() {
        let (formers, stream) = (Formers::default(), stream(1, 7));
        formers.alive(&stream);
        stream.take_over(8, 0).expect("nothing was sent");
        formers.lost(&stream, 7, 0);
        assert!(is_found(&formers, &stream, RESUME_MS), "it stands");
        formers.ended(&stream, 7);
        assert!(is_found(&formers, &stream, 0));
        formers.ended(&stream, 8);
        assert!(!is_found(&formers, &stream, 0));
    }

    #[test]
    fn the_room_for_lost_streams_is_bounded_and_those_that_stand_keep_theirs() {
        let formers = Formers::default();
        let standing = stream(0, 7);
        formers.alive(&standing);
        let lost: Vec<_> = (1..5_000).map(|number| stream(number, 7)).collect();
        for (now_ms, stream) in (0..).zip(&lost) {
            formers.lost(stream, 7, now_ms);
        }
        let left = formers.all_of(&standing.pair, 5_000).len();
        assert!(left <= LOST_MAX + 1, "{left}");
        assert!(is_found(&formers, &standing, 5_000));
        assert!(is_found(&formers, &lost[4_998], 5_000));
        assert!(!is_found(&formers, &lost[0], 5_000), "the first one");
    }
}
