//! A program that runs in a place until the test is over.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use super::PATIENCE;
use crate::support::server::Log;

/// A running program and what it has written.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it; both its outputs become its log.
    #[track_caller]
    pub fn start(name: &str, mut command: Command) -> Process {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("setpriv is there");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("it is piped"), false);
        log.follow(child.stderr.take().expect("it is piped"), true);
        let stdin = child.stdin.take();
        let name = name.to_owned();
        Process {
            name,
            child,
            log,
            stdin,
        }
    }

    /// Waits for a line of its log that holds this.
    #[track_caller]
    pub fn wait_for(&self, part: &str) -> String {
        let line = self.log.wait_within(PATIENCE, |line| line.contains(part));
        line.unwrap_or_else(|| panic!("{} did not say {part:?}", self.name))
    }

    /// Whether a line of its log so far holds this.
    pub fn has_said(&self, part: &str) -> bool {
        self.log.lines().iter().any(|line| line.contains(part))
    }

    /// Says a line to it.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is piped");
        let said = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        said.unwrap_or_else(|error| panic!("{} does not listen: {error}", self.name));
    }

    /// What it has written.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Ends it without a word, and waits until all that it had started is gone.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its last process closes the other end.
        self.log.wait_for_end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- {} ---", self.name);
            self.log.print();
        }
    }
}
