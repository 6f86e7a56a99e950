//! Credentials, packed: one allocation an account.

use std::num::NonZeroU32;

use crate::crypto::population::Kind;
use crate::crypto::{Credentials, Hash, ScramKeys};
use crate::store::records::{ArchivedCredentialsV1, ArchivedScramV1, CredentialsV1, ScramV1};

/// Credentials in the form in which the state keeps them.
///
/// Two SCRAM parts (iterations as four bytes, the lengths of salt, stored key
/// and server key as one byte each, then those), and the argon2id text as the rest.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PackedCredentials(Box<[u8]>);

impl PackedCredentials {
    /// Packs credentials; `None` when a part is longer than any real one.
    pub(crate) fn pack(credentials: &CredentialsV1<'_>) -> Option<PackedCredentials> {
        let mut bytes = Vec::with_capacity(
            packed_len(&credentials.sha256)
                + packed_len(&credentials.sha1)
                + credentials.argon2id.len(),
        );
        pack_scram(&credentials.sha256, &mut bytes)?;
        pack_scram(&credentials.sha1, &mut bytes)?;
        bytes.extend_from_slice(credentials.argon2id.as_bytes());
        Some(PackedCredentials(bytes.into_boxed_slice()))
    }

    /// Packs credentials out of a record.
    pub(crate) fn from_archived(archived: &ArchivedCredentialsV1<'_>) -> Option<PackedCredentials> {
        PackedCredentials::pack(&CredentialsV1 {
            sha256: scram_of(&archived.sha256),
            sha1: scram_of(&archived.sha1),
            argon2id: &archived.argon2id,
        })
    }

    /// The credentials as log-ins need them; `None` when there is nothing that a
    /// password could be checked against.
    pub(crate) fn open(&self) -> Option<Credentials> {
        let view = self.view();
        if !view.argon2id.is_empty() {
            return Some(Credentials::Argon2id {
                phc: view.argon2id.to_owned(),
            });
        }
        if view.sha256.iterations == 0 {
            let keys = keys_of(Hash::Sha1, &view.sha1)?;
            return Some(Credentials::ScramSha1 { keys });
        }
        let sha256 = keys_of(Hash::Sha256, &view.sha256)?;
        Some(Credentials::Scram {
            sha256,
            sha1: keys_of(Hash::Sha1, &view.sha1),
        })
    }

    /// What can be told from outside about them. What no password can be right for looks like
    /// argon2id.
    pub(crate) fn kind(&self) -> Kind {
        let view = self.view();
        let of = |scram: &ScramV1<'_>| NonZeroU32::new(scram.iterations);
        match (of(&view.sha256), of(&view.sha1)) {
            _ if !view.argon2id.is_empty() => Kind::Argon2id,
            (Some(iterations), _) => Kind::Scram(iterations),
            (None, Some(iterations)) => Kind::ScramSha1(iterations),
            (None, None) => Kind::Argon2id,
        }
    }

    /// The credentials as a record holds them.
    pub(crate) fn view(&self) -> CredentialsV1<'_> {
        let (sha256, rest) = unpack_scram(&self.0);
        let (sha1, rest) = unpack_scram(rest);
        CredentialsV1 {
            sha256,
            sha1,
            argon2id: std::str::from_utf8(rest).expect("packed from a str"),
        }
    }
}

/// Says nothing: a credential has no place in a log line.
impl std::fmt::Debug for PackedCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackedCredentials(..)")
    }
}

/// Credentials as a record holds them.
pub(crate) fn record_of(credentials: &Credentials) -> CredentialsV1<'_> {
    match credentials {
        Credentials::Scram { sha256, sha1 } => CredentialsV1 {
            sha256: scram_record(sha256),
            sha1: sha1.as_ref().map(scram_record).unwrap_or_default(),
            argon2id: "",
        },
        Credentials::Argon2id { phc } => CredentialsV1 {
            argon2id: phc,
            ..CredentialsV1::default()
        },
        Credentials::ScramSha1 { keys } => CredentialsV1 {
            sha1: scram_record(keys),
            ..CredentialsV1::default()
        },
    }
}

fn scram_record(keys: &ScramKeys) -> ScramV1<'_> {
    ScramV1 {
        iterations: keys.iterations(),
        salt: keys.salt(),
        stored_key: keys.stored_key().as_bytes(),
        server_key: keys.server_key().as_bytes(),
    }
}

fn keys_of(hash: Hash, record: &ScramV1<'_>) -> Option<ScramKeys> {
    ScramKeys::from_parts(
        hash,
        record.salt,
        record.iterations,
        record.stored_key,
        record.server_key,
    )
    .ok()
}

const HEAD_BYTES: usize = 7;

fn packed_len(scram: &ScramV1<'_>) -> usize {
    HEAD_BYTES + scram.salt.len() + scram.stored_key.len() + scram.server_key.len()
}

fn pack_scram(scram: &ScramV1<'_>, into: &mut Vec<u8>) -> Option<()> {
    into.extend_from_slice(&scram.iterations.to_le_bytes());
    for part in [scram.salt, scram.stored_key, scram.server_key] {
        into.push(u8::try_from(part.len()).ok()?);
    }
    for part in [scram.salt, scram.stored_key, scram.server_key] {
        into.extend_from_slice(part);
    }
    Some(())
}

fn unpack_scram(bytes: &[u8]) -> (ScramV1<'_>, &[u8]) {
    let (head, rest) = bytes
        .split_first_chunk::<HEAD_BYTES>()
        .expect("packed with a head");
    let [i0, i1, i2, i3, salt, stored, server] = *head;
    let (salt, rest) = rest.split_at(usize::from(salt));
    let (stored_key, rest) = rest.split_at(usize::from(stored));
    let (server_key, rest) = rest.split_at(usize::from(server));
    let iterations = u32::from_le_bytes([i0, i1, i2, i3]);
    (
        ScramV1 {
            iterations,
            salt,
            stored_key,
            server_key,
        },
        rest,
    )
}

fn scram_of<'a>(archived: &'a ArchivedScramV1<'_>) -> ScramV1<'a> {
    ScramV1 {
        iterations: archived.iterations.to_native(),
        salt: &archived.salt,
        stored_key: &archived.stored_key,
        server_key: &archived.server_key,
    }
}
