//! Accounts and their credentials.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// [`Kind::Account`](super::Kind::Account), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct AccountV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Whether it may log in.
    pub enabled: bool,
    /// How its password is checked.
    pub credentials: CredentialsV1<'a>,
}

/// [`Kind::AccountRemoved`](super::Kind::AccountRemoved), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct AccountRemovedV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
}

/// [`Kind::CredentialsChanged`](super::Kind::CredentialsChanged), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct CredentialsChangedV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// How its password is checked from now on.
    pub credentials: CredentialsV1<'a>,
}

/// [`Kind::Enabled`](super::Kind::Enabled), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct EnabledV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// Whether it may log in.
    pub enabled: bool,
}

/// Credentials as they stand in a record. A scheme that the account does not
/// use is empty: no stored key, no text.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default)]
pub struct CredentialsV1<'a> {
    /// SCRAM-SHA-256 (RFC 7677).
    pub sha256: ScramV1<'a>,
    /// SCRAM-SHA-1 (RFC 5802).
    pub sha1: ScramV1<'a>,
    /// The PHC string of an argon2id hash (RFC 9106).
    #[rkyv(with = InlineAsBox)]
    pub argon2id: &'a str,
}

/// What a server keeps for one SCRAM hash (RFC 5802 §3).
#[derive(Archive, Serialize, Clone, Copy, Debug, Default)]
pub struct ScramV1<'a> {
    /// The iteration count.
    pub iterations: u32,
    /// The salt.
    #[rkyv(with = InlineAsBox)]
    pub salt: &'a [u8],
    /// StoredKey.
    #[rkyv(with = InlineAsBox)]
    pub stored_key: &'a [u8],
    /// ServerKey.
    #[rkyv(with = InlineAsBox)]
    pub server_key: &'a [u8],
}
