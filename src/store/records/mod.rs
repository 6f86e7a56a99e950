//! The bodies of records: what each kind of record says, version by version.
//!
//! A body is an rkyv archive of one plain structure of this module (numbers,
//! strings and vectors of them, nothing shared, nothing hashed). It is only
//! ever opened by validating access. Stanza bytes and other big values are the
//! record's payload and stand beside the body, untouched.
//!
//! Rules that keep old logs readable for ever:
//! - a structure that was released is never edited: a change is a new
//!   structure with the next version, and the reader of the kind learns both;
//! - a version begins with a format of the log ([`version_in`]), and is written from that on;
//! - a kind's number is never used again;
//!   `tests/fixtures/records`, and a test opens each of them.

mod account;
mod checkpoint;
mod message;
mod profile;
mod roster;
mod session;
mod setting;

#[cfg(test)]
mod tests;

use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Portable, Serialize};

pub use account::{
    AccountBody, AccountRemovedV1, AccountV1, ArchivedAccountRemovedV1, ArchivedAccountV1,
    ArchivedCredentialsChangedV1, ArchivedCredentialsV1, ArchivedEnabledV1, ArchivedScramV1,
    CredentialsChangedV1, CredentialsV1, EnabledV1, ScramV1, encode_account,
};
pub use checkpoint::{
    AccountImageV1, ArchivedAccountImageV1, ArchivedRosterImageItemV1, ArchivedRosterImageV1,
    ArchivedSettingsImageV1, RemovalV1, RosterImageItemV1, RosterImageV1, SettingImageV1,
    SettingsImageV1,
};
pub use message::{ArchivedMessageV1, ArchivedRetiredV1, MessageV1, RetiredV1};
pub use profile::{
    ArchivedLastActivityV1, ArchivedPrivateV1, ArchivedVcardV1, LastActivityV1, PrivateV1, VcardV1,
};
pub use roster::{
    ArchivedRosterItemV1, ArchivedRosterRemovedV1, ArchivedSubscriptionRequestV1, RosterItemV1,
    RosterRemovedV1, SubscriptionRequestV1,
};
pub use session::{
    ArchivedHibernatedRemovedV1, ArchivedHibernatedV1, HibernatedRemovedV1, HibernatedV1,
    PropertyV1, QueuedV1,
};
pub use setting::{ArchivedSettingRemovedV1, ArchivedSettingV1, SettingRemovedV1, SettingV1};

/// What a record says. The numbers are part of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// An account exists, with these credentials.
    Account = 1,
    /// An account and all that belongs to it is gone.
    AccountRemoved = 2,
    /// An account's credentials are these from now on.
    CredentialsChanged = 3,
    /// An account may, or may not, log in.
    Enabled = 4,
    /// A roster item is as stated.
    RosterItem = 8,
    /// A roster item is gone.
    RosterRemoved = 9,
    /// Somebody asks for the account's presence; the payload is the stanza.
    SubscriptionRequest = 10,
    /// A request was answered or withdrawn.
    SubscriptionRequestRemoved = 11,
    /// A message waits for its recipient; the payload is the stanza.
    Message = 16,
    /// Messages have reached their recipient.
    Retired = 17,
    /// The account's vCard is the payload.
    Vcard = 24,
    /// The account's vCard is gone.
    VcardRemoved = 25,
    /// A private XML element is the payload.
    Private = 26,
    /// A private XML element is gone.
    PrivateRemoved = 27,
    /// When and how the account was last online.
    LastActivity = 28,
    /// A session waits to be resumed; the payload holds its queue.
    Hibernated = 32,
    /// A session was resumed, or will not be.
    HibernatedRemoved = 33,
    /// A value of the server itself.
    Setting = 40,
    /// A value of the server itself is gone.
    SettingRemoved = 41,
    /// Checkpoint: an account without its collections.
    AccountImage = 64,
    /// Checkpoint: items of the roster of the account before it.
    RosterImage = 65,
    /// Checkpoint: values of the server itself.
    SettingsImage = 66,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: &[Kind] = &[
        Kind::Account,
        Kind::AccountRemoved,
        Kind::CredentialsChanged,
        Kind::Enabled,
        Kind::RosterItem,
        Kind::RosterRemoved,
        Kind::SubscriptionRequest,
        Kind::SubscriptionRequestRemoved,
        Kind::Message,
        Kind::Retired,
        Kind::Vcard,
        Kind::VcardRemoved,
        Kind::Private,
        Kind::PrivateRemoved,
        Kind::LastActivity,
        Kind::Hibernated,
        Kind::HibernatedRemoved,
        Kind::Setting,
        Kind::SettingRemoved,
        Kind::AccountImage,
        Kind::RosterImage,
        Kind::SettingsImage,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| *kind as u8 == number)
    }

    /// Whether the value stays on the device and the state keeps its place,
    /// so that compaction has to move it.
    pub fn is_kept_by_place(self) -> bool {
        matches!(
            self,
            Kind::SubscriptionRequest
                | Kind::Message
                | Kind::Vcard
                | Kind::Private
                | Kind::Hibernated
        )
    }

    /// Whether it only ever makes room: such records are accepted by a full device.
    pub fn is_removal(self) -> bool {
        matches!(
            self,
            Kind::AccountRemoved
                | Kind::RosterRemoved
                | Kind::SubscriptionRequestRemoved
                | Kind::Retired
                | Kind::VcardRemoved
                | Kind::PrivateRemoved
                | Kind::HibernatedRemoved
                | Kind::SettingRemoved
        )
    }
}

/// The version in which a body of this kind is written to a log of this format. A version that is
/// new begins with a format that is new: whoever reads the format reads all of them.
#[must_use]
pub fn version_in(kind: Kind, format: u16) -> u8 {
    match (kind, format) {
        #[cfg(any(test, feature = "next-format"))]
        (Kind::Account, 2..) => 2,
        _ => 1,
    }
}

/// The newest version of a kind that this program reads.
#[must_use]
pub fn newest_version(kind: Kind) -> u8 {
    version_in(kind, u16::MAX)
}

/// A body that this version of the program cannot read: damaged behind a
/// matching checksum, of an unknown kind, or of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBody;

/// Appends the archive of `body` to `into`.
///
/// An archive has no alignment and only relative pointers, so it may start
/// anywhere in a larger buffer.
pub fn encode<T>(body: &T, into: &mut Vec<u8>)
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
{
    let writer = std::mem::take(into);
    *into = rkyv::api::high::to_bytes_in::<_, Failure>(body, writer)
        .expect("an archive of plain structures in memory cannot fail");
}

/// Opens an archive after checking all of it.
pub fn open<T>(body: &[u8]) -> Result<&T, BadBody>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Failure>>,
{
    rkyv::access::<T, Failure>(body).map_err(|_| BadBody)
}
