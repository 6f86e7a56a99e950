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
                             it is, or start again to forget what there is of it";

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
