//! The system's clock: how far back it may not be, when it is stepped and when it is slewed, and how
//! often time servers are asked. The decisions are pure; [`now_ns`] and [`apply`] touch the clock.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::query::Offset;
use crate::machine::kernel_call;

/// No build of Cairn is older than this: 2026-11-25. Each release raises it; a time that the build
/// took from somewhere else would make two builds of one source differ.
const BUILT_AFTER_MS: u64 = 1_795_564_800_000;
/// Nothing is believed that is further in the future than this from the floor: no build is in use for
/// 20 years, and the roots that it trusts end before.
const AHEAD_MAX_MS: u64 = 20 * 365 * 24 * 3600 * 1000;
/// A longer step is taken from one of several time servers only where another agrees with it.
const ALONE_NS: i64 = 10_000_000_000;
/// More than this is stepped even while the server runs; slewing would take longer than 17 minutes.
const STEP_NS: i64 = 500_000_000;
/// Less than this is the noise of the network.
const NOISE_NS: i64 = 1_000_000;
const POLL_S_MIN: u64 = 64;
const POLL_S_MAX: u64 = 1024;
/// How soon a clock that is not sane is asked about again.
const RETRY_S_MIN: u64 = 2;

/// When this binary was built, at the earliest: a date of the source. In milliseconds since 1970.
#[must_use]
pub const fn build_ms() -> u64 {
    BUILT_AFTER_MS
}

/// The best guess of a machine whose clock is surely wrong: the date of the source, or of the last
/// record in the store, unless the clock was wrong then too.
#[must_use]
pub fn guess_ms(last_record_ms: Option<u64>) -> u64 {
    let newest_ms = last_record_ms.unwrap_or(0);
    let newest_ns = i64::try_from(newest_ms).map_or(i64::MAX, |ms| ms.saturating_mul(1_000_000));
    match is_sane(newest_ns, build_ms()) {
        true => newest_ms,
        false => build_ms(),
    }
}

/// Nanoseconds since 1970 by the system's clock.
#[must_use]
pub fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// Whether a clock that shows `now_ns` can be right: not in front of the floor, and not decades
/// behind it. What is not sane is surely wrong; no decision about certificates is taken by it.
#[must_use]
pub fn is_sane(now_ns: i64, floor_ms: u64) -> bool {
    let now_ms = u64::try_from(now_ns / 1_000_000).unwrap_or(0);
    (floor_ms..=floor_ms.saturating_add(AHEAD_MAX_MS)).contains(&now_ms)
}

/// What is to be done about an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correction {
    /// It is within the noise.
    Nothing,
    /// The clock runs a little faster or slower for some minutes.
    Slew {
        /// How much it is to gain.
        offset_ns: i64,
    },
    /// The clock is set at once.
    Step {
        /// How much it is to gain.
        offset_ns: i64,
        /// A sentence for the console and the log, where somebody may wonder about a jump.
        said: Option<String>,
    },
    /// The server is not believed, and this sentence says why.
    Refused(String),
}

/// Decides. `now_ns` is what the clock shows, `is_serving` whether the server has started.
#[must_use]
pub fn correct(offset: &Offset, now_ns: i64, floor_ms: u64, is_serving: bool) -> Correction {
    let offset_ns = offset.offset_ns;
    let source = match offset.server {
        Some(server) => format!("the time server {server}"),
        None => "the host's clock".to_owned(),
    };
    let right = now_ns.saturating_add(offset_ns);
    if !is_sane(right, floor_ms) {
        return Correction::Refused(format!(
            "{source} says it is {}, which cannot be; name another in `[time] servers`",
            date(right)
        ));
    }
    let distance = offset_ns.saturating_abs();
    if distance > ALONE_NS && offset.replies > 1 && offset.agreeing < 2 {
        return Correction::Refused(format!(
            "{} time servers have answered, and no two of them agree: the clock is not set",
            offset.replies
        ));
    }
    match distance {
        distance if distance <= NOISE_NS => Correction::Nothing,
        distance if distance <= STEP_NS && is_serving => Correction::Slew { offset_ns },
        distance => Correction::Step {
            offset_ns,
            said: (is_serving || distance > STEP_NS).then(|| {
                format!(
                    "the clock was {} s {} and has been set to {} by {source}",
                    distance / 1_000_000_000,
                    if offset_ns > 0 { "slow" } else { "fast" },
                    date(right)
                )
            }),
        },
    }
}

/// Carries a correction out. Needs CAP_SYS_TIME.
pub fn apply(correction: &Correction) -> io::Result<()> {
    match correction {
        Correction::Nothing | Correction::Refused(_) => Ok(()),
        Correction::Slew { offset_ns } => kernel_call::slew(offset_ns / 1000),
        Correction::Step { offset_ns, .. } => set(now_ns().saturating_add(*offset_ns)),
    }
}

/// Sets a clock that is surely wrong to a guess: still wrong, but less.
pub fn set_to_guess(guess_ms: u64) -> io::Result<()> {
    let guess_ns = i64::try_from(guess_ms)
        .unwrap_or(0)
        .saturating_mul(1_000_000);
    set(guess_ns)
}

fn set(unix_ns: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: unix_ns.div_euclid(1_000_000_000),
        tv_nsec: unix_ns.rem_euclid(1_000_000_000),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// How often time servers are asked: every 64 s at first and seldom later while all is well; at once
/// again, with growing pauses, while the clock is not known to be right.
#[derive(Clone, Debug)]
pub struct Pace {
    interval_s: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            interval_s: RETRY_S_MIN,
        }
    }
}

impl Pace {
    /// How long to wait after an exchange that gave an offset.
    pub fn after_reply(&mut self) -> Duration {
        self.interval_s = (self.interval_s * 2).clamp(POLL_S_MIN, POLL_S_MAX);
        Duration::from_secs(self.interval_s)
    }

    /// How long to wait after one that did not.
    pub fn after_failure(&mut self, is_sane: bool) -> Duration {
        if !is_sane && self.interval_s >= POLL_S_MIN {
            self.interval_s = RETRY_S_MIN;
        }
        self.interval_s = (self.interval_s * 2).min(POLL_S_MAX);
        Duration::from_secs(self.interval_s)
    }
}

/// The day and minute, for sentences.
fn date(unix_ns: i64) -> String {
    let time = super::hardware::civil(unix_ns.div_euclid(1_000_000_000));
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        time.year + 1900,
        time.month + 1,
        time.day,
        time.hour,
        time.minute
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FLOOR_NS: i64 = BUILT_AFTER_MS as i64 * 1_000_000;
    const S: i64 = 1_000_000_000;

    fn off(offset_ns: i64) -> Offset {
        Offset {
            offset_ns,
            error_ns: 0,
            stratum: 1,
            server: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            replies: 1,
            agreeing: 1,
        }
    }

    #[test]
    fn the_guess_is_the_later_of_build_and_last_record_unless_that_cannot_be() {
        assert_eq!(guess_ms(None), build_ms());
        assert_eq!(guess_ms(Some(5)), build_ms());
        assert_eq!(guess_ms(Some(build_ms() + 5)), build_ms() + 5);
        assert_eq!(guess_ms(Some(build_ms() + AHEAD_MAX_MS + 1)), build_ms());
        assert_eq!(guess_ms(Some(u64::MAX)), build_ms());
    }

    #[test]
    fn a_long_step_needs_two_that_agree_where_two_answer() {
        let now = FLOOR_NS + 1_000 * S;
        let decide = |offset_ns, replies, agreeing| {
            let offset = Offset {
                replies,
                agreeing,
                ..off(offset_ns)
            };
            correct(&offset, now, BUILT_AFTER_MS, true)
        };
        let Correction::Refused(why) = decide(11 * S, 2, 1) else {
            panic!("nobody knows who is right");
        };
        assert!(
            why.starts_with("2 time servers have answered, and no two"),
            "{why}"
        );
        for (offset_ns, replies, agreeing) in [(11 * S, 1, 1), (11 * S, 3, 2), (9 * S, 2, 1)] {
            let decided = decide(offset_ns, replies, agreeing);
            assert!(matches!(decided, Correction::Step { .. }), "{decided:?}");
        }
        assert!(matches!(decide(-S / 5, 2, 1), Correction::Slew { .. }));
    }

    #[test]
    fn a_clock_in_front_of_the_floor_is_wrong() {
        assert!(!is_sane(0, BUILT_AFTER_MS));
        assert!(!is_sane(-5, BUILT_AFTER_MS));
        assert!(!is_sane(FLOOR_NS - S, BUILT_AFTER_MS));
        assert!(is_sane(FLOOR_NS, BUILT_AFTER_MS));
        assert!(!is_sane(FLOOR_NS + 60 * 365 * 86_400 * S, BUILT_AFTER_MS));
    }

    #[test]
    fn small_offsets_are_slewed_under_a_running_server_only() {
        let now = FLOOR_NS + 1_000 * S;
        let decide = |offset, is_serving| correct(&off(offset), now, BUILT_AFTER_MS, is_serving);
        assert_eq!(decide(900_000, true), Correction::Nothing);
        assert_eq!(
            decide(-300_000_000, true),
            Correction::Slew {
                offset_ns: -300_000_000
            }
        );
        assert_eq!(
            decide(300_000_000, false),
            Correction::Step {
                offset_ns: 300_000_000,
                said: None
            }
        );
        let Correction::Step {
            said: Some(said), ..
        } = decide(7 * S, true)
        else {
            panic!("a step that is told");
        };
        assert_eq!(
            said,
            "the clock was 7 s slow and has been set to 2026-11-25 00:16 UTC by the time server 192.0.2.1"
        );
    }

    #[test]
    fn a_server_that_leads_in_front_of_the_floor_is_refused() {
        let refused = correct(&off(-10 * S), FLOOR_NS, BUILT_AFTER_MS, true);
        let Correction::Refused(why) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("2026-11-24 23:59 UTC"), "{why}");
        let years = 1_800_000_000 * S;
        let from_1970 = correct(&off(years), 0, BUILT_AFTER_MS, false);
        assert!(matches!(from_1970, Correction::Step { said: Some(_), .. }));
        assert!(matches!(
            correct(&off(i64::MAX), 0, BUILT_AFTER_MS, false),
            Correction::Refused(_)
        ));
        assert!(matches!(
            correct(&off(i64::MIN), 0, BUILT_AFTER_MS, false),
            Correction::Refused(_)
        ));
    }

    #[test]
    fn questions_become_seldom() {
        let mut pace = Pace::default();
        let failures: Vec<u64> = (0..4)
            .map(|_| pace.after_failure(false).as_secs())
            .collect();
        assert_eq!(failures, [4, 8, 16, 32]);
        let replies: Vec<u64> = (0..6).map(|_| pace.after_reply().as_secs()).collect();
        assert_eq!(replies, [64, 128, 256, 512, 1024, 1024]);
        assert_eq!(pace.after_failure(true).as_secs(), 1024);
        assert_eq!(pace.after_failure(false).as_secs(), 4);
    }
}
