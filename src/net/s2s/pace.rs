//! How fast another domain may send, over all its connections: what comes faster waits in the
//! kernel's buffers, and then with the sender.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::addr::Jid;

/// The paces of the domains that send at this moment.
#[derive(Debug)]
pub struct Paces {
    bytes_per_s: u64,
    known: Mutex<HashMap<Jid, Weak<Pace>>>,
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
        if let Some(pace) = known.get(domain).and_then(Weak::upgrade) {
            return pace;
        }
        known.retain(|_, pace| pace.strong_count() > 0);
        let pace = Arc::new(Pace {
            bytes_per_s: self.bytes_per_s,
            bucket: Mutex::new(Bucket {
                level: i64::try_from(self.bytes_per_s * BURST_S).unwrap_or(i64::MAX),
                at_ms: now_ms,
            }),
        });
        known.insert(domain.clone(), Arc::downgrade(&pace));
        pace
    }
}

impl Pace {
    /// So many bytes have come: until when nothing more is read.
    pub fn came(&self, bytes: usize, now_ms: u64) -> Option<u64> {
        if self.bytes_per_s == 0 {
            return None;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ms = now_ms.saturating_sub(bucket.at_ms);
        let fills = passed_ms.saturating_mul(self.bytes_per_s) / 1_000;
        let full = i64::try_from(self.bytes_per_s * BURST_S).unwrap_or(i64::MAX);
        let fills = i64::try_from(fills).unwrap_or(i64::MAX);
        bucket.level = bucket.level.saturating_add(fills).min(full);
        bucket.at_ms = now_ms;
        bucket.level = bucket
            .level
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let missing = u64::try_from(bucket.level.checked_neg()?)
            .ok()
            .filter(|m| *m > 0)?;
        Some(now_ms + missing.saturating_mul(1_000) / self.bytes_per_s + 1)
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
}
