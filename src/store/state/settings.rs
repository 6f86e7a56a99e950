//! Values of the server itself, by name.

use std::collections::BTreeMap;

/// The settings and the last record that they reflect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    values: BTreeMap<Box<str>, Box<[u8]>>,
    pub(super) through: u64,
}

impl Settings {
    pub(super) fn find(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(|value| &**value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(super) fn put(&mut self, name: &str, value: &[u8]) {
        self.values.insert(name.into(), value.into());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Whether a record is news to the settings; from then on it is not.
    pub(super) fn advance(&mut self, seq: u64) -> bool {
        let news = seq > self.through;
        if news {
            self.through = seq;
        }
        news
    }
}
