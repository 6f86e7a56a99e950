//! Messages that wait for their recipient.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// [`Kind::Message`](super::Kind::Message), version 1; the payload is the
/// stanza. The message's id is the record's sequence number.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct MessageV1<'a> {
    /// The bare JID of the recipient.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// Unix time in milliseconds at which the server took it.
    pub received_at_ms: u64,
    /// Bits that the router gives a meaning.
    pub flags: u8,
}

/// [`Kind::Retired`](super::Kind::Retired), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct RetiredV1<'a> {
    /// The bare JID of the recipient.
    #[rkyv(with = InlineAsBox)]
    pub owner: &'a str,
    /// The smallest id of the list.
    pub first: u64,
    /// Runs of consecutive ids, as pairs of LEB128 numbers: the gap to the end
    /// of the run before (for the first run, to `first`) and the length less one.
    #[rkyv(with = InlineAsBox)]
    pub runs: &'a [u8],
}
