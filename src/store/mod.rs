//! The store: one append-only log on one device, and the state it folds into.
//!
//! `docs/log-format.md` draws every byte. The log itself ([`log`]) is pure over
//! [`disk::Device`]: it owns no thread, clock or lock. [`state`] is what it
//! folds into, [`records`] are the statements it holds. [`Store`] is both behind
//! one lock, and all that the rest of the server sees.

pub mod batch;
pub mod buffer;
pub mod chore;
pub mod commit;
pub mod disk;
pub mod fold;
pub mod format;
pub mod formats;
pub mod log;
pub mod read;
pub mod records;
pub mod report;
pub mod restoring;
pub mod sim;
pub mod state;
pub mod superblock;
pub mod verify;
pub mod xep0227;

mod administrators;
mod checkpoint;
mod compact;
mod draft;
mod erase;
mod error;
mod fetch;
mod fuse;
mod group;
mod hole;
mod limits;
mod lost;
mod own;
mod recover;
mod replay;
mod restore;
mod segment;
mod stanza_id;
#[allow(
    clippy::module_inception,
    reason = "the façade is what the whole is named after"
)]
mod store;
mod tx;
mod walk;

#[cfg(test)]
mod tests;

pub use error::{Quota, StoreError};
pub use fetch::StoredValue;
pub use fold::{Place, Position};
pub use formats::Formats;
pub use limits::StoreLimits;
pub use log::{Log, Options};
pub use report::{OpenError, Recovery};
pub use state::{
    Account, HibernatedSession, MessageId, OUTBOUND, QueuedStanza, Roster, RosterChange,
    RosterEntry, RosterItem, State, StoredMessage, Subscription,
};
pub use store::{OnDurable, OnFailure, Step, Store, StoreStat};
pub use tx::Tx;
