//! Why PID 1 ended a boot: kept at the end of the device that the store is on, and told by the next
//! boot.
//!
//! What the kernel says when it panics is kept elsewhere, if at all (`crash.rs`). This is for the
//! ends that are no panic of the kernel, or not at first: a system that gives itself up, a panic of
//! PID 1 itself.
//!
//! ```text
//! the last 64 KiB of the device, where no segment of the store reaches into them
//!   0  8  "CAIRNEND"                  24  4  how many boots have ended so on this device
//!   8  4  version (1)                 28  4  1: it has been told
//!  12  4  bytes of the text           32  4  CRC-32 of the text
//!  16  8  when, ms since 1970         36  4  CRC-32 of the 36 bytes before
//! 4096 …  the text: why, a line; then lines of PID 1 ("own: …") and the kernel ("kernel: …")
//! ```
//!
//! A store's segments begin at 64 KiB and are 1 MiB at least, and its partition ends on a whole
//! mebibyte: so the area is free on every machine that there is. Where it is not, nothing is kept.
//! Without a store nothing is written either: what is blank stays blank, and what is somebody
//! else's stays as it is. The server can write here too, so what is read is only shown.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::store::buffer::{ALIGN, Buffer};
use crate::store::disk::Device;
use crate::store::superblock;

/// Where the kernel shows its messages, one with each read.
pub const KERNEL_LOG: &str = "/dev/kmsg";

/// Bytes of the area.
pub const AREA_BYTES: u64 = 64 * 1024;
const MAGIC: &[u8; 8] = b"CAIRNEND";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 40;
const TEXT_MAX: usize = AREA_BYTES as usize - ALIGN;
/// Bytes of PID 1's own lines that are kept; the rest is for the kernel's.
const OWN_MAX: usize = 20 * 1024;
/// Bytes of why.
const WHY_MAX: usize = 1024;
/// Lines of each kind that are told.
const LINES_TOLD: usize = 12;
/// Messages of the kernel that are looked at: more than its buffer holds.
const MESSAGES_MAX: usize = 100_000;
const OWN: &str = "own: ";
const KERNEL: &str = "kernel: ";

/// A boot that PID 1 ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// When, in milliseconds since 1970 by the clock of that boot.
    pub at_ms: u64,
    /// How many boots have ended so on this device, this one included.
    pub count: u32,
    /// Why, and what was said last.
    pub text: String,
    is_told: bool,
}

impl LastWords {
    /// What is told of it: why, and the last lines of each kind.
    pub fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.text.lines().take(1).collect();
        for kind in [OWN, KERNEL] {
            let of_kind = self.text.lines().skip(1);
            let of_kind: Vec<&str> = of_kind.filter(|line| line.starts_with(kind)).collect();
            lines.extend(&of_kind[of_kind.len().saturating_sub(LINES_TOLD)..]);
        }
        lines
    }
}

/// The text: why, PID 1's own last lines, and the kernel's, as many as there is room for.
pub fn text<'a>(
    why: &str,
    own: impl DoubleEndedIterator<Item = &'a str>,
    kernel: impl DoubleEndedIterator<Item = &'a str>,
) -> String {
    let mut text: String = why.chars().map(printable).collect();
    text.truncate(text.floor_char_boundary(WHY_MAX));
    text.push('\n');
    let own = tail(own, OWN, OWN_MAX);
    let room = TEXT_MAX - text.len() - own.len();
    text + &own + &tail(kernel, KERNEL, room)
}

/// The last lines that fit, each behind its kind.
fn tail<'a>(lines: impl DoubleEndedIterator<Item = &'a str>, kind: &str, most: usize) -> String {
    let mut kept = VecDeque::new();
    let mut bytes = 0;
    for line in lines.rev() {
        let line: String = line.chars().map(printable).collect();
        bytes += kind.len() + line.len() + 1;
        if bytes > most {
            break;
        }
        kept.push_front(format!("{kind}{line}\n"));
    }
    kept.into_iter().collect()
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// Keeps a text, in place of the one before. `false`: there is no store, or no room behind it.
pub fn leave(device: &dyn Device, at_ms: u64, text: &str) -> io::Result<bool> {
    let Some(area) = area(device) else {
        return Ok(false);
    };
    let count = read(device, area)?.map_or(0, |before| before.count);
    let words = LastWords {
        at_ms,
        count: count.saturating_add(1),
        text: text[..text.floor_char_boundary(TEXT_MAX)].to_owned(),
        is_told: false,
    };
    let mut bytes = Buffer::zeroed(words.text.len().next_multiple_of(ALIGN));
    bytes.as_mut_slice()[..words.text.len()].copy_from_slice(words.text.as_bytes());
    device.write_at(bytes.as_slice(), area + ALIGN as u64)?;
    // A head never stands in front of a text that is not there.
    device.sync()?;
    device.write_at(words.head().as_slice(), area)?;
    device.sync()?;
    Ok(true)
}

/// What the boot before left, if it has not been told; it is not there the next time.
pub fn take(device: &dyn Device) -> io::Result<Option<LastWords>> {
    let Some(area) = area(device) else {
        return Ok(None);
    };
    let Some(mut words) = read(device, area)?.filter(|words| !words.is_told) else {
        return Ok(None);
    };
    words.is_told = true;
    device.write_at(words.head().as_slice(), area)?;
    device.sync()?;
    Ok(Some(words))
}

/// Where the area is.
fn area(device: &dyn Device) -> Option<u64> {
    let area = device.len().checked_sub(AREA_BYTES)?;
    let used = superblock::end_of_segments(device)?;
    (used <= area && area.is_multiple_of(ALIGN as u64)).then_some(area)
}

/// What stands there, if it verifies.
fn read(device: &dyn Device, area: u64) -> io::Result<Option<LastWords>> {
    let mut bytes = Buffer::zeroed(AREA_BYTES as usize);
    device.read_at(bytes.as_mut_slice(), area)?;
    Ok(LastWords::decode(bytes.as_slice()))
}

impl LastWords {
    fn head(&self) -> Buffer {
        let mut block = Buffer::zeroed(ALIGN);
        let head = block.as_mut_slice();
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let len = u32::try_from(self.text.len()).unwrap_or(0);
        head[12..16].copy_from_slice(&len.to_le_bytes());
        head[16..24].copy_from_slice(&self.at_ms.to_le_bytes());
        head[24..28].copy_from_slice(&self.count.to_le_bytes());
        head[28..32].copy_from_slice(&u32::from(self.is_told).to_le_bytes());
        head[32..36].copy_from_slice(&crc32fast::hash(self.text.as_bytes()).to_le_bytes());
        let sum = crc32fast::hash(&head[..36]);
        head[36..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        block
    }

    fn decode(area: &[u8]) -> Option<LastWords> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(area.get(at..at + 4)?.try_into().ok()?));
        area.strip_prefix(MAGIC)?;
        let is_ours = u32_at(8)? == VERSION && crc32fast::hash(area.get(..36)?) == u32_at(36)?;
        let len = usize::try_from(u32_at(12)?).ok().filter(|_| is_ours)?;
        let text = area.get(ALIGN..)?.get(..len)?;
        let is_whole = crc32fast::hash(text) == u32_at(32)?;
        is_whole.then_some(LastWords {
            at_ms: u64::from_le_bytes(area.get(16..24)?.try_into().ok()?),
            count: u32_at(24)?,
            text: String::from_utf8_lossy(text).into_owned(),
            is_told: u32_at(28)? != 0,
        })
    }
}

/// The kernel's last messages, as far as they fit into the area.
pub fn kernel_log(path: &Path) -> VecDeque<String> {
    let mut lines = VecDeque::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let Ok(mut file) = file else {
        return lines;
    };
    let (mut bytes, mut buffer) = (0, [0; 8192]);
    for _ in 0..MESSAGES_MAX {
        let record = match file.read(&mut buffer) {
            Ok(len @ 1..) => String::from_utf8_lossy(&buffer[..len]),
            // What is overwritten meanwhile is passed over.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Ok(0) | Err(_) => break,
        };
        for line in record.lines().filter_map(message) {
            bytes += line.len();
            lines.push_back(line);
        }
        while bytes > TEXT_MAX {
            bytes -= lines.pop_front().map_or(bytes, |line| line.len());
        }
    }
    lines
}

/// A record of the kernel's log, `level,number,microseconds,…;text`, as people know it. What
/// follows on lines of its own are properties.
fn message(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let time: u64 = head.split(',').nth(2)?.parse().ok()?;
    let (seconds, rest) = (time / 1_000_000, time % 1_000_000);
    Some(format!("[{seconds:5}.{rest:06}] {text}"))
}

#[cfg(test)]
#[path = "last_words_tests.rs"]
mod tests;
