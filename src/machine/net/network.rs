//! The network: brings about what a plan says, and keeps it so.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ring::rand::{SecureRandom, SystemRandom};

use super::dhcp4::{Action, Client, Lease};
use super::ipv6::Ipv6;
use super::netlink::{Lifetimes, Link, Netlink};
use super::packet::PacketSocket;
use crate::machine::plan::{InterfacePlan, Plan, Prefix, Route};
use crate::machine::source::value::contains;

/// How often interfaces are looked for that were not there yet.
const LOOK_EVERY_MS: u64 = 1_000;
/// Name servers and time servers that are used.
const SERVERS_MAX: usize = 8;
/// Payloads that are read in a turn.
const PAYLOADS_A_TURN: usize = 16;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface has an address.
    Address {
        /// Its name.
        interface: String,
        /// The address.
        prefix: Prefix,
        /// Where it is from, for people.
        from: &'static str,
    },
    /// An interface has lost the address that was lent to it.
    Lost {
        /// Its name.
        interface: String,
    },
    /// Name servers or time servers are others now.
    Servers,
    /// Something does not work: a sentence.
    Trouble(String),
}

/// Whether the network works, as far as that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Somebody has lent or advertised an address, a gateway or somebody else of the plan's own
    /// network has answered, or there is nothing to go by: addresses without a gateway.
    Works,
    /// Nothing has come of it yet.
    Silence,
    /// No interface that it is about is plugged in.
    Unplugged,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    netlink: Netlink,
    plan: Plan,
    interfaces: Vec<Interface>,
    look_ms: u64,
    /// The addresses of all interfaces as the kernel has told last.
    seen: Vec<(String, Prefix)>,
    evidence: Evidence,
}

#[derive(Debug)]
struct Interface {
    index: u32,
    name: String,
    dhcp: Option<(Client, PacketSocket)>,
    /// What DHCP has put there.
    held: Option<Lease>,
    ipv6: Ipv6,
    /// Its plan names no interface.
    by_turn: bool,
    /// What the plan has put there.
    addresses: Vec<Prefix>,
    routes: Vec<Route>,
}

impl Network {
    /// Switches the loopback on, and every interface that is there.
    pub fn new(plan: Plan, now_ms: u64) -> io::Result<Network> {
        let mut network = Network {
            netlink: Netlink::open()?,
            plan,
            interfaces: Vec::new(),
            look_ms: now_ms,
            seen: Vec::new(),
            evidence: Evidence::Unplugged,
        };
        for link in network.netlink.links()? {
            if link.is_loopback {
                network.netlink.set_up(link.index, None)?;
            }
        }
        Ok(network)
    }

    /// Takes away what was put there, so that another plan begins with nothing.
    pub fn clear(&mut self) {
        for interface in std::mem::take(&mut self.interfaces) {
            if let Some(lease) = &interface.held {
                self.undo(interface.index, lease);
            }
            // What is gone already needs no taking away.
            for route in &interface.routes {
                drop(self.netlink.set_route(interface.index, route, false));
            }
            for prefix in &interface.addresses {
                drop(
                    self.netlink
                        .set_address(interface.index, *prefix, None, false),
                );
            }
        }
    }

    /// To wait on.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = Vec::new();
        for interface in &self.interfaces {
            fds.extend(interface.dhcp.as_ref().map(|(_, socket)| socket.fd()));
            fds.extend(interface.ipv6.fds());
        }
        fds
    }

    /// When [`turn`](Network::turn) is to be called at the latest.
    pub fn wake_ms(&self) -> Option<u64> {
        let dhcp = self.interfaces.iter().filter_map(|one| one.dhcp.as_ref());
        let ipv6 = self.interfaces.iter().filter_map(|one| one.ipv6.wake_ms());
        dhcp.map(|(client, _)| client.wake_ms())
            .chain(ipv6)
            .chain([self.look_ms])
            .min()
    }

    /// Does what is due.
    pub fn turn(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        if now_ms >= self.look_ms {
            self.look_ms = now_ms + LOOK_EVERY_MS;
            self.look(now_ms, &mut events);
        }
        for at in 0..self.interfaces.len() {
            for action in self.interfaces[at].actions(now_ms) {
                self.act(at, action, &mut events);
            }
            let ipv6 = &mut self.interfaces[at].ipv6;
            if ipv6.turn(&mut self.netlink, now_ms, &mut events) {
                self.look_ms = 0;
            }
        }
        events
    }

    /// Addresses of all interfaces but link-local ones, as of the last second.
    pub fn addresses(&self) -> Vec<(String, Prefix)> {
        self.seen.clone()
    }

    /// As of the last second. What has worked once counts as working from then on.
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// Name servers: those of the plan first, then those of DHCP, then those of routers.
    pub fn resolvers(&self) -> Vec<IpAddr> {
        let lent = self.leases().flat_map(|lease| lease.resolvers.clone());
        let heard = self.interfaces.iter().flat_map(|one| one.ipv6.resolvers());
        few(self.plan.resolvers.iter().copied().chain(lent).chain(heard))
    }

    /// Time servers: those of the plan first, then those of DHCP.
    pub fn time_servers(&self) -> Vec<IpAddr> {
        let lent = self.leases().flat_map(|lease| lease.time_servers.clone());
        let heard = self
            .interfaces
            .iter()
            .flat_map(|one| one.ipv6.time_servers());
        few(self
            .plan
            .time_servers
            .iter()
            .copied()
            .chain(lent)
            .chain(heard))
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.interfaces.iter().filter_map(|one| one.held.as_ref())
    }

    /// Takes interfaces that are new, and asks the kernel for addresses.
    fn look(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let links = match self.netlink.links() {
            Ok(links) => links,
            Err(error) => {
                events.push(Event::Trouble(format!("cannot list interfaces: {error}")));
                return;
            }
        };
        self.interfaces
            .retain(|one| links.iter().any(|link| link.index == one.index));
        for link in &links {
            let is_known = self.interfaces.iter().any(|one| one.index == link.index);
            if link.is_loopback || is_known {
                continue;
            }
            if let Some(plan) = self.plan_of(link) {
                let interface = self.take(link, &plan, now_ms, events);
                self.interfaces.push(interface);
                events.push(Event::Servers);
            }
        }
        self.weigh(&links);
        if let Ok(found) = self.netlink.addresses() {
            self.seen = found
                .into_iter()
                .filter_map(|(index, prefix)| {
                    let link = links.iter().find(|link| link.index == index)?;
                    Some((link.name.clone(), prefix))
                })
                .collect();
        }
    }

    /// Looks for signs that the network works, and has the kernel ask for gateways that have given
    /// none.
    fn weigh(&mut self, links: &[Link]) {
        if self.evidence == Evidence::Works {
            return;
        }
        let is_plugged = |one: &&Interface| {
            let mut of_it = links.iter().filter(|link| link.index == one.index);
            of_it.any(|link| link.is_running)
        };
        let plugged: Vec<&Interface> = self.interfaces.iter().filter(is_plugged).collect();
        self.evidence = match plugged.is_empty() {
            true => Evidence::Unplugged,
            false => Evidence::Silence,
        };
        let gateways: Vec<(u32, IpAddr)> = plugged
            .iter()
            .flat_map(|one| {
                one.routes
                    .iter()
                    .filter_map(|route| Some((one.index, route.via?)))
            })
            .collect();
        let has_none_to_ask =
            gateways.is_empty() && plugged.iter().any(|one| !one.addresses.is_empty());
        let is_given = |one: &&Interface| {
            let is_own = |prefix: &Prefix| one.addresses.contains(prefix);
            let mut seen = self.seen.iter().filter(|(name, _)| *name == one.name);
            one.held.is_some() || seen.any(|(_, prefix)| !is_own(prefix))
        };
        if has_none_to_ask || plugged.iter().any(is_given) {
            self.evidence = Evidence::Works;
            return;
        }
        if gateways.is_empty() {
            return;
        }
        // Somebody else on the link will do: without its gateway too the machine serves them.
        let is_near = |(index, address): &(u32, IpAddr)| {
            let mut there = plugged.iter().filter(|one| one.index == *index);
            there.any(|one| {
                one.addresses
                    .iter()
                    .any(|prefix| contains(prefix, *address))
            })
        };
        let known = self.netlink.neighbours().unwrap_or_default();
        if known
            .iter()
            .any(|one| gateways.contains(one) || is_near(one))
        {
            self.evidence = Evidence::Works;
            return;
        }
        for (index, gateway) in gateways {
            // One that cannot be asked has not answered.
            drop(self.netlink.ask_for_neighbour(index, gateway));
        }
    }

    /// By hardware address, by name, else the first entry that names neither and is not taken yet.
    fn plan_of(&self, link: &Link) -> Option<InterfacePlan> {
        let plans = &self.plan.interfaces;
        if plans.is_empty() {
            return link.mac.is_some().then(InterfacePlan::default);
        }
        let named = plans.iter().find(|plan| {
            (plan.mac.is_some() && plan.mac == link.mac)
                || (plan.mac.is_none() && plan.name.as_deref() == Some(&link.name))
        });
        let open = || {
            let mut open = plans
                .iter()
                .filter(|plan| plan.mac.is_none() && plan.name.is_none());
            let taken = self.interfaces.iter().filter(|one| one.by_turn);
            open.nth(taken.count())
        };
        named.or_else(open).cloned()
    }

    fn take(
        &mut self,
        link: &Link,
        plan: &InterfacePlan,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Interface {
        let mut trouble = |what: &str, error: &io::Error| {
            events.push(Event::Trouble(format!("{}: {what}: {error}", link.name)));
        };
        // A kernel without IPv6 has nothing to follow.
        let mut has_ipv6 = true;
        match follow_advertisements(&link.name, plan.accept_ra) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => has_ipv6 = false,
            Err(error) => trouble("cannot say how to follow routers", &error),
        }
        if let Err(error) = self.netlink.set_up(link.index, plan.mtu) {
            trouble("cannot be switched on", &error);
        }
        for prefix in &plan.addresses {
            match self.netlink.set_address(link.index, *prefix, None, true) {
                Ok(()) => {}
                Err(error) => trouble(&format!("cannot have {}", prefix.address), &error),
            }
        }
        for route in &plan.routes {
            if let Err(error) = self.netlink.set_route(link.index, route, true) {
                trouble(&format!("no route to {}", route.to.address), &error);
            }
        }
        let mut dhcp = None;
        if let (true, Some(mac)) = (plan.dhcp4, link.mac) {
            match PacketSocket::open(link.index) {
                Ok(socket) => {
                    let hostname = self.plan.hostname.clone();
                    dhcp = Some((Client::new(mac, hostname, random(), now_ms), socket));
                }
                Err(error) => trouble("cannot ask DHCP", &error),
            }
        }
        events.extend(plan.addresses.iter().map(|prefix| Event::Address {
            interface: link.name.clone(),
            prefix: *prefix,
            from: "configuration",
        }));
        let mut ipv6 = Ipv6::new(link);
        if has_ipv6 {
            ipv6.begin(plan, now_ms, events);
        }
        Interface {
            index: link.index,
            name: link.name.clone(),
            dhcp,
            held: None,
            ipv6,
            by_turn: plan.mac.is_none() && plan.name.is_none(),
            addresses: plan.addresses.clone(),
            routes: plan.routes.clone(),
        }
    }

    fn act(&mut self, at: usize, action: Action, events: &mut Vec<Event>) {
        let interface = &mut self.interfaces[at];
        match action {
            Action::Send(payload) => {
                // A link that is down takes nothing; DHCP tries again by itself.
                if let Some((_, socket)) = &interface.dhcp {
                    drop(socket.send(&payload));
                }
            }
            Action::Hold(lease) => {
                let old = interface.held.replace(*lease.clone());
                let is_new = old.as_ref().map(|old| old.prefix) != Some(lease.prefix);
                let (index, name) = (interface.index, interface.name.clone());
                if let Some(old) = old.filter(|old| old.prefix != lease.prefix) {
                    self.undo(index, &old);
                }
                if let Err(error) = self.put(index, &lease) {
                    events.push(Event::Trouble(format!("{name}: {error}")));
                }
                if is_new {
                    events.push(Event::Address {
                        interface: name,
                        prefix: lease.prefix,
                        from: "DHCP",
                    });
                }
                events.push(Event::Servers);
                self.look_ms = 0;
            }
            Action::Lose => {
                if let Some(old) = interface.held.take() {
                    let (index, interface) = (interface.index, interface.name.clone());
                    self.undo(index, &old);
                    events.push(Event::Lost { interface });
                    events.push(Event::Servers);
                }
            }
        }
    }

    /// The address does not outlive the lease, even if PID 1 should not come to take it away.
    fn put(&mut self, index: u32, lease: &Lease) -> Result<(), String> {
        let told = |what: &str, error: io::Error| format!("{what}: {error}");
        if lease.mtu.is_some() {
            self.netlink
                .set_up(index, lease.mtu)
                .map_err(|error| told("cannot change the MTU", error))?;
        }
        let seconds = lease.seconds.saturating_add(30);
        let lifetimes = Lifetimes {
            preferred_s: seconds,
            valid_s: seconds,
        };
        self.netlink
            .set_address(index, lease.prefix, Some(lifetimes), true)
            .map_err(|error| told("cannot take the address", error))?;
        for route in lease.routes.iter().filter(|route| !is_default(route)) {
            self.netlink
                .set_route(index, route, true)
                .map_err(|error| told("cannot set a route", error))?;
        }
        // Gateways that other routes lead to come first.
        for route in lease.routes.iter().filter(|route| is_default(route)) {
            self.netlink
                .set_route(index, route, true)
                .map_err(|error| told("cannot set the default route", error))?;
        }
        Ok(())
    }

    fn undo(&mut self, index: u32, lease: &Lease) {
        // What is gone already needs no taking away.
        for route in &lease.routes {
            drop(self.netlink.set_route(index, route, false));
        }
        drop(self.netlink.set_address(index, lease.prefix, None, false));
    }
}

impl Interface {
    fn actions(&mut self, now_ms: u64) -> Vec<Action> {
        let Some((client, socket)) = &mut self.dhcp else {
            return Vec::new();
        };
        let mut actions = client.turn(now_ms);
        for _ in 0..PAYLOADS_A_TURN {
            let Some(payload) = socket.receive() else {
                break;
            };
            actions.extend(client.receive(&payload, now_ms));
        }
        actions
    }
}

/// The first ones, each once.
fn few(servers: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut few = Vec::new();
    for server in servers {
        if few.len() < SERVERS_MAX && !few.contains(&server) {
            few.push(server);
        }
    }
    few
}

fn is_default(route: &Route) -> bool {
    route.to.bits == 0
}

/// The kernel takes addresses and routes from routers by itself.
fn follow_advertisements(name: &str, follow: bool) -> io::Result<()> {
    let value = if follow { "2" } else { "0" };
    for setting in ["accept_ra", "autoconf"] {
        let value = if setting == "autoconf" && follow {
            "1"
        } else {
            value
        };
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{setting}"), value)?;
    }
    Ok(())
}

pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    // Only a matter of not meeting others: without randomness any number will do.
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
