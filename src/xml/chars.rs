//! Character classes of XML 1.0 (fifth edition) §2.2 and §2.3, as tables for ASCII and ranges beyond.

/// A byte that may stand in a name and is ASCII, the colon excepted.
pub(super) const NAME: u8 = 1;
/// A byte that may start a name and is ASCII, the colon excepted.
pub(super) const NAME_START: u8 = 2;
/// A byte at which the fast path through character data stops.
pub(super) const TEXT_STOP: u8 = 4;
/// A byte at which the fast path through an attribute value stops.
pub(super) const VALUE_STOP: u8 = 8;

/// A byte that ends a name in a start tag, as far as framing cares.
pub(super) const TAG_STOP: u8 = 16;

/// The classes of every byte. `0xEF` stops both paths because it leads the two non-characters U+FFFE and U+FFFF.
pub(super) const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let start = b.is_ascii_alphabetic() || b == b'_';
        if start {
            table[i] |= NAME_START;
        }
        if start || b.is_ascii_digit() || b == b'-' || b == b'.' {
            table[i] |= NAME;
        }
        let control = b < 0x20;
        if (control && b != b'\t' && b != b'\n') || matches!(b, b'<' | b'&' | b']' | 0xEF) {
            table[i] |= TEXT_STOP;
        }
        if control || matches!(b, b'<' | b'&' | b'\'' | b'"' | 0xEF) {
            table[i] |= VALUE_STOP;
        }
        if matches!(b, b'>' | b'/' | b'<' | b'=' | b'\'' | b'"') || is_space(b) {
            table[i] |= TAG_STOP;
        }
        i += 1;
    }
    table
}

/// The white space of XML (production S).
pub(super) const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// Production Char: what may stand in a document at all.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Production NameStartChar without the colon, which Namespaces in XML takes away.
pub(super) const fn is_name_start(c: char) -> bool {
    if c.is_ascii() {
        return CLASS[c as usize] & NAME_START != 0;
    }
    matches!(c,
        '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}'
        | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}'
        | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

/// Production NameChar without the colon.
pub(super) const fn is_name(c: char) -> bool {
    if c.is_ascii() {
        return CLASS[c as usize] & NAME != 0;
    }
    is_name_start(c) || matches!(c, '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// Whether the three bytes at `at`, of which the first is 0xEF, encode U+FFFE or U+FFFF.
pub(super) fn is_noncharacter(bytes: &[u8], at: usize) -> bool {
    bytes.get(at + 1) == Some(&0xBF) && matches!(bytes.get(at + 2), Some(0xBE | 0xBF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_and_productions_agree() {
        for b in 0..0x80u8 {
            let c = char::from(b);
            if !is_char(c) {
                assert!(
                    CLASS[usize::from(b)] & TEXT_STOP != 0
                        && CLASS[usize::from(b)] & VALUE_STOP != 0,
                    "{b:#x}"
                );
            }
            assert!(!is_name_start(c) || is_name(c));
        }
        assert!(
            !is_name(':')
                && !is_name_start('-')
                && is_name('-')
                && is_name_start('é')
                && !is_name_start('·')
        );
        assert!(
            is_noncharacter("\u{FFFE}".as_bytes(), 0) && !is_noncharacter("\u{FFFD}".as_bytes(), 0)
        );
    }
}
