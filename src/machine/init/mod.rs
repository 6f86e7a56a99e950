//! PID 1: one thread that waits for whatever happens and does what follows.
//!
//! A panic here ends PID 1, which ends the kernel, which starts the machine again: an attempt of
//! this slot is spent, and after three the other one runs. So nothing that comes from outside may
//! cause one; what can fail is told on the console and tried again or left.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::boot_state::{self, BootState};
use super::console::Console;
use super::crash;
use super::disk::Disk;
use super::health::Health;
use super::layout::{Partition, SystemDisk};
use super::link::{Configured, Figures, Start, ToServer};
use super::listeners::Listeners;
use super::mount;
use super::net::network::Network;
use super::power::{self, Buttons, End};
use super::release::{LogFormats, Release, Version};
use super::slot::Boot;
use super::source::Found;
use super::status::MachineStatus;
use super::supervise::{self, Deaths};
use super::upgrade::Upgrade;
use super::watchdog::Watchdog;

#[cfg(test)]
mod attacker_tests;
mod child;
mod clock;
mod data;
mod ends;
mod errand;
mod formats;
#[cfg(test)]
mod hostile_tests;
mod net;
mod page;
mod reach;
mod sources;
mod told;
mod turn;

use child::{Program, Server};
use clock::Timekeeping;
use data::Awaited;
use reach::Reach;
use sources::Search;

/// Where the boot state keeps the highest floor of releases that have proved themselves.
const FLOOR: &str = "floor";
/// Where the boot state says that somebody administers the machine.
const CLAIMED: &str = "claimed";
/// The server has so long to stop.
const STOPPING_MS: u64 = 15_000;

/// Everything that PID 1 knows.
struct Init {
    since: Instant,
    boot: Boot,
    release: Release,
    disk: Option<SystemDisk>,
    boot_state: Option<File>,
    /// The device of the store; without it there is no server.
    data: Option<OwnedFd>,
    /// What it is, or what is wrong with it, for people.
    data_said: String,
    /// What lies on the data partition of the system disk in the place of a store, once looked at.
    foreign: OnceCell<Option<String>>,
    /// The disk of its own that the data are on, or to be on.
    awaited: Option<Awaited>,
    data_disk: Option<Disk>,
    /// The server stops, and starts again on another disk.
    moving: bool,
    console: Console,
    watchdog: Option<Watchdog>,
    pinged_ms: u64,
    buttons: Buttons,
    signals: SignalFd,
    program: Program,
    /// See [`Parts::rules`].
    rules: bool,
    server: Option<Server>,
    listeners: Listeners,
    deaths: Deaths,
    restart_ms: Option<u64>,
    health: Health,
    /// What the server that runs has said of its configuration.
    configured: Option<Configured>,
    /// Any server of this boot has said that.
    was_configured: bool,
    /// The server that runs has said that its store is open.
    has_opened: bool,
    /// The store holds a configuration, and somebody administers the machine.
    is_claimed: bool,
    /// Why this slot was given up, if it was.
    given_up: Option<String>,
    /// A person at the machine ended it.
    by_hand: bool,
    root_hash: String,
    /// What the server knows of the machine.
    told_status: Option<MachineStatus>,
    /// Why the server waits for a person.
    waits: Option<String>,
    figures: Figures,
    notices: BTreeMap<String, String>,
    upgrade: Option<(Upgrade, u64)>,
    search: Search,
    /// When the server hears at the latest that there is nothing.
    search_until_ms: Option<u64>,
    /// What was found so far.
    found: Option<Found>,
    time: Timekeeping,
    network: Option<Network>,
    reach: Reach,
    /// How the machine ends, and when it does at the latest.
    ending: Option<(End, u64)>,
}

/// What PID 1 works with.
struct Parts {
    cmdline: String,
    release: Release,
    disk: Option<SystemDisk>,
    console: Console,
    watchdog: Option<Watchdog>,
    buttons: Buttons,
    program: Program,
    /// The machine is its own. Where it is not, in a test, nothing outside of it is changed: not the
    /// network, not the clock; no configuration is looked for, and nothing is ended.
    rules: bool,
}

impl Parts {
    fn of_machine() -> Parts {
        // Ctrl-Alt-Del is a signal then, and not the end at once.
        let _ = nix::sys::reboot::set_cad_enabled(false);
        Parts {
            cmdline: fs::read_to_string("/proc/cmdline").unwrap_or_default(),
            release: release(),
            disk: SystemDisk::find(),
            console: Console::open(),
            watchdog: Watchdog::open(),
            buttons: Buttons::open(),
            program: Program::own(),
            rules: true,
        }
    }
}

/// Runs as PID 1, for ever.
pub fn main() -> ! {
    let since = Instant::now();
    let troubles = mount::all();
    let mut init = match Init::new(since, Parts::of_machine()) {
        Ok(init) => init,
        // Without signals or a console there is no way to go on.
        Err(error) => panic!("PID 1 cannot start: {error}"),
    };
    init.say(&format!(
        "Cairn {} starts, {}",
        init.release.version,
        init.origin()
    ));
    for trouble in troubles {
        init.say(&trouble);
    }
    for line in crash::take(Path::new(crash::FOLDER)) {
        init.say(&format!("the kernel before this one: {line}"));
    }
    init.mend_state();
    init.guess_time();
    init.open_data();
    init.run()
}

impl Init {
    fn new(since: Instant, parts: Parts) -> io::Result<Init> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let boot_state = parts.disk.as_ref().and_then(|disk| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(disk.partition(Partition::BootState))
                .ok()
        });
        Ok(Init {
            since,
            boot: Boot::parse(&parts.cmdline),
            release: parts.release,
            disk: parts.disk,
            boot_state,
            data: None,
            data_said: String::new(),
            foreign: OnceCell::new(),
            awaited: None,
            data_disk: None,
            moving: false,
            console: parts.console,
            watchdog: parts.watchdog,
            pinged_ms: 0,
            buttons: parts.buttons,
            signals,
            program: parts.program,
            rules: parts.rules,
            server: None,
            listeners: Listeners::default(),
            deaths: Deaths::default(),
            restart_ms: None,
            health: Health::default(),
            configured: None,
            was_configured: false,
            has_opened: false,
            is_claimed: false,
            given_up: None,
            by_hand: false,
            root_hash: root_hash(&parts.cmdline),
            told_status: None,
            waits: None,
            figures: Figures::default(),
            notices: BTreeMap::new(),
            upgrade: None,
            search: Search::Over,
            search_until_ms: None,
            found: None,
            time: Timekeeping::default(),
            network: None,
            reach: Reach::default(),
            ending: None,
        })
    }

    /// Milliseconds since PID 1 began.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn say(&mut self, line: &str) {
        let now_ms = self.now_ms();
        self.console.log(&format!(
            "[{:4}.{:03}] {line}",
            now_ms / 1000,
            now_ms % 1000
        ));
    }

    /// How this boot came about, for people.
    fn origin(&self) -> String {
        match (self.boot.slot, self.boot.fell_back) {
            (Some(slot), false) => format!("from slot {slot}"),
            (Some(slot), true) => {
                format!(
                    "from slot {slot}, because slot {} did not boot",
                    slot.other()
                )
            }
            (None, _) => "without a slot".to_owned(),
        }
    }

    fn start_server(&mut self) {
        // What the last one said of its store may not be true of this one's.
        self.has_opened = false;
        self.is_claimed = false;
        self.configured = None;
        self.waits = None;
        self.search = Search::Over;
        self.search_until_ms = None;
        let now_ms = self.now_ms();
        let writes = match self.data {
            Some(_) => self.may_write(),
            None => return,
        };
        if self.rules
            && let Err(error) = fs::create_dir_all("/run/cairn")
        {
            // The server is let in there only if it is there when it starts.
            self.say(&format!("there is no place for the name servers: {error}"));
        }
        let Some(data) = &self.data else {
            return;
        };
        self.restart_ms = None;
        self.listeners.server_started();
        self.deaths.started(now_ms);
        match Server::start(&self.program, data) {
            Ok(server) => {
                let start = Start {
                    release: self.release.clone(),
                    slot: self.boot.slot,
                    fell_back: self.boot.fell_back,
                    data: self.data_said.clone(),
                    on_system_disk: self.awaited.is_none(),
                    writes,
                    status: self.status(),
                };
                self.health.server_started(now_ms);
                // One that cannot hear it will be found out by its silence.
                drop(server.tell(&ToServer::Start(Box::new(start))));
                self.server = Some(server);
            }
            Err(error) => {
                self.say(&format!("cannot start the server: {error}"));
                self.server_died(now_ms);
            }
        }
    }

    fn server_died(&mut self, now_ms: u64) {
        self.told_status = None;
        self.health.server_ended();
        self.upgrade = None;
        if self.ending.is_some() {
            return;
        }
        if self.moving {
            self.moved();
            return;
        }
        match self.deaths.died(now_ms, self.health.is_confirmed()) {
            supervise::Verdict::Restart { at_ms } => self.restart_ms = Some(at_ms),
            supervise::Verdict::GiveUp if self.can_go_back() => {
                self.give_up("the server keeps dying");
            }
            supervise::Verdict::GiveUp => self.restart_ms = Some(now_ms + 30_000),
        }
    }

    /// Whether the other slot holds a system that once proved itself.
    fn can_go_back(&self) -> bool {
        let (Some(slot), Some(state)) = (self.boot.slot, self.read_state()) else {
            return false;
        };
        state.is_good(slot.other())
    }

    fn give_up(&mut self, why: &str) {
        let Some(slot) = self.boot.slot else {
            return;
        };
        self.say(&format!("{why}: going back to slot {}", slot.other()));
        self.given_up = Some(why.to_owned());
        self.change_state(|state| state.given_up(slot));
        self.end(End::Reboot);
    }

    fn read_state(&self) -> Option<BootState> {
        boot_state::read(self.boot_state.as_ref()?).ok()
    }

    /// The boot loader could not write down that it spent an attempt: what it writes to is made
    /// anew, with one attempt less.
    fn mend_state(&mut self) {
        let Some(slot) = self.boot.slot.filter(|_| !self.boot.saved) else {
            return;
        };
        self.say("the boot state was damaged: it is written anew");
        let left = self.boot.left;
        self.change_state(|state| state.spent(slot, left));
    }

    /// Somebody administers the machine: for ever, as far as this disk is concerned.
    fn note_claim(&mut self) {
        let is_noted = |state: &BootState| state.other(CLAIMED).is_some();
        if self.read_state().is_some_and(|state| !is_noted(&state)) {
            self.change_state(|mut state| {
                state.set_other(CLAIMED, "1");
                state
            });
        }
    }

    /// Rewrites the boot state; a damaged one is made anew. `false`: it is not as it should be.
    fn change_state(&mut self, change: impl FnOnce(BootState) -> BootState) -> bool {
        let Some(file) = &self.boot_state else {
            return false;
        };
        let state = boot_state::read(file).unwrap_or_default();
        let written = boot_state::write(file, &change(state));
        if let Err(error) = &written {
            self.say(&format!("cannot write the boot state: {error}"));
        }
        written.is_ok()
    }

    /// The system has proved itself.
    fn confirm(&mut self) {
        self.health.confirmed();
        let floor = self.release.floor.clone();
        let Some(slot) = self.boot.slot else {
            return;
        };
        self.change_state(|state| {
            let mut state = state.confirmed(slot);
            state.set_good(slot, true);
            let floor = highest(&floor, state.other(FLOOR));
            state.set_other(FLOOR, &floor);
            state
        });
        self.say(&format!("slot {slot} has proved itself"));
    }

    /// Ends the machine in an orderly way: the server first.
    fn end(&mut self, how: End) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some((how, self.now_ms() + STOPPING_MS));
        if let Some(server) = &self.server {
            drop(server.tell(&ToServer::Stop));
        }
    }

    /// The server is gone, or too late.
    fn finish(&mut self, how: End) -> ! {
        if let (Some(slot), false) = (self.boot.slot, self.health.is_confirmed()) {
            // An orderly stop is no failure, where a person at the machine wanted it.
            if self.by_hand && self.given_up.is_none() {
                self.change_state(|state| state.stopped(slot));
            }
        }
        if let Some(why) = self.given_up.take() {
            self.leave_last_words(&why);
        }
        self.say(match how {
            End::Reboot => "starting again",
            End::PowerOff => "switching off",
        });
        assert!(self.rules, "only PID 1 ends its machine");
        nix::unistd::sync();
        let errno = power::end(how);
        panic!("the kernel does not end the machine: {errno}");
    }
}

/// The higher one of two versions.
fn highest(floor: &str, kept: Option<&str>) -> String {
    let kept = kept.filter(|kept| Version::parse(kept) > Version::parse(floor));
    kept.unwrap_or(floor).to_owned()
}

/// The hash that everything of the root is verified against: the first long word of hex digits in
/// what sets up the device.
fn root_hash(cmdline: &str) -> String {
    cmdline
        .split(|byte: char| byte.is_whitespace() || byte == ',' || byte == '"')
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .unwrap_or_default()
        .to_owned()
}

/// What the root says it is. A root without it is one of a developer.
fn release() -> Release {
    fs::read_to_string("/etc/cairn-release")
        .ok()
        .and_then(|text| Release::parse(&text).ok())
        .unwrap_or_else(|| Release {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            floor: "0.0.0".to_owned(),
            log: LogFormats::OURS,
            keys: Vec::new(),
            kernel: String::new(),
        })
}
