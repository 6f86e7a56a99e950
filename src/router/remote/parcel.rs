//! One stanza on its way to another server, and what becomes of it if it does not get there.

use std::sync::Arc;

use crate::stanza::Outgoing;
use crate::store::{MessageId, Position};

use super::asker::{Asker, Share};

/// A stanza for another server.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// What goes on the wire, with both addresses.
    pub outgoing: Outgoing,
    /// The store position that must be durable first.
    pub after: Position,
    /// What it is.
    pub freight: Freight,
    /// On whose behalf it goes.
    pub asker: Asker,
    /// Its part of the room, as long as it is anywhere.
    pub(super) share: Option<Arc<Share>>,
}

/// What a parcel is, as far as its fate matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freight {
    /// A message that stands in the log among those of its sender, whose bare address this is:
    /// retired once the other server has it.
    Recorded(Box<str>, MessageId),
    /// A request: sent once, for its answer may have come and gone.
    Request,
    /// Anything else. Sent again when nobody knows whether it arrived.
    Plain,
}

/// What a parcel is charged for besides its bytes.
const OVERHEAD: usize = size_of::<Parcel>() + size_of::<Share>();

impl Parcel {
    /// One that waits nowhere yet.
    pub fn new(outgoing: Outgoing, after: Position, freight: Freight, asker: Asker) -> Parcel {
        Parcel {
            outgoing,
            after,
            freight,
            asker,
            share: None,
        }
    }

    pub(super) fn weight(&self) -> usize {
        OVERHEAD + self.outgoing.len()
    }
}
