//! What the server tells PID 1, and what PID 1 does about it.

use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::{FLOOR, Init, highest};
use crate::machine::answer::sentence;
use crate::machine::layout::Partition;
use crate::machine::link::{ToMachine, ToServer};
use crate::machine::power::End;
use crate::machine::release::Release;
use crate::machine::status::MachineStatus;
use crate::machine::upgrade::{Target, Upgrade};

/// Messages that are heard in a turn: a server that never stops talking must not keep PID 1.
const MESSAGES_A_TURN: usize = 64;
/// Notices that the console keeps.
const NOTICES_MAX: usize = 8;
/// Pieces that a socket can hold at most, and more.
const UPLOAD_PIECES_MAX: usize = 64;

impl Init {
    /// Its messages and the lines of its log.
    pub(super) fn hear_server(&mut self, now_ms: u64) {
        for _ in 0..MESSAGES_A_TURN {
            let Some(server) = &mut self.server else {
                return;
            };
            for line in server.log_lines(false) {
                self.console.log(&line);
            }
            match server.hear() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    self.health.heard(now_ms);
                    self.told(message, now_ms);
                }
                // It ends, or has ended: waiting for it tells how. One that only closed its end of
                // the line is of no use.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    server.lost_line(now_ms);
                    return;
                }
                Err(error) => {
                    server.kill();
                    self.listeners.close();
                    self.say(&format!("the server talks nonsense: {error}"));
                    return;
                }
            }
        }
    }

    fn told(&mut self, message: ToMachine, now_ms: u64) {
        match message {
            // A server that says it again may be up to something.
            ToMachine::Opened(_) if self.has_opened => {}
            ToMachine::Opened(opened) => {
                self.has_opened = true;
                self.health.opened();
                self.note_store();
                self.time.newest_ms = Some(opened.newest_ms).filter(|newest| *newest > 0);
                self.guess_time();
                self.is_claimed = opened.has_configuration;
                if self.is_claimed {
                    self.note_claim();
                } else {
                    // It waits for what is found.
                    self.health.waits(true);
                }
                self.look_for_configuration();
            }
            ToMachine::Configured(configured) => {
                self.health.waits(false);
                self.waits = None;
                self.was_configured = true;
                let mut configured = *configured;
                configured.bound();
                // Until now it did not listen.
                self.told_status = None;
                self.start_network(configured.plan.clone());
                self.set_time_servers(&configured.time_servers);
                self.configured = Some(configured);
            }
            ToMachine::SecondDisk => self.move_to_second_disk(),
            ToMachine::Waiting(why) => {
                self.told_status = None;
                // With a configuration it has no reason to.
                if self.configured.is_none() && !self.is_claimed {
                    self.health.is_well(now_ms);
                    self.health.waits(true);
                }
                // Who connects is not to wait with it.
                self.listeners.close();
                let why = self.with_what_is_there(sentence(&why));
                self.say(&why);
                self.waits = Some(why);
            }
            ToMachine::Unusable(why) => {
                let why = sentence(&why);
                self.say(&why);
                self.waits = Some(why);
            }
            ToMachine::Listen(addresses) => self.hand_sockets_over(&addresses),
            ToMachine::Serving => {
                self.health.is_well(now_ms);
                self.say("the server accepts log-ins");
            }
            ToMachine::Alive(figures) => {
                self.figures = *figures;
                self.figures.bound();
                self.tell_status();
            }
            ToMachine::Notice { name, text } => {
                let name = sentence(&name);
                if text.is_empty() {
                    self.notices.remove(&name);
                } else if self.notices.len() < NOTICES_MAX || self.notices.contains_key(&name) {
                    self.notices.insert(name, sentence(&text));
                }
            }
            ToMachine::Upgrade { bytes } => self.begin_upgrade(bytes),
            ToMachine::DropUpload => self.drop_upload(),
            ToMachine::Rollback => self.roll_back(),
            // No stop by a person's hand: a release that asks for it before it has proved itself spends
            // its attempts.
            ToMachine::Reboot => self.end(End::Reboot),
            ToMachine::PowerOff => self.end(End::PowerOff),
        }
    }

    /// The sockets that the server is to listen on.
    fn hand_sockets_over(&mut self, addresses: &[SocketAddr]) {
        let wanted = self.listeners.want(addresses);
        let mut fds = Vec::new();
        let outcome = wanted.map(|sockets| {
            let each = sockets.into_iter().map(|socket| match socket {
                Ok(socket) => {
                    fds.push(socket.as_fd());
                    Ok(())
                }
                Err(error) => Err(error.raw_os_error().unwrap_or(0)),
            });
            each.collect()
        });
        if let Some(server) = &self.server {
            // A server that has no room for the answer asks no more.
            drop(server.hand(&ToServer::Listening(outcome), &fds));
        }
    }

    fn answer(&self, outcome: Result<String, String>) {
        if let Some(server) = &self.server {
            // A server that does not hear it has other troubles.
            drop(server.tell(&ToServer::Done(outcome)));
        }
    }

    /// How the machine is, for administrators elsewhere.
    pub(super) fn tell_status(&mut self) {
        let status = self.status();
        if self.told_status.as_ref() == Some(&status) {
            return;
        }
        if let Some(server) = &self.server
            && server
                .tell(&ToServer::Status(Box::new(status.clone())))
                .is_ok()
        {
            self.told_status = Some(status);
        }
    }

    pub(super) fn status(&self) -> MachineStatus {
        let [memory_mib, memory_available_mib] = memory_mib();
        MachineStatus {
            version: self.release.version.clone(),
            slot: self
                .boot
                .slot
                .map(|slot| slot.to_string())
                .unwrap_or_default(),
            root_hash: self.root_hash.clone(),
            is_confirmed: self.health.is_confirmed(),
            memory_mib,
            memory_available_mib,
            addresses: self.addresses(),
            network: self.reach.said(),
            clock: self.clock_said(),
            clock_is_wrong: self.clock_is_wrong(),
            errors: self.console.errors().map(str::to_owned).collect(),
        }
    }

    /// The server gives up a bundle, and is told once nothing of it is left.
    fn drop_upload(&mut self) {
        if self.upgrade.take().is_some() {
            self.say("the upgrade was broken off");
        }
        let Some(server) = &mut self.server else {
            return;
        };
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..UPLOAD_PIECES_MAX {
            if !matches!(server.uploaded(&mut buffer), Ok(Some(1..))) {
                drop(server.tell(&ToServer::UploadDropped));
                return;
            }
        }
        // It does not stop sending what it wants to be dropped.
        server.kill();
    }

    fn begin_upgrade(&mut self, bytes: u64) {
        match self.target() {
            Ok(target) => {
                self.say("an upgrade comes in");
                let running = Release {
                    floor: self.floor(),
                    ..self.release.clone()
                };
                let format = self.log_format();
                self.upgrade = Some((Upgrade::new(running, format, target), bytes));
            }
            Err(why) => self.answer(Err(why)),
        }
    }

    /// The highest floor of all releases that have proved themselves here: going back by small steps
    /// leads no further than one big one.
    fn floor(&self) -> String {
        let state = self.read_state();
        let kept = state.as_ref().and_then(|state| state.other(FLOOR));
        highest(&self.release.floor, kept)
    }

    /// The slot that does not run. A system that has not proved itself must not write there: it is
    /// what the machine would go back to.
    fn target(&mut self) -> Result<Target, String> {
        let (Some(disk), Some(slot)) = (self.disk.clone(), self.boot.slot) else {
            return Err("this machine has no slots".to_owned());
        };
        if !self.health.is_confirmed() {
            return Err("the running system has not proved itself yet: try in a minute".to_owned());
        }
        let open = |partition| {
            let path = disk.partition(partition);
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| format!("cannot open {}: {error}", path.display()))
        };
        let other = slot.other();
        Ok(Target {
            slot: other,
            boot: open(Partition::Boot(other))?,
            root: open(Partition::Root(other))?,
            state: open(Partition::BootState)?,
        })
    }

    /// Takes what has come of a bundle.
    pub(super) fn take_upload(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..16 {
            let (Some(server), Some((upgrade, left))) = (&mut self.server, &mut self.upgrade)
            else {
                return;
            };
            let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let fed = match server.uploaded(&mut buffer[..most]) {
                Ok(None) => return,
                Ok(Some(len)) => {
                    *left -= len as u64;
                    let fed = upgrade.feed(&buffer[..len]);
                    if fed.is_ok() && *left > 0 && len > 0 {
                        continue;
                    }
                    fed
                }
                Err(error) => Err(format!("the bundle does not come through: {error}")),
            };
            self.end_upgrade(fed);
            return;
        }
    }

    fn end_upgrade(&mut self, fed: Result<(), String>) {
        let (Some((upgrade, _)), Some(slot)) = (self.upgrade.take(), self.boot.slot) else {
            return;
        };
        let outcome = fed.and_then(|()| upgrade.finish()).map(|manifest| {
            format!(
                "version {} is in slot {} and is tried at the next start",
                manifest.version,
                slot.other()
            )
        });
        let said = match &outcome {
            Ok(said) => said.clone(),
            Err(why) => format!("the upgrade was refused: {why}"),
        };
        self.say(&said);
        self.answer(outcome);
    }

    fn roll_back(&mut self) {
        let outcome = self.try_the_other();
        self.answer(outcome);
    }

    fn try_the_other(&mut self) -> Result<String, String> {
        let Some(running) = self.boot.slot else {
            return Err("this machine has no slots".to_owned());
        };
        let slot = running.other();
        if !self.can_go_back() {
            let why = "the other slot holds no system that has ever proved itself";
            return Err(why.to_owned());
        }
        if self.other_slot().cannot_read(self.log_format()) {
            let why = "the system in the other slot cannot read the data of this machine";
            return Err(why.to_owned());
        }
        match self.change_state(|state| state.activated(slot)) {
            true => Ok(format!("slot {slot} is tried at the next start")),
            false => Err("the boot state cannot be written".to_owned()),
        }
    }
}

/// All memory, and what of it is to be had. 0 where the kernel does not say.
fn memory_mib() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ["MemTotal:", "MemAvailable:"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        kib.map_or(0, |kib: u64| kib / 1024)
    })
}
