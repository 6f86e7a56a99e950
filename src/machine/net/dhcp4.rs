//! A DHCP client (RFC 2131) without sockets or a clock: payloads and the time go in, payloads and
//! what to do about the lease come out.

use std::net::{IpAddr, Ipv4Addr};

use crate::machine::plan::{Prefix, Route};

const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Bytes in front of the options.
const FIXED: usize = 240;
/// Some servers drop what is shorter (RFC 951).
const SHORTEST: usize = 300;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What is asked for: mask, routers, name servers, time servers, name, MTU, times, classless routes.
const WANTED: [u8; 11] = [1, 3, 6, 12, 15, 26, 42, 51, 58, 59, 121];
const SERVERS_MAX: usize = 8;
const ROUTES_MAX: usize = 32;
/// Leases are not shorter than this for us, whatever the server says.
const LEASE_S_MIN: u32 = 60;
/// Nor are they renewed sooner.
const RENEW_S_MIN: u32 = 5;
const FIRST_WAIT_MS: u64 = 2_000;
const LONGEST_WAIT_MS: u64 = 64_000;

/// What a server lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address and its network.
    pub prefix: Prefix,
    /// Routes, the default one among them.
    pub routes: Vec<Route>,
    /// Name servers.
    pub resolvers: Vec<IpAddr>,
    /// Time servers.
    pub time_servers: Vec<IpAddr>,
    /// Bytes of a packet.
    pub mtu: Option<u16>,
    /// How long it lasts, in seconds.
    pub seconds: u32,
    /// After how many it is to be renewed.
    pub renew_s: u32,
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to every server.
    Send(Vec<u8>),
    /// The lease is there, or was renewed, perhaps with another address.
    Hold(Box<Lease>),
    /// The lease is over.
    Lose,
}

/// RFC 2131 §4.4, figure 5. A lease that is to be renewed is asked for by broadcast at once, which
/// any server may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Selecting,
    Requesting { server: Ipv4Addr, address: Ipv4Addr },
    Bound { renew_ms: u64, end_ms: u64 },
    Renewing { end_ms: u64 },
}

/// The client of one interface.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    hostname: Option<String>,
    transaction: u32,
    state: State,
    held: Option<Lease>,
    /// Who lent it.
    server: Option<Ipv4Addr>,
    tries: u32,
    next_ms: u64,
    begun_ms: u64,
}

impl Client {
    /// Begins to look for servers. `transaction` is random.
    pub fn new(mac: [u8; 6], hostname: Option<String>, transaction: u32, now_ms: u64) -> Client {
        Client {
            mac,
            hostname,
            transaction,
            state: State::Selecting,
            held: None,
            server: None,
            tries: 0,
            next_ms: now_ms,
            begun_ms: now_ms,
        }
    }

    /// What is held.
    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref()
    }

    /// When [`turn`](Client::turn) is to be called again.
    pub fn wake_ms(&self) -> u64 {
        self.next_ms
    }

    /// Does what is due.
    pub fn turn(&mut self, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if now_ms < self.next_ms {
            return actions;
        }
        match self.state {
            State::Bound { end_ms, .. } => self.enter(State::Renewing { end_ms }, now_ms),
            State::Renewing { end_ms } if now_ms >= end_ms => {
                self.held = None;
                actions.push(Action::Lose);
                self.enter(State::Selecting, now_ms);
            }
            // The server that offered does not answer any more: ask all again.
            State::Requesting { .. } if self.tries >= 4 => self.enter(State::Selecting, now_ms),
            _ => {}
        }
        actions.push(Action::Send(self.message(now_ms)));
        let mut wait = (FIRST_WAIT_MS << self.tries.min(5)).min(LONGEST_WAIT_MS);
        // §4.1: clients that start together do not stay together.
        wait += u64::from(self.transaction.rotate_left(self.tries) % 1000);
        self.tries += 1;
        self.next_ms = now_ms + wait;
        if let State::Renewing { end_ms } = self.state {
            self.next_ms = self.next_ms.min(end_ms.max(now_ms + 1));
        }
        actions
    }

    fn enter(&mut self, state: State, now_ms: u64) {
        self.transaction = self
            .transaction
            .wrapping_mul(0x0019_660d)
            .wrapping_add(0x3c6e_f35f);
        self.state = state;
        self.tries = 0;
        self.begun_ms = now_ms;
        self.next_ms = now_ms;
    }

    /// Takes what a server said.
    pub fn receive(&mut self, payload: &[u8], now_ms: u64) -> Vec<Action> {
        let Some(reply) = Reply::decode(payload, self.transaction, self.mac) else {
            return Vec::new();
        };
        match (&self.state, reply.kind) {
            (State::Selecting, OFFER) => {
                let Some(server) = reply.server.filter(|_| is_usable(reply.address)) else {
                    return Vec::new();
                };
                let address = reply.address;
                // The same transaction goes on.
                self.state = State::Requesting { server, address };
                self.tries = 0;
                self.next_ms = now_ms;
                self.turn(now_ms)
            }
            // The other servers of the link hear what is asked too; only one is asked.
            (State::Requesting { server, .. }, ACK | NAK) if reply.server != Some(*server) => {
                Vec::new()
            }
            (State::Renewing { .. }, NAK) if reply.server != self.server => Vec::new(),
            (State::Requesting { .. } | State::Renewing { .. }, ACK) => self.hold(&reply, now_ms),
            (State::Requesting { .. } | State::Renewing { .. }, NAK) => {
                self.enter(State::Selecting, now_ms);
                // A server that always says no must not be asked at once again.
                self.next_ms = now_ms + FIRST_WAIT_MS;
                self.held.take().map(|_| Action::Lose).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn hold(&mut self, reply: &Reply<'_>, now_ms: u64) -> Vec<Action> {
        let Some(lease) = reply.lease() else {
            return Vec::new();
        };
        let life_ms = u64::from(lease.seconds) * 1000;
        let end_ms = now_ms + life_ms;
        let renew_ms = now_ms + u64::from(lease.renew_s) * 1000;
        self.enter(State::Bound { renew_ms, end_ms }, now_ms);
        self.next_ms = renew_ms;
        self.held = Some(lease.clone());
        self.server = reply.server;
        vec![Action::Hold(Box::new(lease))]
    }

    fn message(&self, now_ms: u64) -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0];
        message.extend(self.transaction.to_be_bytes());
        let seconds = (now_ms.saturating_sub(self.begun_ms) / 1000).min(0xffff) as u16;
        message.extend(seconds.to_be_bytes());
        // There is no address yet that an answer could go to, so it goes to everybody.
        message.extend([0x80, 0]);
        let own = match (&self.state, &self.held) {
            (State::Renewing { .. }, Some(lease)) => Some(lease.prefix.address),
            _ => None,
        };
        message.extend(match own {
            Some(IpAddr::V4(own)) => own.octets(),
            _ => [0; 4],
        });
        message.extend([0; 12]);
        message.extend(self.mac);
        message.resize(FIXED - MAGIC.len(), 0);
        message.extend(MAGIC);
        let mut option = |kind: u8, content: &[u8]| {
            message.push(kind);
            message.push(u8::try_from(content.len()).unwrap_or(u8::MAX));
            message.extend(content.iter().take(255));
        };
        let kind = match self.state {
            State::Selecting => DISCOVER,
            _ => REQUEST,
        };
        option(53, &[kind]);
        if let State::Requesting { server, address } = self.state {
            option(50, &address.octets());
            option(54, &server.octets());
        }
        let mut id = vec![1];
        id.extend(self.mac);
        option(61, &id);
        option(57, &1500_u16.to_be_bytes());
        if let Some(hostname) = &self.hostname {
            option(12, hostname.as_bytes());
        }
        option(55, &WANTED);
        message.push(255);
        message.resize(message.len().max(SHORTEST), 0);
        message
    }
}

/// What a server said, as far as it matters.
struct Reply<'a> {
    kind: u8,
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
    /// Kind and content; of a kind that comes twice both.
    options: Vec<(u8, &'a [u8])>,
}

impl<'a> Reply<'a> {
    /// `None` for what is no answer to us.
    fn decode(payload: &'a [u8], transaction: u32, mac: [u8; 6]) -> Option<Reply<'a>> {
        let fixed = payload.get(..FIXED)?;
        let is_ours = fixed[0] == 2
            && fixed[4..8] == transaction.to_be_bytes()
            && fixed[28..34] == mac
            && fixed[236..] == MAGIC;
        if !is_ours {
            return None;
        }
        let mut found = options(&payload[FIXED..]);
        // The fields for file and server name may hold more options (RFC 2132 §9.3).
        let overload = content(&found, 52).and_then(|content| content.first().copied());
        if matches!(overload, Some(1 | 3)) {
            found.extend(options(&fixed[108..236]));
        }
        if matches!(overload, Some(2 | 3)) {
            found.extend(options(&fixed[44..108]));
        }
        Some(Reply {
            kind: *content(&found, 53)?.first()?,
            address: ipv4(fixed.get(16..20)?)?,
            server: content(&found, 54).and_then(ipv4),
            options: found,
        })
    }

    fn lease(&self) -> Option<Lease> {
        is_usable(self.address).then_some(())?;
        let mask = content(&self.options, 1).and_then(ipv4);
        let bits = match mask.map(u32::from) {
            // One bits, then zero bits.
            Some(mask) if mask.leading_ones() + mask.trailing_zeros() >= 32 => mask.leading_ones(),
            Some(_) => return None,
            None => 24,
        };
        let prefix = Prefix {
            address: self.address.into(),
            bits: u8::try_from(bits).ok()?,
        };
        let number = |kind: u8| {
            let bytes = content(&self.options, kind)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let mtu = content(&self.options, 26)
            .and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)))
            .filter(|mtu| (576..=9216).contains(mtu));
        let seconds = number(51).unwrap_or(3600).max(LEASE_S_MIN);
        // T1 (RFC 2131 §4.4.5): half of the lease unless the server says otherwise, and before T2.
        let renew_s = number(58).unwrap_or(seconds / 2);
        Some(Lease {
            prefix,
            routes: self.routes(),
            resolvers: self.addresses(6),
            time_servers: self.addresses(42),
            mtu,
            seconds,
            renew_s: renew_s.clamp(RENEW_S_MIN, seconds - seconds / 8),
        })
    }

    fn addresses(&self, kind: u8) -> Vec<IpAddr> {
        let bytes = content(&self.options, kind).unwrap_or_default();
        let addresses = bytes.chunks_exact(4).filter_map(ipv4);
        addresses
            .filter(|address| is_usable(*address))
            .map(IpAddr::from)
            .take(SERVERS_MAX)
            .collect()
    }

    /// Classless routes count instead of routers (RFC 3442). Gateways are taken to be on the link,
    /// whatever the mask says: at many providers they are, and no mask says so.
    fn routes(&self) -> Vec<Route> {
        if let Some(bytes) = self.classless() {
            return classless(&bytes);
        }
        let router = content(&self.options, 3).and_then(|bytes| ipv4(bytes.get(..4)?));
        router
            .filter(|router| is_usable(*router))
            .map(|router| route(Ipv4Addr::UNSPECIFIED, 0, Some(router)))
            .into_iter()
            .collect()
    }

    /// An option that is too long for one comes in several (RFC 3396).
    fn classless(&self) -> Option<Vec<u8>> {
        let parts: Vec<&[u8]> = self
            .options
            .iter()
            .filter(|(kind, _)| *kind == 121)
            .map(|(_, content)| *content)
            .collect();
        (!parts.is_empty()).then(|| parts.concat())
    }
}

fn classless(mut bytes: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while let Some((&bits, rest)) = bytes.split_first() {
        let significant = usize::from(bits).div_ceil(8);
        let (Some(network), Some(gateway)) = (
            rest.get(..significant),
            rest.get(significant..significant + 4).and_then(ipv4),
        ) else {
            break;
        };
        if bits > 32 || routes.len() == ROUTES_MAX {
            break;
        }
        let mut octets = [0; 4];
        octets[..significant].copy_from_slice(network);
        let gateway = Some(gateway).filter(|gateway| !gateway.is_unspecified());
        routes.push(route(octets.into(), bits, gateway));
        bytes = &rest[significant + 4..];
    }
    routes
}

fn route(network: Ipv4Addr, bits: u8, via: Option<Ipv4Addr>) -> Route {
    Route {
        to: Prefix {
            address: network.into(),
            bits,
        },
        via: via.map(IpAddr::from),
        on_link: true,
        metric: None,
    }
}

/// The options of a field, up to the first that does not fit.
fn options(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            0 => bytes = rest,
            255 => break,
            _ => {
                let Some((&len, rest)) = rest.split_first() else {
                    break;
                };
                let Some(content) = rest.get(..usize::from(len)) else {
                    break;
                };
                found.push((kind, content));
                bytes = &rest[usize::from(len)..];
            }
        }
    }
    found
}

fn content<'a>(options: &[(u8, &'a [u8])], kind: u8) -> Option<&'a [u8]> {
    let found = options.iter().find(|(found, _)| *found == kind);
    found.map(|(_, content)| *content)
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.try_into().ok()?;
    Some(four.into())
}

/// An address that a machine can have.
fn is_usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_loopback())
}

#[cfg(test)]
#[path = "dhcp4_tests.rs"]
mod tests;
