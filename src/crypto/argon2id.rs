//! argon2id (RFC 9106) for accounts without SCRAM keys and for administrators.
//!
//! A hash is kept as a PHC string, `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`. The
//! memory is one [`Argon2Memory`] that the caller owns and lends, so that the number
//! of hashes under way, and what they occupy, are the caller's to bound.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Password, constant_time_eq};

/// Memory of one hash, in KiB: 19 MiB, the first of the OWASP recommendations.
pub const MEMORY_KIB: u32 = 19_456;
/// Passes over the memory.
pub const PASSES: u32 = 2;
/// Bytes of salt that a new hash is made with.
pub const SALT_BYTES: usize = 16;
/// Bytes of a new hash.
pub const HASH_BYTES: usize = 32;

/// The most passes and lanes that a hash from elsewhere (an import) may ask for.
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;
const FIELD_BYTES_MAX: usize = 64;

/// The memory of one argon2 at a time: taken at the first use, kept until dropped.
#[derive(Default)]
pub struct Argon2Memory {
    blocks: Vec<Block>,
}

impl Argon2Memory {
    /// Bytes that it occupies once it was used.
    pub const BYTES: usize = MEMORY_KIB as usize * 1024;

    /// Memory that is taken at the first use.
    pub fn new() -> Argon2Memory {
        Argon2Memory::default()
    }

    fn blocks(&mut self) -> &mut [Block] {
        if self.blocks.is_empty() {
            self.blocks = vec![Block::new(); MEMORY_KIB as usize];
        }
        &mut self.blocks
    }
}

impl fmt::Debug for Argon2Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Argon2Memory({} blocks)", self.blocks.len())
    }
}

/// Hashes a password with our parameters to a PHC string.
pub fn hash(password: &Password, salt: &[u8; SALT_BYTES], memory: &mut Argon2Memory) -> String {
    let mut phc = Phc {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: 1,
        salt: salt.to_vec(),
        hash: vec![0; HASH_BYTES],
    };
    phc.hash = phc
        .compute(password, memory)
        .expect("our own parameters fit our own memory");
    phc.to_string()
}

/// Whether the password is that of the PHC string. A string that is no argon2id hash,
/// or asks for more than [`MEMORY_KIB`], matches nothing.
pub fn verify(password: &Password, phc: &str, memory: &mut Argon2Memory) -> bool {
    let Some(phc) = Phc::parse(phc) else {
        return false;
    };
    phc.compute(password, memory)
        .is_some_and(|hash| constant_time_eq(&hash, &phc.hash))
}

/// Whether a text is a hash that [`verify`] can check.
pub fn is_valid(phc: &str) -> bool {
    Phc::parse(phc).is_some()
}

/// Whether it is a hash with our parameters, as [`hash`] makes it.
pub(super) fn is_ours(phc: &str) -> bool {
    Phc::parse(phc).is_some_and(|phc| {
        (phc.memory_kib, phc.passes, phc.lanes, phc.hash.len())
            == (MEMORY_KIB, PASSES, 1, HASH_BYTES)
    })
}

/// The hash of nothing anybody knows: our parameters with the given salt and digest.
pub fn unmatchable(salt: &[u8; SALT_BYTES], hash: &[u8; HASH_BYTES]) -> String {
    let (salt, hash) = (salt.to_vec(), hash.to_vec());
    Phc {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: 1,
        salt,
        hash,
    }
    .to_string()
}

struct Phc {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Phc {
    fn parse(text: &str) -> Option<Phc> {
        let mut fields = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (parameters, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || salt.len().max(hash.len()) > 2 * FIELD_BYTES_MAX {
            return None;
        }
        let mut parameters = parameters.split(',');
        let mut number = |name: &str| -> Option<u32> {
            parameters
                .next()?
                .strip_prefix(name)?
                .strip_prefix('=')?
                .parse()
                .ok()
        };
        let phc = Phc {
            memory_kib: number("m")?,
            passes: number("t")?,
            lanes: number("p")?,
            salt: STANDARD_NO_PAD.decode(salt).ok()?,
            hash: STANDARD_NO_PAD.decode(hash).ok()?,
        };
        let fits = parameters.next().is_none()
            && phc.memory_kib <= MEMORY_KIB
            && (1..=PASSES_MAX).contains(&phc.passes)
            && (1..=LANES_MAX).contains(&phc.lanes)
            && (8..=FIELD_BYTES_MAX).contains(&phc.salt.len())
            && (16..=FIELD_BYTES_MAX).contains(&phc.hash.len());
        fits.then_some(phc)
    }

    fn compute(&self, password: &Password, memory: &mut Argon2Memory) -> Option<Vec<u8>> {
        let length = self.hash.len();
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(length)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut output = vec![0; length];
        argon2
            .hash_password_into_with_memory(
                password.as_bytes(),
                &self.salt,
                &mut output,
                memory.blocks(),
            )
            .ok()?;
        Some(output)
    }
}

impl fmt::Display for Phc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "$argon2id$v=19$m={},t={},p={}${}${}",
            self.memory_kib,
            self.passes,
            self.lanes,
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.hash)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let mut memory = Argon2Memory::new();
        let right = Password::prepare("pencil").unwrap();
        let wrong = Password::prepare("Pencil").unwrap();
        let phc = hash(&right, &[7; 16], &mut memory);
        assert!(
            phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"),
            "{phc}"
        );
        assert!(verify(&right, &phc, &mut memory));
        assert!(!verify(&wrong, &phc, &mut memory));
        let unmatchable = unmatchable(&[7; 16], &[0; 32]);
        assert!(is_valid(&unmatchable) && !verify(&right, &unmatchable, &mut memory));
    }

    /// From the reference implementation's test suite (phc-winner-argon2, test.c).
    #[test]
    fn reference_vector() {
        let password = Password::prepare("password").unwrap();
        let phc =
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify(&password, phc, &mut Argon2Memory::new()));
    }

    #[test]
    fn strings_that_ask_for_too_much_or_are_something_else_match_nothing() {
        for phc in [
            "",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=99999,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=99,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65$x",
            "$argon2id$v=19$m=256,t=2,p=1,x=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            assert!(!is_valid(phc), "{phc}");
        }
    }
}
