//! The elements of stream management (XEP-0198, version 1.6): reading the peer's,
//! writing ours. Who counts and keeps what is unacknowledged is the session, not us.

use bytes::Bytes;

use super::ns;
use crate::stanza::Condition;
use crate::stanza::error::{STANZAS, STREAM_ERRORS};
use crate::xml::{Element, Writer};

/// The longest id of a stream that is worth looking up.
const PREVID_BYTES_MAX: usize = 1024;

/// What a peer says about stream management.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmElement {
    /// `<enable/>`.
    Enable {
        /// `resume`.
        resume: bool,
        /// `max`, in seconds.
        max_seconds: Option<u32>,
    },
    /// `<resume/>`.
    Resume {
        /// `previd`.
        previd: String,
        /// `h`.
        h: u32,
    },
    /// `<r/>`.
    Request,
    /// `<a/>`.
    Acknowledge {
        /// `h`.
        h: u32,
    },
    /// An attribute is missing or wrong, or the element is not one for a server.
    Malformed,
}

impl SmElement {
    /// Reads an element of the namespace; `None` for those of others.
    pub fn parse(element: &Element<'_>) -> Option<SmElement> {
        if element.ns() != ns::SM {
            return None;
        }
        let number = |name: &str| {
            element
                .attr(name)
                .and_then(|value| value.parse::<u32>().ok())
        };
        Some(match element.name() {
            "enable" => SmElement::Enable {
                resume: matches!(element.attr("resume").as_deref(), Some("true" | "1")),
                max_seconds: number("max"),
            },
            "resume" => match (element.attr("previd"), number("h")) {
                (Some(previd), Some(h)) if previd.len() <= PREVID_BYTES_MAX => SmElement::Resume {
                    previd: previd.into_owned(),
                    h,
                },
                _ => SmElement::Malformed,
            },
            "r" => SmElement::Request,
            "a" => number("h").map_or(SmElement::Malformed, |h| SmElement::Acknowledge { h }),
            _ => SmElement::Malformed,
        })
    }
}

/// What `<enabled/>` tells the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmEnabled {
    /// The id to resume with; `None` if the stream cannot be resumed.
    pub id: Option<String>,
    /// For how long after a lost connection.
    pub max_seconds: Option<u32>,
}

/// `<enabled/>`.
pub fn enabled(enabled: &SmEnabled) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("enabled", ns::SM);
    if let Some(id) = &enabled.id {
        writer.attr("id", id).attr("resume", "true");
        if let Some(max) = enabled.max_seconds {
            writer.attr_display("max", max);
        }
    }
    writer.finish()
}

/// `<failed/>`, with the count of a session that is gone if it is still known.
pub fn failed(condition: Condition, h: Option<u32>) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("failed", ns::SM);
    if let Some(h) = h {
        writer.attr_display("h", h);
    }
    writer.empty(condition.name(), STANZAS).finish()
}

/// `<resumed/>`.
pub fn resumed(previd: &str, h: u32) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("resumed", ns::SM)
        .attr("previd", previd)
        .attr_display("h", h)
        .finish()
}

/// `<r/>`: asks the peer for its count.
pub fn request() -> Bytes {
    Bytes::from_static(b"<r xmlns='urn:xmpp:sm:3'/>")
}

/// `<a/>`: tells the peer ours.
pub fn acknowledge(h: u32) -> Bytes {
    Writer::new()
        .open_ns("a", ns::SM)
        .attr_display("h", h)
        .finish()
}

/// The stream error for a peer that has handled more than it was sent.
pub(super) fn handled_count_too_high(h: u32, sent: u32) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open("stream:error")
        .empty("undefined-condition", STREAM_ERRORS);
    writer
        .open_ns("handled-count-too-high", ns::SM)
        .attr_display("h", h)
        .attr_display("send-count", sent);
    writer.finish()
}
