//! When something is to be done about the certificate: pure, on a clock that is an argument.

use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How long after the first failure in a row it is tried again; each further one doubles it.
/// Public authorities count failures by the hour: Let's Encrypt allows five for a name.
const FIRST_WAIT_MS: u64 = 5 * MINUTE_MS;

/// The same where the authority was not reached at all: it has counted nothing, and a machine that
/// has just started may have its network in a moment.
const FIRST_WAIT_UNREACHED_MS: u64 = 10_000;

/// The longest that is waited after a failure, unless the authority asks for more.
const LONGEST_WAIT_MS: u64 = DAY_MS;

/// The longest that is waited because the authority says so: its mistake must not cost the
/// certificate.
const ASKED_WAIT_MAX_MS: u64 = 7 * DAY_MS;

/// How long is waited at least where the authority refuses because of a limit.
const LIMITED_WAIT_MS: u64 = HOUR_MS;

/// How often the authority is asked for its window (RFC 9773 §4.3.2), whatever it wants.
const ASK_MIN_MS: u64 = HOUR_MS;
const ASK_MAX_MS: u64 = DAY_MS;

/// Failures in a row after which somebody is told, where the certificate still lasts.
const PATIENT_FAILURES: u32 = 3;

/// Failures in a row that may be a network that is not there yet: two minutes and a half.
const UNREACHED_FAILURES: u32 = 5;

/// How often an order is taken up again that the authority refuses although it is about to give the
/// certificate, or has given it. Another order costs one of the few that it gives for the same
/// names (Let's Encrypt: five a week); one that comes to nothing must not be asked about for ever.
const DOUBTS_MAX: u32 = 3;

/// What is left of a certificate's life when each failure matters, in parts of the whole.
const SHORT_PART: u64 = 6;

/// What is remembered from one attempt to the next, also over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The directory that was asked.
    pub directory: String,
    /// For which names.
    pub names: Vec<String>,
    /// Attempts that have failed since the last success.
    pub failures: u32,
    /// Nothing is tried before, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// Not even where the operator asks for it.
    pub forbidden_until_ms: u64,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
    /// When the administrators were told of a failure; 0: not since the last success.
    pub told_ms: u64,
    /// When the authority wants the certificate to be renewed.
    pub window: Option<Window>,
    /// Where in the window it is done, in thousandths: drawn once for each certificate, so that
    /// not all servers come at once (RFC 9773 §4.2).
    pub place: u16,
    /// The order under way.
    pub order: Option<Order>,
}

/// When the authority wants a certificate to be renewed (RFC 9773 §4.2), in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From here. With `end_ms`, 0 where the authority has none.
    pub start_ms: u64,
    /// Until here.
    pub end_ms: u64,
    /// When it is asked again.
    pub ask_again_ms: u64,
}

/// An order that was begun (RFC 8555 §7.1.3). Its key is kept beside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its URL.
    pub url: String,
    /// How often it was refused although the names were proved and the certificate asked for, or
    /// what it gave was of no use.
    #[serde(default)]
    pub doubts: u32,
}

/// The certificate that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is for.
    pub names: Vec<String>,
    /// When it begins, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// When it ends.
    pub not_after_ms: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until then.
    Wait(u64),
    /// The authority is asked for its window.
    Ask,
    /// A certificate is obtained.
    Obtain,
}

/// How an attempt has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in a sentence for the operator.
    pub why: String,
    /// How long the authority wants to be left alone (RFC 8555 §6.6), in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// It refuses because of a limit.
    pub is_limited: bool,
    /// It was not reached.
    pub is_unreached: bool,
    /// It took none of the nonces that it gave, which says nothing about the order.
    pub is_of_a_nonce: bool,
}

impl Held {
    fn life_ms(&self) -> u64 {
        self.not_after_ms.saturating_sub(self.not_before_ms)
    }

    fn left_ms(&self, now_ms: u64) -> u64 {
        self.not_after_ms.saturating_sub(now_ms)
    }

    /// Whether it is for all of these names and no other.
    fn is_for(&self, names: &[String]) -> bool {
        let sorted = |names: &[String]| {
            let mut names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
            names.sort();
            names.dedup();
            names
        };
        sorted(&self.names) == sorted(names)
    }

    /// Whether so little of its life is left that each failure matters.
    fn is_short(&self, now_ms: u64) -> bool {
        self.left_ms(now_ms) <= self.life_ms() / SHORT_PART
    }
}

impl Record {
    /// What is to be done at `now_ms` so that `names` have a certificate of `directory`.
    #[must_use]
    pub fn next(
        &self,
        now_ms: u64,
        held: Option<&Held>,
        directory: &str,
        names: &[String],
    ) -> Next {
        let due_ms = match held {
            Some(held) if held.is_for(names) && self.directory == directory => self.due_ms(held),
            _ => 0,
        };
        let due_ms = match self.is_about(directory, names) {
            true => due_ms.max(self.not_before_ms),
            false => due_ms,
        };
        if due_ms <= now_ms {
            return Next::Obtain;
        }
        // Without a certificate there is nothing to ask about.
        let asks_ms = match (&self.window, held) {
            (Some(window), Some(_)) => window.ask_again_ms,
            (None, Some(_)) => 0,
            (_, None) => return Next::Wait(due_ms),
        };
        match asks_ms <= now_ms {
            true => Next::Ask,
            false => Next::Wait(due_ms.min(asks_ms)),
        }
    }

    /// When a certificate is renewed: in the window of the authority, else after two thirds of its
    /// life, in any case before it ends.
    fn due_ms(&self, held: &Held) -> u64 {
        let by_life = held.not_before_ms + held.life_ms() / 3 * 2;
        match &self.window {
            Some(window) if window.end_ms > window.start_ms => {
                let width = window.end_ms - window.start_ms;
                let place = u64::from(self.place.min(1_000));
                let in_window = window.start_ms.saturating_add(width / 1_000 * place);
                // A window behind the end would be a mistake of the authority.
                match in_window < held.not_after_ms {
                    true => in_window,
                    false => by_life,
                }
            }
            _ => by_life,
        }
    }

    /// Whether the last attempts were about the same.
    fn is_about(&self, directory: &str, names: &[String]) -> bool {
        self.directory == directory && self.names == names
    }

    /// An attempt begins: what failed for something else does not count.
    pub fn begin(&mut self, directory: &str, names: &[String]) {
        if !self.is_about(directory, names) {
            *self = Record {
                directory: directory.to_owned(),
                names: names.to_vec(),
                ..Record::default()
            };
        }
    }

    /// An attempt has failed.
    pub fn failed(&mut self, now_ms: u64, held: Option<&Held>, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(20);
        let first_ms = match failure.is_unreached {
            true => FIRST_WAIT_UNREACHED_MS,
            false => FIRST_WAIT_MS,
        };
        let mut wait_ms = (first_ms << doublings).min(LONGEST_WAIT_MS);
        // What runs out is tried for more often: at least eight times before its end.
        if let Some(held) = held.filter(|held| held.left_ms(now_ms) > 0) {
            wait_ms = wait_ms.min((held.left_ms(now_ms) / 8).max(HOUR_MS));
        }
        if failure.is_limited {
            wait_ms = wait_ms.max(LIMITED_WAIT_MS);
        }
        let asked_ms = failure.retry_after_ms.unwrap_or(0).min(ASKED_WAIT_MAX_MS);
        self.not_before_ms = now_ms.saturating_add(wait_ms.max(asked_ms));
        self.forbidden_until_ms = match (asked_ms, failure.is_limited) {
            (0, true) => self.not_before_ms,
            (asked_ms, _) => now_ms.saturating_add(asked_ms),
        };
        self.last_failure = Some(failure.why.clone());
    }

    /// A certificate has come. `place` is random, up to 1000.
    pub fn succeeded(&mut self, now_ms: u64, held: &Held, place: u16) {
        *self = Record {
            directory: std::mem::take(&mut self.directory),
            names: std::mem::take(&mut self.names),
            // Where our clock or the authority's is wrong a new one may seem old at once: nobody is
            // to be asked again and again because of that.
            not_before_ms: now_ms.saturating_add((held.life_ms() / 3).min(DAY_MS)),
            place,
            ..Record::default()
        };
    }

    /// The authority was asked for its window; `None` where it has none or did not answer.
    /// `again_ms` is how long it wants to be left alone.
    pub fn asked(&mut self, now_ms: u64, window: Option<(u64, u64)>, again_ms: Option<u64>) {
        let again_ms = again_ms.unwrap_or(ASK_MAX_MS).clamp(ASK_MIN_MS, ASK_MAX_MS);
        let ask_again_ms = now_ms.saturating_add(again_ms);
        // One that was known still counts when the authority does not answer once.
        let known = self.window.take().unwrap_or_default();
        let (start_ms, end_ms) = window.unwrap_or((known.start_ms, known.end_ms));
        self.window = Some(Window {
            start_ms,
            end_ms,
            ask_again_ms,
        });
    }

    /// The order under way gives no certificate though it should: it is forgotten once that was so
    /// too often. Returns whether it is.
    pub fn doubt_order(&mut self) -> bool {
        let Some(order) = &mut self.order else {
            return false;
        };
        order.doubts += 1;
        let is_over = order.doubts >= DOUBTS_MAX;
        if is_over {
            self.order = None;
        }
        is_over
    }

    /// The operator asks to try now, not when the plan says. What the authority has asked for counts
    /// all the same.
    pub fn hurry(&mut self) {
        if self.failures > 0 {
            self.not_before_ms = self.forbidden_until_ms;
        }
    }

    /// Whether a failure, the last one, may only be a network that is not there yet.
    #[must_use]
    pub fn may_pass(&self, failure: &Failure) -> bool {
        failure.is_unreached && self.failures < UNREACHED_FAILURES
    }

    /// Whether the administrators are told of the last failure, which is noted: at once where there
    /// is no certificate or it runs out, then once a day; else after some failures in a row.
    pub fn tells(&mut self, now_ms: u64, held: Option<&Held>, failure: &Failure) -> bool {
        if self.may_pass(failure) {
            return false;
        }
        let is_urgent = held.is_none_or(|held| held.is_short(now_ms));
        let is_due = match (is_urgent, self.told_ms) {
            (true, told_ms) => now_ms.saturating_sub(told_ms) >= DAY_MS,
            (false, 0) => self.failures >= PATIENT_FAILURES,
            (false, _) => false,
        };
        if is_due {
            self.told_ms = now_ms;
        }
        is_due
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
