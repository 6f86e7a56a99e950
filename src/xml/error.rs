//! Why input was refused. `stanza::error` turns these into the stream errors of RFC 6120 §4.9.3.

use std::fmt;

/// A reason to end a stream because of what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XmlError {
    /// Violates XML 1.0 or Namespaces in XML 1.0, an undeclared prefix included (RFC 6120 §11.3).
    NotWellFormed,
    /// A comment, processing instruction, DTD subset or entity that XMPP forbids (RFC 6120 §11.1).
    Restricted,
    /// Well-formed, but no stream: text between first-level elements, a root that is not `stream`.
    BadFormat,
    /// Not UTF-8 (RFC 6120 §11.6).
    UnsupportedEncoding,
    /// The stream or its content has a namespace that we do not serve (RFC 6120 §4.9.3.10).
    InvalidNamespace,
    /// The stream element lacks the prefix that its namespace needs (RFC 6120 §4.9.3.2).
    BadPrefix,
    /// More bytes than one element, or the stream before authentication, may have.
    TooBig,
    /// Nested too deep.
    TooDeep,
    /// More elements than one stanza, or the stream before authentication, may have.
    TooManyElements,
    /// More attributes than one start tag may have.
    TooManyAttributes,
    /// More prefix declarations in force than allowed.
    TooManyNamespaces,
    /// A name longer than allowed.
    NameTooLong,
    /// An attribute value longer than allowed.
    AttributeTooLong,
    /// More keep-alive whitespace in a row than allowed.
    TooMuchWhitespace,
}

impl XmlError {
    /// One line for the log and for the `text` of the stream error.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotWellFormed => "not well-formed XML",
            Self::Restricted => "XML that XMPP does not allow",
            Self::BadFormat => "not the XML of a stream",
            Self::UnsupportedEncoding => "not UTF-8",
            Self::InvalidNamespace => "unsupported namespace",
            Self::BadPrefix => "the stream element lacks its prefix",
            Self::TooBig => "too many bytes",
            Self::TooDeep => "nested too deep",
            Self::TooManyElements => "too many elements",
            Self::TooManyAttributes => "too many attributes",
            Self::TooManyNamespaces => "too many namespace declarations",
            Self::NameTooLong => "a name is too long",
            Self::AttributeTooLong => "an attribute is too long",
            Self::TooMuchWhitespace => "too much whitespace",
        }
    }

    /// Whether the input broke one of our limits rather than a rule of XML or XMPP.
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::TooBig
                | Self::TooDeep
                | Self::TooManyElements
                | Self::TooManyAttributes
                | Self::TooManyNamespaces
                | Self::NameTooLong
                | Self::AttributeTooLong
                | Self::TooMuchWhitespace
        )
    }
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for XmlError {}
