//! Subscriptions (RFC 6121 §3), each rule as two people and their clients meet it.

use proptest::prelude::*;

use super::*;

/// A pair of accounts whose clients have their rosters and are available.
fn pair() -> Server {
    let server = Server::new();
    server.accounts(&["juliet", "romeo"]);
    server
}

/// A stanza in a word or two: who and what.
fn gist(xml: &str) -> String {
    let stanza = stanza(xml);
    let from = stanza
        .from()
        .unwrap_or_default()
        .replace("@verona.example", "");
    let type_ = stanza.type_().unwrap_or("available".into()).into_owned();
    match stanza.child("query", "jabber:iq:roster") {
        None => format!("{type_} {from}"),
        Some(query) => {
            let item = query.children().next().expect("a push holds an item");
            let contact = item.attr("jid").expect("an item has an address");
            let contact = contact.replace("@verona.example", "");
            let word = item
                .attr("subscription")
                .expect("an item says how it stands");
            let ask = if item.attr("ask").is_some() {
                "+ask"
            } else {
                ""
            };
            let approved = if item.attr("approved").is_some() {
                "+approved"
            } else {
                ""
            };
            format!("push {contact} {word}{ask}{approved}")
        }
    }
}

fn gists(heard: &[String]) -> Vec<String> {
    heard.iter().map(|xml| gist(xml)).collect()
}

impl Client<'_> {
    /// Sends a subscription stanza; gives back what this client hears.
    fn says(&self, type_: &str, local: &str) -> Vec<String> {
        gists(&self.send(&format!("<presence type='{type_}' to='{local}@{DOMAIN}'/>")))
    }

    fn hears(&self) -> Vec<String> {
        gists(&self.hear())
    }
}

#[test]
fn a_request_is_asked_granted_and_shows_presence() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    assert_eq!(romeo.says("subscribe", "juliet"), ["push juliet none+ask"]);
    let heard = juliet.hear();
    assert_eq!(
        heard,
        ["<presence type='subscribe' from='romeo@verona.example' to='juliet@verona.example'/>"]
    );
    assert_eq!(server.item("juliet", "romeo"), "-");
    assert_eq!(juliet.says("subscribed", "romeo"), ["push romeo from"]);
    let wanted = ["subscribed juliet", "push juliet to", "available juliet/r"];
    assert_eq!(romeo.hears(), wanted);
    assert_eq!(server.item("romeo", "juliet"), "to");
}

#[test]
fn the_request_is_between_bare_addresses_and_keeps_what_it_says() {
    let server = pair();
    let juliet = server.log_in("juliet/r");
    let romeo = server.log_in("romeo/r");
    romeo.send(
        "<presence id='x' type='subscribe' to='juliet@verona.example/r'>\
         <status>It is the east</status></presence>",
    );
    assert_eq!(
        juliet.hear(),
        [
            "<presence id='x' type='subscribe' from='romeo@verona.example' \
          to='juliet@verona.example'><status>It is the east</status></presence>"
        ]
    );
}

#[test]
fn a_request_is_shown_at_every_log_in_until_it_is_answered() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    let request = "<presence type='subscribe' from='romeo@verona.example' \
                   to='juliet@verona.example'><status>!</status></presence>";
    romeo.send(
        "<presence type='subscribe' to='juliet@verona.example'><status>!</status></presence>",
    );
    romeo.send(
        "<presence type='subscribe' to='juliet@verona.example'><status>?</status></presence>",
    );
    for resource in ["one", "two"] {
        let juliet = server.connect(&format!("juliet/{resource}"));
        let heard = juliet.send("<presence/>");
        assert_eq!(
            heard.iter().filter(|xml| *xml == request).count(),
            1,
            "{heard:?}"
        );
        // It is not shown again by a presence that does not make available.
        assert!(
            !juliet
                .send("<presence><show>dnd</show></presence>")
                .contains(&request.to_owned())
        );
        juliet.leave();
    }
    let juliet = server.log_in("juliet/three");
    juliet.says("subscribed", "romeo");
    assert!(
        !server
            .connect("juliet/four")
            .send("<presence/>")
            .concat()
            .contains("subscribe")
    );
}

#[test]
fn a_long_request_is_kept_without_what_makes_it_long() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    let status = "x".repeat(StoreLimits::default().subscription_request_bytes_max);
    romeo.send(&format!(
        "<presence type='subscribe' to='juliet@verona.example'><status>{status}</status></presence>"
    ));
    let heard = server.connect("juliet/r").send("<presence/>");
    let wanted =
        "<presence type='subscribe' from='romeo@verona.example' to='juliet@verona.example'/>";
    assert!(heard.contains(&wanted.to_owned()), "{heard:?}");
}

#[test]
fn a_second_request_is_not_shown_while_the_first_waits() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    romeo.says("subscribe", "juliet");
    assert_eq!(juliet.hears(), ["subscribe romeo"]);
    assert!(romeo.says("subscribe", "juliet").is_empty());
    assert!(juliet.hears().is_empty());
}

#[test]
fn a_request_is_for_the_available_and_news_for_the_interested() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    let available = server.connect("juliet/available");
    available.send("<presence/>");
    let interested = server.connect("juliet/interested");
    interested.get("<query xmlns='jabber:iq:roster'/>");
    romeo.says("subscribe", "juliet");
    assert_eq!(available.hears(), ["subscribe romeo"]);
    assert!(interested.hears().is_empty());
    assert_eq!(interested.says("subscribed", "romeo"), ["push romeo from"]);
    assert!(available.hears().is_empty());
    romeo.says("unsubscribe", "juliet");
    assert_eq!(interested.hears(), ["unsubscribe romeo", "push romeo none"]);
    assert!(available.hears().is_empty());
}

#[test]
fn a_request_that_is_refused_shows_nothing() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    romeo.says("subscribe", "juliet");
    juliet.hear();
    assert!(juliet.says("unsubscribed", "romeo").is_empty());
    assert_eq!(romeo.hears(), ["unsubscribed juliet", "push juliet none"]);
    assert_eq!(server.item("juliet", "romeo"), "-");
    assert!(
        !server
            .connect("juliet/x")
            .send("<presence/>")
            .concat()
            .contains("subscribe")
    );
}

#[test]
fn a_subscription_that_is_taken_back_ends_with_unavailable_presence() {
    let server = pair();
    server.befriend("juliet", "romeo");
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    juliet.hear();
    assert_eq!(juliet.says("unsubscribed", "romeo"), ["push romeo to"]);
    let wanted = [
        "unavailable juliet/r",
        "unsubscribed juliet",
        "push juliet from",
    ];
    assert_eq!(romeo.hears(), wanted);
    juliet.send("<presence><show>away</show></presence>");
    assert!(romeo.hears().is_empty());
}

#[test]
fn whoever_unsubscribes_is_told_that_the_contact_is_gone() {
    let server = pair();
    server.befriend("juliet", "romeo");
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    juliet.hear();
    let wanted = ["push juliet from", "unavailable juliet/r"];
    assert_eq!(romeo.says("unsubscribe", "juliet"), wanted);
    assert_eq!(juliet.hears(), ["unsubscribe romeo", "push romeo to"]);
    juliet.send("<presence><show>away</show></presence>");
    assert!(romeo.hears().is_empty());
    romeo.send("<presence><show>away</show></presence>");
    assert_eq!(juliet.hears(), ["available romeo/r"]);
}

#[test]
fn a_request_that_is_withdrawn_is_not_shown_any_more() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    romeo.says("subscribe", "juliet");
    assert_eq!(romeo.says("unsubscribe", "juliet"), ["push juliet none"]);
    assert!(
        !server
            .connect("juliet/r")
            .send("<presence/>")
            .concat()
            .contains("subscribe")
    );
}

#[test]
fn a_request_that_is_withdrawn_before_its_turn_leaves_nothing_to_answer() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    romeo.says("subscribe", "juliet");
    let juliet = server.connect("juliet/r");
    juliet.post("<presence/>");
    romeo.says("unsubscribe", "juliet");
    // It had its place among the stanzas that are counted (XEP-0198 §4), so something takes it.
    assert_eq!(
        juliet.hears(),
        ["available juliet/r", "headline verona.example"]
    );
}

#[test]
fn what_was_approved_in_advance_is_granted_without_asking() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    assert_eq!(
        juliet.says("subscribed", "romeo"),
        ["push romeo none+approved"]
    );
    assert!(romeo.hears().is_empty());
    let heard = romeo.says("subscribe", "juliet");
    let wanted = [
        "push juliet none+ask",
        "subscribed juliet",
        "push juliet to",
        "available juliet/r",
    ];
    assert_eq!(heard, wanted);
    assert_eq!(juliet.hears(), ["push romeo from"]);
}

#[test]
fn an_approval_in_advance_is_taken_back_in_silence() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    juliet.says("subscribed", "romeo");
    assert_eq!(juliet.says("unsubscribed", "romeo"), ["push romeo none"]);
    assert!(romeo.hears().is_empty());
    romeo.says("subscribe", "juliet");
    assert_eq!(juliet.hears(), ["subscribe romeo"]);
}

#[test]
fn what_is_granted_already_is_granted_again_without_asking() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    // Behind the log-ins, which would bring the two rosters in step.
    server.put_item("juliet", "romeo", Subscription::From);
    let heard = romeo.says("subscribe", "juliet");
    let wanted = [
        "push juliet none+ask",
        "subscribed juliet",
        "push juliet to",
        "available juliet/r",
    ];
    assert_eq!(heard, wanted);
    assert!(juliet.hears().is_empty());
}

#[test]
fn answers_to_questions_that_nobody_asked_are_ignored() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    assert!(romeo.says("unsubscribed", "juliet").is_empty());
    assert!(romeo.says("unsubscribe", "juliet").is_empty());
    assert!(juliet.hears().is_empty());
    assert_eq!(server.item("romeo", "juliet"), "-");
    assert_eq!(server.item("juliet", "romeo"), "-");
}

#[test]
fn an_account_that_does_not_exist_looks_like_one_that_does_not_answer() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    for type_ in [
        "subscribe",
        "subscribed",
        "unsubscribe",
        "unsubscribed",
        "probe",
    ] {
        let to = |local: &str| {
            let sent = format!("<presence id='1' type='{type_}' to='{local}@{DOMAIN}'/>");
            let heard = romeo.send(&sent);
            let heard: Vec<String> = heard
                .iter()
                .map(|xml| xml.split("ver=").last().expect("some").replace(local, "X"))
                .map(|xml| {
                    xml.trim_start_matches(|c: char| c == '\'' || c.is_ascii_digit())
                        .to_owned()
                })
                .collect();
            heard
        };
        assert_eq!(to("juliet"), to("nobody"), "{type_}");
    }
}

#[test]
fn nothing_is_remembered_of_a_request_that_cannot_leave() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    let ask = |to: &str| romeo.ask(&format!("<presence id='1' type='subscribe' to='{to}'/>"));
    assert_refused(
        &ask("juliet@elsewhere.example"),
        "cancel",
        "remote-server-not-found",
    );
    assert_refused(
        &ask("elsewhere.example"),
        "cancel",
        "remote-server-not-found",
    );
    assert_refused(&ask("verona.example"), "cancel", "service-unavailable");
    assert_refused(&ask("romeo@verona.example"), "cancel", "not-allowed");
    assert_refused(
        &romeo.ask("<presence type='subscribe'/>"),
        "modify",
        "bad-request",
    );
    let roster = romeo.get("<query xmlns='jabber:iq:roster'/>");
    assert!(!roster.contains("<item"), "{roster}");
    // The others are never answered (RFC 6120 §8.3.1), and leave nothing wrong behind.
    for type_ in ["unsubscribe", "unsubscribed"] {
        let sent = format!("<presence type='{type_}' to='juliet@elsewhere.example'/>");
        assert!(romeo.send(&sent).is_empty());
    }
}

#[test]
fn a_full_roster_refuses_a_request_and_remembers_nothing() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    let put = server.core.store.update(|tx| {
        (0..StoreLimits::default().roster_items_max).try_for_each(|n| {
            let item = RosterEntry::new(&format!("{n}@b"));
            tx.put_roster_item("romeo@verona.example", &item).map(drop)
        })
    });
    put.expect("room for all of them");
    let reply = romeo.ask("<presence type='subscribe' to='juliet@verona.example'/>");
    assert_eq!(refusal(&reply).1, "resource-constraint");
    assert!(
        !server
            .connect("juliet/r")
            .send("<presence/>")
            .concat()
            .contains("subscribe")
    );
}

#[test]
fn more_requests_than_one_account_keeps_are_dropped_without_a_word() {
    let server = pair();
    let max = StoreLimits::default().subscription_requests_max;
    let put = server.core.store.update(|tx| {
        (0..max).try_for_each(|n| {
            let request = bytes::Bytes::from_static(b"<presence type='subscribe'/>");
            tx.put_subscription_request("juliet@verona.example", &format!("{n}@b"), request)
        })
    });
    put.expect("room for all of them");
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    assert_eq!(romeo.says("subscribe", "juliet"), ["push juliet none+ask"]);
    assert!(juliet.hears().is_empty());
}

#[test]
fn rosters_that_lost_step_are_brought_back_at_the_next_log_in() {
    let server = pair();
    // Romeo believes to be subscribed; Juliet knows nothing of it.
    server.put_item("romeo", "juliet", Subscription::To);
    let mut item = RosterEntry::new("juliet@verona.example");
    item.subscription = Subscription::To;
    let put = |item: &RosterEntry| {
        let put = server
            .core
            .store
            .update(|tx| tx.put_roster_item("romeo@verona.example", item));
        put.expect("the account exists");
    };
    put(&item);
    let juliet = server.log_in("juliet/r");
    server.log_in("romeo/one").leave();
    assert_eq!(server.item("romeo", "juliet"), "none");
    // Romeo has asked; the request did not get to Juliet.
    item.subscription = Subscription::None;
    item.ask = true;
    put(&item);
    let romeo = server.log_in("romeo/two");
    assert_eq!(juliet.hears(), ["subscribe romeo"]);
    romeo.leave();
    // Juliet has granted it; that did not get to Romeo.
    juliet.says("subscribed", "romeo");
    put(&item);
    server.log_in("romeo/three");
    assert_eq!(server.item("romeo", "juliet"), "to");
}

#[test]
fn an_account_that_is_removed_leaves_every_roster_and_its_name_inherits_nothing() {
    let server = pair();
    server.accounts(&["nurse", "tybalt"]);
    server.befriend("juliet", "romeo");
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    let nurse = server.log_in("nurse/r");
    romeo.says("subscribe", "nurse");
    server.log_in("tybalt/r").says("subscribed", "romeo");
    nurse.hear();
    juliet.hear();
    let gone = jid("romeo@verona.example");
    let removed = crate::xep::account::remove(&mut server.core.cx(), &gone, None);
    removed.expect("the account exists");
    let wanted = [
        "unavailable romeo/r",
        "unsubscribed romeo",
        "push romeo from",
        "unsubscribe romeo",
        "push romeo none",
    ];
    assert_eq!(juliet.hears(), wanted);
    assert_eq!(server.item("tybalt", "romeo"), "none");
    server.accounts(&["romeo"]);
    let impostor = server.log_in("romeo/r");
    juliet.send("<presence><show>away</show></presence>");
    assert!(impostor.hears().is_empty());
    assert!(
        !server
            .connect("nurse/x")
            .send("<presence/>")
            .concat()
            .contains("subscribe")
    );
}

#[test]
fn every_effect_waits_for_the_log() {
    let server = pair();
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    let sent = stanza("<presence type='subscribe' to='juliet@verona.example'/>");
    let before = server.core.store.read_at(|_| ()).1;
    router::receive(&server.core, &romeo.session, &sent);
    for client in [&juliet, &romeo] {
        let batch = client.session.outbox.take_all();
        assert!(!batch.entries.is_empty());
        assert!(batch.entries.iter().all(|entry| entry.after > before));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever two people send each other, in whatever order they come and go.
    #[test]
    fn two_rosters_stay_in_step(steps in prop::collection::vec((any::<bool>(), 0..6_usize), 1..30)) {
        let server = pair();
        let mut clients = [Some(server.log_in("juliet/r")), Some(server.log_in("romeo/r"))];
        let locals = ["juliet", "romeo"];
        for (who, what) in steps {
            let (me, other) = (usize::from(who), locals[usize::from(!who)]);
            let types = ["subscribe", "unsubscribe", "subscribed", "unsubscribed"];
            match (&clients[me], types.get(what)) {
                (Some(client), Some(type_)) => drop(client.says(type_, other)),
                (Some(client), None) if what == 4 => {
                    let item = format!("<item jid='{other}@{DOMAIN}' subscription='remove'/>");
                    client.set_all(&format!("<query xmlns='jabber:iq:roster'>{item}</query>"));
                }
                (Some(client), None) => {
                    client.leave();
                    clients[me] = None;
                }
                (None, _) => {
                    clients[me] = Some(server.log_in(&format!("{}/r", locals[me])));
                }
            }
            let state = |owner: &str, contact: &str| {
                let (owner, contact) = (format!("{owner}@{DOMAIN}"), format!("{contact}@{DOMAIN}"));
                server.core.store.read(|state| {
                    super::super::subscription::state_of(state, &owner, &contact)
                })
            };
            let (one, two) = (state("juliet", "romeo"), state("romeo", "juliet"));
            prop_assert_eq!((one.to, one.from), (two.from, two.to));
        }
    }
}

#[test]
fn a_contact_who_has_given_a_subscription_up_loses_it_at_the_next_log_in() {
    let server = pair();
    let romeo = server.log_in("romeo/r");
    // Romeo has unsubscribed; that did not get to Juliet.
    server.put_item("juliet", "romeo", Subscription::From);
    let juliet = server.log_in("juliet/one");
    assert_eq!(server.item("juliet", "romeo"), "none");
    romeo.hear();
    juliet.send("<presence><show>dnd</show></presence>");
    assert!(romeo.hear().is_empty());
    juliet.leave();
    // The same of one side of two.
    server.put_item("juliet", "romeo", Subscription::Both);
    server.put_item("romeo", "juliet", Subscription::From);
    server.log_in("juliet/two").leave();
    assert_eq!(server.item("juliet", "romeo"), "to");
    assert_eq!(server.item("romeo", "juliet"), "from");
    // Nobody is there at all any more.
    server.put_item("juliet", "nurse", Subscription::From);
    server.log_in("juliet/three").leave();
    assert_eq!(server.item("juliet", "nurse"), "none");
}

/// RFC 6121 §8.5.3.2.2.
#[test]
fn answers_to_a_resource_that_is_not_there_are_ignored_and_requests_are_not() {
    let server = pair();
    server.befriend("juliet", "romeo");
    let romeo = server.log_in("romeo/r");
    let arrives = |type_: &str, to: &str| {
        let presence = stanza(&format!("<presence type='{type_}'/>"));
        let (from, to) = (jid("juliet@verona.example"), jid(to));
        router::presence(&mut server.core.cx(), &from, &to, &presence);
    };
    for type_ in ["subscribed", "unsubscribe", "unsubscribed"] {
        arrives(type_, "romeo@verona.example/gone");
        assert!(romeo.hear().is_empty(), "{type_}");
        assert_eq!(server.item("romeo", "juliet"), "both");
    }
    arrives("unsubscribed", "romeo@verona.example/r");
    assert_eq!(server.item("romeo", "juliet"), "from");
    arrives("unsubscribe", "romeo@verona.example");
    assert_eq!(server.item("romeo", "juliet"), "none");
    romeo.hear();
    arrives("subscribe", "romeo@verona.example/gone");
    assert_eq!(romeo.hears(), ["subscribe juliet"]);
}

/// Whatever its type, its sender is there to hear of it.
#[test]
fn a_refused_answer_comes_back_to_its_sender() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.log_in("juliet/r");
    for type_ in [
        "subscribe",
        "subscribed",
        "unsubscribe",
        "unsubscribed",
        "unavailable",
    ] {
        let refused = juliet.ask(&format!("<presence id='p' type='{type_}' to='@@'/>"));
        assert_refused(&refused, "modify", "jid-malformed");
    }
    server
        .core
        .store
        .update(|tx| {
            (0..StoreLimits::default().roster_items_max).try_for_each(|n| {
                let item = RosterEntry::new(&format!("{n}@{DOMAIN}"));
                tx.put_roster_item("juliet@verona.example", &item).map(drop)
            })
        })
        .expect("there is room");
    let refused = juliet.ask("<presence id='p' type='subscribed' to='romeo@verona.example'/>");
    assert_refused(&refused, "wait", "resource-constraint");
    assert!(juliet.send("<presence type='error' to='@@'/>").is_empty());
}

/// RFC 6121 §4.6.1.
#[test]
fn whoever_loses_a_subscription_loses_directed_presence_too() {
    let server = pair();
    server.befriend("juliet", "romeo");
    let (juliet, romeo) = (server.connect("juliet/r"), server.log_in("romeo/r"));
    juliet.send("<presence to='romeo@verona.example'/>");
    assert_eq!(romeo.hears(), ["available juliet/r"]);
    juliet.send("<presence type='unsubscribed' to='romeo@verona.example'/>");
    let heard = romeo.hears();
    let gone = heard.iter().filter(|gist| *gist == "unavailable juliet/r");
    assert_eq!(gone.count(), 1, "{heard:?}");
    juliet.leave();
    assert!(romeo.hear().is_empty());
}
