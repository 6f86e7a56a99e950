//! Dialback keys (XEP-0185) and the elements that carry them (XEP-0220).

use bytes::Bytes;

use super::{Pair, Verdict};
use crate::crypto::{constant_time_eq, hmac_sha256};
use crate::stanza::{Condition, StanzaError, id};
use crate::xml::{Element, Writer};

/// The namespace of `<db:result/>` and `<db:verify/>`.
pub(super) const DIALBACK: &str = "jabber:server:dialback";

/// A key is at least 256 bits in hexadecimal; of what is longer than this nobody makes one.
const KEY_BYTES_MAX: usize = 1_024;

/// The longest id of a stream that is worth a verification.
const ID_BYTES_MAX: usize = 256;

/// The key for a stream (XEP-0185 §3): `receiving` and `sending` are the target and the sender
/// domain, `stream_id` what the receiving server has drawn. As it is only ever compared with one
/// that this server makes itself, the fields go in with their lengths, so that no two triples
/// give the same key.
pub fn key(secret: &[u8; 32], receiving: &str, sending: &str, stream_id: &str) -> String {
    let parts = ["dialback", receiving, sending, stream_id].map(str::as_bytes);
    id::hex(&hmac_sha256(secret, &parts))
}

/// One of the two elements, as it was received.
#[derive(Debug)]
pub(super) struct Packet {
    pub kind: Kind,
    pub from: String,
    pub to: String,
    /// Of `<db:verify/>` alone.
    pub id: String,
    pub says: Says,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Result,
    Verify,
}

#[derive(Debug)]
pub(super) enum Says {
    /// Here is a key.
    Key(String),
    /// Here is the outcome.
    Outcome(Verdict),
}

impl Packet {
    /// Reads an element of the namespace; `None` if it is malformed or of another one.
    pub fn parse(element: &Element<'_>) -> Option<Packet> {
        let kind = match (element.ns(), element.name()) {
            (DIALBACK, "result") => Kind::Result,
            (DIALBACK, "verify") => Kind::Verify,
            _ => return None,
        };
        let text = |name| element.attr(name).map(std::borrow::Cow::into_owned);
        let id = match kind {
            Kind::Result => String::new(),
            Kind::Verify => text("id").filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?,
        };
        let says = match element.attr("type").as_deref() {
            None => {
                let key = element.text().trim().to_owned();
                let is_key = !key.is_empty() && key.len() <= KEY_BYTES_MAX;
                Says::Key(is_key.then_some(key)?)
            }
            Some("valid") => Says::Outcome(Verdict::Valid),
            Some("invalid") => Says::Outcome(Verdict::Invalid),
            Some("error") => Says::Outcome(Verdict::Unknown(condition(element))),
            Some(_) => return None,
        };
        Some(Packet {
            kind,
            from: text("from")?,
            to: text("to")?,
            id,
            says,
        })
    }
}

fn condition(element: &Element<'_>) -> Condition {
    let mut errors = element.children().filter(|child| child.name() == "error");
    errors
        .next()
        .map_or(Condition::UndefinedCondition, |error| {
            StanzaError::read(&error).condition
        })
}

/// Whether a key that somebody asks about is ours.
pub(super) fn is_own(secret: &[u8; 32], pair: &Pair, stream_id: &str, asked: &str) -> bool {
    let own = key(secret, pair.remote.as_str(), pair.local.as_str(), stream_id);
    constant_time_eq(own.as_bytes(), asked.as_bytes())
}

/// `<db:result/>` with a key, from the local to the remote domain.
pub(super) fn result(pair: &Pair, key: &str) -> Bytes {
    let mut writer = Writer::new();
    addressed(&mut writer, "db:result", pair, None);
    writer.text(key).finish()
}

/// `<db:result/>` with an outcome.
pub(super) fn result_outcome(pair: &Pair, verdict: &Verdict) -> Bytes {
    let mut writer = Writer::new();
    addressed(&mut writer, "db:result", pair, None);
    outcome(&mut writer, verdict);
    writer.finish()
}

/// `<db:verify/>` with a key.
pub(super) fn verify(pair: &Pair, stream_id: &str, key: &str) -> Bytes {
    let mut writer = Writer::new();
    addressed(&mut writer, "db:verify", pair, Some(stream_id));
    writer.text(key).finish()
}

/// `<db:verify/>` with an outcome.
pub(super) fn verify_outcome(pair: &Pair, stream_id: &str, verdict: &Verdict) -> Bytes {
    let mut writer = Writer::new();
    addressed(&mut writer, "db:verify", pair, Some(stream_id));
    outcome(&mut writer, verdict);
    writer.finish()
}

/// An outcome for addresses that are no pair of ours, as they were written: `from` is who says it.
pub(super) fn refusal(packet: &Packet, condition: Condition) -> Bytes {
    let mut writer = Writer::new();
    let name = match packet.kind {
        Kind::Result => "db:result",
        Kind::Verify => "db:verify",
    };
    writer
        .open(name)
        .attr("from", &packet.to)
        .attr("to", &packet.from);
    writer.attr_opt("id", (!packet.id.is_empty()).then_some(&*packet.id));
    outcome(&mut writer, &Verdict::Unknown(condition));
    writer.finish()
}

fn addressed(writer: &mut Writer, name: &'static str, pair: &Pair, id: Option<&str>) {
    writer
        .open(name)
        .attr("from", pair.local.as_str())
        .attr("to", pair.remote.as_str())
        .attr_opt("id", id);
}

fn outcome(writer: &mut Writer, verdict: &Verdict) {
    let type_ = match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Unknown(_) => "error",
    };
    writer.attr("type", type_);
    if let Verdict::Unknown(condition) = verdict {
        StanzaError::new(*condition, "").write(writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_triples_have_the_same_key() {
        let secret = [7; 32];
        let one = key(&secret, "a.example", "b.example", "id");
        assert_eq!(one.len(), 64);
        assert_ne!(one, key(&secret, "a.exampleb", ".example", "id"));
        assert_ne!(one, key(&secret, "b.example", "a.example", "id"));
        assert_ne!(one, key(&[8; 32], "a.example", "b.example", "id"));
    }
}
