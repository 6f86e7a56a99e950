//! The one form in which elements live behind the edge.
//!
//! Canonical bytes stand under the default namespace `jabber:client` and need nothing else from the stream they came
//! in: no prefix of its header, no default namespace of its own. They hold no CDATA section, no carriage return and no
//! white space in attribute values that a parser would change, and a namespace name is spelt in one way. So they mean
//! the same to every parser, in every stream, and can be forwarded as they are. What arrives in another form, which is
//! rare, is written anew here, once.

use std::rc::Rc;

use bytes::Bytes;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::element::Attributes;
use super::error::XmlError;
use super::escape::{escape_text, unescape};
use super::header::StreamScope;
use super::limits::Limits;
use super::scan::{Scan, namespace, normalise};
use super::write::Writer;
use super::{names, ns};

/// Writes an element that `scan` accepted in the scope of its stream anew, in canonical form.
///
/// Fails only with [`XmlError::TooBig`], when the element grows beyond the limit because it relied on declarations
/// that must be repeated.
pub fn canonicalise(
    bytes: &[u8],
    scope: &StreamScope,
    scan: &Scan,
    limits: &Limits,
) -> Result<Bytes, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::UnsupportedEncoding)?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut rewriter = Rewriter {
        scope,
        scan,
        limits,
        writer: Writer::with_capacity(bytes.len() + 64),
        defaults: vec![Defaults {
            read: mapped(scope, scope.default_ns().into()).into(),
            written: ns::CLIENT.into(),
        }],
        bindings: Vec::new(),
    };
    loop {
        let start = reader.buffer_position() as usize;
        let event = reader.read_event().map_err(|_| XmlError::NotWellFormed)?;
        let raw = &text[start..reader.buffer_position() as usize];
        match event {
            Event::Start(_) => rewriter.start(raw)?,
            Event::Empty(_) => {
                rewriter.start(raw)?;
                rewriter.end();
            }
            Event::End(_) => rewriter.end(),
            Event::Text(_) | Event::GeneralRef(_) => rewriter.text(&unescape(&line_ends(raw))),
            Event::CData(data) => rewriter.text(&line_ends(&data.into_inner())),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {
                return Err(XmlError::Restricted);
            }
        }
        if rewriter.writer.len() > limits.stanza_bytes_max {
            return Err(XmlError::TooBig);
        }
    }
    Ok(rewriter.writer.finish())
}

struct Rewriter<'a> {
    scope: &'a StreamScope,
    scan: &'a Scan,
    limits: &'a Limits,
    writer: Writer,
    defaults: Vec<Defaults>,
    /// Prefixes in force in the input with the depth at which they were declared. The output has the same.
    bindings: Vec<(usize, String, String)>,
}

/// Default namespaces inside an element: as read and as written. Shared, because a long one may be inherited by
/// thousands of elements.
#[derive(Clone)]
struct Defaults {
    read: Rc<str>,
    written: Rc<str>,
}

impl Rewriter<'_> {
    fn start(&mut self, tag: &str) -> Result<(), XmlError> {
        let depth = self.writer.depth();
        let mut defaults = self
            .defaults
            .last()
            .expect("the stream's default is never popped")
            .clone();
        let mut declared: Vec<(String, String)> = Vec::new();
        for (name, raw) in Attributes::of_tag(tag.as_bytes()) {
            match names::split(name) {
                ("", "xmlns") => defaults.read = mapped(self.scope, namespace(raw)).into(),
                ("xmlns", prefix) => {
                    declared.push((prefix.into(), mapped(self.scope, namespace(raw))));
                }
                _ => {}
            }
        }
        if depth == 0 {
            self.declare_header_prefixes(&mut declared);
        }
        self.bindings.extend(
            declared
                .iter()
                .map(|(prefix, uri)| (depth, prefix.clone(), uri.clone())),
        );

        let qname = element_name(tag);
        let (prefix, local) = names::split(qname);
        let is_stanza = depth == 0 && !prefix.is_empty() && self.uri(prefix) == Some(ns::CLIENT);
        self.writer.open_name(if is_stanza { local } else { qname });
        let is_written =
            Rc::ptr_eq(&defaults.read, &defaults.written) || defaults.read == defaults.written;
        if prefix.is_empty() && !is_written {
            self.writer.attr("xmlns", &defaults.read);
            defaults.written = Rc::clone(&defaults.read);
        }
        for (prefix, uri) in &declared {
            self.writer.attr_name(&format!("xmlns:{prefix}"), uri);
        }
        for (name, raw) in Attributes::of_tag(tag.as_bytes()) {
            if name != "xmlns" && !name.starts_with("xmlns:") {
                self.writer.attr_name(name, &unescape(&normalise(raw)));
            }
        }
        self.defaults.push(defaults);
        if self.writer.len() > self.limits.stanza_bytes_max {
            Err(XmlError::TooBig)
        } else {
            Ok(())
        }
    }

    /// What an element used of the stream header's declarations moves to its root.
    fn declare_header_prefixes(&self, declared: &mut Vec<(String, String)>) {
        for index in (0..64u8).filter(|index| self.scan.header_prefixes >> index & 1 == 1) {
            let (prefix, uri) = self.scope.prefix(index);
            if !declared.iter().any(|(known, _)| known == prefix) {
                declared.push((prefix.into(), mapped(self.scope, uri.into())));
            }
        }
    }

    fn uri(&self, prefix: &str) -> Option<&str> {
        self.bindings
            .iter()
            .rev()
            .find(|(_, known, _)| known == prefix)
            .map(|(_, _, uri)| uri.as_str())
    }

    fn end(&mut self) {
        self.writer.close();
        self.defaults.pop();
        let depth = self.writer.depth();
        while self
            .bindings
            .last()
            .is_some_and(|(declared_at, ..)| *declared_at >= depth)
        {
            self.bindings.pop();
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.writer.end_tag();
            escape_text(text, self.writer.raw());
        }
    }
}

/// The content namespace of servers and components becomes that of clients (RFC 6120 §4.8.3: a server translates between the two).
fn mapped(scope: &StreamScope, uri: String) -> String {
    if scope.content().is_translated(&uri) {
        ns::CLIENT.into()
    } else {
        uri
    }
}

/// Line ends as a parser reads them (XML 1.0 §2.11).
fn line_ends(raw: &str) -> String {
    raw.replace("\r\n", "\n").replace('\r', "\n")
}

fn element_name(tag: &str) -> &str {
    let name = &tag[1..];
    let end = name
        .find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/')
        .unwrap_or(name.len());
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Content;
    use crate::xml::{StreamHeader, XmlError, scan};

    fn canonical_in(header: &str, content: Content, xml: &str) -> Result<String, XmlError> {
        let limits = Limits {
            stanza_bytes_max: 2000,
            ..Limits::after_authentication()
        };
        let scope = StreamHeader::parse(header.as_bytes(), content, &limits)?.scope;
        let scanned = scan(xml.as_bytes(), &scope, &limits)?;
        assert!(!scanned.canonical, "{xml}");
        let bytes = canonicalise(xml.as_bytes(), &scope, &scanned, &limits)?;
        assert!(
            scan(&bytes, &StreamScope::client(), &Limits::own())?.canonical,
            "{bytes:?}"
        );
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn client(xml: &str) -> String {
        let header = "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client' \
                      xmlns:x='urn:x'>";
        canonical_in(header, Content::Client, xml).expect(xml)
    }

    #[test]
    fn text_and_values_are_written_as_a_parser_reads_them() {
        assert_eq!(
            client("<a>1<![CDATA[<&]]>2<![CDATA[]]]]>></a>"),
            "<a>1&lt;&amp;2]]&gt;</a>"
        );
        assert_eq!(
            client("<a>1\r\n2\r3&#13;4&#xA;5</a>"),
            "<a>1\n2\n3&#xD;4\n5</a>"
        );
        assert_eq!(client("<a b='1\r\n2\t3&#10;4'/>"), "<a b='1 2 3&#xA;4'/>");
        assert_eq!(
            client("<a xmlns='urn:&#97;'><b/></a>"),
            "<a xmlns='urn:a'><b/></a>"
        );
    }

    #[test]
    fn declarations_of_the_header_move_to_the_root() {
        assert_eq!(
            client("<s:error><x:a/><b x:c='1'/></s:error>"),
            "<s:error xmlns:s='http://etherx.jabber.org/streams' xmlns:x='urn:x'><x:a/><b x:c='1'/></s:error>"
        );
        assert_eq!(
            client("<c:message xmlns:x='urn:y'><x:a/></c:message>"),
            "<message xmlns:x='urn:y' xmlns:c='jabber:client'><x:a/></message>"
        );
    }

    #[test]
    fn a_stanza_needs_no_prefix() {
        assert_eq!(
            client("<p:iq xmlns:p='jabber:client' xmlns='urn:q'><query/><p:x><y/></p:x></p:iq>"),
            "<iq xmlns:p='jabber:client'><query xmlns='urn:q'/><p:x><y xmlns='urn:q'/></p:x></iq>"
        );
    }

    #[test]
    fn another_default_namespace_is_declared() {
        let header = "<stream xmlns='http://etherx.jabber.org/streams'>";
        assert_eq!(
            canonical_in(header, Content::Client, "<error><a xmlns='urn:a'/></error>").as_deref(),
            Ok("<error xmlns='http://etherx.jabber.org/streams'><a xmlns='urn:a'/></error>")
        );
    }

    #[test]
    fn content_of_servers_becomes_content_of_clients() {
        let header = "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'>";
        assert_eq!(
            canonical_in(
                header,
                Content::Server,
                "<message xmlns='jabber:server'><body/></message>"
            )
            .as_deref(),
            Ok("<message><body/></message>")
        );
        assert_eq!(
            canonical_in(header, Content::Server, "<db:result>x</db:result>").as_deref(),
            Ok("<db:result xmlns:db='jabber:server:dialback'>x</db:result>")
        );
    }

    #[test]
    fn repeating_declarations_is_bounded() {
        let long = "u".repeat(500);
        let xml = format!(
            "<p:iq xmlns:p='jabber:client' xmlns='{long}'>{}</p:iq>",
            "<a/>".repeat(10)
        );
        assert_eq!(
            canonical_in(
                "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
                Content::Client,
                &xml
            ),
            Err(XmlError::TooBig)
        );
    }
}
