//! The file of a backup that is being written: `FILE.part`, which a later command goes on with.
//!
//! It is encrypted like the backup that it becomes, so its passphrase is needed to go on, and what
//! is needed to go on stands in it: the head and the last account that is whole. What came behind
//! that is cut off. No more of it is held in memory than a frame and a chunk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::Failure;
use crate::crypto::sealed::{CHUNK_BYTES, Mark, Opener, Sealer};
use crate::service::backup::{FRAME_BYTES_MAX, Head, SoFar, Tag, parse_head, read_frame};

/// A backup that is being written.
pub(super) struct Part {
    path: PathBuf,
    phrase: Zeroizing<String>,
    state: State,
    /// Its head, and the last account that is whole.
    head: Option<Head>,
    last: Option<String>,
    /// The beginning of a frame.
    frame: Vec<u8>,
}

enum State {
    /// An earlier command wrote it as far as this. It stays so until the server goes on with it.
    Found(File, Mark),
    /// The end is to come.
    Open(Sealer<BufWriter<File>>),
    /// The end was written; what is to come is none of it.
    Ended(Sealer<BufWriter<File>>),
    /// The file was finished by an earlier command, and not renamed.
    Finished(File),
    /// Between two openings.
    Closed,
}

/// What there is of an earlier command.
#[derive(Default)]
struct Found {
    head: Option<Head>,
    last: Option<String>,
    mark: Option<Mark>,
    is_finished: bool,
}

/// Bytes of a file in which nothing is that could be gone on with, or tells a passphrase from
/// another: its first chunk is not whole.
const NOTHING_BYTES: u64 = 36 + CHUNK_BYTES as u64 + 16;

impl Part {
    /// Where the parts of a backup are until it is whole.
    pub(super) fn path_of(backup: &Path) -> PathBuf {
        let mut path = backup.to_owned().into_os_string();
        path.push(".part");
        path.into()
    }

    /// Begins one, or goes on with the one that is there.
    pub(super) fn open(path: PathBuf, phrase: Zeroizing<String>) -> Result<Part, Failure> {
        let mut part = Part {
            path,
            phrase,
            state: State::Closed,
            head: None,
            last: None,
            frame: Vec::new(),
        };
        part.open_again()?;
        if let Some(so_far) = part.so_far() {
            let path = part.path.display();
            tell(&format!("going on with {path}, behind {}", so_far.last));
        }
        Ok(part)
    }

    /// Goes on with what is in the file; what was not written yet is forgotten.
    pub(super) fn open_again(&mut self) -> Result<(), Failure> {
        // Writes what can be, and unlocks the file.
        self.state = State::Closed;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| self.cannot_write(&error))?;
        match file.try_lock() {
            // A file system without locks has to do without.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                let path = self.path.display();
                let why = format!("another command is writing {path}");
                return Err(Failure::refused(why));
            }
        }
        let found = self.look(&file)?;
        self.frame.clear();
        (self.head, self.last) = (found.head, found.last);
        self.state = match found.mark {
            _ if found.is_finished => State::Finished(file),
            Some(mark) => State::Found(file, mark),
            None => {
                self.head = None;
                let sealer = anew(file, &self.phrase);
                State::Open(sealer.map_err(|error| self.cannot_write(&error))?)
            }
        };
        Ok(())
    }

    /// Reads the file.
    fn look(&self, file: &File) -> Result<Found, Failure> {
        let refuse = |why: &str| {
            let path = self.path.display();
            Failure::refused(format!("{path}: {why}; to begin anew, remove it"))
        };
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        if bytes <= NOTHING_BYTES {
            return Ok(Found::default());
        }
        let mut opener = Opener::unfinished(BufReader::new(file), &self.phrase)
            .map_err(|error| refuse(&error.to_string()))?;
        let mut found = Found::default();
        loop {
            match read_frame(&mut opener) {
                Ok((Tag::Head, bytes)) => {
                    let head = parse_head(&bytes).map_err(|error| refuse(&error.to_string()))?;
                    found.head = Some(head);
                }
                Ok((Tag::AccountEnd, bytes)) => {
                    found.last = Some(String::from_utf8_lossy(&bytes).into_owned());
                    found.mark = Some(opener.mark());
                }
                Ok((Tag::End, _)) => {
                    let nothing_follows = opener.read(&mut [0]).is_ok_and(|read| read == 0);
                    found.is_finished = nothing_follows && opener.is_finished();
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(refuse(&error.to_string())),
            }
        }
        match found.head {
            None => Err(refuse(
                "the passphrase is not the one that it was begun with, or it was damaged",
            )),
            Some(_) => Ok(found),
        }
    }

    /// How far it is, for the server to go on.
    pub(super) fn so_far(&self) -> Option<SoFar> {
        let (head, last) = (self.head.as_ref()?, self.last.as_ref()?);
        Some(SoFar {
            last: last.clone(),
            store: head.store.clone(),
            begun_ms: head.begun_ms,
        })
    }

    /// Whether it has its end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Finished(_))
    }

    /// Makes it the backup.
    pub(super) fn finish(self, backup: &Path) -> Result<(), Failure> {
        let cannot = |error: io::Error| self.cannot_write(&error);
        let file = match self.state {
            State::Finished(file) => file,
            State::Ended(sealer) => {
                let written = sealer.finish();
                let file = written.and_then(|file| Ok(file.into_inner()?));
                file.map_err(|error| cannot_write(&self.path, &error))?
            }
            State::Found(..) | State::Open(_) | State::Closed => {
                return Err(cannot(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let done = file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, backup));
        done.map_err(|error| cannot_write(backup, &error))
    }

    /// What a command says that did not come to the end: whether a later one can go on.
    pub(super) fn break_off(mut self, failure: Failure) -> Failure {
        self.state = State::Closed;
        let bytes = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if bytes <= NOTHING_BYTES {
            drop(fs::remove_file(&self.path));
            return failure;
        }
        let sentence = format!(
            "{}; {} has what came so far, and the same command goes on with it",
            failure.sentence,
            self.path.display()
        );
        Failure {
            sentence,
            ..failure
        }
    }

    pub(super) fn cannot_write(&self, error: &io::Error) -> Failure {
        cannot_write(&self.path, error)
    }

    fn take(&mut self, tag: Tag, frame: &[u8]) -> io::Result<()> {
        let content = &frame[FRAME_HEAD_BYTES..];
        let state = std::mem::replace(&mut self.state, State::Closed);
        let mut sealer = match (tag, state) {
            (Tag::Head, State::Open(sealer)) if self.head.is_none() => {
                self.head = Some(parse_head(content)?);
                sealer
            }
            (Tag::Head, State::Found(file, _)) => {
                let head = parse_head(content)?;
                let why = head.instead.as_deref().unwrap_or("the server says so");
                let path = self.path.display();
                tell(&format!(
                    "{path} cannot be gone on with, and is begun anew: {why}"
                ));
                (self.head, self.last) = (Some(head), None);
                anew(file, &self.phrase)?
            }
            (Tag::Again, State::Found(mut file, mark)) => {
                cut(&mut file, mark.file_bytes)?;
                Sealer::go_on(BufWriter::new(file), &mark, random()?)?
            }
            (tag, State::Open(sealer))
                if self.head.is_some() && !matches!(tag, Tag::Head | Tag::Again) =>
            {
                sealer
            }
            _ => return Err(foreign()),
        };
        if tag == Tag::AccountEnd {
            self.last = Some(String::from_utf8_lossy(content).into_owned());
        }
        sealer.write_all(frame)?;
        self.state = match tag {
            Tag::End => State::Ended(sealer),
            _ => State::Open(sealer),
        };
        Ok(())
    }
}

/// Bytes of a frame in front of its content.
const FRAME_HEAD_BYTES: usize = 5;

/// The frames of a backup, however they are cut.
impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = match self.frame.get(1..FRAME_HEAD_BYTES) {
            None => FRAME_HEAD_BYTES,
            Some(length) => {
                let length = length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if length > FRAME_BYTES_MAX {
                    return Err(foreign());
                }
                FRAME_HEAD_BYTES + length
            }
        };
        let taken = bytes.len().min(wanted - self.frame.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        let is_head = self.frame.len() == FRAME_HEAD_BYTES && wanted == FRAME_HEAD_BYTES;
        let is_empty = self.frame.get(1..FRAME_HEAD_BYTES) == Some(&[0; 4]);
        if self.frame.len() == wanted && (!is_head || is_empty) {
            let frame = std::mem::take(&mut self.frame);
            let (tag, _) = read_frame(&mut &frame[..])?;
            self.take(tag, &frame)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins the file. What was in it is gone.
fn anew(mut file: File, phrase: &str) -> io::Result<Sealer<BufWriter<File>>> {
    cut(&mut file, 0)?;
    Sealer::new(BufWriter::new(file), phrase, random()?)
}

/// Leaves so much of a file, and goes to its end.
fn cut(file: &mut File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.seek(SeekFrom::Start(bytes)).map(drop)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut random = [0; N];
    let drawn = SystemRandom::new().fill(&mut random);
    drawn.map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
    Ok(random)
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "what the server sends is no backup",
    )
}

/// To whoever watches.
fn tell(sentence: &str) {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "cairn: {sentence}"));
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("cannot write {}: {error}", path.display()))
}
