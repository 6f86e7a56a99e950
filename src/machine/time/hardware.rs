//! Clocks beside the system's: the battery-backed one, which the kernel read when it started and
//! which is set from here, and the host's, which some hypervisors show.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::time::{DynamicClockId, clock_gettime_dynamic};

use super::clock;
use super::query::Offset;
use crate::machine::kernel_call::{self, RtcTime};

/// The only PTP clock that is the host's; others belong to network cards and tell nothing.
const KVM_CLOCK: &str = "KVM virtual PTP";
const RTC: &str = "/dev/rtc0";

/// Writes the system's time into the battery-backed clock. An error where there is none.
pub fn set_rtc() -> io::Result<()> {
    let rtc = File::open(RTC)?;
    kernel_call::set_rtc(&rtc, &civil(clock::now_ns().div_euclid(1_000_000_000)))
}

/// How far our clock is from the host's, where the hypervisor is KVM and shows it.
#[must_use]
pub fn host_offset() -> Option<Offset> {
    let device = kvm_clock(Path::new("/sys/class/ptp"))?;
    let device = File::open(device).ok()?;
    let before = clock::now_ns();
    let host = clock_gettime_dynamic(DynamicClockId::Dynamic(device.as_fd())).ok()?;
    let after = clock::now_ns();
    let host_ns = host
        .tv_sec
        .checked_mul(1_000_000_000)?
        .checked_add(host.tv_nsec)?;
    let half = (after - before) / 2;
    Some(Offset {
        offset_ns: host_ns.checked_sub(before + half)?,
        error_ns: half.unsigned_abs(),
        stratum: 1,
        server: None,
        replies: 1,
        agreeing: 1,
    })
}

/// The device of the host's clock.
fn kvm_clock(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let name = fs::read_to_string(entry.path().join("clock_name")).ok()?;
        let device = Path::new("/dev").join(entry.file_name());
        (name.trim() == KVM_CLOCK).then_some(device)
    })
}

/// Day and time of a second since 1970, in UTC.
pub(super) fn civil(unix_s: i64) -> RtcTime {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400) as i32);
    // Counted from 1 March of the year 0, so that a leap day ends a year; 400 years repeat.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let is_next = month >= 10;
    RtcTime {
        second: second % 60,
        minute: second / 60 % 60,
        hour: second / 3600,
        day: (day - (153 * month + 2) / 5 + 1) as i32,
        month: (if is_next { month - 10 } else { month + 2 }) as i32,
        year: (year + era * 400 + i64::from(is_next) - 1900) as i32,
        unused: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_days() {
        let of = |unix_s| {
            let time = civil(unix_s);
            (
                time.year + 1900,
                time.month + 1,
                time.day,
                time.hour,
                time.minute,
                time.second,
            )
        };
        assert_eq!(of(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(of(-1), (1969, 12, 31, 23, 59, 59));
        assert_eq!(of(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(of(1_795_564_800), (2026, 11, 25, 0, 0, 0));
        assert_eq!(of(4_107_542_399), (2100, 2, 28, 23, 59, 59));
        assert_eq!(of(4_107_542_400), (2100, 3, 1, 0, 0, 0));
    }

    #[test]
    fn only_the_host_s_clock_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, clock) in [("ptp0", "e1000e"), ("ptp1", "KVM virtual PTP")] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            let path = folder.path().join(name).join("clock_name");
            assert_eq!(kvm_clock(folder.path()), None);
            fs::write(path, format!("{clock}\n")).expect("a file");
        }
        assert_eq!(kvm_clock(folder.path()), Some(PathBuf::from("/dev/ptp1")));
        assert_eq!(kvm_clock(Path::new("/nowhere")), None);
    }
}
