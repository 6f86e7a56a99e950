//! The messages of RFC 5802 §7, parsed strictly.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MESSAGE_BYTES_MAX;
use super::server::ScramError;

/// No nonce of a client is longer.
const NONCE_BYTES_MAX: usize = 512;

/// What a client says about channel binding (`gs2-cbind-flag`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BindingFlag {
    /// `n`: it can do none.
    Unsupported,
    /// `y`: it can, and believes that we cannot.
    NotOffered,
    /// `p=`: it uses the type of that name.
    Used(String),
}

/// `client-first-message`.
#[derive(Debug)]
pub(super) struct ClientFirst {
    pub binding: BindingFlag,
    pub authzid: Option<String>,
    pub username: String,
    pub nonce: String,
    /// The text of the `gs2-header`, with its final comma.
    pub gs2_header: String,
    /// `client-first-message-bare`.
    pub bare: String,
}

impl ClientFirst {
    pub(super) fn parse(message: &[u8]) -> Result<ClientFirst, ScramError> {
        let text = text(message)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed)?;
        let (authzid, bare) = rest.split_once(',').ok_or(ScramError::Malformed)?;
        let binding = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::NotOffered,
            _ => {
                let name = flag.strip_prefix("p=").filter(|name| is_binding_name(name));
                BindingFlag::Used(name.ok_or(ScramError::Malformed)?.to_owned())
            }
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(
                authzid.strip_prefix("a=").ok_or(ScramError::Malformed)?,
            )?),
        };
        let mut attributes = bare.split(',');
        let first = attributes.next().ok_or(ScramError::Malformed)?;
        if first.starts_with("m=") {
            return Err(ScramError::MandatoryExtension);
        }
        let username = unescape(first.strip_prefix("n=").ok_or(ScramError::Malformed)?)?;
        let nonce = attributes
            .next()
            .and_then(|a| a.strip_prefix("r="))
            .filter(|n| is_nonce(n));
        let nonce = nonce.ok_or(ScramError::Malformed)?.to_owned();
        if !attributes.all(is_extension) {
            return Err(ScramError::Malformed);
        }
        let gs2_header = text[..text.len() - bare.len()].to_owned();
        Ok(ClientFirst {
            binding,
            authzid,
            username,
            nonce,
            gs2_header,
            bare: bare.to_owned(),
        })
    }
}

/// `client-final-message`.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    /// `cbind-input`, decoded.
    pub binding: Vec<u8>,
    pub nonce: &'a str,
    pub proof: Vec<u8>,
    /// `client-final-message-without-proof`.
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<ClientFinal<'a>, ScramError> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        let nonce = attributes
            .next()
            .and_then(|a| a.strip_prefix("r="))
            .filter(|n| is_printable(n));
        if !attributes.all(is_extension) {
            return Err(ScramError::Malformed);
        }
        Ok(ClientFinal {
            binding: decode(binding.ok_or(ScramError::Malformed)?)?,
            nonce: nonce.ok_or(ScramError::Malformed)?,
            proof: decode(proof)?,
            without_proof,
        })
    }
}

pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed);
    }
    // `value` of RFC 5802 §7 has no NUL.
    let text = std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.contains('\0'));
    text.ok_or(ScramError::Malformed)
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| ScramError::Malformed)
}

/// `saslname`: a comma is written `=2C`, an equals sign `=3D`, and nothing else is.
pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn unescape(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut output = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            output.push(',');
            output.push_str(rest);
        } else if let Some(rest) = part.strip_prefix("3D") {
            output.push('=');
            output.push_str(rest);
        } else {
            return Err(ScramError::Malformed);
        }
    }
    if output.is_empty() {
        Err(ScramError::Malformed)
    } else {
        Ok(output)
    }
}

/// `cb-name`.
fn is_binding_name(name: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    !name.is_empty() && name.bytes().all(is_name)
}

/// `printable` without the comma, which ends an attribute.
fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len()) && is_printable(nonce)
}

/// The nonce that comes back is the client's with ours behind it: longer than either.
fn is_printable(nonce: &str) -> bool {
    nonce.bytes().all(|b| b.is_ascii_graphic())
}

/// `attr-val` of an extension: a letter that has no meaning of its own, `=`, a value.
fn is_extension(attribute: &str) -> bool {
    match attribute.as_bytes() {
        [name, b'=', _, ..] => name.is_ascii_alphabetic() && !b"anmrcsipve".contains(name),
        _ => false,
    }
}
