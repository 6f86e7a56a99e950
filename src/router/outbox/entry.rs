//! One thing that is to be written to a client, and what becomes of it when it is not.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::stanza::Outgoing;
use crate::store::{MessageId, Place, Position, State};

/// What one entry puts on the wire.
#[derive(Debug, Clone)]
pub enum Wire {
    /// A start tag of its own and a shared rest.
    Ready(Outgoing),
    /// A message of the session's account that stands in the log and is read when its turn comes,
    /// so that a long backlog costs a few dozen bytes an entry and not its bodies. It gets its
    /// `<stanza-id/>` and `<delay/>` then.
    Stored {
        /// Which.
        id: MessageId,
        /// When it was accepted, in milliseconds since 1970.
        received_at_ms: u64,
    },
    /// A payload that is read from the log when its turn comes.
    Wrapped(Arc<Wrapped>),
}

/// A payload in the log, and what stands around it.
pub struct Wrapped {
    /// Where it stands when it is looked for: compaction moves records.
    pub find: Find,
    /// From the stanza's start tag on.
    pub before: Bytes,
    /// To the stanza's end tag.
    pub behind: Bytes,
}

/// Looks up where a value stands in the log now, if it is still there.
pub type Find = Box<dyn Fn(&State) -> Option<Place> + Send + Sync>;

impl std::fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapped")
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

/// What an entry is, as far as its fate matters when the session ends before it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cargo {
    /// Not a stanza: it is not counted by XEP-0198 and not kept.
    Nonza,
    /// `<enabled/>`: every stanza behind it is counted and kept until it is acknowledged
    /// (XEP-0198 §4).
    ManagementEnabled,
    /// A stanza that is worth nothing once its session is gone.
    Transient,
    /// The same, of a kind that others send whenever they like and as often: it gets no room that
    /// the session needs for what it has asked for.
    AtWill,
    /// The same, of a sender who wants nobody to store it, not even over a restart (XEP-0334 §4.2).
    Unstored,
    /// An `iq` request, by its [`question`]: whoever asked is told when nobody will answer.
    Request(u64),
    /// A message that offline storage would take but that has no record in the log yet, and when
    /// the server accepted it, in milliseconds since 1970.
    Message(u64),
    /// A message with a record in the log, retired when this entry has been delivered.
    Recorded(MessageId),
}

/// What tells one `iq` request to a client from another: who asks, and its `id` (RFC 6120 §8.2.3).
pub fn question(from: &Jid, id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (from.as_str(), id).hash(&mut hasher);
    hasher.finish()
}

/// One thing to be written to the client.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The bytes, or where they are.
    pub wire: Wire,
    /// The store position that must be durable first.
    pub after: Position,
    /// What it is.
    pub cargo: Cargo,
}

impl Entry {
    /// An entry that is not a stanza.
    pub fn nonza(bytes: Bytes, after: Position) -> Entry {
        Entry {
            wire: Wire::Ready(bytes.into()),
            after,
            cargo: Cargo::Nonza,
        }
    }

    /// A stanza that is lost with its session.
    pub fn transient(outgoing: Outgoing, after: Position) -> Entry {
        Entry {
            wire: Wire::Ready(outgoing),
            after,
            cargo: Cargo::Transient,
        }
    }

    pub(super) fn weight(&self) -> usize {
        ENTRY_OVERHEAD
            + match &self.wire {
                Wire::Ready(outgoing) => outgoing.head.len() + outgoing.tail.len(),
                Wire::Stored { .. } | Wire::Wrapped(_) => 0,
            }
    }

    /// A stanza that others send at will.
    pub fn at_will(outgoing: Outgoing, after: Position) -> Entry {
        Entry {
            cargo: Cargo::AtWill,
            ..Entry::transient(outgoing, after)
        }
    }

    /// Whether others decide how many of these there are.
    pub(super) fn is_at_will(&self) -> bool {
        matches!(
            self.cargo,
            Cargo::AtWill | Cargo::Unstored | Cargo::Request(_)
        )
    }

    /// Whether stream management counts it.
    pub fn is_stanza(&self) -> bool {
        !matches!(self.cargo, Cargo::Nonza | Cargo::ManagementEnabled)
    }
}

/// What an entry is charged for besides its bytes.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Entry>();
