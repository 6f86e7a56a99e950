//! Where the data are: the last partition of the system disk, or a disk of their own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use super::{CLAIMED, Init};
use crate::machine::disk::{self, Disk};
use crate::machine::layout::Partition;
use crate::machine::link::ToServer;
use crate::machine::read_at::Device;
use crate::machine::second_disk::{NOTHING, VARIABLE, Wanted, seen, store_id};

/// How often a disk that is waited for is looked for.
const LOOK_EVERY_MS: u64 = 1_000;

/// A disk that the data are to be on.
#[derive(Debug)]
pub(super) struct Awaited {
    wanted: Wanted,
    look_ms: u64,
    /// Disks that it is not, as was said.
    refused: Vec<Disk>,
}

impl Init {
    /// Opens what the boot state says the data are on.
    pub(super) fn open_data(&mut self) {
        let Some(system) = self.disk.clone() else {
            self.data_said = "the root is not on a disk of Cairn".to_owned();
            return;
        };
        let state = self.read_state();
        if let Some(said) = state.as_ref().and_then(|state| state.other(VARIABLE)) {
            let wanted = Wanted::parse(said);
            self.await_disk(wanted);
            return;
        }
        let path = system.partition(Partition::Data);
        self.grow(system.name());
        let name = path.display().to_string();
        match open_device(&path) {
            Ok(device) => {
                self.data = Some(device);
                self.data_said = name;
                self.tell_last_words();
            }
            Err(error) => {
                self.data_said = format!("cannot open {name}: {error}");
                let said = self.data_said.clone();
                self.say(&said);
            }
        }
    }

    /// A sentence of a server that could not open its store, and what lies there instead. That is
    /// looked at once: a server that says it again and again must not keep PID 1 reading.
    pub(super) fn with_what_is_there(&self, why: String) -> String {
        let (Some(system), false, None) = (&self.disk, self.has_opened, &self.awaited) else {
            return why;
        };
        let path = system.partition(Partition::Data);
        match self.foreign.get_or_init(|| foreign_at(&path)) {
            Some(what) => format!("{why}. It holds {what}, and is left alone"),
            None => why,
        }
    }

    fn await_disk(&mut self, wanted: Wanted) {
        self.awaited = Some(Awaited {
            wanted,
            look_ms: 0,
            refused: Vec::new(),
        });
        self.look_for_data(self.now_ms());
        if self.data.is_none() {
            self.data_said = format!("waiting for {}", wanted.said());
            let said = self.data_said.clone();
            self.say(&said);
        }
    }

    /// Opens the disk that is waited for, once it is there.
    pub(super) fn look_for_data(&mut self, now_ms: u64) {
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        if self.data.is_some() || now_ms < awaited.look_ms {
            return;
        }
        awaited.look_ms = now_ms + LOOK_EVERY_MS;
        let wanted = awaited.wanted;
        let Some(found) = self.second_disk(wanted) else {
            return;
        };
        let name = found.path().display().to_string();
        match open_device(&found.path()) {
            Ok(device) => {
                self.say(&format!("the data are on {name}"));
                self.data = Some(device);
                self.data_said = name;
                self.data_disk = Some(found);
                self.tell_last_words();
                self.start_server();
            }
            Err(error) => self.say(&format!("cannot open {name}: {error}")),
        }
    }

    /// The disk that it is. A store that is there goes before a blank disk, and which of several
    /// stores is meant nobody can know.
    fn second_disk(&mut self, wanted: Wanted) -> Option<Disk> {
        let fits = |disk: &Disk| {
            let device = File::open(disk.path()).and_then(Device::new).ok()?;
            let fits = wanted.is(&device).ok()?;
            let has_store = store_id(&device).ok()?.is_some();
            fits.then_some(has_store)
        };
        let mut stores = Vec::new();
        let mut blank = Vec::new();
        let mut refused = Vec::new();
        for disk in self.second_disks() {
            match fits(&disk) {
                Some(true) => stores.push(disk),
                Some(false) => blank.push(disk),
                None => refused.push(disk),
            }
        }
        if stores.is_empty() && blank.is_empty() {
            self.say_refused(refused);
        }
        match stores.len() {
            0 => blank.into_iter().next(),
            1 => stores.pop(),
            _ => {
                let said = "several disks hold a store: attach the one that is meant, alone";
                if self.data_said != said {
                    self.data_said = said.to_owned();
                    self.say(said);
                }
                None
            }
        }
    }

    /// Says of disks that are not the one that is waited for what is on them, when they are others
    /// than before.
    fn say_refused(&mut self, disks: Vec<Disk>) {
        let said = disks.iter().map(|disk| {
            let name = disk.path().display().to_string();
            let device = File::open(disk.path()).and_then(Device::new);
            match device.and_then(|device| seen(&device)) {
                Ok(what) => format!("{name} holds {what}: it is left alone"),
                Err(error) => format!("{name} cannot be read: {error}"),
            }
        });
        match &mut self.awaited {
            Some(awaited) if awaited.refused != disks => {
                let said: Vec<String> = said.collect();
                awaited.refused = disks;
                said.iter().for_each(|line| self.say(line));
            }
            _ => {}
        }
    }

    /// The disks beside the system disk.
    fn second_disks(&self) -> Vec<Disk> {
        let system = self.disk.as_ref().map(|disk| disk.name());
        let all = disk::disks().into_iter();
        all.filter(|disk| Some(disk.name()) != system).collect()
    }

    /// The configuration of a machine that nobody has claimed wants the data on a second disk. Only
    /// what is on the system disk is left for that, and only once.
    pub(super) fn move_to_second_disk(&mut self) {
        // Only as the first thing that a server says of its configuration, and never on a machine
        // that somebody once administered: whoever took the server over could hide the data so.
        let was_claimed = self
            .read_state()
            .is_none_or(|state| state.other(CLAIMED).is_some());
        if self.awaited.is_some() || self.was_configured || self.is_claimed || was_claimed {
            self.say("the server wants another disk for the data: it does not get one");
            return;
        }
        self.say("the configuration wants the data on a second disk");
        self.change_state(|mut state| {
            state.set_other(VARIABLE, &Wanted::New.text());
            state
        });
        if let Some(server) = &self.server {
            // One that does not hear it is ended when the machine ends.
            drop(server.tell(&ToServer::Stop));
        }
        self.data = None;
        self.moving = true;
    }

    /// The server has let go of the system disk.
    pub(super) fn moved(&mut self) {
        self.moving = false;
        self.await_disk(Wanted::New);
    }

    /// The server has opened its store: a new one has a name now.
    pub(super) fn note_store(&mut self) {
        let (Some(awaited), Some(disk)) = (&self.awaited, &self.data_disk) else {
            return;
        };
        if awaited.wanted != Wanted::New {
            return;
        }
        let id = File::open(disk.path())
            .and_then(Device::new)
            .and_then(|device| store_id(&device));
        match id {
            Ok(Some(id)) => {
                self.change_state(|mut state| {
                    state.set_other(VARIABLE, &Wanted::Store(id).text());
                    state
                });
            }
            Ok(None) => self.say("the second disk holds no store yet"),
            Err(error) => self.say(&format!("cannot read the second disk: {error}")),
        }
    }

    /// Spreads the data partition over the disk, where that has grown.
    fn grow(&mut self, disk: &str) {
        let Some(disk) = disk::disks().into_iter().find(|found| found.name() == disk) else {
            return;
        };
        match disk.grow() {
            Ok(None) => {}
            Ok(Some(growth)) if growth.gained_bytes > 0 => self.say(&format!(
                "the data partition has grown by {} MiB",
                growth.gained_bytes >> 20
            )),
            Ok(Some(_)) => self.say("the partition table was put in order"),
            Err(error) => self.say(&format!("the data partition stays as it is: {error}")),
        }
    }
}

/// What is there, if it is neither a store nor nothing.
fn foreign_at(path: &Path) -> Option<String> {
    let device = File::open(path).and_then(Device::new).ok()?;
    match store_id(&device).ok()? {
        Some(_) => None,
        None => seen(&device).ok().filter(|what| what != NOTHING),
    }
}

/// The device of the store, past the page cache.
fn open_device(path: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_EXCL)
        .open(path)?;
    Ok(file.into())
}
