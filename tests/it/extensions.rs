//! Each extension of the core, by its number.

use crate::support::*;

const BOB: &str = "bob@cairn.example";

fn alice() -> (Client, Server) {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let alice = server.online("alice", "a");
    (alice, server)
}

fn features(info: &Element) -> Vec<String> {
    let query = info.must("query", ns::DISCO_INFO);
    let all = query.all("feature", ns::DISCO_INFO);
    all.iter()
        .filter_map(|feature| feature.attr("var").map(str::to_owned))
        .collect()
}

fn info(client: &mut Client, to: Option<&str>) -> Element {
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    client.iq_ok("get", to, &payload)
}

// XEP-0030: service discovery.

#[test]
fn disco_of_the_server_names_it_and_its_features() {
    let (mut alice, _server) = alice();
    let info = info(&mut alice, Some(DOMAIN));
    let identity = info
        .must("query", ns::DISCO_INFO)
        .must("identity", ns::DISCO_INFO);
    assert_eq!(identity.attr("category"), Some("server"));
    assert_eq!(identity.attr("type"), Some("im"));
    let features = features(&info);
    for wanted in [
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        "urn:xmpp:ping",
        "urn:xmpp:time",
        "jabber:iq:version",
        "jabber:iq:last",
        "vcard-temp",
        "msgoffline",
    ] {
        assert!(
            features.iter().any(|f| f == wanted),
            "{wanted}: {features:?}"
        );
    }
    let mut once = features.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), features.len(), "each feature once");
}

#[test]
fn disco_items_of_the_server_are_an_empty_list() {
    let (mut alice, _server) = alice();
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let items = alice.iq_ok("get", Some(DOMAIN), &payload);
    items.must("query", ns::DISCO_ITEMS);
}

#[test]
fn disco_of_ones_own_account_is_a_registered_account() {
    let (mut alice, _server) = alice();
    for to in [None, Some("alice@cairn.example")] {
        let info = info(&mut alice, to);
        let identity = info
            .must("query", ns::DISCO_INFO)
            .must("identity", ns::DISCO_INFO);
        assert_eq!(identity.attr("category"), Some("account"));
        assert_eq!(identity.attr("type"), Some("registered"));
    }
}

#[test]
fn disco_of_an_account_is_for_those_who_may_see_its_presence() {
    let (mut alice, server) = alice();
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let stranger = alice.iq_error("get", Some(BOB), &payload);
    let nobody = alice.iq_error("get", Some("nobody@cairn.example"), &payload);
    assert_eq!(stranger, nobody, "whether there is such a user is not told");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    let info = info(&mut alice, Some(BOB));
    info.must("query", ns::DISCO_INFO)
        .must("identity", ns::DISCO_INFO);
}

#[test]
fn disco_of_an_unknown_node_is_item_not_found() {
    let (mut alice, _server) = alice();
    let payload = format!("<query xmlns='{}' node='nowhere'/>", ns::DISCO_INFO);
    let error = alice.iq_error("get", Some(DOMAIN), &payload);
    assert_eq!(error, ("cancel".into(), "item-not-found".into()));
}

#[test]
fn a_disco_set_is_refused() {
    let (mut alice, _server) = alice();
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    alice.iq_error("set", Some(DOMAIN), &payload);
}

// XEP-0115: entity capabilities of the server.

#[test]
fn the_features_carry_caps_that_match_the_disco_answer() {
    let (mut alice, _server) = alice();
    let caps = "http://jabber.org/protocol/caps";
    let announced = alice.features.must("c", caps).clone();
    assert_eq!(announced.attr("hash"), Some("sha-1"));
    let node = announced.attr("node").expect("a node");
    let ver = announced.attr("ver").expect("a version");
    let payload = format!("<query xmlns='{}' node='{node}#{ver}'/>", ns::DISCO_INFO);
    let info = alice.iq_ok("get", Some(DOMAIN), &payload);
    assert_eq!(verification(info.must("query", ns::DISCO_INFO)), ver);
}

/// The verification string of XEP-0115 §5.1.
fn verification(query: &Element) -> String {
    use base64::Engine;
    let mut parts = Vec::new();
    let mut identities: Vec<String> = query
        .all("identity", ns::DISCO_INFO)
        .iter()
        .map(|identity| {
            let attr = |name| identity.attr(name).unwrap_or_default();
            [
                attr("category"),
                attr("type"),
                attr("xml:lang"),
                attr("name"),
            ]
            .join("/")
        })
        .collect();
    identities.sort();
    parts.extend(identities);
    let mut features: Vec<String> = query
        .all("feature", ns::DISCO_INFO)
        .iter()
        .filter_map(|feature| feature.attr("var").map(str::to_owned))
        .collect();
    features.sort();
    parts.extend(features);
    for form in query.all("x", "jabber:x:data") {
        let mut fields: Vec<(String, Vec<String>)> = form
            .all("field", "jabber:x:data")
            .iter()
            .map(|field| {
                let values = field.all("value", "jabber:x:data");
                let mut values: Vec<String> = values.iter().map(|value| value.text()).collect();
                values.sort();
                (field.attr("var").unwrap_or_default().to_owned(), values)
            })
            .collect();
        let at = fields.iter().position(|(var, _)| var == "FORM_TYPE");
        let (_, form_type) = fields.remove(at.expect("FORM_TYPE"));
        parts.extend(form_type);
        fields.sort();
        for (var, values) in fields {
            parts.push(var);
            parts.extend(values);
        }
    }
    let text: String = parts.iter().map(|part| format!("{part}<")).collect();
    let sha1 = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let hash = ring::digest::digest(sha1, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash)
}

// XEP-0092, XEP-0199, XEP-0202, XEP-0012.

#[test]
fn the_version_names_the_software() {
    let (mut alice, _server) = alice();
    let answer = alice.iq_ok("get", Some(DOMAIN), "<query xmlns='jabber:iq:version'/>");
    let query = answer.must("query", "jabber:iq:version");
    assert_eq!(query.must("name", "jabber:iq:version").text(), "Cairn");
    query.must("version", "jabber:iq:version");
}

#[test]
fn a_ping_is_answered_by_server_account_and_client() {
    let (mut alice, server) = alice();
    for to in [None, Some(DOMAIN), Some("alice@cairn.example")] {
        alice.iq_ok("get", to, "<ping xmlns='urn:xmpp:ping'/>");
    }
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    alice.send("<iq type='get' id='p' to='bob@cairn.example/b'><ping xmlns='urn:xmpp:ping'/></iq>");
    let ping = bob.stanza_named("iq");
    ping.must("ping", "urn:xmpp:ping");
    bob.send("<iq type='result' id='p' to='alice@cairn.example/a'/>");
    assert_eq!(alice.answer("p").attr("type"), Some("result"));
}

#[test]
fn a_ping_that_is_a_set_is_refused() {
    let (mut alice, _server) = alice();
    alice.iq_error("set", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>");
}

#[test]
fn the_time_is_told_in_utc() {
    let (mut alice, _server) = alice();
    let answer = alice.iq_ok("get", Some(DOMAIN), "<time xmlns='urn:xmpp:time'/>");
    let time = answer.must("time", "urn:xmpp:time");
    let utc = time.must("utc", "urn:xmpp:time").text();
    assert!(utc.ends_with('Z') && utc.len() >= 20, "{utc}");
    let zone = time.must("tzo", "urn:xmpp:time").text();
    assert!(zone == "Z" || zone.contains(':'), "{zone}");
}

fn last(client: &mut Client, to: &str) -> Element {
    client.iq("get", Some(to), "<query xmlns='jabber:iq:last'/>")
}

#[test]
fn the_server_tells_how_long_it_runs() {
    let (mut alice, _server) = alice();
    let answer = last(&mut alice, DOMAIN);
    let query = answer.must("query", "jabber:iq:last");
    let seconds: u64 = query
        .attr("seconds")
        .expect("seconds")
        .parse()
        .expect("a number");
    assert!(seconds < 3_600);
}

#[test]
fn last_activity_is_for_those_who_may_see_the_presence() {
    let (mut alice, server) = alice();
    let answer = last(&mut alice, BOB);
    let refused = answer.error().expect("a stranger is refused");
    assert!(
        matches!(refused.1, "forbidden" | "service-unavailable"),
        "{answer}"
    );
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    let answer = last(&mut alice, BOB);
    assert_eq!(
        answer.must("query", "jabber:iq:last").attr("seconds"),
        Some("0")
    );
    bob.send("<presence type='unavailable'><status>gone fishing</status></presence>");
    bob.settle();
    bob.log_out();
    let answer = last(&mut alice, BOB);
    let query = answer.must("query", "jabber:iq:last");
    assert_eq!(query.text(), "gone fishing");
    let seconds: u64 = query
        .attr("seconds")
        .expect("seconds")
        .parse()
        .expect("a number");
    assert!(seconds < 60);
}

// XEP-0049: private XML.

#[test]
fn private_xml_is_kept_by_its_name_over_a_kill() {
    let (mut alice, mut server) = alice();
    let private = |inner: &str| format!("<query xmlns='jabber:iq:private'>{inner}</query>");
    let empty = alice.iq_ok("get", None, &private("<notes xmlns='urn:notes'/>"));
    let query = empty.must("query", "jabber:iq:private");
    assert!(query.must("notes", "urn:notes").nodes.is_empty());
    let notes = "<notes xmlns='urn:notes' v='1'><n>buy &amp; sell</n></notes>";
    alice.iq_ok("set", None, &private(notes));
    alice.iq_ok("set", None, &private("<other xmlns='urn:notes'/>"));
    server.kill();
    server.run();
    let mut alice = server.login("alice", "a");
    let answer = alice.iq_ok("get", None, &private("<notes xmlns='urn:notes'/>"));
    let query = answer.must("query", "jabber:iq:private");
    assert_eq!(query.must("notes", "urn:notes"), &Element::parse(notes));
}

#[test]
fn private_xml_of_somebody_else_is_forbidden() {
    let (mut alice, _server) = alice();
    let payload = "<query xmlns='jabber:iq:private'><notes xmlns='urn:notes'/></query>";
    for type_ in ["get", "set"] {
        let (_, condition) = alice.iq_error(type_, Some(BOB), payload);
        assert!(
            matches!(condition.as_str(), "forbidden" | "service-unavailable"),
            "{condition}"
        );
    }
}

#[test]
fn private_xml_has_one_payload_with_a_namespace() {
    let (mut alice, _server) = alice();
    for inner in ["", "<a xmlns='jabber:iq:private'/>"] {
        let payload = format!("<query xmlns='jabber:iq:private'>{inner}</query>");
        let (_, condition) = alice.iq_error("set", None, &payload);
        assert!(
            matches!(condition.as_str(), "bad-request" | "not-acceptable"),
            "{condition}"
        );
    }
}

// XEP-0054: vCards.

#[test]
fn a_vcard_is_kept_and_shown_to_others() {
    let (mut alice, mut server) = alice();
    let empty = "<vCard xmlns='vcard-temp'/>";
    let none = alice.iq("get", None, empty);
    assert_eq!(none.error(), Some(("cancel", "item-not-found")));
    let card = "<vCard xmlns='vcard-temp'><FN>Alice &lt;A&gt;</FN></vCard>";
    alice.iq_ok("set", None, card);
    server.kill();
    server.run();
    let mut bob = server.login("bob", "b");
    let answer = bob.iq_ok("get", Some("alice@cairn.example"), empty);
    assert_eq!(answer.must("vCard", "vcard-temp"), &Element::parse(card));
    assert_eq!(answer.attr("from"), Some("alice@cairn.example"));
}

#[test]
fn the_vcard_of_somebody_else_cannot_be_set() {
    let (mut alice, _server) = alice();
    let card = "<vCard xmlns='vcard-temp'><FN>Mallory</FN></vCard>";
    let (_, condition) = alice.iq_error("set", Some(BOB), card);
    assert_eq!(condition, "forbidden");
}

// XEP-0077: registration.

const REGISTER: &str = "jabber:iq:register";

#[test]
fn registration_is_not_offered_where_it_is_closed() {
    let server = Server::start();
    let (mut wire, features) = server.stream();
    let feature = "http://jabber.org/features/iq-register";
    assert!(features.child("register", feature).is_none());
    wire.send(&format!(
        "<iq type='get' id='r'><query xmlns='{REGISTER}'/></iq>"
    ));
    let answer = wire.element();
    assert_eq!(answer.stream_error(), Some("not-authorized"));
}

#[test]
fn an_account_is_registered_where_that_is_open_and_can_log_in() {
    let server = Server::with(&[("registration.mode", "\"open\"")]);
    let (mut wire, features) = server.stream();
    features.must("register", "http://jabber.org/features/iq-register");
    wire.send(&format!(
        "<iq type='get' id='r1'><query xmlns='{REGISTER}'/></iq>"
    ));
    let form = wire.element();
    let query = form.must("query", REGISTER);
    query.must("username", REGISTER);
    query.must("password", REGISTER);
    wire.send(&format!(
        "<iq type='set' id='r2'><query xmlns='{REGISTER}'><username>carol</username>\
         <password>{}</password></query></iq>",
        server::PASSWORD
    ));
    assert_eq!(wire.element().attr("type"), Some("result"));
    wire.send(&client::plain("", "carol", server::PASSWORD));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn a_name_that_is_taken_or_malformed_cannot_be_registered() {
    let server = Server::with(&[("registration.mode", "\"open\"")]);
    server.add("alice");
    for (name, condition) in [
        ("alice", "conflict"),
        ("ALICE", "conflict"),
        ("a b", "jid-malformed"),
    ] {
        let (mut wire, _) = server.stream();
        wire.send(&format!(
            "<iq type='set' id='r'><query xmlns='{REGISTER}'><username>{name}</username>\
             <password>secret secret</password></query></iq>"
        ));
        let answer = wire.element();
        let found = answer.error().expect("an error").1.to_owned();
        assert_eq!(found, condition, "{answer}");
    }
}

#[test]
fn registrations_an_hour_from_one_address_are_limited() {
    let server = Server::with(&[
        ("registration.mode", "\"open\""),
        ("limits.registrations_per_address_per_hour", "2"),
    ]);
    let mut results = Vec::new();
    for n in 0..3 {
        let (mut wire, _) = server.stream();
        wire.send(&format!(
            "<iq type='set' id='r'><query xmlns='{REGISTER}'><username>user{n}</username>\
             <password>secret secret</password></query></iq>"
        ));
        results.push(wire.element().attr("type").map(str::to_owned));
    }
    let (result, error) = (Some("result".to_owned()), Some("error".to_owned()));
    assert_eq!(results, [result.clone(), result, error]);
}

#[test]
fn a_client_changes_its_password() {
    let (mut alice, server) = alice();
    alice.iq_ok(
        "set",
        Some(DOMAIN),
        &format!(
            "<query xmlns='{REGISTER}'><username>alice</username>\
             <password>a new password</password></query>"
        ),
    );
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    wire.send(&client::plain("", "alice", "a new password"));
    assert!(wire.element().is("success", ns::SASL));
}

#[test]
fn nobody_changes_the_password_of_somebody_else() {
    let (mut alice, server) = alice();
    alice.iq_error(
        "set",
        Some(DOMAIN),
        &format!(
            "<query xmlns='{REGISTER}'><username>bob</username>\
             <password>mine now</password></query>"
        ),
    );
    server.login("bob", "b");
}

#[test]
fn a_client_cancels_its_account() {
    let (mut alice, server) = alice();
    let mut other = server.online("alice", "other");
    alice.send(&format!(
        "<iq type='set' id='c'><query xmlns='{REGISTER}'><remove/></query></iq>"
    ));
    let all = alice.until_end();
    let is_result = |seen: &Seen| matches!(seen, Seen::Element(e) if e.attr("id") == Some("c") && e.attr("type") == Some("result"));
    assert!(all.iter().any(is_result), "{all:?}");
    other.until_end();
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
}

#[test]
fn a_cancelled_account_that_is_made_again_finds_nothing_of_the_old_one() {
    let (mut alice, mut server) = alice();
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    alice.iq_ok(
        "set",
        None,
        "<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>",
    );
    server.cli(&["user", "remove", "alice@cairn.example"], "");
    alice.until_end();
    server.add("alice");
    server.kill();
    server.run();
    let mut alice = server.login("alice", "a");
    assert_eq!(alice.roster(), []);
    let card = alice.iq("get", None, "<vCard xmlns='vcard-temp'/>");
    assert_eq!(card.error(), Some(("cancel", "item-not-found")));
}

// XEP-0157: contact addresses.

#[test]
fn contact_addresses_stand_in_the_disco_answer() {
    let server = Server::with(&[("contact.abuse", "[\"mailto:abuse@cairn.example\"]")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let info = info(&mut alice, Some(DOMAIN));
    let form = info
        .must("query", ns::DISCO_INFO)
        .must("x", "jabber:x:data")
        .clone();
    let field = |var: &str| {
        let fields = form.all("field", "jabber:x:data");
        let found = fields
            .into_iter()
            .find(|field| field.attr("var") == Some(var));
        found.map(|field| field.must("value", "jabber:x:data").text())
    };
    assert_eq!(
        field("FORM_TYPE").as_deref(),
        Some("http://jabber.org/network/serverinfo")
    );
    assert_eq!(
        field("abuse-addresses").as_deref(),
        Some("mailto:abuse@cairn.example")
    );
}
