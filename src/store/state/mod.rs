//! The state that the log folds into: everything that the server knows of its
//! accounts, small values themselves and big ones by their place on the device.
//!
//! **Order.** Every account remembers the last record that it reflects
//! (`through`), and a checkpoint writes all of an account under one lock. So a
//! record that is folded over a checkpoint is either older than the account's
//! image, and then only says where a value stands, or newer, and then counts.
//! That makes "checkpoint slices, then the tail" the same state as "every
//! record", wherever the slices fell between the records.

mod account;
mod accounts;
mod checkpoint;
mod credentials;
mod describe;
mod fold;
mod hibernated;
mod messages;
mod profile;
mod roster;
mod settings;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fold_tests;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use hibernated::{HibernatedSession, QueuedStanza};
pub use messages::{MessageId, Messages, OUTBOUND, StoredMessage};
pub use roster::{REMOVALS_MAX, Roster, RosterChange, RosterEntry, RosterItem, Subscription};

pub(crate) use credentials::record_of;
pub(crate) use messages::encode_runs;
pub(crate) use roster::is_roster_text;

use std::collections::BTreeMap;

use accounts::Accounts;
use settings::Settings;

use crate::crypto::population::Population;

/// Everything that the server remembers.
#[derive(Debug, Default)]
pub struct State {
    accounts: Accounts,
    settings: Settings,
    /// Restored from damaged checkpoints, so an account may not reflect what it
    /// says it does. Each record then counts in the order of the log.
    patchy: bool,
}

impl State {
    /// A state in which nothing ever happened.
    pub fn new() -> State {
        State::default()
    }

    /// The account of a bare JID, normalised.
    pub fn account(&self, owner: &str) -> Option<&Account> {
        self.accounts.find(owner)
    }

    /// All accounts, in no particular order.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    /// The bare JIDs of accounts behind `after`, in their order, at most `count`.
    pub fn accounts_behind(&self, after: &str, count: usize) -> Vec<String> {
        let owners = self.accounts().map(Account::owner);
        let mut owners: Vec<&str> = owners.filter(|owner| *owner > after).collect();
        if owners.len() > count {
            owners.select_nth_unstable(count);
            owners.truncate(count);
        }
        owners.sort_unstable();
        owners.into_iter().map(str::to_owned).collect()
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    /// How many accounts there are of each domain that has any.
    pub fn accounts_by_domain(&self) -> BTreeMap<String, usize> {
        let populations = self.accounts.populations();
        let each = |(domain, all): (&str, &Population)| (domain.to_owned(), all.len());
        populations.map(each).collect()
    }

    /// Bytes of memory that all rosters take beyond what each account has for its own.
    pub fn roster_bytes(&self) -> usize {
        self.accounts.roster_bytes()
    }

    /// How the passwords of the accounts of this domain are kept: a name that nobody has there is
    /// to look like one of them, and not like those of another domain.
    pub fn population(&self, domain: &str) -> &Population {
        static NOBODY: Population = Population::nobody();
        self.accounts.population(domain).unwrap_or(&NOBODY)
    }

    /// A value of the server itself.
    pub fn setting(&self, name: &str) -> Option<&[u8]> {
        self.settings.find(name)
    }

    /// All values of the server itself, by name.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.settings.iter()
    }
}
