//! How many connections there may be: in all, before their log-in, and from one
//! address.
//!
//! An address is an IPv4 address or an IPv6 /64 ([`network`]). Time is an
//! argument, so the rules are tested without a clock.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::throttle::network;
use crate::config::Limits;

/// The period of `accepts_per_address_per_minute`.
const MINUTE_MS: u64 = 60_000;
/// Places for a machine's own connections when those for everybody are taken: by them PID 1 asks
/// whether the server answers, and strangers must not be able to keep it from that.
pub const OWN_PLACES: usize = 8;

/// Counts connections and refuses those beyond the limits.
#[derive(Debug)]
pub struct Admissions {
    own_places: usize,
    connections: usize,
    unauthenticated_connections: usize,
    connections_per_address: usize,
    accepts_per_address_per_minute: u32,
    addresses_remembered: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    unauthenticated: usize,
    /// Those of the loopback that came when everybody's places were taken.
    reserved: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    /// When the connections of this address would have come had they kept the
    /// allowed rate; at most a minute ahead of the clock.
    due_ms: u64,
    /// When a refusal of this address was last told.
    told_ms: Option<u64>,
}

/// One connection's place; dropping it makes room for another.
#[derive(Debug)]
pub struct Slot {
    admissions: Arc<Admissions>,
    network: IpAddr,
    authenticated: bool,
    reserved: bool,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `connections` are open.
    Connections,
    /// `unauthenticated_connections` are open.
    Unauthenticated,
    /// `connections_per_address` are open from there.
    Address,
    /// `accepts_per_address_per_minute` came from there.
    Rate,
}

/// A refusal, and whether the log should hear of it: once a minute and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Full,
    /// The first of this address for a minute.
    pub is_news: bool,
}

impl Admissions {
    /// Nobody is here yet. Connections of the loopback have `own_places` of their own when those for
    /// everybody are taken.
    #[must_use]
    pub fn new(limits: &Limits, own_places: usize) -> Arc<Self> {
        Arc::new(Self {
            own_places,
            connections: limits.connections,
            unauthenticated_connections: limits.unauthenticated_connections,
            connections_per_address: limits.connections_per_address,
            accepts_per_address_per_minute: limits.accepts_per_address_per_minute,
            addresses_remembered: limits.addresses_remembered,
            counts: Mutex::default(),
        })
    }

    /// A connection from `peer`. One of the loopback that finds everybody's places taken has a few
    /// of its own; the limits for one address hold for it as for others.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, now_ms: u64) -> Result<Slot, Refusal> {
        let network = network(peer);
        let mut counts = self.counts();
        counts.make_room(self.addresses_remembered, now_ms);
        let Counts {
            connections,
            unauthenticated,
            reserved,
            addresses,
        } = &mut *counts;
        let address = addresses.entry(network).or_default();
        let taken = if *connections >= self.connections {
            Some(Full::Connections)
        } else if *unauthenticated >= self.unauthenticated_connections {
            Some(Full::Unauthenticated)
        } else {
            None
        };
        let has_reserve = peer.to_canonical().is_loopback() && *reserved < self.own_places;
        let why = if taken.is_some() && !has_reserve {
            taken
        } else if address.connections >= self.connections_per_address {
            Some(Full::Address)
        } else if !address.is_in_rate(self.accepts_per_address_per_minute, now_ms) {
            Some(Full::Rate)
        } else {
            None
        };
        if let Some(why) = why {
            let told = address.told_ms;
            let is_news = told.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= MINUTE_MS);
            if is_news {
                address.told_ms = Some(now_ms);
            }
            return Err(Refusal { why, is_news });
        }
        address.connections += 1;
        *connections += 1;
        *unauthenticated += 1;
        *reserved += usize::from(taken.is_some());
        Ok(Slot {
            admissions: Arc::clone(self),
            network,
            authenticated: false,
            reserved: taken.is_some(),
        })
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.counts().connections
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The connection has logged in.
    pub fn authenticated(&mut self) {
        if !self.authenticated {
            self.authenticated = true;
            self.admissions.counts().unauthenticated -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.admissions.counts();
        counts.connections -= 1;
        counts.unauthenticated -= usize::from(!self.authenticated);
        counts.reserved -= usize::from(self.reserved);
        if let Some(address) = counts.addresses.get_mut(&self.network) {
            address.connections -= 1;
        }
    }
}

impl Counts {
    /// Forgets addresses of which nothing is left to remember, and where those
    /// are too few, all that have no connection: a flood from everywhere costs
    /// the memory of the rates, not memory.
    fn make_room(&mut self, addresses_remembered: usize, now_ms: u64) {
        if self.addresses.len() < addresses_remembered + self.connections {
            return;
        }
        self.addresses
            .retain(|_, address| address.connections > 0 || address.due_ms > now_ms);
        if self.addresses.len() >= addresses_remembered / 2 + self.connections {
            self.addresses.retain(|_, address| address.connections > 0);
        }
    }
}

impl Address {
    /// Takes a place in this minute's share; a whole share may come at once.
    fn is_in_rate(&mut self, per_minute: u32, now_ms: u64) -> bool {
        let Some(apart_ms) = MINUTE_MS.checked_div(u64::from(per_minute)) else {
            return true;
        };
        let due_ms = self.due_ms.max(now_ms) + apart_ms;
        let in_rate = due_ms <= now_ms + MINUTE_MS;
        if in_rate {
            self.due_ms = due_ms;
        }
        in_rate
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self {
            Self::Connections => "connections",
            Self::Unauthenticated => "unauthenticated_connections",
            Self::Address => "connections_per_address",
            Self::Rate => "accepts_per_address_per_minute",
        };
        write!(f, "limits.{key} is reached")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Machine};

    fn admissions(change: impl FnOnce(&mut Limits)) -> Arc<Admissions> {
        let machine = Machine::of_memory(1 << 30);
        let mut limits = Config::of_domain("a.example", &machine).limits;
        change(&mut limits);
        Admissions::new(&limits, OWN_PLACES)
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let admissions = admissions(|limits| limits.connections_per_address = 2);
        let a = admissions.admit(peer("2001:db8::1"), 0).expect("first");
        let _b = admissions.admit(peer("2001:db8::2"), 0).expect("second");
        let refused = admissions
            .admit(peer("2001:db8::3"), 0)
            .expect_err("one /64");
        assert_eq!(refused.why, Full::Address);
        admissions
            .admit(peer("2001:db8:0:1::1"), 0)
            .expect("another /64");
        drop(a);
        admissions
            .admit(peer("2001:db8::3"), 0)
            .expect("there is room again");
    }

    #[test]
    fn the_total_holds_and_a_log_in_makes_room_before_it() {
        let admissions = admissions(|limits| {
            limits.connections = 3;
            limits.unauthenticated_connections = 2;
        });
        let mut a = admissions.admit(peer("192.0.2.1"), 0).expect("first");
        let _b = admissions.admit(peer("192.0.2.2"), 0).expect("second");
        let why = |last: u8| {
            admissions
                .admit(IpAddr::from([192, 0, 2, last]), 0)
                .map_err(|r| r.why)
        };
        assert_eq!(why(3).err(), Some(Full::Unauthenticated));
        a.authenticated();
        let _c = why(3).expect("third");
        assert_eq!(why(4).err(), Some(Full::Connections));
        assert_eq!(admissions.connections(), 3);
    }

    #[test]
    fn strangers_who_take_all_places_leave_a_few_to_the_machine_itself() {
        let limits: [fn(&mut Limits); 2] = [
            |limits| limits.connections = 2,
            |limits| limits.unauthenticated_connections = 2,
        ];
        for change in limits {
            let admissions = admissions(change);
            let strangers = ["192.0.2.1", "192.0.2.2"]
                .map(|stranger| admissions.admit(peer(stranger), 0).expect("there is room"));
            admissions.admit(peer("192.0.2.3"), 0).expect_err("full");
            let own = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];
            let mut held: Vec<Slot> = own
                .iter()
                .cycle()
                .map_while(|own| admissions.admit(peer(own), 0).ok())
                .take(OWN_PLACES + 1)
                .collect();
            assert_eq!(held.len(), OWN_PLACES);
            held.pop();
            held.push(admissions.admit(peer("::1"), 0).expect("it is free again"));
            drop((held, strangers));
            let counts = admissions.counts();
            let left = (counts.connections, counts.unauthenticated, counts.reserved);
            assert_eq!(left, (0, 0, 0));
        }
    }

    #[test]
    fn the_limits_for_one_address_hold_for_the_loopback_too() {
        let admissions = admissions(|limits| limits.connections_per_address = 2);
        let _held = [(); 2].map(|()| admissions.admit(peer("127.0.0.1"), 0).expect("room"));
        let refused = admissions.admit(peer("127.0.0.1"), 0).expect_err("full");
        assert_eq!(refused.why, Full::Address);
    }

    #[test]
    fn a_burst_is_one_minutes_share_and_then_the_rate_holds() {
        let admissions = admissions(|limits| limits.accepts_per_address_per_minute = 60);
        let accepted = |from_s: u64, to_s: u64| {
            (from_s * 1000..to_s * 1000)
                .step_by(10)
                .filter(|now_ms| admissions.admit(peer("192.0.2.1"), 5_000 + now_ms).is_ok())
                .count()
        };
        assert_eq!(accepted(0, 1), 60);
        assert!((59..=61).contains(&accepted(1, 61)));
    }

    #[test]
    fn zero_lifts_the_rate() {
        let admissions = admissions(|limits| limits.accepts_per_address_per_minute = 0);
        for _ in 0..10_000 {
            admissions.admit(peer("192.0.2.1"), 0).expect("no rate");
        }
    }

    #[test]
    fn a_refusal_is_news_once_a_minute() {
        let admissions = admissions(|limits| limits.accepts_per_address_per_minute = 1);
        admissions.admit(peer("192.0.2.1"), 0).expect("the first");
        let is_news = |now_ms| {
            let refusal = admissions
                .admit(peer("192.0.2.1"), now_ms)
                .expect_err("too early");
            refusal.is_news
        };
        assert!(is_news(1));
        assert!(!is_news(2));
        assert!(!is_news(59_999));
    }

    #[test]
    fn addresses_are_forgotten_before_they_fill_the_memory() {
        let admissions = admissions(|limits| limits.addresses_remembered = 1_024);
        let _stays = admissions.admit(peer("192.0.2.1"), 0).expect("the first");
        for n in 0..20_000_u32 {
            drop(admissions.admit(IpAddr::from(n.to_be_bytes()), 0));
        }
        let counts = admissions.counts();
        assert!(
            counts.addresses.len() <= 1_025,
            "{}",
            counts.addresses.len()
        );
        assert_eq!(counts.addresses[&peer("192.0.2.1")].connections, 1);
    }
}
