//! One turn of PID 1: waits, then looks at everything that may have happened.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Init;
use super::errand::Errand;
use crate::machine::health::Verdict;
use crate::machine::net::network::Network;
use crate::machine::power::End;

/// The screen is drawn this often, and nothing waits longer.
const TURN_MS: u64 = 1_000;

impl Init {
    /// Waits for something to happen, for a second at most, and deals with it.
    pub(super) fn turn(&mut self) {
        self.wait();
        let now_ms = self.now_ms();
        self.hear_signals();
        if self.buttons.pressed() {
            self.say("the power button was pressed");
            self.by_hand = true;
            self.end(End::PowerOff);
        }
        self.hear_server(now_ms);
        self.take_upload();
        self.turn_network(now_ms);
        self.search(now_ms);
        self.judge_network(now_ms);
        self.keep_time(now_ms);
        self.look_after_server(now_ms);
        self.look_for_data(now_ms);
        self.judge(now_ms);
        self.ping(now_ms);
        if let Some((how, until_ms)) = self.ending
            && (self.server.is_none() || now_ms >= until_ms)
        {
            self.finish(how);
        }
        let page = self.page();
        self.console.draw(&page);
    }

    fn wait(&self) {
        let now_ms = self.now_ms();
        let mut until_ms = now_ms + TURN_MS;
        if let Some(at_ms) = self.restart_ms {
            until_ms = until_ms.min(at_ms);
        }
        if let Some(network) = &self.network {
            until_ms = until_ms.min(network.wake_ms().unwrap_or(u64::MAX));
        }
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd()];
        fds.extend(self.search_child().map(Errand::fd));
        fds.extend(self.reach.child().map(Errand::fd));
        fds.extend(self.time_child().map(Errand::fd));
        fds.extend(self.network.iter().flat_map(Network::fds));
        fds.extend(self.buttons.files().iter().map(AsFd::as_fd));
        if let Some(server) = &self.server {
            fds.extend(server.fds(self.upgrade.is_some()));
        }
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let wait_ms = u16::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(u16::MAX);
        // Whatever it says, everything is looked at.
        let _ = poll(&mut fds, PollTimeout::from(wait_ms));
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok())
            {
                Some(Signal::SIGINT) => {
                    self.say("Ctrl-Alt-Del was pressed");
                    self.by_hand = true;
                    self.end(End::Reboot);
                }
                Some(Signal::SIGTERM) => self.end(End::PowerOff),
                _ => {}
            }
        }
    }

    /// The server has ended, or it is time to start it again. Children of children, if there ever
    /// are any, end here too.
    fn look_after_server(&mut self, now_ms: u64) {
        if let Some(server) = &mut self.server
            && let Some(how) = server.ended()
        {
            let lines = server.log_lines(true);
            let pid = server.pid();
            self.server = None;
            lines.iter().for_each(|line| self.say(line));
            self.say(&format!("the server (process {pid}) has ended: {how}"));
            self.server_died(now_ms);
        }
        // Only PID 1 inherits orphans.
        let is_alone = self.rules
            && self.server.is_none()
            && self.search_child().is_none()
            && self.reach.child().is_none()
            && self.time_child().is_none();
        if is_alone {
            // Nothing that is waited for runs: whatever ends now is an orphan.
            while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                if status == WaitStatus::StillAlive {
                    break;
                }
            }
        }
        let is_due = self.restart_ms.is_some_and(|at_ms| now_ms >= at_ms);
        if is_due && self.ending.is_none() {
            self.start_server();
        }
    }

    fn judge(&mut self, now_ms: u64) {
        if self.ending.is_some() {
            return;
        }
        // A disk that is missing is missing for the other slot too. The boot state is read only while
        // it matters.
        let can_go_back = !self.health.is_confirmed() && self.data.is_some() && self.can_go_back();
        match self.health.judge(now_ms, self.clock_is_sane(), can_go_back) {
            Verdict::Wait => {}
            Verdict::Confirm => self.confirm(),
            Verdict::Kill => {
                self.say("the server does not answer: it is started again");
                if let Some(server) = &mut self.server {
                    server.kill();
                }
                self.health.server_ended();
            }
            Verdict::GiveUp => self.give_up("the system does not prove itself"),
        }
    }

    fn ping(&mut self, now_ms: u64) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if now_ms.saturating_sub(self.pinged_ms) < watchdog.interval_ms() {
            return;
        }
        self.pinged_ms = now_ms;
        if let Err(error) = watchdog.ping() {
            self.watchdog = None;
            self.say(&format!("the watchdog takes nothing any more: {error}"));
        }
    }
}
