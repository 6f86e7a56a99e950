//! The stream header and what it means for the elements behind it (RFC 6120 §4.7, §4.8).

use super::cursor::Span;
use super::error::XmlError;
use super::escape::unescape;
use super::limits::Limits;
use super::scan::{Scan, namespace, normalise, scan_start_tag};
use super::{element::Attributes, names, ns};

/// The content namespace of a stream (RFC 6120 §4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `jabber:client`.
    Client,
    /// `jabber:server`.
    Server,
    /// `jabber:component:accept` (XEP-0114).
    Component,
}

/// The namespaces that a stream header puts in scope for every element of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamScope {
    pub(super) content: Content,
    default: Box<str>,
    prefixes: Box<[(Box<str>, Box<str>)]>,
}

/// A stream header, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// `to`, not yet checked to be an address.
    pub to: Option<String>,
    /// `from`, not yet checked to be an address.
    pub from: Option<String>,
    /// `id`, which only the receiving entity sends.
    pub id: Option<String>,
    /// `version`, as written.
    pub version: Option<String>,
    /// `xml:lang`, the default language of what follows.
    pub lang: Option<String>,
    /// What the header puts in scope.
    pub scope: StreamScope,
}

/// Used prefixes are noted as bits of a `u64`.
const PREFIXES_MAX: usize = 64;

impl Content {
    /// The namespace name.
    pub const fn ns(self) -> &'static str {
        match self {
            Self::Client => ns::CLIENT,
            Self::Server => ns::SERVER,
            Self::Component => ns::COMPONENT,
        }
    }

    /// Whether behind the edge this namespace is `jabber:client` (RFC 6120 §4.8.3).
    pub(super) fn is_translated(self, uri: &str) -> bool {
        self != Self::Client && uri == self.ns()
    }
}

impl StreamScope {
    /// The scope that canonical bytes assume: default namespace `jabber:client`, no prefixes.
    pub fn client() -> Self {
        Self {
            content: Content::Client,
            default: ns::CLIENT.into(),
            prefixes: Box::default(),
        }
    }

    /// The scope of a stream between servers whose header declares no more than it must.
    pub fn server() -> Self {
        Self {
            content: Content::Server,
            default: ns::SERVER.into(),
            prefixes: Box::default(),
        }
    }

    /// The scope of a carrier without a header, where each element declares what it needs (RFC 7395 §3.3.3).
    pub fn none(content: Content) -> Self {
        Self {
            content,
            default: Box::default(),
            prefixes: Box::default(),
        }
    }

    /// The content namespace.
    pub const fn content(&self) -> Content {
        self.content
    }

    /// The default namespace of an element that declares none.
    pub fn default_ns(&self) -> &str {
        &self.default
    }

    pub(super) fn default_is_content(&self) -> bool {
        *self.default == *self.content.ns()
    }

    pub(super) fn index(&self, prefix: &str) -> Option<u8> {
        let index = self
            .prefixes
            .iter()
            .position(|(known, _)| **known == *prefix)?;
        u8::try_from(index).ok()
    }

    /// Prefix and namespace by index.
    pub(crate) fn prefix(&self, index: u8) -> (&str, &str) {
        let (prefix, uri) = &self.prefixes[usize::from(index)];
        (prefix, uri)
    }
}

impl StreamHeader {
    /// Reads what the framer returned as a header, on a stream that must carry `content`.
    pub fn parse(bytes: &[u8], content: Content, limits: &Limits) -> Result<Self, XmlError> {
        let limits = Limits {
            namespaces_max: limits.namespaces_max.min(PREFIXES_MAX),
            ..*limits
        };
        let scan = scan_start_tag(bytes, &StreamScope::none(content), &limits)?;
        let scope = scope(bytes, content);
        let ns = match scan.ns {
            super::NsRef::At(span) => namespace(span.of(bytes)),
            super::NsRef::Xml => ns::XML.to_owned(),
            super::NsRef::Default | super::NsRef::Header(_) => String::new(),
        };
        let name = scan.name.of(bytes);
        check_root(name, &ns, &scope, is_prefixed(bytes, &scan))?;
        let text =
            |span: Option<Span>| span.map(|span| unescape(&normalise(span.of(bytes))).into_owned());
        Ok(Self {
            to: text(scan.to),
            from: text(scan.from),
            id: text(scan.id),
            version: text(scan.version),
            lang: text(scan.lang),
            scope,
        })
    }

    /// Major and minor version, 0.9 when the header names none (RFC 6120 §4.7.5).
    pub fn version_numbers(&self) -> Option<(u32, u32)> {
        let Some(version) = &self.version else {
            return Some((0, 9));
        };
        let (major, minor) = version.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

fn is_prefixed(bytes: &[u8], scan: &Scan) -> bool {
    bytes.get(scan.name.start as usize - 1) == Some(&b':')
}

/// The root is `{streams}stream`, and the content namespace is the default one or left to each stanza (RFC 6120
/// §4.8.3).
fn check_root(name: &str, ns: &str, scope: &StreamScope, prefixed: bool) -> Result<(), XmlError> {
    if name != "stream" {
        return Err(XmlError::BadFormat);
    }
    if ns != ns::STREAMS {
        let unprefixed_content = !prefixed && scope.default_is_content();
        return Err(if unprefixed_content {
            XmlError::BadPrefix
        } else {
            XmlError::InvalidNamespace
        });
    }
    if !scope.default_is_content() && (prefixed || scope.default_ns() != ns::STREAMS) {
        return Err(XmlError::InvalidNamespace);
    }
    Ok(())
}

fn scope(bytes: &[u8], content: Content) -> StreamScope {
    let mut scope = StreamScope::none(content);
    let mut prefixes = Vec::new();
    for (name, raw) in Attributes::of_tag(bytes) {
        match names::split(name) {
            ("", "xmlns") => scope.default = namespace(raw).into(),
            ("xmlns", "xml") => {}
            ("xmlns", prefix) => prefixes.push((prefix.into(), namespace(raw).into())),
            _ => {}
        }
    }
    scope.prefixes = prefixes.into();
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str, content: Content) -> Result<StreamHeader, XmlError> {
        StreamHeader::parse(xml.as_bytes(), content, &Limits::before_authentication())
    }

    #[test]
    fn a_header_is_read() {
        let header = parse(
            "<stream:stream to='im.example.com' from='juliet@im.example.com' version='1.0' xml:lang='en' id='a&amp;b' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x'>",
            Content::Client,
        )
        .expect("a header");
        assert_eq!(header.to.as_deref(), Some("im.example.com"));
        assert_eq!(header.from.as_deref(), Some("juliet@im.example.com"));
        assert_eq!(header.id.as_deref(), Some("a&b"));
        assert_eq!(header.lang.as_deref(), Some("en"));
        assert_eq!(header.version_numbers(), Some((1, 0)));
        assert_eq!(header.scope.default_ns(), "jabber:client");
        assert_eq!(
            header
                .scope
                .index("x")
                .map(|index| header.scope.prefix(index)),
            Some(("x", "urn:x"))
        );
        assert_eq!(header.scope.index("y"), None);
    }

    #[test]
    fn any_prefix_will_do_and_the_default_may_be_either() {
        for good in [
            "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
            "<stream xmlns='http://etherx.jabber.org/streams'>",
            "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'/>",
        ] {
            assert!(parse(good, Content::Client).is_ok(), "{good}");
        }
    }

    #[test]
    fn wrong_namespaces_and_names_are_told_apart() {
        for (header, reason) in [
            ("<stream xmlns='jabber:client'>", XmlError::BadPrefix),
            (
                "<s:stream xmlns='jabber:client' xmlns:s='urn:x'>",
                XmlError::InvalidNamespace,
            ),
            (
                "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>",
                XmlError::InvalidNamespace,
            ),
            (
                "<s:stream xmlns:s='http://etherx.jabber.org/streams'>",
                XmlError::InvalidNamespace,
            ),
            (
                "<s:streams xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
                XmlError::BadFormat,
            ),
            ("<s:stream xmlns='jabber:client'>", XmlError::NotWellFormed),
            (
                "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'><a/>",
                XmlError::NotWellFormed,
            ),
        ] {
            assert_eq!(
                parse(header, Content::Client).err(),
                Some(reason),
                "{header}"
            );
        }
    }

    #[test]
    fn a_header_without_version_is_of_version_0_9() {
        let header = |version: &str| {
            let xml = format!("<stream xmlns='http://etherx.jabber.org/streams'{version}>");
            parse(&xml, Content::Client)
                .expect("a header")
                .version_numbers()
        };
        assert_eq!(header(""), Some((0, 9)));
        assert_eq!(header(" version='2.11'"), Some((2, 11)));
        assert_eq!(header(" version='one'"), None);
    }
}
