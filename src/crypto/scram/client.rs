//! The client's end.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message;
use crate::crypto::{BindingType, Digest, Hash, Password};

/// A server that asks for more work than this is refused.
const ITERATIONS_MAX: u32 = 10_000_000;

/// What a client does about channel binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientBinding {
    /// It can do none (`n`).
    Unsupported,
    /// It could and the server offered none (`y`).
    NotOffered,
    /// It binds the channel with these data (`p`), in a -PLUS mechanism.
    Use(BindingType, Vec<u8>),
}

/// A client that has not yet heard from the server.
#[derive(Debug)]
pub struct ScramClient {
    hash: Hash,
    password: Password,
    bare: String,
    nonce: String,
    binding: ClientBinding,
    gs2_header: String,
}

impl ScramClient {
    /// Begins an exchange; the nonce is printable, random, without a comma.
    pub fn new(
        hash: Hash,
        binding: ClientBinding,
        authzid: Option<&str>,
        username: &str,
        password: Password,
        nonce: &str,
    ) -> ScramClient {
        let flag = match &binding {
            ClientBinding::Unsupported => "n".to_owned(),
            ClientBinding::NotOffered => "y".to_owned(),
            ClientBinding::Use(kind, _) => format!("p={}", kind.name()),
        };
        let authzid = authzid.map(|authzid| format!("a={}", message::escape(authzid)));
        ScramClient {
            hash,
            password,
            bare: format!("n={},r={nonce}", message::escape(username)),
            nonce: nonce.to_owned(),
            binding,
            gs2_header: format!("{flag},{},", authzid.unwrap_or_default()),
        }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2_header, self.bare)
    }

    /// Answers the server's first message. `offered` is what the offer that this client
    /// saw hashes to (XEP-0474); a server that sends no `h` is not asked for it.
    pub fn respond(
        self,
        server_first: &[u8],
        offered: Option<&str>,
    ) -> Result<(ScramClientFinal, String), ClientError> {
        let server_first = message::text(server_first).map_err(|_| ClientError::Malformed)?;
        let mut attributes = server_first.split(',');
        let mut next = |prefix: &str| {
            attributes
                .next()
                .and_then(|attribute| attribute.strip_prefix(prefix))
        };
        let nonce = next("r=").ok_or(ClientError::Malformed)?;
        let salt = next("s=").ok_or(ClientError::Malformed)?;
        let salt = message::decode(salt).map_err(|_| ClientError::Malformed)?;
        let iterations: NonZeroU32 = next("i=")
            .and_then(|i| i.parse().ok())
            .ok_or(ClientError::Malformed)?;
        if iterations.get() > ITERATIONS_MAX || salt.is_empty() {
            return Err(ClientError::Malformed);
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ClientError::WrongNonce);
        }
        if let (Some(told), Some(seen)) = (attributes.find_map(|a| a.strip_prefix("h=")), offered)
            && told != seen
        {
            return Err(ClientError::Downgraded);
        }
        let mut binding = self.gs2_header.into_bytes();
        if let ClientBinding::Use(_, data) = &self.binding {
            binding.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(binding));
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let hash = self.hash;
        let salted_password = hash.pbkdf2(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(salted_password.as_bytes(), b"Client Key");
        let stored_key = hash.digest(client_key.as_bytes());
        let proof = client_key.xor(&hash.hmac(stored_key.as_bytes(), signed.as_bytes()));
        let server_key = hash.hmac(salted_password.as_bytes(), b"Server Key");
        let signature = hash.hmac(server_key.as_bytes(), signed.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof.as_bytes()));
        Ok((ScramClientFinal { hash, signature }, message))
    }
}

/// A client that has sent its proof.
#[derive(Debug)]
pub struct ScramClientFinal {
    hash: Hash,
    signature: Digest,
}

impl ScramClientFinal {
    /// Checks that the server knows the keys too.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ClientError> {
        let text = message::text(server_final).map_err(|_| ClientError::Malformed)?;
        let signature = text.strip_prefix("v=").ok_or(ClientError::Malformed)?;
        let signature = signature.split(',').next().unwrap_or_default();
        let signature = message::decode(signature).map_err(|_| ClientError::Malformed)?;
        match Digest::from_bytes(self.hash, &signature) {
            Some(signature) if signature == self.signature => Ok(()),
            _ => Err(ClientError::WrongSignature),
        }
    }
}

/// Why a client must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// A message that RFC 5802 §7 does not allow, or asks for too much work.
    Malformed,
    /// The server's nonce does not begin with ours.
    WrongNonce,
    /// The offer that we saw is not the one that the server made (XEP-0474).
    Downgraded,
    /// The server does not know the keys.
    WrongSignature,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientError::Malformed => "malformed SCRAM message from the server",
            ClientError::WrongNonce => "the server's nonce does not begin with ours",
            ClientError::Downgraded => "the server's offer was changed on the way",
            ClientError::WrongSignature => "the server does not know our keys",
        })
    }
}

impl std::error::Error for ClientError {}
