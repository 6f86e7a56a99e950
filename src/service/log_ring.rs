//! The last lines of the log, kept in memory for `cairn log tail`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines, and bytes of them, that are kept.
const LINES_MAX: usize = 2_000;
const BYTES_MAX: usize = 256 * 1024;

/// Bytes of a line; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 2_048;

/// The last lines of the log.
#[derive(Debug, Default)]
pub struct LogRing {
    lines: Mutex<Lines>,
    grew: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
    /// The number of the next line; the first line is number 1.
    next: u64,
}

/// Lines, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The lines, without their ends.
    pub lines: Vec<String>,
    /// The number of the last line there is.
    pub last: u64,
}

impl LogRing {
    /// Nothing was logged yet.
    #[must_use]
    pub fn new() -> Arc<LogRing> {
        Arc::default()
    }

    /// The lines behind number `after` that are still kept. Where there are none it waits for the
    /// next as long as `patience`.
    #[must_use]
    pub fn behind(&self, after: u64, patience: Duration) -> Tail {
        let lines = self.lock();
        let waited = self
            .grew
            .wait_timeout_while(lines, patience, |lines| lines.next == after);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // A number from before a restart is none of ours.
        let after = if after > lines.next { 0 } else { after };
        let first = lines.next - lines.lines.len() as u64;
        let skip = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
        Tail {
            lines: lines.lines.iter().skip(skip).cloned().collect(),
            last: lines.next,
        }
    }

    fn push(&self, line: &str) {
        let mut lines = self.lock();
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        lines.bytes += line.len();
        lines.next += 1;
        lines.lines.push_back(line.to_owned());
        while lines.lines.len() > LINES_MAX || lines.bytes > BYTES_MAX {
            let oldest = lines.lines.pop_front().unwrap_or_default();
            lines.bytes -= oldest.len();
        }
        drop(lines);
        self.grew.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines into a ring.
#[derive(Clone, Debug)]
pub struct LogRingWriter(pub Arc<LogRing>);

impl Write for LogRingWriter {
    /// A line comes in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        text.lines().for_each(|line| self.0.push(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_followed() {
        let ring = LogRing::new();
        let mut writer = LogRingWriter(Arc::clone(&ring));
        writeln!(writer, "one").expect("memory");
        writeln!(writer, "two").expect("memory");
        let tail = |after| ring.behind(after, Duration::ZERO);
        assert_eq!(tail(0).lines, ["one", "two"]);
        assert_eq!(tail(1).lines, ["two"]);
        assert_eq!((tail(2).lines.len(), tail(2).last), (0, 2));
        // As after a restart.
        assert_eq!(tail(77).lines, ["one", "two"]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ring.behind(2, Duration::from_secs(60)));
            writeln!(writer, "three").expect("memory");
            assert_eq!(waiting.join().expect("no panic").lines, ["three"]);
        });
    }

    #[test]
    fn it_has_a_bound() {
        let ring = LogRing::new();
        for n in 0..10_000 {
            ring.push(&format!("{n} {}", "é".repeat(n)));
        }
        let lines = ring.lock();
        assert!(lines.bytes <= BYTES_MAX && lines.lines.len() <= LINES_MAX);
        assert!(lines.lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
        assert!(
            lines
                .lines
                .back()
                .is_some_and(|line| line.starts_with("9999 "))
        );
    }
}
