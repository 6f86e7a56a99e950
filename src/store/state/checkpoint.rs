//! The state as a checkpoint holds it, and back.

use std::sync::Arc;

use super::State;
use super::account::Account;
use super::credentials::PackedCredentials;
use super::fold::{keyed_by, keyed_mut};
use super::messages::StoredMessage;
use super::profile::{Slot, private_names};
use super::settings::Settings;
use crate::store::fold::{CheckpointItem, Cursor, Live, Place, Record};
use crate::store::records::{
    AccountImageV1, ArchivedAccountImageV1, ArchivedMessageV1, ArchivedRosterImageItemV1,
    ArchivedRosterImageV1, ArchivedSettingsImageV1, BadBody, HibernatedV1, Kind, MessageV1,
    PrivateV1, RosterImageV1, SettingImageV1, SettingsImageV1, SubscriptionRequestV1, VcardV1,
    encode, open,
};

/// A long roster or queue is written as several images of at most so many
/// entries, so that no image outgrows a segment.
const ENTRIES_MAX: usize = 512;

/// Settings are written in images of about so many bytes.
const SETTINGS_BYTES: usize = 16 << 10;

impl State {
    /// Writes the next slice. The cursor is a number: 0 starts with the
    /// settings, `n` with the account in slot `n - 1`.
    pub(super) fn emit_slice(
        &self,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        let mut images = Images {
            buffer: Vec::new(),
            bytes: 0,
            emit,
        };
        let mut next = cursor.map_or(0, slot_of);
        if next == 0 {
            self.emit_settings(&mut images);
            next = 1;
        }
        let slots = self.accounts.slots() as u64;
        while next <= slots && images.bytes < budget_bytes {
            if let Some(account) = self.accounts.slot(next as usize - 1) {
                emit_account(account, &mut images);
            }
            next += 1;
        }
        (next <= slots).then(|| Cursor(next.to_le_bytes().to_vec()))
    }

    fn emit_settings(&self, images: &mut Images<'_>) {
        let mut image = SettingsImageV1 {
            first: true,
            through: self.settings.through,
            settings: Vec::new(),
        };
        let mut bytes = 0;
        for (name, value) in self.settings.iter() {
            bytes += name.len() + value.len();
            if bytes > SETTINGS_BYTES && !image.settings.is_empty() {
                images.emit(Kind::SettingsImage, |into| encode(&image, into));
                image = SettingsImageV1 {
                    first: false,
                    through: image.through,
                    settings: Vec::new(),
                };
                bytes = name.len() + value.len();
            }
            image.settings.push(SettingImageV1 { name, value });
        }
        images.emit(Kind::SettingsImage, |into| encode(&image, into));
    }

    pub(super) fn restore_kind(
        &mut self,
        kind: Kind,
        item: &CheckpointItem<'_>,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        let (body, seq) = (item.record.body, item.record.seq);
        match kind {
            Kind::SettingsImage => self.restore_settings(open(body)?),
            Kind::AccountImage => self.restore_account(open(body)?, live),
            Kind::RosterImage => self.restore_roster(open(body)?),
            kind if kind.is_kept_by_place() => {
                let slot = Slot {
                    seq,
                    place: item.place.ok_or(BadBody)?,
                };
                self.restore_kept(kind, body, slot, live)
            }
            _ => Err(BadBody),
        }
    }

    fn restore_settings(&mut self, image: &ArchivedSettingsImageV1<'_>) -> Result<(), BadBody> {
        if image.first {
            self.settings = Settings::default();
        }
        self.settings.through = image.through.to_native();
        for setting in image.settings.iter() {
            self.settings.put(&setting.name, &setting.value);
        }
        Ok(())
    }

    /// Replaces the account: one that was removed and came again while the
    /// checkpoint was taken may stand in it twice. What is left of two damaged
    /// checkpoints is put together instead, because either may lack something.
    fn restore_account(
        &mut self,
        image: &ArchivedAccountImageV1<'_>,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        let before = self.accounts.remove(&image.owner);
        let mut account = Account::new(
            Arc::from(&*image.owner),
            image.through.to_native(),
            image.created_at_ms.to_native(),
            image.enabled,
            PackedCredentials::from_archived(&image.credentials).ok_or(BadBody)?,
        );
        match before {
            Some(before) if self.patchy => account.inherit(before),
            Some(before) => before.release(live),
            None => {}
        }
        account.set_last_activity(image.last_activity_ms.to_native(), &image.last_status);
        self.accounts.insert(account);
        Ok(())
    }

    fn restore_roster(&mut self, image: &ArchivedRosterImageV1<'_>) -> Result<(), BadBody> {
        let roster = self
            .accounts
            .find_mut(&image.owner)
            .ok_or(BadBody)?
            .roster_mut();
        let before = roster.shared_bytes();
        let texts = |bytes: usize, item: &ArchivedRosterImageItemV1<'_>| {
            bytes
                + item.contact.len()
                + item.name.len()
                + item
                    .groups
                    .iter()
                    .map(|group| group.len() + 1)
                    .sum::<usize>()
        };
        roster.reserve(image.items.len(), image.items.iter().fold(0, texts));
        for item in image.items.iter() {
            let groups = item.groups.iter().map(|group| &**group);
            roster
                .restore(
                    &item.contact,
                    &item.name,
                    groups,
                    item.flags,
                    item.version.to_native(),
                )
                .ok_or(BadBody)?;
        }
        let removals = image
            .removals
            .iter()
            .map(|removal| (&*removal.contact, removal.version.to_native()));
        roster.restore_history(
            image.version.to_native(),
            image.horizon.to_native(),
            removals,
        );
        let after = roster.shared_bytes();
        self.accounts.roster_changed(before, after);
        Ok(())
    }

    /// A record whose value stays on the device. Its account's image says
    /// already that it reflects the record, so that says nothing here.
    fn restore_kept(
        &mut self,
        kind: Kind,
        body: &[u8],
        slot: Slot,
        live: &mut Live,
    ) -> Result<(), BadBody> {
        if kind == Kind::Message {
            let body = open::<ArchivedMessageV1<'_>>(body)?;
            let account = self.accounts.find_mut(&body.owner).ok_or(BadBody)?;
            account.put_message(&StoredMessage::of(body, slot), live);
            return Ok(());
        }
        let (owner, key) = keyed_by(kind, body)?;
        let account = self.accounts.find_mut(owner).ok_or(BadBody)?;
        keyed_mut(account.profile_mut(), kind).put(&key, slot, live);
        Ok(())
    }
}

/// Encodes images and counts their bytes.
struct Images<'a> {
    buffer: Vec<u8>,
    bytes: usize,
    emit: &'a mut dyn FnMut(CheckpointItem<'_>),
}

impl Images<'_> {
    fn emit(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) {
        self.emit_item(kind, 0, None, encode);
    }

    fn emit_kept(&mut self, kind: Kind, slot: &Slot, encode: impl FnOnce(&mut Vec<u8>)) {
        self.emit_item(kind, slot.seq, Some(slot.place), encode);
    }

    fn emit_item(
        &mut self,
        kind: Kind,
        seq: u64,
        place: Option<Place>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.buffer.clear();
        encode(&mut self.buffer);
        self.bytes += self.buffer.len();
        let record = Record {
            kind: kind as u8,
            version: 1,
            seq,
            body: &self.buffer,
            payload: &[],
        };
        (self.emit)(CheckpointItem { record, place });
    }
}

/// All of one account: the images belong together, so they are written in one go.
fn emit_account(account: &Account, images: &mut Images<'_>) {
    let image = AccountImageV1 {
        owner: &account.owner,
        through: account.through,
        created_at_ms: account.created_at_ms,
        enabled: account.enabled,
        credentials: account.credentials.view(),
        last_activity_ms: account.last_activity_ms,
        last_status: account.last_activity().map_or("", |(_, status)| status),
    };
    images.emit(Kind::AccountImage, |into| encode(&image, into));
    emit_roster(account, images);
    emit_messages(account, images);
    emit_profile(account, images);
}

fn emit_roster(account: &Account, images: &mut Images<'_>) {
    let Some(roster) = &account.roster else {
        return;
    };
    let items: Vec<_> = roster
        .iter()
        .map(super::roster::RosterItem::to_image)
        .collect();
    let mut chunks = items.chunks(ENTRIES_MAX);
    let mut removals = roster.removals().collect();
    loop {
        let items = chunks.next().unwrap_or_default();
        let image = RosterImageV1 {
            owner: &account.owner,
            version: roster.version(),
            horizon: roster.horizon(),
            items: items.to_vec(),
            removals: std::mem::take(&mut removals),
        };
        images.emit(Kind::RosterImage, |into| encode(&image, into));
        if chunks.len() == 0 {
            return;
        }
    }
}

fn emit_messages(account: &Account, images: &mut Images<'_>) {
    for message in account.messages().iter() {
        let body = MessageV1 {
            owner: &account.owner,
            received_at_ms: message.received_at_ms,
            flags: message.flags,
        };
        let slot = Slot {
            seq: message.id.0,
            place: message.place,
        };
        images.emit_kept(Kind::Message, &slot, |into| encode(&body, into));
    }
}

fn emit_profile(account: &Account, images: &mut Images<'_>) {
    let Some(profile) = &account.profile else {
        return;
    };
    let owner = &*account.owner;
    for (_, slot) in profile.vcard.iter() {
        images.emit_kept(Kind::Vcard, slot, |into| encode(&VcardV1 { owner }, into));
    }
    for (contact, slot) in profile.requests.iter() {
        let body = SubscriptionRequestV1 { owner, contact };
        images.emit_kept(Kind::SubscriptionRequest, slot, |into| encode(&body, into));
    }
    for (key, slot) in profile.private.iter() {
        let (name, namespace) = private_names(key);
        images.emit_kept(Kind::Private, slot, |into| {
            encode(
                &PrivateV1 {
                    owner,
                    name,
                    namespace,
                },
                into,
            );
        });
    }
    for (id, slot) in profile.sessions.iter() {
        // Of a session the state keeps its id; the rest is read where it stands.
        let body = HibernatedV1 {
            owner,
            id,
            ..HibernatedV1::default()
        };
        images.emit_kept(Kind::Hibernated, slot, |into| encode(&body, into));
    }
}

/// A cursor that is none of ours starts over, which costs time and nothing else.
fn slot_of(cursor: &Cursor) -> u64 {
    cursor.0.as_slice().try_into().map_or(0, u64::from_le_bytes)
}
