//! Keying material exporters of TLS, computed from a session's own secret.
//!
//! rustls' unbuffered connections have no `export_keying_material`, so
//! [`super::tls`] captures the secret that the exporter starts from and asks
//! here for the `tls-exporter` channel binding of RFC 9266. The functions are
//! pure; the tests in `tls.rs` compare them with what an independent client
//! side exports.

use ring::{digest, hkdf, hmac};
use zeroize::Zeroizing;

/// Bytes of a `tls-exporter` channel binding (RFC 9266 §2).
pub const BINDING_BYTES: usize = 32;

/// Longest secret that TLS hands to an exporter: a SHA-384 output, and as it
/// happens also the master secret of TLS 1.2.
pub const SECRET_BYTES_MAX: usize = 48;

/// The label that RFC 9266 §2 registers.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The hash of the session's cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteHash {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
}

/// `tls-exporter` of a TLS 1.3 session from its `exporter_master_secret`
/// (RFC 8446 §7.5), with the empty context that RFC 9266 §2 asks for.
#[must_use]
pub fn tls13(hash: SuiteHash, exporter_master_secret: &[u8]) -> [u8; BINDING_BYTES] {
    let digest = hash.digest();
    let empty = digest::digest(digest, b"");
    // Derive-Secret(exporter_master_secret, label, "")
    let mut derived = Zeroizing::new([0; SECRET_BYTES_MAX]);
    let derived = &mut derived[..digest.output_len()];
    expand_label(hash, exporter_master_secret, LABEL, empty.as_ref(), derived);
    let mut binding = [0; BINDING_BYTES];
    expand_label(hash, derived, b"exporter", empty.as_ref(), &mut binding);
    binding
}

/// `tls-exporter` of a TLS 1.2 session from its master secret (RFC 5705 §4).
///
/// RFC 9266 §2 names a zero-length context, which RFC 5705 tells apart from no
/// context: its length is part of the seed.
#[must_use]
pub fn tls12(
    hash: SuiteHash,
    master_secret: &[u8],
    client_random: &[u8; 32],
    server_random: &[u8; 32],
) -> [u8; BINDING_BYTES] {
    let mut seed = [0; LABEL.len() + 32 + 32 + 2];
    let (label, rest) = seed.split_at_mut(LABEL.len());
    label.copy_from_slice(LABEL);
    rest[..32].copy_from_slice(client_random);
    rest[32..64].copy_from_slice(server_random);
    let mut binding = [0; BINDING_BYTES];
    p_hash(hash, master_secret, &seed, &mut binding);
    binding
}

impl SuiteHash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        }
    }
}

/// HKDF-Expand-Label of RFC 8446 §7.1.
fn expand_label(hash: SuiteHash, secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let algorithm = match hash {
        SuiteHash::Sha256 => hkdf::HKDF_SHA256,
        SuiteHash::Sha384 => hkdf::HKDF_SHA384,
    };
    let length = u16::try_from(out.len()).expect("an exporter's output is 48 bytes at most");
    let label_length = u8::try_from(b"tls13 ".len() + label.len()).expect("our labels are short");
    let context_length = u8::try_from(context.len()).expect("a context is one hash");
    hkdf::Prk::new_less_safe(algorithm, secret)
        .expand(
            &[
                &length.to_be_bytes(),
                &[label_length],
                b"tls13 ",
                label,
                &[context_length],
                context,
            ],
            Length(out.len()),
        )
        .and_then(|okm| okm.fill(out))
        .expect("HKDF gives up to 255 hashes");
}

/// `P_hash`, and with it the PRF, of RFC 5246 §5.
fn p_hash(hash: SuiteHash, secret: &[u8], seed: &[u8], out: &mut [u8]) {
    let key = hmac::Key::new(
        match hash {
            SuiteHash::Sha256 => hmac::HMAC_SHA256,
            SuiteHash::Sha384 => hmac::HMAC_SHA384,
        },
        secret,
    );
    let mut a = hmac::sign(&key, seed);
    for chunk in out.chunks_mut(hash.digest().output_len()) {
        let mut context = hmac::Context::with_key(&key);
        context.update(a.as_ref());
        context.update(seed);
        chunk.copy_from_slice(&context.sign().as_ref()[..chunk.len()]);
        a = hmac::sign(&key, a.as_ref());
    }
}
