//! Sessions that an orderly stop put to sleep (XEP-0198 §5).

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// [`Kind::Hibernated`](super::Kind::Hibernated), version 1. The payload is
/// the stanzas of the queue one after the other, then the presence.
#[derive(Archive, Serialize, Clone, Debug, Default)]
pub struct HibernatedV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The resumption id that the client was given.
    #[rkyv(with = InlineAsBox)]
    pub id: &'a str,
    /// The resource.
    #[rkyv(with = InlineAsBox)]
    pub resource: &'a str,
    /// Unix time in milliseconds behind which it can no longer be resumed.
    pub expires_at_ms: u64,
    /// Stanzas of the client that the server has handled.
    pub handled_inbound: u32,
    /// Stanzas of the server that the client has acknowledged.
    pub acknowledged_outbound: u32,
    /// Bytes of the session's presence at the payload's end; 0 when it never sent one.
    pub presence_bytes: u32,
    /// The unacknowledged stanzas, oldest first.
    pub queue: Vec<QueuedV1>,
    /// What extensions want to know again, by name.
    pub properties: Vec<PropertyV1<'a>>,
}

/// One stanza of a sleeping session's queue.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct QueuedV1 {
    /// The id of the stored message that it delivers; 0 when it has none.
    pub message_id: u64,
    /// Its bytes in the payload.
    pub bytes: u32,
}

/// A named value.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct PropertyV1<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Its value.
    #[rkyv(with = InlineAsBox)]
    pub value: &'a str,
}

/// [`Kind::HibernatedRemoved`](super::Kind::HibernatedRemoved), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct HibernatedRemovedV1<'a> {
    /// The bare JID.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The resumption id.
    #[rkyv(with = InlineAsBox)]
    pub id: &'a str,
}
