//! The tokens of XML: names, values, text, references, read off the front of validated UTF-8.

use super::chars::{
    CLASS, NAME, NAME_START, TEXT_STOP, VALUE_STOP, is_name, is_name_start, is_noncharacter,
    is_space,
};
use super::error::XmlError;
use super::escape::resolve;

/// A range of bytes of the element; empty at 0 when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

/// A name with the length of its prefix, colon included; zero when it has none.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub(super) span: Span,
    pub(super) prefix: u32,
}

/// A place in an element, and whether everything before it was in canonical form.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) canonical: bool,
}

impl Span {
    /// Number of bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the range is empty.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of the range, as text. The range must come from a scan of these bytes.
    pub fn of(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(&bytes[self.start as usize..self.end as usize])
            .expect("a span of validated bytes is UTF-8")
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, XmlError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(XmlError::TooBig);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::UnsupportedEncoding)?;
        Ok(Self {
            text,
            bytes,
            at: 0,
            canonical: true,
        })
    }

    pub(super) fn peek(&self, ahead: usize) -> Result<u8, XmlError> {
        self.bytes
            .get(self.at + ahead)
            .copied()
            .ok_or(XmlError::NotWellFormed)
    }

    /// Character data up to the next `<` or the end.
    pub(super) fn text(&mut self) -> Result<(), XmlError> {
        let bytes = self.bytes;
        let mut at = self.at;
        loop {
            while at < bytes.len() && CLASS[usize::from(bytes[at])] & TEXT_STOP == 0 {
                at += 1;
            }
            match bytes.get(at) {
                None | Some(b'<') => break,
                Some(b'&') => at = self.reference(at)?,
                Some(b']') if bytes[at..].starts_with(b"]]>") => {
                    return Err(XmlError::NotWellFormed);
                }
                Some(b'\r') => {
                    self.canonical = false;
                    at += 1;
                }
                Some(0xEF) if !is_noncharacter(bytes, at) => at += 3,
                Some(b']') => at += 1,
                Some(_) => return Err(XmlError::NotWellFormed),
            }
        }
        self.at = at;
        Ok(())
    }

    /// Behind the reference that starts at `at`. Only the five predefined entities exist (RFC 6120 §11.1).
    pub(super) fn reference(&self, at: usize) -> Result<usize, XmlError> {
        let rest = &self.bytes[at..];
        let end = memchr::memchr(b';', rest).ok_or(XmlError::NotWellFormed)?;
        if resolve(&rest[..end]).is_some() {
            return Ok(at + end + 1);
        }
        let name = &self.text[at + 1..at + end];
        let is_entity = name.starts_with(is_name_start) && name.chars().all(is_name);
        Err(if is_entity {
            XmlError::Restricted
        } else {
            XmlError::NotWellFormed
        })
    }

    /// Passes over a CDATA section if one stands here; any other `<!` and every `<?` is refused.
    pub(super) fn cdata_or_refuse(&mut self) -> Result<bool, XmlError> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"<?") || rest.starts_with(b"<!--") || rest.starts_with(b"<!D") {
            return Err(XmlError::Restricted);
        }
        if !rest.starts_with(b"<!") {
            return Ok(false);
        }
        let inner = rest
            .strip_prefix(b"<![CDATA[")
            .ok_or(XmlError::NotWellFormed)?;
        let end = memchr::memmem::find(inner, b"]]>").ok_or(XmlError::NotWellFormed)?;
        let inner = &self.text[self.at + 9..self.at + 9 + end];
        if !inner.chars().all(super::chars::is_char) {
            return Err(XmlError::NotWellFormed);
        }
        self.canonical = false;
        self.at += 9 + end + 3;
        Ok(true)
    }

    pub(super) fn spaces(&mut self) -> bool {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|&b| is_space(b)) {
            self.at += 1;
        }
        self.at > start
    }

    /// Production QName.
    pub(super) fn name(&mut self) -> Result<Name, XmlError> {
        let start = self.at;
        let mut prefix = 0;
        self.ncname()?;
        if self.bytes.get(self.at) == Some(&b':') {
            self.at += 1;
            prefix = self.at - start;
            self.ncname()?;
        }
        Ok(Name {
            span: self.span(start, self.at),
            prefix: prefix as u32,
        })
    }

    pub(super) fn ncname(&mut self) -> Result<(), XmlError> {
        let start = self.at;
        let mut at = start;
        loop {
            while at < self.bytes.len() && CLASS[usize::from(self.bytes[at])] & NAME != 0 {
                at += 1;
            }
            match self.bytes.get(at) {
                Some(0x80..) => {
                    let c = self.text[at..]
                        .chars()
                        .next()
                        .expect("a byte of a character stands here");
                    if !is_name(c) || (at == start && !is_name_start(c)) {
                        return Err(XmlError::NotWellFormed);
                    }
                    at += c.len_utf8();
                }
                _ => break,
            }
        }
        self.at = at;
        let first = self.bytes.get(start).copied().unwrap_or_default();
        if at == start || (first < 0x80 && CLASS[usize::from(first)] & NAME_START == 0) {
            return Err(XmlError::NotWellFormed);
        }
        Ok(())
    }

    /// A quoted attribute value, and whether it says something other than its literal bytes.
    pub(super) fn value(&mut self) -> Result<(Span, bool), XmlError> {
        let bytes = self.bytes;
        let quote = self.peek(0)?;
        if quote != b'\'' && quote != b'"' {
            return Err(XmlError::NotWellFormed);
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            while at < bytes.len() && CLASS[usize::from(bytes[at])] & VALUE_STOP == 0 {
                at += 1;
            }
            match bytes.get(at) {
                Some(&b) if b == quote => break,
                Some(b'\'' | b'"') => at += 1,
                Some(b'&') => {
                    at = self.reference(at)?;
                    escaped = true;
                }
                Some(b'\t' | b'\n' | b'\r') => {
                    self.canonical = false;
                    escaped = true;
                    at += 1;
                }
                Some(0xEF) if !is_noncharacter(bytes, at) => at += 3,
                _ => return Err(XmlError::NotWellFormed),
            }
        }
        self.at = at + 1;
        Ok((self.span(start, at), escaped))
    }

    pub(super) fn prefix(&self, name: Name) -> &'a str {
        self.text_of(Span {
            start: name.span.start,
            end: name.span.start + name.prefix.saturating_sub(1),
        })
    }

    pub(super) fn local(&self, name: Name) -> &'a str {
        self.text_of(Span {
            start: name.span.start + name.prefix,
            end: name.span.end,
        })
    }

    pub(super) fn bytes_of(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    pub(super) fn text_of(&self, span: Span) -> &'a str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// Offsets fit: `new` refused anything longer.
    pub(super) const fn span(&self, start: usize, end: usize) -> Span {
        Span {
            start: start as u32,
            end: end as u32,
        }
    }
}
