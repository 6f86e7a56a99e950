//! What all outboxes share: their bounds, and the bytes that wait in all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What every session that is connected may have waiting, whatever the others do.
pub const FAIR_BYTES: usize = 2_048;

/// The bounds of outboxes.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Bytes that may wait in one, written and unacknowledged ones included.
    pub bytes_max: usize,
    /// Entries that may wait in one, likewise.
    pub entries_max: usize,
    /// Bytes that may wait in all of them together, besides [`FAIR_BYTES`] for each that is
    /// connected.
    pub pool_bytes_max: usize,
}

/// What all outboxes share: their bounds, and the bytes that wait in all of them. The worst case
/// of each on its own, times all of them, would fit no machine (DESIGN §1, third promise).
#[derive(Debug)]
pub struct OutboxPool {
    pub(in crate::router) limits: OutboxLimits,
    bytes: AtomicUsize,
    pressed: Notify,
}

impl OutboxPool {
    /// Nothing waits yet.
    pub fn new(limits: OutboxLimits) -> OutboxPool {
        OutboxPool {
            limits,
            bytes: AtomicUsize::new(0),
            pressed: Notify::new(),
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

    /// Takes room for one outbox that holds `held` bytes already.
    pub(in crate::router) fn take(&self, bytes: usize, held: usize, is_served: bool) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = before + bytes;
        let fits = self.fits(all, held + bytes, is_served);
        if !fits {
            self.give_back(bytes);
        }
        if all > self.limits.pool_bytes_max / 4 * 3 {
            self.pressed.notify_one();
        }
        fits
    }

    /// The last eighth is kept for those who hold little and are there to read it, and they have a
    /// little for sure: that others fill the pool costs nobody a session who reads what comes.
    fn fits(&self, all: usize, held: usize, is_served: bool) -> bool {
        let max = self.limits.pool_bytes_max;
        let little = self.limits.bytes_max / 16;
        match is_served {
            true if held <= FAIR_BYTES => true,
            true if held <= little => all <= max,
            _ => all <= max - max / 8,
        }
    }

    /// Ready when so much waits that those who hold most of it have to make room.
    pub async fn pressed(&self) {
        self.pressed.notified().await;
    }

    /// How many bytes have to go so that it takes a while until it is so again.
    pub fn excess(&self) -> usize {
        let max = self.limits.pool_bytes_max;
        self.bytes().saturating_sub(max / 8 * 5)
    }

    /// Takes what can't be refused.
    pub(in crate::router) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::router) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
