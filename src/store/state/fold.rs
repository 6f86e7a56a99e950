//! How records become state.

use std::borrow::Cow;
use std::sync::Arc;

use super::account::Account;
use super::credentials::PackedCredentials;
use super::messages::{MessageId, StoredMessage, decode_runs};
use super::profile::{Keyed, Profile, Slot, private_key};
use super::{State, describe};
use crate::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};
use crate::store::records::{
    AccountBody, ArchivedAccountRemovedV1, ArchivedCredentialsChangedV1, ArchivedEnabledV1,
    ArchivedHibernatedRemovedV1, ArchivedHibernatedV1, ArchivedLastActivityV1, ArchivedMessageV1,
    ArchivedPrivateV1, ArchivedRetiredV1, ArchivedRosterItemV1, ArchivedRosterRemovedV1,
    ArchivedSettingRemovedV1, ArchivedSettingV1, ArchivedSubscriptionRequestV1, ArchivedVcardV1,
    BadBody, Kind, newest_version, open,
};

impl Fold for State {
    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), Unreadable> {
        let kind = kind_of(record)?;
        self.apply_kind(kind, record, place, live)
            .map_err(|BadBody| invalid(record))
    }

    fn holds(&self, record: &Record<'_>, place: Place) -> bool {
        self.slot(record)
            == Some(Slot {
                seq: record.seq,
                place,
            })
    }

    fn moved(&mut self, record: &Record<'_>, from: Place, to: Place, live: &mut Live) {
        if self.holds(record, from) {
            let applied = self.apply(record, to, live);
            debug_assert!(applied.is_ok(), "a record that is held was read before");
        }
    }

    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        self.emit_slice(cursor.as_ref(), budget_bytes, emit)
    }

    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable> {
        let kind = kind_of(&item.record)?;
        self.restore_kind(kind, &item, live)
            .map_err(|BadBody| invalid(&item.record))
    }

    fn reset(&mut self) {
        *self = State::default();
    }

    fn mistrust(&mut self) {
        self.patchy = true;
    }

    fn describe(&self, record: &Record<'_>) -> Option<String> {
        describe::describe(record)
    }
}

/// The kind of a record. A kind or a version that this program does not know
/// was written by a later one.
fn kind_of(record: &Record<'_>) -> Result<Kind, Unreadable> {
    let newer = Unreadable::Newer {
        kind: record.kind,
        version: record.version,
    };
    let kind = Kind::from_number(record.kind).ok_or(newer.clone())?;
    if (1..=newest_version(kind)).contains(&record.version) {
        Ok(kind)
    } else {
        Err(newer)
    }
}

fn invalid(record: &Record<'_>) -> Unreadable {
    Unreadable::Invalid {
        kind: record.kind,
        version: record.version,
        why: "the body is no archive of its kind",
    }
}

impl State {
    // One arm a kind: a table.
    fn apply_kind(
        &mut self,
        kind: Kind,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        let (body, slot) = (
            record.body,
            Slot {
                seq: record.seq,
                place,
            },
        );
        match kind {
            Kind::Account => {
                self.apply_account(&AccountBody::open(record.version, body)?, record.seq)
            }
            Kind::AccountRemoved => self.apply_account_removed(open(body)?, record.seq, live),
            Kind::CredentialsChanged => self.apply_credentials(open(body)?, record.seq),
            Kind::Enabled => self.apply_enabled(open(body)?, record.seq),
            Kind::RosterItem => self.apply_roster_item(open(body)?, record.seq),
            Kind::RosterRemoved => self.apply_roster_removed(open(body)?, record.seq),
            Kind::Message => self.apply_message(open(body)?, slot, live),
            Kind::Retired => self.apply_retired(open(body)?, record.seq, live),
            Kind::LastActivity => self.apply_last_activity(open(body)?, record.seq),
            Kind::SubscriptionRequest | Kind::Vcard | Kind::Private | Kind::Hibernated => {
                let (owner, key) = keyed_by(kind, body)?;
                self.put_keyed(kind, owner, &key, slot, live);
                Ok(())
            }
            Kind::SubscriptionRequestRemoved
            | Kind::VcardRemoved
            | Kind::PrivateRemoved
            | Kind::HibernatedRemoved => {
                let (owner, key) = keyed_by(kind, body)?;
                self.remove_keyed(kind, owner, &key, record.seq, live);
                Ok(())
            }
            Kind::Setting => {
                let body = open::<ArchivedSettingV1<'_>>(body)?;
                if self.settings.advance(record.seq) || self.patchy {
                    self.settings.put(&body.name, &body.value);
                }
                Ok(())
            }
            Kind::SettingRemoved => {
                let body = open::<ArchivedSettingRemovedV1<'_>>(body)?;
                if self.settings.advance(record.seq) || self.patchy {
                    self.settings.remove(&body.name);
                }
                Ok(())
            }
            Kind::AccountImage | Kind::RosterImage | Kind::SettingsImage => Err(BadBody),
        }
    }

    fn apply_account(&mut self, body: &AccountBody<'_>, seq: u64) -> Result<(), BadBody> {
        let credentials = PackedCredentials::from_archived(body.credentials).ok_or(BadBody)?;
        if let Some(account) = self.accounts.find_mut(body.owner) {
            if account.advance(seq) || self.patchy {
                account.created_at_ms = body.created_at_ms;
                account.enabled = body.enabled;
                self.accounts.set_credentials(body.owner, credentials);
            }
        } else {
            let owner = Arc::from(body.owner);
            self.accounts.insert(Account::new(
                owner,
                seq,
                body.created_at_ms,
                body.enabled,
                credentials,
            ));
        }
        Ok(())
    }

    fn apply_account_removed(
        &mut self,
        body: &ArchivedAccountRemovedV1<'_>,
        seq: u64,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        if self.news_of(&body.owner, seq).is_some()
            && let Some(account) = self.accounts.remove(&body.owner)
        {
            account.erase(live);
        }
        Ok(())
    }

    fn apply_credentials(
        &mut self,
        body: &ArchivedCredentialsChangedV1<'_>,
        seq: u64,
    ) -> Result<(), BadBody> {
        let credentials = PackedCredentials::from_archived(&body.credentials).ok_or(BadBody)?;
        if self.news_of(&body.owner, seq).is_some() {
            self.accounts.set_credentials(&body.owner, credentials);
        }
        Ok(())
    }

    fn apply_enabled(&mut self, body: &ArchivedEnabledV1<'_>, seq: u64) -> Result<(), BadBody> {
        if let Some(account) = self.news_of(&body.owner, seq) {
            account.enabled = body.enabled;
        }
        Ok(())
    }

    fn apply_roster_item(
        &mut self,
        body: &ArchivedRosterItemV1<'_>,
        seq: u64,
    ) -> Result<(), BadBody> {
        let Some(account) = self.news_of(&body.owner, seq) else {
            return Ok(());
        };
        let groups = body.groups.iter().map(|group| &**group);
        let roster = account.roster_mut();
        let before = roster.shared_bytes();
        let put = roster.put(&body.contact, &body.name, groups, body.flags, seq);
        let after = roster.shared_bytes();
        self.accounts.roster_changed(before, after);
        put.ok_or(BadBody)
    }

    fn apply_roster_removed(
        &mut self,
        body: &ArchivedRosterRemovedV1<'_>,
        seq: u64,
    ) -> Result<(), BadBody> {
        if let Some(account) = self.news_of(&body.owner, seq)
            && let Some(roster) = &mut account.roster
        {
            let before = roster.shared_bytes();
            roster.remove(&body.contact, seq);
            let after = roster.shared_bytes();
            self.accounts.roster_changed(before, after);
        }
        Ok(())
    }

    fn apply_message(
        &mut self,
        body: &ArchivedMessageV1<'_>,
        slot: Slot,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        let Some(account) = self.accounts.find_mut(&body.owner) else {
            return Ok(());
        };
        if account.advance(slot.seq) || self.patchy {
            account.put_message(&StoredMessage::of(body, slot), live);
        } else if let Some(messages) = &mut account.messages
            && let Some(before) = messages.relocate(MessageId(slot.seq), slot.place)
        {
            live.hold(slot.place);
            live.release(before);
        }
        Ok(())
    }

    /// Retiring what is gone already changes nothing, so the list needs no
    /// order against what the account reflects.
    fn apply_retired(
        &mut self,
        body: &ArchivedRetiredV1<'_>,
        seq: u64,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        let account = self.accounts.find_mut(&body.owner);
        let mut messages = account.and_then(|account| {
            account.advance(seq);
            account.messages.as_deref_mut()
        });
        decode_runs(body.first.to_native(), &body.runs, |first, last| {
            if let Some(messages) = &mut messages {
                messages.take(first, last, |message| live.release(message.place));
            }
        })
        .ok_or(BadBody)
    }

    fn apply_last_activity(
        &mut self,
        body: &ArchivedLastActivityV1<'_>,
        seq: u64,
    ) -> Result<(), BadBody> {
        if let Some(account) = self.news_of(&body.owner, seq) {
            account.set_last_activity(body.at_ms.to_native(), &body.status);
        }
        Ok(())
    }

    fn put_keyed(&mut self, kind: Kind, owner: &str, key: &str, slot: Slot, live: &mut Live) {
        let Some(account) = self.accounts.find_mut(owner) else {
            return;
        };
        if account.advance(slot.seq) || self.patchy {
            keyed_mut(account.profile_mut(), kind).put(key, slot, live);
        } else if let Some(profile) = &mut account.profile
            && let Some(old) = keyed_mut(profile, kind).find_mut(key)
            && old.seq == slot.seq
        {
            live.hold(slot.place);
            live.release(old.place);
            *old = slot;
        }
    }

    fn remove_keyed(&mut self, kind: Kind, owner: &str, key: &str, seq: u64, live: &mut Live) {
        if let Some(account) = self.news_of(owner, seq)
            && let Some(profile) = &mut account.profile
        {
            keyed_mut(profile, kind).remove(key, live);
            account.drop_empty_profile();
        }
    }

    /// The account of an owner, when a record is news to it.
    fn news_of(&mut self, owner: &str, seq: u64) -> Option<&mut Account> {
        let account = self.accounts.find_mut(owner)?;
        (account.advance(seq) || self.patchy).then_some(account)
    }

    /// What the state keeps on the device under the key of a record.
    fn slot(&self, record: &Record<'_>) -> Option<Slot> {
        let kind = kind_of(record).ok()?;
        if kind == Kind::Message {
            let body = open::<ArchivedMessageV1<'_>>(record.body).ok()?;
            let message = self
                .accounts
                .find(&body.owner)?
                .messages()
                .find(MessageId(record.seq))?;
            return Some(Slot {
                seq: record.seq,
                place: message.place,
            });
        }
        if !kind.is_kept_by_place() {
            return None;
        }
        let (owner, key) = keyed_by(kind, record.body).ok()?;
        let profile = self.accounts.find(owner)?.profile.as_deref()?;
        keyed(profile, kind).find(&key).copied()
    }
}

/// Owner and key of a record whose value is kept by its place, and of the
/// record that removes it.
pub(super) fn keyed_by(kind: Kind, body: &[u8]) -> Result<(&str, Cow<'_, str>), BadBody> {
    Ok(match kind {
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => {
            let body = open::<ArchivedSubscriptionRequestV1<'_>>(body)?;
            (&*body.owner, Cow::Borrowed(&*body.contact))
        }
        Kind::Vcard | Kind::VcardRemoved => {
            let body = open::<ArchivedVcardV1<'_>>(body)?;
            (&*body.owner, Cow::Borrowed(""))
        }
        Kind::Private | Kind::PrivateRemoved => {
            let body = open::<ArchivedPrivateV1<'_>>(body)?;
            (
                &*body.owner,
                Cow::Owned(private_key(&body.name, &body.namespace)),
            )
        }
        Kind::Hibernated => {
            let body = open::<ArchivedHibernatedV1<'_>>(body)?;
            (&*body.owner, Cow::Borrowed(&*body.id))
        }
        Kind::HibernatedRemoved => {
            let body = open::<ArchivedHibernatedRemovedV1<'_>>(body)?;
            (&*body.owner, Cow::Borrowed(&*body.id))
        }
        _ => return Err(BadBody),
    })
}

fn keyed(profile: &Profile, kind: Kind) -> &Keyed {
    match kind {
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => &profile.requests,
        Kind::Private | Kind::PrivateRemoved => &profile.private,
        Kind::Hibernated | Kind::HibernatedRemoved => &profile.sessions,
        _ => &profile.vcard,
    }
}

pub(super) fn keyed_mut(profile: &mut Profile, kind: Kind) -> &mut Keyed {
    match kind {
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => &mut profile.requests,
        Kind::Private | Kind::PrivateRemoved => &mut profile.private,
        Kind::Hibernated | Kind::HibernatedRemoved => &mut profile.sessions,
        _ => &mut profile.vcard,
    }
}
