//! All accounts, by bare JID.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::account::{Account, domain_of};
use super::credentials::PackedCredentials;
use crate::crypto::population::{Kind, Population};

/// The accounts stand in numbered slots, so that a checkpoint can walk them in
/// slices while accounts come and go; a map finds the slot of a bare JID.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    slots: Vec<Option<Account>>,
    free: Vec<u32>,
    by_owner: HashMap<Arc<str>, u32>,
    /// By domain: how passwords are kept may differ between them.
    populations: BTreeMap<Box<str>, Population>,
    roster_bytes: usize,
}

impl Accounts {
    pub(super) fn len(&self) -> usize {
        self.by_owner.len()
    }

    /// How many slots there are, used and free.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The account in a slot.
    pub(super) fn slot(&self, number: usize) -> Option<&Account> {
        self.slots.get(number)?.as_ref()
    }

    pub(super) fn find(&self, owner: &str) -> Option<&Account> {
        self.slots[*self.by_owner.get(owner)? as usize].as_ref()
    }

    pub(super) fn find_mut(&mut self, owner: &str) -> Option<&mut Account> {
        self.slots[*self.by_owner.get(owner)? as usize].as_mut()
    }

    /// What all rosters together take of the pool that they share.
    pub(super) fn roster_bytes(&self) -> usize {
        self.roster_bytes
    }

    /// A roster that took so many bytes of the pool takes so many now.
    pub(super) fn roster_changed(&mut self, before: usize, after: usize) {
        self.roster_bytes = self.roster_bytes + after - before;
    }

    /// How the passwords of a domain's accounts are kept; `None` where it has none.
    pub(super) fn population(&self, domain: &str) -> Option<&Population> {
        self.populations.get(domain)
    }

    /// The same of all domains that have accounts.
    pub(super) fn populations(&self) -> impl Iterator<Item = (&str, &Population)> {
        let populations = self.populations.iter();
        populations.map(|(domain, population)| (&**domain, population))
    }

    /// Gives the account in `owner` other credentials.
    pub(super) fn set_credentials(&mut self, owner: &str, credentials: PackedCredentials) {
        let Some(&number) = self.by_owner.get(owner) else {
            return;
        };
        let Some(account) = &mut self.slots[number as usize] else {
            return;
        };
        let (before, after) = (account.credentials.kind(), credentials.kind());
        account.credentials = credentials;
        self.uncount(owner, before);
        self.count(owner, after);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.slots.iter().flatten()
    }

    /// Adds an account whose owner has none yet.
    pub(super) fn insert(&mut self, account: Account) {
        let owner = Arc::clone(&account.owner);
        self.count(&owner, account.credentials.kind());
        self.roster_changed(0, account.roster().shared_bytes());
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(account);
                number
            }
            None => {
                self.slots.push(Some(account));
                u32::try_from(self.slots.len() - 1)
                    .expect("fewer than four billion accounts fit the memory")
            }
        };
        let before = self.by_owner.insert(owner, number);
        debug_assert!(before.is_none(), "an owner has one account");
    }

    pub(super) fn remove(&mut self, owner: &str) -> Option<Account> {
        let number = self.by_owner.remove(owner)?;
        self.free.push(number);
        let removed = self.slots[number as usize].take();
        if let Some(account) = &removed {
            self.roster_changed(account.roster().shared_bytes(), 0);
            self.uncount(owner, account.credentials.kind());
        }
        removed
    }

    fn count(&mut self, owner: &str, kind: Kind) {
        let domain = domain_of(owner);
        match self.populations.get_mut(domain) {
            Some(population) => population.add(kind),
            None => self.populations.entry(domain.into()).or_default().add(kind),
        }
    }

    fn uncount(&mut self, owner: &str, kind: Kind) {
        let domain = domain_of(owner);
        if let Some(population) = self.populations.get_mut(domain) {
            population.remove(kind);
            if population.is_empty() {
                self.populations.remove(domain);
            }
        }
    }
}
