//! Whether a network has failed, judged so that none is left that works.
//!
//! A network has failed when for [`PATIENCE_MS`] in which a cable was plugged in nobody has lent or
//! advertised an address, and neither a gateway that its plan names nor anybody else of its own
//! prefixes has answered ARP or neighbour solicitation. One sign of life is enough, and counts until
//! the next start: a router that is away for an hour later is no reason to leave a network, and
//! clients on the link reach the server all the while. A plan with addresses of its own that names
//! no gateway cannot fail.

use super::network::Evidence;

/// How long a network has at first: DHCP has asked six times by then, and switches that look for
/// loops let packets pass after 50 s.
pub const PATIENCE_MS: u64 = 120_000;
/// What it grows to with every round in which nothing worked.
const PATIENCE_MS_MAX: u64 = 16 * 60_000;

/// The trial of the network that runs.
#[derive(Debug)]
pub struct Trial {
    patience_ms: u64,
    waited_ms: u64,
    /// The turn before, if something was plugged in then.
    last_ms: Option<u64>,
    verdict: Option<Verdict>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Works,
    /// It has failed.
    Failed,
}

impl Trial {
    /// A network begins, after so many rounds in which none has worked.
    #[must_use]
    pub fn new(rounds: u32) -> Trial {
        let patience_ms = PATIENCE_MS.saturating_mul(1 << rounds.min(10));
        Trial {
            patience_ms: patience_ms.min(PATIENCE_MS_MAX),
            waited_ms: 0,
            last_ms: None,
            verdict: None,
        }
    }

    /// The verdict in the turn in which it falls. One that has failed may still be found to work.
    pub fn turn(&mut self, evidence: Evidence, now_ms: u64) -> Option<Verdict> {
        if self.verdict == Some(Verdict::Works) {
            return None;
        }
        let last_ms = self.last_ms.take();
        match evidence {
            Evidence::Works => {
                self.verdict = Some(Verdict::Works);
                return self.verdict;
            }
            Evidence::Unplugged => return None,
            Evidence::Silence => {
                self.waited_ms += last_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
                self.last_ms = Some(now_ms);
            }
        }
        if self.verdict.is_none() && self.waited_ms >= self.patience_ms {
            self.verdict = Some(Verdict::Failed);
            return self.verdict;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_fails_by_silence_while_it_is_plugged_in() {
        let mut trial = Trial::new(0);
        assert_eq!(trial.turn(Evidence::Unplugged, 0), None);
        assert_eq!(trial.turn(Evidence::Unplugged, 10 * PATIENCE_MS), None);
        let from_ms = 10 * PATIENCE_MS;
        assert_eq!(trial.turn(Evidence::Silence, from_ms), None);
        assert_eq!(
            trial.turn(Evidence::Silence, from_ms + PATIENCE_MS - 1),
            None
        );
        // The cable is out for a while.
        assert_eq!(trial.turn(Evidence::Unplugged, from_ms + PATIENCE_MS), None);
        let again_ms = from_ms + 5 * PATIENCE_MS;
        assert_eq!(trial.turn(Evidence::Silence, again_ms), None);
        let verdict = trial.turn(Evidence::Silence, again_ms + 1);
        assert_eq!(verdict, Some(Verdict::Failed));
        assert_eq!(
            trial.turn(Evidence::Silence, again_ms + 2),
            None,
            "told once"
        );
    }

    #[test]
    fn a_network_that_has_worked_once_does_not_fail() {
        let mut trial = Trial::new(0);
        assert_eq!(trial.turn(Evidence::Silence, 0), None);
        assert_eq!(trial.turn(Evidence::Works, 1), Some(Verdict::Works));
        for now_ms in [2, 10 * PATIENCE_MS, 20 * PATIENCE_MS] {
            assert_eq!(trial.turn(Evidence::Silence, now_ms), None);
        }
    }

    #[test]
    fn one_that_comes_late_still_works() {
        let mut trial = Trial::new(0);
        assert_eq!(trial.turn(Evidence::Silence, 0), None);
        let verdict = trial.turn(Evidence::Silence, PATIENCE_MS);
        assert_eq!(verdict, Some(Verdict::Failed));
        let late = trial.turn(Evidence::Works, PATIENCE_MS + 1);
        assert_eq!(late, Some(Verdict::Works));
    }

    #[test]
    fn patience_grows_to_a_bound() {
        for (rounds, patience_ms) in [(1, 2 * PATIENCE_MS), (40, PATIENCE_MS_MAX)] {
            let mut trial = Trial::new(rounds);
            assert_eq!(trial.turn(Evidence::Silence, 0), None);
            assert_eq!(trial.turn(Evidence::Silence, patience_ms - 1), None);
            let verdict = trial.turn(Evidence::Silence, patience_ms);
            assert_eq!(verdict, Some(Verdict::Failed));
        }
    }
}
