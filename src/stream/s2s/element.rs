//! Namespaces and small elements of streams between servers, and the features of the peer.

use bytes::Bytes;

use crate::stream::ns;
use crate::xml::{Element, Writer};

/// The feature of dialback (XEP-0220 §2.5).
pub(super) const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// The feature of bidirectional streams (XEP-0288 §2.1).
pub(super) const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// What asks for one (XEP-0288 §2.2).
pub(super) const BIDI: &str = "urn:xmpp:bidi";

/// `<bidi/>`.
pub(super) fn bidi() -> Bytes {
    Writer::new().open_ns("bidi", BIDI).finish()
}

/// `<starttls/>`.
pub(super) fn starttls() -> Bytes {
    Writer::new().open_ns("starttls", ns::TLS).finish()
}

/// `<proceed/>`.
pub(super) fn proceed() -> Bytes {
    Writer::new().open_ns("proceed", ns::TLS).finish()
}

/// `<auth mechanism='EXTERNAL'/>` with the base64 of who we say we are (XEP-0178 §3).
pub(super) fn external(authzid: &str) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("auth", ns::SASL).attr("mechanism", EXTERNAL);
    writer.text(authzid).finish()
}

/// `<success/>`.
pub(super) fn success() -> Bytes {
    Writer::new().open_ns("success", ns::SASL).finish()
}

/// The mechanism's name (RFC 4422 appendix A).
pub(super) const EXTERNAL: &str = "EXTERNAL";

/// `<enable/>` (XEP-0198 §3).
pub(super) fn sm_enable() -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("enable", ns::SM).attr("resume", "true");
    writer.finish()
}

/// `<resume/>` (XEP-0198 §5).
pub(super) fn sm_resume(previd: &str, h: u32) -> Bytes {
    let mut writer = Writer::new();
    writer
        .open_ns("resume", ns::SM)
        .attr("previd", previd)
        .attr_display("h", h);
    writer.finish()
}

/// What the receiving entity offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offered {
    pub starttls: bool,
    pub external: bool,
    pub dialback: bool,
    pub bidi: bool,
    pub sm: bool,
}

impl Offered {
    pub fn read(features: &Element<'_>) -> Offered {
        let mut offered = Offered::default();
        for feature in features.children() {
            match (feature.ns(), feature.name()) {
                (ns::TLS, "starttls") => offered.starttls = true,
                (ns::SASL, "mechanisms") => {
                    offered.external = feature
                        .children()
                        .any(|mechanism| mechanism.text().trim() == EXTERNAL);
                }
                (DIALBACK_FEATURE, "dialback") => offered.dialback = true,
                (BIDI_FEATURE, "bidi") => offered.bidi = true,
                (ns::SM, "sm") => offered.sm = true,
                _ => {}
            }
        }
        offered
    }
}
