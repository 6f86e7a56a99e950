//! The server's end.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message::{BindingFlag, ClientFinal, ClientFirst};
use crate::crypto::{BindingType, ChannelBindings, Digest, Hash, ScramKeys, constant_time_eq};

/// The exchange after the client's first message: waiting for that user's keys.
#[derive(Debug)]
pub struct ScramServer {
    hash: Hash,
    first: ClientFirst,
    /// `gs2-header` and binding data: what the client's `c` must hold.
    binding_input: Vec<u8>,
}

impl ScramServer {
    /// Takes the client's first message. `plus` says whether the mechanism was a -PLUS
    /// one, `bindings` what this connection has and we offered.
    pub fn start(
        hash: Hash,
        plus: bool,
        client_first: &[u8],
        bindings: &ChannelBindings,
    ) -> Result<ScramServer, ScramError> {
        let first = ClientFirst::parse(client_first)?;
        let mut binding_input = first.gs2_header.clone().into_bytes();
        match (&first.binding, plus) {
            (BindingFlag::Used(name), true) => {
                let data = BindingType::from_name(name).and_then(|binding| bindings.data(binding));
                binding_input.extend_from_slice(data.ok_or(ScramError::UnknownBinding)?);
            }
            (BindingFlag::Unsupported, false) => {}
            // RFC 5802 §6: the client would have bound the channel had it seen our offer.
            (BindingFlag::NotOffered, false) if bindings.is_empty() => {}
            (BindingFlag::NotOffered, false) => return Err(ScramError::OfferStripped),
            (BindingFlag::Used(_), false) | (_, true) => return Err(ScramError::Malformed),
        }
        Ok(ScramServer {
            hash,
            first,
            binding_input,
        })
    }

    /// The name that the client authenticates as, not prepared.
    pub fn username(&self) -> &str {
        &self.first.username
    }

    /// The identity that it wants to act as, when it named one.
    pub fn authzid(&self) -> Option<&str> {
        self.first.authzid.as_deref()
    }

    /// The channel binding that the client uses, if it uses one.
    pub fn binding(&self) -> Option<BindingType> {
        match &self.first.binding {
            BindingFlag::Used(name) => BindingType::from_name(name),
            BindingFlag::Unsupported | BindingFlag::NotOffered => None,
        }
    }

    /// Writes the server's first message. The nonce is printable ASCII without a comma,
    /// of 128 random bits or more; the keys are for this mechanism's hash; `downgrade`
    /// is the value of [`downgrade_protection`](super::downgrade_protection).
    pub fn challenge(
        self,
        keys: ScramKeys,
        server_nonce: &str,
        downgrade: Option<&str>,
    ) -> (ScramServerFinal, String) {
        assert_eq!(keys.hash(), self.hash, "keys are of the mechanism's hash");
        debug_assert!(
            server_nonce
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',')
        );
        let nonce = format!("{}{server_nonce}", self.first.nonce);
        let salt = STANDARD.encode(keys.salt());
        let mut server_first = format!("r={nonce},s={salt},i={}", keys.iterations());
        if let Some(value) = downgrade {
            server_first.push_str(",h=");
            server_first.push_str(value);
        }
        let signed = format!("{},{server_first},", self.first.bare);
        let binding_input = self.binding_input;
        (
            ScramServerFinal {
                keys,
                nonce,
                signed,
                binding_input,
            },
            server_first,
        )
    }
}

#[cfg(test)]
impl ScramServer {
    /// Binding data of a document's example, which are not those of a TLS exporter.
    pub(super) fn replace_binding_data(&mut self, data: &[u8]) {
        self.binding_input.truncate(self.first.gs2_header.len());
        self.binding_input.extend_from_slice(data);
    }
}

/// The exchange after the challenge: waiting for the client's proof.
#[derive(Debug)]
pub struct ScramServerFinal {
    keys: ScramKeys,
    nonce: String,
    /// `AuthMessage` as far as it stands.
    signed: String,
    binding_input: Vec<u8>,
}

impl ScramServerFinal {
    /// Checks the client's final message and returns ours, with the signature that
    /// proves to the client that we know its keys.
    pub fn finish(self, client_final: &[u8]) -> Result<String, ScramError> {
        let message = ClientFinal::parse(client_final)?;
        let hash = self.keys.hash();
        if !constant_time_eq(message.nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::WrongNonce);
        }
        if !constant_time_eq(&message.binding, &self.binding_input) {
            return Err(ScramError::WrongBinding);
        }
        let signed = self.signed + message.without_proof;
        let signature = hash.hmac(self.keys.stored_key().as_bytes(), signed.as_bytes());
        let proof = Digest::from_bytes(hash, &message.proof);
        let client_key = proof.ok_or(ScramError::Malformed)?.xor(&signature);
        if hash.digest(client_key.as_bytes()) != *self.keys.stored_key() {
            return Err(ScramError::WrongProof);
        }
        let server_signature = hash.hmac(self.keys.server_key().as_bytes(), signed.as_bytes());
        Ok(format!(
            "v={}",
            STANDARD.encode(server_signature.as_bytes())
        ))
    }
}

/// Why an exchange ended. A client is told `malformed-request` for the first two and
/// `not-authorized` for the rest; the difference is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramError {
    /// A message that RFC 5802 §7 does not allow.
    Malformed,
    /// An extension that must be understood (`m=`).
    MandatoryExtension,
    /// A channel binding that we did not offer.
    UnknownBinding,
    /// The client can bind the channel and did not see that we can: somebody between
    /// us changed the offer.
    OfferStripped,
    /// The nonce is not the one of this exchange.
    WrongNonce,
    /// The channel is not the one that we see: somebody is between us.
    WrongBinding,
    /// The password is wrong, or there is no such user.
    WrongProof,
}

impl ScramError {
    /// One line for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            ScramError::Malformed => "malformed SCRAM message",
            ScramError::MandatoryExtension => "unknown mandatory SCRAM extension",
            ScramError::UnknownBinding => "channel binding that was not offered",
            ScramError::OfferStripped => "client did not see our offer of channel binding",
            ScramError::WrongNonce => "wrong nonce",
            ScramError::WrongBinding => "channel binding does not match",
            ScramError::WrongProof => "wrong password or unknown user",
        }
    }
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ScramError {}
