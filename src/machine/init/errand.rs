//! A short-lived child that reads what comes from outside, and says what it found in one message.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use super::child::PROGRAM;
use crate::machine::answer::{self, Answer, MESSAGE_BYTES_MAX};
use crate::machine::inherit;

/// Files that are lent to a child at most.
const FILES_MAX: usize = 48;

/// Bytes of a complaint that are read.
const COMPLAINT_MAX: u64 = 500;

/// A child that has not answered yet.
#[derive(Debug)]
pub struct Errand {
    /// `None` once it has been ended.
    child: Option<Child>,
    stderr: Option<ChildStderr>,
    output: ChildStdout,
    answer: Vec<u8>,
    until_ms: u64,
}

impl Errand {
    /// Starts `cairn child WORDS… NUMBERS…`, the numbers being those of the files it is lent. It
    /// has until `until_ms`.
    pub fn start(words: &[&str], files: Vec<File>, until_ms: u64) -> io::Result<Errand> {
        let lent = files
            .into_iter()
            .take(FILES_MAX)
            .map(|file| inherit::lend(&OwnedFd::from(file)))
            .collect::<io::Result<Vec<_>>>()?;
        let mut child = Command::new(PROGRAM)
            .arg0("cairn-errand")
            .env_clear()
            .arg("child")
            .args(words)
            .args(lent.iter().map(|fd| fd.as_raw_fd().to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("a child has no standard output"))?;
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Errand {
            child: Some(child),
            stderr: None,
            output,
            answer: Vec::new(),
            until_ms,
        })
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Its whole answer once it has ended, or why there is none; `None` while it works.
    pub fn turn<A: Answer>(&mut self, now_ms: u64) -> Option<Result<A, String>> {
        let mut buffer = [0; 4096];
        let ended = loop {
            match self.output.read(&mut buffer) {
                Ok(0) => break true,
                Ok(len) if self.answer.len() + len > MESSAGE_BYTES_MAX => {
                    self.end();
                    return Some(Err("a child answers too much".to_owned()));
                }
                Ok(len) => self.answer.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) => {
                    self.end();
                    return Some(Err(format!("a child cannot be heard: {error}")));
                }
            }
        };
        if ended {
            self.end();
            let answer = std::mem::take(&mut self.answer);
            return Some(if answer.is_empty() {
                Err(self.complaint())
            } else {
                answer::from_message(&answer)
            });
        }
        if now_ms >= self.until_ms {
            self.end();
            return Some(Err("a child took too long".to_owned()));
        }
        None
    }

    /// What it said on its standard error; it has ended.
    fn complaint(&mut self) -> String {
        let mut said = String::new();
        if let Some(stderr) = self.stderr.take() {
            // Not text, or nothing: there is another sentence.
            drop(stderr.take(COMPLAINT_MAX).read_to_string(&mut said));
        }
        match said.trim().trim_start_matches("cairn: ") {
            "" => "a child ended without an answer".to_owned(),
            said => answer::sentence(said),
        }
    }

    /// It is gone already, or goes now; one that a dead disk holds is waited for elsewhere.
    fn end(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        drop(child.kill());
        self.stderr = child.stderr.take();
        if !matches!(child.try_wait(), Ok(Some(_))) {
            let waiting = std::thread::Builder::new().stack_size(64 * 1024);
            drop(waiting.spawn(move || child.wait()));
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.end();
    }
}
