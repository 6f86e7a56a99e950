//! What an account and the server keep at most, and limits at the edge of what is allowed.

use crate::support::*;

const BOB: &str = "bob@cairn.example";

#[test]
fn what_the_largest_limits_let_in_comes_back_out_of_the_store() {
    let server = Server::with(&[
        ("limits.stanza_depth", "120"),
        ("limits.stanza_elements", "1000000"),
        ("limits.element_attributes", "180"),
        ("limits.name_bytes", "4096"),
    ]);
    server.add("alice");
    server.add("bob");
    let mut wire = server.tls_wire();
    wire.open();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
    let mut alice = Client::after_success(wire, "alice");
    alice.bind(None);
    alice.enable_management(false);
    let attributes: String = (0..170).map(|n| format!(" a{n}='\"'")).collect();
    let name = "n".repeat(4_096);
    let deep = format!("{}{}", "<d>".repeat(118), "</d>".repeat(118));
    let forged = format!("<stanza-id xmlns='{}' id='1' by='{BOB}'/>", ns::STANZA_ID);
    let many = "<e/>".repeat(40_000);
    let body = "<body>all of it</body>";
    for payload in [
        format!("<x xmlns='urn:x'{attributes}/>"),
        format!("<{name} xmlns='urn:x'/>"),
        format!("<x xmlns='urn:x'>{deep}</x>"),
        format!("<x xmlns='urn:x'>{many}</x>"),
        format!("<x xmlns='urn:x'>{deep}</x>{forged}"),
    ] {
        alice.send(&format!(
            "<message to='{BOB}' type='chat'{}>{body}{payload}</message>",
            &attributes[..attributes.find(" a160").expect("there are 170")]
        ));
    }
    assert_eq!(alice.ask_for_ack(), 5);
    let mut bob = server.online("bob", "b");
    for _ in 0..5 {
        bob.message_with_body("all of it");
    }
    bob.expect_nothing();
}

#[test]
fn sessions_that_wait_to_be_resumed_keep_no_new_one_out() {
    let server = Server::with(&[("limits.sessions_per_account", "2")]);
    server.add("bob");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut bob = server.authenticated("bob");
        bob.bind(None);
        ids.push(bob.enable_management(true).expect("an id"));
        bob.cut();
    }
    let mut bob = server.authenticated("bob");
    // The server may need a moment to notice that they are cut; every try is a round trip to it.
    let payload = format!("<bind xmlns='{}'/>", ns::BIND);
    let bound = (0..500).any(|_| bob.iq("set", None, &payload).attr("type") == Some("result"));
    assert!(bound, "there are two sessions, and nobody behind them");
    // One has made room, and the other one is still there.
    let mut again: Vec<Client> = (0..2).map(|_| server.authenticated("bob")).collect();
    let resumed = again.iter_mut().zip(&ids).filter_map(|(client, id)| {
        let answer = client.try_resume(id, 0);
        answer.is("resumed", ns::SM).then_some(())
    });
    assert_eq!(resumed.count(), 1);
    // Both places are in use now.
    let mut third = server.authenticated("bob");
    let (kind, condition) = third.iq_error("set", None, &payload);
    assert_eq!((&*kind, &*condition), ("wait", "resource-constraint"));
}

#[test]
fn messages_of_a_session_that_made_room_go_on_as_if_it_had_timed_out() {
    let server = Server::with(&[("limits.sessions_per_account", "1")]);
    server.add("alice");
    server.add("bob");
    let mut bob = server.login("bob", "b");
    bob.enable_management(true).expect("an id");
    bob.present(0);
    bob.cut();
    let mut alice = server.login("alice", "a");
    alice.say(BOB, "kept");
    alice.settle();
    let mut bob = server.authenticated("bob");
    let payload = format!("<bind xmlns='{}'/>", ns::BIND);
    let bound = (0..500).find_map(|_| {
        let answer = bob.iq("set", None, &payload);
        (answer.attr("type") == Some("result")).then_some(answer)
    });
    let bound = bound.expect("nobody is behind the other session");
    bob.jid = bound.must("bind", ns::BIND).must("jid", ns::BIND).text();
    bob.present(0);
    bob.message_with_body("kept");
    bob.expect_nothing();
}

#[test]
fn the_number_of_accounts_is_limited() {
    let mut server = Server::with(&[("limits.accounts", "2"), ("registration.mode", "\"open\"")]);
    server.add("alice");
    server.add("bob");
    let add = ["user", "add", "--password-stdin", "carol@cairn.example"];
    let refused = server.cli_with_input(&add, "correct horse battery staple\n");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("accounts"), "{said}");
    let (mut wire, _) = server.stream();
    wire.send(
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>carol</username>\
         <password>correct horse battery staple</password></query></iq>",
    );
    let answer = wire.element();
    let error = answer.error().expect("an error");
    assert_eq!(error.1, "resource-constraint", "{answer}");
    // A place that is given back can be taken.
    server.cli(&["user", "remove", BOB], "");
    server.add("carol");
    server.login("carol", "c").expect_nothing();
    server.stop();
    server.run();
    server.login("carol", "c").expect_nothing();
}

#[test]
fn the_bytes_of_a_roster_item_are_limited() {
    let server = Server::with(&[("limits.roster_item_bytes", "100")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let item = |name: &str, group: &str| {
        format!(
            "<query xmlns='{}'><item jid='{BOB}' name='{name}'><group>{group}</group></item></query>",
            ns::ROSTER
        )
    };
    // The contact's address counts too, and a byte for each group.
    let left = 100 - BOB.len() - "Friends".len() - 1;
    alice.iq_ok("set", None, &item(&"n".repeat(left), "Friends"));
    for too_much in [
        item(&"n".repeat(left + 1), "Friends"),
        item("", &"g".repeat(100)),
    ] {
        let (kind, condition) = alice.iq_error("set", None, &too_much);
        assert_eq!((&*kind, &*condition), ("modify", "policy-violation"));
    }
    let roster = alice.roster();
    assert_eq!(roster.len(), 1);
    assert_eq!(roster[0].attr("name"), Some(&*"n".repeat(left)));
}

/// The same and a byte more, of what may have 1,000 bytes.
#[track_caller]
fn has_a_thousand_bytes(alice: &mut Client, start: &str, end: &str) {
    let filled = |bytes: usize| {
        let text = "x".repeat(bytes - start.len() - end.len());
        format!("{start}{text}{end}")
    };
    alice.iq_ok("set", None, &filled(1_000));
    let (kind, condition) = alice.iq_error("set", None, &filled(1_001));
    assert_eq!((&*kind, &*condition), ("modify", "policy-violation"));
}

#[test]
fn the_bytes_of_a_vcard_are_limited() {
    let server = Server::with(&[("limits.vcard_bytes", "1000")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    has_a_thousand_bytes(
        &mut alice,
        "<vCard xmlns='vcard-temp'><FN>",
        "</FN></vCard>",
    );
}

#[test]
fn private_elements_are_limited_in_bytes_and_number() {
    let server = Server::with(&[
        ("limits.private_bytes", "1000"),
        ("limits.private_elements", "3"),
    ]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let query = |n: u32, text: &str| {
        format!("<query xmlns='jabber:iq:private'><n xmlns='urn:n:{n}'>{text}</n></query>")
    };
    let (start, end) = ("<n xmlns='urn:n:0'>", "</n>");
    // The name that it is looked up by counts too.
    let fits = "x".repeat(1_000 - start.len() - end.len() - "nurn:n:0".len());
    alice.iq_ok("set", None, &query(0, &fits));
    let (kind, condition) = alice.iq_error("set", None, &query(0, &format!("{fits}x")));
    assert_eq!((&*kind, &*condition), ("modify", "policy-violation"));
    alice.iq_ok("set", None, &query(1, "one"));
    alice.iq_ok("set", None, &query(2, "two"));
    let (kind, condition) = alice.iq_error("set", None, &query(3, "three"));
    assert_eq!((&*kind, &*condition), ("wait", "resource-constraint"));
    alice.iq_ok("set", None, &query(2, "what is there may change"));
}

#[test]
fn a_subscription_request_that_is_too_long_waits_without_its_text() {
    let server = Server::with(&[("limits.subscription_request_bytes", "500")]);
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    let asks = |status: &str| {
        format!("<presence type='subscribe' to='{BOB}'><status>{status}</status></presence>")
    };
    for (status, is_kept) in [("let me in".to_owned(), true), ("x".repeat(600), false)] {
        alice.send(&asks(&status));
        alice.settle();
        let mut bob = server.online("bob", "b");
        let waiting = bob.settle();
        let request = waiting
            .iter()
            .find(|stanza| stanza.attr("type") == Some("subscribe"))
            .expect("the request that waits");
        let told = request.child("status", ns::CLIENT).map(Element::text);
        assert_eq!(told, is_kept.then_some(status));
        bob.log_out();
        alice.presence_to("unsubscribe", BOB);
        alice.settle();
    }
}

#[test]
fn the_bytes_of_vcards_and_private_elements_and_their_number_are_limited() {
    let server = Server::with(&[
        ("limits.vcard_bytes", "200"),
        ("limits.private_bytes", "200"),
        ("limits.private_elements", "2"),
    ]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let vcard = |bytes: usize| {
        format!(
            "<vCard xmlns='vcard-temp'><FN>{}</FN></vCard>",
            "n".repeat(bytes)
        )
    };
    let private = |name: &str, bytes: usize| {
        format!(
            "<query xmlns='jabber:iq:private'><{name} xmlns='urn:example'>{}</{name}></query>",
            "p".repeat(bytes)
        )
    };
    alice.iq_ok("set", None, &vcard(100));
    alice.iq_ok("set", None, &private("one", 100));
    alice.iq_ok("set", None, &private("two", 100));
    for too_much in [vcard(200), private("one", 200), private("three", 1)] {
        alice.iq_error("set", None, &too_much);
    }
    // What was there before is as it was.
    let kept = alice.iq_ok("get", None, "<vCard xmlns='vcard-temp'/>");
    assert!(kept.to_string().contains(&"n".repeat(100)), "{kept}");
}

#[test]
fn big_rosters_share_one_pool_and_small_ones_always_fit() {
    let mut server = Server::with(&[("limits.roster_bytes", "65536")]);
    server.add("alice");
    server.add("bob");
    let item = |n: usize, name: &str| {
        format!(
            "<query xmlns='{}'><item jid='c{n}@cairn.example' name='{name}'/></query>",
            ns::ROSTER
        )
    };
    let mut alice = server.login("alice", "a");
    let long = "n".repeat(1_000);
    let refused = (0..200)
        .map(|n| alice.iq("set", None, &item(n, &long)))
        .position(|answer| answer.attr("type") == Some("error"));
    let held = refused.expect("two hundred times 1,000 are too many");
    assert!((60..=64).contains(&held), "{held}");
    let (kind, condition) = alice.iq_error("set", None, &item(held, &long));
    assert_eq!((&*kind, &*condition), ("wait", "resource-constraint"));
    // Nobody else suffers, and what does not grow may change.
    let mut bob = server.login("bob", "b");
    bob.iq_ok("set", None, &item(0, "a friend"));
    bob.iq_error("set", None, &item(1, &long));
    alice.iq_ok("set", None, &item(0, &"m".repeat(1_000)));
    // What is given back can be taken, also after a restart.
    alice.iq_ok("set", None, &item(0, ""));
    alice.iq_ok("set", None, &item(1, ""));
    server.stop();
    server.run();
    let mut bob = server.login("bob", "b");
    let more = (1..100)
        .map(|n| bob.iq("set", None, &item(n, &long)))
        .position(|answer| answer.attr("type") == Some("error"));
    assert!(matches!(more, Some(2..=4)), "{more:?}");
}

#[test]
fn directed_presences_share_one_pool_and_short_ones_always_fit() {
    let server = Server::with(&[("limits.presence_bytes", "65536")]);
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    for n in 0..100 {
        let name = format!("{n}{}", "n".repeat(1_000));
        alice.send(&format!("<presence to='{name}@cairn.example/r'/>"));
    }
    let errors = alice.settle();
    let first = errors.first().expect("a hundred kilobytes are too many");
    let condition = first.error().map(|(_, condition)| condition.to_owned());
    assert_eq!(condition.as_deref(), Some("resource-constraint"), "{first}");
    assert!((30..=50).contains(&errors.len()), "{}", errors.len());
    let long = format!(
        "<presence><status>{}</status></presence>",
        "s".repeat(9_000)
    );
    let mut bob = server.online("bob", "b");
    bob.send(&long);
    let refused = bob.settle();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        refused[0].error().map(|error| error.1),
        Some("resource-constraint")
    );
    // What is given back can be taken.
    alice.log_out();
    server.wait_for_log(&["alice@cairn.example/a", "logged out"]);
    let kept = (0..500).any(|_| {
        bob.send(&long);
        bob.settle().iter().all(|stanza| stanza.error().is_none())
    });
    assert!(kept);
}

#[test]
fn the_number_of_sessions_that_wait_to_be_resumed_is_limited() {
    let server = Server::with(&[("limits.detached_sessions", "1")]);
    server.add("bob");
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut bob = server.authenticated("bob");
        bob.bind(None);
        waiting.push((bob.jid.clone(), bob.enable_management(true).expect("an id")));
        bob.cut();
    }
    let ended = server.wait_for_log(&["too many sessions wait to be resumed"]);
    let (over, still): (Vec<_>, Vec<_>) = waiting
        .into_iter()
        .partition(|(jid, _)| ended.ends_with(jid.as_str()));
    assert_eq!((over.len(), still.len()), (1, 1), "{ended}");
    let answer = |id: &str| server.authenticated("bob").try_resume(id, 0);
    assert!(answer(&still[0].1).is("resumed", ns::SM));
    assert!((0..500).any(|_| answer(&over[0].1).is("failed", ns::SM)));
}
