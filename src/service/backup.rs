//! The content of a backup: frames of a tag, a length (four bytes, big-endian) and that many bytes.
//!
//! First a head in JSON, then the accounts in the order of their addresses, each as its `<user/>`
//! of XEP-0227 in pieces between a beginning and an end, then the values of the server itself
//! (certificates, its secret, administrators, tokens, the configuration), and an end of it all. A
//! reader knows by the end that it has everything.
//!
//! Each account is whole and as it was at its moment, between the beginning and the end; the values
//! of the server are those of the end, so that nothing comes back that was revoked meanwhile. A
//! writer that was broken off goes on behind the last account that was whole: a [`Tag::Again`] then
//! stands there. It goes on only with what the same store has begun within a day. No segment of the
//! log is held meanwhile, so compaction may do what it likes.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::service::configuration;
use crate::stanza::id::hex;
use crate::store::restoring::is_mark;
use crate::store::xep0227::{self, NS};
use crate::store::{Store, StoreError, Tx};
use crate::xml::Writer;

/// Bytes of a frame: one value of the server at most.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;

/// What an account is cut into.
const PIECE_BYTES: usize = 64 * 1024;

/// Accounts whose names are looked up at once.
const PAGE: usize = 1_000;

/// Bytes of all values of the server that a restore holds in memory, and their number.
const SETTINGS_BYTES_MAX: usize = 4 << 20;
const SETTINGS_MAX: usize = 2_048;

/// Accounts that are removed in one transaction.
const REMOVED_AT_ONCE: usize = 100;

/// After so much time nobody wants the end of a backup beside its beginning.
const GO_ON_WITHIN_MS: u64 = 24 * 3_600 * 1_000;

/// The version of this format.
pub const FORMAT: u32 = 2;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// [`Head`] in JSON.
    Head = b'h',
    /// [`Again`] in JSON.
    Again = b'r',
    /// A value of the server: its name, a zero, the value.
    Setting = b's',
    /// An account begins: its address.
    Account = b'a',
    /// A piece of it.
    Piece = b'p',
    /// What of it could not be read, in words.
    Missing = b'm',
    /// The account ends: its address.
    AccountEnd = b'z',
    /// That was all; empty.
    End = b'e',
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    pub format: u32,
    /// The first domain of the server that they are of.
    pub domain: String,
    /// The name of the store, in hex.
    pub store: String,
    /// When it was begun, ms since 1970.
    pub begun_ms: u64,
    /// Why it is begun, where another one was to be gone on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// A backup that was broken off, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// Its last account that is whole.
    pub last: String,
    /// The name of its store.
    pub store: String,
    /// When it was begun.
    pub begun_ms: u64,
}

/// What stands where a backup was gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// Behind which account.
    pub behind: String,
    /// When, ms since 1970.
    pub at_ms: u64,
}

/// What could not be read is told for the first ones.
const MISSING_MAX: usize = 100;

/// Writes one frame.
pub fn write_frame(out: &mut dyn Write, tag: Tag, bytes: &[u8]) -> io::Result<()> {
    debug_assert!(bytes.len() <= FRAME_BYTES_MAX, "{tag:?}");
    let length = u32::try_from(bytes.len()).map_err(|_| broken("a frame is too long"))?;
    out.write_all(&[tag as u8])?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

/// Reads one frame.
pub fn read_frame(input: &mut dyn Read) -> io::Result<(Tag, Vec<u8>)> {
    let mut head = [0; 5];
    input.read_exact(&mut head)?;
    let [tag, length @ ..] = head;
    let tag = Tag::of(tag).ok_or_else(|| broken("an unknown frame"))?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(broken("a frame is too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok((tag, bytes))
}

/// Writes a backup of the store, or the rest of one, if it is one of this store and not too old.
/// Returns what could not be read.
pub fn write(
    store: &Store,
    domain: &str,
    now_ms: u64,
    so_far: Option<&SoFar>,
    out: &mut dyn Write,
) -> Result<Vec<String>, String> {
    let cannot = |error: io::Error| format!("the backup cannot be written: {error}");
    let name = hex(&store.id());
    let instead = so_far.and_then(|so_far| so_far.why_not(&name, now_ms));
    let mut last = match so_far.filter(|_| instead.is_none()) {
        Some(so_far) => {
            let again = Again {
                behind: so_far.last.clone(),
                at_ms: now_ms,
            };
            write_frame(out, Tag::Again, &json(&again)).map_err(cannot)?;
            so_far.last.clone()
        }
        None => {
            let head = Head {
                format: FORMAT,
                domain: domain.to_owned(),
                store: name,
                begun_ms: now_ms,
                instead,
            };
            write_frame(out, Tag::Head, &json(&head)).map_err(cannot)?;
            String::new()
        }
    };
    let mut missing = Vec::new();
    loop {
        let owners = store.read(|state| state.accounts_behind(&last, PAGE));
        let Some(furthest) = owners.last() else {
            break;
        };
        last.clone_from(furthest);
        for owner in owners {
            write_account(store, &owner, &mut missing, out)?;
        }
    }
    let settings: Vec<Vec<u8>> = store.read(|state| {
        let each = |(name, value): (&str, &[u8])| [name.as_bytes(), b"\0", value].concat();
        let goes_along = |(name, _): &(&str, &[u8])| goes_along(name);
        state.settings().filter(goes_along).map(each).collect()
    });
    for setting in settings {
        write_frame(out, Tag::Setting, &setting).map_err(cannot)?;
    }
    write_frame(out, Tag::End, b"").map_err(cannot)?;
    out.flush().map_err(cannot)?;
    Ok(missing)
}

/// A machine that this is restored to has a network of its own, and a restore of its own under way.
fn goes_along(name: &str) -> bool {
    name != configuration::NETWORK && !is_mark(name)
}

impl SoFar {
    /// Why it cannot be gone on with; a sentence.
    fn why_not(&self, store: &str, now_ms: u64) -> Option<String> {
        if self.store != store {
            return Some("it is of another store".to_owned());
        }
        let is_old = now_ms.saturating_sub(self.begun_ms) > GO_ON_WITHIN_MS;
        is_old.then(|| "it was begun more than a day ago".to_owned())
    }
}

/// Forgets the accounts of a restore that was not completed; how many there were. `pause` lets what
/// waits be written, when the store takes no more before that.
pub fn forget(
    store: &Store,
    pause: &mut dyn FnMut() -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let mut update = |change: &dyn Fn(&mut Tx<'_>) -> Result<(), StoreError>| {
        loop {
            match store.update(change) {
                Ok(_) => return Ok(()),
                Err(StoreError::Overloaded) => pause()?,
                Err(error) => return Err(error),
            }
        }
    };
    let mut forgotten = 0;
    loop {
        let owners = store.read(|state| state.accounts_behind("", PAGE));
        if owners.is_empty() {
            break;
        }
        for owners in owners.chunks(REMOVED_AT_ONCE) {
            update(&|tx| owners.iter().try_for_each(|owner| tx.remove_account(owner)))?;
        }
        forgotten += owners.len();
    }
    update(&|tx| tx.end_restore())?;
    Ok(forgotten)
}

/// One that was removed meanwhile is empty.
fn write_account(
    store: &Store,
    owner: &str,
    missing: &mut Vec<String>,
    out: &mut dyn Write,
) -> Result<(), String> {
    let cannot = |error: io::Error| format!("the backup cannot be written: {error}");
    write_frame(out, Tag::Account, owner.as_bytes()).map_err(cannot)?;
    let mut pieces = Pieces {
        out,
        piece: Vec::new(),
    };
    let exported = xep0227::export_account(store, owner, &mut pieces);
    let exported = exported.map_err(|error| error.to_string())?;
    pieces.flush().map_err(cannot)?;
    let room = MISSING_MAX.saturating_sub(missing.len());
    let lacks = exported.map(|exported| exported.missing);
    for what in lacks.unwrap_or_default().into_iter().take(room) {
        write_frame(out, Tag::Missing, what.as_bytes()).map_err(cannot)?;
        missing.push(what);
    }
    write_frame(out, Tag::AccountEnd, owner.as_bytes()).map_err(cannot)
}

/// Cuts what is written into frames.
struct Pieces<'a> {
    out: &'a mut dyn Write,
    piece: Vec<u8>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            write_frame(self.out, Tag::Piece, &self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }
}

/// A backup that is read: its accounts as one document of XEP-0227, its values kept aside.
pub struct Document<'a> {
    input: &'a mut dyn Read,
    host: String,
    /// Bytes of the document that were not taken yet.
    text: Vec<u8>,
    at: usize,
    aside: &'a mut Aside,
}

/// What stands in a backup beside the accounts.
#[derive(Debug, Default)]
pub struct Aside {
    /// The values of the server.
    pub settings: Vec<(String, Vec<u8>)>,
    /// The last time that it was gone on with.
    pub again: Option<Again>,
    /// What could not be read when it was taken, in words; the first hundred.
    pub missing: Vec<String>,
    /// The end was read.
    pub is_whole: bool,
}

/// Reads the head of a backup.
pub fn read_head(input: &mut dyn Read) -> io::Result<Head> {
    match read_frame(input)? {
        (Tag::Head, bytes) => parse_head(&bytes),
        _ => Err(broken("it has no head")),
    }
}

/// The content of a [`Tag::Head`].
pub fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let none = |_| broken("its head is none");
    let Version { format } = serde_json::from_slice(bytes).map_err(none)?;
    match format {
        FORMAT => serde_json::from_slice(bytes).map_err(none),
        0..FORMAT => Err(broken("it was made before the first release of Cairn")),
        _ => Err(broken("it was made by a later version of Cairn")),
    }
}

impl<'a> Document<'a> {
    /// What stands behind the head.
    pub fn new(head: &Head, input: &'a mut dyn Read, aside: &'a mut Aside) -> Document<'a> {
        let mut writer = Writer::new();
        writer.open_ns("server-data", NS);
        let mut text = writer.finish_open().to_vec();
        let host = Writer::new()
            .open("host")
            .attr("jid", &head.domain)
            .finish_open();
        text.extend_from_slice(&host);
        Document {
            input,
            host: head.domain.clone(),
            text,
            at: 0,
            aside,
        }
    }

    fn next(&mut self) -> io::Result<()> {
        let (tag, bytes) = read_frame(self.input)?;
        self.text.clear();
        self.at = 0;
        match tag {
            Tag::Setting => self.setting(&bytes)?,
            Tag::Account | Tag::AccountEnd => {
                let owner = std::str::from_utf8(&bytes).ok();
                let host = owner.and_then(|owner| Some(owner.rsplit_once('@')?.1));
                let host = host.ok_or_else(|| broken("an account without an address"))?;
                self.host(tag, host)?;
            }
            Tag::Piece => self.text = bytes,
            Tag::Missing if self.aside.missing.len() < MISSING_MAX => {
                let what = String::from_utf8_lossy(&bytes).into_owned();
                self.aside.missing.push(what);
            }
            Tag::Missing => {}
            Tag::End => {
                self.aside.is_whole = true;
                self.text.extend_from_slice(b"</host></server-data>");
            }
            Tag::Again => {
                let again =
                    serde_json::from_slice(&bytes).map_err(|_| broken("it goes on nowhere"))?;
                self.aside.again = Some(again);
            }
            Tag::Head => return Err(broken("it has two heads")),
        }
        Ok(())
    }

    /// The accounts stand in the order of their addresses, whatever their domains: each may begin
    /// another one.
    fn host(&mut self, tag: Tag, host: &str) -> io::Result<()> {
        if host == self.host {
            return Ok(());
        }
        if tag == Tag::AccountEnd {
            return Err(broken("an account ends as another one"));
        }
        host.clone_into(&mut self.host);
        let begin = Writer::new().open("host").attr("jid", host).finish_open();
        self.text.extend_from_slice(b"</host>");
        self.text.extend_from_slice(&begin);
        Ok(())
    }

    fn setting(&mut self, bytes: &[u8]) -> io::Result<()> {
        let zero = bytes.iter().position(|byte| *byte == 0);
        let (name, value) = bytes.split_at(zero.ok_or_else(|| broken("a value has no name"))?);
        let name = std::str::from_utf8(name).map_err(|_| broken("a value has no name"))?;
        let settings = &mut self.aside.settings;
        let held: usize = settings
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if held + bytes.len() > SETTINGS_BYTES_MAX || settings.len() == SETTINGS_MAX {
            return Err(broken("it has too many values"));
        }
        if goes_along(name) {
            settings.push((name.to_owned(), value[1..].to_vec()));
        }
        Ok(())
    }
}

impl Read for Document<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() {
            if self.aside.is_whole {
                return Ok(0);
            }
            self.next()?;
        }
        let taken = into.len().min(self.text.len() - self.at);
        into[..taken].copy_from_slice(&self.text[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

impl Tag {
    fn of(byte: u8) -> Option<Tag> {
        [
            Tag::Head,
            Tag::Again,
            Tag::Setting,
            Tag::Account,
            Tag::Piece,
            Tag::Missing,
            Tag::AccountEnd,
            Tag::End,
        ]
        .into_iter()
        .find(|tag| *tag as u8 == byte)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values are JSON")
}

fn broken(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("this is no whole backup: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_nonsense_is_refused() {
        let mut text = Vec::new();
        write_frame(&mut text, Tag::Piece, b"abc").expect("memory");
        let read = read_frame(&mut &text[..]).expect("a frame");
        assert_eq!(read, (Tag::Piece, b"abc".to_vec()));
        for cut in 0..text.len() {
            assert!(read_frame(&mut &text[..cut]).is_err());
        }
        assert!(read_frame(&mut &b"?\0\0\0\0"[..]).is_err());
        assert!(read_frame(&mut &b"p\xff\xff\xff\xff"[..]).is_err());
    }

    #[test]
    fn a_document_ends_only_with_the_end() {
        let head = Head {
            format: FORMAT,
            domain: "chat.example".to_owned(),
            store: "00".to_owned(),
            begun_ms: 0,
            instead: None,
        };
        let mut frames = Vec::new();
        for (tag, bytes) in [
            (Tag::Account, &b"a@chat.example"[..]),
            (Tag::Piece, b"<user name='a'/>"),
            (Tag::AccountEnd, b"a@chat.example"),
            (Tag::Again, b"{\"behind\":\"a@chat.example\",\"at_ms\":7}"),
            (Tag::Account, b"a@other.example"),
            (Tag::Piece, b"<user name='a'/>"),
            (Tag::AccountEnd, b"a@other.example"),
            (Tag::Setting, b"name\0val\0ue"),
            (Tag::Setting, b"configuration-network\0{}"),
            (Tag::Setting, b"restoring\0"),
            (Tag::End, b""),
        ] {
            write_frame(&mut frames, tag, bytes).expect("memory");
        }
        let read = |frames: &[u8]| {
            let (mut text, mut aside) = (String::new(), Aside::default());
            let read = Document::new(&head, &mut &frames[..], &mut aside).read_to_string(&mut text);
            read.map(|_| (text, aside))
        };
        let (text, aside) = read(&frames).expect("whole");
        assert!(
            text.ends_with(
                "<host jid='chat.example'><user name='a'/></host>\
                 <host jid='other.example'><user name='a'/></host></server-data>"
            ),
            "{text}"
        );
        // The network of the machine is its own.
        assert_eq!(aside.settings, [("name".to_owned(), b"val\0ue".to_vec())]);
        assert_eq!(aside.again.map(|again| again.at_ms), Some(7));
        assert!(read(&frames[..frames.len() - 1]).is_err());
        let nobody = String::from_utf8_lossy(&frames).replace("a@", "a.");
        assert!(read(nobody.as_bytes()).is_err());
        let mut swapped = frames.clone();
        let end = frames
            .windows(15)
            .rposition(|bytes| bytes == b"a@other.example");
        swapped[end.expect("it ends") + 2] = b'u';
        assert!(read(&swapped).is_err());
    }

    #[test]
    fn only_what_the_same_store_has_begun_lately_is_gone_on_with() {
        let so_far = SoFar {
            last: "a@chat.example".to_owned(),
            store: "ab".to_owned(),
            begun_ms: 1_000,
        };
        assert_eq!(so_far.why_not("ab", 1_000 + GO_ON_WITHIN_MS), None);
        // A clock that was set back does no harm.
        assert_eq!(so_far.why_not("ab", 0), None);
        assert!(so_far.why_not("ab", 1_001 + GO_ON_WITHIN_MS).is_some());
        assert!(so_far.why_not("ac", 1_000).is_some());
    }
}
