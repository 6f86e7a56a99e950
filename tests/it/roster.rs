//! The roster: RFC 6121 §2.

use crate::support::client::{pushes, subscription_of};
use crate::support::*;

fn alice() -> (Client, Server) {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let alice = server.login("alice", "a");
    (alice, server)
}

fn set(item: &str) -> String {
    format!("<query xmlns='{}'>{item}</query>", ns::ROSTER)
}

/// The error for a roster set.
#[track_caller]
fn refused(alice: &mut Client, payload: &str) -> (String, String) {
    alice.iq_error("set", None, &set(payload))
}

#[test]
fn a_new_account_has_an_empty_roster() {
    let (mut alice, _server) = alice();
    assert_eq!(alice.roster(), []);
}

#[test]
fn an_item_is_added_with_name_and_groups_and_without_subscription() {
    let (mut alice, _server) = alice();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' name='Bob &lt;3'><group>A</group><group>B</group></item>"),
    );
    let items = alice.roster();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].attr("jid"), Some("bob@cairn.example"));
    assert_eq!(items[0].attr("name"), Some("Bob <3"));
    assert_eq!(subscription_of(&items[0]), "none");
    let mut groups: Vec<_> = items[0].children().map(Element::text).collect();
    groups.sort();
    assert_eq!(groups, ["A", "B"]);
}

#[test]
fn an_item_is_replaced_as_a_whole() {
    let (mut alice, _server) = alice();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' name='Bob'><group>A</group></item>"),
    );
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example'><group>B</group></item>"),
    );
    let items = alice.roster();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].attr("name"), None);
    assert_eq!(items[0].must("group", ns::ROSTER).text(), "B");
    assert_eq!(items[0].children().count(), 1);
}

#[test]
fn a_change_is_pushed_to_every_interested_resource_and_no_other() {
    let (mut alice, server) = alice();
    let mut interested = server.login("alice", "interested");
    let mut other = server.login("alice", "other");
    alice.roster();
    interested.roster();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' name='Bob'/>"),
    );
    for client in [&mut alice, &mut interested] {
        let item = client.roster_push();
        assert_eq!(item.attr("jid"), Some("bob@cairn.example"));
        assert_eq!(item.attr("name"), Some("Bob"));
        client.expect_nothing();
    }
    other.expect_nothing();
}

#[test]
fn a_push_comes_from_ones_own_account_and_to_the_full_jid() {
    let (mut alice, _server) = alice();
    alice.roster();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    let push = alice.stanza_named("iq");
    assert_eq!(push.attr("from"), None);
    assert_eq!(push.attr("to"), Some("alice@cairn.example/a"));
    assert!(push.attr("id").is_some_and(|id| !id.is_empty()));
}

#[test]
fn an_item_is_removed_and_the_removal_pushed() {
    let (mut alice, _server) = alice();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    alice.roster();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' subscription='remove'/>"),
    );
    assert_eq!(subscription_of(&alice.roster_push()), "remove");
    assert_eq!(alice.roster(), []);
}

#[test]
fn removing_what_is_not_there_is_item_not_found() {
    let (mut alice, _server) = alice();
    let error = refused(
        &mut alice,
        "<item jid='bob@cairn.example' subscription='remove'/>",
    );
    assert_eq!(error, ("cancel".into(), "item-not-found".into()));
}

#[test]
fn a_client_cannot_set_subscription_ask_or_approval() {
    let (mut alice, _server) = alice();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' subscription='both' ask='subscribe' approved='true'/>"),
    );
    assert_eq!(alice.subscription_to("bob@cairn.example"), "none");
}

#[test]
fn a_set_has_exactly_one_item() {
    let (mut alice, _server) = alice();
    for items in ["", "<item jid='a@x.example'/><item jid='b@x.example'/>"] {
        let error = refused(&mut alice, items);
        assert_eq!(error, ("modify".into(), "bad-request".into()));
    }
    assert_eq!(alice.roster(), []);
}

#[test]
fn an_item_needs_a_valid_address() {
    let (mut alice, _server) = alice();
    let error = refused(&mut alice, "<item name='nobody'/>");
    assert_eq!(error, ("modify".into(), "bad-request".into()));
    let (_, condition) = refused(&mut alice, "<item jid='a b@x.example'/>");
    assert_eq!(condition, "jid-malformed");
}

#[test]
fn the_same_group_twice_is_bad_request() {
    let (mut alice, _server) = alice();
    let error = refused(
        &mut alice,
        "<item jid='bob@cairn.example'><group>A</group><group>A</group></item>",
    );
    assert_eq!(error, ("modify".into(), "bad-request".into()));
}

#[test]
fn an_empty_group_is_not_acceptable() {
    let (mut alice, _server) = alice();
    let error = refused(&mut alice, "<item jid='bob@cairn.example'><group/></item>");
    assert_eq!(error, ("modify".into(), "not-acceptable".into()));
}

#[test]
fn a_name_that_is_too_long_is_not_acceptable() {
    let (mut alice, _server) = alice();
    let name = "x".repeat(10_000);
    let error = refused(
        &mut alice,
        &format!("<item jid='bob@cairn.example' name='{name}'/>"),
    );
    assert_eq!(error, ("modify".into(), "not-acceptable".into()));
}

#[test]
fn an_item_is_known_by_its_prepared_bare_jid() {
    let (mut alice, _server) = alice();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='Bob@CAIRN.example' name='Bob'/>"),
    );
    assert_eq!(alice.subscription_to("bob@cairn.example"), "none");
}

#[test]
fn the_roster_of_somebody_else_is_closed() {
    let (mut alice, server) = alice();
    let mut bob = server.login("bob", "b");
    bob.roster();
    let to = Some("bob@cairn.example");
    alice.iq_error("get", to, "<query xmlns='jabber:iq:roster'/>");
    alice.iq_error("set", to, &set("<item jid='eve@cairn.example'/>"));
    // Nor does a push reach him that is not from his own server (CVE-2015-8688 of clients).
    alice.send(&format!(
        "<iq type='set' id='forged' to='bob@cairn.example'>{}</iq>",
        set("<item jid='eve@cairn.example'/>")
    ));
    bob.expect_nothing_from(&mut alice);
    assert_eq!(bob.roster(), []);
}

#[test]
fn beyond_the_limit_of_items_a_set_is_refused() {
    let server = Server::with(&[("limits.roster_items", "2")]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    for name in ["one", "two"] {
        alice.iq_ok(
            "set",
            None,
            &set(&format!("<item jid='{name}@x.example'/>")),
        );
    }
    let (_, condition) = refused(&mut alice, "<item jid='three@x.example'/>");
    assert!(
        matches!(
            condition.as_str(),
            "resource-constraint" | "not-allowed" | "policy-violation"
        ),
        "{condition}"
    );
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='one@x.example' name='still editable'/>"),
    );
}

// §2.6: versioning.

/// Asks for the roster as of `ver`.
#[track_caller]
fn roster_since(alice: &mut Client, ver: &str) -> Option<Element> {
    let payload = format!("<query xmlns='{}' ver='{ver}'/>", ns::ROSTER);
    let result = alice.iq_ok("get", None, &payload);
    result.child("query", ns::ROSTER).cloned()
}

#[test]
fn an_empty_version_gets_the_whole_roster_with_its_version() {
    let (mut alice, _server) = alice();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    let query = roster_since(&mut alice, "").expect("the whole roster");
    assert!(query.attr("ver").is_some());
    assert_eq!(query.children().count(), 1);
}

#[test]
fn the_current_version_gets_an_empty_result_and_no_pushes() {
    let (mut alice, _server) = alice();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    let query = roster_since(&mut alice, "").expect("the whole roster");
    let ver = query.attr("ver").expect("a version").to_owned();
    assert_eq!(roster_since(&mut alice, &ver), None);
    alice.expect_nothing();
}

#[test]
fn an_old_version_gets_what_has_changed_since() {
    let (mut alice, _server) = alice();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    alice.iq_ok("set", None, &set("<item jid='eve@cairn.example'/>"));
    let query = roster_since(&mut alice, "").expect("the whole roster");
    let ver = query.attr("ver").expect("a version").to_owned();
    alice.iq_ok("set", None, &set("<item jid='carol@cairn.example'/>"));
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='eve@cairn.example' subscription='remove'/>"),
    );
    alice.settle();
    // Either the whole roster or a push for each change.
    let known: Vec<(String, String)> = match roster_since(&mut alice, &ver) {
        Some(query) => query
            .children()
            .map(|item| {
                (
                    item.attr("jid").unwrap_or_default().to_owned(),
                    subscription_of(item),
                )
            })
            .collect(),
        None => {
            let stanzas = alice.settle();
            let mut known = vec![("bob@cairn.example".to_owned(), "none".to_owned())];
            let pushed = pushes(&stanzas);
            assert!(pushed.contains(&("eve@cairn.example".into(), "remove".into())));
            known.extend(pushed.into_iter().filter(|(_, state)| state != "remove"));
            known
        }
    };
    let mut jids: Vec<_> = known.into_iter().map(|(jid, _)| jid).collect();
    jids.sort();
    assert_eq!(jids, ["bob@cairn.example", "carol@cairn.example"]);
}

#[test]
fn a_version_that_the_server_never_gave_gets_the_whole_roster() {
    let (mut alice, _server) = alice();
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    for ver in ["nonsense", "999999999", "-1"] {
        let query = roster_since(&mut alice, ver).expect("the whole roster");
        assert_eq!(query.children().count(), 1, "{ver}");
    }
}

#[test]
fn a_push_carries_the_version_that_it_leads_to() {
    let (mut alice, _server) = alice();
    roster_since(&mut alice, "");
    alice.iq_ok("set", None, &set("<item jid='bob@cairn.example'/>"));
    let push = alice.stanza_named("iq");
    let ver = push
        .must("query", ns::ROSTER)
        .attr("ver")
        .map(str::to_owned);
    let ver = ver.expect("a push has a version");
    assert_eq!(roster_since(&mut alice, &ver), None);
}

#[test]
fn a_roster_and_its_version_survive_a_kill() {
    let (mut alice, mut server) = alice();
    alice.iq_ok(
        "set",
        None,
        &set("<item jid='bob@cairn.example' name='Bob'/>"),
    );
    let query = roster_since(&mut alice, "").expect("the whole roster");
    let ver = query.attr("ver").expect("a version").to_owned();
    server.kill();
    server.run();
    let mut alice = server.login("alice", "a");
    assert_eq!(roster_since(&mut alice, &ver), None);
    assert_eq!(alice.roster()[0].attr("name"), Some("Bob"));
}
