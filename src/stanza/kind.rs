//! The three kinds of stanza (RFC 6120 §8.2).

use std::fmt;

/// Which of the three a stanza is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Pushed to one recipient (RFC 6120 §8.2.1).
    Message,
    /// Broadcast of availability (RFC 6120 §8.2.2).
    Presence,
    /// Request and response (RFC 6120 §8.2.3).
    Iq,
}

impl Kind {
    /// The kind of a first-level element of the content namespace, if it is a stanza.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "message" => Some(Self::Message),
            "presence" => Some(Self::Presence),
            "iq" => Some(Self::Iq),
            _ => None,
        }
    }

    /// The element's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
