//! What few accounts have or read rarely: vCard, private XML, requests for
//! presence, sleeping sessions. The values stay on the device.

use crate::store::fold::{Live, Place};

/// A value on the device and the record that put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) seq: u64,
    pub(crate) place: Place,
}

/// Values on the device by a key, in the order in which the keys came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keyed(Vec<(Box<str>, Slot)>);

impl Keyed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Slot)> {
        self.0.iter().map(|(key, slot)| (&**key, slot))
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Slot> {
        self.0
            .iter()
            .find(|(other, _)| &**other == key)
            .map(|(_, slot)| slot)
    }

    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Slot> {
        self.0
            .iter_mut()
            .find(|(other, _)| &**other == key)
            .map(|(_, slot)| slot)
    }

    pub(crate) fn put(&mut self, key: &str, slot: Slot, live: &mut Live) {
        live.hold(slot.place);
        if let Some(old) = self.find_mut(key) {
            live.release(old.place);
            *old = slot;
        } else {
            self.0.reserve_exact(1);
            self.0.push((key.into(), slot));
        }
    }

    pub(crate) fn remove(&mut self, key: &str, live: &mut Live) {
        if let Some(at) = self.0.iter().position(|(other, _)| &**other == key) {
            live.erase(self.0.remove(at).1.place);
        }
    }
}

/// The rarer parts of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) last_status: Box<str>,
    /// At most one; the key is empty.
    pub(crate) vcard: Keyed,
    /// By the bare JID that asks.
    pub(crate) requests: Keyed,
    /// By [`private_key`].
    pub(crate) private: Keyed,
    /// By resumption id.
    pub(crate) sessions: Keyed,
}

impl Profile {
    pub(crate) fn is_empty(&self) -> bool {
        self.last_status.is_empty()
            && [&self.vcard, &self.requests, &self.private, &self.sessions]
                .iter()
                .all(|keyed| keyed.is_empty())
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let all = [&self.vcard, &self.requests, &self.private, &self.sessions];
        all.into_iter()
            .flat_map(|keyed| keyed.iter().map(|(_, slot)| slot.place))
    }
}

/// Name and namespace of a private XML element in one key. A namespace may
/// hold blanks of its own, a name never does.
pub(crate) fn private_key(name: &str, namespace: &str) -> String {
    format!("{name} {namespace}")
}

/// Name and namespace out of such a key.
pub(crate) fn private_names(key: &str) -> (&str, &str) {
    key.split_once(' ').unwrap_or((key, ""))
}
