//! A transaction: statements that become true together, or not at all.

use std::collections::HashMap;
use std::ops::Deref;

use bytes::Bytes;

use super::draft::Draft;
use super::error::{Quota, StoreError};
use super::limits::StoreLimits;
use super::records::{
    AccountRemovedV1, AccountV1, CredentialsChangedV1, EnabledV1, HibernatedRemovedV1, Kind,
    LastActivityV1, MessageV1, PrivateV1, RetiredV1, RosterItemV1, RosterRemovedV1,
    SettingRemovedV1, SettingV1, SubscriptionRequestV1, VcardV1, encode, encode_account,
};
use super::state::{
    HibernatedSession, MessageId, Roster, RosterEntry, State, encode_runs, is_roster_text,
    record_of,
};
use crate::crypto::Credentials;
use crate::stanza::Outgoing;

/// An atomic change of the state.
///
/// It reads as the [`State`] before it; what it states becomes true, all of it
/// at once, when [`Store::update`](super::Store::update) returns.
pub struct Tx<'a> {
    state: &'a State,
    limits: &'a StoreLimits,
    next_seq: u64,
    draft: &'a mut Draft,
    changed: HashMap<Box<str>, Changed>,
}

/// What a transaction has added for an owner so far, for quotas.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    exists: Option<bool>,
    messages: usize,
    message_bytes: u64,
    roster_items: usize,
    roster_bytes: usize,
    requests: usize,
    private: usize,
    sessions: usize,
}

impl Deref for Tx<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        state: &'a State,
        limits: &'a StoreLimits,
        next_seq: u64,
        draft: &'a mut Draft,
    ) -> Tx<'a> {
        draft.clear();
        Tx {
            state,
            limits,
            next_seq,
            draft,
            changed: HashMap::new(),
        }
    }

    /// Creates an account.
    pub fn put_account(
        &mut self,
        owner: &str,
        credentials: &Credentials,
        created_at_ms: u64,
    ) -> Result<(), StoreError> {
        if self.exists(owner) {
            return Err(StoreError::AccountExists);
        }
        if self.state.account_count() >= self.limits.accounts_max {
            return Err(StoreError::Quota(Quota::Accounts));
        }
        let record = AccountV1 {
            owner,
            created_at_ms,
            enabled: true,
            credentials: record_of(credentials),
        };
        let version = self.draft.version_of(Kind::Account);
        self.add(Kind::Account, |body| encode_account(&record, version, body));
        *self.changed(owner) = Changed {
            exists: Some(true),
            ..Changed::default()
        };
        Ok(())
    }

    /// Removes an account and everything that belongs to it.
    pub fn remove_account(&mut self, owner: &str) -> Result<(), StoreError> {
        self.require(owner)?;
        self.remove_administrator(owner)?;
        self.add(Kind::AccountRemoved, |body| {
            encode(&AccountRemovedV1 { owner }, body);
        });
        *self.changed(owner) = Changed {
            exists: Some(false),
            ..Changed::default()
        };
        Ok(())
    }

    /// Replaces the credentials of an account.
    pub fn set_credentials(
        &mut self,
        owner: &str,
        credentials: &Credentials,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        let record = CredentialsChangedV1 {
            owner,
            credentials: record_of(credentials),
        };
        self.add(Kind::CredentialsChanged, |body| encode(&record, body));
        Ok(())
    }

    /// Lets an account log in, or not.
    pub fn set_enabled(&mut self, owner: &str, enabled: bool) -> Result<(), StoreError> {
        self.require(owner)?;
        self.add(Kind::Enabled, |body| {
            encode(&EnabledV1 { owner, enabled }, body);
        });
        Ok(())
    }

    /// Puts a roster item; gives back the roster's new version.
    pub fn put_roster_item(&mut self, owner: &str, item: &RosterEntry) -> Result<u64, StoreError> {
        self.require(owner)?;
        check_roster_item(item, self.limits.roster_item_bytes_max)?;
        let is_new = !self.is_kept(owner)
            || self
                .roster_of(owner)
                .is_none_or(|roster| roster.item_of(&item.contact).is_none());
        if is_new {
            let held = self.roster_of(owner).map_or(0, Roster::len);
            let limit = self.limits.roster_items_max;
            let changed = self.changed(owner);
            if held + changed.roster_items >= limit {
                return Err(StoreError::Quota(Quota::RosterItems));
            }
            changed.roster_items += 1;
        }
        self.take_roster_bytes(owner, item)?;
        let record = RosterItemV1 {
            owner,
            contact: &item.contact,
            name: &item.name,
            groups: item.groups.iter().map(String::as_str).collect(),
            flags: item.flags(),
        };
        Ok(self.add(Kind::RosterItem, |body| encode(&record, body)))
    }

    /// An account has some memory for its roster, and all share the rest.
    fn take_roster_bytes(&mut self, owner: &str, item: &RosterEntry) -> Result<(), StoreError> {
        let roster = self.roster_of(owner);
        let held = roster.map_or(0, Roster::bytes);
        let before = roster.and_then(|roster| roster.item_of(&item.contact));
        let before = before.map_or(0, |item| Roster::ITEM_BYTES + item.text_bytes());
        let after = Roster::ITEM_BYTES + roster_item_bytes(item);
        let more = after.saturating_sub(before);
        let (all, limit) = (self.state.roster_bytes(), self.limits.roster_bytes_max);
        let changed = self.changed(owner);
        let is_own = held + changed.roster_bytes + more <= Roster::OWN_BYTES;
        if more > 0 && !is_own && all + changed.roster_bytes + more > limit {
            return Err(StoreError::Quota(Quota::RosterBytes));
        }
        changed.roster_bytes += more;
        Ok(())
    }

    /// Removes a roster item; gives back the roster's new version, or `None`
    /// when there was no such item.
    pub fn remove_roster_item(
        &mut self,
        owner: &str,
        contact: &str,
    ) -> Result<Option<u64>, StoreError> {
        self.require(owner)?;
        if self
            .roster_of(owner)
            .is_none_or(|roster| roster.item_of(contact).is_none())
        {
            return Ok(None);
        }
        let record = RosterRemovedV1 { owner, contact };
        Ok(Some(
            self.add(Kind::RosterRemoved, |body| encode(&record, body)),
        ))
    }

    /// Keeps a request for presence until the user answers it. A second one of
    /// the same contact takes the place of the first.
    pub fn put_subscription_request(
        &mut self,
        owner: &str,
        contact: &str,
        stanza: impl Into<Outgoing>,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        let stanza = stanza.into();
        check_bytes(stanza.len(), self.limits.subscription_request_bytes_max)?;
        let account = self.state.account(owner);
        if account.is_none_or(|account| account.subscription_request(contact).is_none()) {
            let held = account.map_or(0, |account| account.subscription_requests().count());
            let limit = self.limits.subscription_requests_max;
            let changed = self.changed(owner);
            if held + changed.requests >= limit {
                return Err(StoreError::Quota(Quota::SubscriptionRequests));
            }
            changed.requests += 1;
        }
        let record = SubscriptionRequestV1 { owner, contact };
        self.add_with(Kind::SubscriptionRequest, stanza, |body| {
            encode(&record, body);
        });
        Ok(())
    }

    /// Forgets a request for presence. One that is not there is no error.
    pub fn remove_subscription_request(
        &mut self,
        owner: &str,
        contact: &str,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        let record = SubscriptionRequestV1 { owner, contact };
        self.add(Kind::SubscriptionRequestRemoved, |body| {
            encode(&record, body);
        });
        Ok(())
    }

    /// The number that the next [`put_message`](Tx::put_message) gives out, for
    /// who writes it into the stanza.
    pub fn next_message_id(&self) -> MessageId {
        MessageId(self.next_seq + self.draft.len() as u64)
    }

    /// Keeps a message for its recipient until it is retired.
    pub fn put_message(
        &mut self,
        owner: &str,
        received_at_ms: u64,
        flags: u8,
        stanza: impl Into<Outgoing>,
    ) -> Result<MessageId, StoreError> {
        self.require(owner)?;
        let stanza = stanza.into();
        let held = self
            .state
            .account(owner)
            .filter(|_| self.is_kept(owner))
            .map(super::state::Account::messages);
        let (held, held_bytes) = held.map_or((0, 0), |messages| (messages.len(), messages.bytes()));
        let (limit, limit_bytes) = (self.limits.messages_max, self.limits.message_bytes_max);
        let changed = self.changed(owner);
        if held + changed.messages >= limit {
            return Err(StoreError::Quota(Quota::Messages));
        }
        let bytes = stanza.len() as u64;
        if held_bytes + changed.message_bytes + bytes > limit_bytes {
            return Err(StoreError::Quota(Quota::MessageBytes));
        }
        changed.messages += 1;
        changed.message_bytes += bytes;
        let record = MessageV1 {
            owner,
            received_at_ms,
            flags,
        };
        Ok(MessageId(self.add_with(Kind::Message, stanza, |body| {
            encode(&record, body);
        })))
    }

    /// Forgets messages that have reached their recipient. Those that are gone
    /// already are no error.
    pub fn retire_messages(&mut self, owner: &str, ids: &[MessageId]) -> Result<(), StoreError> {
        self.require(owner)?;
        let Some(account) = self.state.account(owner) else {
            return Ok(());
        };
        let (mut first, mut runs) = (0, Vec::new());
        if encode_runs(account.messages(), ids, &mut first, &mut runs) {
            let record = RetiredV1 {
                owner,
                first,
                runs: &runs,
            };
            self.add(Kind::Retired, |body| encode(&record, body));
        }
        Ok(())
    }

    /// Keeps the account's vCard: the whole element.
    pub fn put_vcard(
        &mut self,
        owner: &str,
        element: impl Into<Outgoing>,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        let element = element.into();
        check_bytes(element.len(), self.limits.vcard_bytes_max)?;
        self.add_with(Kind::Vcard, element, |body| {
            encode(&VcardV1 { owner }, body);
        });
        Ok(())
    }

    /// Forgets the account's vCard.
    pub fn remove_vcard(&mut self, owner: &str) -> Result<(), StoreError> {
        self.require(owner)?;
        self.add(Kind::VcardRemoved, |body| encode(&VcardV1 { owner }, body));
        Ok(())
    }

    /// Keeps a private XML element: the whole element.
    pub fn put_private(
        &mut self,
        owner: &str,
        name: &str,
        namespace: &str,
        element: impl Into<Outgoing>,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        if name.is_empty() || name.contains(' ') {
            return Err(StoreError::Invalid("a private element needs a name"));
        }
        let element = element.into();
        check_bytes(
            element.len() + name.len() + namespace.len(),
            self.limits.private_bytes_max,
        )?;
        let account = self.state.account(owner);
        if account.is_none_or(|account| account.private(name, namespace).is_none()) {
            let held = account.map_or(0, |account| account.private_elements().count());
            let limit = self.limits.private_elements_max;
            let changed = self.changed(owner);
            if held + changed.private >= limit {
                return Err(StoreError::Quota(Quota::PrivateElements));
            }
            changed.private += 1;
        }
        let record = PrivateV1 {
            owner,
            name,
            namespace,
        };
        self.add_with(Kind::Private, element, |body| encode(&record, body));
        Ok(())
    }

    /// Forgets a private XML element.
    pub fn remove_private(
        &mut self,
        owner: &str,
        name: &str,
        namespace: &str,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        self.add(Kind::PrivateRemoved, |body| {
            encode(
                &PrivateV1 {
                    owner,
                    name,
                    namespace,
                },
                body,
            );
        });
        Ok(())
    }

    /// Notes when the last session ended and with what status.
    pub fn put_last_activity(
        &mut self,
        owner: &str,
        at_ms: u64,
        status: &str,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        check_bytes(status.len(), STATUS_BYTES_MAX)?;
        self.add(Kind::LastActivity, |body| {
            encode(
                &LastActivityV1 {
                    owner,
                    at_ms,
                    status,
                },
                body,
            );
        });
        Ok(())
    }

    /// Puts a session to sleep.
    pub fn put_hibernated(
        &mut self,
        owner: &str,
        session: &HibernatedSession,
    ) -> Result<(), StoreError> {
        self.require(owner)?;
        let account = self.state.account(owner);
        let held = account.map_or(0, |account| {
            account
                .hibernated()
                .filter(|(id, _)| *id != session.id)
                .count()
        });
        let limit = self.limits.sessions_max;
        let changed = self.changed(owner);
        if held + changed.sessions >= limit {
            return Err(StoreError::Quota(Quota::Sessions));
        }
        changed.sessions += 1;
        let (mut body, mut payload) = (Vec::new(), Vec::new());
        session
            .encode(owner, &mut body, &mut payload)
            .ok_or(StoreError::Invalid("a stanza of a session is too long"))?;
        let payload = Outgoing::from(Bytes::from(payload));
        self.add_with(Kind::Hibernated, payload, |into| {
            into.extend_from_slice(&body);
        });
        Ok(())
    }

    /// Forgets a sleeping session.
    pub fn remove_hibernated(&mut self, owner: &str, id: &str) -> Result<(), StoreError> {
        self.require(owner)?;
        self.add(Kind::HibernatedRemoved, |body| {
            encode(&HibernatedRemovedV1 { owner, id }, body);
        });
        Ok(())
    }

    /// Keeps a value of the server itself.
    pub fn put_setting(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        check_bytes(name.len() + value.len(), self.limits.setting_bytes_max)?;
        if self.state.setting(name).is_none()
            && self.state.settings().count() >= self.limits.settings_max
        {
            return Err(StoreError::Quota(Quota::Settings));
        }
        self.add(Kind::Setting, |body| {
            encode(&SettingV1 { name, value }, body);
        });
        Ok(())
    }

    /// Forgets a value of the server itself.
    pub fn remove_setting(&mut self, name: &str) -> Result<(), StoreError> {
        self.add(Kind::SettingRemoved, |body| {
            encode(&SettingRemovedV1 { name }, body);
        });
        Ok(())
    }

    /// Whether an account exists, for the statements that follow.
    fn exists(&self, owner: &str) -> bool {
        let changed = self.changed.get(owner).and_then(|changed| changed.exists);
        changed.unwrap_or_else(|| self.state.account(owner).is_some())
    }

    pub(super) fn require(&self, owner: &str) -> Result<(), StoreError> {
        if self.exists(owner) {
            Ok(())
        } else {
            Err(StoreError::NoAccount)
        }
    }

    /// Whether what the state holds of an owner is still his: he was not
    /// removed by this very transaction.
    fn is_kept(&self, owner: &str) -> bool {
        self.changed
            .get(owner)
            .is_none_or(|changed| changed.exists.is_none())
    }

    fn roster_of(&self, owner: &str) -> Option<&Roster> {
        self.state
            .account(owner)
            .filter(|_| self.is_kept(owner))
            .map(super::state::Account::roster)
    }

    fn changed(&mut self, owner: &str) -> &mut Changed {
        if !self.changed.contains_key(owner) {
            self.changed.insert(owner.into(), Changed::default());
        }
        self.changed.get_mut(owner).expect("inserted above")
    }

    /// Adds a record without a payload; gives back its sequence number.
    fn add(&mut self, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) -> u64 {
        self.add_with(kind, Outgoing::default(), body)
    }

    /// Adds a record. A payload in one piece is not copied.
    fn add_with(&mut self, kind: Kind, payload: Outgoing, body: impl FnOnce(&mut Vec<u8>)) -> u64 {
        self.draft.push(kind, payload, body);
        self.next_seq + self.draft.len() as u64 - 1
    }
}

/// Bytes of the text in the last presence that are worth keeping.
const STATUS_BYTES_MAX: usize = 1024;

fn check_bytes(bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes > bytes_max {
        Err(StoreError::TooBig { bytes, bytes_max })
    } else {
        Ok(())
    }
}

fn roster_item_bytes(item: &RosterEntry) -> usize {
    let groups: usize = item.groups.iter().map(|group| group.len() + 1).sum();
    item.contact.len() + item.name.len() + groups
}

fn check_roster_item(item: &RosterEntry, bytes_max: usize) -> Result<(), StoreError> {
    if item.contact.is_empty() {
        return Err(StoreError::Invalid("a roster item needs a contact"));
    }
    check_bytes(
        roster_item_bytes(item),
        bytes_max.min(usize::from(u16::MAX)),
    )?;
    if item.groups.iter().any(String::is_empty) {
        return Err(StoreError::Invalid("a roster group needs a name"));
    }
    let texts = item.groups.iter().chain([&item.name, &item.contact]);
    if texts.into_iter().all(|text| is_roster_text(text)) {
        Ok(())
    } else {
        Err(StoreError::Invalid(
            "a control character can stand in no roster",
        ))
    }
}
