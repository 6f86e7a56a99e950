//! A network namespace without a name: it lasts as long as somebody holds it or runs in it, so a
//! test that is killed leaves none behind.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A fresh one, with nothing in it but a loopback interface that is down.
    pub fn new() -> io::Result<Namespace> {
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            });
            thread.join()
        });
        let file = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Namespace { file })
    }

    /// A path by which other processes can open it while this one runs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// What `/proc/PID/ns/net` links to for those in it.
    pub fn identity(&self) -> String {
        let link = std::fs::read_link(self.path()).expect("it is open");
        link.display().to_string()
    }

    /// Does something in it, in a thread of its own. A socket that is made there stays there. A
    /// process must not be left running by this: it dies with the thread.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let worked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("root may go there");
                work()
            });
            thread.join()
        });
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` in it with these words.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.try_ip(words)
            .unwrap_or_else(|said| panic!("ip {words}: {said}"))
    }

    /// The same, with what `ip` said where it fails.
    pub fn try_ip(&self, words: &str) -> Result<String, String> {
        let output = self.inside(|| {
            let mut command = Command::new("ip");
            let command = command.args(words.split_whitespace());
            command.stdin(Stdio::null()).output()
        });
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
