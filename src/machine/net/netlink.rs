//! Asking the kernel about links and addresses, and changing them (rtnetlink, RFC 3549).
//!
//! One request at a time, each answered before the next: what the kernel says is bounded, and it
//! says it at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::machine::plan::{Prefix, Route};

/// Bytes of an answer that are read at once.
const BUFFER: usize = 64 * 1024;
const HEADER: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_OR_REPLACE: u16 = 0x500;
const CREATE: u16 = 0x400;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// It is the loopback.
    pub is_loopback: bool,
    /// It is plugged in and works.
    pub is_running: bool,
}

/// How long an address counts, in seconds; `u32::MAX`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// For new connections.
    pub preferred_s: u32,
    /// At all: then the kernel takes it away.
    pub valid_s: u32,
}

/// A line to the kernel.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one.
    pub fn open() -> io::Result<Netlink> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // A kernel that does not answer must not keep PID 1.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
        Ok(Netlink { fd, sequence: 0 })
    }

    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RTM_GETLINK, REQUEST | DUMP, &[0; 16])?;
        Ok(answers
            .iter()
            .filter_map(|(kind, body)| (*kind == RTM_NEWLINK).then(|| link(body))?)
            .collect())
    }

    /// All addresses, with the number of their interface. Link-local ones are left out.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, Prefix)>> {
        let answers = self.ask(RTM_GETADDR, REQUEST | DUMP, &[0; 8])?;
        Ok(answers
            .iter()
            .filter_map(|(kind, body)| (*kind == RTM_NEWADDR).then(|| address(body))?)
            .collect())
    }

    /// Switches an interface on, with packets of `mtu` bytes where that is given.
    pub fn set_up(&mut self, index: u32, mtu: Option<u16>) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        let up = libc::IFF_UP as u32;
        body.extend(up.to_ne_bytes());
        body.extend(up.to_ne_bytes());
        if let Some(mtu) = mtu {
            attribute(&mut body, libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        }
        self.tell(RTM_NEWLINK, REQUEST | ACK, &body)
    }

    /// Gives an interface an address, or takes it away. Without lifetimes it counts for ever.
    pub fn set_address(
        &mut self,
        index: u32,
        prefix: Prefix,
        lifetimes: Option<Lifetimes>,
        add: bool,
    ) -> io::Result<()> {
        let address = octets(prefix.address);
        let mut body = vec![family(prefix.address), prefix.bits, 0, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &address);
        attribute(&mut body, libc::IFA_ADDRESS, &address);
        if let (Some(lifetimes), true) = (lifetimes, add) {
            // preferred, valid, and two times that the kernel fills in.
            let mut times = Vec::with_capacity(16);
            times.extend(lifetimes.preferred_s.to_ne_bytes());
            times.extend(lifetimes.valid_s.to_ne_bytes());
            times.extend([0; 8]);
            attribute(&mut body, libc::IFA_CACHEINFO, &times);
        }
        match add {
            true => self.tell(RTM_NEWADDR, REQUEST | ACK | CREATE_OR_REPLACE, &body),
            false => self.tell(RTM_DELADDR, REQUEST | ACK, &body),
        }
    }

    /// Adds a route through an interface, or takes it away.
    pub fn set_route(&mut self, index: u32, route: &Route, add: bool) -> io::Result<()> {
        const TABLE_MAIN: u8 = 254;
        const PROTOCOL_STATIC: u8 = 4;
        const UNIVERSE: u8 = 0;
        const LINK: u8 = 253;
        const UNICAST: u8 = 1;
        const ONLINK: u32 = 4;
        let scope = if route.via.is_none() && route.to.address.is_ipv4() {
            LINK
        } else {
            UNIVERSE
        };
        let mut body = vec![
            family(route.to.address),
            route.to.bits,
            0,
            0,
            TABLE_MAIN,
            PROTOCOL_STATIC,
            scope,
            UNICAST,
        ];
        let flags = if route.on_link && route.via.is_some() {
            ONLINK
        } else {
            0
        };
        body.extend(flags.to_ne_bytes());
        if route.to.bits > 0 {
            attribute(&mut body, libc::RTA_DST, &octets(route.to.address));
        }
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        if let Some(via) = route.via {
            attribute(&mut body, libc::RTA_GATEWAY, &octets(via));
        }
        if let Some(metric) = route.metric {
            attribute(&mut body, libc::RTA_PRIORITY, &metric.to_ne_bytes());
        }
        match add {
            true => self.tell(RTM_NEWROUTE, REQUEST | ACK | CREATE_OR_REPLACE, &body),
            false => self.tell(RTM_DELROUTE, REQUEST | ACK, &body),
        }
    }

    /// Has the kernel ask who has an address on the link (ARP, or neighbour solicitation), unless
    /// it knows.
    pub fn ask_for_neighbour(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        /// `NTF_USE`: as if a packet went there.
        const USE: u8 = 1;
        let mut body = vec![family(address), 0, 0, 0];
        body.extend(index.to_ne_bytes());
        // State, flags, type.
        body.extend([0, 0, USE, 0]);
        attribute(&mut body, libc::NDA_DST, &octets(address));
        self.tell(RTM_NEWNEIGH, REQUEST | ACK | CREATE, &body)
    }

    /// Who has answered that, with the number of the interface.
    pub fn neighbours(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let answers = self.ask(RTM_GETNEIGH, REQUEST | DUMP, &[0; 12])?;
        Ok(answers
            .iter()
            .filter_map(|(kind, body)| (*kind == RTM_NEWNEIGH).then(|| neighbour(body))?)
            .collect())
    }

    fn tell(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, flags, body).map(drop)
    }

    /// Sends a request and gathers the answers: their kinds and bodies.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(len.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        send(self.fd.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(&buffer[..len]) {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        return match number(message.body, 0) {
                            Some(0) => Ok(answers),
                            Some(error) => {
                                Err(io::Error::from_raw_os_error(-(error.cast_signed())))
                            }
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    kind => answers.push((kind, message.body.to_vec())),
                }
            }
        }
    }
}

/// The links and addresses that a datagram of the kernel tells of.
#[must_use]
pub fn read(datagram: &[u8]) -> (Vec<Link>, Vec<(u32, Prefix)>) {
    let (mut links, mut addresses) = (Vec::new(), Vec::new());
    for message in messages(datagram) {
        match message.kind {
            RTM_NEWLINK => links.extend(link(message.body)),
            RTM_NEWADDR => addresses.extend(address(message.body)),
            _ => {}
        }
    }
    (links, addresses)
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram, up to the first that does not fit.
fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let (Some(len), Some(sequence)) = (number(bytes, 0), number(bytes, 8)) else {
            break;
        };
        let len = len as usize;
        if len < HEADER || len > bytes.len() {
            break;
        }
        found.push(Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            sequence,
            body: &bytes[HEADER..len],
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attributes of a message: kind and content.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if len < 4 || len > bytes.len() {
            break;
        }
        // The upper bits are flags.
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        found.push((kind, &bytes[4..len]));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        is_loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        is_running: flags & libc::IFF_RUNNING as u32 != 0,
    };
    for (kind, content) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                let name = content.split(|byte| *byte == 0).next()?;
                link.name = String::from_utf8(name.to_vec()).ok()?;
            }
            libc::IFLA_ADDRESS => link.mac = content.try_into().ok(),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(body: &[u8]) -> Option<(u32, Prefix)> {
    let (bits, index) = (*body.get(1)?, number(body, 4)?);
    let found = attributes(body.get(8..)?);
    let of = |wanted: u16| found.iter().find(|(kind, _)| *kind == wanted);
    // Of a link between two machines the own address is the local one.
    let (_, content) = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
    let address = ip(content)?;
    let (is_local, bits_max) = match address {
        IpAddr::V4(address) => (address.is_loopback() || address.is_link_local(), 32),
        IpAddr::V6(address) => (
            address.is_loopback() || address.is_unicast_link_local(),
            128,
        ),
    };
    (!is_local && bits <= bits_max).then_some((index, Prefix { address, bits }))
}

/// One whose hardware address is known, however long ago it was heard.
fn neighbour(body: &[u8]) -> Option<(u32, IpAddr)> {
    const INCOMPLETE: u16 = 1;
    const FAILED: u16 = 0x20;
    let index = number(body, 4)?;
    let state = u16::from_ne_bytes([*body.get(8)?, *body.get(9)?]);
    let found = attributes(body.get(12..)?);
    let (_, content) = found.iter().find(|(kind, _)| *kind == libc::NDA_DST)?;
    let is_known = state != 0 && state & (INCOMPLETE | FAILED) == 0;
    is_known.then_some((index, ip(content)?))
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(octets).ok()?.into()),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn attribute(body: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(content);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn family(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).unwrap_or(0)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_the_loopback() {
        let mut netlink = Netlink::open().expect("netlink");
        let links = netlink.links().expect("links");
        let loopback: Vec<&Link> = links.iter().filter(|link| link.is_loopback).collect();
        assert_eq!(loopback.len(), 1, "{links:?}");
        assert_eq!(loopback[0].name, "lo");
        assert!(netlink.addresses().is_ok());
        let refused = netlink
            .set_up(u32::MAX >> 1, None)
            .expect_err("no such link");
        assert!(refused.raw_os_error().is_some(), "{refused}");
    }

    #[test]
    fn a_datagram_tells_of_addresses() {
        let datagram = |bits: u8| {
            let mut body = vec![2, bits, 0, 0, 7, 0, 0, 0];
            body[4..].copy_from_slice(&7_u32.to_ne_bytes());
            attribute(&mut body, libc::IFA_ADDRESS, &[192, 0, 2, 50]);
            let mut datagram = 32_u32.to_ne_bytes().to_vec();
            assert_eq!(body.len(), 16);
            datagram.extend(RTM_NEWADDR.to_ne_bytes());
            datagram.extend([0; 10]);
            [datagram, body].concat()
        };
        let address = IpAddr::from([192, 0, 2, 50]);
        let (links, addresses) = read(&datagram(24));
        assert!(links.is_empty());
        assert_eq!(addresses, [(7, Prefix { address, bits: 24 })]);
        assert!(
            read(&datagram(33)).1.is_empty(),
            "no IPv4 network has so many"
        );
    }

    #[test]
    fn a_neighbour_counts_that_has_answered() {
        let address = IpAddr::from([192, 0, 2, 254]);
        let of = |state: u16| {
            let mut body = vec![2, 0, 0, 0];
            body.extend(7_u32.to_ne_bytes());
            body.extend(state.to_ne_bytes());
            body.extend([0, 0]);
            attribute(&mut body, libc::NDA_DST, &[192, 0, 2, 254]);
            neighbour(&body)
        };
        // Reachable, stale, delayed, probed, permanent.
        for state in [2, 4, 8, 0x10, 0x80] {
            assert_eq!(of(state), Some((7, address)), "{state:#x}");
        }
        for state in [0, 1, 0x20] {
            assert_eq!(of(state), None, "{state:#x}");
        }
    }

    #[test]
    fn broken_messages_end_the_list() {
        let mut bytes = vec![0; 40];
        bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
        assert_eq!(messages(&bytes).len(), 1, "then one of length 0");
        bytes[..4].copy_from_slice(&4000_u32.to_ne_bytes());
        assert!(messages(&bytes).is_empty());
        assert!(attributes(&[3, 0, 1, 0]).is_empty());
        assert!(attributes(&[200, 0, 1, 0, 7]).is_empty());
        for len in 0..40 {
            assert!(link(&bytes[..len]).is_none());
            assert!(address(&bytes[..len]).is_none());
            assert!(neighbour(&bytes[..len]).is_none());
        }
    }
}
