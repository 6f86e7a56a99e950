//! The message of the PLAIN mechanism (RFC 4616 §2).

use std::fmt;

use zeroize::Zeroizing;

use super::{Password, PasswordError};

/// No field of the message is longer; RFC 4616 asks for 255 at least.
const FIELD_BYTES_MAX: usize = 1024;

/// `[authzid] NUL authcid NUL passwd`, taken apart.
pub struct Plain {
    /// Whom the client wants to act as; empty is absent.
    pub authzid: Option<String>,
    /// Who it says it is.
    pub username: String,
    /// The password, prepared, or why it can be none.
    pub password: Result<Password, PasswordError>,
}

impl Plain {
    /// Parses the decoded message; `None` if it is malformed.
    pub fn parse(message: &[u8]) -> Option<Plain> {
        let text = std::str::from_utf8(message).ok()?;
        let mut fields = text.split('\0');
        let (authzid, username, password) = (fields.next()?, fields.next()?, fields.next()?);
        let too_long = [authzid, username, password]
            .iter()
            .any(|f| f.len() > FIELD_BYTES_MAX);
        if fields.next().is_some() || too_long || username.is_empty() || password.is_empty() {
            return None;
        }
        let typed = Zeroizing::new(password.to_owned());
        Some(Plain {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            username: username.to_owned(),
            password: Password::prepare(&typed),
        })
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain")
            .field("authzid", &self.authzid)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4616 §4.
    #[test]
    fn examples() {
        let plain = Plain::parse(b"\0tim\0tanstaaftanstaaf").unwrap();
        assert_eq!((plain.authzid, plain.username.as_str()), (None, "tim"));
        assert_eq!(plain.password.unwrap().as_bytes(), b"tanstaaftanstaaf");
        let plain = Plain::parse(b"Ursel\0Kurt\0xipj3plmq").unwrap();
        assert_eq!(
            (plain.authzid.as_deref(), plain.username.as_str()),
            (Some("Ursel"), "Kurt")
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for message in [
            &b""[..],
            b"tim",
            b"\0tim",
            b"\0tim\0",
            b"\0\0x",
            b"\0a\0b\0c",
            b"\0\xff\0x",
        ] {
            assert!(Plain::parse(message).is_none(), "{message:?}");
        }
        assert!(Plain::parse(format!("\0a\0{}", "x".repeat(1025)).as_bytes()).is_none());
    }
}
