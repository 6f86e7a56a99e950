//! What an account keeps at the server for itself and others.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// [`Kind::Vcard`](super::Kind::Vcard) with the `<vCard/>` element as payload
/// (XEP-0054), and [`Kind::VcardRemoved`](super::Kind::VcardRemoved) with
/// none; version 1 of both.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct VcardV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
}

/// [`Kind::Private`](super::Kind::Private) with the element as payload
/// (XEP-0049), and [`Kind::PrivateRemoved`](super::Kind::PrivateRemoved) with
/// none; version 1 of both.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct PrivateV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The element's local name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// The element's namespace.
    #[rkyv(with = InlineAsBox)]
    pub namespace: &'a str,
}

/// [`Kind::LastActivity`](super::Kind::LastActivity), version 1 (XEP-0012).
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct LastActivityV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// Unix time in milliseconds at which the last session ended.
    pub at_ms: u64,
    /// The status text of its unavailable presence.
    #[rkyv(with = InlineAsBox)]
    pub status: &'a str,
}
