//! A DHCPv6 client (RFC 8415) without sockets or a clock: payloads and the time go in, payloads and
//! what to do about the lease come out.
//!
//! It has one association for addresses that do not come from the router. It neither confirms nor
//! releases nor declines any, and takes no order to ask again: a server of this machine's kind stays
//! on its link, and what it does not renew ends by itself.

use std::net::{IpAddr, Ipv6Addr};

mod message;

use message::{ADDRESSES_MAX, Association, NO_BINDING, ReplyKind, SUCCESS};
pub use message::{Kind, Lent, Reply, Request};

/// A server that takes back what it offered is not asked at once again.
const REFUSED_MS: u64 = 10_000;
/// Whatever the server says, it is not asked more often to extend what it lent.
const RENEW_S_MIN: u32 = 10;
/// §7.6: clients that start together do not ask together (SOL_MAX_DELAY, INF_MAX_DELAY).
const DELAY_MS: u64 = 1_000;
/// §7.6: REQ_MAX_RC.
const REQUESTS_MAX: u32 = 10;
/// §18.2.1: an offer of this preference is not compared with others.
const BEST_PREFERENCE: u8 = 255;
/// §21.24, §21.25: what a server may set the longest waits to, in seconds.
const MAX_RT_S: std::ops::RangeInclusive<u32> = 60..=86_400;
/// §7.6: IRT_DEFAULT, IRT_MINIMUM.
const REFRESH_S: u32 = 86_400;
const REFRESH_S_MIN: u32 = 600;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Addresses, and everything else.
    Addresses,
    /// Everything else.
    Information,
}

/// What servers lend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Addresses, each for itself. None where none were wanted.
    pub addresses: Vec<Lent>,
    /// Name servers.
    pub resolvers: Vec<IpAddr>,
    /// Time servers.
    pub time_servers: Vec<IpAddr>,
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to every server and relay.
    Send(Vec<u8>),
    /// The lease is there, or was extended, perhaps with other addresses.
    Hold(Box<Lease>),
    /// The lease is over.
    Lose,
}

/// Where an exchange is. Those before `Bound` and after it send a message again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// §18.2.1, with the best offer of the first second.
    Soliciting { best: Option<Offer> },
    /// §18.2.2.
    Requesting(Offer),
    /// Nothing is to be done until T1.
    Bound { server: Vec<u8>, rebind_ms: u64 },
    /// §18.2.4, until T2.
    Renewing { server: Vec<u8>, rebind_ms: u64 },
    /// §18.2.5, until the last address ends.
    Rebinding,
    /// §18.2.6.
    Informing,
    /// Nothing is to be done until all is asked anew.
    Informed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    server: Vec<u8>,
    preference: u8,
    addresses: Vec<Ipv6Addr>,
}

/// An address that is held, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    address: Ipv6Addr,
    preferred_ms: u64,
    valid_ms: u64,
}

/// The client of one interface.
#[derive(Debug)]
pub struct Client {
    duid: Vec<u8>,
    association: u32,
    wanted: Wanted,
    state: State,
    held: Vec<Held>,
    random: u32,
    transaction: u32,
    /// Messages of this exchange so far, the last wait between them, and when the first was sent.
    tries: u32,
    wait_ms: u64,
    begun_ms: u64,
    next_ms: u64,
    solicit_max_ms: u64,
    inform_max_ms: u64,
}

impl Client {
    /// Begins to look for servers. `random` is random.
    pub fn new(mac: [u8; 6], wanted: Wanted, random: u32, now_ms: u64) -> Client {
        let mut client = Client {
            duid: message::duid(mac),
            // §12: the same after every start. There is one association of an interface.
            association: u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]),
            wanted,
            state: State::Informed,
            held: Vec::new(),
            random,
            transaction: 0,
            tries: 0,
            wait_ms: 0,
            begun_ms: now_ms,
            next_ms: now_ms,
            solicit_max_ms: 3_600_000,
            inform_max_ms: 3_600_000,
        };
        client.begin(now_ms);
        client
    }

    /// What is asked for.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// When [`turn`](Client::turn) is to be called again.
    pub fn wake_ms(&self) -> u64 {
        self.next_ms.min(self.end_ms().unwrap_or(u64::MAX))
    }

    /// Does what is due.
    pub fn turn(&mut self, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.end_ms().is_some_and(|end_ms| now_ms >= end_ms) {
            actions.push(self.lose());
            let is_exchange = matches!(self.state, State::Soliciting { .. } | State::Requesting(_));
            if !is_exchange {
                self.begin(now_ms);
            }
        }
        if now_ms < self.next_ms {
            return actions;
        }
        match self.state.clone() {
            State::Soliciting { best: Some(offer) } => {
                self.enter(State::Requesting(offer), now_ms);
            }
            State::Requesting(_) if self.tries >= REQUESTS_MAX => {
                self.begin(now_ms);
                return actions;
            }
            State::Bound { server, rebind_ms } | State::Renewing { server, rebind_ms } => {
                let is_over = now_ms >= rebind_ms;
                match self.state {
                    _ if is_over => self.enter(State::Rebinding, now_ms),
                    State::Bound { .. } => {
                        self.enter(State::Renewing { server, rebind_ms }, now_ms);
                    }
                    _ => {}
                }
            }
            State::Informed => self.enter(State::Informing, now_ms),
            _ => {}
        }
        if self.tries == 0 {
            self.begun_ms = now_ms;
        }
        actions.extend(self.message(now_ms).map(Action::Send));
        self.wait(now_ms);
        actions
    }

    /// Takes what a server said.
    pub fn receive(&mut self, payload: &[u8], now_ms: u64) -> Vec<Action> {
        // What nobody has asked for yet is no answer.
        if self.tries == 0 {
            return Vec::new();
        }
        let reply = Reply::decode(payload, self.transaction, &self.duid, self.association);
        let Some(reply) = reply else {
            return Vec::new();
        };
        self.heed_longest_waits(&reply);
        match (&self.state, reply.kind) {
            (State::Soliciting { .. }, ReplyKind::Advertise) => self.offered(reply, now_ms),
            (State::Requesting(Offer { server, .. }), ReplyKind::Reply)
            | (State::Renewing { server, .. }, ReplyKind::Reply)
                if *server == reply.server =>
            {
                self.answered(reply, now_ms)
            }
            (State::Rebinding, ReplyKind::Reply) => self.answered(reply, now_ms),
            (State::Informing, ReplyKind::Reply) if reply.status == SUCCESS => {
                let refresh_s = reply.refresh_s.unwrap_or(REFRESH_S).max(REFRESH_S_MIN);
                self.enter(State::Informed, now_ms);
                self.next_ms = after(now_ms, refresh_s);
                vec![self.hold(reply, now_ms)]
            }
            _ => Vec::new(),
        }
    }

    /// §18.2.9.
    fn offered(&mut self, reply: Reply, now_ms: u64) -> Vec<Action> {
        let Some(offer) = offer(reply) else {
            return Vec::new();
        };
        // After the first wait any offer will do.
        let is_first_wait = self.tries == 1;
        let State::Soliciting { best } = &mut self.state else {
            return Vec::new();
        };
        if offer.preference < BEST_PREFERENCE && is_first_wait {
            let is_better = best
                .as_ref()
                .is_none_or(|best| best.preference < offer.preference);
            if is_better {
                *best = Some(offer);
            }
            return Vec::new();
        }
        self.enter(State::Requesting(offer), now_ms);
        self.turn(now_ms)
    }

    /// §18.2.10.1.
    fn answered(&mut self, reply: Reply, now_ms: u64) -> Vec<Action> {
        let is_new = matches!(self.state, State::Requesting(_));
        let status = match (&reply.association, reply.status) {
            (Some(association), SUCCESS) => association.status,
            (None, SUCCESS) => return Vec::new(),
            (_, status) => status,
        };
        match (&reply.association, status) {
            (Some(association), SUCCESS) => {
                let association = association.clone();
                self.keep(&association, reply, now_ms)
            }
            (_, NO_BINDING) if !is_new => {
                let offer = Offer {
                    server: reply.server,
                    preference: 0,
                    addresses: self.held.iter().map(|held| held.address).collect(),
                };
                self.enter(State::Requesting(offer), now_ms);
                self.turn(now_ms)
            }
            _ if is_new => {
                self.begin(now_ms);
                self.next_ms = now_ms + REFUSED_MS;
                Vec::new()
            }
            // Another try, or another server, may have more luck.
            _ => Vec::new(),
        }
    }

    /// Takes the addresses of a Reply. Those that are not in it stay as they are.
    fn keep(&mut self, association: &Association, reply: Reply, now_ms: u64) -> Vec<Action> {
        if association.addresses.is_empty() {
            return Vec::new();
        }
        let had_any = !self.held.is_empty();
        for lent in &association.addresses {
            self.held.retain(|held| held.address != lent.address);
            if lent.valid_s > 0 && self.held.len() < ADDRESSES_MAX {
                self.held.push(Held {
                    address: lent.address,
                    preferred_ms: after(now_ms, lent.preferred_s),
                    valid_ms: after(now_ms, lent.valid_s),
                });
            }
        }
        self.held.retain(|held| now_ms < held.valid_ms);
        if self.held.is_empty() {
            self.begin(now_ms);
            self.next_ms = now_ms + REFUSED_MS;
            return had_any.then(|| self.lose()).into_iter().collect();
        }
        let (renew_s, rebind_s) = self.times(association, now_ms);
        let server = reply.server.clone();
        let rebind_ms = after(now_ms, rebind_s);
        self.enter(State::Bound { server, rebind_ms }, now_ms);
        self.next_ms = after(now_ms, renew_s);
        vec![self.hold(reply, now_ms)]
    }

    /// T1 and T2; where the server leaves them to us, as §21.4 recommends.
    fn times(&self, association: &Association, now_ms: u64) -> (u32, u32) {
        let shortest_s = |until_ms: fn(&Held) -> u64| {
            let left = self
                .held
                .iter()
                .map(|held| left_s(until_ms(held), now_ms))
                .filter(|left_s| *left_s > 0);
            left.min()
        };
        let life_s = shortest_s(|held| held.preferred_ms)
            .or_else(|| shortest_s(|held| held.valid_ms))
            .unwrap_or(0);
        let part = |tenths: u64| match life_s {
            u32::MAX => u32::MAX,
            _ => u32::try_from(u64::from(life_s) * tenths / 10).unwrap_or(life_s),
        };
        // A server that names times at which nothing is left to extend has named none.
        let end_s = left_s(self.end_ms().unwrap_or(now_ms), now_ms);
        let said = |said_s: u32| Some(said_s).filter(|said_s| (1..=end_s).contains(said_s));
        let said_renew_s = said(association.renew_s).filter(|said_s| *said_s < end_s);
        let rebind_s =
            said(association.rebind_s).unwrap_or_else(|| part(8).max(said_renew_s.unwrap_or(0)));
        let renew_s = said_renew_s.unwrap_or_else(|| part(5).min(rebind_s));
        let renew_s = renew_s.max(RENEW_S_MIN);
        (renew_s, rebind_s.max(renew_s))
    }

    fn hold(&self, reply: Reply, now_ms: u64) -> Action {
        let addresses = self.held.iter().map(|held| Lent {
            address: held.address,
            preferred_s: left_s(held.preferred_ms, now_ms),
            valid_s: left_s(held.valid_ms, now_ms),
        });
        Action::Hold(Box::new(Lease {
            addresses: addresses.collect(),
            resolvers: reply.resolvers,
            time_servers: reply.time_servers,
        }))
    }

    fn lose(&mut self) -> Action {
        self.held.clear();
        Action::Lose
    }

    /// When the last address ends.
    fn end_ms(&self) -> Option<u64> {
        self.held.iter().map(|held| held.valid_ms).max()
    }

    /// Asks anew, after a short while.
    fn begin(&mut self, now_ms: u64) {
        let state = match self.wanted {
            Wanted::Addresses => State::Soliciting { best: None },
            Wanted::Information => State::Informing,
        };
        self.enter(state, now_ms);
        self.next_ms = now_ms + u64::from(self.draw()) % DELAY_MS;
    }

    /// §16.1: every exchange has a transaction of its own.
    fn enter(&mut self, state: State, now_ms: u64) {
        self.transaction = self.draw() & 0xff_ffff;
        self.state = state;
        self.tries = 0;
        self.next_ms = now_ms;
    }

    /// §15: every wait is twice as long as the one before, up to a limit, and a bit more or less.
    fn wait(&mut self, now_ms: u64) {
        let (first_ms, longest_ms) = match &self.state {
            State::Soliciting { .. } => (1_000, self.solicit_max_ms),
            State::Informing => (1_000, self.inform_max_ms),
            State::Requesting(_) => (1_000, 30_000),
            _ => (10_000, 600_000),
        };
        let is_first_solicit = self.tries == 0 && matches!(self.state, State::Soliciting { .. });
        self.tries = self.tries.saturating_add(1);
        let (wait_ms, spread_ms) = match self.tries {
            1 => (first_ms, first_ms / 10),
            _ if self.wait_ms * 2 > longest_ms => (longest_ms, longest_ms / 10),
            _ => (self.wait_ms * 2, self.wait_ms / 10),
        };
        let random_ms = u64::from(self.draw()) % (spread_ms + 1);
        self.wait_ms = match is_first_solicit {
            // §18.2.1: offers are gathered for no less than this.
            true => wait_ms + 1 + random_ms,
            false => wait_ms - spread_ms + 2 * random_ms,
        };
        self.next_ms = now_ms + self.wait_ms;
        if let State::Renewing { rebind_ms, .. } = self.state {
            self.next_ms = self.next_ms.min(rebind_ms);
        }
    }

    /// §18.2.9, §18.2.10: even where the rest of the message does not help.
    fn heed_longest_waits(&mut self, reply: &Reply) {
        let said_ms = |said_s: Option<u32>| {
            let said_s = said_s.filter(|said_s| MAX_RT_S.contains(said_s));
            said_s.map(|said_s| u64::from(said_s) * 1000)
        };
        self.solicit_max_ms = said_ms(reply.solicit_max_s).unwrap_or(self.solicit_max_ms);
        self.inform_max_ms = said_ms(reply.inform_max_s).unwrap_or(self.inform_max_ms);
    }

    fn message(&self, now_ms: u64) -> Option<Vec<u8>> {
        let held: Vec<Ipv6Addr> = self
            .held
            .iter()
            .filter(|held| now_ms < held.valid_ms)
            .map(|held| held.address)
            .collect();
        let (kind, server, addresses) = match &self.state {
            State::Soliciting { .. } => (Kind::Solicit, None, Some(&held)),
            State::Requesting(offer) => {
                (Kind::Request, Some(&offer.server), Some(&offer.addresses))
            }
            State::Renewing { server, .. } => (Kind::Renew, Some(server), Some(&held)),
            State::Rebinding => (Kind::Rebind, None, Some(&held)),
            State::Informing => (Kind::InformationRequest, None, None),
            State::Bound { .. } | State::Informed => return None,
        };
        let request = Request {
            kind,
            transaction: self.transaction,
            client: &self.duid,
            server: server.map(Vec::as_slice),
            association: addresses.map(|addresses| (self.association, addresses.as_slice())),
            elapsed_ms: now_ms.saturating_sub(self.begun_ms),
        };
        Some(request.encode())
    }

    /// Knuth's and Lewis' generator: only a matter of not meeting others.
    fn draw(&mut self) -> u32 {
        self.random = self
            .random
            .wrapping_mul(0x0019_660d)
            .wrapping_add(0x3c6e_f35f);
        self.random.rotate_left(16)
    }
}

/// §18.2.9: an Advertise without addresses is none.
fn offer(reply: Reply) -> Option<Offer> {
    let association = reply.association?;
    let lent = association.addresses.iter().filter(|lent| lent.valid_s > 0);
    let addresses: Vec<Ipv6Addr> = lent.map(|lent| lent.address).collect();
    let is_good = reply.status == SUCCESS && association.status == SUCCESS;
    (is_good && !addresses.is_empty()).then_some(Offer {
        server: reply.server,
        preference: reply.preference,
        addresses,
    })
}

/// §7.7: all ones are for ever.
fn after(now_ms: u64, seconds: u32) -> u64 {
    match seconds {
        u32::MAX => u64::MAX,
        _ => now_ms.saturating_add(u64::from(seconds) * 1000),
    }
}

fn left_s(until_ms: u64, now_ms: u64) -> u32 {
    match until_ms {
        u64::MAX => u32::MAX,
        _ => u32::try_from(until_ms.saturating_sub(now_ms) / 1000).unwrap_or(u32::MAX - 1),
    }
}

#[cfg(test)]
mod tests;
