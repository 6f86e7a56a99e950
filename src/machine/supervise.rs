//! When a server that died is started again, and when that is given up.

/// Deaths in a row, before the system has proved itself, that end the attempt.
const DEATHS_MAX: u32 = 6;
/// A server that ran for so long is not dying in a row.
const STEADY_MS: u64 = 60_000;
/// How long to wait after the first, second … death in a row.
const WAITS_MS: [u64; 6] = [100, 500, 2_000, 5_000, 15_000, 30_000];

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again at this time.
    Restart {
        /// On the clock of the calls.
        at_ms: u64,
    },
    /// It keeps dying and never proved itself: the other slot's turn.
    GiveUp,
}

/// The history of one child.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaths {
    in_a_row: u32,
    started_ms: u64,
}

impl Deaths {
    /// It was started.
    pub fn started(&mut self, now_ms: u64) {
        self.started_ms = now_ms;
    }

    /// It died. `is_confirmed`: the system has proved itself, so there is nothing to go back to.
    pub fn died(&mut self, now_ms: u64, is_confirmed: bool) -> Verdict {
        if now_ms.saturating_sub(self.started_ms) >= STEADY_MS {
            self.in_a_row = 0;
        }
        let wait = WAITS_MS[(self.in_a_row as usize).min(WAITS_MS.len() - 1)];
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= DEATHS_MAX && !is_confirmed {
            return Verdict::GiveUp;
        }
        Verdict::Restart {
            at_ms: now_ms + wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die(deaths: &mut Deaths, now_ms: u64, lived_ms: u64, is_confirmed: bool) -> Verdict {
        deaths.started(now_ms);
        deaths.died(now_ms + lived_ms, is_confirmed)
    }

    #[test]
    fn waits_grow_and_a_steady_run_forgives() {
        let mut deaths = Deaths::default();
        let waits: Vec<u64> = (0..3)
            .map(|_| match die(&mut deaths, 0, 10, true) {
                Verdict::Restart { at_ms } => at_ms - 10,
                Verdict::GiveUp => panic!("it is confirmed"),
            })
            .collect();
        assert_eq!(waits, WAITS_MS[..3]);
        let after = die(&mut deaths, 0, STEADY_MS, true);
        assert_eq!(
            after,
            Verdict::Restart {
                at_ms: STEADY_MS + WAITS_MS[0]
            }
        );
    }

    #[test]
    fn only_a_system_that_never_proved_itself_is_given_up() {
        let mut deaths = Deaths::default();
        let verdicts: Vec<Verdict> = (0..DEATHS_MAX)
            .map(|_| die(&mut deaths, 0, 1, false))
            .collect();
        assert_eq!(verdicts.last(), Some(&Verdict::GiveUp));
        assert!(!verdicts[..5].contains(&Verdict::GiveUp));
        let mut deaths = Deaths::default();
        let never = (0..100).all(|_| die(&mut deaths, 0, 1, true) != Verdict::GiveUp);
        assert!(never);
    }
}
