//! The network as PID 1 drives it.

use std::fs;

use super::Init;
use super::reach::Reach;
use crate::machine::net::RESOLVERS;
use crate::machine::net::network::{Event, Network};
use crate::machine::plan::Plan;

impl Init {
    /// Brings up the network that is wanted, or changes it. One that runs instead of it goes on
    /// while the same one is wanted.
    pub(super) fn start_network(&mut self, plan: Plan) {
        if self.network.is_some() && *self.reach.wanted() == plan {
            return;
        }
        if !self.rules {
            self.reach = Reach::of(plan);
            return;
        }
        if let Some(hostname) = &plan.hostname
            && let Err(error) = nix::unistd::sethostname(hostname)
        {
            self.say(&format!("cannot set the host name: {error}"));
        }
        self.reach = Reach::of(plan.clone());
        self.bring_up(plan);
    }

    pub(super) fn bring_up(&mut self, plan: Plan) {
        // The old one lets go of its sockets first, and of what it has put in place.
        if let Some(mut old) = self.network.take() {
            old.clear();
        }
        let now_ms = self.now_ms();
        match Network::new(plan, now_ms) {
            Ok(network) => self.network = Some(network),
            Err(error) => self.say(&format!("cannot bring the network up: {error}")),
        }
    }

    /// A turn of the network.
    pub(super) fn turn_network(&mut self, now_ms: u64) {
        let Some(network) = &mut self.network else {
            return;
        };
        for event in network.turn(now_ms) {
            match event {
                Event::Address {
                    interface,
                    prefix,
                    from,
                } => self.say(&format!(
                    "{interface} has {}/{} ({from})",
                    prefix.address, prefix.bits
                )),
                Event::Lost { interface } => self.say(&format!("{interface} has lost its address")),
                Event::Servers => self.write_resolvers(),
                Event::Trouble(why) => self.say(&why),
            }
        }
    }

    fn write_resolvers(&mut self) {
        let Some(network) = &self.network else {
            return;
        };
        let text: String = network
            .resolvers()
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        // The server may read it at any moment: it sees the old ones or the new ones.
        let new = format!("{RESOLVERS}.new");
        let written = fs::create_dir_all("/run/cairn")
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, RESOLVERS));
        if let Err(error) = written {
            self.say(&format!("cannot write down the name servers: {error}"));
        }
    }

    /// The machine's addresses, for the console.
    pub(super) fn addresses(&self) -> Vec<String> {
        let Some(network) = &self.network else {
            return Vec::new();
        };
        network
            .addresses()
            .into_iter()
            .map(|(interface, prefix)| format!("{} ({interface})", prefix.address))
            .collect()
    }
}
