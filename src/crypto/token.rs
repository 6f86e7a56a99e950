//! Tokens: unguessable texts made from random bytes that the caller drew.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Hash, constant_time_eq};

/// Random bytes of a token: 160 bits, of which 128 would do.
pub const TOKEN_RANDOM_BYTES: usize = 20;

/// A token that fits a URL, an attribute and a nonce of SCRAM: 27 characters.
pub fn token(random: &[u8; TOKEN_RANDOM_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// What to keep of a token: whoever reads the store cannot use it.
pub fn token_digest(token: &str) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(Hash::Sha256.digest(token.as_bytes()).as_bytes());
    output
}

/// Whether a token is the one whose digest was kept, in constant time.
pub fn token_matches(token: &str, digest: &[u8; 32]) -> bool {
    constant_time_eq(&token_digest(token), digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_its_own_digest_only() {
        let token = token(&[7; TOKEN_RANDOM_BYTES]);
        assert_eq!(token.len(), 27);
        assert!(token_matches(&token, &token_digest(&token)));
        assert!(!token_matches("other", &token_digest(&token)));
    }
}
