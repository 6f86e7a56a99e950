//! Stanzas that the server itself says. What is built here is canonical: under the default namespace `jabber:client`.

use bytes::Bytes;

use super::error::StanzaError;
use super::kind::Kind;
use super::stanza::Stanza;
use crate::addr::Jid;
use crate::xml::Writer;

/// The result of an iq (RFC 6120 §8.2.3). `payload` was written by us or validated; empty for none.
pub fn iq_result(to: Option<&Jid>, from: Option<&Jid>, id: &str, payload: &[u8]) -> Bytes {
    iq("result", to, from, id, payload)
}

/// A request for information.
pub fn iq_get(to: Option<&Jid>, from: Option<&Jid>, id: &str, payload: &[u8]) -> Bytes {
    iq("get", to, from, id, payload)
}

/// A request to set something, such as a roster push.
pub fn iq_set(to: Option<&Jid>, from: Option<&Jid>, id: &str, payload: &[u8]) -> Bytes {
    iq("set", to, from, id, payload)
}

/// The refusal of an iq.
pub fn iq_error(to: Option<&Jid>, from: Option<&Jid>, id: &str, error: &StanzaError) -> Bytes {
    let mut writer = start(Kind::Iq, Some("error"), to, from, Some(id), 256);
    error.write(&mut writer);
    writer.finish()
}

/// A presence stanza; `type_` is absent for availability.
pub fn presence(
    type_: Option<&str>,
    to: Option<&Jid>,
    from: Option<&Jid>,
    payload: &[u8],
) -> Bytes {
    start(Kind::Presence, type_, to, from, None, payload.len())
        .splice_validated(payload)
        .finish()
}

/// A message; `type_` is absent for a normal one.
pub fn message(
    type_: Option<&str>,
    to: Option<&Jid>,
    from: Option<&Jid>,
    id: &str,
    payload: &[u8],
) -> Bytes {
    start(Kind::Message, type_, to, from, Some(id), payload.len())
        .splice_validated(payload)
        .finish()
}

/// A writer inside the start tag of a stanza: add attributes and children, then finish.
pub fn start(
    kind: Kind,
    type_: Option<&str>,
    to: Option<&Jid>,
    from: Option<&Jid>,
    id: Option<&str>,
    payload_bytes: usize,
) -> Writer {
    let mut writer = Writer::with_capacity(128 + payload_bytes);
    writer
        .open(kind.name())
        .attr_opt("type", type_)
        .attr_opt("id", id);
    writer
        .attr_opt("from", from.map(Jid::as_str))
        .attr_opt("to", to.map(Jid::as_str));
    writer
}

fn iq(
    type_: &'static str,
    to: Option<&Jid>,
    from: Option<&Jid>,
    id: &str,
    payload: &[u8],
) -> Bytes {
    start(Kind::Iq, Some(type_), to, from, Some(id), payload.len())
        .splice_validated(payload)
        .finish()
}

impl Stanza {
    /// Whether an error may be sent in answer: an error must never answer an error, nor a result (RFC 6120 §8.3.1,
    /// §8.2.3).
    pub fn may_be_refused(&self) -> bool {
        !(self.is_error() || self.kind() == Kind::Iq && self.is_type("result"))
    }

    /// The refusal of this stanza: the same kind and id, addresses swapped, without its payload (RFC 6120 §8.3.1). Ask
    /// [`Stanza::may_be_refused`] first.
    pub fn error_reply(&self, error: &StanzaError) -> Bytes {
        let mut writer = self.reply("error", 256);
        error.write(&mut writer);
        writer.finish()
    }

    /// The refusal of this stanza for a sender that it does not name itself, such as a client of this server.
    pub fn error_reply_to(&self, error: &StanzaError, to: &Jid) -> Bytes {
        let mut writer = self.reply_to("error", Some(to.as_str()), 256);
        error.write(&mut writer);
        writer.finish()
    }

    /// The result of this iq: same id, addresses swapped.
    pub fn result_reply(&self, payload: &[u8]) -> Bytes {
        self.reply("result", payload.len())
            .splice_validated(payload)
            .finish()
    }

    /// Addresses are repeated as they were written: of one that is malformed, the sender must learn which it was.
    fn reply(&self, type_: &'static str, payload_bytes: usize) -> Writer {
        self.reply_to(type_, self.from().as_deref(), payload_bytes)
    }

    fn reply_to(&self, type_: &'static str, to: Option<&str>, payload_bytes: usize) -> Writer {
        let mut writer = Writer::with_capacity(128 + payload_bytes);
        writer
            .open(self.kind().name())
            .attr("type", type_)
            .attr_opt("id", self.id().as_deref());
        writer
            .attr_opt("from", self.to().as_deref())
            .attr_opt("to", to);
        writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).expect("an address")
    }

    #[test]
    fn iqs_are_built() {
        let (to, from) = (jid("a@b/c"), jid("b"));
        assert_eq!(
            iq_result(Some(&to), Some(&from), "<1>", b"<q xmlns='urn:q'/>"),
            "<iq type='result' id='&lt;1&gt;' from='b' to='a@b/c'><q xmlns='urn:q'/></iq>"
        );
        assert_eq!(iq_get(None, None, "1", b""), "<iq type='get' id='1'/>");
        assert_eq!(
            iq_set(Some(&to), None, "1", b""),
            "<iq type='set' id='1' to='a@b/c'/>"
        );
        assert_eq!(
            iq_error(None, None, "1", &StanzaError::item_not_found("")),
            "<iq type='error' id='1'><error type='cancel'><item-not-found \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        assert_eq!(
            presence(Some("unavailable"), None, Some(&to), b""),
            "<presence type='unavailable' from='a@b/c'/>"
        );
        assert_eq!(
            message(None, Some(&to), None, "1", b"<body>x</body>"),
            "<message id='1' to='a@b/c'><body>x</body></message>"
        );
    }

    #[test]
    fn a_refusal_swaps_addresses_and_keeps_the_id() {
        let stanza = |xml: &'static str| {
            Stanza::from_canonical(Bytes::from_static(xml.as_bytes())).expect(xml)
        };
        let iq =
            stanza("<iq type='get' id='a&amp;b' from='a@b/c' to='@bad'><q xmlns='urn:q'/></iq>");
        assert!(iq.may_be_refused());
        let refusal = iq.error_reply(&StanzaError::jid_malformed("that is no address"));
        assert_eq!(
            refusal,
            "<iq type='error' id='a&amp;b' from='@bad' to='a@b/c'><error type='modify'><jid-malformed \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' \
             xml:lang='en'>that is no address</text></error></iq>"
        );
        let refusal = Stanza::from_canonical(refusal).expect("canonical");
        assert!(refusal.is_error() && !refusal.may_be_refused());
        assert!(!stanza("<iq type='result' id='1'/>").may_be_refused());
        assert!(stanza("<message/>").may_be_refused());
        assert_eq!(
            iq.result_reply(b""),
            "<iq type='result' id='a&amp;b' from='@bad' to='a@b/c'/>"
        );
    }
}
