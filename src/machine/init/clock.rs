//! Keeping the clock: a child asks time servers, PID 1 sets or slews.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::Init;
use super::errand::Errand;
use crate::machine::source::dmi::{self, service_by_dmi};
use crate::machine::source::{Dmi, Service};
use crate::machine::time::clock::{self, Correction, Pace};
use crate::machine::time::hardware;
use crate::machine::time::query::{Offset, SERVERS_MAX};

/// How long a child may ask.
const ASKING_MS: u64 = 10_000;

/// How far the machine is with its clock.
#[derive(Debug, Default)]
pub(super) struct Timekeeping {
    child: Option<Errand>,
    next_ms: u64,
    pace: Pace,
    /// The clock was surely wrong, and was set to a guess.
    is_guessed: bool,
    /// Those that the configuration names.
    servers: Vec<String>,
    /// The newest record of the store.
    pub newest_ms: Option<u64>,
    /// Who was last agreed with, for the console.
    pub agreed: Option<String>,
    /// The last complaint, which is not repeated.
    complained: String,
}

impl Init {
    /// A time that is over for sure. The store's newest record is none: its time is as good as the
    /// clock that it was written by, and time servers must be able to correct that.
    fn floor_ms(&self) -> u64 {
        clock::build_ms()
    }

    /// The clock is not known to be wrong.
    pub(super) fn clock_is_sane(&self) -> bool {
        clock::is_sane(clock::now_ns(), self.floor_ms())
    }

    /// The clock was surely wrong, and nobody has said yet what it should be. What would be decided
    /// by it is left.
    pub(super) fn clock_is_wrong(&self) -> bool {
        !self.clock_is_sane() || self.time.is_guessed
    }

    /// What the clock goes by, for people.
    pub(super) fn clock_said(&self) -> String {
        if self.clock_is_wrong() {
            return "known to be wrong: no time server has answered".to_owned();
        }
        match &self.time.agreed {
            Some(agreed) => format!("as {agreed}"),
            None => "as it is: no time server is known or has answered".to_owned(),
        }
    }

    /// A clock without a battery begins at some day long past, and one that was set by mistake may
    /// show one of the far future: then the newest record is a better guess.
    pub(super) fn guess_time(&mut self) {
        if !self.rules || !self.clock_is_wrong() {
            return;
        }
        let is_sane = self.clock_is_sane();
        let is_before = |ms: u64| clock::now_ns() / 1_000_000 < ms.cast_signed();
        let is_over = is_before(self.floor_ms());
        let guess_ms = clock::guess_ms(self.time.newest_ms);
        let was_told = std::mem::replace(&mut self.time.is_guessed, true);
        // A guess that was made before goes on.
        if is_sane && !is_before(guess_ms) {
            return;
        }
        if let Err(error) = clock::set_to_guess(guess_ms) {
            return self.say(&format!("cannot set the clock: {error}"));
        }
        match (was_told, is_over) {
            (true, _) => {}
            (false, true) => self.say("the clock showed a time that is over: it is set forward"),
            (false, false) => self.say("the clock showed a time that cannot be: it is set back"),
        }
    }

    /// Those that the configuration names.
    pub(super) fn set_time_servers(&mut self, servers: &[String]) {
        if self.time.servers != servers {
            self.time.servers = servers.to_vec();
            // Whatever others have said is asked of these.
            self.time.next_ms = 0;
        }
    }

    /// A turn of timekeeping.
    pub(super) fn keep_time(&mut self, now_ms: u64) {
        if let Some(child) = &mut self.time.child {
            let Some(offset) = child.turn(now_ms) else {
                return;
            };
            self.time.child = None;
            let pause = self.correct(offset);
            self.time.next_ms = now_ms + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 2);
            return;
        }
        if !self.rules || now_ms < self.time.next_ms {
            return;
        }
        // The hypervisor's own clock, where it shows it, is nearer than any server but those that
        // somebody has named.
        if self.time.servers.is_empty()
            && let Some(offset) = hardware::host_offset()
        {
            let pause = self.correct(Ok(offset));
            self.time.next_ms = now_ms + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 2);
            return;
        }
        let servers = self.time_servers();
        if servers.is_empty() {
            self.time.next_ms = now_ms + ASKING_MS;
            return;
        }
        let floor = self.floor_ms().to_string();
        let mut words = vec!["time", &floor];
        words.extend(servers.iter().map(String::as_str));
        match Errand::start(&words, Vec::new(), now_ms + ASKING_MS) {
            Ok(child) => self.time.child = Some(child),
            Err(error) => {
                self.time.next_ms = now_ms + ASKING_MS;
                self.say(&format!("cannot ask for the time: {error}"));
            }
        }
    }

    /// The child to wait for.
    pub(super) fn time_child(&self) -> Option<&Errand> {
        self.time.child.as_ref()
    }

    /// What the configuration says, else what the network does, else what the provider is known to
    /// have. There are no others: a public server that is built in would be asked by machines whose
    /// owners have never heard of it.
    fn time_servers(&self) -> Vec<String> {
        if !self.time.servers.is_empty() {
            return self.time.servers.clone();
        }
        let mut servers = self
            .network
            .as_ref()
            .map(|network| network.time_servers())
            .unwrap_or_default();
        if servers.is_empty() {
            let service = service_by_dmi(&Dmi::read(Path::new(dmi::FOLDER)));
            servers.extend(service.and_then(Service::time_server));
        }
        servers.truncate(SERVERS_MAX);
        servers.iter().map(IpAddr::to_string).collect()
    }

    fn correct(&mut self, offset: Result<Offset, String>) -> Duration {
        let offset = match offset {
            Ok(offset) => offset,
            Err(why) => {
                self.complain(&why);
                return self.time.pace.after_failure(!self.clock_is_wrong());
            }
        };
        let is_serving = self.server.is_some();
        let correction = clock::correct(&offset, clock::now_ns(), self.floor_ms(), is_serving);
        if let Err(error) = clock::apply(&correction) {
            self.complain(&format!("cannot set the clock: {error}"));
            return self.time.pace.after_failure(!self.clock_is_wrong());
        }
        match correction {
            Correction::Refused(why) => {
                self.complain(&why);
                return self.time.pace.after_failure(!self.clock_is_wrong());
            }
            Correction::Step { said, .. } => {
                said.iter().for_each(|said| self.say(said));
                // The next start begins with a better clock.
                if let Err(error) = hardware::set_rtc() {
                    self.complain(&format!("cannot set the hardware's clock: {error}"));
                }
            }
            Correction::Nothing | Correction::Slew { .. } => {}
        }
        self.time.complained.clear();
        let agreed = offset.server.map(|server| server.to_string());
        self.time.agreed = Some(agreed.unwrap_or_else(|| "the host".to_owned()));
        self.time.is_guessed = false;
        self.tell_status();
        self.time.pace.after_reply()
    }

    fn complain(&mut self, why: &str) {
        if self.time.complained != why {
            why.clone_into(&mut self.time.complained);
            self.say(why);
        }
    }
}
