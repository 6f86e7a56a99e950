//! Who administers the server from outside: accounts, each with an argon2id hash of its password.
//!
//! They are values of the server itself, so a log that has some is read by every version. A value
//! goes in the same transaction as its account: who gets the name later is no administrator.

use super::{State, StoreError, Tx};

/// The name of the value, in front of the bare JID.
const PREFIX: &str = "administrator:";

/// More would leave no room for other values.
const ADMINISTRATORS_MAX: usize = 64;

impl State {
    /// The argon2id hash (a PHC string) of an administrator's password; `None` for anybody else.
    pub fn administrator(&self, owner: &str) -> Option<&str> {
        let hash = self.setting(&format!("{PREFIX}{owner}"))?;
        self.account(owner)?;
        std::str::from_utf8(hash).ok()
    }

    /// The bare JIDs of all administrators.
    pub fn administrators(&self) -> impl Iterator<Item = &str> {
        self.settings()
            .filter_map(|(name, _)| name.strip_prefix(PREFIX))
            .filter(|owner| self.account(owner).is_some())
    }
}

impl Tx<'_> {
    /// Makes an administrator of an account, or gives one another hash.
    pub fn put_administrator(&mut self, owner: &str, hash: &str) -> Result<(), StoreError> {
        self.require(owner)?;
        let is_new = self.administrator(owner).is_none();
        if is_new && self.administrators().count() >= ADMINISTRATORS_MAX {
            return Err(StoreError::Invalid("there are 64 administrators already"));
        }
        self.put_setting(&format!("{PREFIX}{owner}"), hash.as_bytes())
    }

    /// Makes an account an ordinary one. One that is so already is no error.
    pub fn remove_administrator(&mut self, owner: &str) -> Result<(), StoreError> {
        let name = format!("{PREFIX}{owner}");
        match self.setting(&name).is_some() {
            true => self.remove_setting(&name),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::crypto::Credentials;
    use crate::store::log::Options;
    use crate::store::sim::SimDevice;
    use crate::store::{Store, StoreError, StoreLimits};

    #[test]
    fn whoever_gets_the_name_later_is_no_administrator() {
        let credentials = Credentials::Argon2id { phc: String::new() };
        let device = std::sync::Arc::new(SimDevice::new(64 << 20, 64 << 20));
        let limits = StoreLimits::default();
        let (store, _) = Store::open(device, Options::default(), limits, 0).expect("a new store");
        let made = store.update(|tx| {
            tx.put_account("a@b", &credentials, 0)?;
            tx.put_administrator("a@b", "hash")
        });
        made.expect("room");
        let is_administrator = || store.read(|state| state.administrator("a@b").map(str::to_owned));
        assert_eq!(is_administrator().as_deref(), Some("hash"));
        store.update(|tx| tx.remove_account("a@b")).expect("there");
        let put = store.update(|tx| tx.put_administrator("a@b", "hash"));
        assert_eq!(put.map(|_| ()), Err(StoreError::NoAccount));
        store
            .update(|tx| tx.put_account("a@b", &credentials, 0))
            .expect("room");
        assert_eq!(is_administrator(), None);
        assert_eq!(store.read(|state| state.administrators().count()), 0);
    }
}
