//! Passwords as they are typed, prepared for comparison.
//!
//! RFC 5802 §2.2 and RFC 7677 prepare with SASLprep (RFC 4013), and that is what
//! clients do. RFC 8265 replaced it by `OpaqueString`, which differs for compatibility
//! characters (SASLprep composes with NFKC, `OpaqueString` with NFC) and for ignorable
//! ones. The two ends of SCRAM must derive from the same bytes, so the deployed rule
//! wins: SASLprep where it accepts the password, `OpaqueString` where it does not,
//! which is the case for everything newer than Unicode 3.2, emoji among them. (A client
//! that cannot apply SASLprep to such a password sends it as typed; for text in NFC
//! that is what `OpaqueString` gives.) A password that both refuse has control
//! characters and is no password.

use std::fmt;

use zeroize::Zeroizing;

use crate::addr::precis;

/// No password is longer, in bytes of UTF-8 as typed.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A prepared password. It is overwritten when dropped and never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Prepares a password as typed.
    pub fn prepare(typed: &str) -> Result<Password, PasswordError> {
        if typed.is_empty() {
            return Err(PasswordError::Empty);
        }
        if typed.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        if typed.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Ok(Password(Zeroizing::new(typed.to_owned())));
        }
        let prepared = match stringprep::saslprep(typed) {
            Ok(prepared) => Zeroizing::new(prepared.into_owned()),
            Err(_) => {
                let prepared = precis::opaque_string(typed).ok_or(PasswordError::Forbidden)?;
                Zeroizing::new(prepared.into_owned())
            }
        };
        if prepared.is_empty() {
            return Err(PasswordError::Empty);
        }
        Ok(Password(prepared))
    }

    /// The bytes that keys derive from.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why a text cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// Nothing is left of it.
    Empty,
    /// More than [`PASSWORD_BYTES_MAX`].
    TooLong,
    /// A control character or the like.
    Forbidden,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PasswordError::Empty => "the password is empty",
            PasswordError::TooLong => "the password is longer than 1024 bytes",
            PasswordError::Forbidden => "the password has control characters",
        })
    }
}

impl std::error::Error for PasswordError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(typed: &str) -> Vec<u8> {
        Password::prepare(typed).unwrap().as_bytes().to_vec()
    }

    /// RFC 4013 §3.
    #[test]
    fn saslprep_examples() {
        assert_eq!(prepared("I\u{ad}X"), b"IX");
        assert_eq!(prepared("user"), b"user");
        assert_eq!(prepared("USER"), b"USER");
        assert_eq!(prepared("\u{aa}"), b"a");
        assert_eq!(prepared("\u{2168}"), b"IX");
        assert_eq!(
            Password::prepare("\u{7}").unwrap_err(),
            PasswordError::Forbidden
        );
    }

    #[test]
    fn what_saslprep_does_not_know_is_an_opaque_string() {
        assert_eq!(
            prepared("\u{1f600}\u{1f973}"),
            "\u{1f600}\u{1f973}".as_bytes()
        );
        // Mixed directions, which SASLprep refuses.
        assert_eq!(prepared("\u{627}1"), "\u{627}1".as_bytes());
    }

    #[test]
    fn limits() {
        assert_eq!(Password::prepare("").unwrap_err(), PasswordError::Empty);
        assert_eq!(
            Password::prepare("\u{ad}").unwrap_err(),
            PasswordError::Empty
        );
        assert_eq!(
            Password::prepare(&"a".repeat(1025)).unwrap_err(),
            PasswordError::TooLong
        );
        assert_eq!(
            Password::prepare("a\0b").unwrap_err(),
            PasswordError::Forbidden
        );
        assert_eq!(
            format!("{:?}", Password::prepare("secret").unwrap()),
            "Password"
        );
    }
}
