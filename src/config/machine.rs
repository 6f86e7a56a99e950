//! What the machine gives: memory, and files that may be open.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

/// The machine that the limits are derived from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory for all of this process and the kernel's share of its
    /// connections.
    pub memory_bytes: u64,
    /// What sets `memory_bytes`, for people: "the machine" or "its cgroup".
    pub memory_of: &'static str,
    /// Files and sockets that may be open at once.
    pub files_max: u64,
}

impl Machine {
    /// Asks the kernel. Where it does not say, a machine of 512 MiB is assumed.
    #[must_use]
    pub fn measure() -> Self {
        let machine = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| mem_total(&text))
            .unwrap_or(512 << 20);
        let cgroup = cgroup_memory(Path::new("/sys/fs/cgroup"));
        let (memory_bytes, memory_of) = match cgroup {
            Some(cgroup) if cgroup < machine => (cgroup, "its cgroup"),
            _ => (machine, "the machine"),
        };
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1_024, 1_024));
        Self {
            memory_bytes,
            memory_of,
            files_max: hard,
        }
    }

    /// A machine of so many bytes, for tests and examples.
    #[must_use]
    pub fn of_memory(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            memory_of: "the machine",
            files_max: 1 << 20,
        }
    }
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The smallest memory limit of the process's cgroup and those above it, of
/// version 2 (`0::/path`) or version 1 (`…:memory:/path`).
fn cgroup_memory(root: &Path) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit_in = |folder: &Path, file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        // "max", or in version 1 an absurdly large number, is no limit.
        text.trim().parse::<u64>().ok()
    };
    own.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (root, file) = match controllers {
                "" => (root.to_owned(), "memory.max"),
                controllers if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), "memory.limit_in_bytes")
                }
                _ => return None,
            };
            root.join(path.trim_start_matches('/'))
                .ancestors()
                .take_while(|folder| folder.starts_with(&root))
                .filter_map(|folder| limit_in(folder, file))
                .min()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_counts_in_kibibytes() {
        let text = "MemTotal:       24576000 kB\nMemFree:          100 kB\n";
        assert_eq!(mem_total(text), Some(24_576_000 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        let machine = Machine::measure();
        assert!(machine.memory_bytes > 64 << 20, "{machine:?}");
        assert!(machine.files_max > 0);
    }
}
