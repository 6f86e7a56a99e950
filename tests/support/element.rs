//! A parsed element, for assertions: a plain tree, built from the events of `rxml`.

use std::collections::BTreeMap;
use std::fmt;

/// One element with everything in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Its name without a prefix.
    pub name: String,
    /// Its namespace.
    pub ns: String,
    /// Attributes without a namespace by name; those with one as `{namespace}name`.
    pub attrs: BTreeMap<String, String>,
    /// Its content in order.
    pub nodes: Vec<Node>,
}

/// What an element holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Character data.
    Text(String),
}

const XML: &str = "http://www.w3.org/XML/1998/namespace";

impl Element {
    /// Parses one element that is a document of its own.
    pub fn parse(text: &str) -> Element {
        let mut tree = Tree::default();
        let mut parser = super::wire::strict_parser();
        let mut bytes = text.as_bytes();
        while let Ok(Some(event)) = rxml::Parse::parse(&mut parser, &mut bytes, true) {
            if let Some(element) = tree.event(event) {
                return element;
            }
        }
        panic!("the test's own XML is not well-formed: {text}");
    }

    /// Whether it has this name and namespace.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// An attribute; `xml:lang` by that name.
    pub fn attr(&self, name: &str) -> Option<&str> {
        let found = match name.strip_prefix("xml:") {
            Some(local) => self.attrs.get(&format!("{{{XML}}}{local}")),
            None => self.attrs.get(name),
        };
        found.map(String::as_str)
    }

    /// Elements in it, in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first element in it of this name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// All of this name and namespace in it.
    pub fn all(&self, name: &str, ns: &str) -> Vec<&Element> {
        self.children().filter(|child| child.is(name, ns)).collect()
    }

    /// Like [`Element::child`], for what must be there.
    #[track_caller]
    pub fn must(&self, name: &str, ns: &str) -> &Element {
        self.child(name, ns)
            .unwrap_or_else(|| panic!("no <{name} xmlns='{ns}'/> in {self}"))
    }

    /// Its own character data.
    pub fn text(&self) -> String {
        let text = |node: &Node| match node {
            Node::Text(text) => text.clone(),
            Node::Element(_) => String::new(),
        };
        self.nodes.iter().map(text).collect()
    }

    /// The `<body/>` of a message.
    pub fn body(&self) -> Option<String> {
        self.child("body", super::ns::CLIENT).map(Element::text)
    }

    /// The type of a stanza error (RFC 6120 §8.3.3) and its defined condition.
    pub fn error(&self) -> Option<(&str, &str)> {
        self.error_in(super::ns::CLIENT)
    }

    /// The same on a stream with another content namespace.
    pub fn error_in(&self, content: &str) -> Option<(&str, &str)> {
        let error = self.child("error", content)?;
        let condition = error
            .children()
            .find(|child| child.ns == super::ns::STANZA_ERROR && child.name != "text")?;
        Some((error.attr("type")?, &condition.name))
    }

    /// The defined condition of a stream error (RFC 6120 §4.9.3).
    pub fn stream_error(&self) -> Option<&str> {
        let condition = self
            .is("error", super::ns::STREAM)
            .then(|| self.children().next())??;
        (condition.ns == super::ns::STREAM_ERROR).then_some(&condition.name)
    }

    /// The condition of a SASL failure (RFC 6120 §6.5).
    pub fn sasl_failure(&self) -> Option<&str> {
        let condition = self
            .is("failure", super::ns::SASL)
            .then(|| self.children().next())??;
        Some(&condition.name)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

impl Element {
    fn write(&self, f: &mut fmt::Formatter<'_>, outer_ns: &str) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        if self.ns != outer_ns {
            write!(f, " xmlns='{}'", self.ns)?;
        }
        for (name, value) in &self.attrs {
            write!(f, " {name}='{value}'")?;
        }
        if self.nodes.is_empty() {
            return f.write_str("/>");
        }
        f.write_str(">")?;
        for node in &self.nodes {
            match node {
                Node::Element(element) => element.write(f, &self.ns)?,
                Node::Text(text) => f.write_str(text)?,
            }
        }
        write!(f, "</{}>", self.name)
    }
}

/// Builds elements from the events of a parser.
#[derive(Default)]
pub struct Tree {
    open: Vec<Element>,
}

impl Tree {
    /// Whether no element is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes one event; an element that it completes comes back.
    pub fn event(&mut self, event: rxml::Event) -> Option<Element> {
        match event {
            rxml::Event::XmlDeclaration(..) => None,
            rxml::Event::StartElement(_, name, attributes) => {
                self.open.push(start(&name, &attributes));
                None
            }
            rxml::Event::Text(_, text) => {
                if let Some(element) = self.open.last_mut() {
                    element.push_text(text);
                }
                None
            }
            rxml::Event::EndElement(_) => {
                let done = self.open.pop()?;
                match self.open.last_mut() {
                    Some(parent) => {
                        parent.nodes.push(Node::Element(done));
                        None
                    }
                    None => Some(done),
                }
            }
        }
    }
}

impl Element {
    fn push_text(&mut self, text: String) {
        match self.nodes.last_mut() {
            Some(Node::Text(before)) => before.push_str(&text),
            _ => self.nodes.push(Node::Text(text)),
        }
    }
}

/// The start tag alone.
pub fn start(name: &rxml::QName, attributes: &rxml::AttrMap) -> Element {
    let attrs = attributes.iter().map(|((ns, name), value)| {
        let name = match ns.as_str() {
            "" => name.to_string(),
            ns => format!("{{{ns}}}{name}"),
        };
        (name, value.clone())
    });
    Element {
        name: name.1.to_string(),
        ns: name.0.as_str().to_owned(),
        attrs: attrs.collect(),
        nodes: Vec::new(),
    }
}
