//! What all outboxes share: their bounds, and the bytes that wait in all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The bounds of outboxes.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Bytes that may wait in one, written and unacknowledged ones included.
    pub bytes_max: usize,
    /// Entries that may wait in one, likewise.
    pub entries_max: usize,
    /// Bytes that may wait in all of them together.
    pub pool_bytes_max: usize,
}

/// What all outboxes share: their bounds, and the bytes that wait in all of them. The worst case
/// of each on its own, times all of them, would fit no machine (DESIGN §1, third promise).
#[derive(Debug)]
pub struct OutboxPool {
    pub(super) limits: OutboxLimits,
    bytes: AtomicUsize,
}

impl OutboxPool {
    /// Nothing waits yet.
    pub fn new(limits: OutboxLimits) -> OutboxPool {
        OutboxPool {
            limits,
            bytes: AtomicUsize::new(0),
        }
    }

    /// For tests in which nothing overflows.
    #[cfg(test)]
    pub fn unbounded() -> std::sync::Arc<OutboxPool> {
        std::sync::Arc::new(OutboxPool::new(OutboxLimits {
            bytes_max: usize::MAX / 4,
            entries_max: usize::MAX / 4,
            pool_bytes_max: usize::MAX / 4,
        }))
    }

    /// Bytes that wait in all outboxes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.limits.pool_bytes_max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    /// Takes what can't be refused.
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
