//! A number of bytes that many share, each beyond what it has for its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The pool.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    /// An empty pool of this size.
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }
}

/// What somebody has taken of a pool; given back when it is dropped. Who has taken nothing yet
/// holds no pool.
#[derive(Debug, Default)]
pub struct Taken {
    from: Option<Arc<Budget>>,
    bytes: usize,
}

impl Taken {
    /// Takes so many bytes in all, or leaves everything as it was and says no.
    #[must_use]
    pub fn try_hold(&mut self, budget: &Arc<Budget>, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && budget.bytes.fetch_add(more, Ordering::Relaxed) + more > budget.bytes_max {
            budget.bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        if more > 0 {
            self.from.get_or_insert_with(|| budget.clone());
            self.bytes = bytes;
        } else {
            self.shrink_to(bytes);
        }
        true
    }

    /// Takes so many bytes in all, whether there is room or not.
    pub fn hold(&mut self, budget: &Arc<Budget>, bytes: usize) {
        if bytes > self.bytes {
            budget
                .bytes
                .fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.from.get_or_insert_with(|| budget.clone());
            self.bytes = bytes;
        } else {
            self.shrink_to(bytes);
        }
    }

    /// Gives back what is more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(from) = &self.from {
            let surplus = self.bytes.saturating_sub(bytes);
            from.bytes.fetch_sub(surplus, Ordering::Relaxed);
            self.bytes -= surplus;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (Taken::default(), Taken::default());
        assert!(one.try_hold(&budget, 60));
        assert!(!two.try_hold(&budget, 50));
        assert!(two.try_hold(&budget, 40));
        assert!(!one.try_hold(&budget, 61));
        assert!(one.try_hold(&budget, 20));
        two.hold(&budget, 90);
        assert!(!one.try_hold(&budget, 21));
        drop((one, two));
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
