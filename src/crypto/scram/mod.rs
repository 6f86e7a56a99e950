//! SCRAM (RFC 5802, RFC 7677) as state machines for both ends, with channel binding
//! (RFC 5929, RFC 9266) and downgrade protection (XEP-0474, version 0.5).
//!
//! Each step consumes the state before it, so steps cannot be left out or repeated.
//! The client's end is there for tests, for load and for a server's own log-in check.

mod client;
mod message;
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Hash;

pub use client::{ClientBinding, ClientError, ScramClient, ScramClientFinal};
pub use server::{ScramError, ScramServer, ScramServerFinal};

/// No message of the exchange is longer, decoded. Ours have about 300 bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// XEP-0474 §5.1: the attribute `h` of a server's first message, over what the server
/// offered. `bindings` is `None` when XEP-0440 was not used.
pub fn downgrade_protection(hash: Hash, mechanisms: &[&str], bindings: Option<&[&str]>) -> String {
    let mut offered = sorted(mechanisms);
    if let Some(bindings) = bindings {
        offered.push('\u{1f}');
        offered.push_str(&sorted(bindings));
    }
    STANDARD.encode(hash.digest(offered.as_bytes()).as_bytes())
}

/// The "i;octet" collation is the order of the bytes.
fn sorted(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.join("\u{1e}")
}

#[cfg(test)]
mod tests;
