//! What an element may cost before it is refused with `policy-violation` (RFC 6120 §13.12, XEP-0478).

/// Bounds on one stream's input. The framer enforces them on incomplete input, so that a peer that never closes
/// its stanza can't make us hold more than `stanza_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one first-level element, and of the stream header.
    pub stanza_bytes_max: usize,
    /// Levels of nesting in one first-level element, itself included.
    pub depth_max: usize,
    /// Elements in one first-level element, itself included.
    pub elements_max: usize,
    /// Attributes of one start tag, namespace declarations included.
    pub attributes_max: usize,
    /// Bytes of one qualified name.
    pub name_bytes_max: usize,
    /// Bytes of one attribute value as it was received.
    pub attribute_bytes_max: usize,
    /// Prefix declarations in force at one place.
    pub namespaces_max: usize,
    /// Whitespace bytes in a row between first-level elements (keep-alives, RFC 6120 §4.6.1).
    pub whitespace_bytes_max: usize,
    /// Bytes of all elements since the stream header, which counts too.
    pub stream_bytes_max: usize,
    /// Elements of all kinds since the stream header, which counts too.
    pub stream_elements_max: usize,
}

impl Limits {
    /// What a stranger may send: the whole stream is bounded, not just each element.
    pub const fn before_authentication() -> Self {
        Self {
            stanza_bytes_max: 10_000,
            depth_max: 8,
            elements_max: 32,
            attributes_max: 16,
            name_bytes_max: 128,
            attribute_bytes_max: 4_096,
            namespaces_max: 16,
            whitespace_bytes_max: 1_000,
            stream_bytes_max: 10_000,
            stream_elements_max: 32,
        }
    }

    /// What a known account may send.
    pub const fn after_authentication() -> Self {
        Self {
            stanza_bytes_max: 262_144,
            depth_max: 64,
            elements_max: 25_000,
            attributes_max: 64,
            name_bytes_max: 1_024,
            attribute_bytes_max: 65_536,
            namespaces_max: 64,
            whitespace_bytes_max: 1 << 20,
            stream_bytes_max: usize::MAX,
            stream_elements_max: usize::MAX,
        }
    }

    /// The widest that may be configured for [`Limits::after_authentication`]: what [`Limits::own`] takes, without what
    /// the server itself adds to a stanza on its way. That is an element around it, a few elements in it, and at its
    /// start tag up to 64 prefixes that the stream's header declared, the addresses and the language.
    pub const fn after_authentication_max() -> Self {
        let own = Self::own();
        Self {
            stanza_bytes_max: own.stanza_bytes_max / 2,
            depth_max: own.depth_max - 8,
            elements_max: 1_000_000,
            attributes_max: own.attributes_max - 76,
            attribute_bytes_max: own.stanza_bytes_max / 2,
            namespaces_max: own.namespaces_max - 76,
            ..own
        }
    }

    /// Bounds for bytes that we wrote or already validated once, such as a record of the store: wide enough for
    /// whatever [`Limits::after_authentication`] let in and our own additions to it.
    pub const fn own() -> Self {
        Self {
            stanza_bytes_max: 16 << 20,
            depth_max: 128,
            elements_max: 1 << 20,
            attributes_max: 256,
            name_bytes_max: 4_096,
            attribute_bytes_max: 16 << 20,
            namespaces_max: 256,
            whitespace_bytes_max: 1 << 20,
            stream_bytes_max: usize::MAX,
            stream_elements_max: usize::MAX,
        }
    }
}
