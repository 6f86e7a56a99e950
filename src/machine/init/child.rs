//! The server as PID 1 sees it: a process with a line to talk on, and what it writes to its log.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::machine::inherit;
use crate::machine::link::{self, Line, ToMachine, ToServer};

/// The program of this very process, from the verified root.
pub const PROGRAM: &str = "/init";
/// Bytes of a line of the log that are kept.
const LINE_MAX: usize = 4096;
/// How long a server that has closed its line may take to end.
const ENDING_MS: u64 = 20_000;

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// What it is told in front of its descriptors.
    pub words: Vec<String>,
}

impl Program {
    /// This very program, as the server.
    pub fn own() -> Program {
        Program {
            path: PROGRAM.into(),
            words: ["child", "server"].map(str::to_owned).into(),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    line: Line,
    upload: UnixStream,
    log: ChildStderr,
    /// Its standard error is closed: nothing more comes, and nothing is to be waited for.
    log_ended: bool,
    /// It has closed its end of the line since then.
    lost_ms: Option<u64>,
    partial: Vec<u8>,
}

impl Server {
    /// Starts it with the device of the store.
    pub fn start(program: &Program, data: &OwnedFd) -> io::Result<Server> {
        let (line, theirs) = link::pair()?;
        let (upload, upload_theirs) = UnixStream::pair()?;
        upload.set_nonblocking(true)?;
        let lent = [
            inherit::lend(&theirs)?,
            inherit::lend(data)?,
            inherit::lend(&upload_theirs.into())?,
        ];
        let numbers = lent.each_ref().map(|fd| fd.as_raw_fd().to_string());
        let mut child = Command::new(&program.path)
            .arg0("cairn-server")
            .env_clear()
            .args(&program.words)
            .args(numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("the server has no standard error"))?;
        rustix::io::ioctl_fionbio(&log, true)?;
        Ok(Server {
            child,
            line,
            upload,
            log,
            log_ended: false,
            lost_ms: None,
            partial: Vec::new(),
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something; a server that does not listen any more is found out otherwise.
    pub fn tell(&self, message: &ToServer) -> io::Result<()> {
        self.line.send(message)
    }

    /// Says something, and hands copies of descriptors over with it.
    pub fn hand(&self, message: &ToServer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.line.send_with(message, fds)
    }

    /// What it says, if it says something.
    pub fn hear(&self) -> io::Result<Option<ToMachine>> {
        self.line.try_receive()
    }

    /// Bytes of a bundle that have come, if any. The end is an empty answer.
    pub fn uploaded(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.upload.read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole lines of its log that have come. `is_last`: it has ended, so is the last line.
    pub fn log_lines(&mut self, is_last: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        // Bounded: a server that never stops writing must not keep PID 1.
        for _ in 0..16 {
            let len = match self.log.read(&mut buffer) {
                Ok(0) => {
                    self.log_ended = true;
                    break;
                }
                Ok(len) => len,
                Err(_) => break,
            };
            for byte in &buffer[..len] {
                if *byte == b'\n' || self.partial.len() == LINE_MAX {
                    lines.push(String::from_utf8_lossy(&self.partial).into_owned());
                    self.partial.clear();
                }
                if *byte != b'\n' {
                    self.partial.push(*byte);
                }
            }
        }
        if is_last && !self.partial.is_empty() {
            lines.push(String::from_utf8_lossy(&self.partial).into_owned());
            self.partial.clear();
        }
        lines
    }

    /// Descriptors to wait on: the line, the log, and the upload where one is on its way.
    pub fn fds(&self, uploads: bool) -> Vec<BorrowedFd<'_>> {
        let mut fds = Vec::new();
        if self.lost_ms.is_none() {
            fds.push(self.line.fd());
        }
        if !self.log_ended {
            fds.push(self.log.as_fd());
        }
        if uploads {
            fds.push(self.upload.as_fd());
        }
        fds
    }

    /// It has closed its end of the line: it has a moment to end by itself.
    pub fn lost_line(&mut self, now_ms: u64) {
        match self.lost_ms {
            None => self.lost_ms = Some(now_ms),
            Some(since_ms) if now_ms > since_ms + ENDING_MS => self.kill(),
            Some(_) => {}
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It is gone already, or goes now.
        drop(self.child.kill());
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(status.to_string())
    }
}
