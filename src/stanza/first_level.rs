//! What stands directly in a stream: stanzas, and the elements that negotiate and manage the stream itself.

use bytes::Bytes;

use super::stanza::Stanza;
use crate::xml::{Element, Limits, StreamScope, XmlError};

/// One first-level element, validated and canonical.
#[derive(Clone, Debug)]
pub enum FirstLevel {
    /// A message, presence or iq of the content namespace.
    Stanza(Stanza),
    /// Anything else: SASL, stream management, a stream error, or something nobody should send.
    Nonza(Nonza),
}

/// A first-level element that is no stanza, as canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonza {
    bytes: Bytes,
}

impl FirstLevel {
    /// Validates what the framer returned. The bytes are kept as they are if they are canonical, which nearly all are,
    /// and written anew otherwise.
    pub fn parse(bytes: Bytes, scope: &StreamScope, limits: &Limits) -> Result<Self, XmlError> {
        Stanza::parse(bytes, scope, limits)
    }
}

impl Nonza {
    /// `bytes` were scanned and are canonical.
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// The element.
    pub fn element(&self) -> Element<'_> {
        Element::from_canonical(&self.bytes).expect("a nonza is one validated element")
    }

    /// Its canonical bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
