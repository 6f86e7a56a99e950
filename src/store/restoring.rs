//! A restore that is under way. While its mark stands, every account in the store is one of a
//! backup that is not whole yet: nobody logs in to them, and when it is broken off they go.
//!
//! The mark is a value of the server itself, in the log before the first of those accounts and
//! taken away in the transaction that makes all of them count. So whatever ends a restore, a power
//! cut too, leaves either all of it or the mark.

use super::{State, StoreError, Tx};

/// The name of the value.
const NAME: &str = "restoring";

/// Why something has to wait.
pub const RESTORING: &str = "a backup is being restored, or was and is not complete: try again when \
                             it is, or start the server again to forget what there is of it";

impl State {
    /// Whether what is there is part of a backup, and does not count.
    pub fn is_restoring(&self) -> bool {
        self.setting(NAME).is_some()
    }
}

impl Tx<'_> {
    /// Accounts that are put from now on do not count. Refused where there are any.
    pub fn begin_restore(&mut self) -> Result<(), StoreError> {
        match self.account_count() == 0 && !self.is_restoring() {
            true => self.put_setting(NAME, b""),
            false => Err(StoreError::Invalid("the store is not empty")),
        }
    }

    /// The accounts count from now on, or are gone.
    pub fn end_restore(&mut self) -> Result<(), StoreError> {
        self.remove_setting(NAME)
    }

    /// Refuses what would be lost, or would count too early.
    pub fn require_no_restore(&self) -> Result<(), StoreError> {
        match self.is_restoring() {
            true => Err(StoreError::Invalid(RESTORING)),
            false => Ok(()),
        }
    }
}

/// Whether a value is the mark, which belongs to this store alone.
pub fn is_mark(name: &str) -> bool {
    name == NAME
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Credentials;
    use crate::store::log::Options;
    use crate::store::sim::SimDevice;
    use crate::store::{Store, StoreLimits};

    #[test]
    fn a_restore_begins_in_an_empty_store_once_and_refuses_other_accounts() {
        let device = Arc::new(SimDevice::new(64 << 20, 64 << 20));
        let limits = StoreLimits::default();
        let opened = Store::open(device, Options::default(), limits, 0);
        let (store, _) = opened.expect("a new store");
        let put = |owner: &str| {
            let credentials = Credentials::Argon2id { phc: String::new() };
            store.update(|tx| {
                tx.require_no_restore()?;
                tx.put_account(owner, &credentials, 0)
            })
        };
        store.update(|tx| tx.begin_restore()).expect("it is empty");
        assert!(store.read(State::is_restoring));
        let refused = put("a@b").map(drop);
        assert_eq!(refused, Err(StoreError::Invalid(RESTORING)));
        store
            .update(|tx| tx.begin_restore())
            .expect_err("one is under way");
        store.update(|tx| tx.end_restore()).expect("room");
        put("a@b").expect("room");
        store
            .update(|tx| tx.begin_restore())
            .expect_err("there is an account");
        assert!(!store.read(State::is_restoring));
    }
}
