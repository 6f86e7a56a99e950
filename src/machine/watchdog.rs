//! The watchdog: a device that resets the machine unless it is told in time that all is well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// How the kernel's own timer calls itself: it bites only while the kernel runs.
const SOFTWARE: &str = "Software Watchdog";

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    /// What it is, for people.
    pub identity: String,
    /// It bites after so many seconds of silence.
    pub timeout_s: u64,
}

impl Watchdog {
    /// Opens, and so arms, the first watchdog that is a device, else the kernel's own.
    pub fn open() -> Option<Watchdog> {
        let mut found: Vec<(String, String)> = fs::read_dir("/sys/class/watchdog")
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let identity = text(&entry.path().join("identity"))?;
                Some((identity, entry.file_name().into_string().ok()?))
            })
            .collect();
        found.sort_by_key(|(identity, name)| (identity == SOFTWARE, name.clone()));
        found.into_iter().find_map(|(identity, name)| {
            let file = OpenOptions::new()
                .write(true)
                .open(Path::new("/dev").join(&name))
                .ok()?;
            let timeout = text(&Path::new("/sys/class/watchdog").join(&name).join("timeout"));
            Some(Watchdog {
                file,
                identity,
                timeout_s: timeout.and_then(|text| text.parse().ok()).unwrap_or(30),
            })
        })
    }

    /// All is well.
    pub fn ping(&mut self) -> io::Result<()> {
        self.file.write_all(b"1")
    }

    /// Milliseconds between two pings.
    pub fn interval_ms(&self) -> u64 {
        (self.timeout_s * 1000 / 4).clamp(500, 10_000)
    }
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}
