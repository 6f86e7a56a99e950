//! Target `stanza`: elements of a stream, as our parser and as an independent one (rxml) see them.
//!
//! The first byte of the input chooses the stream header, the rest is what the peer sends behind it. Checked are
//! - that both parsers accept the same streams, but for the disagreements that [`may_disagree`] explains;
//! - that the canonical form of each element means to rxml what the element meant in its stream;
//! - that our pull view of it shows the same tree;
//! - that parsing what was written gives what was parsed, and that forwarding changes nothing but addresses.

use bytes::{Bytes, BytesMut};
use cairn::addr::Jid;
use cairn::stanza::{FirstLevel, Rewrite, Stanza};
use cairn::xml::{
    Content, Element, Frame, Framer, Limits, StreamHeader, StreamScope, Writer, XmlError, ns,
    scan_fragment,
};
use rxml::error::EndOrError;
use rxml::{Event, Options, Parse, Parser, RawEvent, RawParser, WithOptions};

/// Headers of streams, with what their elements are content of.
const HEADERS: [(&str, Content); 4] = [
    (
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        Content::Client,
    ),
    (
        "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client' \
         xmlns:x='urn:x' xmlns:y='urn:y' xmlns:z='urn:x'>",
        Content::Client,
    ),
    (
        "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>",
        Content::Client,
    ),
    (
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' xmlns:s='jabber:server'>",
        Content::Server,
    ),
];

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 1 << 16;

/// Runs the target on one input; panics on a finding.
pub fn stanza(data: &[u8]) {
    let Some((&selector, sent)) = data.split_first() else {
        return;
    };
    if sent.len() > INPUT_BYTES_MAX {
        return;
    }
    let (header, content) = HEADERS[usize::from(selector) % HEADERS.len()];
    let limits = Limits::own();
    let scope = StreamHeader::parse(header.as_bytes(), content, &limits)
        .expect("our headers are sound")
        .scope;
    let ours = read_stream(header, sent, &scope, &limits);
    let theirs = oracle(&[header.as_bytes(), sent, footer(header).as_bytes()].concat());
    match (&ours, &theirs) {
        (Ok(elements), Ok(events)) => {
            let expected = mapped(first_level(events), content);
            assert_eq!(
                elements.len(),
                expected.len(),
                "the same first-level elements"
            );
            for (element, expected) in elements.iter().zip(&expected) {
                check_element(element, expected);
            }
        }
        (Err(None), _) => {}
        (Ok(_), Err(error)) => assert!(
            rxml_may_refuse(*error, sent),
            "only rxml refuses: {error:?}"
        ),
        (Err(Some(error)), Ok(events)) => {
            assert!(
                may_disagree(*error, header, sent, events),
                "only we refuse: {error:?}"
            );
        }
        (Err(Some(_)), Err(_)) => {}
    }
}

/// Our reading of what was sent: its elements, or why it was refused. `Err(None)` when the peer ended the stream itself
/// or the end of an element is missing, so that there is nothing to compare.
fn read_stream(
    header: &str,
    sent: &[u8],
    scope: &StreamScope,
    limits: &Limits,
) -> Result<Vec<FirstLevel>, Option<XmlError>> {
    let mut framer = Framer::new(*limits);
    let mut input = BytesMut::from(header.as_bytes());
    assert!(matches!(
        framer.next(&mut input),
        Ok(Some(Frame::Header(_)))
    ));
    input.extend_from_slice(sent);
    let mut elements = Vec::new();
    loop {
        match framer.next(&mut input).map_err(Some)? {
            Some(Frame::Element(bytes)) => {
                elements.push(Stanza::parse(bytes, scope, limits).map_err(Some)?);
            }
            Some(Frame::Header(_) | Frame::Footer) => return Err(None),
            None if framer.is_inside() => return Err(None),
            None => return Ok(elements),
        }
    }
}

fn footer(header: &str) -> String {
    let name = header[1..].split(' ').next().expect("a name");
    format!("</{name}>")
}

/// One event of an element, as both parsers can tell it. Text is merged, attributes are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Start {
        name: String,
        ns: String,
        attributes: Vec<(String, String, String)>,
    },
    Text(String),
    End,
}

fn options() -> Options {
    Options {
        max_token_length: 1 << 18,
        ..Options::default()
    }
}

/// The document with line ends as XML 1.0 §2.11 has a parser translate them before anything else. rxml 0.14 does it
/// itself but for a few places: behind `]`, and a lone carriage return in an attribute value.
fn with_line_feeds(document: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len());
    for (at, &b) in document.iter().enumerate() {
        match b {
            b'\r' if document.get(at + 1) == Some(&b'\n') => {}
            b'\r' => out.push(b'\n'),
            _ => out.push(b),
        }
    }
    out
}

/// rxml's reading of a whole document.
fn oracle(document: &[u8]) -> Result<Vec<Node>, rxml::Error> {
    let mut parser = Parser::with_options(options());
    let document = with_line_feeds(document);
    let mut rest = &document[..];
    let mut nodes = Vec::new();
    loop {
        match parser.parse(&mut rest, true) {
            Ok(None) => return Ok(nodes),
            Ok(Some(Event::XmlDeclaration(..))) => {}
            Ok(Some(Event::StartElement(_, (ns, name), attributes))) => {
                let mut attributes: Vec<_> = attributes
                    .iter()
                    .map(|((ns, name), value)| (ns.to_string(), name.to_string(), value.clone()))
                    .collect();
                attributes.sort();
                nodes.push(Node::Start {
                    name: name.to_string(),
                    ns: ns.to_string(),
                    attributes,
                });
            }
            Ok(Some(Event::EndElement(_))) => nodes.push(Node::End),
            Ok(Some(Event::Text(_, text))) => push_text(&mut nodes, &text),
            Err(EndOrError::Error(error)) => return Err(error),
            Err(EndOrError::NeedMoreData) => unreachable!("the document is complete"),
        }
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if let Some(Node::Text(last)) = nodes.last_mut() {
        last.push_str(text);
    } else if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

/// The nodes of each element right below the root.
fn first_level(document: &[Node]) -> Vec<Vec<Node>> {
    let mut elements: Vec<Vec<Node>> = Vec::new();
    let mut depth = 0;
    for node in document {
        if matches!(node, Node::End) {
            depth -= 1;
        }
        match node {
            Node::Start { .. } if depth == 1 => elements.push(vec![node.clone()]),
            _ if depth > 1 || (depth == 1 && matches!(node, Node::End)) => {
                elements
                    .last_mut()
                    .expect("an element was opened")
                    .push(node.clone());
            }
            _ => {}
        }
        if matches!(node, Node::Start { .. }) {
            depth += 1;
        }
    }
    elements
}

/// What we make of the content of a stream between servers: `jabber:client` (RFC 6120 §4.8.3).
fn mapped(mut elements: Vec<Vec<Node>>, content: Content) -> Vec<Vec<Node>> {
    if content == Content::Server {
        for node in elements.iter_mut().flatten() {
            let Node::Start { ns, attributes, .. } = node else {
                continue;
            };
            for ns in std::iter::once(ns).chain(attributes.iter_mut().map(|(ns, ..)| ns)) {
                if ns == ns::SERVER {
                    ns::CLIENT.clone_into(ns);
                }
            }
            attributes.sort();
        }
    }
    elements
}

/// What rxml 0.14 refuses although it is well-formed:
/// - a character reference longer than any code point needs, which leading zeros make; it is reported like an unknown
///   entity;
/// - characters from U+FDF0 to U+FFFD in names, a range of NameStartChar (XML 1.0 §2.3) that its table lacks.
fn rxml_may_refuse(error: rxml::Error, sent: &[u8]) -> bool {
    let has_long_reference = sent
        .split(|&b| b == b'&')
        .filter(|rest| rest.starts_with(b"#"))
        .any(|rest| {
            rest.iter()
                .position(|&b| b == b';')
                .is_some_and(|len| len >= 8)
        });
    match error {
        rxml::Error::UndeclaredEntity => has_long_reference,
        rxml::Error::UnexpectedChar(_, '\u{FDF0}'..='\u{FFFD}', _) => true,
        _ => false,
    }
}

/// What we refuse and rxml accepts, each for a reason:
/// - a limit of ours;
/// - text between first-level elements: well-formed, but no stream (RFC 6120 §4.9.3.1);
/// - an element of `jabber:client` in a stream between servers (`invalid-namespace`);
/// - declarations that Namespaces in XML 1.0 §3 forbids and rxml does not look at;
/// - two attributes that become one when the content namespaces are translated.
fn may_disagree(error: XmlError, header: &str, sent: &[u8], events: &[Node]) -> bool {
    let between = |document: &[Node]| {
        let mut depth = 0;
        document.iter().any(|node| {
            match node {
                Node::Start { .. } => depth += 1,
                Node::End => depth -= 1,
                Node::Text(_) => return depth == 1,
            }
            false
        })
    };
    match error {
        XmlError::BadFormat => between(events),
        XmlError::InvalidNamespace => {
            header.contains(ns::SERVER)
                && first_level(events)
                    .iter()
                    .any(|e| matches!(&e[0], Node::Start { ns, .. } if ns == ns::CLIENT))
        }
        XmlError::NotWellFormed => {
            has_forbidden_declaration(
                &[header.as_bytes(), sent, footer(header).as_bytes()].concat(),
            ) || (header.contains(ns::SERVER) && has_twin_attributes(events))
        }
        _ => error.is_limit(),
    }
}

fn has_twin_attributes(events: &[Node]) -> bool {
    mapped(first_level(events), Content::Server)
        .iter()
        .flatten()
        .any(|node| match node {
            Node::Start { attributes, .. } => attributes
                .windows(2)
                .any(|w| (&w[0].0, &w[0].1) == (&w[1].0, &w[1].1)),
            _ => false,
        })
}

/// Whether a document has a declaration that breaks a constraint of Namespaces in XML 1.0 §3, or declares the default
/// namespace twice in one tag.
fn has_forbidden_declaration(document: &[u8]) -> bool {
    let mut parser = <RawParser as WithOptions>::with_options(options());
    let document = with_line_feeds(document);
    let mut rest = &document[..];
    let mut has_default = false;
    while let Ok(Some(event)) = parser.parse(&mut rest, true) {
        match event {
            RawEvent::ElementHeadOpen(..) => has_default = false,
            RawEvent::Attribute(_, (prefix, name), value) => {
                let reserved = value == ns::XML || value == ns::XMLNS;
                let forbidden = match prefix.as_ref().map(|prefix| prefix.as_str()) {
                    None if name == "xmlns" => {
                        std::mem::replace(&mut has_default, true) || reserved
                    }
                    Some("xmlns") if name == "xml" => value != ns::XML,
                    Some("xmlns") => name == "xmlns" || value.is_empty() || reserved,
                    _ => false,
                };
                if forbidden {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// The bytes that we keep of an element mean what it meant where it stood.
fn check_element(ours: &FirstLevel, expected: &[Node]) {
    let (bytes, element) = match ours {
        FirstLevel::Stanza(stanza) => (stanza.bytes(), stanza.element()),
        FirstLevel::Nonza(nonza) => (nonza.bytes(), nonza.element()),
    };
    assert_eq!(
        oracle_of(bytes),
        expected,
        "canonical bytes keep the meaning: {}",
        lossy(bytes)
    );
    let mut seen = Vec::new();
    walk(&element, &mut seen);
    assert_eq!(seen, shape(expected), "the pull view shows the same tree");

    let again = Stanza::parse(bytes.clone(), &StreamScope::client(), &Limits::own())
        .expect("canonical bytes parse");
    match (ours, &again) {
        (FirstLevel::Stanza(ours), FirstLevel::Stanza(again)) => {
            assert_eq!(
                ours.bytes().as_ptr(),
                again.bytes().as_ptr(),
                "canonical bytes are kept: {}",
                lossy(bytes)
            );
            assert_eq!(ours.head(), again.head());
            check_forwarding(ours);
        }
        (FirstLevel::Nonza(ours), FirstLevel::Nonza(again)) => {
            assert_eq!(ours.bytes().as_ptr(), again.bytes().as_ptr())
        }
        _ => panic!("canonical bytes are of another kind than what they were made from"),
    }

    let copy = Writer::new().element(&element).finish();
    assert_eq!(
        oracle_of(&copy),
        expected,
        "a copy keeps the meaning: {}",
        lossy(&copy)
    );
    for child in element.children() {
        scan_fragment(&child.to_self_contained(), &Limits::own())
            .expect("a child taken out is well-formed");
    }
}

fn check_forwarding(stanza: &Stanza) {
    let from = Jid::parse("juliet@capulet.example/balcony").expect("an address");
    let insert = b"<stanza-id xmlns='urn:xmpp:sid:0' by='capulet.example' id='1'/>";
    let outgoing = stanza.rewrite(&Rewrite {
        from: Some(&from),
        insert,
        ..Rewrite::default()
    });
    let tail = stanza.tail();
    assert_eq!(
        outgoing.tail.as_ptr(),
        tail.as_ptr(),
        "the payload is shared"
    );
    let forwarded =
        Stanza::from_canonical(outgoing.to_bytes()).expect("what is forwarded is canonical");
    assert_eq!(forwarded.from().as_deref(), Some(from.as_str()));
    assert_eq!(
        (forwarded.to(), forwarded.id(), forwarded.lang()),
        (stanza.to(), stanza.id(), stanza.lang())
    );
    assert_eq!(forwarded.kind(), stanza.kind());
    let stripped = forwarded.without_children(|child| child.is("stanza-id", "urn:xmpp:sid:0"));
    assert!(!stripped.has_child("stanza-id", "urn:xmpp:sid:0"));
    let kept = stanza
        .children()
        .filter(|child| !child.is("stanza-id", "urn:xmpp:sid:0"))
        .count();
    assert_eq!(stripped.children().count(), kept);
}

/// rxml's reading of canonical bytes, which stand in a stream with the plainest header.
fn oracle_of(bytes: &Bytes) -> Vec<Node> {
    let document = [b"<s xmlns='jabber:client'>", &bytes[..], b"</s>"].concat();
    match oracle(&document) {
        Ok(nodes) => first_level(&nodes).into_iter().next().expect("one element"),
        Err(error) => panic!("rxml refuses what we wrote: {error:?} {}", lossy(bytes)),
    }
}

/// Names, namespaces and text as the pull view shows them, in document order with each element's text joined.
fn walk(element: &Element<'_>, out: &mut Vec<(String, String, String)>) {
    out.push((
        element.name().to_owned(),
        cairn::xml::unescape(element.ns()).into_owned(),
        element.text().into_owned(),
    ));
    for child in element.children() {
        walk(&child, out);
    }
}

/// The same, from rxml's events.
fn shape(nodes: &[Node]) -> Vec<(String, String, String)> {
    let mut out: Vec<(String, String, String)> = Vec::new();
    let mut open = Vec::new();
    for node in nodes {
        match node {
            Node::Start { name, ns, .. } => {
                open.push(out.len());
                out.push((name.clone(), ns.clone(), String::new()));
            }
            Node::Text(text) => out[*open.last().expect("text stands in an element")]
                .2
                .push_str(text),
            Node::End => {
                open.pop();
            }
        }
    }
    out
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
