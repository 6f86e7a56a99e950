//! The console: a screen that shows how the machine does, and takes no input.
//!
//! On the video console the screen is redrawn in place; on the serial line, where there may be
//! only paper, its lines are printed when they change, between the lines of the log.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// Columns and rows of the smallest screen.
pub const COLUMNS: usize = 80;
/// Rows, the last of which stays empty: writing there would scroll.
pub const ROWS: usize = 24;
/// Lines of the log that are kept.
const LINES_KEPT: usize = 200;
/// Errors that are told beside it.
const ERRORS_SHOWN: usize = 5;
/// Errors that the screen shows, and lines that each of them may take.
const ERRORS_ON_SCREEN: usize = 2;
const LINES_AN_ERROR: usize = 2;
/// Columns of a row's name.
const NAME: usize = 13;

/// What the screen says: a name and a text each; a text with line ends is continued below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The first line.
    pub title: String,
    /// What follows.
    pub rows: Vec<(String, String)>,
}

impl Page {
    /// Adds a row, unless its text is empty.
    pub fn row(&mut self, name: &str, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.rows.push((name.to_owned(), text));
        }
    }

    /// The page's lines, none longer than `columns`: what is longer goes on below.
    pub fn lines(&self, columns: usize) -> Vec<String> {
        let mut lines = vec![cut(&self.title, columns), String::new()];
        for (name, text) in &self.rows {
            lines.extend(row_lines(name, text, columns));
        }
        lines
    }

    /// The page's lines as long as they are, for where nothing has a width.
    fn whole_lines(&self) -> Vec<String> {
        self.lines(usize::MAX)
    }
}

/// A row in lines of at most `columns`, broken between words; its name stands in the first.
fn row_lines(name: &str, text: &str, columns: usize) -> Vec<String> {
    let width = columns.saturating_sub(NAME + 2).max(1);
    let parts = text.lines().flat_map(|line| wrapped(line, width));
    let named = parts.enumerate().map(|(index, part)| {
        let name = if index == 0 { name } else { "" };
        cut(&format!(" {name:<NAME$} {part}"), columns)
    });
    named.collect()
}

/// Lines of at most `width` characters, broken between words, and within those that are longer.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let chars: Vec<char> = line.trim_end().chars().collect();
    let mut rest = chars.as_slice();
    let mut lines = Vec::new();
    while rest.len() > width {
        let space = rest[..=width].iter().rposition(|c| *c == ' ');
        let (len, skipped) = match space {
            Some(at) if at > 0 => (at, 1),
            _ => (width, 0),
        };
        lines.push(rest[..len].iter().collect());
        rest = &rest[len + skipped..];
    }
    lines.push(rest.iter().collect());
    lines
}

/// The last of the errors, for the screen.
fn error_lines(log: &VecDeque<String>) -> Vec<String> {
    let mut shown: Vec<Vec<String>> = errors(log)
        .rev()
        .take(ERRORS_ON_SCREEN)
        .map(|error| {
            let mut lines = row_lines("", error, COLUMNS);
            lines.truncate(LINES_AN_ERROR);
            lines
        })
        .collect();
    shown.reverse();
    let mut lines = shown.concat();
    if let Some(first) = lines.first_mut() {
        // The name stands where the line has been left blank for it.
        first.replace_range(..=NAME, &format!(" {:<NAME$}", "last errors"));
    }
    lines
}

/// The lines that tell of an error.
fn errors(log: &VecDeque<String>) -> impl DoubleEndedIterator<Item = &String> + Clone {
    log.iter().filter(|line| line.contains(" ERROR "))
}

/// The whole screen: the page, the last errors, which a long page does not push off it, and below
/// them the last lines of the log as far as there is room.
pub fn screen(page: &Page, log: &VecDeque<String>) -> Vec<String> {
    let mut lines = page.lines(COLUMNS);
    let errors = error_lines(log);
    lines.truncate(ROWS - 1 - errors.len());
    lines.extend(errors);
    let room = (ROWS - 1).saturating_sub(lines.len() + 1);
    if room > 0 {
        lines.push(String::new());
        let skipped = log.len().saturating_sub(room);
        lines.extend(log.iter().skip(skipped).map(|line| cut(line, COLUMNS)));
    }
    lines
}

/// Printable characters only, at most `columns` of them: what a log line holds may come from
/// anybody, and must not steer the terminal.
fn cut(line: &str, columns: usize) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(columns)
        .collect()
}

/// Both consoles, as far as the machine has them.
#[derive(Debug)]
pub struct Console {
    video: Option<File>,
    serial: Option<File>,
    shown: Vec<String>,
    printed: Vec<String>,
    log: VecDeque<String>,
}

impl Console {
    /// Opens `tty1` and `ttyS0` for writing that never waits.
    pub fn open() -> Console {
        let open = |path| {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)
                .ok()
        };
        Console {
            video: open("/dev/tty1"),
            serial: open("/dev/ttyS0"),
            ..Console::closed()
        }
    }

    /// One that nobody sees.
    pub fn closed() -> Console {
        Console {
            video: None,
            serial: None,
            shown: Vec::new(),
            printed: Vec::new(),
            log: VecDeque::new(),
        }
    }

    /// Whether one of the lines that are kept holds this text.
    #[cfg(test)]
    pub(super) fn holds(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }

    /// A line of the log.
    pub fn log(&mut self, line: &str) {
        let line = cut(line, 400);
        self.print(&line);
        if self.log.len() == LINES_KEPT {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// The last lines of the log, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.log.iter().map(String::as_str)
    }

    /// The last lines of the log that tell of an error, newest last.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        let errors = errors(&self.log);
        let skipped = errors.clone().count().saturating_sub(ERRORS_SHOWN);
        errors.skip(skipped).map(String::as_str)
    }

    /// Draws the page anew where it has changed.
    pub fn draw(&mut self, page: &Page) {
        let lines = screen(page, &self.log);
        if lines != self.shown {
            if let Some(video) = &mut self.video {
                // The whole screen at once, without clearing first, so that it does not flicker.
                let mut bytes = String::from("\x1b[?25l\x1b[H");
                for line in &lines {
                    bytes.push_str(line);
                    bytes.push_str("\x1b[K\r\n");
                }
                bytes.push_str("\x1b[J");
                // A console that takes nothing is none.
                drop(video.write_all(bytes.as_bytes()));
            }
            self.shown = lines;
        }
        let plain = page.whole_lines();
        if plain != self.printed {
            let fresh: Vec<String> = plain
                .iter()
                .filter(|line| !line.is_empty() && !self.printed.contains(line))
                .cloned()
                .collect();
            fresh.iter().for_each(|line| self.print(line));
            self.printed = plain;
        }
    }

    fn print(&mut self, line: &str) {
        if let Some(serial) = &mut self.serial {
            drop(serial.write_all(format!("{line}\r\n").as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page {
            title: "Cairn 0.1.0".to_owned(),
            rows: Vec::new(),
        };
        page.row("domain", "chat.example");
        page.row("addresses", "192.0.2.1\n2001:db8::1");
        page.row("nothing", "");
        page
    }

    #[test]
    fn the_screen_fits_into_80_by_24() {
        let log: VecDeque<String> = (0..100)
            .map(|n| format!("{n} {}", "x".repeat(200)))
            .collect();
        let screen = screen(&page(), &log);
        assert_eq!(screen.len(), ROWS - 1);
        assert!(screen.iter().all(|line| line.chars().count() <= COLUMNS));
        assert!(screen.last().is_some_and(|line| line.starts_with("99 ")));
    }

    #[test]
    fn rows_are_named_once() {
        let lines = page().lines(COLUMNS);
        assert_eq!(
            lines,
            [
                "Cairn 0.1.0",
                "",
                " domain        chat.example",
                " addresses     192.0.2.1",
                "               2001:db8::1",
            ]
        );
    }

    const ADVICE: &str = "no configuration was found: give this machine a cairn.toml with its \
                          domain, or claim it with `cairn claim`";

    #[test]
    fn a_long_sentence_goes_on_below_and_is_whole_where_nothing_has_a_width() {
        let mut page = Page::default();
        page.row("waiting", ADVICE);
        assert_eq!(
            page.lines(COLUMNS)[2..],
            [
                " waiting       no configuration was found: give this machine a cairn.toml with",
                "               its domain, or claim it with `cairn claim`",
            ]
        );
        assert_eq!(
            page.whole_lines()[2..],
            [format!(" waiting       {ADVICE}")]
        );
        // Without a place to break, as the name of a file may be.
        page.row("found", "é".repeat(130));
        let lines = page.lines(COLUMNS);
        assert_eq!(lines.len(), 6);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn the_last_errors_stay_on_the_screen_however_long_the_page_and_the_log() {
        let mut page = page();
        (0..ROWS).for_each(|_| page.row("row", "text"));
        let mut log: VecDeque<String> = (0..4)
            .map(|n| format!("12:00:0{n} ERROR store: {n} {}", "failed ".repeat(40)))
            .collect();
        log.extend((0..100).map(|n| format!("12:00:05  INFO net: {n}")));
        let lines = screen(&page, &log);
        assert_eq!(lines.len(), ROWS - 1);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS));
        let errors = &lines[ROWS - 1 - 4..];
        assert!(errors[0].starts_with(" last errors   12:00:02 ERROR store: 2 failed"));
        assert!(errors[2].starts_with("               12:00:03 ERROR store: 3 failed"));
    }

    #[test]
    fn a_log_line_does_not_steer_the_terminal() {
        assert_eq!(cut("a\x1b[2Jb\u{9b}c\n", 80), "a [2Jb c ");
    }
}
