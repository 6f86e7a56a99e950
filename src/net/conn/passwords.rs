//! Where passwords are checked and keys are made: on threads of their own, as many at a time as
//! there are blocks of memory for them (argon2id takes 19 MiB). The server's
//! [`Argon2Pool`](crate::crypto::Argon2Pool) lends the blocks, because the operator's commands need
//! them too.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::addr::Jid;
use crate::crypto::{CredentialsId, PasswordCheck};
use crate::router::Core;
use crate::xep::account;

/// The places where passwords are checked.
#[derive(Debug)]
pub struct Passwords {
    places: Arc<Semaphore>,
}

impl Passwords {
    /// So many checks at a time.
    pub fn new(concurrent: usize) -> Passwords {
        Passwords {
            places: Arc::new(Semaphore::new(concurrent.max(1))),
        }
    }

    /// What a password for the account proves, `None` if it is wrong. Waits for a place.
    pub async fn check(
        &self,
        core: &Arc<Core>,
        account: Jid,
        check: PasswordCheck,
    ) -> Option<CredentialsId> {
        let core = core.clone();
        let checked = self.work(move || account::verify(&core, &account, &check));
        checked.await.flatten()
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
