//! One account and everything that belongs to it.

use std::sync::Arc;

use super::credentials::PackedCredentials;
use super::messages::{Messages, StoredMessage};
use super::profile::{Profile, Slot, private_key, private_names};
use super::roster::Roster;
use crate::crypto::Credentials;
use crate::store::fold::{Live, Place};

/// An account. What most accounts do not have costs one empty pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub(super) owner: Arc<str>,
    /// The last record that is reflected here; older ones say nothing new.
    pub(super) through: u64,
    pub(super) created_at_ms: u64,
    pub(super) last_activity_ms: u64,
    pub(super) credentials: PackedCredentials,
    pub(super) roster: Option<Box<Roster>>,
    pub(super) messages: Option<Box<Messages>>,
    pub(super) profile: Option<Box<Profile>>,
    pub(super) enabled: bool,
}

static NO_ROSTER: Roster = Roster::new();
static NO_MESSAGES: Messages = Messages::new();

impl Account {
    pub(super) fn new(
        owner: Arc<str>,
        through: u64,
        created_at_ms: u64,
        enabled: bool,
        credentials: PackedCredentials,
    ) -> Account {
        Account {
            owner,
            through,
            created_at_ms,
            last_activity_ms: 0,
            credentials,
            roster: None,
            messages: None,
            profile: None,
            enabled,
        }
    }

    /// The bare JID.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The domain of that.
    pub fn domain(&self) -> &str {
        domain_of(&self.owner)
    }

    /// Unix time in milliseconds at which it was created.
    pub fn created_at_ms(&self) -> u64 {
        self.created_at_ms
    }

    /// Whether it may log in.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How its password is checked; `None` when no password can be right.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials.open()
    }

    /// The roster.
    pub fn roster(&self) -> &Roster {
        self.roster.as_deref().unwrap_or(&NO_ROSTER)
    }

    /// The messages that wait, oldest first.
    pub fn messages(&self) -> &Messages {
        self.messages.as_deref().unwrap_or(&NO_MESSAGES)
    }

    /// When the last session ended (Unix time in milliseconds) and with what
    /// status, or `None` when there never was one (XEP-0012).
    pub fn last_activity(&self) -> Option<(u64, &str)> {
        let status = self
            .profile
            .as_ref()
            .map_or("", |profile| &profile.last_status);
        (self.last_activity_ms != 0).then_some((self.last_activity_ms, status))
    }

    /// Where the vCard stands (XEP-0054).
    pub fn vcard(&self) -> Option<Place> {
        Some(self.profile.as_ref()?.vcard.find("")?.place)
    }

    /// Where a private XML element stands (XEP-0049).
    pub fn private(&self, name: &str, namespace: &str) -> Option<Place> {
        Some(
            self.profile
                .as_ref()?
                .private
                .find(&private_key(name, namespace))?
                .place,
        )
    }

    /// All private XML elements: name, namespace, place.
    pub fn private_elements(&self) -> impl Iterator<Item = (&str, &str, Place)> {
        self.keyed(|profile| &profile.private).map(|(key, slot)| {
            let (name, namespace) = private_names(key);
            (name, namespace, slot.place)
        })
    }

    /// Requests for presence that the user has not answered: the bare JID that
    /// asks and where its stanza stands (RFC 6121 §3.1.3).
    pub fn subscription_requests(&self) -> impl Iterator<Item = (&str, Place)> {
        self.keyed(|profile| &profile.requests)
            .map(|(contact, slot)| (contact, slot.place))
    }

    /// Where the request of a contact stands.
    pub fn subscription_request(&self, contact: &str) -> Option<Place> {
        Some(self.profile.as_ref()?.requests.find(contact)?.place)
    }

    /// Sessions that wait to be resumed: resumption id and place.
    pub fn hibernated(&self) -> impl Iterator<Item = (&str, Place)> {
        self.keyed(|profile| &profile.sessions)
            .map(|(id, slot)| (id, slot.place))
    }

    pub(super) fn roster_mut(&mut self) -> &mut Roster {
        self.roster.get_or_insert_with(|| Box::new(Roster::new()))
    }

    pub(super) fn messages_mut(&mut self) -> &mut Messages {
        self.messages.get_or_insert_with(Box::default)
    }

    pub(super) fn profile_mut(&mut self) -> &mut Profile {
        self.profile.get_or_insert_with(Box::default)
    }

    pub(super) fn put_message(&mut self, message: &StoredMessage, live: &mut Live) {
        live.hold(message.place);
        if let Some(before) = self.messages_mut().put(*message) {
            live.release(before.place);
        }
    }

    pub(super) fn set_last_activity(&mut self, at_ms: u64, status: &str) {
        self.last_activity_ms = at_ms;
        if self.profile.is_some() || !status.is_empty() {
            self.profile_mut().last_status = status.into();
        }
        self.drop_empty_profile();
    }

    pub(super) fn drop_empty_profile(&mut self) {
        if self
            .profile
            .as_ref()
            .is_some_and(|profile| profile.is_empty())
        {
            self.profile = None;
        }
    }

    /// Whether a record is news to this account; from then on it is not.
    pub(super) fn advance(&mut self, seq: u64) -> bool {
        let news = seq > self.through;
        if news {
            self.through = seq;
        }
        news
    }

    /// Takes over what the account had beside its image.
    pub(super) fn inherit(&mut self, before: Account) {
        self.roster = before.roster;
        self.messages = before.messages;
        self.profile = before.profile;
        if let Some(roster) = &mut self.roster {
            roster.forget_removals();
        }
    }

    /// Gives up everything that the account keeps on the device.
    pub(super) fn release(&self, live: &mut Live) {
        self.places().for_each(|place| live.release(place));
    }

    /// Gives it up and wants it overwritten.
    pub(super) fn erase(&self, live: &mut Live) {
        self.places().for_each(|place| live.erase(place));
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let messages = self.messages().iter().map(|message| message.place);
        messages.chain(self.profile.iter().flat_map(|profile| profile.places()))
    }

    fn keyed(
        &self,
        part: fn(&Profile) -> &super::profile::Keyed,
    ) -> impl Iterator<Item = (&str, &Slot)> {
        self.profile
            .as_deref()
            .map(part)
            .into_iter()
            .flat_map(super::profile::Keyed::iter)
    }
}

/// The domain of a bare address.
pub(super) fn domain_of(owner: &str) -> &str {
    owner.split_once('@').map_or(owner, |(_, domain)| domain)
}
