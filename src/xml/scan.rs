//! Validation of a whole element in one pass, noting on the way what routing needs.
//!
//! Accepts exactly the XML of RFC 6120 §11 and Namespaces in XML 1.0. What it notes are offsets, so that nothing is
//! copied; whether the bytes are canonical (see `canonical`) falls out of the same pass.

use std::mem;

use super::cursor::{Cursor, Name, Span};
use super::error::XmlError;
use super::escape::{escape_attribute, unescape};
use super::header::StreamScope;
use super::limits::Limits;
use super::ns;

/// Where the name of an element's namespace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsRef {
    /// The default namespace of the stream.
    Default,
    /// A prefix of the stream header, by its index in the scope.
    Header(u8),
    /// Nowhere: the prefix `xml` needs no declaration (Namespaces in XML 1.0 §3).
    Xml,
    /// The value of a declaration inside the element.
    At(Span),
}

/// What one pass over an element found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The root's local name.
    pub name: Span,
    /// The root's namespace.
    pub ns: NsRef,
    /// Value of the root's `from`, as written.
    pub from: Option<Span>,
    /// Value of the root's `to`, as written.
    pub to: Option<Span>,
    /// Value of the root's `id`, as written.
    pub id: Option<Span>,
    /// Value of the root's `type`, as written.
    pub type_: Option<Span>,
    /// Value of the root's `version`, as written; only stream headers have one.
    pub version: Option<Span>,
    /// Value of the root's `xml:lang`, as written.
    pub lang: Option<Span>,
    /// Behind the root's start tag.
    pub tag_end: u32,
    /// The root is an empty-element tag.
    pub empty: bool,
    /// Local name and namespace of the first child.
    pub child: Option<(Span, NsRef)>,
    /// Which prefixes of the stream header are used, as bits.
    pub header_prefixes: u64,
    /// The bytes mean the same by themselves, under the default namespace `jabber:client`, to every parser.
    pub canonical: bool,
}

/// Validates one element as it stands in a stream with this scope.
pub fn scan(bytes: &[u8], scope: &StreamScope, limits: &Limits) -> Result<Scan, XmlError> {
    let mut scanner = Scanner::new(bytes, scope, limits)?;
    if scanner.cursor.bytes.first() != Some(&b'<') {
        return Err(XmlError::NotWellFormed);
    }
    scanner.start_tag()?;
    scanner.content(0)?;
    if scanner.cursor.at != bytes.len() {
        return Err(XmlError::NotWellFormed);
    }
    Ok(scanner.into_scan())
}

/// Validates a run of elements and text as the content of a canonical stanza.
pub fn scan_fragment(bytes: &[u8], limits: &Limits) -> Result<(), XmlError> {
    let scope = StreamScope::client();
    let mut scanner = Scanner::new(bytes, &scope, limits)?;
    while scanner.cursor.at < bytes.len() {
        if bytes[scanner.cursor.at] != b'<' {
            scanner.cursor.text()?;
            continue;
        }
        if scanner.cursor.cdata_or_refuse()? {
            continue;
        }
        scanner.start_tag()?;
        scanner.content(0)?;
    }
    Ok(())
}

/// Validates a start tag alone, as a stream header is one.
pub(super) fn scan_start_tag(
    bytes: &[u8],
    scope: &StreamScope,
    limits: &Limits,
) -> Result<Scan, XmlError> {
    let mut scanner = Scanner::new(bytes, scope, limits)?;
    if scanner.cursor.bytes.first() != Some(&b'<') {
        return Err(XmlError::NotWellFormed);
    }
    scanner.start_tag()?;
    if scanner.cursor.at != bytes.len() {
        return Err(XmlError::NotWellFormed);
    }
    Ok(scanner.into_scan())
}

struct Scanner<'a> {
    cursor: Cursor<'a>,
    scope: &'a StreamScope,
    limits: &'a Limits,
    open: Vec<Open>,
    bindings: Vec<Binding>,
    attributes: Vec<Attribute>,
    /// Room for the attributes with a prefix of one start tag, and what they are bound to.
    qualified: Vec<(Name, Bound)>,
    elements: usize,
    /// The default namespace that the root declares, for its first child.
    root_default: Option<Span>,
    scan: Scan,
}

/// An element whose end tag is still to come.
struct Open {
    name: Span,
    bindings: usize,
}

/// A prefix and the value of its declaration.
struct Binding {
    prefix: Span,
    uri: Span,
    /// The namespace, where the value does not spell it literally. Kept, because attributes are compared by it.
    unescaped: Option<Box<str>>,
}

/// What a prefix is bound to.
#[derive(Clone, Copy)]
enum Bound {
    /// A declaration inside the element, by its index.
    Here(usize),
    /// One of the stream header, by its index.
    Header(u8),
}

#[derive(Clone, Copy)]
struct Attribute {
    name: Name,
    value: Span,
    /// The value holds a reference or white space that is normalised.
    escaped: bool,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], scope: &'a StreamScope, limits: &'a Limits) -> Result<Self, XmlError> {
        if bytes.len() > limits.stanza_bytes_max {
            return Err(XmlError::TooBig);
        }
        let scan = Scan {
            name: Span::default(),
            ns: NsRef::Default,
            from: None,
            to: None,
            id: None,
            type_: None,
            version: None,
            lang: None,
            tag_end: 0,
            empty: false,
            child: None,
            header_prefixes: 0,
            canonical: true,
        };
        Ok(Self {
            cursor: Cursor::new(bytes)?,
            scope,
            limits,
            open: Vec::with_capacity(8),
            bindings: Vec::new(),
            attributes: Vec::with_capacity(8),
            qualified: Vec::new(),
            elements: 0,
            root_default: None,
            scan,
        })
    }

    fn into_scan(self) -> Scan {
        Scan {
            canonical: self.cursor.canonical,
            ..self.scan
        }
    }

    /// Reads on until no more than `until` elements are open.
    fn content(&mut self, until: usize) -> Result<(), XmlError> {
        while self.open.len() > until {
            self.cursor.text()?;
            match self.cursor.peek(1)? {
                b'/' => self.end_tag()?,
                b'!' | b'?' => {
                    self.cursor.cdata_or_refuse()?;
                }
                _ => self.start_tag()?,
            }
        }
        Ok(())
    }

    fn end_tag(&mut self) -> Result<(), XmlError> {
        let open = self
            .open
            .pop()
            .expect("content runs only while an element is open");
        self.bindings.truncate(open.bindings);
        let name = &self.cursor.bytes[open.name.start as usize..open.name.end as usize];
        let rest = self.cursor.bytes[self.cursor.at + 2..]
            .strip_prefix(name)
            .ok_or(XmlError::NotWellFormed)?;
        self.cursor.at += 2 + name.len();
        match rest.first() {
            Some(b'>') => {}
            _ => {
                self.cursor.spaces();
                if self.cursor.peek(0)? != b'>' {
                    return Err(XmlError::NotWellFormed);
                }
            }
        }
        self.cursor.at += 1;
        Ok(())
    }

    /// Reads a start tag and, unless it is empty, opens its element.
    fn start_tag(&mut self) -> Result<(), XmlError> {
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            return Err(XmlError::TooManyElements);
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(XmlError::TooDeep);
        }
        self.cursor.at += 1;
        let name = self.name()?;
        let bindings = self.bindings.len();
        self.attributes.clear();
        let mut default = None;
        let empty = loop {
            let spaced = self.cursor.spaces();
            match self.cursor.peek(0)? {
                b'>' => {
                    self.cursor.at += 1;
                    break false;
                }
                b'/' if self.cursor.peek(1)? == b'>' => {
                    self.cursor.at += 2;
                    break true;
                }
                _ if !spaced => return Err(XmlError::NotWellFormed),
                _ => self.attribute(&mut default)?,
            }
        };
        let ns = self.element_ns(name, default)?;
        self.check_attributes()?;
        self.note(name, ns, default, empty);
        if empty {
            self.bindings.truncate(bindings);
        } else {
            self.open.push(Open {
                name: name.span,
                bindings,
            });
        }
        Ok(())
    }

    /// Reads one attribute; a namespace declaration takes effect, `default` receives that of the default namespace.
    fn attribute(&mut self, default: &mut Option<Span>) -> Result<(), XmlError> {
        if self.attributes.len() >= self.limits.attributes_max {
            return Err(XmlError::TooManyAttributes);
        }
        let name = self.name()?;
        if self.cursor.peek(0)? != b'=' {
            self.cursor.spaces();
        }
        if self.cursor.peek(0)? != b'=' {
            return Err(XmlError::NotWellFormed);
        }
        self.cursor.at += 1;
        if !matches!(self.cursor.peek(0)?, b'\'' | b'"') {
            self.cursor.spaces();
        }
        let (value, escaped) = self.value()?;
        let attribute = Attribute {
            name,
            value,
            escaped,
        };
        let written = self.cursor.bytes_of(name.span);
        if self
            .attributes
            .iter()
            .any(|other| self.cursor.bytes_of(other.name.span) == written)
        {
            return Err(XmlError::NotWellFormed);
        }
        self.attributes.push(attribute);
        if written == b"xmlns" {
            self.declare(attribute, None)?;
            *default = Some(value);
        } else if name.prefix == 6 && written.starts_with(b"xmlns:") {
            self.declare(
                attribute,
                Some(Span {
                    start: name.span.start + name.prefix,
                    end: name.span.end,
                }),
            )?;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<Name, XmlError> {
        let name = self.cursor.name()?;
        if name.span.len() > self.limits.name_bytes_max {
            return Err(XmlError::NameTooLong);
        }
        Ok(name)
    }

    fn value(&mut self) -> Result<(Span, bool), XmlError> {
        let value = self.cursor.value()?;
        if value.0.len() > self.limits.attribute_bytes_max {
            return Err(XmlError::AttributeTooLong);
        }
        Ok(value)
    }

    /// The constraints of Namespaces in XML 1.0 §3 on a declaration; `prefix` is absent for the default namespace.
    fn declare(&mut self, attribute: Attribute, prefix: Option<Span>) -> Result<(), XmlError> {
        let raw = self.cursor.text_of(attribute.value);
        let unescaped = attribute.escaped.then(|| namespace(raw).into_boxed_str());
        if let Some(unescaped) = &unescaped {
            // Canonical bytes spell a namespace in one way only, so that comparing bytes compares namespaces.
            self.cursor.canonical &= is_minimal(raw, unescaped);
        }
        let uri = unescaped.as_deref().unwrap_or(raw);
        if self.scope.content.is_translated(uri) {
            self.cursor.canonical = false;
        }
        let allowed = match prefix.map(|prefix| self.cursor.text_of(prefix)) {
            Some("xml") => uri == ns::XML,
            Some("xmlns") => false,
            Some(_) => !uri.is_empty() && uri != ns::XML && uri != ns::XMLNS,
            None => uri != ns::XML && uri != ns::XMLNS,
        };
        if !allowed {
            return Err(XmlError::NotWellFormed);
        }
        if let Some(prefix) = prefix {
            if self.bindings.len() >= self.limits.namespaces_max {
                return Err(XmlError::TooManyNamespaces);
            }
            self.bindings.push(Binding {
                prefix,
                uri: attribute.value,
                unescaped,
            });
        }
        Ok(())
    }

    /// The namespace of an element: that of its prefix, or the default one as far as it matters, which is for the root
    /// and its first child.
    fn element_ns(&mut self, name: Name, default: Option<Span>) -> Result<NsRef, XmlError> {
        if name.prefix == 0 {
            return Ok(default
                .or(self.root_default)
                .map_or(NsRef::Default, NsRef::At));
        }
        match self.cursor.prefix(name) {
            "xml" => return Ok(NsRef::Xml),
            "xmlns" => return Err(XmlError::NotWellFormed),
            _ => {}
        }
        Ok(match self.resolve(name)? {
            Bound::Here(index) => NsRef::At(self.bindings[index].uri),
            Bound::Header(index) => NsRef::Header(index),
        })
    }

    fn resolve(&mut self, name: Name) -> Result<Bound, XmlError> {
        #[cfg(test)]
        tests::RESOLVED.set(tests::RESOLVED.get() + 1);
        let prefix = self.cursor.prefix(name);
        let here = self
            .bindings
            .iter()
            .rposition(|binding| self.cursor.text_of(binding.prefix) == prefix);
        if let Some(index) = here {
            return Ok(Bound::Here(index));
        }
        let index = self.scope.index(prefix).ok_or(XmlError::NotWellFormed)?;
        self.scan.header_prefixes |= 1 << index;
        self.cursor.canonical = false;
        Ok(Bound::Header(index))
    }

    /// Every prefix is declared, and no two attributes have the same expanded name (Namespaces in XML 1.0 §6.3).
    /// Sorted, because comparing each with each costs a sender nothing and us the square of their number.
    fn check_attributes(&mut self) -> Result<(), XmlError> {
        let mut qualified = mem::take(&mut self.qualified);
        qualified.clear();
        for index in 0..self.attributes.len() {
            let name = self.attributes[index].name;
            if self.is_qualified(name) {
                qualified.push((name, self.resolve(name)?));
            }
        }
        if qualified.len() > 1 {
            let expanded =
                |&(name, bound): &(Name, Bound)| (self.cursor.local(name), self.bound_uri(bound));
            qualified.sort_unstable_by(|one, other| expanded(one).cmp(&expanded(other)));
            let mut pairs = qualified.windows(2);
            if pairs.any(|pair| expanded(&pair[0]) == expanded(&pair[1])) {
                return Err(XmlError::NotWellFormed);
            }
        }
        self.qualified = qualified;
        Ok(())
    }

    /// Whether the name has a prefix that must have been declared.
    fn is_qualified(&self, name: Name) -> bool {
        name.prefix > 0 && !matches!(self.cursor.prefix(name), "xml" | "xmlns")
    }

    fn bound_uri(&self, bound: Bound) -> &str {
        match bound {
            Bound::Here(index) => {
                let binding = &self.bindings[index];
                binding
                    .unescaped
                    .as_deref()
                    .unwrap_or_else(|| self.cursor.text_of(binding.uri))
            }
            Bound::Header(index) => self.scope.prefix(index).1,
        }
    }

    /// Keeps what is worth keeping about the root and its first child.
    fn note(&mut self, name: Name, ns: NsRef, default: Option<Span>, empty: bool) {
        let local = Span {
            start: name.span.start + name.prefix,
            end: name.span.end,
        };
        if self.elements == 2 {
            self.scan.child = Some((local, ns));
        }
        if self.elements != 1 {
            return;
        }
        self.root_default = default;
        self.scan.name = local;
        self.scan.ns = ns;
        self.scan.tag_end = self.cursor.at as u32;
        self.scan.empty = empty;
        for attribute in &self.attributes {
            let slot = match self.cursor.bytes_of(attribute.name.span) {
                b"from" => &mut self.scan.from,
                b"to" => &mut self.scan.to,
                b"id" => &mut self.scan.id,
                b"type" => &mut self.scan.type_,
                b"version" => &mut self.scan.version,
                b"xml:lang" => &mut self.scan.lang,
                _ => continue,
            };
            *slot = Some(attribute.value);
        }
        // Without a declaration of its own, the root stands in the stream's default namespace, which canonical bytes
        // imply only where it is the content namespace. A stanza's name must need no prefix.
        let implied = default.is_some() || self.scope.default_is_content();
        let prefixed_content = name.prefix > 0 && self.uri(ns) == self.scope.content.ns();
        if !implied || prefixed_content {
            self.cursor.canonical = false;
        }
    }

    fn uri(&self, ns: NsRef) -> &str {
        match ns {
            NsRef::Default => self.scope.default_ns(),
            NsRef::Header(index) => self.scope.prefix(index).1,
            NsRef::Xml => ns::XML,
            NsRef::At(span) => self.cursor.text_of(span),
        }
    }
}

/// Whether `raw` escapes no more of `value` than our own writer does.
fn is_minimal(raw: &str, value: &str) -> bool {
    let mut escaped = Vec::with_capacity(raw.len());
    escape_attribute(value, &mut escaped);
    escaped == raw.as_bytes()
}

/// The namespace name that a declaration's value stands for (XML 1.0 §3.3.3).
pub(super) fn namespace(raw: &str) -> String {
    unescape(&normalise(raw)).into_owned()
}

/// Attribute value normalisation of literal white space (XML 1.0 §2.11, §3.3.3): a line end in any spelling becomes
/// one space, a tab another.
pub(super) fn normalise(raw: &str) -> String {
    raw.replace("\r\n", " ").replace(['\r', '\n', '\t'], " ")
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
