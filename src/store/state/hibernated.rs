//! A sleeping session, as its router writes it down and reads it again.

use bytes::Bytes;

use super::messages::MessageId;
use crate::store::records::{
    ArchivedHibernatedV1, BadBody, HibernatedV1, PropertyV1, QueuedV1, encode, open,
};

/// A session that an orderly stop put to sleep (XEP-0198 §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HibernatedSession {
    /// The resumption id that the client was given.
    pub id: String,
    /// The resource.
    pub resource: String,
    /// Unix time in milliseconds behind which it can no longer be resumed.
    pub expires_at_ms: u64,
    /// Stanzas of the client that the server has handled.
    pub handled_inbound: u32,
    /// Stanzas of the server that the client has acknowledged.
    pub acknowledged_outbound: u32,
    /// The session's last presence; empty when it never sent one.
    pub presence: Bytes,
    /// The unacknowledged stanzas, oldest first.
    pub queue: Vec<QueuedStanza>,
    /// What extensions want to know again, by name.
    pub properties: Vec<(String, String)>,
}

/// A stanza that its client has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedStanza {
    /// The stored message that it delivers, if it is one.
    pub message: Option<MessageId>,
    /// The stanza.
    pub stanza: Bytes,
}

impl HibernatedSession {
    /// Reads a session out of a record's body and payload; `None` when they
    /// do not belong together.
    pub fn open(body: &[u8], payload: &Bytes) -> Option<HibernatedSession> {
        HibernatedSession::open_v1(body, payload).ok()
    }

    /// Appends the record's body and payload.
    pub(crate) fn encode(
        &self,
        owner: &str,
        body: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> Option<()> {
        let mut queue = Vec::with_capacity(self.queue.len());
        for queued in &self.queue {
            let bytes = u32::try_from(queued.stanza.len()).ok()?;
            queue.push(QueuedV1 {
                message_id: queued.message.map_or(0, |id| id.0),
                bytes,
            });
            payload.extend_from_slice(&queued.stanza);
        }
        payload.extend_from_slice(&self.presence);
        let properties = self
            .properties
            .iter()
            .map(|(name, value)| PropertyV1 { name, value });
        let record = HibernatedV1 {
            owner,
            id: &self.id,
            resource: &self.resource,
            expires_at_ms: self.expires_at_ms,
            handled_inbound: self.handled_inbound,
            acknowledged_outbound: self.acknowledged_outbound,
            presence_bytes: u32::try_from(self.presence.len()).ok()?,
            queue,
            properties: properties.collect(),
        };
        encode(&record, body);
        Some(())
    }

    fn open_v1(body: &[u8], payload: &Bytes) -> Result<HibernatedSession, BadBody> {
        let record = open::<ArchivedHibernatedV1<'_>>(body)?;
        let mut rest = payload.clone();
        let mut take = |bytes: u32| {
            let bytes = bytes as usize;
            if bytes > rest.len() {
                Err(BadBody)
            } else {
                Ok(rest.split_to(bytes))
            }
        };
        let mut queue = Vec::with_capacity(record.queue.len());
        for queued in record.queue.iter() {
            let id = queued.message_id.to_native();
            let stanza = take(queued.bytes.to_native())?;
            queue.push(QueuedStanza {
                message: (id != 0).then_some(MessageId(id)),
                stanza,
            });
        }
        let presence = take(record.presence_bytes.to_native())?;
        if !rest.is_empty() {
            return Err(BadBody);
        }
        let properties = record.properties.iter();
        Ok(HibernatedSession {
            id: record.id.to_string(),
            resource: record.resource.to_string(),
            expires_at_ms: record.expires_at_ms.to_native(),
            handled_inbound: record.handled_inbound.to_native(),
            acknowledged_outbound: record.acknowledged_outbound.to_native(),
            presence,
            queue,
            properties: properties
                .map(|property| (property.name.to_string(), property.value.to_string()))
                .collect(),
        })
    }
}
