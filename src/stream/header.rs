//! Stream headers: judging the peer's and writing ours (RFC 6120 §4.7).

use super::config::C2sHost;
use crate::addr::Jid;
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::xml::{StreamHeader, Writer, ns};

/// Ends our direction of a stream.
pub(super) const FOOTER: &[u8] = b"</stream:stream>";

/// A client's header that passed: which domain it asks for, and who it says it is.
#[derive(Debug)]
pub(super) struct Opening {
    pub domain: Jid,
    pub from: Option<Jid>,
}

/// Checks the addresses and the version of a header from a client.
pub(super) fn judge(header: &StreamHeader, hosts: &[C2sHost]) -> Result<Opening, StreamError> {
    use StreamErrorCondition as C;
    let Some(to) = &header.to else {
        return Err(StreamError::new(C::HostUnknown, "the header has no to"));
    };
    let to = Jid::parse(to)
        .ok()
        .filter(|to| to.local().is_none() && to.is_bare())
        .ok_or_else(|| StreamError::new(C::ImproperAddressing, "to is not a domain"))?;
    let host = hosts.iter().find(|host| host.domain == to);
    let host = host.ok_or_else(|| StreamError::new(C::HostUnknown, "not served here"))?;
    let from = match &header.from {
        Some(from) => Some(
            Jid::parse(from)
                .map_err(|_| StreamError::new(C::ImproperAddressing, "from is not an address"))?,
        ),
        None => None,
    };
    // RFC 6120 §4.7.5: the lower of both versions is used; before 1.0 there was no TLS.
    match header.version_numbers() {
        Some((major, _)) if major >= 1 => Ok(Opening {
            domain: host.domain.clone(),
            from,
        }),
        _ => Err(StreamError::new(
            C::UnsupportedVersion,
            "version 1.0 is needed",
        )),
    }
}

/// Our header. `id` must be unpredictable (RFC 6120 §4.7.3).
pub(super) fn write(domain: &Jid, to: Option<&str>, id: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .open("stream:stream")
        .attr("xmlns", ns::CLIENT)
        .attr("xmlns:stream", ns::STREAMS)
        .attr("from", domain.as_str())
        .attr("id", id)
        .attr_opt("to", to)
        .attr("version", "1.0")
        .attr("xml:lang", "en");
    [b"<?xml version='1.0'?>".as_slice(), &writer.finish_open()].concat()
}

/// The shape of a language tag (RFC 5646 §2.1); anything else is not repeated to others.
pub(super) fn is_language_tag(lang: &str) -> bool {
    let is_subtag = |tag: &str| {
        (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    lang.len() <= 64 && lang.split('-').all(is_subtag)
}
