//! A program that is made for a terminal, and what it shows there: `script` gives it one.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::wire::PATIENCE;

/// A running terminal program. It is killed when the test ends.
pub struct Screen {
    child: Child,
    keys: ChildStdin,
    bytes: Receiver<Vec<u8>>,
    shown: String,
}

impl Screen {
    /// Starts `program` by the program `script`, with all that it keeps in `home`.
    pub fn of(program: &Path, script: &Path, home: &Path) -> Screen {
        let mut child = Command::new(script)
            .args(["-qec", program.to_str().expect("UTF-8"), "/dev/null"])
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home)
            .env("XDG_DATA_HOME", home)
            .env("TERM", "xterm")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let mut out = child.stdout.take().expect("it is piped");
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let keys = child.stdin.take().expect("it is piped");
        Screen {
            child,
            keys,
            bytes,
            shown: String::new(),
        }
    }

    /// Types a line and the return key.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        self.keys
            .write_all(format!("{line}\r").as_bytes())
            .expect("it reads");
    }

    /// Waits until this has been shown, without regard to how it was broken up by the terminal's
    /// control sequences.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        loop {
            let plain: String = without_controls(&self.shown);
            if plain.contains(&text.replace(' ', "")) {
                self.shown.clear();
                return;
            }
            let Ok(more) = self.bytes.recv_timeout(PATIENCE) else {
                panic!("never showed {text:?}, but {plain}");
            };
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The letters alone: terminals move the cursor instead of writing spaces.
fn without_controls(shown: &str) -> String {
    let mut plain = String::new();
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            c if c.is_whitespace() || c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}
