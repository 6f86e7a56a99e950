//! Whether the system has proved itself, and whether the server is to be believed alive.

/// It serves for so long before its attempts are given back.
pub const PROVE_MS: u64 = 60_000;
/// A system that has not proved itself by then, and has another to go back to, gives itself up.
pub const ATTEMPT_MS: u64 = 15 * 60_000;
/// A server that says nothing for so long hangs.
pub const SILENCE_MS: u64 = 60_000;
/// Reading a store may take so long.
pub const OPENING_MS: u64 = 10 * 60_000;

/// What is known of the running system. Times are milliseconds on one clock that never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// The server that runs was started.
    started_ms: Option<u64>,
    /// It was last heard.
    heard_ms: u64,
    /// Its store is open.
    opened: bool,
    /// It does what it can since then: serves, or waits for a person to configure it.
    well_ms: Option<u64>,
    /// It waits for a person, and has nothing to say meanwhile.
    waits: bool,
    /// The attempts have been given back.
    confirmed: bool,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Wait,
    /// The system has proved itself: give its attempts back.
    Confirm,
    /// The server hangs: end it, so that it is started again.
    Kill,
    /// The system does not prove itself: the other slot's turn.
    GiveUp,
}

impl Health {
    /// A server was started.
    pub fn server_started(&mut self, now_ms: u64) {
        self.started_ms = Some(now_ms);
        self.heard_ms = now_ms;
        self.opened = false;
        self.waits = false;
        self.well_ms = None;
    }

    /// It ended.
    pub fn server_ended(&mut self) {
        self.started_ms = None;
        self.well_ms = None;
    }

    /// It said anything.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// It waits for a person, or does not any more.
    pub fn waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Its store is open.
    pub fn opened(&mut self) {
        self.opened = true;
    }

    /// It serves, or waits for configuration with its store open.
    pub fn is_well(&mut self, now_ms: u64) {
        if self.opened && self.well_ms.is_none() {
            self.well_ms = Some(now_ms);
        }
    }

    /// The attempts have been given back.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// They have.
    pub fn confirmed(&mut self) {
        self.confirmed = true;
    }

    /// What is to be done. `clock_is_sane`: the clock is not known to be wrong. `can_go_back`: the
    /// other slot holds a system that once proved itself.
    pub fn judge(&self, now_ms: u64, clock_is_sane: bool, can_go_back: bool) -> Verdict {
        let patience = if self.opened { SILENCE_MS } else { OPENING_MS };
        if self.started_ms.is_some()
            && !self.waits
            && now_ms.saturating_sub(self.heard_ms) > patience
        {
            return Verdict::Kill;
        }
        if self.confirmed {
            return Verdict::Wait;
        }
        let proved = self
            .well_ms
            .is_some_and(|well| now_ms.saturating_sub(well) >= PROVE_MS);
        if proved && clock_is_sane {
            return Verdict::Confirm;
        }
        // What waits for a person waits in the other slot too.
        if can_go_back && !self.waits && now_ms >= ATTEMPT_MS {
            return Verdict::GiveUp;
        }
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        let mut health = Health::default();
        health.server_started(0);
        health.opened();
        health.is_well(1_000);
        health
    }

    #[test]
    fn a_system_proves_itself_by_serving_for_a_minute() {
        let mut health = well();
        health.heard(61_000);
        assert_eq!(health.judge(60_999, true, true), Verdict::Wait);
        assert_eq!(health.judge(61_000, true, true), Verdict::Confirm);
        assert_eq!(health.judge(61_000, false, true), Verdict::Wait);
        health.confirmed();
        assert_eq!(health.judge(61_000, true, true), Verdict::Wait);
    }

    #[test]
    fn the_minute_begins_anew_with_the_server() {
        let mut health = well();
        health.server_ended();
        health.server_started(50_000);
        health.is_well(50_100);
        assert_eq!(
            health.judge(130_000, true, false),
            Verdict::Wait,
            "no store is open"
        );
        health.opened();
        health.is_well(50_200);
        health.heard(120_000);
        assert_eq!(health.judge(120_000, true, false), Verdict::Confirm);
    }

    #[test]
    fn a_silent_server_is_ended_and_a_slow_opening_is_not() {
        let health = well();
        assert_eq!(health.judge(SILENCE_MS + 1, true, true), Verdict::Kill);
        let mut opening = Health::default();
        opening.server_started(0);
        assert_eq!(opening.judge(SILENCE_MS + 1, true, false), Verdict::Wait);
        assert_eq!(opening.judge(OPENING_MS + 1, true, false), Verdict::Kill);
    }

    #[test]
    fn who_waits_for_a_person_may_be_silent() {
        let mut health = well();
        health.waits(true);
        assert_ne!(health.judge(10 * SILENCE_MS, true, true), Verdict::Kill);
        health.waits(false);
        assert_eq!(health.judge(10 * SILENCE_MS, true, true), Verdict::Kill);
    }

    #[test]
    fn only_who_has_somewhere_to_go_back_to_gives_up() {
        let mut health = Health::default();
        health.server_started(ATTEMPT_MS - 1);
        assert_eq!(health.judge(ATTEMPT_MS, true, true), Verdict::GiveUp);
        assert_eq!(health.judge(ATTEMPT_MS, true, false), Verdict::Wait);
    }
}
