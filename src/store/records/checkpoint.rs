//! What a checkpoint holds of the state.
//!
//! All items of one account are written under one lock, one behind the other,
//! and say together what its records up to `through` add up to: first its
//! image, then its roster, then the records whose values stay on the device,
//! each with its own body and its place.

use rkyv::with::{InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use super::account::CredentialsV1;

/// [`Kind::AccountImage`](super::Kind::AccountImage), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct AccountImageV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The sequence number of the last record that this image reflects.
    pub through: u64,
    /// Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Whether it may log in.
    pub enabled: bool,
    /// How its password is checked.
    pub credentials: CredentialsV1<'a>,
    /// When the last session ended; 0 when none ever has.
    pub last_activity_ms: u64,
    /// The status text of its unavailable presence.
    #[rkyv(with = InlineAsBox)]
    pub last_status: &'a str,
}

/// [`Kind::RosterImage`](super::Kind::RosterImage), version 1.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct RosterImageV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The version of the last change.
    pub version: u64,
    /// The version up to which removals are no longer known.
    pub horizon: u64,
    /// Items, in the roster's order.
    pub items: Vec<RosterImageItemV1<'a>>,
    /// Removals that are still known, oldest first.
    pub removals: Vec<RemovalV1<'a>>,
}

/// An item of a roster.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct RosterImageItemV1<'a> {
    /// The JID of the contact.
    #[rkyv(with = InlineAsBox)]
    pub contact: &'a str,
    /// The contact's handle; empty when it has none.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// The groups that it stands in.
    #[rkyv(with = Map<InlineAsBox>)]
    pub groups: Vec<&'a str>,
    /// As in [`RosterItemV1`](super::RosterItemV1).
    pub flags: u8,
    /// The version of its last change.
    pub version: u64,
}

/// An item that is gone from a roster.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct RemovalV1<'a> {
    /// The JID of the contact.
    #[rkyv(with = InlineAsBox)]
    pub contact: &'a str,
    /// The version of the removal.
    pub version: u64,
}

/// [`Kind::SettingsImage`](super::Kind::SettingsImage), version 1.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct SettingsImageV1<'a> {
    /// Whether it starts the list; the others add to it.
    pub first: bool,
    /// The sequence number of the last record that this image reflects.
    pub through: u64,
    /// The values.
    pub settings: Vec<SettingImageV1<'a>>,
}

/// A value of the server itself.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SettingImageV1<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Its value.
    #[rkyv(with = InlineAsBox)]
    pub value: &'a [u8],
}
