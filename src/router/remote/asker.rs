//! On whose behalf something goes elsewhere, and what may wait there for everybody together: what
//! one asks for is not to cost the others their way.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who asks for something: an account here, or a family of domains elsewhere. Two of them are the
/// same by an accident that nobody can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker(u64);

/// Tells askers from each other.
#[derive(Debug, Default)]
pub struct Askers(RandomState);

impl Askers {
    /// An account, by its bare address, or whoever else has this name.
    pub fn named(&self, name: &str) -> Asker {
        Asker(self.0.hash_one(name))
    }

    /// A domain elsewhere, with all of its family.
    pub fn family_of(&self, domain: &str) -> Asker {
        self.named(family(domain))
    }
}

/// The last two labels of a domain, all of an address: whoever has one name below it may have as
/// many as they like. (Where it is a whole country's `co.uk` its servers share what one family
/// may have, which is a part of the whole and no less.)
fn family(domain: &str) -> &str {
    if domain.parse::<std::net::IpAddr>().is_ok() || domain.ends_with(']') {
        return domain;
    }
    match domain.rmatch_indices('.').nth(1) {
        Some((dot, _)) => &domain[dot + 1..],
        None => domain,
    }
}

/// The bytes that may wait for other servers and for components, apart from what waits for
/// clients: so neither costs the other anything.
#[derive(Debug)]
pub struct Room {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    by_asker: HashMap<Asker, usize>,
}

/// What one thing that waits takes of the room; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    room: Arc<Room>,
    asker: Asker,
    bytes: usize,
}

impl Room {
    /// Nothing waits yet.
    pub fn new(bytes_max: usize) -> Arc<Room> {
        Arc::new(Room {
            bytes_max,
            held: Mutex::default(),
        })
    }

    /// All of it.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.held().bytes
    }

    /// Takes a share. One asker gets no more than a third of what is left then, so a few
    /// who take all that they may leave something for the next.
    pub fn take(self: &Arc<Room>, asker: Asker, bytes: usize) -> Option<Share> {
        let mut held = self.held();
        let left = self.bytes_max.checked_sub(held.bytes + bytes)?;
        let own = held.by_asker.get(&asker).copied().unwrap_or(0);
        if own > 0 && own + bytes > left / 3 {
            return None;
        }
        held.bytes += bytes;
        held.by_asker.insert(asker, own + bytes);
        Some(Share {
            room: self.clone(),
            asker,
            bytes,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.bytes -= self.bytes;
        if let Some(own) = held.by_asker.get_mut(&self.asker) {
            *own -= self.bytes;
            if *own == 0 {
                held.by_asker.remove(&self.asker);
            }
        }
        if held.by_asker.is_empty() {
            held.by_asker = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_below_one_are_a_family() {
        for (domain, expected) in [
            ("evil.test", "evil.test"),
            ("a.b.evil.test", "evil.test"),
            ("localhost", "localhost"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(family(domain), expected);
        }
        let askers = Askers::default();
        assert_eq!(
            askers.family_of("1.evil.test"),
            askers.family_of("2.evil.test")
        );
        assert_ne!(askers.family_of("evil.test"), askers.family_of("good.test"));
    }

    #[test]
    fn whoever_fills_the_room_leaves_something_for_the_next() {
        let (room, askers) = (Room::new(100_000), Askers::default());
        let mut all = Vec::new();
        for number in 0..8 {
            let asker = askers.named(&number.to_string());
            let mut own = Vec::new();
            while let Some(share) = room.take(asker, 100) {
                own.push(share);
            }
            assert!(!own.is_empty(), "nothing is left for {number}");
            if number == 0 {
                assert!(own.len() < 500, "{}", own.len());
            }
            all.append(&mut own);
        }
        assert!(room.bytes() < 100_000);
        assert!(room.take(askers.named("last"), 100_001).is_none());
        drop(all);
        assert_eq!(room.bytes(), 0);
        assert!(
            room.take(askers.named("last"), 100_000).is_some(),
            "one may be big"
        );
    }
}
