//! How often a log-in may fail: token buckets by address and by account.
//!
//! An address (an IPv4 address or an IPv6 /64) that fails too often is refused for a while. An
//! account that is guessed at from many addresses is closed only to addresses from which nobody
//! has logged in to it lately, so that guessing cannot lock its owner out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleLimits {
    /// Failures an address may have at once; 0 lifts the limit.
    pub failures_per_address: u32,
    /// Failures an account may have at once from addresses it does not know; 0 lifts the limit.
    pub failures_per_account: u32,
    /// A failure is forgiven every so many milliseconds.
    pub forgiven_every_ms: u64,
    /// Addresses and accounts that are remembered at most.
    pub entries_max: usize,
}

/// Failed log-ins, and the addresses that accounts are known at.
#[derive(Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    addresses: HashMap<IpAddr, Bucket>,
    accounts: HashMap<Box<str>, Bucket>,
    /// When somebody last logged in to the account from the address.
    known: HashMap<(Box<str>, IpAddr), u64>,
}

/// Failures, forgiven with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    at_ms: u64,
}

/// A try that may be made, and that counts as a failure until [`Throttle::succeeded`] hears that
/// it was none.
#[derive(Debug)]
#[must_use = "it counts as a failure"]
pub struct Try {
    address: IpAddr,
    account: Box<str>,
    /// A known address costs the account nothing, so nothing of that may be taken back either.
    counts_for_account: bool,
}

/// How long an address stays known to an account.
const KNOWN_MS: u64 = 30 * 24 * 3600 * 1000;

impl Throttle {
    /// Nothing has failed yet.
    pub fn new(limits: ThrottleLimits) -> Throttle {
        Throttle {
            limits,
            memory: Mutex::default(),
        }
    }

    /// Whether this address may try to log in to this account now. A try that may be made is
    /// counted as a failure at once, so that many at a time count too.
    pub fn may_try(&self, address: IpAddr, account: &str, now_ms: u64) -> Option<Try> {
        let limits = &self.limits;
        let address = network(address);
        let mut memory = self.memory();
        let Memory {
            addresses,
            accounts,
            known,
        } = &mut *memory;
        let every_ms = limits.forgiven_every_ms;
        let by_address = entry(addresses, &address, limits.entries_max, now_ms, every_ms);
        if limits.failures_per_address > 0 && by_address.failures >= limits.failures_per_address {
            return None;
        }
        let account: Box<str> = account.into();
        let is_known = known
            .get(&(account.clone(), address))
            .is_some_and(|&at_ms| now_ms.saturating_sub(at_ms) < KNOWN_MS);
        let counts_for_account = !is_known && limits.failures_per_account > 0;
        if counts_for_account {
            let by_account = entry(accounts, &account, limits.entries_max, now_ms, every_ms);
            if by_account.failures >= limits.failures_per_account {
                return None;
            }
            by_account.failures += 1;
        }
        by_address.failures += 1;
        Some(Try {
            address,
            account,
            counts_for_account,
        })
    }

    /// The try was no failure.
    pub fn succeeded(&self, no_failure: Try, now_ms: u64) {
        let Try {
            address,
            account,
            counts_for_account,
        } = no_failure;
        let mut memory = self.memory();
        if let Some(bucket) = memory.addresses.get_mut(&address) {
            bucket.failures = bucket.failures.saturating_sub(1);
        }
        if counts_for_account && let Some(bucket) = memory.accounts.get_mut(&account) {
            bucket.failures = bucket.failures.saturating_sub(1);
        }
        if memory.known.len() >= self.limits.entries_max {
            forget_older_half(&mut memory.known, |&at_ms| at_ms);
        }
        memory.known.insert((account, address), now_ms);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address: whoever has an IPv6 address has at least a /64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

fn entry<'a, K: Hash + Eq + Clone>(
    buckets: &'a mut HashMap<K, Bucket>,
    key: &K,
    entries_max: usize,
    now_ms: u64,
    forgiven_every_ms: u64,
) -> &'a mut Bucket {
    if buckets.len() >= entries_max && !buckets.contains_key(key) {
        buckets.retain(|_, bucket| {
            bucket.forgive(now_ms, forgiven_every_ms);
            bucket.failures > 0
        });
        if buckets.len() >= entries_max {
            forget_older_half(buckets, |bucket| bucket.at_ms);
        }
    }
    let bucket = buckets.entry(key.clone()).or_insert(Bucket {
        failures: 0,
        at_ms: now_ms,
    });
    bucket.forgive(now_ms, forgiven_every_ms);
    bucket
}

fn forget_older_half<K: Hash + Eq, V>(map: &mut HashMap<K, V>, at_ms: impl Fn(&V) -> u64) {
    let mut times: Vec<u64> = map.values().map(&at_ms).collect();
    let middle = times.len() / 2;
    if times.is_empty() {
        return;
    }
    let (_, &mut median, _) = times.select_nth_unstable(middle);
    let mut surplus = times.len().div_ceil(2);
    map.retain(|_, value| {
        let goes = surplus > 0 && at_ms(value) <= median;
        surplus -= usize::from(goes);
        !goes
    });
}

impl Bucket {
    fn forgive(&mut self, now_ms: u64, every_ms: u64) {
        let forgiven = now_ms.saturating_sub(self.at_ms) / every_ms.max(1);
        self.failures = self
            .failures
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.at_ms = match self.failures {
            0 => now_ms,
            _ => self.at_ms + forgiven * every_ms,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ThrottleLimits = ThrottleLimits {
        failures_per_address: 3,
        failures_per_account: 5,
        forgiven_every_ms: 1_000,
        entries_max: 8,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Whether a try was allowed; it fails.
    fn fails(throttle: &Throttle, last: u8, account: &str, now_ms: u64) -> bool {
        throttle.may_try(address(last), account, now_ms).is_some()
    }

    /// Whether a try was allowed; it succeeds.
    fn succeeds(throttle: &Throttle, last: u8, account: &str, now_ms: u64) -> bool {
        let allowed = throttle.may_try(address(last), account, now_ms);
        allowed
            .map(|tried| throttle.succeeded(tried, now_ms))
            .is_some()
    }

    #[test]
    fn an_address_that_fails_too_often_waits() {
        let throttle = Throttle::new(LIMITS);
        for _ in 0..3 {
            assert!(fails(&throttle, 1, "a@b", 0));
        }
        assert!(!fails(&throttle, 1, "c@b", 0));
        assert!(fails(&throttle, 2, "c@b", 0));
        assert!(fails(&throttle, 1, "c@b", 1_000));
    }

    #[test]
    fn success_is_no_failure() {
        let throttle = Throttle::new(LIMITS);
        for _ in 0..20 {
            assert!(succeeds(&throttle, 1, "a@b", 0));
        }
    }

    #[test]
    fn an_owner_who_logs_in_again_and_again_buys_nobody_a_guess() {
        let throttle = Throttle::new(LIMITS);
        assert!(succeeds(&throttle, 99, "a@b", 0));
        let mut guesses = 0;
        for n in 0..20 {
            guesses += u32::from(fails(&throttle, n, "a@b", 0));
            assert!(succeeds(&throttle, 99, "a@b", 0));
        }
        assert_eq!(guesses, LIMITS.failures_per_account);
    }

    #[test]
    fn guessing_from_many_addresses_closes_the_account_to_strangers_but_not_to_its_owner() {
        let throttle = Throttle::new(LIMITS);
        assert!(succeeds(&throttle, 99, "a@b", 0));
        let tries = (0..20).filter(|&n| fails(&throttle, n, "a@b", 0)).count();
        assert_eq!(tries, 5);
        assert!(succeeds(&throttle, 99, "a@b", 0));
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let a: IpAddr = "2001:db8::1".parse().expect("an address");
        let b: IpAddr = "2001:db8::ffff:2".parse().expect("an address");
        let c: IpAddr = "2001:db8:0:1::1".parse().expect("an address");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(network(a), network(b));
        assert_ne!(network(a), network(c));
        assert_eq!(network(mapped), address(1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let throttle = Throttle::new(LIMITS);
        for n in 0..=255 {
            fails(&throttle, n, &format!("{n}@b"), u64::from(n));
            succeeds(&throttle, n, &format!("{n}@b"), u64::from(n));
        }
        let memory = throttle.memory();
        assert!(memory.addresses.len() <= LIMITS.entries_max);
        assert!(memory.accounts.len() <= LIMITS.entries_max);
        assert!(memory.known.len() <= LIMITS.entries_max);
    }
}
