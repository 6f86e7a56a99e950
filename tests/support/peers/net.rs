//! The network of one test: a switch, and places that are plugged into it.

use std::cell::Cell;
use std::sync::Arc;

use nix::unistd::Uid;

use super::namespace::Namespace;
use super::place::{self, Place};
use crate::support::python;

/// The DNS server's number in the network.
pub const DNS_NUMBER: u8 = 53;

/// A switch in a namespace of its own. It is everybody's way to the rest of the world too, which
/// is not there: what is sent there is counted, and lost.
pub struct Net {
    switch: Arc<Namespace>,
    next: Cell<u8>,
}

impl Net {
    /// Runs a test on a fresh network, or says why that cannot be done here. With `CI=true` it
    /// must be possible.
    pub fn run(test: impl FnOnce(&Net)) {
        match Net::new() {
            Ok(net) => test(&net),
            Err(why) => {
                let must = std::env::var("CI").is_ok_and(|value| value == "true");
                assert!(!must, "{why}");
                eprintln!("SKIPPED: {why}");
            }
        }
    }

    fn new() -> Result<Net, String> {
        if let Some(why) = obstacle() {
            return Err(why);
        }
        let refused = |why: &dyn std::fmt::Display| format!("no network can be made here: {why}");
        let switch = Namespace::new().map_err(|error| refused(&error))?;
        for words in [
            "link add switch type bridge forward_delay 0 mcast_snooping 0",
            "addr add 192.0.2.254/24 dev switch",
            "addr add 2001:db8::fe/64 dev switch nodad",
            "link set switch up",
            // Whether there can be cables.
            "link add one type veth peer name other",
            "link del one",
        ] {
            switch.try_ip(words).map_err(|said| refused(&said))?;
        }
        if let Err(said) = place::can_fence() {
            return Err(refused(&said));
        }
        place::sweep();
        let switch = Arc::new(switch);
        let next = Cell::new(1);
        Ok(Net { switch, next })
    }

    /// A place with addresses that no other in this network has.
    #[track_caller]
    pub fn place(&self, name: &str) -> Place {
        let number = self.next.get();
        assert!(number < DNS_NUMBER, "so many places are not needed");
        self.next.set(number + 1);
        Place::new(name, number, Arc::clone(&self.switch))
    }

    /// The place that every other one asks for names.
    pub fn dns_place(&self) -> Place {
        Place::new("dns", DNS_NUMBER, Arc::clone(&self.switch))
    }

    /// What `/proc/PID/ns/net` links to for whoever runs in the switch.
    pub fn identity(&self) -> String {
        self.switch.identity()
    }
}

/// Why there can be no such test here.
fn obstacle() -> Option<String> {
    if !Uid::current().is_root() {
        return Some("only root can have network namespaces".to_owned());
    }
    let missing = |what: &str| Some(format!("{what} is missing; ./dev test installs it"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| {
        let mut folders = std::env::split_paths(&paths);
        folders.any(|folder| folder.join(program).exists())
    };
    let programs = "ip setpriv nsenter unshare knotd knotc prosody prosodyctl erl getent";
    let absent = programs.split(' ').find(|program| !is_there(program));
    if let Some(program) = absent {
        return missing(program);
    }
    if super::ejabberd::library().is_none() {
        return missing("ejabberd");
    }
    if python::interpreter().is_none() {
        return missing("a Python with slixmpp");
    }
    None
}
