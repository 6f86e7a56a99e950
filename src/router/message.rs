//! Where a message goes: RFC 6121 §8.5 as one decision over what is known of the recipient, and
//! what of it offline storage takes (XEP-0160, XEP-0334).

use crate::stanza::Stanza;

/// The `type` of a message (RFC 6121 §5.2.2); anything unknown is `normal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A conversation between two people.
    Chat,
    /// An answer that tells of a failure.
    Error,
    /// In a room.
    Groupchat,
    /// News that needs no answer.
    Headline,
    /// Outside a conversation.
    Normal,
}

impl MessageType {
    /// The type of a message stanza.
    pub fn of(stanza: &Stanza) -> MessageType {
        match stanza.type_().as_deref() {
            Some("chat") => MessageType::Chat,
            Some("error") => MessageType::Error,
            Some("groupchat") => MessageType::Groupchat,
            Some("headline") => MessageType::Headline,
            _ => MessageType::Normal,
        }
    }
}

/// What the server keeps of a message when nobody takes it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It waits in offline storage.
    Store,
    /// It was not to be kept but has something to say: the sender hears that nobody got it.
    Refuse,
    /// Nobody misses it (a chat state on its own, XEP-0085).
    Drop,
}

const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
const HINTS: &str = "urn:xmpp:hints";

impl Keep {
    /// XEP-0160 §3: `normal` and `chat` are stored, but not chat states alone; XEP-0334 lets the
    /// sender say otherwise.
    pub fn of(stanza: &Stanza, type_: MessageType) -> Keep {
        if !matches!(type_, MessageType::Chat | MessageType::Normal) {
            return Keep::Drop;
        }
        let mut worth = false;
        let mut body = false;
        for child in stanza.children() {
            match (child.ns(), child.name()) {
                (HINTS, "no-store") => {
                    return if stanza_has_body(stanza) {
                        Keep::Refuse
                    } else {
                        Keep::Drop
                    };
                }
                (HINTS, "store") => worth = true,
                (HINTS | CHAT_STATES, _) => {}
                (_, "thread") => {}
                (_, "body") => body = true,
                _ => worth = true,
            }
        }
        match worth || body {
            true => Keep::Store,
            false => Keep::Drop,
        }
    }
}

fn stanza_has_body(stanza: &Stanza) -> bool {
    stanza.children().any(|child| child.name() == "body")
}

/// What is known of the recipient, an account of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// The address names a resource.
    pub is_full: bool,
    /// That resource is connected.
    pub is_connected: bool,
    /// Some resource is available with a priority that is not negative.
    pub is_available: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the very resource that was named.
    Exact,
    /// To all available resources of the highest non-negative priority.
    MostAvailable,
    /// To all available resources of a non-negative priority.
    NonNegative,
    /// Nobody takes it now: [`Keep`] decides.
    Offline,
    /// Back to the sender with `service-unavailable`.
    Bounce,
    /// Nowhere, without a word.
    Ignore,
}

/// RFC 6121 §8.5.2 (bare JID) and §8.5.3 (full JID), summed up in §8.5.4.
pub fn destination(type_: MessageType, to: Recipient) -> Destination {
    use MessageType::{Chat, Error, Groupchat, Headline, Normal};
    if to.is_full && to.is_connected {
        return Destination::Exact;
    }
    match (type_, to.is_full) {
        (Error, _) => Destination::Ignore,
        (Groupchat, _) => Destination::Bounce,
        // §8.5.3.2.1: only `chat` falls back to the bare JID. An error tells a sender of
        // something else that it has to look for the new resource.
        (Normal, true) => Destination::Bounce,
        (Headline, true) => Destination::Ignore,
        (Headline, false) if to.is_available => Destination::NonNegative,
        (Headline, false) => Destination::Ignore,
        (Chat | Normal, _) if to.is_available => Destination::MostAvailable,
        (Chat | Normal, _) => Destination::Offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Destination::*;
    use MessageType::*;

    #[test]
    fn rfc_6121_8_5_4_holds_row_by_row() {
        // (full, connected, available) for chat, error, groupchat, headline, normal
        let rows = [
            (
                (false, false, false),
                [Offline, Ignore, Bounce, Ignore, Offline],
            ),
            (
                (false, false, true),
                [MostAvailable, Ignore, Bounce, NonNegative, MostAvailable],
            ),
            (
                (true, false, false),
                [Offline, Ignore, Bounce, Ignore, Bounce],
            ),
            (
                (true, false, true),
                [MostAvailable, Ignore, Bounce, Ignore, Bounce],
            ),
            ((true, true, false), [Exact, Exact, Exact, Exact, Exact]),
            ((true, true, true), [Exact, Exact, Exact, Exact, Exact]),
        ];
        for ((is_full, is_connected, is_available), expected) in rows {
            let to = Recipient {
                is_full,
                is_connected,
                is_available,
            };
            let met =
                [Chat, Error, Groupchat, Headline, Normal].map(|type_| destination(type_, to));
            assert_eq!(met, expected, "{to:?}");
        }
    }
}
