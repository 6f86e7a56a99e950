//! How fast another domain may send, over all its connections: what comes faster waits in the
//! kernel's buffers, and then with the sender.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addr::Jid;

/// The paces of the domains that send at this moment, or that did so a moment ago.
#[derive(Debug)]
pub struct Paces {
    bytes_per_s: u64,
    known: Mutex<HashMap<Jid, Arc<Pace>>>,
}

/// One domain's pace: a bucket that fills with time.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes that may come at once; below zero so many came too early.
    level: i64,
    at_ms: u64,
}

/// A burst may be as long as what comes in so many seconds.
const BURST_S: u64 = 4;

impl Paces {
    /// Zero for no limit.
    pub fn new(bytes_per_s: u64) -> Paces {
        Paces {
            bytes_per_s,
            known: Mutex::default(),
        }
    }

    /// The pace of a domain, one for all its connections.
    pub fn of(&self, domain: &Jid, now_ms: u64) -> Arc<Pace> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = known.get(domain) {
            return pace.clone();
        }
        // One that nobody sends at and whose bucket is full again is as good as a new one.
        known.retain(|_, pace| Arc::strong_count(pace) > 1 || !pace.is_full(now_ms));
        let pace = Arc::new(Pace {
            bytes_per_s: self.bytes_per_s,
            bucket: Mutex::new(Bucket {
                level: i64::try_from(self.bytes_per_s * BURST_S).unwrap_or(i64::MAX),
                at_ms: now_ms,
            }),
        });
        known.insert(domain.clone(), pace.clone());
        pace
    }
}

impl Pace {
    /// So many bytes have come: until when nothing more is read.
    pub fn came(&self, bytes: usize, now_ms: u64) -> Option<u64> {
        if self.bytes_per_s == 0 {
            return None;
        }
        let mut bucket = self.filled(now_ms);
        bucket.level = bucket
            .level
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let missing = u64::try_from(bucket.level.checked_neg()?)
            .ok()
            .filter(|m| *m > 0)?;
        Some(now_ms + missing.saturating_mul(1_000) / self.bytes_per_s + 1)
    }

    fn is_full(&self, now_ms: u64) -> bool {
        self.filled(now_ms).level >= self.full()
    }

    fn full(&self) -> i64 {
        i64::try_from(self.bytes_per_s * BURST_S).unwrap_or(i64::MAX)
    }

    fn filled(&self, now_ms: u64) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ms = now_ms.saturating_sub(bucket.at_ms);
        let fills = passed_ms.saturating_mul(self.bytes_per_s) / 1_000;
        // What is less than a byte is not lost by asking often.
        if fills > 0 {
            let fills = i64::try_from(fills).unwrap_or(i64::MAX);
            bucket.level = bucket.level.saturating_add(fills).min(self.full());
            bucket.at_ms = now_ms;
        }
        bucket
    }
}

/// What comes on one connection, counted for the domains that it comes from.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The first one answers for what comes in nobody's name.
    paces: Vec<(Jid, Arc<Pace>)>,
    /// Nothing is read before.
    until_ms: Option<u64>,
}

impl Meter {
    /// The domain may send on it from now on.
    pub fn add(&mut self, domain: &Jid, paces: &Paces, now_ms: u64) {
        if self.paces.iter().all(|(known, _)| known != domain) {
            self.paces.push((domain.clone(), paces.of(domain, now_ms)));
        }
    }

    /// Whether nobody may send on it yet.
    pub fn is_empty(&self) -> bool {
        self.paces.is_empty()
    }

    /// So many bytes have come, in a stanza of this sender's if it was one.
    pub fn came(&mut self, bytes: usize, from: Option<&str>, now_ms: u64) {
        let is_of = |(domain, _): &&(Jid, Arc<Pace>)| {
            let from = from.unwrap_or_default();
            let bare = from.split_once('/').map_or(from, |(bare, _)| bare);
            bare.rsplit('@').next() == Some(domain.as_str())
        };
        let own = match self.paces.len() {
            0 | 1 => None,
            _ => self.paces.iter().find(is_of),
        };
        let Some((_, pace)) = own.or(self.paces.first()) else {
            return;
        };
        self.until_ms = self.until_ms.max(pace.came(bytes, now_ms));
    }

    /// How long nothing is read yet, in milliseconds.
    pub fn pause_ms(&self, now_ms: u64) -> u64 {
        self.until_ms
            .map_or(0, |until_ms| until_ms.saturating_sub(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_waits() {
        let paces = Paces::new(1_000);
        let domain = Jid::parse("a.example").expect("a domain");
        let pace = paces.of(&domain, 0);
        assert_eq!(pace.came(4_000, 0), None);
        assert_eq!(pace.came(1_000, 0), Some(1_001));
        let other = paces.of(&domain, 0);
        assert_eq!(
            other.came(1_000, 1_000),
            Some(2_001),
            "one for all connections"
        );
        assert_eq!(pace.came(1, 10_000), None);
        assert_eq!(Paces::new(0).of(&domain, 0).came(usize::MAX, 0), None);
    }

    #[test]
    fn who_comes_again_has_no_new_burst() {
        let paces = Paces::new(1_000);
        let domain = |name: &str| Jid::parse(name).expect("a domain");
        assert_eq!(paces.of(&domain("a.example"), 0).came(4_000, 0), None);
        drop(paces.of(&domain("b.example"), 1));
        let again = paces.of(&domain("a.example"), 1);
        assert!(again.came(1_000, 1).is_some());
        drop(again);
        drop(paces.of(&domain("c.example"), 60_000));
        let known = paces.known.lock().expect("nobody panics");
        assert!(!known.contains_key(&domain("a.example")), "for ever");
    }

    #[test]
    fn each_domain_answers_for_what_it_sends_on_a_stream_of_many() {
        let paces = Paces::new(1_000);
        let domain = |name: &str| Jid::parse(name).expect("a domain");
        let mut meter = Meter::default();
        meter.came(1 << 20, None, 0);
        assert_eq!(meter.pause_ms(0), 0, "nobody is there yet");
        for name in ["a.example", "b.example", "a.example"] {
            meter.add(&domain(name), &paces, 0);
        }
        meter.came(4_000, Some("x@b.example/r@a.example/q"), 0);
        meter.came(4_000, Some("a.example"), 0);
        assert_eq!(meter.pause_ms(0), 0);
        meter.came(1_000, Some("x@b.example"), 0);
        assert_eq!(meter.pause_ms(0), 1_001);
        assert_eq!(meter.pause_ms(2_000), 0);
        assert!(paces.of(&domain("b.example"), 0).came(1, 0).is_some());
    }
}
