//! The two hash functions of our SCRAM mechanisms, on ring.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A hash function that a SCRAM mechanism is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1, sound within HMAC and PBKDF2 (RFC 5802).
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
}

impl Hash {
    /// Bytes of a digest.
    pub const fn length(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    /// `H(message)` of RFC 5802 §2.2.
    pub fn digest(self, message: &[u8]) -> Digest {
        let algorithm = match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
        };
        Digest::of(digest::digest(algorithm, message).as_ref())
    }

    /// `HMAC(key, message)` of RFC 5802 §2.2.
    pub fn hmac(self, key: &[u8], message: &[u8]) -> Digest {
        let algorithm = match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        };
        Digest::of(hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref())
    }

    /// `Hi(password, salt, iterations)` of RFC 5802 §2.2, which is PBKDF2.
    pub fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Digest {
        let algorithm = match self {
            Hash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let mut salted = Digest {
            bytes: [0; 32],
            length: self.length_byte(),
        };
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            password,
            &mut salted.bytes[..self.length()],
        );
        salted
    }

    const fn length_byte(self) -> u8 {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }
}

/// A digest or key of one of the two lengths, inline, overwritten when dropped. Two
/// are compared in constant time.
#[derive(Clone)]
pub struct Digest {
    bytes: [u8; 32],
    length: u8,
}

impl Digest {
    /// From bytes of another place; `None` if they have not the hash's length.
    pub fn from_bytes(hash: Hash, bytes: &[u8]) -> Option<Digest> {
        (bytes.len() == hash.length()).then(|| Digest::of(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The bitwise exclusive or with a digest of the same length.
    pub(super) fn xor(mut self, other: &Digest) -> Digest {
        debug_assert_eq!(self.length, other.length);
        for (byte, mask) in self.bytes.iter_mut().zip(&other.bytes) {
            *byte ^= mask;
        }
        self
    }

    fn of(digest: &[u8]) -> Digest {
        let mut bytes = [0; 32];
        bytes[..digest.len()].copy_from_slice(digest);
        Digest {
            bytes,
            length: if digest.len() == 20 { 20 } else { 32 },
        }
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Digest) -> bool {
        constant_time_eq(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for Digest {}

impl Drop for Digest {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({} bytes)", self.length)
    }
}

/// Compares in a time that depends on the lengths alone.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// HMAC-SHA-256 over parts, each with its length in front: no two lists of parts are
/// taken for each other. For deriving values from a secret.
pub fn hmac_sha256(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut output = [0; 32];
    output.copy_from_slice(context.sign().as_ref());
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_separated() {
        let a = hmac_sha256(b"secret", &[b"ab", b"c"]);
        assert_ne!(a, hmac_sha256(b"secret", &[b"a", b"bc"]));
        assert_ne!(a, hmac_sha256(b"other", &[b"ab", b"c"]));
        assert_eq!(a, hmac_sha256(b"secret", &[b"ab", b"c"]));
    }

    #[test]
    fn a_digest_has_its_hash_s_length() {
        assert_eq!(Hash::Sha1.digest(b"").as_bytes().len(), 20);
        assert_eq!(Hash::Sha256.digest(b"").as_bytes().len(), 32);
        assert!(Digest::from_bytes(Hash::Sha1, &[0; 32]).is_none());
        assert_eq!(format!("{:?}", Hash::Sha1.digest(b"x")), "Digest(20 bytes)");
    }
}
