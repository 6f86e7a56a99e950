//! The memory of all argon2 hashes of the process.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::argon2id::Argon2Memory;

/// So many blocks of argon2's memory and no more, lent for one piece of work at a time. A block is
/// taken from the system when it is first used and kept for the next.
///
/// Everything that hashes a password borrows here, whoever asked for it, so that what `cairn config
/// check` counts is what there can be.
#[derive(Debug)]
pub struct Argon2Pool {
    free: Mutex<Vec<Argon2Memory>>,
    returned: Condvar,
}

impl Argon2Pool {
    /// A pool of so many blocks, at least one.
    pub fn new(blocks: usize) -> Argon2Pool {
        let free = (0..blocks.max(1)).map(|_| Argon2Memory::new()).collect();
        Argon2Pool {
            free: Mutex::new(free),
            returned: Condvar::new(),
        }
    }

    /// Does the work with a block of its own. Blocks the thread until one is free: nothing for a
    /// thread that serves connections.
    pub fn lend<R>(&self, work: impl FnOnce(&mut Argon2Memory) -> R) -> R {
        let mut loan = self.take();
        work(&mut loan.memory)
    }

    fn take(&self) -> Loan<'_> {
        let mut free = self.free();
        loop {
            if let Some(memory) = free.pop() {
                return Loan { pool: self, memory };
            }
            free = self
                .returned
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Argon2Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block that is lent; it comes back when the work panics too.
struct Loan<'a> {
    pool: &'a Argon2Pool,
    memory: Argon2Memory,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.free().push(memory);
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn no_more_work_is_done_at_once_than_there_are_blocks() {
        let pool = Argon2Pool::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..50 {
                        pool.lend(|_| {
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(pool.free().len(), 2);
    }

    #[test]
    fn two_blocks_are_lent_at_once() {
        let pool = Argon2Pool::new(2);
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| pool.lend(|_| both.wait()));
            }
        });
    }

    #[test]
    fn a_panic_gives_the_block_back() {
        let pool = Argon2Pool::new(1);
        let work = std::panic::AssertUnwindSafe(|| pool.lend(|_| panic!("on purpose")));
        assert!(std::panic::catch_unwind(work).is_err());
        assert_eq!(pool.lend(|_| 7), 7);
    }
}
