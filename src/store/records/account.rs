//! Accounts and their credentials.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use super::{BadBody, encode, open};

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

/// [`Kind::Account`](super::Kind::Account), version 2: of a format that no release has, by which
/// the tests of upgrades tell what an older version cannot read.
#[cfg(any(test, feature = "next-format"))]
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct AccountV2<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Bit 0: it may log in.
    pub rights: u16,
    /// How its password is checked.
    pub credentials: CredentialsV1<'a>,
}

/// What a body of [`Kind::Account`](super::Kind::Account) says, of whatever version.
pub struct AccountBody<'a> {
    /// The bare JID.
    pub owner: &'a str,
    /// Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Whether it may log in.
    pub enabled: bool,
    /// How its password is checked.
    pub credentials: &'a ArchivedCredentialsV1<'a>,
}

impl<'a> AccountBody<'a> {
    /// Opens a body after checking all of it.
    pub fn open(version: u8, body: &'a [u8]) -> Result<AccountBody<'a>, BadBody> {
        Ok(match version {
            1 => {
                let body = open::<ArchivedAccountV1<'_>>(body)?;
                AccountBody {
                    owner: &body.owner,
                    created_at_ms: body.created_at_ms.to_native(),
                    enabled: body.enabled,
                    credentials: &body.credentials,
                }
            }
            #[cfg(any(test, feature = "next-format"))]
            2 => {
                let body = open::<ArchivedAccountV2<'_>>(body)?;
                AccountBody {
                    owner: &body.owner,
                    created_at_ms: body.created_at_ms.to_native(),
                    enabled: body.rights.to_native() & 1 == 1,
                    credentials: &body.credentials,
                }
            }
            _ => return Err(BadBody),
        })
    }
}

/// Appends an account's body in this version.
pub fn encode_account(record: &AccountV1<'_>, version: u8, into: &mut Vec<u8>) {
    match version {
        #[cfg(any(test, feature = "next-format"))]
        2 => {
            let AccountV1 {
                owner,
                created_at_ms,
                enabled,
                credentials,
            } = *record;
            let rights = u16::from(enabled);
            encode(
                &AccountV2 {
                    owner,
                    created_at_ms,
                    rights,
                    credentials,
                },
                into,
            );
        }
        _ => encode(record, into),
    }
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
