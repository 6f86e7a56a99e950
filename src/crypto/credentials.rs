//! What the store keeps instead of a password, and checking a password against it.

use std::fmt;
use std::num::NonZeroU32;

use super::argon2id::{self, Argon2Memory};
use super::population::Kind;
use super::{Digest, Hash, Password, hmac_sha256};

/// Iterations of new SCRAM keys. RFC 7677 asks for 4096 at least; more is CPU of
/// every client at every log-in.
pub const ITERATIONS_DEFAULT: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Iterations that are still sound (RFC 7677 §4), and that we are willing to do.
const ITERATIONS_RANGE: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;
const SALT_BYTES_MAX: usize = 64;
const SALT_BYTES: usize = 16;

/// The keys of RFC 5802 §3 for one hash function: enough to authenticate a client and
/// to prove ourselves to it, not enough to log in as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramKeys {
    hash: Hash,
    salt: Box<[u8]>,
    iterations: NonZeroU32,
    stored_key: Digest,
    server_key: Digest,
}

impl ScramKeys {
    /// Derives the keys from a password.
    pub fn derive(
        hash: Hash,
        password: &Password,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> ScramKeys {
        let salted_password = hash.pbkdf2(password.as_bytes(), salt, iterations);
        let client_key = hash.hmac(salted_password.as_bytes(), b"Client Key");
        ScramKeys {
            hash,
            salt: salt.into(),
            iterations,
            stored_key: hash.digest(client_key.as_bytes()),
            server_key: hash.hmac(salted_password.as_bytes(), b"Server Key"),
        }
    }

    /// Takes keys from the store or from an import (XEP-0227), checked for length.
    pub fn from_parts(
        hash: Hash,
        salt: &[u8],
        iterations: u32,
        stored_key: &[u8],
        server_key: &[u8],
    ) -> Result<ScramKeys, InvalidKeys> {
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX || iterations > *ITERATIONS_RANGE.end() {
            return Err(InvalidKeys);
        }
        Ok(ScramKeys {
            hash,
            salt: salt.into(),
            iterations: NonZeroU32::new(iterations).ok_or(InvalidKeys)?,
            stored_key: Digest::from_bytes(hash, stored_key).ok_or(InvalidKeys)?,
            server_key: Digest::from_bytes(hash, server_key).ok_or(InvalidKeys)?,
        })
    }

    /// The hash function that the keys are for.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The salt, which every client is told.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations, which every client is told.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// `StoredKey`, which checks a client's proof.
    pub fn stored_key(&self) -> &Digest {
        &self.stored_key
    }

    /// `ServerKey`, which makes our signature.
    pub fn server_key(&self) -> &Digest {
        &self.server_key
    }

    /// Whether the keys derive from this password.
    pub fn check(&self, password: &Password) -> bool {
        let derived = ScramKeys::derive(self.hash, password, &self.salt, self.iterations);
        derived.stored_key == self.stored_key
    }
}

/// Keys of another place that cannot be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKeys;

impl fmt::Display for InvalidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the SCRAM keys have wrong lengths or an iteration count out of range")
    }
}

impl std::error::Error for InvalidKeys {}

/// What is kept of a password (`[auth] store`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// SCRAM keys: the password never crosses the wire, and whoever steals the store
    /// can guess at PBKDF2's price, or pose as the server to that user.
    Scram {
        /// Keep keys for SCRAM-SHA-1 too, which older clients need.
        sha1: bool,
        /// Iterations of new keys.
        iterations: NonZeroU32,
    },
    /// An argon2id hash: guessing costs memory, and only PLAIN can be offered.
    Argon2id,
    /// As other servers kept it (XEP-0227), and never configured.
    ScramSha1 {
        /// Iterations of the keys.
        iterations: NonZeroU32,
    },
}

impl Default for Scheme {
    fn default() -> Scheme {
        Scheme::Scram {
            sha1: true,
            iterations: ITERATIONS_DEFAULT,
        }
    }
}

/// What the store keeps of an account's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Keys for the SCRAM mechanisms; PLAIN is checked against them as well.
    Scram {
        /// For SCRAM-SHA-256.
        sha256: ScramKeys,
        /// For SCRAM-SHA-1, unless switched off.
        sha1: Option<ScramKeys>,
    },
    /// A PHC string; only PLAIN can be checked against it.
    Argon2id {
        /// The string.
        phc: String,
    },
    /// Keys for SCRAM-SHA-1 alone, from a server that had no others. PLAIN is checked against
    /// them, and then there are better ones.
    ScramSha1 {
        /// The keys.
        keys: ScramKeys,
    },
}

/// Which credentials somebody has proved to know. Salts are random, so a new password, or the same
/// one set again, has another id, and so has the next owner of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialsId([u8; 32]);

/// Says nothing: it derives from what is secret.
impl fmt::Debug for CredentialsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsId(..)")
    }
}

impl Credentials {
    /// Tells these credentials from any others.
    pub fn id(&self) -> CredentialsId {
        let of_keys = |keys: &ScramKeys| {
            let parts: [&[u8]; 4] = [
                &keys.iterations().to_be_bytes(),
                keys.stored_key.as_bytes(),
                keys.server_key.as_bytes(),
                &keys.salt,
            ];
            hmac_sha256(b"SCRAM", &parts)
        };
        CredentialsId(match self {
            Credentials::Scram { sha256, sha1 } => {
                let sha1 = sha1.as_ref().map_or([0; 32], of_keys);
                hmac_sha256(b"both", &[&of_keys(sha256), &sha1])
            }
            Credentials::Argon2id { phc } => hmac_sha256(b"argon2id", &[phc.as_bytes()]),
            Credentials::ScramSha1 { keys } => hmac_sha256(b"SHA-1 alone", &[&of_keys(keys)]),
        })
    }

    /// Makes credentials for a new password. `random` are fresh random bytes; the
    /// memory is used for [`Scheme::Argon2id`] only.
    pub fn new(
        scheme: Scheme,
        password: &Password,
        random: &[u8; 32],
        memory: &mut Argon2Memory,
    ) -> Credentials {
        let (salt, other_salt) = halves(random);
        match scheme {
            Scheme::Scram { sha1, iterations } => Credentials::Scram {
                sha256: ScramKeys::derive(Hash::Sha256, password, &salt, iterations),
                sha1: sha1
                    .then(|| ScramKeys::derive(Hash::Sha1, password, &other_salt, iterations)),
            },
            Scheme::Argon2id => Credentials::Argon2id {
                phc: argon2id::hash(password, &salt, memory),
            },
            Scheme::ScramSha1 { iterations } => Credentials::ScramSha1 {
                keys: ScramKeys::derive(Hash::Sha1, password, &other_salt, iterations),
            },
        }
    }

    /// What can be told from outside about them.
    pub fn kind(&self) -> Kind {
        match self {
            Credentials::Scram { sha256, .. } => Kind::Scram(sha256.iterations),
            Credentials::Argon2id { .. } => Kind::Argon2id,
            Credentials::ScramSha1 { keys } => Kind::ScramSha1(keys.iterations),
        }
    }

    /// The SCRAM keys for one hash function, if they were kept.
    pub fn scram(&self, hash: Hash) -> Option<&ScramKeys> {
        match (self, hash) {
            (Credentials::Scram { sha256, .. }, Hash::Sha256) => Some(sha256),
            (Credentials::Scram { sha1, .. }, Hash::Sha1) => sha1.as_ref(),
            (Credentials::ScramSha1 { keys }, Hash::Sha1) => Some(keys),
            (Credentials::ScramSha1 { .. }, Hash::Sha256) | (Credentials::Argon2id { .. }, _) => {
                None
            }
        }
    }

    /// Whether this is the password. Takes milliseconds (SCRAM keys) or tens of them
    /// and the memory (argon2id): not for a thread that serves connections.
    pub fn check_plain(&self, password: &Password, memory: &mut Argon2Memory) -> bool {
        match self {
            Credentials::Scram { sha256, .. } => sha256.check(password),
            Credentials::Argon2id { phc } => argon2id::verify(password, phc, memory),
            Credentials::ScramSha1 { keys } => keys.check(password),
        }
    }

    /// Whether credentials of this scheme would be better than these: another kind,
    /// fewer iterations, missing or unwanted keys for SHA-1, a hash that was made elsewhere with
    /// other parameters than ours.
    pub fn is_outdated(&self, scheme: Scheme) -> bool {
        match (self, scheme) {
            (
                Credentials::Scram { sha256, sha1 },
                Scheme::Scram {
                    sha1: wanted,
                    iterations,
                },
            ) => {
                sha256.iterations < iterations
                    || sha1.is_some() != wanted
                    || sha1
                        .as_ref()
                        .is_some_and(|keys| keys.iterations < iterations)
            }
            (Credentials::Argon2id { phc }, Scheme::Argon2id) => !argon2id::is_ours(phc),
            _ => true,
        }
    }
}

/// Credentials for a user who does not exist: always the same for the same name, so
/// that asking for a salt does not tell who has an account. No password matches them.
pub fn fake_credentials(secret: &[u8; 32], username: &str, scheme: Scheme) -> Credentials {
    let derive =
        |what: &[u8]| hmac_sha256(secret, &[b"fake credentials", what, username.as_bytes()]);
    let (salt, other_salt) = halves(&derive(b"salts"));
    let keys = |hash: Hash, salt: &[u8], iterations| {
        let key = derive(b"key");
        let stored_key = Digest::from_bytes(hash, &key[..hash.length()]);
        let stored_key = stored_key.expect("a SHA-256 is no shorter than a digest");
        ScramKeys {
            hash,
            salt: salt.into(),
            iterations,
            server_key: stored_key.clone(),
            stored_key,
        }
    };
    match scheme {
        Scheme::Scram { sha1, iterations } => Credentials::Scram {
            sha256: keys(Hash::Sha256, &salt, iterations),
            sha1: sha1.then(|| keys(Hash::Sha1, &other_salt, iterations)),
        },
        Scheme::ScramSha1 { iterations } => Credentials::ScramSha1 {
            keys: keys(Hash::Sha1, &other_salt, iterations),
        },
        Scheme::Argon2id => Credentials::Argon2id {
            phc: argon2id::unmatchable(&salt, &derive(b"hash")),
        },
    }
}

/// A password that a client sent, to be checked where it may take its time.
pub struct PasswordCheck {
    credentials: Credentials,
    password: Password,
}

impl PasswordCheck {
    /// A check of that password against those credentials.
    pub fn new(credentials: Credentials, password: Password) -> PasswordCheck {
        PasswordCheck {
            credentials,
            password,
        }
    }

    /// Does the work; see [`Credentials::check_plain`].
    pub fn run(&self, memory: &mut Argon2Memory) -> bool {
        self.credentials.check_plain(&self.password, memory)
    }

    /// Likewise, against other credentials.
    pub fn run_against(&self, credentials: &Credentials, memory: &mut Argon2Memory) -> bool {
        credentials.check_plain(&self.password, memory)
    }

    /// The credentials that are checked against.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Better credentials for the same password, when the kept ones are outdated; never with fewer
    /// iterations than they had. Only to be called after [`run`](PasswordCheck::run) said yes.
    pub fn upgrade(
        &self,
        scheme: Scheme,
        random: &[u8; 32],
        memory: &mut Argon2Memory,
    ) -> Option<Credentials> {
        if !self.credentials.is_outdated(scheme) {
            return None;
        }
        let scheme = match (scheme, self.credentials.kind()) {
            (Scheme::Scram { sha1, iterations }, Kind::Scram(kept) | Kind::ScramSha1(kept)) => {
                Scheme::Scram {
                    sha1,
                    iterations: iterations.max(kept),
                }
            }
            _ => scheme,
        };
        Some(Credentials::new(scheme, &self.password, random, memory))
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordCheck")
    }
}

fn halves(random: &[u8; 32]) -> ([u8; SALT_BYTES], [u8; SALT_BYTES]) {
    let (mut first, mut second) = ([0; SALT_BYTES], [0; SALT_BYTES]);
    first.copy_from_slice(&random[..SALT_BYTES]);
    second.copy_from_slice(&random[SALT_BYTES..]);
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: Scheme = Scheme::Scram {
        sha1: true,
        iterations: ITERATIONS_DEFAULT,
    };

    fn password(typed: &str) -> Password {
        Password::prepare(typed).unwrap()
    }

    #[test]
    fn plain_is_checked_against_scram_keys() {
        let mut memory = Argon2Memory::new();
        let credentials = Credentials::new(SCRAM, &password("pencil"), &[1; 32], &mut memory);
        assert!(credentials.check_plain(&password("pencil"), &mut memory));
        assert!(!credentials.check_plain(&password("pencils"), &mut memory));
        let check = PasswordCheck::new(credentials.clone(), password("pencil"));
        assert!(check.run(&mut memory));
        assert_eq!(check.upgrade(SCRAM, &[2; 32], &mut memory), None);
        let sha256_only = Scheme::Scram {
            sha1: false,
            iterations: ITERATIONS_DEFAULT,
        };
        let upgraded = check.upgrade(sha256_only, &[2; 32], &mut memory).unwrap();
        assert_eq!(upgraded.scram(Hash::Sha1), None);
        assert!(credentials.is_outdated(Scheme::Argon2id));
    }

    #[test]
    fn keys_for_sha_1_alone_check_a_password_and_give_way_to_better_ones() {
        let (mut memory, kept) = (Argon2Memory::new(), NonZeroU32::new(20_000).unwrap());
        let scheme = Scheme::ScramSha1 { iterations: kept };
        let credentials = Credentials::new(scheme, &password("pencil"), &[1; 32], &mut memory);
        assert_eq!(credentials.scram(Hash::Sha256), None);
        assert!(credentials.scram(Hash::Sha1).is_some());
        assert!(!credentials.check_plain(&password("pencils"), &mut memory));
        let check = PasswordCheck::new(credentials.clone(), password("pencil"));
        assert!(check.run(&mut memory));
        let upgraded = check.upgrade(SCRAM, &[2; 32], &mut memory).unwrap();
        assert_eq!(upgraded.kind(), Kind::Scram(kept));
        assert_ne!(upgraded.id(), credentials.id());
        let hash = check.upgrade(Scheme::Argon2id, &[2; 32], &mut memory);
        assert_eq!(hash.unwrap().kind(), Kind::Argon2id);
        let fake = fake_credentials(&[3; 32], "nobody", scheme);
        assert_eq!(fake.kind(), credentials.kind());
    }

    #[test]
    fn fake_credentials_are_stable_and_match_nothing() {
        let fake = fake_credentials(&[3; 32], "nobody", SCRAM);
        assert_eq!(fake, fake_credentials(&[3; 32], "nobody", SCRAM));
        let other = fake_credentials(&[3; 32], "somebody", SCRAM);
        let salt =
            |credentials: &Credentials| credentials.scram(Hash::Sha256).unwrap().salt().to_vec();
        assert_ne!(salt(&fake), salt(&other));
        assert_ne!(salt(&fake), fake.scram(Hash::Sha1).unwrap().salt());
        assert_eq!(salt(&fake).len(), SALT_BYTES);
        assert!(!fake.check_plain(&password("x"), &mut Argon2Memory::new()));
        let Credentials::Argon2id { phc } = fake_credentials(&[3; 32], "x", Scheme::Argon2id)
        else {
            panic!("another scheme");
        };
        assert!(argon2id::is_valid(&phc));
    }

    #[test]
    fn keys_from_elsewhere_are_checked() {
        let parts = |salt: &[u8], iterations, stored: &[u8]| {
            ScramKeys::from_parts(Hash::Sha1, salt, iterations, stored, &[0; 20]).is_ok()
        };
        assert!(parts(b"salt", 4096, &[0; 20]));
        assert!(!parts(b"", 4096, &[0; 20]));
        assert!(!parts(b"salt", 0, &[0; 20]));
        assert!(!parts(b"salt", 2_000_000, &[0; 20]));
        assert!(!parts(b"salt", 4096, &[0; 32]));
    }
}
