//! Escaping and its inverse (XML 1.0 §2.4, §3.3.3, §4.1).

use std::borrow::Cow;

use super::chars::is_char;

/// Appends `text` as character data. `>` is escaped too, so that `]]>` can never appear; a carriage return is written
/// as a reference, because a parser would turn the character itself into a line feed. What XML can't carry at all
/// becomes U+FFFD.
pub fn escape_text(text: &str, out: &mut Vec<u8>) {
    escape(text, out, |b| match b {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\r' => Some("&#xD;"),
        _ => None,
    });
}

/// Appends `value` for an attribute in either kind of quote. Tab and line ends are written as references, because a
/// parser would turn the characters themselves into spaces.
pub fn escape_attribute(value: &str, out: &mut Vec<u8>) {
    escape(value, out, |b| match b {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\'' => Some("&apos;"),
        b'"' => Some("&quot;"),
        b'\t' => Some("&#x9;"),
        b'\n' => Some("&#xA;"),
        b'\r' => Some("&#xD;"),
        _ => None,
    });
}

/// Reads validated character data or a validated attribute value: resolves references, borrowing when there are none.
///
/// Literal line ends and tabs are left alone: canonical bytes hold none that a parser would change. A reference that
/// can't be resolved is kept as it stands, which validated bytes never cause.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'&', raw.as_bytes()) else {
        return Cow::Borrowed(raw);
    };
    let mut out = String::with_capacity(raw.len());
    out.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').unwrap_or(0);
        match resolve(&rest.as_bytes()[..end]) {
            Some(c) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that a reference stands for; `reference` starts with `&` and lacks its semicolon.
pub(super) fn resolve(reference: &[u8]) -> Option<char> {
    match reference {
        b"&amp" => Some('&'),
        b"&lt" => Some('<'),
        b"&gt" => Some('>'),
        b"&apos" => Some('\''),
        b"&quot" => Some('"'),
        [b'&', b'#', b'x', hex @ ..] => code_point(hex, 16),
        [b'&', b'#', decimal @ ..] => code_point(decimal, 10),
        _ => None,
    }
}

fn code_point(digits: &[u8], radix: u32) -> Option<char> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u32;
    for &digit in digits {
        value = value
            .checked_mul(radix)?
            .checked_add(char::from(digit).to_digit(radix)?)?;
    }
    char::from_u32(value).filter(|&c| is_char(c))
}

fn escape(text: &str, out: &mut Vec<u8>, special: impl Fn(u8) -> Option<&'static str>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len());
    let mut copied = 0;
    for (at, &b) in bytes.iter().enumerate() {
        let (replacement, len) = if let Some(reference) = special(b) {
            (reference, 1)
        } else if b < 0x20 && b != b'\t' && b != b'\n' {
            ("\u{FFFD}", 1)
        } else if b == 0xEF && super::chars::is_noncharacter(bytes, at) {
            ("\u{FFFD}", 3)
        } else {
            continue;
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(replacement.as_bytes());
        copied = at + len;
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(s: &str) -> String {
        let mut out = Vec::new();
        escape_text(s, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn attribute(s: &str) -> String {
        let mut out = Vec::new();
        escape_attribute(s, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markup_never_survives_escaping() {
        assert_eq!(text("<a>&]]>\r\n"), "&lt;a&gt;&amp;]]&gt;&#xD;\n");
        assert_eq!(attribute("'\"\t\n<"), "&apos;&quot;&#x9;&#xA;&lt;");
    }

    #[test]
    fn characters_that_xml_forbids_become_replacement_characters() {
        assert_eq!(
            text("a\0b\u{1b}c\u{FFFE}d\u{FFFF}"),
            "a\u{FFFD}b\u{FFFD}c\u{FFFD}d\u{FFFD}"
        );
        assert_eq!(
            attribute("a\u{8}\u{FFFF}\u{FFFD}"),
            "a\u{FFFD}\u{FFFD}\u{FFFD}"
        );
    }

    #[test]
    fn references_are_resolved() {
        assert_eq!(
            unescape("a&lt;&#60;&#x3C;&#x1F600;&apos;"),
            "a<<<\u{1F600}'"
        );
        assert_eq!(
            unescape("&#0;&#xFFFE;&#x110000;&foo;&#;&#x;&#99999999999;&"),
            "&#0;&#xFFFE;&#x110000;&foo;&#;&#x;&#99999999999;&"
        );
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(s in "[\\PC\t\n\r]*") {
            let (text, attribute) = (text(&s), attribute(&s));
            prop_assert_eq!(unescape(&text), s.as_str());
            prop_assert_eq!(unescape(&attribute), s.as_str());
        }
    }
}
