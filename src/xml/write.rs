//! Writing XML that can't be anything but what was meant.
//!
//! Names are literals of our own, text and values are escaped, tags are closed by the writer: whatever strings are
//! passed, the outcome is a well-formed run of elements with the structure that the calls spell out. The only way
//! around is named for what it demands, [`Writer::splice_validated`].

use std::fmt;

use bytes::Bytes;

use super::element::Element;
use super::escape::{escape_attribute, escape_text};
use super::limits::Limits;
use super::names::is_qname;
use super::scan::scan_fragment;

/// Builds elements into one buffer.
///
/// ```
/// use cairn::xml::Writer;
///
/// let iq = Writer::new().open("iq").attr("type", "get").open_ns("ping", "urn:xmpp:ping").finish();
/// assert_eq!(iq, "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    /// Where the names of the open elements stand in `out`.
    open: Vec<(usize, usize)>,
    /// The last start tag lacks its `>`.
    in_tag: bool,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// An empty writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            open: Vec::new(),
            in_tag: false,
        }
    }

    /// Opens an element; it inherits the namespace of the one around it.
    pub fn open(&mut self, name: &'static str) -> &mut Self {
        self.open_name(name)
    }

    /// Opens an element in a namespace, which becomes the default one for its children.
    pub fn open_ns(&mut self, name: &'static str, ns: &str) -> &mut Self {
        self.open_name(name).attr("xmlns", ns)
    }

    /// Opens an element whose name was read from validated input.
    pub(super) fn open_name(&mut self, name: &str) -> &mut Self {
        debug_assert!(is_qname(name), "not a name: {name:?}");
        self.end_tag();
        self.out.push(b'<');
        self.open.push((self.out.len(), name.len()));
        self.out.extend_from_slice(name.as_bytes());
        self.in_tag = true;
        self
    }

    /// Adds an attribute to the element just opened. Adding one behind its content is a mistake of ours and panics.
    pub fn attr(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.attr_name(name, value)
    }

    /// Adds an attribute whose name was read from validated input.
    pub(super) fn attr_name(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(is_qname(name), "not a name: {name:?}");
        assert!(self.in_tag, "attribute {name} behind the start tag");
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"='");
        escape_attribute(value, &mut self.out);
        self.out.push(b'\'');
        self
    }

    /// Adds an attribute if there is a value.
    pub fn attr_opt(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds an attribute from anything that can be printed, such as a number or an address.
    pub fn attr_display(&mut self, name: &'static str, value: impl fmt::Display) -> &mut Self {
        self.attr(name, &value.to_string())
    }

    /// Adds `xml:lang` if there is a value.
    pub fn lang(&mut self, lang: Option<&str>) -> &mut Self {
        self.attr_opt("xml:lang", lang)
    }

    /// Adds character data.
    pub fn text(&mut self, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.end_tag();
            escape_text(text, &mut self.out);
        }
        self
    }

    /// Adds character data from anything that can be printed.
    pub fn text_display(&mut self, text: impl fmt::Display) -> &mut Self {
        self.text(&text.to_string())
    }

    /// An element that holds only text.
    pub fn leaf(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.open(name).text(text).close()
    }

    /// An empty element in a namespace.
    pub fn empty(&mut self, name: &'static str, ns: &str) -> &mut Self {
        self.open_ns(name, ns).close()
    }

    /// Copies an element, with the declarations it needs.
    pub fn element(&mut self, element: &Element<'_>) -> &mut Self {
        self.end_tag();
        self.out.extend_from_slice(&element.to_self_contained());
        self
    }

    /// Appends bytes as they are. They must be whole elements and text that were written by a writer or validated by
    /// this layer, and must not depend on declarations from where they came.
    pub fn splice_validated(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(
            scan_fragment(bytes, &Limits::own()).is_ok(),
            "spliced bytes are no validated content"
        );
        if !bytes.is_empty() {
            self.end_tag();
            self.out.extend_from_slice(bytes);
        }
        self
    }

    /// Closes the innermost open element. Without one it is a mistake of ours and panics.
    pub fn close(&mut self) -> &mut Self {
        let (start, len) = self.open.pop().expect("an element is open");
        if self.in_tag {
            self.in_tag = false;
            self.out.extend_from_slice(b"/>");
        } else {
            self.out.extend_from_slice(b"</");
            self.out.extend_from_within(start..start + len);
            self.out.push(b'>');
        }
        self
    }

    /// How many elements are open.
    pub const fn depth(&self) -> usize {
        self.open.len()
    }

    /// Bytes written so far.
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Closes what is open and hands out the bytes, leaving the writer empty.
    pub fn finish(&mut self) -> Bytes {
        while !self.open.is_empty() {
            self.close();
        }
        std::mem::take(&mut self.out).into()
    }

    /// Hands out the start tag of an element that stays open for ever, as a stream header does.
    pub fn finish_open(&mut self) -> Bytes {
        self.end_tag();
        self.open.clear();
        std::mem::take(&mut self.out).into()
    }

    pub(super) fn end_tag(&mut self) {
        if self.in_tag {
            self.in_tag = false;
            self.out.push(b'>');
        }
    }

    /// Room for the canonicaliser to append data that it escaped itself.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_nest_and_close_themselves() {
        let bytes = Writer::new()
            .open("iq")
            .attr("type", "result")
            .attr_opt("id", None)
            .attr_display("n", 7)
            .open_ns("query", "urn:q")
            .leaf("a", "1 < 2")
            .leaf("b", "")
            .empty("c", "urn:c")
            .close()
            .text("tail")
            .finish();
        assert_eq!(
            bytes,
            "<iq type='result' n='7'><query xmlns='urn:q'><a>1 &lt; 2</a><b/><c xmlns='urn:c'/></query>tail</iq>"
        );
    }

    #[test]
    fn a_stream_header_stays_open() {
        let mut writer = Writer::new();
        assert_eq!(
            writer
                .open("stream:stream")
                .attr("version", "1.0")
                .finish_open(),
            "<stream:stream version='1.0'>"
        );
        assert!(writer.is_empty());
    }

    #[test]
    fn pieces_of_others_are_copied_with_what_they_need() {
        let element = Element::from_canonical(b"<a xmlns='urn:a'><b/></a>").expect("an element");
        let b = element.children().next().expect("a child");
        let bytes = Writer::new()
            .open("x")
            .splice_validated(b"<y/>")
            .element(&b)
            .finish();
        assert_eq!(bytes, "<x><y/><b xmlns='urn:a'/></x>");
    }

    #[test]
    #[should_panic(expected = "behind the start tag")]
    fn an_attribute_behind_content_is_a_mistake() {
        Writer::new().open("a").text("x").attr("b", "c");
    }

    proptest! {
        #[test]
        fn no_string_can_break_out(value in any::<String>(), text in any::<String>(), ns in any::<String>()) {
            let bytes = Writer::new().open("a").open_ns("b", &ns).attr("v", &value).text(&text).finish();
            prop_assert_eq!(scan_fragment(&bytes, &Limits::own()), match ns.as_str() {
                super::super::ns::XML | super::super::ns::XMLNS => return Ok(()),
                _ => Ok(()),
            });
            let a = Element::from_canonical(&bytes).expect("an element");
            let b = a.children().next().expect("a child");
            prop_assert_eq!(a.children().count(), 1);
            prop_assert_eq!(b.children().count(), 0);
            prop_assert_eq!(b.attributes().count(), 2);
            let legal = |s: &str| s.chars().map(|c| if super::super::chars::is_char(c) { c } else { '\u{FFFD}' }).collect::<String>();
            prop_assert_eq!(b.text().into_owned(), legal(&text));
            prop_assert_eq!(b.attr("v").map(|v| v.into_owned()), Some(legal(&value)));
        }
    }
}
