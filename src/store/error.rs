//! Why the store refuses.

use std::fmt;

use super::batch::AppendError;

/// A refusal of the store. Nothing of what was asked has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The account exists already.
    AccountExists,
    /// There is no such account.
    NoAccount,
    /// The account holds as much as it may.
    Quota(Quota),
    /// One value is longer than it may be.
    TooBig {
        /// What it would take.
        bytes: usize,
        /// What it may take.
        bytes_max: usize,
    },
    /// A value that can stand in no record.
    Invalid(&'static str),
    /// The device is full; what removes is still accepted.
    Full,
    /// More waits to be written than may wait: try later.
    Overloaded,
    /// A write or sync has failed, or the store is closed: nothing is accepted
    /// or acknowledged any more.
    Failed(String),
    /// The value is not where it was: look its place up again.
    Moved,
    /// What should stand there cannot be read.
    Unreadable(String),
}

/// What an account may hold only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// The server's number of accounts.
    Accounts,
    /// Waiting messages, by number.
    Messages,
    /// Waiting messages, by bytes.
    MessageBytes,
    /// Roster items.
    RosterItems,
    /// The memory that all rosters share.
    RosterBytes,
    /// Unanswered requests for presence.
    SubscriptionRequests,
    /// Private XML elements.
    PrivateElements,
    /// Sleeping sessions.
    Sessions,
    /// The server's settings.
    Settings,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::AccountExists => f.write_str("the account exists already"),
            StoreError::NoAccount => f.write_str("there is no such account"),
            StoreError::Quota(quota) => write!(f, "there are too many {}", quota.what()),
            StoreError::TooBig { bytes, bytes_max } => {
                write!(
                    f,
                    "a value of {bytes} bytes is over the limit of {bytes_max}"
                )
            }
            StoreError::Invalid(what) => f.write_str(what),
            StoreError::Full => f.write_str("the store is full"),
            StoreError::Overloaded => f.write_str("too much waits to be written"),
            StoreError::Failed(why) => write!(f, "the store has failed: {why}"),
            StoreError::Moved => f.write_str("the value is not where it was"),
            StoreError::Unreadable(why) => write!(f, "a stored value cannot be read: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl Quota {
    /// What there is too much of.
    pub fn what(self) -> &'static str {
        match self {
            Quota::Accounts => "accounts",
            Quota::Messages => "waiting messages",
            Quota::MessageBytes => "bytes of waiting messages",
            Quota::RosterItems => "roster items",
            Quota::RosterBytes => "big rosters on this server",
            Quota::SubscriptionRequests => "unanswered subscription requests",
            Quota::PrivateElements => "private XML elements",
            Quota::Sessions => "sleeping sessions",
            Quota::Settings => "settings",
        }
    }
}

impl From<AppendError> for StoreError {
    fn from(error: AppendError) -> StoreError {
        match error {
            AppendError::Full => StoreError::Full,
            AppendError::TooBig { bytes, bytes_max } => StoreError::TooBig { bytes, bytes_max },
            AppendError::Overloaded => StoreError::Overloaded,
            AppendError::Poisoned(why) => StoreError::Failed(why),
            AppendError::Closed => StoreError::Failed("it is closed".to_owned()),
            AppendError::Refused(why) => StoreError::Failed(why.to_string()),
        }
    }
}
