//! Looking for configuration: on the machine itself, then, while nobody has claimed it and once there
//! is a network, at the provider's metadata service.

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
        let system = self.disk.as_ref().map(|disk| disk.name().to_owned());
        let system =
            system.and_then(|name| disk::disks().into_iter().find(|disk| disk.name() == name));
        let esp = self
            .disk
            .as_ref()
            .map(|disk| disk.partition(Partition::Esp));
        self.search_until_ms = Some(self.now_ms() + PATIENCE_MS);
        self.found_network = None;
        let files = LocalFiles::open(esp.as_deref(), &disk::volume_files(system.as_ref()));
        let (kinds, files) = files.into_parts();
        let until_ms = self.now_ms() + LOOKING_MS;
        match Errand::start(&["look", &kinds], files, until_ms) {
            Ok(child) => self.search = Search::Locally(child),
            Err(error) => {
                self.say(&format!("cannot look for configuration: {error}"));
                self.ask_a_service();
            }
        }
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
            self.send_source(None);
        }
        match std::mem::take(&mut self.search) {
            Search::Over => {}
            Search::Locally(mut child) => match child.turn::<Option<Found>>(now_ms) {
                None => self.search = Search::Locally(child),
                Some(Ok(Some(found))) => self.found(Ok(found), None),
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
            Search::Asks { service, mut child } => match child.turn(now_ms) {
                None => self.search = Search::Asks { service, child },
                Some(found) => self.found(found, Some(service)),
            },
        }
    }

    fn found(&mut self, found: Result<Found, String>, asked: Option<Service>) {
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                if let Some(service) = asked {
                    self.say(&format!("{}: {why}", service.origin()));
                    self.try_again(service);
                } else {
                    self.ask_a_service();
                }
                return;
            }
        };
        for sentence in found.ignored.iter().chain(&found.notes) {
            let line = format!("{}: {sentence}", found.origin);
            self.say(&line);
        }
        if found.config.is_some() {
            self.send_source(Some(found));
            return;
        }
        if self.is_claimed {
            return;
        }
        // Not ours, but it may say how to reach the network.
        let plan = found.network.clone().unwrap_or_default();
        self.start_network(Plan {
            hostname: found.hostname.clone(),
            ..plan
        });
        self.found_network = Some(found);
        match asked {
            None => self.ask_a_service(),
            Some(_) => self.send_source(None),
        }
    }

    /// The machine itself has nothing for us. One that is claimed is not asked for every boot, or
    /// whoever holds the provider's account would hold the machine.
    fn ask_a_service(&mut self) {
        if self.is_claimed {
            return;
        }
        if self.network.is_none() {
            self.start_network(Plan::default());
        }
        let dmi = Dmi::read(Path::new(dmi::FOLDER));
        match service_by_dmi(&dmi) {
            Some(service) => {
                let from_ms = self.now_ms();
                self.search = Search::Waits { service, from_ms };
            }
            None => self.send_source(None),
        }
    }

    /// Services are sometimes late.
    fn try_again(&mut self, service: Service) {
        let from_ms = self.now_ms() + AGAIN_MS;
        self.search = Search::Waits { service, from_ms };
    }

    /// Where there is no configuration, how the network is reached is told all the same.
    fn send_source(&mut self, found: Option<Found>) {
        self.search_until_ms = None;
        let found = found.or_else(|| self.found_network.take());
        if let Some(server) = &self.server {
            // A server that does not hear it is found out by its silence.
            drop(server.tell(&ToServer::Source(found.map(Box::new))));
        }
    }
}
