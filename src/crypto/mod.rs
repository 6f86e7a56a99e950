//! Authentication: SCRAM, PLAIN, what the store keeps instead of passwords, tokens.
//!
//! Digests, HMAC and PBKDF2 are ring's, argon2id is RustCrypto's; what is here are
//! the protocols around them. Comparisons of secrets take constant time, secrets are
//! overwritten when they are dropped (as far as ring and the allocator let us).
//!
//! Architecture invariant: pure. Randomness is an argument, memory that argon2 needs
//! too, and nothing here knows a stream or the store.

pub mod argon2id;
mod argon2pool;
mod binding;
mod credentials;
mod hash;
mod password;
pub mod plain;
pub mod population;
pub mod scram;
pub mod sealed;
pub mod token;

pub use argon2pool::Argon2Pool;
pub use binding::{BindingType, ChannelBindings};
pub use credentials::{
    Credentials, CredentialsId, ITERATIONS_DEFAULT, InvalidKeys, PasswordCheck, Scheme, ScramKeys,
    fake_credentials,
};
pub use hash::{Digest, Hash, constant_time_eq, hmac_sha256};
pub use password::{Password, PasswordError};
