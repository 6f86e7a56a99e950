//! Reading what stays on the device.

use bytes::Bytes;

use super::error::StoreError;
use super::fold::Place;
use super::read::{FetchError, Fetched};
use super::state::{HibernatedSession, MessageId, State};
use super::store::Store;

/// A stored value that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// The statement of the record.
    pub body: Bytes,
    /// What stands beside it, such as a stanza.
    pub payload: Bytes,
}

impl Store {
    /// Reads a value from the device: blocks. [`StoreError::Moved`] when it is
    /// not there any more: look its place up again.
    pub fn fetch(&self, place: Place) -> Result<StoredValue, StoreError> {
        let read = self.lock().log.fetch(place);
        let Fetched { body, payload, .. } = read.perform(&*self.device)?;
        Ok(StoredValue { body, payload })
    }

    /// Reads a waiting message, wherever it stands now; `None` when it was retired.
    pub fn message(&self, owner: &str, id: MessageId) -> Result<Option<Bytes>, StoreError> {
        let place = |state: &State| Some(state.account(owner)?.messages().find(id)?.place);
        Ok(self.fetch_at(place)?.map(|value| value.payload))
    }

    /// Reads the vCard of an account.
    pub fn vcard(&self, owner: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .fetch_at(|state| state.account(owner)?.vcard())?
            .map(|value| value.payload))
    }

    /// Reads a private XML element of an account.
    pub fn private(
        &self,
        owner: &str,
        name: &str,
        namespace: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        let place = |state: &State| state.account(owner)?.private(name, namespace);
        Ok(self.fetch_at(place)?.map(|value| value.payload))
    }

    /// Reads the stanza of a request for presence.
    pub fn subscription_request(
        &self,
        owner: &str,
        contact: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        let place = |state: &State| state.account(owner)?.subscription_request(contact);
        Ok(self.fetch_at(place)?.map(|value| value.payload))
    }

    /// Reads a sleeping session.
    pub fn hibernated(
        &self,
        owner: &str,
        id: &str,
    ) -> Result<Option<HibernatedSession>, StoreError> {
        let place = |state: &State| {
            state
                .account(owner)?
                .hibernated()
                .find(|(other, _)| *other == id)
                .map(|(_, place)| place)
        };
        let Some(StoredValue { body, payload }) = self.fetch_at(place)? else {
            return Ok(None);
        };
        let session = HibernatedSession::open(&body, &payload);
        session.map(Some).ok_or_else(|| {
            StoreError::Unreadable("a sleeping session contradicts itself".to_owned())
        })
    }

    /// Reads what stands at a place that compaction may change meanwhile.
    pub fn fetch_at(
        &self,
        place: impl Fn(&State) -> Option<Place>,
    ) -> Result<Option<StoredValue>, StoreError> {
        let mut before = None;
        loop {
            let Some(now) = self.read(&place) else {
                return Ok(None);
            };
            match self.fetch(now) {
                Err(StoreError::Moved) if before != Some(now) => before = Some(now),
                Err(StoreError::Moved) => {
                    return Err(StoreError::Unreadable(format!("{now:?} is damaged")));
                }
                other => return other.map(Some),
            }
        }
    }
}

impl From<FetchError> for StoreError {
    fn from(error: FetchError) -> StoreError {
        match error {
            FetchError::Gone => StoreError::Moved,
            FetchError::Device(error) => StoreError::Unreadable(error.to_string()),
        }
    }
}
