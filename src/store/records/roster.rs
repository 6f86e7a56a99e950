//! Roster items and requests for presence.

use rkyv::with::{InlineAsBox, Map};
use rkyv::{Archive, Serialize};

/// [`Kind::RosterItem`](super::Kind::RosterItem), version 1. The item's
/// version is the record's sequence number.
#[derive(Archive, Serialize, Clone, Debug)]
pub struct RosterItemV1<'a> {
    /// The bare JID of the account.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The JID of the contact.
    #[rkyv(with = InlineAsBox)]
    pub contact: &'a str,
    /// The contact's handle; empty when it has none.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// The groups that it stands in.
    #[rkyv(with = Map<InlineAsBox>)]
    pub groups: Vec<&'a str>,
    /// Bits 0 and 1: subscription (0 none, 1 to, 2 from, 3 both); bit 2: ask;
    /// bit 3: approved.
    pub flags: u8,
}

/// [`Kind::RosterRemoved`](super::Kind::RosterRemoved), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct RosterRemovedV1<'a> {
    /// The bare JID of the account.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The JID of the contact.
    #[rkyv(with = InlineAsBox)]
    pub contact: &'a str,
}

/// [`Kind::SubscriptionRequest`](super::Kind::SubscriptionRequest) with the
/// presence stanza as payload, and
/// [`Kind::SubscriptionRequestRemoved`](super::Kind::SubscriptionRequestRemoved)
/// with none; version 1 of both.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SubscriptionRequestV1<'a> {
    /// The bare JID of the account that is asked.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The bare JID that asks.
    #[rkyv(with = InlineAsBox)]
    pub contact: &'a str,
}
