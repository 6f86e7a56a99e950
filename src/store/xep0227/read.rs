//! The document as a walk over its levels, in bounded memory.
//!
//! The strict framer of the streams reads it, one for each level: what holds
//! other levels is a stream to it, what does not is one element. So nothing
//! larger than one value is ever held, and what RFC 6120 §11.1 forbids in a
//! stream (a document type, comments, processing instructions) is refused here.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::stanza::{FirstLevel, Nonza};
use crate::xml::{Content, Element, Frame, Framer, Limits, StreamScope, XmlError};

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Input(io::Error),
    Xml(XmlError),
    /// It ends before it is complete.
    Ends,
    /// It is XML, and not what it should be.
    Unexpected(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Input(error)
    }
}

impl From<XmlError> for ReadError {
    fn from(error: XmlError) -> ReadError {
        ReadError::Xml(error)
    }
}

/// A document, buffered.
pub(super) struct Source<'r> {
    input: Box<dyn io::Read + 'r>,
    buffer: BytesMut,
}

/// Namespace declarations in force, as a start tag spells them.
#[derive(Clone, Debug, Default)]
pub(super) struct Declarations(Vec<(String, String)>);

/// An element that was validated. The declarations of the elements around it
/// are those of a wrapper, whose only child it is.
pub(super) struct Validated(Nonza);

/// An element whose children are read one by one.
pub(super) struct Level {
    framer: Framer,
    /// Its start tag as an empty element.
    pub start: Validated,
    /// Those in force for its children.
    pub declarations: Declarations,
}

impl<'r> Source<'r> {
    pub(super) fn new(input: Box<dyn io::Read + 'r>) -> Source<'r> {
        Source {
            input,
            buffer: BytesMut::new(),
        }
    }

    /// Reads the start tag that comes next.
    pub(super) fn open(&mut self, around: &Declarations) -> Result<Level, ReadError> {
        let mut framer = Framer::new(limits());
        let Frame::Header(tag) = self.frame(&mut framer)? else {
            return Err(ReadError::Unexpected(
                "no start tag where one should be".to_owned(),
            ));
        };
        let mut empty = tag.strip_suffix(b">").unwrap_or(&tag).to_vec();
        if !empty.ends_with(b"/") {
            empty.push(b'/');
        }
        empty.push(b'>');
        let start = Validated::parse(&empty, around)?;
        let declarations = around.inside(&start.element());
        Ok(Level {
            framer,
            start,
            declarations,
        })
    }

    /// The local name of the child that comes next, or `None` at the end tag.
    /// Nothing but white space is consumed.
    pub(super) fn peek(&mut self) -> Result<Option<String>, ReadError> {
        loop {
            let spaces = self
                .buffer
                .iter()
                .take_while(|b| b.is_ascii_whitespace())
                .count();
            drop(self.buffer.split_to(spaces));
            let end = |b: &u8| matches!(b, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r');
            match self.buffer.get(..2) {
                Some(b"</") => return Ok(None),
                Some(_) => {
                    if let Some(len) = self.buffer[1..].iter().position(end) {
                        let name = String::from_utf8_lossy(&self.buffer[1..=len]);
                        return Ok(Some(name.rsplit(':').next().unwrap_or_default().to_owned()));
                    }
                    if self.buffer.len() > limits().name_bytes_max {
                        return Err(XmlError::TooBig.into());
                    }
                }
                None => {}
            }
            self.fill()?;
        }
    }

    /// Reads the next child of a level as a whole.
    pub(super) fn child(&mut self, level: &mut Level) -> Result<Option<Validated>, ReadError> {
        match self.frame(&mut level.framer)? {
            Frame::Element(bytes) => Validated::parse(&bytes, &level.declarations).map(Some),
            Frame::Footer => Ok(None),
            Frame::Header(_) => Err(ReadError::Unexpected("a second root element".to_owned())),
        }
    }

    /// Reads a document that is one value, as a whole.
    pub(super) fn whole(mut self) -> Result<Validated, ReadError> {
        while self.buffer.len() <= limits().stanza_bytes_max {
            match self.fill() {
                Err(ReadError::Ends) => {
                    let text = self.buffer.trim_ascii();
                    let declared = text.strip_prefix(b"<?xml").and_then(|rest| {
                        let end = rest.windows(2).position(|two| two == b"?>")?;
                        Some(rest[end + 2..].trim_ascii())
                    });
                    return Validated::parse(declared.unwrap_or(text), &Declarations::default());
                }
                other => other?,
            }
        }
        Err(XmlError::TooBig.into())
    }

    /// Whether nothing follows but white space.
    pub(super) fn is_at_end(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.buffer.iter().any(|b| !b.is_ascii_whitespace()) {
                return Ok(false);
            }
            self.buffer.clear();
            match self.fill() {
                Err(ReadError::Ends) => return Ok(true),
                other => other?,
            }
        }
    }

    fn frame(&mut self, framer: &mut Framer) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = framer.next(&mut self.buffer)? {
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        const PIECE: usize = 64 << 10;
        let len = self.buffer.len();
        self.buffer.resize(len + PIECE, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        if read? == 0 {
            Err(ReadError::Ends)
        } else {
            Ok(())
        }
    }
}

impl Level {
    /// Whether the start tag was an empty element, which has no end tag to peek at.
    pub(super) fn is_empty(&mut self) -> bool {
        matches!(
            self.framer.next(&mut BytesMut::new()),
            Ok(Some(Frame::Footer))
        )
    }
}

impl Validated {
    fn parse(bytes: &[u8], around: &Declarations) -> Result<Validated, ReadError> {
        let mut wrapped = b"<w".to_vec();
        for (name, value) in &around.0 {
            // A value is as it was written; it may hold one kind of quote, never both unescaped.
            let quote = if value.contains('\'') { b'"' } else { b'\'' };
            wrapped.push(b' ');
            wrapped.extend_from_slice(name.as_bytes());
            wrapped.extend_from_slice(&[b'=', quote]);
            wrapped.extend_from_slice(value.as_bytes());
            wrapped.push(quote);
        }
        wrapped.push(b'>');
        wrapped.extend_from_slice(bytes);
        wrapped.extend_from_slice(b"</w>");
        match FirstLevel::parse(
            Bytes::from(wrapped),
            &StreamScope::none(Content::Client),
            &limits(),
        )? {
            FirstLevel::Nonza(nonza) if nonza.element().children().count() == 1 => {
                Ok(Validated(nonza))
            }
            _ => Err(XmlError::NotWellFormed.into()),
        }
    }

    pub(super) fn element(&self) -> Element<'_> {
        self.0
            .element()
            .children()
            .next()
            .expect("checked when it was parsed")
    }
}

impl Declarations {
    /// Those in force inside an element.
    fn inside(&self, element: &Element<'_>) -> Declarations {
        let mut inside = self.clone();
        for (name, value) in element.attributes() {
            if name == "xmlns" || name.starts_with("xmlns:") {
                inside.0.retain(|(known, _)| known != name);
                inside.0.push((name.to_owned(), value.to_owned()));
            }
        }
        inside
    }
}

/// One value may be as large as the store takes; nothing else is bounded here,
/// because a level is read in pieces.
fn limits() -> Limits {
    Limits::own()
}
