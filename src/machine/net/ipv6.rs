//! What an interface hears from routers, and DHCPv6 where they or the plan want it.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::advertised::Advertised;
use super::dhcp6::{Action, Client, Lease, Lent, Wanted};
use super::icmp6::IcmpSocket;
use super::netlink::{Lifetimes, Link, Netlink};
use super::network::{Event, random};
use super::udp6::ClientSocket;
use crate::machine::plan::{InterfacePlan, Prefix};

/// Messages that are read in a turn.
const MESSAGES_A_TURN: usize = 16;

/// IPv6 of one interface, as far as it is not the kernel's business.
#[derive(Debug)]
pub(super) struct Ipv6 {
    index: u32,
    name: String,
    mac: Option<[u8; 6]>,
    routers: Option<(Advertised, IcmpSocket)>,
    dhcp: Option<(Client, ClientSocket)>,
    /// DHCPv6 cannot be asked, which is told once.
    has_failed: bool,
    /// What DHCPv6 has said and put there.
    held: Option<Lease>,
}

impl Ipv6 {
    /// Hears nothing yet.
    pub(super) fn new(link: &Link) -> Ipv6 {
        Ipv6 {
            index: link.index,
            name: link.name.clone(),
            mac: link.mac,
            routers: None,
            dhcp: None,
            has_failed: false,
            held: None,
        }
    }

    /// Hears routers, and asks DHCPv6, as the plan says.
    pub(super) fn begin(&mut self, plan: &InterfacePlan, now_ms: u64, events: &mut Vec<Event>) {
        if plan.accept_ra {
            match IcmpSocket::open(self.index, &self.name) {
                Ok(socket) => self.routers = Some((Advertised::new(self.mac, now_ms), socket)),
                Err(error) => events.push(self.trouble("cannot hear routers", &error)),
            }
        }
        if plan.dhcp6 {
            self.ask_dhcp(Wanted::Addresses, now_ms, events);
        }
    }

    /// To wait on.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let routers = self.routers.iter().map(|(_, socket)| socket.fd());
        routers.chain(self.dhcp.iter().map(|(_, socket)| socket.fd()))
    }

    /// When [`turn`](Ipv6::turn) is to be called at the latest.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        let routers = self
            .routers
            .as_ref()
            .and_then(|(routers, _)| routers.wake_ms());
        let dhcp = self.dhcp.as_ref().map(|(client, _)| client.wake_ms());
        routers.into_iter().chain(dhcp).min()
    }

    /// Name servers, those of DHCPv6 first (RFC 8106 §5.3.1).
    pub(super) fn resolvers(&self) -> impl Iterator<Item = IpAddr> {
        let lent = self.held.iter().flat_map(|lease| lease.resolvers.clone());
        let routers = self.routers.iter();
        lent.chain(routers.flat_map(|(routers, _)| routers.resolvers()))
    }

    /// Time servers.
    pub(super) fn time_servers(&self) -> impl Iterator<Item = IpAddr> {
        self.held
            .iter()
            .flat_map(|lease| lease.time_servers.clone())
    }

    /// Does what is due, and says whether addresses are others now.
    pub(super) fn turn(
        &mut self,
        netlink: &mut Netlink,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> bool {
        self.hear_routers(now_ms, events);
        let mut has_changed = false;
        for action in self.actions(now_ms) {
            has_changed |= self.act(action, netlink, events);
        }
        has_changed
    }

    fn hear_routers(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let Some((routers, socket)) = &mut self.routers else {
            return;
        };
        let mut has_changed = false;
        for _ in 0..MESSAGES_A_TURN {
            let Some(advertisement) = socket.receive() else {
                break;
            };
            has_changed |= routers.receive(&advertisement, now_ms);
        }
        has_changed |= routers.expire(now_ms);
        if has_changed {
            events.push(Event::Servers);
        }
        if let Some(solicitation) = routers.solicit(now_ms)
            && socket.send(&solicitation).is_err()
        {
            routers.not_sent(now_ms);
        }
        // RFC 4861 §4.2: where M is set, O says nothing more.
        let wanted = match (routers.is_managed(), routers.has_other()) {
            (true, _) => Wanted::Addresses,
            (false, true) => Wanted::Information,
            (false, false) => return,
        };
        self.ask_dhcp(wanted, now_ms, events);
    }

    /// Asks for what is wanted, or for more than was asked for before.
    fn ask_dhcp(&mut self, wanted: Wanted, now_ms: u64, events: &mut Vec<Event>) {
        let Some(mac) = self.mac else {
            return;
        };
        let asked = self.dhcp.as_ref().map(|(client, _)| client.wanted());
        if asked == Some(wanted) || asked == Some(Wanted::Addresses) || self.has_failed {
            return;
        }
        // The old socket has the port.
        let open = self.dhcp.take().map(|(_, socket)| Ok(socket));
        match open.unwrap_or_else(|| ClientSocket::open(self.index, &self.name)) {
            Ok(socket) => {
                self.dhcp = Some((Client::new(mac, wanted, random(), now_ms), socket));
            }
            Err(error) => {
                self.has_failed = true;
                events.push(self.trouble("cannot ask DHCPv6", &error));
            }
        }
    }

    fn actions(&mut self, now_ms: u64) -> Vec<Action> {
        let Some((client, socket)) = &mut self.dhcp else {
            return Vec::new();
        };
        let mut actions = client.turn(now_ms);
        for _ in 0..MESSAGES_A_TURN {
            let Some(payload) = socket.receive() else {
                break;
            };
            actions.extend(client.receive(&payload, now_ms));
        }
        actions
    }

    /// Says whether addresses are others now.
    fn act(&mut self, action: Action, netlink: &mut Netlink, events: &mut Vec<Event>) -> bool {
        match action {
            Action::Send(payload) => {
                // A link that is down takes nothing; DHCP tries again by itself.
                if let Some((_, socket)) = &self.dhcp {
                    drop(socket.send(&payload));
                }
                false
            }
            Action::Hold(lease) => {
                let old = self.held.replace(*lease.clone()).unwrap_or_default();
                for gone in without(&old.addresses, &lease.addresses) {
                    self.undo(gone, netlink);
                }
                for lent in &lease.addresses {
                    if let Err(error) = self.put(lent, netlink) {
                        let what = format!("cannot take {}", lent.address);
                        events.push(self.trouble(&what, &error));
                    }
                }
                for new in without(&lease.addresses, &old.addresses) {
                    events.push(Event::Address {
                        interface: self.name.clone(),
                        prefix: prefix(new),
                        from: "DHCPv6",
                    });
                }
                events.push(Event::Servers);
                true
            }
            Action::Lose => {
                let Some(old) = self.held.take() else {
                    return false;
                };
                for gone in &old.addresses {
                    self.undo(gone, netlink);
                }
                events.push(Event::Lost {
                    interface: self.name.clone(),
                });
                events.push(Event::Servers);
                true
            }
        }
    }

    /// Which other addresses are on the link is for the router to say (RFC 8415 §18.2.10.1).
    fn put(&self, lent: &Lent, netlink: &mut Netlink) -> io::Result<()> {
        let lifetimes = Lifetimes {
            preferred_s: lent.preferred_s,
            valid_s: lent.valid_s,
        };
        netlink.set_address(self.index, prefix(lent), Some(lifetimes), true)
    }

    fn undo(&self, lent: &Lent, netlink: &mut Netlink) {
        // What is gone already needs no taking away.
        drop(netlink.set_address(self.index, prefix(lent), None, false));
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Event {
        Event::Trouble(format!("{}: {what}: {error}", self.name))
    }
}

/// Those of `some` whose address is not among `others`.
fn without<'a>(some: &'a [Lent], others: &'a [Lent]) -> impl Iterator<Item = &'a Lent> {
    some.iter()
        .filter(|one| others.iter().all(|other| other.address != one.address))
}

fn prefix(lent: &Lent) -> Prefix {
    Prefix {
        address: lent.address.into(),
        bits: 128,
    }
}
