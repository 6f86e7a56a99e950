//! SMBIOS OEM strings (DMTF DSP0134 §7.12, structures of type 11), which hypervisors let their
//! owner fill: `cairn:` and our TOML in base64, or in parts `cairn.0:`, `cairn.1:` and so on, for a
//! string is short in some of them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::DOCUMENT_BYTES_MAX;

const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;
const HEADER_BYTES: usize = 4;
/// 16 KiB of TOML in base64 is 22 KiB; parts may be as short as one line of it.
const PARTS_MAX: usize = 1024;

/// The TOML in a table, or in some structures of one; `None` where there is none, an error where a
/// part is missing or is no base64.
pub fn read(table: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut whole = None;
    let mut parts = BTreeMap::new();
    for string in oem_strings(table) {
        if let Some(text) = string.strip_prefix(b"cairn:") {
            whole.get_or_insert(text);
        } else if let Some((number, text)) = part(string) {
            parts.entry(number).or_insert(text);
        }
    }
    let packed = match whole {
        Some(text) => text.to_vec(),
        None if parts.is_empty() => return Ok(None),
        None => {
            let missing = (0..)
                .zip(parts.keys())
                .find(|(expected, number)| expected != *number);
            if let Some((missing, _)) = missing {
                return Err(format!("the SMBIOS string cairn.{missing}: is missing"));
            }
            parts.into_values().flatten().copied().collect()
        }
    };
    if packed.len() > DOCUMENT_BYTES_MAX {
        return Err("the SMBIOS strings are too long".to_owned());
    }
    let toml = STANDARD.decode(packed.trim_ascii());
    toml.map(Some)
        .map_err(|_| "the SMBIOS strings behind cairn: are no base64".to_owned())
}

/// The number and text of `cairn.7:text`.
fn part(string: &[u8]) -> Option<(usize, &[u8])> {
    let rest = string.strip_prefix(b"cairn.")?;
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let number: usize = str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    (number < PARTS_MAX).then_some((number, &rest[colon + 1..]))
}

/// Every string of the structures of type 11. A structure is a header, a formatted area whose length
/// is in it, and strings that each end with a zero, with one more behind the last.
fn oem_strings(mut table: &[u8]) -> Vec<&[u8]> {
    let mut strings = Vec::new();
    while table.len() >= HEADER_BYTES {
        let (kind, length) = (table[0], usize::from(table[1]));
        if kind == END_OF_TABLE || length < HEADER_BYTES || length > table.len() {
            break;
        }
        let mut rest = &table[length..];
        if let [0, 0, after @ ..] = rest {
            table = after;
            continue;
        }
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            if end == 0 {
                break;
            }
            if kind == OEM_STRINGS {
                strings.push(&rest[..end]);
            }
            rest = &rest[end + 1..];
        }
        table = rest.get(1..).unwrap_or_default();
    }
    strings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(kind: u8, strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, 5, 0, 14, strings.len() as u8];
        for string in strings {
            bytes.extend_from_slice(string.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn a_string_among_others_is_found() {
        let toml = b"domain = \"chat.example\"\n";
        let string = format!("cairn:{}", STANDARD.encode(toml));
        let table = [
            structure(0, &["SeaBIOS", "1.0"]),
            structure(32, &[]),
            structure(11, &["other:1", &string]),
            structure(127, &[]),
        ];
        assert_eq!(read(&table.concat()), Ok(Some(toml.to_vec())));
        assert_eq!(
            read(&table[2]),
            Ok(Some(toml.to_vec())),
            "one structure alone"
        );
        assert_eq!(read(&table[0]), Ok(None));
        assert_eq!(read(&[]), Ok(None));
        let hidden = structure(1, &[&string]);
        assert_eq!(read(&hidden), Ok(None), "only OEM strings count");
    }

    #[test]
    fn parts_come_in_any_order_and_none_may_be_missing() {
        let toml = b"domain = \"chat.example\"\n[listen]\n";
        let packed = STANDARD.encode(toml);
        let (head, tail) = packed.split_at(13);
        let [zero, one] = [format!("cairn.0:{head}"), format!("cairn.1:{tail}")];
        let table = [structure(11, &[&one]), structure(11, &[&zero])].concat();
        assert_eq!(read(&table), Ok(Some(toml.to_vec())));
        let why = read(&structure(11, &[&one])).expect_err("a part is missing");
        assert!(why.contains("cairn.0:"), "{why}");
        assert!(read(&structure(11, &["cairn:%%%"])).is_err());
        assert_eq!(read(&structure(11, &["cairn.9999:x"])), Ok(None));
    }

    #[test]
    fn broken_tables_end() {
        for table in [
            &[11, 3, 0, 0][..],
            &[11, 200, 0, 0, 1],
            &[11, 5, 0, 0, 1, b'a'],
            &[11, 4, 0, 0],
        ] {
            assert_eq!(read(table), Ok(None), "{table:?}");
        }
    }
}
