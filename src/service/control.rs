//! The operator's socket: how `cairn user` and `cairn store` reach a server that
//! runs.
//!
//! A Unix socket beside the store, for its owner alone (mode 0600). Whoever holds
//! the lock on the store listens there. One connection is one command: the client
//! sends its words, perhaps data, and gets output and an end back, all in frames
//! of a tag, a length (four bytes, big-endian) and that many bytes.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Longest frame; longer data goes in several.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most words of one command.
const WORDS_MAX: usize = 16;

/// Longest address of a Unix socket, its end included.
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// Commands that run at once.
const COMMANDS_MAX: usize = 4;

/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// A client that says nothing for so long is cut off.
const SILENCE: Duration = Duration::from_secs(30);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    /// One word of the command.
    Word = b'w',
    /// The command is complete; what follows is data.
    Start = b's',
    /// Data, in either direction.
    Data = b'd',
    /// The end of the data; from the server: done.
    End = b'e',
    /// From the server: not done, and why.
    Refused = b'r',
}

/// Where the socket of a store is: beside it, or in `/run` where the store is a
/// block device, because `/dev` is no place to write.
#[must_use]
pub fn socket_path(store: &Path) -> PathBuf {
    let is_device = fs::metadata(store).is_ok_and(|found| found.file_type().is_block_device());
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".sock");
    if is_device {
        return Path::new("/run").join(name);
    }
    store.with_file_name(name)
}

/// Opens the socket. The caller holds the store's lock, so one that lies there
/// is left over.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    // Under its real name it never exists with wider permissions.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = within_reach(&new, |path| UnixListener::bind(path))?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Performs a command: its words, its data, a place for output; the error is one
/// sentence.
pub type Perform =
    dyn Fn(&[String], &mut dyn Read, &mut dyn Write) -> Result<(), String> + Send + Sync;

/// Answers commands on threads of their own until the process ends.
pub fn serve(listener: UnixListener, perform: Arc<Perform>) -> io::Result<()> {
    let running = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            let (perform, running) = (Arc::clone(&perform), Arc::clone(&running));
            let Ok(stream) = stream else {
                // Out of files or memory; it passes, but not at once.
                thread::sleep(PAUSE);
                continue;
            };
            let is_one_too_many = running.fetch_add(1, Ordering::AcqRel) >= COMMANDS_MAX;
            let command = move || {
                let answered = answer(&stream, |words, input, output| match is_one_too_many {
                    true => Err("too many commands run at once: try again".to_owned()),
                    false => perform(words, input, output),
                });
                running.fetch_sub(1, Ordering::AcqRel);
                if let Err(error) = answered {
                    tracing::debug!(%error, "a command of the operator was broken off");
                }
            };
            drop(
                thread::Builder::new()
                    .name("command".to_owned())
                    .spawn(command),
            );
        }
    };
    let named = thread::Builder::new().name("operator".to_owned());
    named.spawn(accept).map(drop)
}

/// The server's side of one connection: the words of the command to `perform`,
/// with the data that follows and a place for output.
pub fn answer(
    stream: &UnixStream,
    perform: impl FnOnce(&[String], &mut dyn Read, &mut dyn Write) -> Result<(), String>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut frames = stream;
    let mut words = Vec::new();
    loop {
        let (tag, bytes) = receive(&mut frames)?;
        match Tag::of(tag) {
            Some(Tag::Word) if words.len() < WORDS_MAX => {
                words.push(String::from_utf8(bytes).map_err(|_| broken())?);
            }
            Some(Tag::Start) => break,
            _ => return Err(broken()),
        }
    }
    let mut input = DataReader::new(stream);
    let mut output = DataWriter(stream);
    match perform(&words, &mut input, &mut output) {
        Ok(()) => send(&mut frames, Tag::End, &[]),
        Err(sentence) => send(&mut frames, Tag::Refused, truncated(&sentence).as_bytes()),
    }
}

/// Why a command to a running server was not done.
#[derive(Debug)]
pub enum CallError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// The connection broke before the end.
    Broken(io::Error),
    /// What was to be sent cannot be read.
    Input(io::Error),
    /// What was answered cannot be written.
    Output(io::Error),
    /// The server says why.
    Refused(String),
}

/// The client's side: sends the command and its data, copies the output.
pub fn call(
    path: &Path,
    words: &[String],
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), CallError> {
    let stream =
        within_reach(path, |path| UnixStream::connect(path)).map_err(CallError::Unreachable)?;
    let mut frames = &stream;
    for word in words {
        send(&mut frames, Tag::Word, word.as_bytes()).map_err(CallError::Broken)?;
    }
    send(&mut frames, Tag::Start, &[]).map_err(CallError::Broken)?;
    let mut chunk = vec![0; FRAME_BYTES_MAX];
    loop {
        let bytes = input.read(&mut chunk).map_err(CallError::Input)?;
        // A server that has refused already reads no more data; its reason waits.
        let sent = match bytes {
            0 => send(&mut frames, Tag::End, &[]),
            bytes => send(&mut frames, Tag::Data, &chunk[..bytes]),
        };
        if bytes == 0 || sent.is_err() {
            break;
        }
    }
    loop {
        let (tag, bytes) = receive(&mut frames).map_err(CallError::Broken)?;
        match Tag::of(tag) {
            Some(Tag::Data) => output.write_all(&bytes).map_err(CallError::Output)?,
            Some(Tag::End) => return Ok(()),
            Some(Tag::Refused) => {
                let sentence = String::from_utf8_lossy(&bytes).into_owned();
                return Err(CallError::Refused(sentence));
            }
            _ => return Err(CallError::Broken(broken())),
        }
    }
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Word,
            Self::Start,
            Self::Data,
            Self::End,
            Self::Refused,
        ]
        .into_iter()
        .find(|tag| *tag as u8 == byte)
    }
}

/// The data behind a command, as a stream of bytes.
struct DataReader<'a> {
    stream: &'a UnixStream,
    rest: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<'a> DataReader<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
            at: 0,
            ended: false,
        }
    }
}

impl Read for DataReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() && !self.ended {
            let (tag, bytes) = receive(&mut self.stream)?;
            match Tag::of(tag) {
                Some(Tag::Data) => (self.rest, self.at) = (bytes, 0),
                Some(Tag::End) => self.ended = true,
                _ => return Err(broken()),
            }
        }
        let mut rest = &self.rest[self.at..];
        let bytes = rest.read(into)?;
        self.at += bytes;
        Ok(bytes)
    }
}

/// Output, in frames.
struct DataWriter<'a>(&'a UnixStream);

impl Write for DataWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        send(&mut self.0, Tag::Data, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(stream: &mut impl Write, tag: Tag, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| broken())?;
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(tag as u8);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    stream.write_all(&frame)
}

fn receive(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [tag, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(broken());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok((tag, bytes))
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "this is not a Cairn server's socket",
    )
}

fn truncated(sentence: &str) -> &str {
    &sentence[..sentence.floor_char_boundary(FRAME_BYTES_MAX)]
}

/// Runs `action` with a path that fits into a socket's address: a long one is
/// reached through its folder's descriptor.
fn within_reach<R>(path: &Path, action: impl FnOnce(&Path) -> io::Result<R>) -> io::Result<R> {
    if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
        return action(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return action(path);
    };
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    action(&short)
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(
                f,
                "another process holds the store and its socket does not answer ({error}): \
                 wait until it has started or stop it"
            ),
            Self::Broken(error) => write!(
                f,
                "the server went away before it had answered ({error}): look at its log, then try again"
            ),
            Self::Input(error) => write!(f, "the input cannot be read: {error}"),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Refused(sentence) => f.write_str(sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers one command by `perform`.
    fn serve(
        path: &Path,
        perform: impl FnOnce(&[String], &mut dyn Read, &mut dyn Write) -> Result<(), String>
        + Send
        + 'static,
    ) -> thread::JoinHandle<io::Result<()>> {
        let listener = listen(path).expect("a free path");
        thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            answer(&stream, perform)
        })
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_data_and_output_pass_even_under_a_long_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("d".repeat(120));
        fs::create_dir(&deep).expect("writable");
        for path in [folder.path().join("a.sock"), deep.join("a.sock")] {
            let server = serve(&path, |words, input, output| {
                assert_eq!(words, ["user", "add", "a@b"]);
                let bytes = io::copy(input, output).map_err(|error| error.to_string())?;
                assert_eq!(bytes, 200_000);
                Ok(())
            });
            let mode = fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            let data: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
            let mut output = Vec::new();
            call(&path, &words("user add a@b"), &mut &data[..], &mut output).expect("done");
            assert_eq!(output, data);
            server.join().expect("no panic").expect("no error");
        }
    }

    #[test]
    fn a_refusal_comes_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        let server = serve(&path, |_, _, _| Err("there is no account a@b".to_owned()));
        let refusal = call(
            &path,
            &words("user remove a@b"),
            &mut io::empty(),
            &mut io::sink(),
        );
        match refusal {
            Err(CallError::Refused(why)) => assert_eq!(why, "there is no account a@b"),
            other => panic!("{other:?}"),
        }
        server.join().expect("no panic").expect("no error");
    }

    #[test]
    fn a_socket_left_over_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        drop(listen(&path).expect("a free path"));
        let gone = call(&path, &[], &mut io::empty(), &mut io::sink());
        assert!(matches!(gone, Err(CallError::Unreachable(_))));
        let server = serve(&path, |_, _, _| Ok(()));
        call(&path, &[], &mut io::empty(), &mut io::sink()).expect("done");
        server.join().expect("no panic").expect("no error");
    }

    #[test]
    fn nonsense_is_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        for nonsense in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"w\xff\xff\xff\xff",
            b"w\0\0\0\x01\xff",
            b"w",
        ] {
            let server = serve(&path, |_, _, _| Ok(()));
            let mut stream = UnixStream::connect(&path).expect("it listens");
            stream.write_all(nonsense).expect("open");
            stream.shutdown(std::net::Shutdown::Write).expect("open");
            let error = server.join().expect("no panic").expect_err("not a command");
            let kind = error.kind();
            assert!(matches!(
                kind,
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ));
        }
    }
}
