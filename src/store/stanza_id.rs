//! The ids under which messages are known outside (XEP-0359).

use ring::aead::quic::{AES_128, HeaderProtectionKey};

use super::log::Identity;
use super::state::MessageId;
use crate::crypto::hmac_sha256;

/// Turns the numbers of messages into ids that tell nothing, and back.
///
/// The numbers grow by one with every record of the server, so they would tell
/// how much others write. A Feistel network of four rounds (Luby and Rackoff),
/// keyed by the store's own random identity, makes a permutation of them: an id
/// is the same whenever it is asked for, also after a crash, and needs no table.
pub(crate) struct StanzaIds(HeaderProtectionKey);

const ROUNDS: u8 = 4;

impl StanzaIds {
    pub(crate) fn new(identity: &Identity) -> StanzaIds {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(&identity.store_id);
        secret[16..24].copy_from_slice(&identity.salt);
        let key = hmac_sha256(&secret, &[b"stanza-id"]);
        let key = HeaderProtectionKey::new(&AES_128, &key[..16]);
        StanzaIds(key.expect("AES-128 has keys of sixteen bytes"))
    }

    /// A number of this store and hardly of another, with the lower forty bits free: versions that
    /// clients remember are added to it, so that those of a store before a restore mean nothing.
    pub(crate) fn mark(&self) -> u64 {
        u64::from(self.mix(u8::MAX, 0) >> 9) << 40
    }

    /// The id of a message: sixteen hexadecimal digits.
    pub(crate) fn id_of(&self, message: MessageId) -> String {
        let (mut left, mut right) = ((message.0 >> 32) as u32, message.0 as u32);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        format!("{left:08x}{right:08x}")
    }

    /// The message of an id; `None` for what this never gave out.
    pub(crate) fn message_of(&self, id: &str) -> Option<MessageId> {
        let is_ours = id.len() == 16
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = u64::from_str_radix(id, 16).ok().filter(|_| is_ours)?;
        let (mut left, mut right) = ((number >> 32) as u32, number as u32);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, left), left);
        }
        Some(MessageId((u64::from(left) << 32) | u64::from(right)))
    }

    /// Four bytes of AES over the round and half a number: what QUIC makes its
    /// header masks of is the one bare AES that ring offers.
    fn mix(&self, round: u8, half: u32) -> u32 {
        let mut sample = [0; 16];
        sample[0] = round;
        sample[1..5].copy_from_slice(&half.to_le_bytes());
        let [a, b, c, d, _] = self
            .0
            .new_mask(&sample)
            .expect("a sample has sixteen bytes");
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(name: u8) -> StanzaIds {
        StanzaIds::new(&Identity {
            store_id: [name; 16],
            salt: [1; 8],
            created_ms: 5,
        })
    }

    #[test]
    fn an_id_leads_back_to_its_message_and_to_no_other() {
        let ids = ids(1);
        let mut seen = std::collections::HashSet::new();
        for number in (0..2_000).chain([u64::MAX, u64::MAX - 1, 1 << 32]) {
            let id = ids.id_of(MessageId(number));
            assert_eq!(ids.message_of(&id), Some(MessageId(number)));
            assert!(seen.insert(id));
        }
        for foreign in [
            "",
            "1",
            "0123456789ABCDEF",
            "+123456789abcdef",
            "0123456789abcdef0",
        ] {
            assert_eq!(ids.message_of(foreign), None);
        }
    }

    #[test]
    fn ids_of_neighbours_and_of_other_stores_have_nothing_in_common() {
        let prefix = |id: String| id[..6].to_owned();
        assert_ne!(
            prefix(ids(1).id_of(MessageId(1))),
            prefix(ids(1).id_of(MessageId(2)))
        );
        assert_ne!(ids(1).id_of(MessageId(1)), ids(2).id_of(MessageId(1)));
    }
}
