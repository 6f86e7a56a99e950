//! What has been looked up, for as long as it may be used: bounded by number, by bytes and by time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{RData, RecordType};

use super::chain::Answer;

/// Answers that are kept.
const ANSWERS_MAX: usize = 2_048;

/// Bytes of them, roughly.
const BYTES_MAX: usize = 2 << 20;

/// What an answer costs beside its name, its records and the bytes it came in.
const ANSWER_BYTES: usize = 256;

/// An answer that lives shorter is kept so long all the same, so that who sends many stanzas does
/// not make each of them a question.
const LIFE_MIN: Duration = Duration::from_secs(1);

/// An answer is remembered no longer, whatever it says.
const POSITIVE_MAX: Duration = Duration::from_secs(3_600);

/// That there is nothing is remembered no longer (RFC 2308 §5 lets it be hours).
const NEGATIVE_MAX: Duration = Duration::from_secs(60);

/// A question: a name, a type, and whether signatures are checked.
pub(super) type Question = (Box<str>, RecordType, bool);

/// The answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Question, Kept>,
    /// By the end of their life; the number tells those of one moment apart.
    ends: BTreeMap<(Instant, u64), Question>,
    bytes: usize,
    number: u64,
}

#[derive(Debug)]
struct Kept {
    answer: Arc<Answer>,
    end: (Instant, u64),
    bytes: usize,
}

impl Cache {
    /// What is known, if it may still be used.
    pub(super) fn find(&self, question: &Question, now: Instant) -> Option<Arc<Answer>> {
        let kept = self.answers.get(question)?;
        (now < kept.end.0).then(|| Arc::clone(&kept.answer))
    }

    /// Keeps an answer. What ends first makes room for it.
    pub(super) fn keep(&mut self, question: Question, answer: Arc<Answer>, now: Instant) {
        let bytes = ANSWER_BYTES
            + 2 * question.0.len()
            + answer.bytes
            + answer.records.len() * size_of::<RData>();
        if bytes > BYTES_MAX / 16 {
            return;
        }
        self.forget(&question);
        while self.answers.len() >= ANSWERS_MAX || self.bytes + bytes > BYTES_MAX {
            let Some((_, first)) = self.ends.pop_first() else {
                break;
            };
            self.forget(&first);
        }
        self.number += 1;
        let end = (now + life(&answer, question.2), self.number);
        self.ends.insert(end, question.clone());
        self.bytes += bytes;
        self.answers.insert(question, Kept { answer, end, bytes });
    }

    fn forget(&mut self, question: &Question) {
        if let Some(kept) = self.answers.remove(question) {
            self.ends.remove(&kept.end);
            self.bytes -= kept.bytes;
        }
    }
}

fn life(answer: &Answer, is_checked: bool) -> Duration {
    let said = Duration::from_secs(answer.ttl_s.unwrap_or(0).into());
    // What could not be proven may be so a moment later.
    let is_short = answer.records.is_empty() || (is_checked && !answer.is_secure);
    let max = match is_short {
        true => NEGATIVE_MAX,
        false => POSITIVE_MAX,
    };
    said.clamp(LIFE_MIN, max)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::A;

    use super::*;

    fn question(name: &str) -> Question {
        (name.into(), RecordType::A, false)
    }

    fn answer(ttl_s: u32, records: usize, bytes: usize) -> Arc<Answer> {
        Arc::new(Answer {
            records: vec![RData::A(A::new(192, 0, 2, 1)); records],
            ttl_s: Some(ttl_s),
            is_secure: false,
            bytes,
        })
    }

    #[test]
    fn an_answer_lives_as_long_as_it_says_within_bounds() {
        let now = Instant::now();
        for (ttl_s, records, is_checked, lives_s) in [
            (300, 1, false, 300),
            (300, 1, true, 60),
            (0, 1, false, 1),
            (u32::MAX, 1, false, 3_600),
            (30, 0, false, 30),
            (86_400, 0, false, 60),
        ] {
            let mut cache = Cache::default();
            let asked: Question = ("a.example".into(), RecordType::A, is_checked);
            cache.keep(asked.clone(), answer(ttl_s, records, 50), now);
            let at = |s| cache.find(&asked, now + Duration::from_secs(s));
            assert!(at(lives_s - 1).is_some(), "{lives_s}");
            assert!(at(lives_s).is_none(), "{lives_s}");
            let other: Question = ("a.example".into(), RecordType::AAAA, is_checked);
            assert!(cache.find(&other, now).is_none());
        }
    }

    #[test]
    fn what_ends_first_makes_room() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.keep(question("first"), answer(20, 1, 50), now);
        for number in 0..2 * ANSWERS_MAX {
            let name = format!("{number}.example");
            cache.keep(question(&name), answer(100, 1, 50), now);
            assert!(cache.answers.len() <= ANSWERS_MAX && cache.bytes <= BYTES_MAX);
        }
        assert!(cache.find(&question("first"), now).is_none());
        let last = format!("{}.example", 2 * ANSWERS_MAX - 1);
        assert!(cache.find(&question(&last), now).is_some());
        assert_eq!(cache.answers.len(), cache.ends.len());
    }

    #[test]
    fn large_answers_are_bounded_by_bytes() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for number in 0..200 {
            cache.keep(question(&number.to_string()), answer(100, 1, 60_000), now);
            assert!(cache.bytes <= BYTES_MAX);
        }
        assert!(cache.answers.len() > 20);
        cache.keep(question("huge"), answer(100, 1, BYTES_MAX), now);
        assert!(cache.find(&question("huge"), now).is_none());
    }

    #[test]
    fn a_newer_answer_takes_the_place_of_the_older() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.keep(question("a"), answer(100, 1, 50), now);
        let bytes = cache.bytes;
        cache.keep(question("a"), answer(100, 1, 50), now);
        assert_eq!((cache.answers.len(), cache.bytes), (1, bytes));
    }
}
