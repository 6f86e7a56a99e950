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
    /// Its sender wants nobody to store it, not even for a while, but it has something to say: the
    /// sender hears that nobody got it.
    Refuse,
    /// Its sender wants nobody to store it, and nobody misses it.
    Forget,
    /// Nobody misses it (a chat state on its own, XEP-0085).
    Drop,
}

const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
const HINTS: &str = "urn:xmpp:hints";

impl Keep {
    /// XEP-0160 §3: `normal` and `chat` are stored, but not chat states alone; XEP-0334 lets the
    /// sender say otherwise. Not of an error, which repeats the hints of what it refuses (§5),
    /// nor does `store` make a `groupchat` message wait: it would come to a resource that is in
    /// no room (RFC 6121 §8.5.2.1.1).
    pub fn of(stanza: &Stanza, type_: MessageType) -> Keep {
        use MessageType::{Chat, Error, Headline, Normal};
        if type_ == Error {
            return Keep::Drop;
        }
        let content = Content::of(stanza);
        let is_conversation = matches!(type_, Chat | Normal);
        let is_worth_it = (is_conversation && content.says_something)
            || (content.store && (is_conversation || type_ == Headline));
        match (content.no_store, is_worth_it) {
            (true, _) if is_conversation && content.body => Keep::Refuse,
            (true, _) => Keep::Forget,
            (false, true) => Keep::Store,
            (false, false) => Keep::Drop,
        }
    }
}

/// Whether a message to another server is recorded until that has it. What becomes of it there nobody
/// knows here, so whatever says something is: of a room and news, too. Not an error, which nobody is
/// told of that it got lost, and not what its sender wants nobody to store (XEP-0334 §4.2).
pub fn is_recorded_for_others(stanza: &Stanza, type_: MessageType) -> bool {
    let content = Content::of(stanza);
    let is_worth_it = content.says_something || content.store;
    type_ != MessageType::Error && is_worth_it && !content.no_store
}

/// What stands in a message, as far as it decides over keeping it.
#[derive(Default)]
struct Content {
    store: bool,
    no_store: bool,
    body: bool,
    /// More than hints, chat states and the name of the conversation.
    says_something: bool,
}

impl Content {
    fn of(stanza: &Stanza) -> Content {
        let mut content = Content::default();
        for child in stanza.children() {
            match (child.ns(), child.name()) {
                (HINTS, "no-store") => content.no_store = true,
                (HINTS, "store") => content.store = true,
                (HINTS | CHAT_STATES, _) | (_, "thread") => {}
                (_, name) => {
                    content.says_something = true;
                    content.body |= name == "body";
                }
            }
        }
        content
    }
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
///
/// A `headline` waits only when its sender asks for that (XEP-0334 §4.4).
pub fn destination(type_: MessageType, keep: Keep, to: Recipient) -> Destination {
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
        (Headline, false) if keep == Keep::Store => Destination::Offline,
        (Headline, false) => Destination::Ignore,
        (Chat | Normal, _) if to.is_available => Destination::MostAvailable,
        (Chat | Normal, _) => Destination::Offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Destination::*;
    use Keep::*;
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
            let met = [Chat, Error, Groupchat, Headline, Normal]
                .map(|type_| destination(type_, Drop, to));
            assert_eq!(met, expected, "{to:?}");
        }
    }

    /// What stands in a message, and what is kept of it as chat, error, groupchat, headline and
    /// normal.
    #[test]
    fn hints_decide_over_the_type_but_for_errors_and_for_waiting_in_rooms() {
        let body = "<body>x</body>";
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        let hint = |name: &str| format!("<{name} xmlns='urn:xmpp:hints'/>");
        let rows = [
            (body.to_owned(), [Store, Drop, Drop, Drop, Store]),
            (state.to_owned(), [Drop, Drop, Drop, Drop, Drop]),
            (format!("{state}<thread>t</thread>"), [Drop; 5]),
            (
                "<x xmlns='urn:x'/>".to_owned(),
                [Store, Drop, Drop, Drop, Store],
            ),
            (
                format!("{state}{}", hint("store")),
                [Store, Drop, Drop, Store, Store],
            ),
            (
                format!("{body}{}", hint("no-permanent-store")),
                [Store, Drop, Drop, Drop, Store],
            ),
            (format!("{state}{}", hint("no-permanent-store")), [Drop; 5]),
            (
                format!("{body}{}", hint("no-store")),
                [Refuse, Drop, Forget, Forget, Refuse],
            ),
            (
                format!("{}{state}", hint("no-store")),
                [Forget, Drop, Forget, Forget, Forget],
            ),
            (
                format!("{}{}{body}", hint("store"), hint("no-store")),
                [Refuse, Drop, Forget, Forget, Refuse],
            ),
        ];
        for (inside, expected) in rows {
            let xml = format!("<message xmlns='jabber:client'>{inside}</message>");
            let message = Stanza::from_canonical(xml.into()).expect("a message");
            let met =
                [Chat, Error, Groupchat, Headline, Normal].map(|type_| Keep::of(&message, type_));
            assert_eq!(met, expected, "{inside}");
        }
    }

    #[test]
    fn for_another_server_everything_is_recorded_that_says_something() {
        let hint = |name: &str| format!("<{name} xmlns='urn:xmpp:hints'/>");
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>".to_owned();
        for (inside, expected) in [
            ("<body>x</body>".to_owned(), true),
            ("<subject>x</subject>".to_owned(), true),
            (format!("{state}{}", hint("store")), true),
            (
                format!("<body>x</body>{}", hint("no-permanent-store")),
                true,
            ),
            (format!("<body>x</body>{}", hint("no-store")), false),
            (state, false),
        ] {
            let xml = format!("<message xmlns='jabber:client'>{inside}</message>");
            let message = Stanza::from_canonical(xml.into()).expect("a message");
            for type_ in [Chat, Groupchat, Headline, Normal] {
                let met = is_recorded_for_others(&message, type_);
                assert_eq!(met, expected, "{inside} as {type_:?}");
            }
            assert!(!is_recorded_for_others(&message, Error), "{inside}");
        }
    }

    #[test]
    fn a_headline_that_is_to_be_stored_waits_for_whoever_comes() {
        let nobody = Recipient {
            is_full: false,
            is_connected: false,
            is_available: false,
        };
        assert_eq!(destination(Headline, Store, nobody), Offline);
        assert_eq!(destination(Error, Store, nobody), Ignore);
        assert_eq!(destination(Groupchat, Store, nobody), Bounce);
    }
}
