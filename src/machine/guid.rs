//! GUIDs as partition tables hold them (UEFI 2.10, appendix A): the first three fields little-endian.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The sixteen bytes of a GUID as they stand on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Guid(pub [u8; 16]);

/// Where the bytes of the text stand on the disk.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// Reads `0FC63DAF-8483-4772-8E79-3D69D8477DE4`, in either case; `None` for anything else.
    #[must_use]
    pub const fn parse(text: &str) -> Option<Guid> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return None;
        }
        let mut bytes = [0; 16];
        let (mut at, mut index) = (0, 0);
        while at < 36 {
            if at == 8 || at == 13 || at == 18 || at == 23 {
                if text[at] != b'-' {
                    return None;
                }
                at += 1;
            }
            let (Some(high), Some(low)) = (nibble(text[at]), nibble(text[at + 1])) else {
                return None;
            };
            bytes[ORDER[index]] = high << 4 | low;
            index += 1;
            at += 2;
        }
        Some(Guid(bytes))
    }
}

const fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// In lower case, as the kernel writes PARTUUID.
impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in ORDER.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[*place])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_fields_are_little_endian() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid = Guid::parse(text).expect("a GUID");
        assert_eq!(
            guid.0[..8],
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]
        );
        assert_eq!(guid.to_string(), text);
        assert_eq!(Guid::parse(&text.to_uppercase()), Some(guid));
    }

    #[test]
    fn what_is_no_guid_is_none() {
        for text in [
            "",
            "c12a7328f81f11d2ba4b00a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "é12a7328-f81f-11d2-ba4b-00a0c93ec93",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }
}
