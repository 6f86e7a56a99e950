//! User-data: what the owner of a machine types into the provider's form. It is ours when its first
//! line is `#cairn`; what providers add for other systems is told and left alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::DOCUMENT_BYTES_MAX;

/// The first line of ours.
const MARK: &str = "#cairn";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What user-data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserData {
    /// There is none.
    Nothing,
    /// Cairn's TOML, with an empty line for the mark.
    Ours(String),
    /// Something else; the sentence says what.
    NotOurs(String),
}

/// Tells what user-data is. It may be wrapped in base64 once, as some providers' tools do.
#[must_use]
pub fn read(bytes: &[u8]) -> UserData {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return UserData::NotOurs(format!(
            "the user-data is longer than {} KiB and is ignored",
            DOCUMENT_BYTES_MAX >> 10
        ));
    }
    if is_marked(bytes) {
        return ours(bytes);
    }
    match unwrapped(bytes) {
        Some(inside) if is_marked(&inside) => ours(&inside),
        Some(inside) => not_ours(&inside),
        None => not_ours(bytes),
    }
}

/// Whether the first line is the mark.
#[must_use]
pub fn is_marked(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes);
    line.trim_ascii_end() == MARK.as_bytes()
}

/// The number at the top of a configuration that says which of two is newer.
#[must_use]
pub fn revision(config: &str) -> Option<u64> {
    let table: toml::Table = config.parse().ok()?;
    let revision = table.get("revision")?.as_integer()?;
    u64::try_from(revision).ok()
}

/// What base64 holds; `None` where it is no base64 of a text.
pub(super) fn unwrapped(bytes: &[u8]) -> Option<Vec<u8>> {
    let packed: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if packed.len() < 8 {
        return None;
    }
    STANDARD.decode(packed).ok()
}

fn ours(bytes: &[u8]) -> UserData {
    match str::from_utf8(bytes) {
        Ok(text) => {
            let rest = text.find('\n').map_or("", |end| &text[end + 1..]);
            UserData::Ours(format!("\n{rest}"))
        }
        Err(error) => UserData::NotOurs(format!(
            "the user-data begins with {MARK} but is not UTF-8 from byte {} on; it is ignored",
            error.valid_up_to()
        )),
    }
}

fn not_ours(bytes: &[u8]) -> UserData {
    let text = bytes.trim_ascii();
    let what = if text.is_empty() {
        return UserData::Nothing;
    } else if text.starts_with(&[0x1f, 0x8b]) {
        "is compressed, which Cairn does not read"
    } else if text.starts_with(b"#cloud-config") {
        "is for cloud-init"
    } else if text.starts_with(b"#!") {
        "is a script, and there is nothing here to run it"
    } else if text.len() >= 13 && text[..13].eq_ignore_ascii_case(b"content-type:") {
        "is a MIME archive for cloud-init"
    } else {
        "is not for Cairn"
    };
    UserData::NotOurs(format!(
        "the user-data {what} and is ignored; ours begins with the line {MARK}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bytes: &[u8]) -> String {
        match read(bytes) {
            UserData::NotOurs(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ours_begins_with_the_mark() {
        let toml = "\ndomain = \"chat.example\"\n";
        for text in [
            "#cairn\ndomain = \"chat.example\"\n",
            "#cairn  \r\ndomain = \"chat.example\"\n",
            "\u{feff}#cairn\ndomain = \"chat.example\"\n",
        ] {
            assert_eq!(
                read(text.as_bytes()),
                UserData::Ours(toml.to_owned()),
                "{text:?}"
            );
            let mut packed = STANDARD.encode(text);
            packed.insert(20, '\n');
            assert_eq!(read(packed.as_bytes()), UserData::Ours(toml.to_owned()));
        }
        assert_eq!(read(b"#cairn"), UserData::Ours("\n".to_owned()));
    }

    #[test]
    fn what_is_not_ours_is_named() {
        assert!(why(b"#cloud-config\nusers: []\n").contains("cloud-init"));
        assert!(why(b"#!/bin/sh\n").contains("script"));
        assert!(why(b"\x1f\x8b\x08").contains("compressed"));
        assert!(why(b"Content-Type: multipart/mixed").contains("MIME"));
        assert!(why(b"#cairn-like\n").contains("not for Cairn"));
        assert!(why(STANDARD.encode("#cloud-config\n").as_bytes()).contains("cloud-init"));
        assert!(why(b"#cairn\n\xff").contains("not UTF-8 from byte 7"));
        assert!(why(&vec![b'#'; DOCUMENT_BYTES_MAX + 1]).contains("longer than 64 KiB"));
        assert_eq!(read(b" \n"), UserData::Nothing);
        assert_eq!(read(b""), UserData::Nothing);
    }

    #[test]
    fn a_revision_is_a_number_at_the_top() {
        assert_eq!(
            revision("\nrevision = 12\n[listen]\nrevision = 3\n"),
            Some(12)
        );
        assert_eq!(revision("revision = -1"), None);
        assert_eq!(revision("[a]\nrevision = 3"), None);
        assert_eq!(revision("revision = \"3\""), None);
        assert_eq!(revision("revision = "), None);
    }
}
