//! The file systems and settings of the kernel that the machine runs with.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// A file system, where it goes, and its options.
type Place = (&'static str, &'static str, &'static str, MsFlags);

fn places() -> [Place; 6] {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let closed = plain | MsFlags::MS_NODEV;
    [
        ("proc", "/proc", "", closed),
        ("sysfs", "/sys", "", closed),
        ("devtmpfs", "/dev", "mode=0755", plain),
        ("securityfs", "/sys/kernel/security", "", closed),
        ("pstore", "/sys/fs/pstore", "", closed),
        ("tmpfs", "/run", "mode=0755,size=4m", closed),
    ]
}

/// What is written where.
const SETTINGS: &[(&str, &str)] = &[
    // Gives nothing of the kernel's memory away, not even to root, from here on.
    ("/sys/kernel/security/lockdown", "confidentiality"),
    // An allocation never fails for what others might come to need: PID 1, which dies with the
    // machine, would be one that it fails for. The server has a limit of its own (`sandbox`).
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/kptr_restrict", "2"),
    ("/proc/sys/kernel/dmesg_restrict", "1"),
    ("/proc/sys/kernel/yama/ptrace_scope", "3"),
    ("/proc/sys/kernel/printk", "3 4 1 3"),
    ("/proc/sys/fs/protected_symlinks", "1"),
    ("/proc/sys/fs/protected_hardlinks", "1"),
    ("/proc/sys/net/core/somaxconn", "4096"),
    ("/proc/sys/net/ipv4/tcp_keepalive_time", "600"),
];

/// Mounts everything and applies the settings. What does not work is told, a sentence each: a
/// kernel without one of these still serves.
pub fn all() -> Vec<String> {
    let mut troubles = Vec::new();
    for (kind, place, options, flags) in places() {
        match mount(Some(kind), place, Some(kind), flags, Some(options)) {
            // The kernel has mounted /dev itself: only the flags are missing.
            Err(Errno::EBUSY) => {
                let again = flags | MsFlags::MS_REMOUNT;
                if let Err(error) = mount(Some(kind), place, Some(kind), again, Some(options)) {
                    troubles.push(format!("cannot remount {place}: {error}"));
                }
            }
            Ok(()) => {}
            Err(error) => troubles.push(format!("cannot mount {place}: {error}")),
        }
    }
    for (path, value) in SETTINGS {
        if let Err(error) = set(Path::new(path), value) {
            troubles.push(format!("cannot set {path}: {error}"));
        }
    }
    troubles
}

fn set(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        // Not part of this kernel.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
