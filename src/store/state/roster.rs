//! An account's roster (RFC 6121 §2), packed into two allocations.

use crate::store::records::{RemovalV1, RosterImageItemV1};

/// Removals that a roster remembers for versioning (RFC 6121 §2.6); a client
/// that missed more is sent the whole roster.
pub const REMOVALS_MAX: usize = 32;

/// Stands between two groups; no XML text can hold it.
const GROUP_SEPARATOR: char = '\u{1}';

/// The state of a subscription (RFC 6121 §2.1.2.5), from the account's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Neither sees the other.
    #[default]
    None,
    /// The account sees the contact's presence.
    To,
    /// The contact sees the account's presence.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// The word of the `subscription` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Subscription::None => "none",
            Subscription::To => "to",
            Subscription::From => "from",
            Subscription::Both => "both",
        }
    }

    /// The state that a `subscription` attribute names.
    pub fn from_word(word: &str) -> Option<Subscription> {
        match word {
            "none" => Some(Subscription::None),
            "to" => Some(Subscription::To),
            "from" => Some(Subscription::From),
            "both" => Some(Subscription::Both),
            _ => None,
        }
    }

    /// Whether the account sees the contact's presence.
    pub fn has_to(self) -> bool {
        matches!(self, Subscription::To | Subscription::Both)
    }

    /// Whether the contact sees the account's presence.
    pub fn has_from(self) -> bool {
        matches!(self, Subscription::From | Subscription::Both)
    }
}

/// A roster item, borrowed from the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterItem<'a> {
    /// The contact's JID.
    pub contact: &'a str,
    /// The handle that the user gave it; empty when none.
    pub name: &'a str,
    groups: &'a str,
    flags: u8,
    /// The roster version of its last change.
    pub version: u64,
}

impl<'a> RosterItem<'a> {
    /// The groups that it stands in.
    pub fn groups(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.groups.split_terminator(GROUP_SEPARATOR)
    }

    /// The state of the subscription.
    pub fn subscription(&self) -> Subscription {
        subscription_of(self.flags)
    }

    /// Whether the account has asked for the contact's presence and waits for
    /// an answer (`ask='subscribe'`).
    pub fn ask(&self) -> bool {
        self.flags & ASK != 0
    }

    /// Whether a request of the contact is granted in advance (RFC 6121 §3.4).
    pub fn approved(&self) -> bool {
        self.flags & APPROVED != 0
    }

    /// Bytes of its texts in memory.
    pub(crate) fn text_bytes(&self) -> usize {
        self.contact.len() + self.name.len() + self.groups.len()
    }

    /// A copy that can be changed and put again.
    pub fn to_entry(&self) -> RosterEntry {
        RosterEntry {
            contact: self.contact.to_owned(),
            name: self.name.to_owned(),
            groups: self.groups().map(str::to_owned).collect(),
            subscription: self.subscription(),
            ask: self.ask(),
            approved: self.approved(),
        }
    }

    /// The item as a checkpoint holds it.
    pub(crate) fn to_image(self) -> RosterImageItemV1<'a> {
        RosterImageItemV1 {
            contact: self.contact,
            name: self.name,
            groups: self.groups().collect(),
            flags: self.flags,
            version: self.version,
        }
    }
}

/// A roster item to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RosterEntry {
    /// The contact's JID, normalised.
    pub contact: String,
    /// The handle that the user gave it; empty when none.
    pub name: String,
    /// The groups that it stands in.
    pub groups: Vec<String>,
    /// The state of the subscription.
    pub subscription: Subscription,
    /// Whether the account has asked and waits for an answer.
    pub ask: bool,
    /// Whether a request of the contact is granted in advance.
    pub approved: bool,
}

impl RosterEntry {
    /// An item of a contact that nothing is known of yet.
    pub fn new(contact: &str) -> RosterEntry {
        RosterEntry {
            contact: contact.to_owned(),
            ..RosterEntry::default()
        }
    }

    /// The bits that a record keeps of it.
    pub(crate) fn flags(&self) -> u8 {
        let subscription = match self.subscription {
            Subscription::None => 0,
            Subscription::To => 1,
            Subscription::From => 2,
            Subscription::Both => 3,
        };
        subscription | if self.ask { ASK } else { 0 } | if self.approved { APPROVED } else { 0 }
    }
}

/// What happened to a contact since some version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterChange<'a> {
    /// The item is now like this.
    Put(RosterItem<'a>),
    /// The item is gone.
    Removed {
        /// The contact's JID.
        contact: &'a str,
        /// The roster version of the removal.
        version: u64,
    },
}

impl RosterChange<'_> {
    /// The roster version of the change.
    pub fn version(&self) -> u64 {
        match self {
            RosterChange::Put(item) => item.version,
            RosterChange::Removed { version, .. } => *version,
        }
    }
}

/// All items of an account.
///
/// The fixed parts of the items stand in one vector, their texts one behind
/// the other in one string, in the same order. An item is found by the hash of
/// its contact; rosters are small and read whole, so nothing else is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    heads: Vec<Head>,
    texts: String,
    version: u64,
    horizon: u64,
    removals: Vec<Removal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    version: u64,
    contact_hash: u32,
    contact_len: u16,
    name_len: u16,
    groups_len: u16,
    flags: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Removal {
    version: u64,
    contact: Box<str>,
}

const SUBSCRIPTION: u8 = 0b0011;
const ASK: u8 = 0b0100;
const APPROVED: u8 = 0b1000;

impl Roster {
    /// Bytes that every account's roster may take: ten contacts and more.
    pub const OWN_BYTES: usize = 1_024;

    /// Bytes of memory of an item besides its texts.
    pub(crate) const ITEM_BYTES: usize = size_of::<Head>();

    /// A roster without items.
    pub(crate) const fn new() -> Roster {
        Roster {
            heads: Vec::new(),
            texts: String::new(),
            version: 0,
            horizon: 0,
            removals: Vec::new(),
        }
    }

    /// Bytes of memory beyond what every account has for its roster: what it takes of the pool
    /// that all rosters share.
    pub fn shared_bytes(&self) -> usize {
        self.bytes().saturating_sub(Roster::OWN_BYTES)
    }

    /// Bytes of memory, as they are counted.
    pub(crate) fn bytes(&self) -> usize {
        let removals = self.removals.iter();
        let removed: usize = removals
            .map(|removal| size_of::<Removal>() + removal.contact.len())
            .sum();
        self.heads.len() * size_of::<Head>() + self.texts.len() + removed
    }

    /// The version of the last change; 0 when there never was one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The items, in the order in which they came to the roster.
    pub fn iter(&self) -> impl Iterator<Item = RosterItem<'_>> {
        let mut at = 0;
        self.heads.iter().map(move |head| {
            let item = self.item(head, at);
            at += head.text_len();
            item
        })
    }

    /// The item of a contact.
    pub fn item_of(&self, contact: &str) -> Option<RosterItem<'_>> {
        let (index, at) = self.find(contact)?;
        Some(self.item(&self.heads[index], at))
    }

    /// What changed behind `version`, oldest first, or `None` when that is no
    /// longer known (or never was) and the whole roster has to be sent.
    pub fn changes_since(&self, version: u64) -> Option<Vec<RosterChange<'_>>> {
        if version < self.horizon || version > self.version || self.version == 0 {
            return None;
        }
        let removed = self
            .removals
            .iter()
            .filter(|removal| removal.version > version)
            .map(|removal| RosterChange::Removed {
                contact: &removal.contact,
                version: removal.version,
            });
        let put = self
            .iter()
            .filter(|item| item.version > version)
            .map(RosterChange::Put);
        let mut changes: Vec<_> = removed.chain(put).collect();
        changes.sort_by_key(RosterChange::version);
        Some(changes)
    }

    /// Puts an item; `None` when a text is longer than any roster may hold.
    pub(crate) fn put<'g>(
        &mut self,
        contact: &str,
        name: &str,
        groups: impl Iterator<Item = &'g str>,
        flags: u8,
        version: u64,
    ) -> Option<()> {
        self.enter(version);
        self.removals.retain(|removal| &*removal.contact != contact);
        self.restore(contact, name, groups, flags, version)
    }

    /// Removes an item and remembers that; a contact without one changes nothing.
    pub(crate) fn remove(&mut self, contact: &str, version: u64) {
        let Some((index, at)) = self.find(contact) else {
            return;
        };
        self.enter(version);
        let head = self.heads.remove(index);
        self.texts.replace_range(at..at + head.text_len(), "");
        self.give_back();
        if self.removals.len() == REMOVALS_MAX {
            self.horizon = self.removals.remove(0).version;
        }
        self.removals.push(Removal {
            version,
            contact: contact.into(),
        });
    }

    /// Puts an item of a checkpoint, which says nothing of the history.
    pub(crate) fn restore<'g>(
        &mut self,
        contact: &str,
        name: &str,
        groups: impl Iterator<Item = &'g str>,
        flags: u8,
        version: u64,
    ) -> Option<()> {
        if self.find(contact).is_some() {
            self.replace(contact, name, groups, flags, version)
        } else {
            self.push(contact, name, groups, flags, version)
        }
    }

    /// Adds an item that is known not to be there yet.
    fn push<'g>(
        &mut self,
        contact: &str,
        name: &str,
        groups: impl Iterator<Item = &'g str>,
        flags: u8,
        version: u64,
    ) -> Option<()> {
        let start = self.texts.len();
        let room = contact.len() + name.len();
        if self.texts.capacity() - start < room {
            self.texts.reserve_exact(room + start / 8);
        }
        self.texts.push_str(contact);
        self.texts.push_str(name);
        push_groups(&mut self.texts, groups);
        let groups_len = self.texts.len() - start - room;
        let Some(head) = Head::new(contact, name, groups_len, flags, version) else {
            self.texts.truncate(start);
            return None;
        };
        if self.heads.len() == self.heads.capacity() {
            self.heads.reserve_exact(1 + self.heads.len() / 8);
        }
        self.heads.push(head);
        Some(())
    }

    /// Makes room for so many more items with so many bytes of text.
    pub(crate) fn reserve(&mut self, items: usize, text_bytes: usize) {
        self.heads.reserve_exact(items);
        self.texts.reserve_exact(text_bytes);
    }

    /// Takes over what a checkpoint says of the whole.
    pub(crate) fn restore_history<'r>(
        &mut self,
        version: u64,
        horizon: u64,
        removals: impl Iterator<Item = (&'r str, u64)>,
    ) {
        self.version = version;
        self.horizon = horizon;
        self.removals
            .extend(removals.map(|(contact, version)| Removal {
                version,
                contact: contact.into(),
            }));
    }

    /// Forgets which items were removed.
    pub(crate) fn forget_removals(&mut self) {
        self.removals.clear();
    }

    /// The version behind which everything is known.
    pub(crate) fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Removals that are still known, oldest first.
    pub(crate) fn removals(&self) -> impl Iterator<Item = RemovalV1<'_>> {
        self.removals.iter().map(|removal| RemovalV1 {
            contact: &removal.contact,
            version: removal.version,
        })
    }

    /// The first change of a roster starts its history: what a client may
    /// remember of an account of the same name before it is unknown.
    fn enter(&mut self, version: u64) {
        if self.version == 0 {
            self.horizon = version.saturating_sub(1);
        }
        self.version = version;
    }

    fn replace<'g>(
        &mut self,
        contact: &str,
        name: &str,
        groups: impl Iterator<Item = &'g str>,
        flags: u8,
        version: u64,
    ) -> Option<()> {
        let (index, at) = self.find(contact)?;
        let mut text = String::with_capacity(contact.len() + name.len() + 16);
        text.push_str(contact);
        text.push_str(name);
        push_groups(&mut text, groups);
        let groups_len = text.len() - contact.len() - name.len();
        let head = Head::new(contact, name, groups_len, flags, version)?;
        self.texts
            .replace_range(at..at + self.heads[index].text_len(), &text);
        self.heads[index] = head;
        self.give_back();
        Some(())
    }

    /// Room that is left over is kept only in proportion to what is used, because what is counted
    /// is what is used.
    fn give_back(&mut self) {
        let is_loose = |room: usize, used: usize| room > used + used / 4 + 256;
        if is_loose(self.texts.capacity(), self.texts.len()) {
            self.texts.shrink_to_fit();
        }
        if is_loose(self.heads.capacity(), self.heads.len()) {
            self.heads.shrink_to_fit();
        }
    }

    /// The index of a contact's head and the start of its text.
    fn find(&self, contact: &str) -> Option<(usize, usize)> {
        let hash = crc32fast::hash(contact.as_bytes());
        let mut at = 0;
        for (index, head) in self.heads.iter().enumerate() {
            if head.contact_hash == hash
                && &self.texts[at..at + usize::from(head.contact_len)] == contact
            {
                return Some((index, at));
            }
            at += head.text_len();
        }
        None
    }

    fn item(&self, head: &Head, at: usize) -> RosterItem<'_> {
        let text = &self.texts[at..at + head.text_len()];
        let (contact, text) = text.split_at(usize::from(head.contact_len));
        let (name, groups) = text.split_at(usize::from(head.name_len));
        RosterItem {
            contact,
            name,
            groups,
            flags: head.flags,
            version: head.version,
        }
    }
}

impl Head {
    fn new(contact: &str, name: &str, groups_len: usize, flags: u8, version: u64) -> Option<Head> {
        Some(Head {
            version,
            contact_hash: crc32fast::hash(contact.as_bytes()),
            contact_len: u16::try_from(contact.len()).ok()?,
            name_len: u16::try_from(name.len()).ok()?,
            groups_len: u16::try_from(groups_len).ok()?,
            flags,
        })
    }

    fn text_len(&self) -> usize {
        usize::from(self.contact_len) + usize::from(self.name_len) + usize::from(self.groups_len)
    }
}

fn push_groups<'g>(text: &mut String, groups: impl Iterator<Item = &'g str>) {
    for group in groups {
        text.reserve_exact(group.len() + 1);
        text.push_str(group);
        text.push(GROUP_SEPARATOR);
    }
}

fn subscription_of(flags: u8) -> Subscription {
    match flags & SUBSCRIPTION {
        0 => Subscription::None,
        1 => Subscription::To,
        2 => Subscription::From,
        _ => Subscription::Both,
    }
}

/// Whether a name or group can stand in a roster.
pub(crate) fn is_roster_text(text: &str) -> bool {
    !text.contains(GROUP_SEPARATOR)
}
