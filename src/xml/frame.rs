//! Where an element ends, found while its bytes arrive.
//!
//! The framer knows just enough XML to tell tags, quotes and CDATA sections apart; whether what it frames is
//! well-formed is `scan`'s to say, which must come to the same end. It keeps no bytes: those of an incomplete element
//! stay in the caller's buffer, and each is looked at once however it was cut into pieces.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::chars::{CLASS, TAG_STOP, is_space};
use super::error::XmlError;
use super::limits::Limits;

/// One complete unit of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The start tag of the stream element, without an XML declaration in front of it.
    Header(Bytes),
    /// One whole first-level element.
    Element(Bytes),
    /// The end tag of the stream element: the peer sends nothing more.
    Footer,
}

/// Resumable scanner for the bounds of a stream's elements (RFC 6120 §4.2).
#[derive(Clone, Debug)]
pub struct Framer {
    limits: Limits,
    /// Bytes of the buffer that belong to the unit in progress and were looked at.
    at: usize,
    stage: Stage,
    lex: Lex,
    /// Open elements of the unit in progress.
    depth: usize,
    elements: usize,
    attributes: usize,
    /// Length so far of the name, value or run of white space in progress.
    run: usize,
    stream_bytes: usize,
    stream_elements: usize,
    header_name: u64,
    failed: Option<XmlError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing yet. White space may be left over from the stream before a restart.
    Fresh { restarted: bool },
    /// The XML declaration was read.
    Declared,
    /// Inside the stream element.
    Open,
    /// The stream element was an empty-element tag.
    Empty,
    /// The footer was read.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lex {
    /// Between units.
    Between,
    /// In the text of an element.
    Text,
    /// Behind `<`.
    Less,
    /// In a start tag, outside quotes.
    Tag,
    /// In an attribute value, with its quote.
    Value(u8),
    /// Behind a `/` in a start tag.
    Slash,
    /// In an end tag.
    End,
    /// Behind `<!`, with so many bytes of `[CDATA[` read.
    Bang(u8),
    /// In a CDATA section, with so many `]` read (two at most).
    Cdata(u8),
    /// Behind `<?`; whether the last byte was a question mark.
    Declaration(bool),
}

/// What a step of the scan found.
enum Found {
    Nothing,
    StartTag,
    Element,
    EndOfStream,
    Declaration,
}

/// The longest XML declaration there is any use for.
const DECLARATION_BYTES_MAX: usize = 128;

impl Framer {
    /// A framer at the very start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: 0,
            stage: Stage::Fresh { restarted: false },
            lex: Lex::Between,
            depth: 0,
            elements: 0,
            attributes: 0,
            run: 0,
            stream_bytes: 0,
            stream_elements: 0,
            header_name: 0,
            failed: None,
        }
    }

    /// Replaces the limits, which hold from the next byte on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many bytes at the front of the buffer are of the unit in progress and known.
    pub const fn looked_at(&self) -> usize {
        self.at
    }

    /// The limits in force.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Expects a new stream header on the same connection (RFC 6120 §4.3.3). Nothing of the old stream is remembered;
    /// what a caller must not read as part of the new one, it must drop from the buffer itself.
    pub fn restart(&mut self) {
        *self = Self {
            stage: Stage::Fresh { restarted: true },
            ..Self::new(self.limits)
        };
    }

    /// Whether the buffer begins with a part of an element, so that a cut connection cuts something off.
    pub const fn is_inside(&self) -> bool {
        self.at > 0
    }

    /// Takes the next complete unit from the front of `input`, or `None` when more bytes are needed.
    ///
    /// Between calls the caller may only append to `input`. The bytes of an element are copied out of it once, so that
    /// a stanza that is kept holds its own size and not a read buffer. White space between elements is dropped. An
    /// error is final: it comes back on every further call.
    #[allow(
        clippy::should_implement_trait,
        reason = "takes the buffer, so it can't be Iterator::next"
    )]
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input)
            .inspect_err(|&error| self.failed = Some(error))
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        loop {
            match self.stage {
                Stage::Ended => {
                    input.clear();
                    return Ok(None);
                }
                Stage::Empty => {
                    self.stage = Stage::Ended;
                    return Ok(Some(Frame::Footer));
                }
                Stage::Fresh { .. } | Stage::Declared | Stage::Open => {}
            }
            if self.lex == Lex::Between {
                self.skip_whitespace(input)?;
            }
            let found = self.scan(input)?;
            let unit = &input[..self.at];
            let frame = match found {
                Found::Nothing => return Ok(None),
                Found::Declaration => {
                    check_declaration(unit)?;
                    self.stage = Stage::Declared;
                    None
                }
                Found::EndOfStream => {
                    if tag_name(&unit[2..]) != self.header_name || !is_end_tag_tail(unit) {
                        return Err(XmlError::NotWellFormed);
                    }
                    self.stage = Stage::Ended;
                    Some(Frame::Footer)
                }
                Found::StartTag => {
                    self.header_name = tag_name(&unit[1..]);
                    self.stage = if unit.ends_with(b"/>") {
                        Stage::Empty
                    } else {
                        Stage::Open
                    };
                    Some(Frame::Header(Bytes::copy_from_slice(unit)))
                }
                Found::Element => Some(Frame::Element(Bytes::copy_from_slice(unit))),
            };
            input.advance(self.at);
            self.stream_bytes += self.at;
            self.at = 0;
            self.lex = Lex::Between;
            self.depth = 0;
            self.elements = 0;
            self.run = 0;
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// Drops white space between units. In front of a header it is allowed behind the XML declaration, and as a
    /// left-over keep-alive of the stream before a restart.
    fn skip_whitespace(&mut self, input: &mut BytesMut) -> Result<(), XmlError> {
        let spaces = input.iter().take_while(|&&b| is_space(b)).count();
        if spaces == 0 {
            return Ok(());
        }
        self.run = self.run.saturating_add(spaces);
        self.stream_bytes = self.stream_bytes.saturating_add(spaces);
        if self.run > self.limits.whitespace_bytes_max
            || self.stream_bytes > self.limits.stream_bytes_max
        {
            return Err(XmlError::TooMuchWhitespace);
        }
        input.advance(spaces);
        match &mut self.stage {
            Stage::Fresh { restarted: true } | Stage::Open => {}
            // XML wants the declaration first or not at all: behind white space only the start tag may follow.
            stage => *stage = Stage::Declared,
        }
        Ok(())
    }

    /// Looks at the bytes that are new, as far as the limit on bytes reaches.
    fn scan(&mut self, input: &[u8]) -> Result<Found, XmlError> {
        let budget = self
            .limits
            .stream_bytes_max
            .saturating_sub(self.stream_bytes);
        let unit_max = self.limits.stanza_bytes_max.min(budget);
        let window = &input[..input.len().min(unit_max)];
        while self.at < window.len() {
            match self.step(window)? {
                Found::Nothing => {}
                found => return Ok(found),
            }
        }
        if input.len() > unit_max {
            Err(XmlError::TooBig)
        } else {
            Ok(Found::Nothing)
        }
    }

    /// One step: a byte at a change of state, a stretch of bytes inside one.
    fn step(&mut self, window: &[u8]) -> Result<Found, XmlError> {
        let b = window[self.at];
        match self.lex {
            Lex::Text => match memchr(b'<', &window[self.at..]) {
                Some(n) => self.enter(Lex::Less, n + 1),
                None => self.at = window.len(),
            },
            Lex::Tag => return self.tag(window),
            Lex::Value(quote) => self.value(window, quote)?,
            Lex::Between => self.between(b)?,
            Lex::Less => self.less(b)?,
            Lex::Slash => {
                self.at += 1;
                return if b == b'>' {
                    Ok(self.end_start_tag(true))
                } else {
                    Err(XmlError::NotWellFormed)
                };
            }
            Lex::End => return self.end_tag(b),
            Lex::Bang(n) => self.bang(b, n)?,
            Lex::Cdata(n) => self.cdata(window, n),
            Lex::Declaration(question) => {
                self.at += 1;
                if question && b == b'>' {
                    return Ok(Found::Declaration);
                }
                if self.at > DECLARATION_BYTES_MAX {
                    return Err(XmlError::TooBig);
                }
                self.lex = Lex::Declaration(b == b'?');
            }
        }
        Ok(Found::Nothing)
    }

    const fn enter(&mut self, lex: Lex, consumed: usize) {
        self.lex = lex;
        self.at += consumed;
        self.run = 0;
    }

    fn between(&mut self, b: u8) -> Result<(), XmlError> {
        let error = match (self.stage, b) {
            (_, b'<') => {
                self.enter(Lex::Less, 1);
                return Ok(());
            }
            // A byte order mark or a zero byte of UTF-16 or UTF-32.
            (Stage::Fresh { .. }, 0 | 0xFE | 0xFF) => XmlError::UnsupportedEncoding,
            (Stage::Open, _) => XmlError::BadFormat,
            _ => XmlError::NotWellFormed,
        };
        Err(error)
    }

    fn less(&mut self, b: u8) -> Result<(), XmlError> {
        let in_prolog = matches!(self.stage, Stage::Fresh { .. } | Stage::Declared);
        match b {
            b'/' if in_prolog => return Err(XmlError::NotWellFormed),
            b'/' => self.enter(Lex::End, 1),
            b'?' if matches!(self.stage, Stage::Fresh { .. }) => {
                self.enter(Lex::Declaration(false), 1);
            }
            b'?' => return Err(XmlError::Restricted),
            b'!' if in_prolog => return Err(XmlError::Restricted),
            b'!' => self.enter(Lex::Bang(0), 1),
            0 if in_prolog => return Err(XmlError::UnsupportedEncoding),
            b'>' | b'=' | b'\'' | b'"' | b'<' => return Err(XmlError::NotWellFormed),
            _ if is_space(b) => return Err(XmlError::NotWellFormed),
            _ => {
                self.elements += 1;
                self.stream_elements = self.stream_elements.saturating_add(1);
                self.attributes = 0;
                if self.elements > self.limits.elements_max
                    || self.stream_elements > self.limits.stream_elements_max
                {
                    return Err(XmlError::TooManyElements);
                }
                if self.depth >= self.limits.depth_max {
                    return Err(XmlError::TooDeep);
                }
                // The name's first byte is left to be counted with the rest of it.
                self.enter(Lex::Tag, 0);
            }
        }
        Ok(())
    }

    fn tag(&mut self, window: &[u8]) -> Result<Found, XmlError> {
        loop {
            let rest = &window[self.at..];
            let plain = rest
                .iter()
                .position(|&b| CLASS[usize::from(b)] & TAG_STOP != 0);
            self.run += plain.unwrap_or(rest.len());
            if self.run > self.limits.name_bytes_max {
                return Err(XmlError::NameTooLong);
            }
            let Some(plain) = plain else {
                self.at = window.len();
                return Ok(Found::Nothing);
            };
            self.at += plain + 1;
            match rest[plain] {
                b'>' => return Ok(self.end_start_tag(false)),
                quote @ (b'\'' | b'"') => {
                    self.attributes += 1;
                    if self.attributes > self.limits.attributes_max {
                        return Err(XmlError::TooManyAttributes);
                    }
                    self.enter(Lex::Value(quote), 0);
                    return Ok(Found::Nothing);
                }
                b'/' => {
                    self.enter(Lex::Slash, 0);
                    return Ok(Found::Nothing);
                }
                b'<' => return Err(XmlError::NotWellFormed),
                // White space or an equals sign ends a name.
                _ => self.run = 0,
            }
        }
    }

    fn value(&mut self, window: &[u8], quote: u8) -> Result<(), XmlError> {
        let rest = &window[self.at..];
        let end = memchr2(quote, b'<', rest);
        self.run += end.unwrap_or(rest.len());
        if self.run > self.limits.attribute_bytes_max {
            return Err(XmlError::AttributeTooLong);
        }
        match end {
            None => self.at = window.len(),
            Some(n) if rest[n] == quote => self.enter(Lex::Tag, n + 1),
            Some(_) => return Err(XmlError::NotWellFormed),
        }
        Ok(())
    }

    const fn end_start_tag(&mut self, empty: bool) -> Found {
        if !matches!(self.stage, Stage::Open) {
            return Found::StartTag;
        }
        if empty && self.depth == 0 {
            return Found::Element;
        }
        if !empty {
            self.depth += 1;
        }
        self.lex = Lex::Text;
        Found::Nothing
    }

    fn end_tag(&mut self, b: u8) -> Result<Found, XmlError> {
        self.at += 1;
        match b {
            b'>' => {}
            b'<' | b'\'' | b'"' | b'=' | b'/' => return Err(XmlError::NotWellFormed),
            _ => {
                self.run += 1;
                if self.run > self.limits.name_bytes_max {
                    return Err(XmlError::NameTooLong);
                }
                return Ok(Found::Nothing);
            }
        }
        if self.depth == 0 {
            return Ok(Found::EndOfStream);
        }
        self.depth -= 1;
        if self.depth == 0 {
            return Ok(Found::Element);
        }
        self.lex = Lex::Text;
        Ok(Found::Nothing)
    }

    fn bang(&mut self, b: u8, matched: u8) -> Result<(), XmlError> {
        const OPENING: &[u8] = b"[CDATA[";
        if b != OPENING[usize::from(matched)] {
            let forbidden = matched == 0 && (b == b'-' || b == b'D');
            return Err(if forbidden {
                XmlError::Restricted
            } else {
                XmlError::NotWellFormed
            });
        }
        if self.depth == 0 {
            return Err(XmlError::BadFormat);
        }
        let whole = usize::from(matched) + 1 == OPENING.len();
        self.enter(
            if whole {
                Lex::Cdata(0)
            } else {
                Lex::Bang(matched + 1)
            },
            1,
        );
        Ok(())
    }

    fn cdata(&mut self, window: &[u8], brackets: u8) {
        let lex = match (brackets, window[self.at]) {
            (2, b'>') => Lex::Text,
            (n, b']') => Lex::Cdata((n + 1).min(2)),
            _ => {
                let rest = &window[self.at..];
                self.at += memchr(b']', rest).unwrap_or(rest.len());
                self.lex = Lex::Cdata(0);
                return;
            }
        };
        self.enter(lex, 1);
    }
}

/// A fingerprint of the name at the front of `tag` (FNV-1a), so that the footer can be compared with a header that is
/// long gone. Whoever finds two names that collide can close his own stream with the wrong one.
fn tag_name(tag: &[u8]) -> u64 {
    tag.iter()
        .take_while(|&&b| !is_space(b) && b != b'>' && b != b'/')
        .fold(0xcbf2_9ce4_8422_2325, |hash, &b| {
            (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Whether nothing but white space stands between the name and the end of an end tag.
fn is_end_tag_tail(tag: &[u8]) -> bool {
    tag[2..tag.len() - 1]
        .iter()
        .skip_while(|&&b| !is_space(b))
        .all(|&b| is_space(b))
}

/// Production XMLDecl, with UTF-8 as the only encoding (RFC 6120 §11.5, §11.6).
fn check_declaration(unit: &[u8]) -> Result<(), XmlError> {
    let text = std::str::from_utf8(unit).map_err(|_| XmlError::UnsupportedEncoding)?;
    let Some(mut rest) = text
        .strip_prefix("<?xml")
        .and_then(|t| t.strip_suffix("?>"))
    else {
        return Err(XmlError::Restricted);
    };
    if !rest.starts_with(|c: char| c.is_ascii() && is_space(c as u8)) {
        return Err(XmlError::Restricted);
    }
    let version = pseudo_attribute(&mut rest, "version")?.ok_or(XmlError::NotWellFormed)?;
    let encoding = pseudo_attribute(&mut rest, "encoding")?;
    let standalone = pseudo_attribute(&mut rest, "standalone")?;
    let minor = version.strip_prefix("1.").ok_or(XmlError::NotWellFormed)?;
    if minor.is_empty() || !minor.bytes().all(|b| b.is_ascii_digit()) {
        return Err(XmlError::NotWellFormed);
    }
    if standalone.is_some_and(|value| value != "yes" && value != "no")
        || !rest.bytes().all(is_space)
    {
        return Err(XmlError::NotWellFormed);
    }
    if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8")) {
        return Err(XmlError::UnsupportedEncoding);
    }
    Ok(())
}

/// Takes ` name="value"` off the front of `rest`; `None` when another name or the end stands there.
fn pseudo_attribute<'a>(rest: &mut &'a str, name: &str) -> Result<Option<&'a str>, XmlError> {
    let space = |c: char| c.is_ascii() && is_space(c as u8);
    let trimmed = rest.trim_start_matches(space);
    let Some(value) = trimmed.strip_prefix(name) else {
        return Ok(None);
    };
    if trimmed.len() == rest.len() {
        return Err(XmlError::NotWellFormed);
    }
    let value = value
        .trim_start_matches(space)
        .strip_prefix('=')
        .ok_or(XmlError::NotWellFormed)?;
    let value = value.trim_start_matches(space);
    let quote = value
        .chars()
        .next()
        .filter(|&c| c == '\'' || c == '"')
        .ok_or(XmlError::NotWellFormed)?;
    let (value, behind) = value[1..]
        .split_once(quote)
        .ok_or(XmlError::NotWellFormed)?;
    *rest = behind;
    Ok(Some(value))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
