//! Files that only a passphrase opens: backups.
//!
//! ```text
//!  0  8  "CAIRNBK2"
//!  8  4  argon2id: memory, KiB      (numbers are big-endian)
//! 12  4  argon2id: passes
//! 16  4  argon2id: lanes
//! 20 16  salt
//! 36     pieces: a byte that says which, then
//!        0  a full chunk: 64 KiB of content, encrypted, and 16 bytes of tag
//!        1  the last chunk, which ends the file: up to as much
//!        2  a new section: 32 random bytes
//! ```
//!
//! The master key is argon2id's (RFC 9106) of the passphrase and the salt, 32 bytes. Chunks are
//! encrypted with ChaCha20-Poly1305. The nonce is the chunk's number (8 bytes), three zeros, and 1
//! for the last chunk, else 0: the STREAM construction, in which chunks cannot be reordered, left
//! out, or cut off at the end. Each chunk authenticates the head.
//!
//! A file that was not finished can be gone on with ([`Opener::unfinished`], [`Sealer::go_on`]): it
//! is cut off in front of the chunk that holds the last byte that is wanted, and a new section
//! begins there. The key of a section is HKDF-SHA256's (RFC 5869) of the master key, with the
//! random bytes as its salt and the number of its first chunk and the tag of the chunk before as
//! its info (zeros in front of the first chunk of all). So no nonce is used twice with a key,
//! though the cut off chunks may have been seen by somebody, and they fit in nowhere again.

use std::fmt;
use std::io::{self, Read, Write};
use std::rc::Rc;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// Random bytes of a new file.
pub const SALT_BYTES: usize = 16;

/// Random bytes of a section.
pub const SECTION_BYTES: usize = 32;

/// Content of a full chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"CAIRNBK2";
const HEAD_BYTES: usize = 36;
const TAG_BYTES: usize = 16;

/// What the byte in front of a piece says.
const FULL: u8 = 0;
const LAST: u8 = 1;
const SECTION: u8 = 2;

/// What new files are made with: 64 MiB, three passes (RFC 9106 §4, the second recommendation, with
/// one lane).
const NEW: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};

/// What a file from elsewhere may ask for.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why a file is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedError {
    /// It does not begin like one.
    Foreign,
    /// The passphrase is another one, or the file was changed or cut off.
    Wrong,
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealedError::Foreign => "this is no backup of Cairn",
            SealedError::Wrong => {
                "the passphrase is wrong, or the file was damaged or is not complete"
            }
        })
    }
}

impl std::error::Error for SealedError {}

impl From<SealedError> for io::Error {
    fn from(error: SealedError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Encrypts what is written to it.
pub struct Sealer<W: Write> {
    inner: W,
    cipher: Cipher,
    plain: Zeroizing<Vec<u8>>,
}

/// Decrypts what is read from it. Nothing is given out that was not authenticated.
pub struct Opener<R: Read> {
    inner: R,
    cipher: Cipher,
    /// Of the last chunk that was read.
    plain: Rc<Zeroizing<Vec<u8>>>,
    at: usize,
    is_over: bool,
    /// What cannot be opened is the end.
    is_unfinished: bool,
    /// That end was met.
    is_broken_off: bool,
    /// Where that chunk begins, for who goes on there.
    before: Before,
    /// Bytes of the file that were read.
    read: u64,
}

/// A place in a file from which it can be gone on with.
#[derive(Clone)]
pub struct Mark {
    /// Bytes of the file to keep.
    pub file_bytes: u64,
    before: Before,
    master: Rc<Master>,
    plain: Rc<Zeroizing<Vec<u8>>>,
    at: usize,
}

/// What stands in front of a chunk.
#[derive(Clone, Copy)]
struct Before {
    file_bytes: u64,
    number: u64,
    tag: [u8; TAG_BYTES],
}

/// What the passphrase and the head give.
struct Master {
    key: Zeroizing<[u8; 32]>,
    head: [u8; HEAD_BYTES],
}

struct Cipher {
    master: Rc<Master>,
    key: LessSafeKey,
    number: u64,
    /// Of the chunk before.
    tag: [u8; TAG_BYTES],
}

impl<W: Write> Sealer<W> {
    /// Begins a file. It takes tenths of a second, on purpose.
    pub fn new(inner: W, passphrase: &str, salt: [u8; SALT_BYTES]) -> io::Result<Sealer<W>> {
        Sealer::with_cost(inner, passphrase, salt, NEW)
    }

    fn with_cost(
        mut inner: W,
        passphrase: &str,
        salt: [u8; SALT_BYTES],
        cost: Cost,
    ) -> io::Result<Sealer<W>> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        for (at, number) in [(8, cost.memory_kib), (12, cost.passes), (16, cost.lanes)] {
            head[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        head[20..].copy_from_slice(&salt);
        inner.write_all(&head)?;
        let master = Master::new(passphrase, head, cost)?;
        Ok(Sealer {
            inner,
            cipher: Cipher::first(Rc::new(master))?,
            plain: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
        })
    }

    /// Goes on with a file behind a mark. `inner` writes behind [`Mark::file_bytes`], where the
    /// file ends now; `random` is drawn for this.
    pub fn go_on(mut inner: W, mark: &Mark, random: [u8; SECTION_BYTES]) -> io::Result<Sealer<W>> {
        inner.write_all(&[SECTION])?;
        inner.write_all(&random)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        plain.extend_from_slice(&mark.plain[..mark.at]);
        Ok(Sealer {
            inner,
            cipher: Cipher::section(mark.master.clone(), &random, &mark.before)?,
            plain,
        })
    }

    /// Writes the last chunk. Without it the file does not open.
    pub fn finish(mut self) -> io::Result<W> {
        self.chunk(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn chunk(&mut self, is_last: bool) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(self.plain.len() + TAG_BYTES);
        chunk.extend_from_slice(&self.plain);
        self.cipher.seal(&mut chunk, is_last)?;
        self.plain.clear();
        self.inner.write_all(&[if is_last { LAST } else { FULL }])?;
        self.inner.write_all(&chunk)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == CHUNK_BYTES {
            self.chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// A chunk is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> Opener<R> {
    /// Reads the head of a file. That takes as long as its maker wanted, within bounds.
    pub fn new(inner: R, passphrase: &str) -> io::Result<Opener<R>> {
        Opener::with(inner, passphrase, false)
    }

    /// The same of a file that may not have been finished: the content ends in front of the first
    /// chunk that is not whole. Where that is the first of all, nothing tells whether the
    /// passphrase is right.
    pub fn unfinished(inner: R, passphrase: &str) -> io::Result<Opener<R>> {
        Opener::with(inner, passphrase, true)
    }

    fn with(mut inner: R, passphrase: &str, is_unfinished: bool) -> io::Result<Opener<R>> {
        let mut head = [0; HEAD_BYTES];
        inner
            .read_exact(&mut head)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SealedError::Foreign.into(),
                _ => error,
            })?;
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let cost = Cost {
            memory_kib: number(8),
            passes: number(12),
            lanes: number(16),
        };
        let is_ours = head.starts_with(MAGIC)
            && cost.memory_kib <= MEMORY_KIB_MAX
            && cost.passes <= PASSES_MAX
            && cost.lanes <= LANES_MAX;
        if !is_ours {
            return Err(SealedError::Foreign.into());
        }
        let master = Rc::new(Master::new(passphrase, head, cost)?);
        let read = HEAD_BYTES as u64;
        Ok(Opener {
            inner,
            cipher: Cipher::first(master)?,
            plain: Rc::default(),
            at: 0,
            is_over: false,
            is_unfinished,
            is_broken_off: false,
            before: Before {
                file_bytes: read,
                number: 0,
                tag: [0; TAG_BYTES],
            },
            read,
        })
    }

    /// The place behind what was read so far.
    pub fn mark(&self) -> Mark {
        Mark {
            file_bytes: self.before.file_bytes,
            before: self.before,
            master: self.cipher.master.clone(),
            plain: self.plain.clone(),
            at: self.at,
        }
    }

    /// Whether the last chunk was read.
    pub fn is_finished(&self) -> bool {
        self.is_over
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let before = Before {
            file_bytes: self.read,
            number: self.cipher.number,
            tag: self.cipher.tag,
        };
        let kind = loop {
            let mut kind = [0];
            self.take_whole(&mut kind)?;
            if kind[0] != SECTION {
                break kind[0];
            }
            let mut random = [0; SECTION_BYTES];
            self.take_whole(&mut random)?;
            self.cipher = Cipher::section(self.cipher.master.clone(), &random, &before)?;
        };
        let (whole, is_last) = match kind {
            FULL => (CHUNK_BYTES + TAG_BYTES, false),
            // One more tells whether something follows.
            LAST => (CHUNK_BYTES + TAG_BYTES + 1, true),
            _ => return Err(SealedError::Wrong.into()),
        };
        let mut chunk = Vec::with_capacity(whole);
        (&mut self.inner)
            .take(whole as u64)
            .read_to_end(&mut chunk)?;
        self.read += chunk.len() as u64;
        if chunk.len() > CHUNK_BYTES + TAG_BYTES || (!is_last && chunk.len() < whole) {
            return Err(SealedError::Wrong.into());
        }
        self.cipher.open(&mut chunk, is_last)?;
        debug_assert!(is_last || chunk.len() == CHUNK_BYTES, "it was read whole");
        self.plain = Rc::new(Zeroizing::new(chunk));
        self.at = 0;
        self.before = before;
        self.is_over = is_last;
        Ok(())
    }

    fn take_whole(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.inner
            .read_exact(into)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SealedError::Wrong.into(),
                _ => error,
            })?;
        self.read += into.len() as u64;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.is_over || self.is_broken_off {
                return Ok(0);
            }
            match self.next_chunk() {
                Ok(()) => {}
                // A write that was cut off, by the end of a process or of the power.
                Err(error) if self.is_unfinished && is_wrong(&error) => self.is_broken_off = true,
                Err(error) => return Err(error),
            }
        }
        let taken = into.len().min(self.plain.len() - self.at);
        into[..taken].copy_from_slice(&self.plain[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// Whether an error of an [`Opener`] is about the content.
fn is_wrong(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner == Some(&SealedError::Wrong)
}

impl Master {
    fn new(passphrase: &str, head: [u8; HEAD_BYTES], cost: Cost) -> Result<Master, SealedError> {
        let foreign = SealedError::Foreign;
        let mut key = Zeroizing::new([0; 32]);
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len()));
        let params = params.map_err(|_| foreign)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &head[20..], &mut *key)
            .map_err(|_| foreign)?;
        Ok(Master { key, head })
    }
}

impl Cipher {
    /// The section that every file begins with.
    fn first(master: Rc<Master>) -> Result<Cipher, SealedError> {
        let nothing = Before {
            file_bytes: 0,
            number: 0,
            tag: [0; TAG_BYTES],
        };
        Cipher::section(master, &[0; SECTION_BYTES], &nothing)
    }

    fn section(
        master: Rc<Master>,
        random: &[u8; SECTION_BYTES],
        before: &Before,
    ) -> Result<Cipher, SealedError> {
        let number = before.number.to_be_bytes();
        let info = [&b"cairn backup section"[..], &number, &before.tag];
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, random)
            .extract(&*master.key)
            .expand(&info, HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .map_err(|_| SealedError::Foreign)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| SealedError::Foreign)?;
        Ok(Cipher {
            master,
            key: LessSafeKey::new(key),
            number: before.number,
            tag: before.tag,
        })
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> io::Result<()> {
        let nonce = self.nonce(is_last);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.master.head), chunk)
            .map_err(|_| io::Error::other("this cannot be encrypted"))?;
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&chunk[chunk.len() - TAG_BYTES..]);
        self.passed(tag);
        Ok(())
    }

    fn open(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> Result<(), SealedError> {
        let nonce = self.nonce(is_last);
        let mut tag = [0; TAG_BYTES];
        let at = chunk.len().checked_sub(TAG_BYTES);
        tag.copy_from_slice(&chunk[at.ok_or(SealedError::Wrong)?..]);
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(&self.master.head), chunk)
            .map_err(|_| SealedError::Wrong)?
            .len();
        chunk.truncate(opened);
        self.passed(tag);
        Ok(())
    }

    /// Remembers the tag of a chunk, and counts it.
    fn passed(&mut self, tag: [u8; TAG_BYTES]) {
        self.tag = tag;
        self.number += 1;
    }

    /// The next nonce.
    fn nonce(&self, is_last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.number.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(is_last);
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
