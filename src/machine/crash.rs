//! What the kernel left behind when it ended without being told to: kept in memory that survives a
//! warm start, or by the firmware (pstore), and told by the next boot.

use std::fs;
use std::path::Path;

/// Where the kernel shows it.
pub const FOLDER: &str = "/sys/fs/pstore";

/// Lines of a record that are told.
const LINES_MAX: usize = 12;
/// Bytes of a record that are looked at: the end, where the reason is.
const BYTES_MAX: usize = 64 * 1024;
/// Records that are looked at; all are removed.
const RECORDS_MAX: usize = 8;

/// The last words of the kernels before this one, oldest first; there are none the next time.
pub fn take(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut records: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| is_crash(path))
        .collect();
    records.sort();
    let mut lines = Vec::new();
    for path in &records {
        if let Ok(bytes) = fs::read(path)
            && lines.len() < RECORDS_MAX * LINES_MAX
        {
            lines.extend(last_words(&bytes));
        }
        // One that cannot be removed is told again.
        drop(fs::remove_file(path));
    }
    lines
}

fn is_crash(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("dmesg-"))
}

/// The lines from the panic on, or the last ones.
fn last_words(bytes: &[u8]) -> Vec<String> {
    let tail = &bytes[bytes.len().saturating_sub(BYTES_MAX)..];
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let panic = lines.iter().rposition(|line| line.contains("Kernel panic"));
    let from = panic.map_or_else(
        || lines.len().saturating_sub(LINES_MAX),
        |panic| panic.saturating_sub(2),
    );
    let told = lines.iter().skip(from).take(LINES_MAX);
    told.map(|line| without_level(line).to_owned()).collect()
}

/// A line begins with its level, as `<0>`.
fn without_level(line: &str) -> &str {
    match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((level, rest)) if level.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "Panic#1 Part1\n<6>[    1.0] eth0 is there\n<3>[    1.5] block 55 is corrupted\n\
                          <0>[    1.6] Kernel panic - not syncing: dm-verity device corrupted\n\
                          <0>[    1.7] Rebooting in 10 seconds..\n";

    #[test]
    fn the_reason_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("it is written");
        };
        write("dmesg-ramoops-0", RECORD);
        write("console-ramoops-0", "of no interest");
        let told = take(folder.path());
        assert_eq!(
            told,
            [
                "[    1.0] eth0 is there",
                "[    1.5] block 55 is corrupted",
                "[    1.6] Kernel panic - not syncing: dm-verity device corrupted",
                "[    1.7] Rebooting in 10 seconds..",
            ]
        );
        assert!(take(folder.path()).is_empty());
        assert!(folder.path().join("console-ramoops-0").exists());
    }

    #[test]
    fn what_is_no_text_or_very_long_is_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = vec![0xff; 1 << 20];
        bytes.extend(b"\nthe end\n".repeat(100));
        fs::write(folder.path().join("dmesg-efi-1"), bytes).expect("it is written");
        assert_eq!(take(folder.path()), ["the end"; LINES_MAX]);
        assert!(take(Path::new("/nonexistent")).is_empty());
    }
}
