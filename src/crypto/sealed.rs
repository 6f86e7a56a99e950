//! Files that only a passphrase opens: backups.
//!
//! ```text
//!  0  8  "CAIRNBK1"
//!  8  4  argon2id: memory, KiB      (numbers are big-endian)
//! 12  4  argon2id: passes
//! 16  4  argon2id: lanes
//! 20 16  salt
//! 36     chunks
//! ```
//!
//! A chunk is up to 64 KiB of content, encrypted with ChaCha20-Poly1305, and 16 bytes of tag. The
//! key is argon2id's (RFC 9106) of the passphrase and the salt, 32 bytes. The nonce is the chunk's
//! number (8 bytes), three zeros, and 1 for the last chunk, else 0: the STREAM construction, in
//! which chunks cannot be reordered, left out, or cut off at the end. Each chunk authenticates the
//! head. All chunks but the last are full; there is always a last one, perhaps empty.

use std::fmt;
use std::io::{self, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Random bytes of a new file.
pub const SALT_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"CAIRNBK1";
const HEAD_BYTES: usize = 36;
const CHUNK_BYTES: usize = 64 * 1024;

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
    /// Decrypted and not taken yet.
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    /// The beginning of the next chunk, read to know whether there is one.
    ahead: Vec<u8>,
    is_over: bool,
}

struct Cipher {
    key: LessSafeKey,
    head: [u8; HEAD_BYTES],
    number: u64,
}

impl<W: Write> Sealer<W> {
    /// Begins a file. It takes tenths of a second, on purpose.
    pub fn new(mut inner: W, passphrase: &str, salt: [u8; SALT_BYTES]) -> io::Result<Sealer<W>> {
        Sealer::with_cost(&mut inner, passphrase, salt, NEW).map(|cipher| Sealer {
            inner,
            cipher,
            plain: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
        })
    }

    fn with_cost(
        inner: &mut W,
        passphrase: &str,
        salt: [u8; SALT_BYTES],
        cost: Cost,
    ) -> io::Result<Cipher> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        for (at, number) in [(8, cost.memory_kib), (12, cost.passes), (16, cost.lanes)] {
            head[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        head[20..].copy_from_slice(&salt);
        inner.write_all(&head)?;
        Ok(Cipher::new(passphrase, head, cost)?)
    }

    /// Writes the last chunk. Without it the file does not open.
    pub fn finish(mut self) -> io::Result<W> {
        self.chunk(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn chunk(&mut self, is_last: bool) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(self.plain.len() + CHACHA20_POLY1305.tag_len());
        chunk.extend_from_slice(&self.plain);
        self.cipher.seal(&mut chunk, is_last)?;
        self.plain.clear();
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
    pub fn new(mut inner: R, passphrase: &str) -> io::Result<Opener<R>> {
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
        Ok(Opener {
            cipher: Cipher::new(passphrase, head, cost)?,
            inner,
            plain: Zeroizing::new(Vec::new()),
            at: 0,
            ahead: Vec::new(),
            is_over: false,
        })
    }

    /// Reads a chunk, and as much of the next as tells whether this is the last.
    fn next_chunk(&mut self) -> io::Result<()> {
        let whole = CHUNK_BYTES + CHACHA20_POLY1305.tag_len();
        let mut chunk = std::mem::take(&mut self.ahead);
        let room = (whole + 1 - chunk.len()) as u64;
        (&mut self.inner).take(room).read_to_end(&mut chunk)?;
        let is_last = chunk.len() <= whole;
        if !is_last {
            self.ahead = chunk.split_off(whole);
        }
        self.cipher.open(&mut chunk, is_last)?;
        self.plain = Zeroizing::new(chunk);
        self.at = 0;
        self.is_over = is_last;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.is_over {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let taken = into.len().min(self.plain.len() - self.at);
        into[..taken].copy_from_slice(&self.plain[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

impl Cipher {
    fn new(passphrase: &str, head: [u8; HEAD_BYTES], cost: Cost) -> Result<Cipher, SealedError> {
        let foreign = SealedError::Foreign;
        let mut key = Zeroizing::new([0; 32]);
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len()));
        let params = params.map_err(|_| foreign)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &head[20..], &mut *key)
            .map_err(|_| foreign)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| foreign)?;
        Ok(Cipher {
            key: LessSafeKey::new(key),
            head,
            number: 0,
        })
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> io::Result<()> {
        let nonce = self.nonce(is_last);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.head), chunk)
            .map_err(|_| io::Error::other("this cannot be encrypted"))
    }

    fn open(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> Result<(), SealedError> {
        let nonce = self.nonce(is_last);
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(&self.head), chunk)
            .map_err(|_| SealedError::Wrong)?
            .len();
        chunk.truncate(opened);
        Ok(())
    }

    /// The next nonce; none is used twice with a key, which the salt makes a key of one file.
    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.number.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(is_last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let cipher = Sealer::with_cost(&mut file, "open sesame", [7; 16], CHEAP).expect("memory");
        let mut sealer = Sealer {
            inner: file,
            cipher,
            plain: Zeroizing::default(),
        };
        sealer.write_all(content).expect("memory");
        sealer.finish().expect("memory")
    }

    fn opened(file: &[u8], passphrase: &str) -> Result<Vec<u8>, SealedError> {
        let mut content = Vec::new();
        let read =
            Opener::new(file, passphrase).and_then(|mut opener| opener.read_to_end(&mut content));
        read.map(|_| content).map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            *inner.expect("an error of ours")
        })
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n / 7) as u8).collect()
    }

    #[test]
    fn what_was_sealed_is_opened() {
        for bytes in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ] {
            let content = content(bytes);
            let file = sealed(&content);
            assert!(opened(&file, "open sesame") == Ok(content), "{bytes}");
            assert_eq!(opened(&file, "open barley"), Err(SealedError::Wrong));
        }
    }

    #[test]
    fn what_was_changed_cut_off_or_reordered_is_refused() {
        let content = content(3 * CHUNK_BYTES + 9);
        let file = sealed(&content);
        let whole = CHUNK_BYTES + 16;
        for at in [8, 15, 20, 36, 36 + whole, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, "open sesame").is_err(), "{at}");
        }
        for cut in [0, 20, 36, 37, 36 + whole, 36 + 3 * whole, file.len() - 1] {
            assert!(opened(&file[..cut], "open sesame").is_err(), "{cut}");
        }
        let (head, chunks) = file.split_at(36);
        let swapped = [
            head,
            &chunks[whole..2 * whole],
            &chunks[..whole],
            &chunks[2 * whole..],
        ];
        assert_eq!(
            opened(&swapped.concat(), "open sesame"),
            Err(SealedError::Wrong)
        );
        let longer = [&file[..], &[0]].concat();
        assert_eq!(opened(&longer, "open sesame"), Err(SealedError::Wrong));
    }

    #[test]
    fn a_head_that_asks_for_too_much_is_refused_before_it_gets_it() {
        let mut file = sealed(b"x");
        file[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(opened(&file, "open sesame"), Err(SealedError::Foreign));
        assert_eq!(opened(b"", "x"), Err(SealedError::Foreign));
        assert_eq!(opened(&[0; 100], "x"), Err(SealedError::Foreign));
    }
}
