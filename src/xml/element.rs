//! A borrowed view of an element: read on demand, never built into a tree.
//!
//! The bytes under it are canonical (see `canonical`), so text and attributes need nothing but their references
//! resolved, and the default namespace above them is `jabber:client`. Because they were validated, walking needs to tell
//! only tags, quotes and text apart. Should bytes that nobody validated get here, the view shows less of them, it never
//! fails.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr, memchr3};

use super::chars::is_space;
use super::escape::unescape;
use super::{names, ns};

/// An element of canonical bytes, with its namespace resolved.
#[derive(Clone, Debug)]
pub struct Element<'a> {
    raw: &'a [u8],
    /// Behind the start tag, relative to `raw`.
    inner_start: usize,
    /// In front of the end tag, relative to `raw`.
    inner_end: usize,
    name: &'a str,
    ns: &'a str,
    /// Default namespace of the children.
    default: &'a str,
    scope: Option<Arc<Scope<'a>>>,
}

/// Prefix declarations of an element and those above it. Most stanzas have none.
#[derive(Debug)]
struct Scope<'a> {
    above: Option<Arc<Scope<'a>>>,
    bindings: Vec<(&'a str, &'a str)>,
}

/// The child elements of an element, in order.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    inner: &'a [u8],
    at: usize,
    default: &'a str,
    scope: Option<Arc<Scope<'a>>>,
}

/// The attributes of a start tag: qualified name and value as written.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    /// The element that `bytes` consist of; `None` when they do not start with a start tag.
    pub fn from_canonical(bytes: &'a [u8]) -> Option<Self> {
        Self::open(bytes, ns::CLIENT, None)
    }

    fn open(raw: &'a [u8], default: &'a str, scope: Option<Arc<Scope<'a>>>) -> Option<Self> {
        if raw.first() != Some(&b'<') {
            return None;
        }
        let inner_start = tag_end(raw)?;
        let tag = &raw[..inner_start];
        let inner_end = match tag {
            [.., b'/', b'>'] => inner_start,
            _ => memchr::memrchr(b'<', raw)?.max(inner_start),
        };
        let qname = tag_name(tag);
        let mut element = Self {
            raw,
            inner_start,
            inner_end,
            name: qname,
            ns: default,
            default,
            scope,
        };
        if tag.len() > qname.len() + 3 {
            element.declare();
        }
        let (prefix, local) = names::split(qname);
        element.ns = if prefix.is_empty() {
            element.default
        } else {
            element.resolve(prefix)?
        };
        element.name = local;
        Some(element)
    }

    fn declare(&mut self) {
        let mut bindings = Vec::new();
        for (name, value) in self.attributes() {
            match name.strip_prefix("xmlns") {
                Some("") => self.default = value,
                Some(rest) => bindings.extend(rest.strip_prefix(':').map(|prefix| (prefix, value))),
                None => {}
            }
        }
        if !bindings.is_empty() {
            self.scope = Some(Arc::new(Scope {
                above: self.scope.take(),
                bindings,
            }));
        }
    }

    fn resolve(&self, prefix: &str) -> Option<&'a str> {
        if prefix == "xml" {
            return Some(ns::XML);
        }
        self.scopes()
            .find_map(|scope| scope.bindings.iter().find(|(known, _)| *known == prefix))
            .map(|&(_, uri)| uri)
    }

    fn scopes(&self) -> impl Iterator<Item = &Scope<'a>> {
        std::iter::successors(self.scope.as_deref(), |scope| scope.above.as_deref())
    }

    /// Local name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Namespace name, empty when the element has none. A namespace of ours is spelt in one way only in canonical
    /// bytes, so comparing this with a literal is exact.
    pub const fn ns(&self) -> &'a str {
        self.ns
    }

    /// Whether the element has this name in this namespace.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// Value of the attribute of this name that has no namespace.
    pub fn attr(&self, name: &str) -> Option<Cow<'a, str>> {
        self.attributes()
            .find(|(known, _)| *known == name)
            .map(|(_, raw)| unescape(raw))
    }

    /// Value of the attribute of this name in a namespace, such as [`ns::XML`].
    pub fn attr_ns(&self, name: &str, ns: &str) -> Option<Cow<'a, str>> {
        self.attributes()
            .find(|(qname, _)| {
                let (prefix, local) = names::split(qname);
                local == name && !prefix.is_empty() && self.resolve(prefix) == Some(ns)
            })
            .map(|(_, raw)| unescape(raw))
    }

    /// `xml:lang` of this very element.
    pub fn lang(&self) -> Option<Cow<'a, str>> {
        self.attr_ns("lang", ns::XML)
    }

    /// All attributes as written, namespace declarations included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of_tag(self.tag())
    }

    /// The element's own character data, that of its children left out.
    pub fn text(&self) -> Cow<'a, str> {
        let inner = self.raw_inner();
        if memchr(b'<', inner).is_none() {
            return unescape(text(inner));
        }
        let mut out = String::new();
        let mut at = 0;
        let mut children = self.children();
        while let Some((start, end)) = children.next_bounds() {
            out.push_str(&unescape(text(&inner[at..start])));
            at = end;
        }
        out.push_str(&unescape(text(&inner[at..])));
        Cow::Owned(out)
    }

    /// The child elements, in order.
    pub fn children(&self) -> Children<'a> {
        Children {
            inner: self.raw_inner(),
            at: 0,
            default: self.default,
            scope: self.scope.clone(),
        }
    }

    /// The first child of this name in this namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<Self> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The first child of this namespace, whatever its name.
    pub fn child_in(&self, ns: &str) -> Option<Self> {
        self.children().find(|child| child.ns == ns)
    }

    /// Whether there is a child of this name in this namespace.
    pub fn has_child(&self, name: &str, ns: &str) -> bool {
        self.child(name, ns).is_some()
    }

    /// Whether there is neither text nor a child.
    pub const fn is_empty(&self) -> bool {
        self.inner_start == self.inner_end
    }

    /// The element as it stands. It may depend on declarations above it: see [`Element::to_self_contained`].
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What stands between the tags.
    pub fn raw_inner(&self) -> &'a [u8] {
        &self.raw[self.inner_start..self.inner_end]
    }

    fn tag(&self) -> &'a [u8] {
        &self.raw[..self.inner_start]
    }

    /// The element by itself, with every declaration above it that it may need, so that it means the same in any
    /// place.
    pub fn to_self_contained(&self) -> Bytes {
        let own: Vec<&str> = self
            .attributes()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("xmlns"))
            .collect();
        let mut missing: Vec<(&str, &str)> = Vec::new();
        if !own.contains(&"xmlns") {
            missing.push(("", self.default));
        }
        for &(prefix, uri) in self.scopes().flat_map(|scope| &scope.bindings) {
            let declared = own
                .iter()
                .any(|name| name.strip_prefix("xmlns:") == Some(prefix));
            let shadowed = missing.iter().any(|(known, _)| *known == prefix);
            if !declared && !shadowed {
                missing.push((prefix, uri));
            }
        }
        let at = 1 + tag_name(self.tag()).len();
        let mut out = Vec::with_capacity(self.raw.len() + 64 * missing.len());
        out.extend_from_slice(&self.raw[..at]);
        for (prefix, uri) in missing {
            out.extend_from_slice(if prefix.is_empty() {
                b" xmlns"
            } else {
                b" xmlns:"
            });
            out.extend_from_slice(prefix.as_bytes());
            // The value is as it was written; it may hold one kind of quote, never both unescaped.
            let quote = if uri.contains('\'') { b'"' } else { b'\'' };
            out.extend_from_slice(&[b'=', quote]);
            out.extend_from_slice(uri.as_bytes());
            out.push(quote);
        }
        out.extend_from_slice(&self.raw[at..]);
        out.into()
    }
}

impl Children<'_> {
    /// Where the next child stands in the parent's content.
    fn next_bounds(&mut self) -> Option<(usize, usize)> {
        let start = self.at + memchr(b'<', &self.inner[self.at..])?;
        // Whatever happens, the next call starts behind this place.
        self.at = self.inner.len();
        let mut at = start;
        let mut depth = 0usize;
        loop {
            let rest = &self.inner[at..];
            if rest.starts_with(b"</") {
                at += memchr(b'>', rest)? + 1;
                depth = depth.checked_sub(1)?;
            } else {
                at += tag_end(rest)?;
                depth += usize::from(self.inner[at - 2] != b'/');
            }
            if depth == 0 {
                self.at = at;
                return Some((start, at));
            }
            at += memchr(b'<', &self.inner[at..])?;
        }
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (start, end) = self.next_bounds()?;
        Element::open(&self.inner[start..end], self.default, self.scope.clone())
    }
}

impl<'a> Attributes<'a> {
    /// The attributes of the start tag at the front of validated bytes.
    pub(super) fn of_tag(tag: &'a [u8]) -> Self {
        Self {
            rest: tag.get(1 + tag_name(tag).len()..).unwrap_or_default(),
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let rest = trim_start(self.rest);
        self.rest = &[];
        let equals = rest.iter().position(|&b| matches!(b, b'=' | b'>' | b'/'))?;
        let (name, rest) = rest.split_at(equals);
        let quoted = trim_start(rest.strip_prefix(b"=")?);
        let (quote, behind) = quoted
            .split_first()
            .filter(|(b, _)| matches!(b, b'\'' | b'"'))?;
        let end = memchr(*quote, behind)?;
        self.rest = &behind[end + 1..];
        Some((text(name).trim_ascii_end(), text(&behind[..end])))
    }
}

/// Validated bytes as text.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|&&b| is_space(b)).count()..]
}

/// Behind the start tag at the front of `raw`.
fn tag_end(raw: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr3(b'>', b'\'', b'"', &raw[at..])? + 1;
        match raw[at - 1] {
            b'>' => return Some(at),
            quote => at += memchr(quote, &raw[at..])? + 1,
        }
    }
}

/// The qualified name at the front of a start tag.
fn tag_name(tag: &[u8]) -> &str {
    let name = tag.strip_prefix(b"<").unwrap_or_default();
    let end = name
        .iter()
        .position(|&b| is_space(b) || b == b'>' || b == b'/')
        .unwrap_or(name.len());
    text(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(xml: &str) -> Element<'_> {
        Element::from_canonical(xml.as_bytes()).expect("an element")
    }

    #[test]
    fn children_are_walked_in_order_with_their_namespaces() {
        let iq = element(
            "<iq>\n<query xmlns='urn:q' a=\"1&gt;0\" b = '&lt;'><item/>x<item xmlns=''><query/></item></query>&amp;<b/></iq>",
        );
        let names: Vec<_> = iq
            .children()
            .map(|child| (child.name(), child.ns()))
            .collect();
        assert_eq!(names, [("query", "urn:q"), ("b", "jabber:client")]);
        let query = iq.child("query", "urn:q").expect("a child");
        assert_eq!(query.attr("a").as_deref(), Some("1>0"));
        assert_eq!(query.attr("b").as_deref(), Some("<"));
        assert_eq!(query.attr("c"), None);
        let names: Vec<_> = query
            .children()
            .map(|child| (child.name(), child.ns()))
            .collect();
        assert_eq!(names, [("item", "urn:q"), ("item", "")]);
        assert_eq!(query.text(), "x");
        assert_eq!(iq.text(), "\n&");
        assert!(!iq.has_child("query", "jabber:client") && iq.child_in("urn:q").is_some());
        assert!(iq.child("b", "jabber:client").is_some_and(|b| b.is_empty()));
    }

    #[test]
    fn prefixes_are_resolved_through_every_level() {
        let a = element(
            "<a xmlns:p='urn:p'><p:b p:x='1' x='2' xml:lang='en'><c xmlns:p='urn:q'><p:d/></c><p:d/></p:b></a>",
        );
        let b = a.child("b", "urn:p").expect("a child");
        assert_eq!(b.attr_ns("x", "urn:p").as_deref(), Some("1"));
        assert_eq!(b.attr("x").as_deref(), Some("2"));
        assert_eq!(b.lang().as_deref(), Some("en"));
        let d: Vec<_> = b
            .children()
            .map(|child| (child.name(), child.ns()))
            .collect();
        assert_eq!(d, [("c", "jabber:client"), ("d", "urn:p")]);
        assert!(
            b.child("c", "jabber:client")
                .is_some_and(|c| c.has_child("d", "urn:q"))
        );
    }

    #[test]
    fn an_element_taken_out_keeps_its_meaning() {
        let a = element(
            "<a xmlns='urn:\"a' xmlns:p='urn:p' xmlns:q='urn:q'><p:b xmlns:q='urn:r'><c q:x='1'/></p:b></a>",
        );
        let b = a.children().next().expect("a child");
        assert_eq!(
            b.to_self_contained(),
            "<p:b xmlns='urn:\"a' xmlns:p='urn:p' xmlns:q='urn:r'><c q:x='1'/></p:b>"
        );
        let c = b.children().next().expect("a child").to_self_contained();
        let c = Element::from_canonical(&c).expect("an element");
        assert_eq!(
            (c.ns(), c.attr_ns("x", "urn:r").as_deref()),
            ("urn:\"a", Some("1"))
        );
        assert_eq!(
            element("<a/>").to_self_contained(),
            "<a xmlns='jabber:client'/>"
        );
    }

    #[test]
    fn bytes_that_nobody_validated_show_less_but_do_no_harm() {
        for xml in [
            "",
            "a",
            "<",
            "<a",
            "<a b='",
            "<a><b",
            "<a></b>",
            "<a><p:b/></a>",
            "<a b></a>",
            "<a><![CDATA[x",
            "</a>",
        ] {
            if let Some(element) = Element::from_canonical(xml.as_bytes()) {
                let _ = (
                    element.text(),
                    element.attr("b"),
                    element.children().count(),
                    element.to_self_contained(),
                );
            }
        }
    }
}
