//! Forwarding: a new start tag for each recipient, everything behind it shared.

use bytes::Bytes;

use super::stanza::Stanza;
use crate::addr::Jid;
use crate::xml::{Span, escape_attribute};

/// What changes when a stanza is forwarded. `Default` changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite<'a> {
    /// Replaces `from`; `None` leaves it as it is.
    pub from: Option<&'a Jid>,
    /// Replaces `to`; `None` leaves it as it is.
    pub to: Option<&'a Jid>,
    /// Becomes `xml:lang` if the stanza has none: the language of the stream it came in (RFC 6120 §8.1.5).
    pub lang: Option<&'a str>,
    /// Elements to put in front of the first child. They must be validated or written by us, and self-contained.
    pub insert: &'a [u8],
}

/// What goes to a peer: head, then tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The start tag, built for this recipient, and what was inserted behind it.
    pub head: Bytes,
    /// The rest, shared with the stanza and all its other recipients.
    pub tail: Bytes,
}

impl Outgoing {
    /// Bytes on the wire.
    pub const fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Head and tail in one piece: copies. For what is kept rather than sent.
    pub fn to_bytes(&self) -> Bytes {
        [&self.head[..], &self.tail[..]].concat().into()
    }
}

/// Something that is sent as it is.
impl From<Bytes> for Outgoing {
    fn from(head: Bytes) -> Self {
        Self {
            head,
            tail: Bytes::new(),
        }
    }
}

impl From<&Stanza> for Outgoing {
    fn from(stanza: &Stanza) -> Self {
        stanza.bytes().clone().into()
    }
}

impl Stanza {
    /// Builds the start tag for one recipient and shares everything behind it. All attributes but `from` and `to` are
    /// kept as they stand, declarations included, because the rest may depend on them.
    pub fn rewrite(&self, rewrite: &Rewrite<'_>) -> Outgoing {
        let head = self.head();
        let tag = &self.bytes()[..head.tag_end as usize];
        let closing = if head.empty { 2 } else { 1 };
        let mut out = Vec::with_capacity(tag.len() + rewrite.added_bytes_max());
        let name_end = 1 + head.kind.name().len();
        out.extend_from_slice(&tag[..name_end]);

        let mut cuts = [
            head.from.filter(|_| rewrite.from.is_some()),
            head.to.filter(|_| rewrite.to.is_some()),
        ];
        cuts.sort_by_key(|cut| cut.map(|span| span.start));
        let mut at = name_end;
        for value in cuts.into_iter().flatten() {
            out.extend_from_slice(&tag[at..attribute_start(tag, value)]);
            at = value.end as usize + 1;
        }
        out.extend_from_slice(&tag[at..tag.len() - closing]);

        let mut add = |name: &[u8], value: &str| {
            out.push(b' ');
            out.extend_from_slice(name);
            out.extend_from_slice(b"='");
            escape_attribute(value, &mut out);
            out.push(b'\'');
        };
        if let Some(from) = rewrite.from {
            add(b"from", from.as_str());
        }
        if let Some(to) = rewrite.to {
            add(b"to", to.as_str());
        }
        if let Some(lang) = rewrite.lang.filter(|_| head.lang.is_none()) {
            add(b"xml:lang", lang);
        }
        self.finish_head(&mut out, rewrite.insert);
        Outgoing {
            head: out.into(),
            tail: self.tail(),
        }
    }

    /// Ends the start tag. An empty stanza that receives children gets its end tag here.
    fn finish_head(&self, out: &mut Vec<u8>, insert: &[u8]) {
        if self.head().empty && insert.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(insert);
        if self.head().empty {
            out.extend_from_slice(b"</");
            out.extend_from_slice(self.kind().name().as_bytes());
            out.push(b'>');
        }
    }
}

impl Rewrite<'_> {
    /// So that the head is one allocation, but for values that need escapes.
    fn added_bytes_max(&self) -> usize {
        let value = |len: usize| len + " xml:lang=''".len();
        let addresses = [self.from, self.to]
            .into_iter()
            .flatten()
            .map(|jid| value(jid.as_str().len()))
            .sum::<usize>();
        addresses
            + self.lang.map_or(0, |lang| value(lang.len()))
            + self.insert.len()
            + "</presence>".len()
    }
}

/// Where the attribute whose value is given starts, with one white space in front of it.
fn attribute_start(tag: &[u8], value: Span) -> usize {
    let before = &tag[..value.start as usize - 1];
    let equals = before
        .iter()
        .rposition(|&b| b == b'=')
        .expect("a value stands behind an equals sign");
    let name_end = before[..equals]
        .iter()
        .rposition(|b| !b.is_ascii_whitespace())
        .expect("a name stands there");
    before[..name_end]
        .iter()
        .rposition(u8::is_ascii_whitespace)
        .expect("white space stands before a name")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stanza::Kind;

    fn stanza(xml: &str) -> Stanza {
        Stanza::from_canonical(Bytes::copy_from_slice(xml.as_bytes())).expect(xml)
    }

    fn jid(text: &str) -> Jid {
        Jid::parse(text).expect("an address")
    }

    #[test]
    fn other_attributes_and_declarations_stay() {
        let message = stanza(
            "<message\tto = 'x'  xmlns:p='urn:p' p:to='y' id='1' from=\"evil\" p:from='z' xml:lang='de'><p:a/></message>",
        );
        let (from, to) = (jid("a@b/c'\"&"), jid("d@e"));
        let rewrite = Rewrite {
            from: Some(&from),
            to: Some(&to),
            lang: Some("en"),
            insert: b"",
        };
        let outgoing = message.rewrite(&rewrite);
        let again = stanza(std::str::from_utf8(&outgoing.to_bytes()).expect("UTF-8"));
        assert_eq!(again.from().as_deref(), Some("a@b/c'\"&"));
        assert_eq!(again.to().as_deref(), Some("d@e"));
        assert_eq!(
            (again.id().as_deref(), again.lang().as_deref()),
            (Some("1"), Some("de"))
        );
        assert_eq!(again.element().attr_ns("to", "urn:p").as_deref(), Some("y"));
        assert_eq!(
            again.element().attr_ns("from", "urn:p").as_deref(),
            Some("z")
        );
        assert!(again.has_child("a", "urn:p"));
    }

    #[test]
    fn nothing_changes_without_a_rewrite() {
        for xml in [
            "<presence/>",
            "<presence to='a' />",
            "<iq id='1'></iq>",
            "<message from='a'>x</message>",
        ] {
            let outgoing = stanza(xml).rewrite(&Rewrite::default());
            assert_eq!(outgoing.to_bytes().len(), xml.len());
            assert_eq!(outgoing.len(), xml.len());
        }
    }

    #[test]
    fn an_empty_stanza_can_receive_children() {
        let from = jid("a@b");
        let rewrite = Rewrite {
            from: Some(&from),
            insert: b"<x xmlns='urn:x'/>",
            ..Rewrite::default()
        };
        let outgoing = stanza("<presence/>").rewrite(&rewrite);
        assert_eq!(
            outgoing.to_bytes(),
            "<presence from='a@b'><x xmlns='urn:x'/></presence>"
        );
        assert_eq!(
            stanza("<presence to='b'/>")
                .rewrite(&Rewrite {
                    insert: b"",
                    ..rewrite
                })
                .to_bytes(),
            "<presence to='b' from='a@b'/>"
        );
    }

    proptest! {
        #[test]
        fn any_start_tag_can_be_rewritten(
            kind in prop::sample::select(vec!["message", "presence", "iq"]),
            attributes in prop::sample::subsequence(
                vec!["to='a'", "from=\"b\"", "id='c'", "xml:lang='en'", "x='to='", "from-='y'", "ato='z'"], 0..=7,
            ).prop_shuffle(),
            spaces in prop::collection::vec(prop::sample::select(vec![" ", "  ", "\n", "\t "]), 8),
            from in any::<bool>(),
            to in any::<bool>(),
            empty in any::<bool>(),
        ) {
            let mut xml = format!("<{kind}");
            for (attribute, space) in attributes.iter().zip(&spaces) {
                xml.push_str(space);
                xml.push_str(attribute);
            }
            xml.push_str(&if empty { "/>".to_owned() } else { format!("><a/></{kind}>") });
            let before = stanza(&xml);
            let (new_from, new_to) = (jid("new@from/x"), jid("new@to"));
            let rewrite = Rewrite { from: from.then_some(&new_from), to: to.then_some(&new_to), ..Rewrite::default() };
            let after = Stanza::from_canonical(before.rewrite(&rewrite).to_bytes()).expect("well-formed");
            let expected = |new: bool, jid: &Jid, old: Option<std::borrow::Cow<'_, str>>| {
                if new { Some(jid.to_string()) } else { old.map(|old| old.into_owned()) }
            };
            prop_assert_eq!(after.from().map(|v| v.into_owned()), expected(from, &new_from, before.from()));
            prop_assert_eq!(after.to().map(|v| v.into_owned()), expected(to, &new_to, before.to()));
            prop_assert_eq!(after.id(), before.id());
            prop_assert_eq!(after.kind(), before.kind());
            prop_assert_eq!(after.element().attr("x"), before.element().attr("x"));
            prop_assert!(after.kind() == Kind::of(kind).expect("a kind"));
        }
    }
}
