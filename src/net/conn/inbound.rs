//! The bytes of incomplete stanzas, of all clients together: each may send a big one, not all of
//! them at once (DESIGN §1, third promise).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What every client may have unfinished, whatever the others do: part of a connection's price,
/// with the room that its buffer grows by.
const FAIR_BYTES: usize = 2_000;

/// The pool.
#[derive(Debug)]
pub struct Inbound {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Inbound {
    /// An empty pool of this size.
    pub fn new(bytes_max: usize) -> Arc<Inbound> {
        Arc::new(Inbound {
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }
}

/// One connection's part of the pool; given back when it is dropped.
#[derive(Debug)]
pub(in crate::net) struct Share {
    pool: Arc<Inbound>,
    bytes: usize,
}

impl Share {
    pub(in crate::net) fn new(pool: Arc<Inbound>) -> Share {
        Share { pool, bytes: 0 }
    }

    /// The connection holds so many bytes now; false when that is more than there is room for.
    pub(in crate::net) fn set(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        let before = match bytes.checked_sub(self.bytes) {
            Some(more) => self.pool.bytes.fetch_add(more, Ordering::Relaxed) + more,
            None => self
                .pool
                .bytes
                .fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        let grew = bytes > self.bytes;
        self.bytes = bytes;
        !grew || bytes <= FAIR_BYTES || before <= self.pool.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_stanzas_share_the_pool_and_small_ones_always_fit() {
        let pool = Inbound::new(50_000);
        let (mut one, mut two) = (Share::new(pool.clone()), Share::new(pool.clone()));
        assert!(one.set(40_000));
        assert!(two.set(FAIR_BYTES));
        assert!(!two.set(20_000));
        assert!(one.set(1_000));
        assert!(two.set(30_000));
        drop((one, two));
        assert_eq!(pool.bytes.load(Ordering::Relaxed), 0);
    }
}
