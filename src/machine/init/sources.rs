//! Looking for configuration: on the machine itself, then, while nobody has claimed it and once there
//! is a network, at the provider's metadata service.

use std::io;
use std::path::Path;

use super::Init;
use super::errand::Errand;
use crate::machine::disk;
use crate::machine::layout::Partition;
use crate::machine::link::ToServer;
use crate::machine::plan::Plan;
use crate::machine::source::dmi::{self, service_by_dmi};
use crate::machine::source::local::LocalFiles;
use crate::machine::source::{Dmi, Found, Service};

/// How long a child may look, or ask.
const LOOKING_MS: u64 = 20_000;
/// After this long the server hears that there is nothing, and the machine asks on.
const PATIENCE_MS: u64 = 60_000;
/// How long to wait before a service is asked again.
const AGAIN_MS: u64 = 5_000;

/// The kernel's number of the interface for link-local addresses: the first behind the loopback.
const INTERFACE: &str = "2";

/// How far the search is.
#[derive(Debug, Default)]
pub(super) enum Search {
    /// There is none: the store has a configuration, or it was found.
    #[default]
    Over,
    /// A child reads files and volumes.
    Locally(Errand),
    /// A service is to be asked, at that time at the earliest.
    Waits { service: Service, from_ms: u64 },
    /// A child asks a service.
    Asks { service: Service, child: Errand },
}

impl Init {
    /// What was found goes to the server, which takes it where nobody has claimed the machine.
    pub(super) fn look_for_configuration(&mut self) {
        if !self.rules {
            return;
        }
        let now_ms = self.now_ms();
        self.search_until_ms = Some(now_ms + PATIENCE_MS);
        self.found = None;
        match self.child_on_local_files("look", now_ms) {
            Ok(child) => self.search = Search::Locally(child),
            Err(error) => {
                self.say(&format!("cannot look for configuration: {error}"));
                self.ask_a_service();
            }
        }
    }

    /// A child that reads the sources on the machine itself.
    pub(super) fn child_on_local_files(&self, word: &str, now_ms: u64) -> io::Result<Errand> {
        let system = self.disk.as_ref().map(|disk| disk.name().to_owned());
        let system =
            system.and_then(|name| disk::disks().into_iter().find(|disk| disk.name() == name));
        let esp = self
            .disk
            .as_ref()
            .map(|disk| disk.partition(Partition::Esp));
        let files = LocalFiles::open(esp.as_deref(), &disk::volume_files(system.as_ref()));
        let (kinds, files) = files.into_parts();
        Errand::start(&[word, &kinds], files, now_ms + LOOKING_MS)
    }

    /// The child to wait for.
    pub(super) fn search_child(&self) -> Option<&Errand> {
        match &self.search {
            Search::Over | Search::Waits { .. } => None,
            Search::Locally(child) | Search::Asks { child, .. } => Some(child),
        }
    }

    /// A turn of the search.
    pub(super) fn search(&mut self, now_ms: u64) {
        if !self.is_claimed
            && self
                .search_until_ms
                .is_some_and(|until_ms| now_ms >= until_ms)
        {
            self.send_source();
        }
        match std::mem::take(&mut self.search) {
            Search::Over => {}
            Search::Locally(mut child) => match child.turn::<Option<Found>>(now_ms) {
                None => self.search = Search::Locally(child),
                Some(Ok(Some(found))) => self.found(found, None),
                Some(Ok(None)) => self.ask_a_service(),
                Some(Err(why)) => {
                    self.say(&format!("the machine's own files: {why}"));
                    self.ask_a_service();
                }
            },
            Search::Waits { service, from_ms } => {
                let has_address = self
                    .network
                    .as_ref()
                    .is_some_and(|net| !net.addresses().is_empty());
                if !has_address || now_ms < from_ms {
                    self.search = Search::Waits { service, from_ms };
                    return;
                }
                let name = serde_json::to_string(&service).unwrap_or_default();
                match Errand::start(&["ask", &name, INTERFACE], Vec::new(), now_ms + LOOKING_MS) {
                    Ok(child) => self.search = Search::Asks { service, child },
                    Err(error) => self.say(&format!("cannot ask {name}: {error}")),
                }
            }
            Search::Asks { service, mut child } => match child.turn::<Found>(now_ms) {
                None => self.search = Search::Asks { service, child },
                Some(Ok(found)) => self.found(found, Some(service)),
                Some(Err(why)) => {
                    self.say(&format!("{}: {why}", service.origin()));
                    self.try_again(service);
                }
            },
        }
    }

    /// A source has answered. What it has not, a later one may have.
    fn found(&mut self, found: Found, asked: Option<Service>) {
        for sentence in found.ignored.iter().chain(&found.notes) {
            let line = format!("{}: {sentence}", found.origin);
            self.say(&line);
        }
        let found = match self.found.take() {
            Some(earlier) => earlier.or(found),
            None => found,
        };
        let is_complete = found.config.is_some() && found.network.is_some();
        let is_for_us = found.config.is_some();
        self.found = Some(found);
        if is_complete || self.is_claimed {
            self.send_source();
        } else if asked.is_some() {
            if !is_for_us {
                // Who claims the machine reaches it by this.
                self.start_found_network();
            }
            self.send_source();
        } else {
            self.ask_a_service();
        }
    }

    fn start_found_network(&mut self) {
        let found = self.found.as_ref();
        let network = found.and_then(|found| found.network.clone());
        // One that runs is as good as what is asked where nobody says anything.
        if self.network.is_none() || network.is_some() {
            self.start_network(Plan {
                hostname: found.and_then(|found| found.hostname.clone()),
                ..network.unwrap_or_default()
            });
        }
    }

    /// The machine itself does not say everything. One that is claimed is not asked for every boot,
    /// or whoever holds the provider's account would hold the machine.
    fn ask_a_service(&mut self) {
        if self.is_claimed {
            return;
        }
        self.start_found_network();
        let dmi = Dmi::read(Path::new(dmi::FOLDER));
        let Some(service) = service_by_dmi(&dmi) else {
            return self.send_source();
        };
        let from_ms = self.now_ms();
        if self.has_configuration() {
            // Nobody waits long for the network of a service that may have none.
            self.search_until_ms = Some(from_ms + LOOKING_MS);
        }
        self.search = Search::Waits { service, from_ms };
    }

    fn has_configuration(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| found.config.is_some())
    }

    /// Services are sometimes late.
    fn try_again(&mut self, service: Service) {
        let from_ms = self.now_ms() + AGAIN_MS;
        self.search = Search::Waits { service, from_ms };
    }

    /// Where there is no configuration, how the network is reached is told all the same.
    fn send_source(&mut self) {
        self.search_until_ms = None;
        let found = self.found.clone();
        if found.as_ref().is_some_and(|found| found.config.is_some()) {
            // What a service says of the network later is not waited for.
            self.search = Search::Over;
        }
        if let Some(server) = &self.server {
            // A server that does not hear it is found out by its silence.
            drop(server.tell(&ToServer::Source(found.map(Box::new))));
        }
    }
}
