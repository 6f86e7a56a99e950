//! Presence (RFC 6121 §4): who hears of whom, and who does not.

use super::*;

pub(super) fn friends() -> Server {
    let server = Server::new();
    server.accounts(&["juliet", "romeo", "tybalt"]);
    server.befriend("juliet", "romeo");
    server
}

/// `type` and `from` of each, and what `show` says.
pub(super) fn gists(heard: &[String]) -> Vec<String> {
    let gist = |xml: &String| {
        let stanza = stanza(xml);
        let from = stanza
            .from()
            .unwrap_or_default()
            .replace("@verona.example", "");
        let type_ = stanza.type_().unwrap_or("available".into()).into_owned();
        match stanza.child("show", "jabber:client") {
            Some(show) => format!("{type_} {from} {}", show.text()),
            None => format!("{type_} {from}"),
        }
    };
    heard.iter().map(gist).collect()
}

impl Client<'_> {
    pub(super) fn sends(&self, xml: &str) -> Vec<String> {
        gists(&self.send(xml))
    }

    pub(super) fn met(&self) -> Vec<String> {
        gists(&self.hear())
    }
}

#[test]
fn initial_presence_goes_to_subscribers_and_to_the_account_itself() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let tybalt = server.log_in("tybalt/r");
    let chamber = server.log_in("juliet/chamber");
    romeo.hear();
    let balcony = server.connect("juliet/balcony");
    let heard = balcony.send("<presence id='p'><show>chat</show></presence>");
    assert_eq!(
        heard[0],
        "<presence id='p' from='juliet@verona.example/balcony' to='juliet@verona.example'>\
         <show>chat</show></presence>"
    );
    assert_eq!(
        gists(&heard),
        [
            "available juliet/balcony chat",
            "available juliet/chamber",
            "available romeo/r"
        ]
    );
    assert_eq!(chamber.met(), ["available juliet/balcony chat"]);
    assert_eq!(
        romeo.hear(),
        [
            "<presence id='p' from='juliet@verona.example/balcony' to='romeo@verona.example'>\
          <show>chat</show></presence>"
        ]
    );
    assert!(tybalt.hear().is_empty());
}

#[test]
fn subsequent_presence_goes_to_the_same_and_asks_nobody() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let juliet = server.log_in("juliet/r");
    romeo.hear();
    let heard = juliet.sends("<presence><show>xa</show></presence>");
    assert_eq!(heard, ["available juliet/r xa"]);
    assert_eq!(romeo.met(), ["available juliet/r xa"]);
}

#[test]
fn presence_goes_only_to_clients_that_are_available() {
    let server = friends();
    let silent = server.connect("romeo/silent");
    server.log_in("juliet/r");
    assert!(silent.hear().is_empty());
}

#[test]
fn a_one_sided_subscription_shows_one_side() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo"]);
    server.share_presence("juliet", "romeo");
    let (juliet, romeo) = (server.log_in("juliet/r"), server.log_in("romeo/r"));
    assert!(juliet.met().is_empty());
    // Romeo's own roster does not say that he wants it: only his word would ask for it.
    assert!(romeo.met().is_empty());
    juliet.send("<presence><show>dnd</show></presence>");
    assert_eq!(romeo.met(), ["available juliet/r dnd"]);
    romeo.send("<presence><show>dnd</show></presence>");
    assert_eq!(juliet.met(), Vec::<String>::new());
}

#[test]
fn a_client_says_goodbye_in_its_own_words() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let juliet = server.log_in("juliet/r");
    romeo.hear();
    let heard = juliet.send("<presence type='unavailable'><status>zzz</status></presence>");
    assert_eq!(gists(&heard), ["unavailable juliet/r"]);
    let heard = romeo.hear();
    assert_eq!(heard.len(), 1);
    assert!(heard[0].contains("<status>zzz</status>"));
    // Once is enough, and the end of the session is no news any more.
    assert!(juliet.send("<presence type='unavailable'/>").is_empty());
    juliet.leave();
    assert!(romeo.hear().is_empty());
}

#[test]
fn presence_after_unavailable_is_initial_again() {
    let server = friends();
    let juliet = server.log_in("juliet/r");
    juliet.send("<presence type='unavailable'/>");
    server.log_in("romeo/r");
    let wanted = ["available juliet/r", "available romeo/r"];
    assert_eq!(juliet.sends("<presence/>"), wanted);
}

#[test]
fn a_client_that_is_gone_is_unavailable_to_all_who_saw_it() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let chamber = server.log_in("juliet/chamber");
    let balcony = server.log_in("juliet/balcony");
    balcony.send("<presence to='tybalt@verona.example'/>");
    let tybalt = server.log_in("tybalt/r");
    romeo.hear();
    chamber.hear();
    tybalt.hear();
    balcony.leave();
    let wanted = ["unavailable juliet/balcony"];
    assert_eq!(romeo.met(), wanted);
    assert_eq!(chamber.met(), wanted);
    assert_eq!(tybalt.met(), wanted);
}

#[test]
fn a_session_that_never_was_available_ends_unnoticed() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    server.connect("juliet/r").leave();
    assert!(romeo.hear().is_empty());
}

#[test]
fn directed_presence_goes_to_one_and_the_end_of_it_too() {
    let server = friends();
    let (romeo, tybalt) = (server.log_in("romeo/r"), server.log_in("tybalt/r"));
    let juliet = server.connect("juliet/r");
    // Not yet available herself (RFC 6121 §4.6.3 rule 3).
    assert!(
        juliet
            .send("<presence to='tybalt@verona.example/r'><show>dnd</show></presence>")
            .is_empty()
    );
    assert_eq!(tybalt.met(), ["available juliet/r dnd"]);
    assert!(romeo.hear().is_empty());
    juliet.send("<presence/>");
    juliet.send("<presence><show>away</show></presence>");
    assert!(tybalt.hear().is_empty());
    juliet.send("<presence type='unavailable'/>");
    assert_eq!(tybalt.met(), ["unavailable juliet/r"]);
    juliet.leave();
    assert!(tybalt.hear().is_empty());
}

#[test]
fn directed_unavailable_presence_ends_it_for_one() {
    let server = friends();
    let (romeo, tybalt) = (server.log_in("romeo/r"), server.log_in("tybalt/r"));
    let juliet = server.log_in("juliet/r");
    juliet.send("<presence to='tybalt@verona.example'/>");
    romeo.hear();
    tybalt.hear();
    juliet.send("<presence to='tybalt@verona.example' type='unavailable'/>");
    assert_eq!(tybalt.met(), ["unavailable juliet/r"]);
    assert!(romeo.hear().is_empty());
    juliet.leave();
    assert!(tybalt.hear().is_empty());
}

#[test]
fn a_subscriber_who_gets_directed_presence_hears_of_the_end_once() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let juliet = server.connect("juliet/r");
    juliet.send("<presence to='romeo@verona.example'/>");
    juliet.send("<presence/>");
    juliet.send("<presence to='romeo@verona.example'><show>dnd</show></presence>");
    romeo.hear();
    juliet.leave();
    assert_eq!(romeo.met(), ["unavailable juliet/r"]);
}

#[test]
fn whoever_is_gone_is_not_told_of_the_end() {
    let server = friends();
    let tybalt = server.log_in("tybalt/r");
    let juliet = server.log_in("juliet/r");
    juliet.send("<presence to='tybalt@verona.example/r'/>");
    tybalt.send("<presence to='juliet@verona.example' type='unavailable'/>");
    tybalt.hear();
    juliet.leave();
    assert!(tybalt.hear().is_empty());
}

#[test]
fn directed_presence_goes_to_so_many_and_no_more() {
    let server = friends();
    let juliet = server.log_in("juliet/r");
    for n in 0..500 {
        assert!(
            juliet
                .send(&format!("<presence to='{n}@verona.example'/>"))
                .is_empty()
        );
    }
    let reply = juliet.ask("<presence to='more@verona.example'/>");
    assert_eq!(refusal(&reply).1, "resource-constraint");
    assert!(juliet.send("<presence to='0@verona.example'/>").is_empty());
    juliet.send("<presence to='0@verona.example' type='unavailable'/>");
    assert!(
        juliet
            .send("<presence to='more@verona.example'/>")
            .is_empty()
    );
}

#[test]
fn presence_for_where_there_is_no_way_is_refused() {
    let server = friends();
    let juliet = server.log_in("juliet/r");
    for type_ in ["", " type='probe'"] {
        let reply = juliet.ask(&format!("<presence to='room@muc.example/j'{type_}/>"));
        assert_refused(&reply, "cancel", "remote-server-not-found");
    }
    assert!(
        juliet
            .send("<presence type='unavailable' to='room@muc.example/j'/>")
            .is_empty()
    );
    assert!(juliet.session.presence().directed.is_empty());
}

#[test]
fn presence_to_a_full_address_goes_to_that_client_alone() {
    let server = friends();
    let tybalt = server.log_in("tybalt/r");
    let chamber = server.log_in("juliet/chamber");
    let silent = server.connect("juliet/silent");
    tybalt.send("<presence to='juliet@verona.example/silent'/>");
    tybalt.send("<presence to='juliet@verona.example/gone'/>");
    assert_eq!(silent.met(), ["available tybalt/r"]);
    assert!(chamber.hear().is_empty());
    tybalt.send("<presence to='juliet@verona.example'/>");
    assert_eq!(chamber.met(), ["available tybalt/r"]);
    assert!(silent.hear().is_empty());
    assert!(tybalt.hear().is_empty());
}

#[test]
fn an_error_is_handed_on_and_never_answered() {
    let server = friends();
    let (juliet, tybalt) = (server.log_in("juliet/r"), server.log_in("tybalt/r"));
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let to = |to: &str| format!("<presence type='error' to='{to}'>{error}</presence>");
    assert!(tybalt.send(&to("juliet@verona.example/r")).is_empty());
    assert_eq!(juliet.met(), ["error tybalt/r"]);
    for nowhere in [
        "nobody@verona.example",
        "juliet@elsewhere.example",
        "verona.example",
    ] {
        assert!(tybalt.send(&to(nowhere)).is_empty());
    }
    assert!(
        tybalt
            .send(&format!("<presence type='error'>{error}</presence>"))
            .is_empty()
    );
}

#[test]
fn what_is_no_type_of_presence_is_refused() {
    let server = friends();
    let juliet = server.connect("juliet/r");
    let reply = juliet.ask("<presence type='invisible'/>");
    assert_refused(&reply, "modify", "bad-request");
    assert!(!juliet.session.is_available());
}

#[test]
fn a_priority_is_a_small_whole_number() {
    let server = friends();
    let juliet = server.connect("juliet/r");
    for (text, priority) in [
        ("-128", -128),
        ("127", 127),
        ("0", 0),
        ("+5", 5),
        (" 7 ", 7),
    ] {
        juliet.send(&format!("<presence><priority>{text}</priority></presence>"));
        assert_eq!(juliet.session.priority(), Some(priority));
    }
    juliet.send("<presence/>");
    assert_eq!(juliet.session.priority(), Some(0));
    let wrong = ["-129", "128", "", "high", "1.5", "1</priority><priority>2"];
    for text in wrong {
        let reply = juliet.ask(&format!("<presence><priority>{text}</priority></presence>"));
        assert_refused(&reply, "modify", "bad-request");
        assert_eq!(juliet.session.priority(), Some(0), "{text}");
    }
}

#[test]
fn a_presence_that_is_too_long_to_keep_is_refused_and_a_goodbye_shortened() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let juliet = server.log_in("juliet/r");
    romeo.hear();
    let status = format!("<status>{}</status>", "x".repeat(10_000));
    let reply = juliet.ask(&format!("<presence>{status}</presence>"));
    assert_eq!(refusal(&reply).1, "policy-violation");
    assert!(romeo.hear().is_empty());
    juliet.send(&format!("<presence type='unavailable'>{status}</presence>"));
    let heard = romeo.hear();
    assert_eq!(gists(&heard), ["unavailable juliet/r"]);
    assert!(heard[0].len() < 200);
}

#[test]
fn what_is_kept_of_a_presence_pins_no_buffer() {
    let server = friends();
    let juliet = server.connect("juliet/r");
    let mut buffer = bytes::BytesMut::zeroed(65_536);
    let xml = b"<presence><show>away</show></presence>";
    buffer[..xml.len()].copy_from_slice(xml);
    let read = buffer.split_to(xml.len()).freeze();
    drop(buffer);
    let stanza = Stanza::from_canonical(read.clone()).expect("a presence");
    router::receive(&server.core, &juliet.session, &stanza);
    drop(stanza);
    juliet.hear();
    assert!(read.is_unique(), "nobody else holds on to what was read");
    let kept = juliet
        .session
        .presence()
        .last
        .clone()
        .expect("it is available");
    assert_eq!(
        kept.bytes().len(),
        "<presence from='juliet@verona.example/r'>".len() + 28
    );
}

#[test]
fn a_broadcast_shares_all_but_the_start_tag() {
    let server = friends();
    server.befriend("juliet", "tybalt");
    let (romeo, tybalt) = (server.log_in("romeo/r"), server.log_in("tybalt/r"));
    let juliet = server.connect("juliet/r");
    romeo.hear();
    tybalt.hear();
    juliet.send("<presence><show>away</show></presence>");
    let tail = |client: &Client<'_>| {
        let batch = client.session.outbox.take_all();
        match &batch.entries[0].wire {
            Wire::Ready(outgoing) => outgoing.tail.as_ptr(),
            _ => panic!("presence is not read from the log"),
        }
    };
    assert_eq!(tail(&romeo), tail(&tybalt));
}

#[test]
fn the_language_of_the_stream_goes_with_the_presence() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let full = jid("juliet@verona.example/r");
    let session = router::bind(
        &server.core,
        full,
        &server.proved("juliet"),
        Some("it".into()),
        77,
    );
    let juliet = Client {
        server: &server,
        session: session.expect("the account exists"),
    };
    juliet.send("<presence><status>Ohimè</status></presence>");
    assert!(romeo.hear()[0].contains("xml:lang='it'"));
    let late = server.connect("romeo/late");
    assert!(late.send("<presence/>").concat().contains("xml:lang='it'"));
    juliet.send("<presence xml:lang='en'/>");
    assert!(romeo.hear().concat().contains("xml:lang='en'"));
}

#[test]
fn a_session_that_ends_while_its_presence_is_told_leaves_no_ghost() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let juliet = server.log_in("juliet/r");
    romeo.hear();
    juliet.leave();
    // The stanza was being handled when the session ended.
    juliet.send("<presence><show>chat</show></presence>");
    juliet.send("<presence to='romeo@verona.example/r'/>");
    let heard = romeo.met();
    assert_eq!(
        heard.last().map(String::as_str),
        Some("unavailable juliet/r"),
        "{heard:?}"
    );
    assert!(juliet.session.presence().last.is_none());
}

/// Two threads, one contact coming and going while the other changes its presence: whatever was
/// heard last about a session is how it stands.
#[test]
fn what_is_heard_last_is_true_whoever_was_faster() {
    let server = friends();
    let come_and_go = |local: &'static str| {
        for n in 0..60 {
            let client = server.connect(&format!("{local}/r{n}"));
            client.post("<presence/>");
            client.post(&format!(
                "<presence><show>away</show><status>{n}</status></presence>"
            ));
            if n % 3 == 0 {
                client.post("<presence type='unavailable'/>");
            }
            if n % 5 != 0 {
                client.leave();
            }
            if n % 10 == 9 {
                server
                    .core
                    .table
                    .sessions(client.session.jid.bare_str())
                    .iter()
                    .for_each(|session| {
                        router::end(&mut server.core.cx(), session, None);
                    });
            }
        }
    };
    let watcher = server.log_in("juliet/watcher");
    std::thread::scope(|scope| {
        let romeo = scope.spawn(|| come_and_go("romeo"));
        let watch = scope.spawn(|| {
            for _ in 0..40 {
                watcher.post("<presence type='unavailable'/>");
                watcher.hear();
                watcher.post("<presence/>");
            }
        });
        romeo.join().expect("no panic");
        watch.join().expect("no panic");
    });
    let last = server.connect("romeo/last");
    last.post("<presence><show>dnd</show></presence>");
    let mut standing = std::collections::BTreeMap::new();
    for xml in watcher.hear() {
        let stanza = stanza(&xml);
        let from = stanza.from().unwrap_or_default().into_owned();
        standing.insert(from, (stanza.type_().is_none(), xml));
    }
    for (from, (is_available, xml)) in standing {
        let jid = jid(&from);
        let session = jid
            .resource()
            .and_then(|resource| server.core.table.session(jid.bare_str(), resource));
        let is_there = session.is_some_and(|session| session.is_available());
        assert_eq!(is_available, is_there, "{xml}");
    }
}

#[test]
fn whoever_sleeps_over_a_restart_takes_along_who_is_gone() {
    let server = friends();
    let (romeo, _juliet) = (server.log_in("romeo/r"), server.log_in("juliet/r"));
    romeo.hear();
    router::enable_management(&server.core, &romeo.session, true, None).expect("an id");
    assert_eq!(router::hibernate(&server.core, &|_| {}), 1);
    let owner = romeo.session.jid.bare_str();
    let id = server.core.store.read(|state| {
        let account = state.account(owner).expect("the account exists");
        let (id, _) = account.hibernated().next().expect("one sleeps");
        id.to_owned()
    });
    let asleep = server.core.store.hibernated(owner, &id);
    let asleep = asleep.expect("it is readable").expect("it is kept");
    let queue: Vec<String> = asleep
        .queue
        .iter()
        .map(|queued| String::from_utf8_lossy(&queued.stanza).into_owned())
        .collect();
    assert_eq!(gists(&queue), ["unavailable juliet/r"]);
}

/// What a thousand contacts are sent of one presence are a thousand start tags and nothing else:
/// the rest is the bytes that the sender has sent.
#[test]
fn a_broadcast_copies_nothing_but_start_tags() {
    const CONTACTS: usize = 1_000;
    let server = Server::new();
    let locals: Vec<String> = (0..CONTACTS).map(|n| format!("contact{n}")).collect();
    server.accounts(&["juliet"]);
    server.accounts(&locals.iter().map(String::as_str).collect::<Vec<_>>());
    for local in &locals {
        server.befriend("juliet", local);
    }
    let contacts: Vec<Client<'_>> = locals
        .iter()
        .map(|local| {
            let contact = server.connect(&format!("{local}/r"));
            contact.become_available();
            contact
        })
        .collect();
    let juliet = server.connect("juliet/balcony");
    juliet.become_available();
    juliet.post(&format!(
        "<presence><status>{}</status></presence>",
        "z".repeat(500)
    ));
    let mut tail: Option<bytes::Bytes> = None;
    let mut heads = std::collections::HashSet::new();
    for contact in &contacts {
        let batch = contact.session.outbox.take_all();
        let [entry] = &batch.entries[..] else {
            panic!("one presence: {:?}", batch.entries);
        };
        let Wire::Ready(outgoing) = &entry.wire else {
            panic!("presence waits for no log");
        };
        let shared = tail.get_or_insert_with(|| outgoing.tail.clone());
        assert_eq!(outgoing.tail.as_ptr(), shared.as_ptr());
        assert_eq!(outgoing.tail.len(), shared.len());
        assert!(outgoing.tail.len() > 500 && outgoing.head.len() < 200);
        assert!(
            heads.insert(outgoing.head.as_ptr()),
            "a start tag of its own"
        );
    }
}

#[test]
fn whoever_sends_at_will_cuts_nobody_and_leaves_room_for_contacts() {
    let server = friends();
    let (romeo, tybalt) = (server.log_in("romeo/r"), server.log_in("tybalt/r"));
    let juliet = server.log_in("juliet/r");
    for _ in 0..1_200 {
        tybalt.post("<presence to='juliet@verona.example/r'><show>dnd</show></presence>");
    }
    // Three quarters of what the outbox takes.
    let ping = "<iq type='get' id='1' to='juliet@verona.example/r'><x xmlns='y'/></iq>";
    let heard = romeo.send(ping);
    let refused = heard.last().expect("an error");
    assert_refused(refused, "wait", "resource-constraint");
    let headline = "<message type='headline' to='juliet@verona.example/r'><body>b</body></message>";
    assert_refused(&tybalt.ask(headline), "wait", "resource-constraint");
    romeo.send("<presence><show>away</show></presence>");
    let heard = juliet.met();
    assert_eq!(heard.len(), 751);
    assert_eq!(heard[749], "available tybalt/r dnd");
    assert_eq!(heard[750], "available romeo/r away");
    assert!(juliet.session.outbox.can_be_resumed());
}
