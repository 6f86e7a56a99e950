//! What routers have advertised on one link and how long it counts, without a socket or a clock.

use std::net::{IpAddr, Ipv6Addr};

use super::ra::{self, Advertisement, Resolver};

/// RFC 4861 §10: how often routers are asked, and how far apart.
const SOLICITATIONS_MAX: u8 = 3;
const SOLICITATION_INTERVAL_MS: u64 = 4_000;
/// A link that takes nothing yet, for want of a cable or of a checked address, may do so soon.
const RETRY_MS: u64 = 1_000;
/// Name servers that are kept.
const RESOLVERS_MAX: usize = 8;

/// What the routers of a link have said.
#[derive(Debug)]
pub struct Advertised {
    mac: Option<[u8; 6]>,
    /// With the time from which on they do not count.
    resolvers: Vec<(Ipv6Addr, u64)>,
    is_managed: bool,
    has_other: bool,
    asked: u8,
    /// When routers are asked again; `None`: they have been heard, or there are none.
    ask_ms: Option<u64>,
}

impl Advertised {
    /// Begins to ask. The kernel asks as well, but it may have been answered before anybody here
    /// could hear it.
    pub fn new(mac: Option<[u8; 6]>, now_ms: u64) -> Advertised {
        Advertised {
            mac,
            resolvers: Vec::new(),
            is_managed: false,
            has_other: false,
            asked: 0,
            ask_ms: Some(now_ms),
        }
    }

    /// When something is due next.
    pub fn wake_ms(&self) -> Option<u64> {
        let ends = self.resolvers.iter().map(|(_, end_ms)| *end_ms);
        ends.chain(self.ask_ms).min()
    }

    /// Forgets name servers whose time is over, and says whether there were any.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let before = self.resolvers.len();
        self.resolvers.retain(|(_, end_ms)| now_ms < *end_ms);
        self.resolvers.len() < before
    }

    /// The solicitation that is due. Whoever cannot send it calls
    /// [`not_sent`](Advertised::not_sent).
    pub fn solicit(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        self.ask_ms.filter(|ask_ms| now_ms >= *ask_ms)?;
        self.asked += 1;
        self.ask_ms = (self.asked < SOLICITATIONS_MAX).then_some(now_ms + SOLICITATION_INTERVAL_MS);
        Some(ra::solicitation(self.mac))
    }

    /// The link did not take the solicitation: it does not count.
    pub fn not_sent(&mut self, now_ms: u64) {
        self.asked = self.asked.saturating_sub(1);
        self.ask_ms = Some(now_ms + RETRY_MS);
    }

    /// Takes what a router said, and says whether the name servers are others now.
    pub fn receive(&mut self, advertisement: &Advertisement, now_ms: u64) -> bool {
        self.ask_ms = None;
        // What one router says to have, another one need not have.
        self.is_managed |= advertisement.is_managed;
        self.has_other |= advertisement.has_other;
        let before: Vec<IpAddr> = self.resolvers().collect();
        for resolver in &advertisement.resolvers {
            self.keep(*resolver, now_ms);
        }
        !self.resolvers().eq(before)
    }

    fn keep(&mut self, resolver: Resolver, now_ms: u64) {
        let Resolver {
            address,
            lifetime_s,
        } = resolver;
        let end_ms = match lifetime_s {
            u32::MAX => u64::MAX,
            seconds => now_ms.saturating_add(u64::from(seconds) * 1000),
        };
        let known = self
            .resolvers
            .iter()
            .position(|(known, _)| *known == address);
        match (known, lifetime_s) {
            (Some(at), 0) => drop(self.resolvers.remove(at)),
            (Some(at), _) => self.resolvers[at].1 = end_ms,
            (None, 0) => {}
            (None, _) if self.resolvers.len() < RESOLVERS_MAX => {
                self.resolvers.push((address, end_ms));
            }
            (None, _) => {
                // RFC 8106 §6.1: the one whose time is over first makes room.
                let first = self.resolvers.iter_mut().min_by_key(|(_, end_ms)| *end_ms);
                if let Some(first) = first.filter(|(_, first_ms)| *first_ms < end_ms) {
                    *first = (address, end_ms);
                }
            }
        }
    }

    /// Name servers that may be asked.
    pub fn resolvers(&self) -> impl Iterator<Item = IpAddr> {
        self.resolvers
            .iter()
            .map(|(address, _)| IpAddr::from(*address))
    }

    /// A router has said that addresses are to be had from DHCPv6. That a later one does not say
    /// so ends nothing.
    pub fn is_managed(&self) -> bool {
        self.is_managed
    }

    /// A router has said that other things are to be had from DHCPv6.
    pub fn has_other(&self) -> bool {
        self.has_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertisement(resolvers: &[(u16, u32)]) -> Advertisement {
        Advertisement {
            is_managed: false,
            has_other: false,
            router_lifetime_s: 1800,
            mtu: None,
            resolvers: resolvers
                .iter()
                .map(|(last, lifetime_s)| Resolver {
                    address: address(*last),
                    lifetime_s: *lifetime_s,
                })
                .collect(),
        }
    }

    fn address(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    fn held(advertised: &Advertised) -> Vec<IpAddr> {
        advertised.resolvers().collect()
    }

    #[test]
    fn routers_are_asked_three_times_four_seconds_apart() {
        let mut advertised = Advertised::new(None, 100);
        let mut asked = Vec::new();
        while let Some(now_ms) = advertised.wake_ms() {
            assert!(advertised.solicit(now_ms).is_some());
            assert!(advertised.solicit(now_ms).is_none(), "not twice");
            asked.push(now_ms);
        }
        assert_eq!(asked, [100, 4_100, 8_100]);
    }

    #[test]
    fn routers_that_were_heard_are_not_asked_again() {
        let mut advertised = Advertised::new(None, 0);
        assert!(advertised.solicit(0).is_some());
        assert!(!advertised.receive(&advertisement(&[]), 10));
        assert_eq!(advertised.wake_ms(), None);
        assert!(advertised.solicit(10_000).is_none());
    }

    #[test]
    fn what_the_link_did_not_take_was_not_asked() {
        let mut advertised = Advertised::new(None, 0);
        for second in 0..10 {
            let now_ms = second * 1000;
            assert_eq!(advertised.wake_ms(), Some(now_ms));
            assert!(advertised.solicit(now_ms).is_some());
            advertised.not_sent(now_ms);
        }
        let sent = std::iter::from_fn(|| advertised.solicit(advertised.wake_ms()?));
        assert_eq!(sent.count(), 3);
    }

    #[test]
    fn name_servers_last_as_long_as_the_router_says() {
        let mut advertised = Advertised::new(None, 0);
        assert!(advertised.receive(&advertisement(&[(1, 60), (2, u32::MAX), (3, 600)]), 0));
        assert_eq!(advertised.wake_ms(), Some(60_000));
        assert!(!advertised.expire(59_999));
        assert!(advertised.expire(60_000));
        assert_eq!(held(&advertised), [address(2), address(3)]);
        assert!(
            !advertised.receive(&advertisement(&[(3, 600)]), 500_000),
            "longer"
        );
        assert!(!advertised.expire(1_000_000));
        assert!(advertised.receive(&advertisement(&[(3, 0), (4, 0)]), 1_000_000));
        assert_eq!(held(&advertised), [address(2)]);
        assert!(!advertised.expire(u64::MAX - 1), "that one is for ever");
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let mut advertised = Advertised::new(None, 0);
        let many: Vec<(u16, u32)> = (1..=8).map(|last| (last, 100 + u32::from(last))).collect();
        assert!(advertised.receive(&advertisement(&many), 0));
        assert!(!advertised.receive(&advertisement(&[(9, 50)]), 0));
        assert!(advertised.receive(&advertisement(&[(9, 500)]), 0));
        let held = held(&advertised);
        assert_eq!(held.len(), RESOLVERS_MAX);
        assert!(held.contains(&address(9).into()) && !held.contains(&address(1).into()));
    }

    #[test]
    fn flags_stay() {
        let mut advertised = Advertised::new(None, 0);
        let mut managed = advertisement(&[]);
        managed.is_managed = true;
        advertised.receive(&managed, 0);
        advertised.receive(&advertisement(&[]), 0);
        assert!(advertised.is_managed() && !advertised.has_other());
    }
}
