//! Where passwords are checked and keys are made: on threads of their own, as many at a time as the configuration
//! allows, each with one block of memory that it keeps (argon2id takes 19 MiB).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::crypto::PasswordCheck;
use crate::crypto::argon2id::Argon2Memory;

/// The places where passwords are checked.
#[derive(Debug)]
pub struct Passwords {
    places: Arc<Semaphore>,
    memory: Arc<Mutex<Vec<Argon2Memory>>>,
}

impl Passwords {
    /// So many checks at a time.
    pub fn new(concurrent: usize) -> Passwords {
        Passwords {
            places: Arc::new(Semaphore::new(concurrent.max(1))),
            memory: Arc::default(),
        }
    }

    /// Whether the password is right. Waits for a place.
    pub async fn check(&self, check: PasswordCheck) -> bool {
        let pool = self.memory.clone();
        let checked = self.work(move || {
            let lock = || pool.lock().unwrap_or_else(PoisonError::into_inner);
            let mut memory = lock().pop().unwrap_or_default();
            let matches = check.run(&mut memory);
            lock().push(memory);
            matches
        });
        checked.await.unwrap_or(false)
    }

    /// Does work that takes as long as a check. Waits for a place; `None` when it has panicked.
    /// Whoever stops waiting gives up the place it has not got yet; work that has begun keeps its
    /// own to the end.
    pub async fn work<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            job()
        });
        working.await.ok()
    }
}
