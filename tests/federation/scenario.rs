//! What two people on two servers do, whatever the servers are.

use crate::peers::{Event, Person};

const DISCO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const VERSION: &str = "<query xmlns='jabber:iq:version'/>";
const VCARD: &str = "<vCard xmlns='vcard-temp'/>";
/// What an account says of itself, but for the name.
const CARD: &str = "<vCard xmlns='vcard-temp'><FN>NAME</FN></vCard>";

/// Both write to each other, and the answer comes back to the resource that had asked.
#[track_caller]
pub fn chat(one: &mut Person, other: &mut Person) {
    one.say(&other.jid, "m1", "Wherefore art thou <&> \u{20ac}?");
    let heard = other.hear("Wherefore art thou <&> \u{20ac}?");
    assert!(heard.is_from(&one.jid) && heard.id() == "m1", "{heard:?}");
    other.say(heard.from(), "m2", "Call me but love");
    let heard = one.hear("Call me but love");
    assert!(heard.is_from(&other.jid) && heard.id() == "m2", "{heard:?}");
}

/// One asks to see the other's presence, and is allowed to.
#[track_caller]
pub fn subscribe(one: &mut Person, other: &mut Person) {
    one.presence("subscribe", &other.jid);
    let jid = one.jid.clone();
    other.wait("the request", |event| is_presence(event, "subscribe", &jid));
    other.presence("subscribed", &jid);
    let jid = other.jid.clone();
    one.wait("the consent", |event| {
        is_presence(event, "subscribed", &jid)
    });
    one.wait("the presence", |event| is_presence(event, "", &jid));
}

/// Both subscribe to each other, which both rosters tell.
#[track_caller]
pub fn become_contacts(one: &mut Person, other: &mut Person) {
    subscribe(one, other);
    subscribe(other, one);
    assert_eq!(one.subscription(&other.jid), "both");
    assert_eq!(other.subscription(&one.jid), "both");
}

/// One is seen to leave and to come back by the other, who is a contact.
#[track_caller]
pub fn leave_and_come_back(one: &mut Person, other: &mut Person) {
    let jid = one.jid.clone();
    for type_ in ["unavailable", ""] {
        one.presence(type_, "");
        other.wait("the presence", |event| is_presence(event, type_, &jid));
    }
    // Who comes back is told who is there.
    let jid = other.jid.clone();
    one.wait("the answer to the probe", |event| {
        is_presence(event, "", &jid)
    });
}

/// What the other's server and the other's account say of themselves.
#[track_caller]
pub fn ask_about(one: &mut Person, other: &mut Person) {
    let domain = domain_of(&other.jid).to_owned();
    let answer = one.get(&domain, DISCO);
    assert_eq!(answer.type_(), "result", "{answer:?}");
    assert_eq!(answer.from(), domain);
    assert!(answer.xml().contains("category=\"server\""), "{answer:?}");
    let answer = one.get(&domain, VERSION);
    assert_eq!(answer.type_(), "result", "{answer:?}");
    assert!(answer.xml().contains("name>"), "{answer:?}");
    let name = format!("The one who is {}", other.jid);
    let answer = other.set(&CARD.replace("NAME", &name));
    assert_eq!(answer.type_(), "result", "{answer:?}");
    let answer = one.get(&other.jid, VCARD);
    assert_eq!(answer.type_(), "result", "{answer:?}");
    assert!(answer.is_from(&other.jid), "{answer:?}");
    assert!(answer.xml().contains(&name), "{answer:?}");
}

/// Whether it is a presence of this type from an account.
pub fn is_presence(event: &Event, type_: &str, bare: &str) -> bool {
    event.kind() == "presence" && event.type_() == type_ && event.is_from(bare)
}

/// What is behind the `@`.
pub fn domain_of(jid: &str) -> &str {
    jid.split('@').nth(1).expect("a JID")
}
