//! The stanza: one piece of immutable bytes and a head of offsets into it.

use std::borrow::Cow;

use bytes::Bytes;

use super::first_level::{FirstLevel, Nonza};
use super::kind::Kind;
use crate::addr::Jid;
use crate::xml::{
    Children, Content, Element, Limits, NsRef, Scan, Span, StreamScope, XmlError, canonicalise, ns,
    scan, unescape,
};

/// A message, presence or iq. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Stanza {
    bytes: Bytes,
    head: Head,
}

/// What routing needs to know, found in the one pass that validated the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub(super) kind: Kind,
    pub(super) empty: bool,
    pub(super) from: Option<Span>,
    pub(super) to: Option<Span>,
    pub(super) id: Option<Span>,
    pub(super) type_: Option<Span>,
    pub(super) lang: Option<Span>,
    pub(super) tag_end: u32,
    pub(super) child: Option<(Span, NsRef)>,
}

impl Stanza {
    /// Validates one first-level element that arrived in a stream of this scope.
    ///
    /// The bytes are kept as they are if they are canonical, which nearly all are, and written anew otherwise. A root
    /// in the content namespace that is not one of the three stanzas is a nonza.
    pub fn parse(
        bytes: Bytes,
        scope: &StreamScope,
        limits: &Limits,
    ) -> Result<FirstLevel, XmlError> {
        let scanned = scan(&bytes, scope, limits)?;
        refuse_foreign_content(&bytes, &scanned, scope)?;
        if scanned.canonical {
            return Ok(Self::first_level(bytes, &scanned));
        }
        let bytes = canonicalise(&bytes, scope, &scanned, limits)?;
        let scanned = scan(&bytes, &StreamScope::client(), &Limits::own())?;
        debug_assert!(
            scanned.canonical,
            "the canonical form is its own canonical form"
        );
        Ok(Self::first_level(bytes, &scanned))
    }

    /// Reads back bytes that were canonical when they were kept, such as a record of the store, or that we built
    /// ourselves. They are validated again, because a store can rot.
    pub fn from_canonical(bytes: Bytes) -> Result<Self, XmlError> {
        match Self::parse(bytes, &StreamScope::client(), &Limits::own())? {
            FirstLevel::Stanza(stanza) => Ok(stanza),
            FirstLevel::Nonza(_) => Err(XmlError::BadFormat),
        }
    }

    fn first_level(bytes: Bytes, scan: &Scan) -> FirstLevel {
        let is_content = match scan.ns {
            NsRef::Default => true,
            NsRef::At(span) => span.of(&bytes) == ns::CLIENT,
            NsRef::Header(_) | NsRef::Xml => false,
        };
        match Kind::of(scan.name.of(&bytes)).filter(|_| is_content) {
            Some(kind) => FirstLevel::Stanza(Self {
                head: Head::new(kind, scan),
                bytes,
            }),
            None => FirstLevel::Nonza(Nonza::new(bytes)),
        }
    }

    /// Message, presence or iq.
    pub const fn kind(&self) -> Kind {
        self.head.kind
    }

    /// `from` as the sender wrote it, or as the server stamped it.
    pub fn from(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.from)
    }

    /// `to`, not yet checked to be an address.
    pub fn to(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.to)
    }

    /// `from` and `to`, if both are there and valid: what every stanza between servers has (RFC
    /// 6120 §8.1.1.2, §8.1.2.2).
    pub fn addresses(&self) -> Option<(Jid, Jid)> {
        let from = Jid::parse(&self.from()?).ok()?;
        Some((from, Jid::parse(&self.to()?).ok()?))
    }

    /// `id`.
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.id)
    }

    /// `type`, whatever it says.
    pub fn type_(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.type_)
    }

    /// Whether `type` says exactly this.
    pub fn is_type(&self, type_: &str) -> bool {
        self.type_().is_some_and(|known| known == type_)
    }

    /// Whether this is an error stanza (RFC 6120 §8.3).
    pub fn is_error(&self) -> bool {
        self.is_type("error")
    }

    /// `xml:lang` of the stanza itself.
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.value(self.head.lang)
    }

    fn value(&self, span: Option<Span>) -> Option<Cow<'_, str>> {
        span.map(|span| unescape(span.of(&self.bytes)))
    }

    /// Namespace and name of the first child, by which an iq is dispatched (RFC 6120 §8.2.3).
    pub fn payload(&self) -> Option<(&str, &str)> {
        let (name, ns) = self.head.child?;
        let ns = match ns {
            NsRef::At(span) => span.of(&self.bytes),
            NsRef::Xml => ns::XML,
            NsRef::Default | NsRef::Header(_) => ns::CLIENT,
        };
        Some((ns, name.of(&self.bytes)))
    }

    /// The stanza as an element.
    pub fn element(&self) -> Element<'_> {
        Element::from_canonical(&self.bytes).expect("a stanza is one validated element")
    }

    /// Its children, in order.
    pub fn children(&self) -> Children<'_> {
        self.element().children()
    }

    /// The first child of this name in this namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<Element<'_>> {
        self.children().find(|child| child.is(name, ns))
    }

    /// Whether there is a child of this name in this namespace.
    pub fn has_child(&self, name: &str, ns: &str) -> bool {
        self.child(name, ns).is_some()
    }

    /// The whole stanza as canonical bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The offsets.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Everything behind the start tag, the end tag included, without copying it. Empty for an empty-element tag.
    pub fn tail(&self) -> Bytes {
        self.bytes.slice(self.head.tag_end as usize..)
    }

    /// Whether the stanza is an empty-element tag, so that its tail is empty.
    pub const fn is_empty(&self) -> bool {
        self.head.empty
    }

    /// The stanza without the children that `strip` points at. Copies, and only if there is one; for the rare case
    /// that a sender says what only a server may say.
    #[must_use]
    pub fn without_children(&self, mut strip: impl FnMut(&Element<'_>) -> bool) -> Self {
        let mut kept = Vec::new();
        let mut at = 0;
        for child in self.children() {
            if strip(&child) {
                let start = child.raw().as_ptr() as usize - self.bytes.as_ptr() as usize;
                kept.extend_from_slice(&self.bytes[at..start]);
                at = start + child.raw().len();
            }
        }
        if at == 0 {
            return self.clone();
        }
        kept.extend_from_slice(&self.bytes[at..]);
        Self::from_canonical(kept.into())
            .expect("whole children were taken out of a validated stanza")
    }
}

impl PartialEq for Stanza {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Stanza {}

impl Head {
    const fn new(kind: Kind, scan: &Scan) -> Self {
        Self {
            kind,
            empty: scan.empty,
            from: scan.from,
            to: scan.to,
            id: scan.id,
            type_: scan.type_,
            lang: scan.lang,
            tag_end: scan.tag_end,
            child: scan.child,
        }
    }
}

/// On a stream between servers, or of a component, `jabber:client` is not the content namespace (RFC 6120 §4.8.3); behind the edge such an
/// element could not be told from a real stanza.
fn refuse_foreign_content(bytes: &[u8], scan: &Scan, scope: &StreamScope) -> Result<(), XmlError> {
    if scope.content() == Content::Client {
        return Ok(());
    }
    match scan.ns {
        NsRef::At(span) if unescape(span.of(bytes)) == ns::CLIENT => {
            Err(XmlError::InvalidNamespace)
        }
        NsRef::Header(index) if scope.prefix(index).1 == ns::CLIENT => {
            Err(XmlError::InvalidNamespace)
        }
        NsRef::Default if scope.default_ns() == ns::CLIENT => Err(XmlError::InvalidNamespace),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Jid;
    use crate::stanza::Rewrite;
    use crate::xml::StreamHeader;

    fn parse_in(header: &str, content: Content, xml: &str) -> Result<FirstLevel, XmlError> {
        let limits = Limits::after_authentication();
        let header = StreamHeader::parse(header.as_bytes(), content, &limits)?;
        Stanza::parse(
            Bytes::copy_from_slice(xml.as_bytes()),
            &header.scope,
            &limits,
        )
    }

    const CLIENT: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                          xmlns:c='jabber:client' xmlns:x='urn:x' to='example.com' version='1.0'>";

    fn stanza(xml: &str) -> Stanza {
        match parse_in(CLIENT, Content::Client, xml) {
            Ok(FirstLevel::Stanza(stanza)) => stanza,
            other => panic!("{xml}: {other:?}"),
        }
    }

    #[test]
    fn canonical_bytes_are_kept_as_they_are() {
        let xml = Bytes::from_static(
            b"<message to='a@b' id='1&amp;2' xml:lang=\"de\" type='chat'><body>hi &gt; \xc3\xa9</body><x xmlns='urn:y'/></message>",
        );
        let Ok(FirstLevel::Stanza(stanza)) =
            Stanza::parse(xml.clone(), &StreamScope::client(), &Limits::own())
        else {
            panic!("no stanza")
        };
        assert_eq!(stanza.bytes().as_ptr(), xml.as_ptr());
        assert_eq!(stanza.kind(), Kind::Message);
        assert_eq!(stanza.to().as_deref(), Some("a@b"));
        assert_eq!(stanza.from(), None);
        assert_eq!(stanza.id().as_deref(), Some("1&2"));
        assert_eq!(stanza.lang().as_deref(), Some("de"));
        assert!(stanza.is_type("chat"));
        assert_eq!(stanza.payload(), Some(("jabber:client", "body")));
        assert_eq!(
            stanza.child("body", "jabber:client").unwrap().text(),
            "hi > é"
        );
        assert!(stanza.has_child("x", "urn:y") && !stanza.has_child("x", "jabber:client"));
    }

    #[test]
    fn forwarding_shares_the_payload() {
        let stanza = stanza("<message from='evil@b/c' to='x' id='1'><body>hi</body></message>");
        let from = Jid::parse("a@b/c").unwrap();
        let to = Jid::parse("d@e/f").unwrap();
        let rewrite = Rewrite {
            from: Some(&from),
            to: Some(&to),
            insert: b"<y xmlns='urn:y'/>",
            lang: Some("en"),
        };
        let outgoing = stanza.rewrite(&rewrite);
        assert_eq!(
            outgoing.head,
            "<message id='1' from='a@b/c' to='d@e/f' xml:lang='en'><y xmlns='urn:y'/>"
        );
        assert_eq!(outgoing.tail, "<body>hi</body></message>");
        assert_eq!(
            outgoing.tail.as_ptr(),
            stanza.bytes()[stanza.head().tag_end as usize..].as_ptr()
        );
    }

    #[test]
    fn prefixes_of_the_header_move_into_the_stanza() {
        let stanza = stanza(
            "<c:message c:a='1'><c:body>x</c:body><body/><x:y x:z='1'/><stream:w/></c:message>",
        );
        assert_eq!(
            stanza.bytes(),
            "<message xmlns:stream='http://etherx.jabber.org/streams' xmlns:c='jabber:client' xmlns:x='urn:x' c:a='1'>\
             <c:body>x</c:body><body/><x:y x:z='1'/><stream:w/></message>"
        );
        assert_eq!(
            stanza
                .child("y", "urn:x")
                .unwrap()
                .attr_ns("z", "urn:x")
                .as_deref(),
            Some("1")
        );
        assert_eq!(
            stanza
                .children()
                .filter(|c| c.is("body", "jabber:client"))
                .count(),
            2
        );
    }

    #[test]
    fn what_is_no_stanza_is_a_nonza() {
        let nonza = |xml: &str| match parse_in(CLIENT, Content::Client, xml) {
            Ok(FirstLevel::Nonza(nonza)) => (
                nonza.element().name().to_owned(),
                nonza.element().ns().to_owned(),
            ),
            other => panic!("{xml}: {other:?}"),
        };
        assert_eq!(
            nonza("<r xmlns='urn:xmpp:sm:3'/>"),
            ("r".into(), "urn:xmpp:sm:3".into())
        );
        assert_eq!(
            nonza("<message xmlns='urn:x'/>"),
            ("message".into(), "urn:x".into())
        );
        assert_eq!(
            nonza("<message xmlns='jabber:server'/>"),
            ("message".into(), "jabber:server".into())
        );
        assert_eq!(
            nonza("<features/>"),
            ("features".into(), "jabber:client".into())
        );
        let stream_error = nonza(
            "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        );
        assert_eq!(stream_error, ("error".into(), ns::STREAMS.into()));
    }

    #[test]
    fn streams_between_servers_carry_the_same_stanzas() {
        const SERVER: &str = "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams' \
                              xmlns:c='jabber:client'>";
        let parsed = |xml: &str| parse_in(SERVER, Content::Server, xml);
        for xml in [
            "<message><body/></message>",
            "<message xmlns='jabber:server'><body/></message>",
        ] {
            let Ok(FirstLevel::Stanza(stanza)) = parsed(xml) else {
                panic!("{xml}")
            };
            assert_eq!(stanza.bytes(), "<message><body/></message>");
            assert_eq!(stanza.payload(), Some(("jabber:client", "body")));
        }
        for xml in [
            "<message xmlns='jabber:client'/>",
            "<c:message/>",
            "<message xmlns='jabber&#58;client'/>",
        ] {
            assert_eq!(parsed(xml).err(), Some(XmlError::InvalidNamespace), "{xml}");
        }
        let forwarded =
            "<message><x xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></x></message>";
        assert!(
            matches!(parsed(forwarded), Ok(FirstLevel::Stanza(stanza)) if stanza.bytes() == forwarded)
        );
    }

    #[test]
    fn children_can_be_taken_out() {
        let message = stanza(
            "<message id='1'><stanza-id xmlns='urn:xmpp:sid:0' by='a'/>\n<body>x</body>y<stanza-id xmlns='urn:xmpp:sid:&#48;' by='b'/></message>",
        );
        let stripped = message.without_children(|child| child.is("stanza-id", "urn:xmpp:sid:0"));
        assert_eq!(
            stripped.bytes(),
            "<message id='1'>\n<body>x</body>y</message>"
        );
        assert_eq!(stripped.payload(), Some(("jabber:client", "body")));
        assert_eq!(stripped.id().as_deref(), Some("1"));
        let same = stripped.without_children(|_| false);
        assert_eq!(
            same.bytes().as_ptr(),
            stripped.bytes().as_ptr(),
            "nothing is copied when nothing is stripped"
        );
    }

    #[test]
    fn stored_bytes_are_checked_again() {
        assert!(Stanza::from_canonical(Bytes::from_static(b"<message/>")).is_ok());
        assert_eq!(
            Stanza::from_canonical(Bytes::from_static(b"<message>")).err(),
            Some(XmlError::NotWellFormed)
        );
        assert_eq!(
            Stanza::from_canonical(Bytes::from_static(b"<r xmlns='u'/>")).err(),
            Some(XmlError::BadFormat)
        );
    }
}
