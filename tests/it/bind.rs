//! Resource binding: RFC 6120 §7.

use crate::support::*;

#[test]
fn the_server_chooses_a_resource_that_nobody_can_guess() {
    let server = Server::start();
    server.add("alice");
    let mut jids = Vec::new();
    for _ in 0..2 {
        let mut alice = server.authenticated("alice");
        alice.bind(None);
        let resource = alice.jid.strip_prefix("alice@cairn.example/");
        assert!(resource.is_some_and(|resource| resource.len() >= 8));
        jids.push(alice.jid.clone());
    }
    assert_ne!(jids[0], jids[1]);
}

#[test]
fn the_client_may_choose_its_resource() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.authenticated("alice");
    alice.bind(Some("balcony"));
    assert_eq!(alice.jid, "alice@cairn.example/balcony");
}

#[test]
fn an_empty_resource_is_the_servers_choice() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.authenticated("alice");
    alice.bind(Some(""));
    assert!(alice.jid.len() > "alice@cairn.example/".len());
}

#[test]
fn a_resource_is_kept_as_it_is_written() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.authenticated("alice");
    alice.bind(Some("Éa &amp; b/c@d"));
    assert_eq!(alice.jid, "alice@cairn.example/\u{c9}a & b/c@d");
}

#[test]
fn a_malformed_resource_is_bad_request_and_another_can_be_tried() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.authenticated("alice");
    for resource in ["\u{feff}", &"x".repeat(1024)] {
        let payload = format!(
            "<bind xmlns='{}'><resource>{resource}</resource></bind>",
            ns::BIND
        );
        let (kind, condition) = alice.iq_error("set", None, &payload);
        assert_eq!(
            (kind.as_str(), condition.as_str()),
            ("modify", "bad-request")
        );
    }
    alice.bind(Some("good"));
}

#[test]
fn two_resources_of_one_account_live_side_by_side() {
    let server = Server::start();
    server.add("alice");
    let mut one = server.login("alice", "one");
    let mut two = server.login("alice", "two");
    one.expect_nothing();
    two.expect_nothing();
}

#[test]
fn a_resource_is_bound_once_a_stream() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let payload = format!("<bind xmlns='{}'/>", ns::BIND);
    let not_allowed = ("cancel".to_owned(), "not-allowed".to_owned());
    assert_eq!(alice.iq_error("set", None, &payload), not_allowed);
    alice.enable_management(false);
    assert_eq!(alice.iq_error("set", None, &payload), not_allowed);
    assert_eq!(alice.ask_for_ack(), 1);
    alice.expect_nothing();
}

#[test]
fn a_session_request_succeeds_with_and_without_stream_management() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let payload = format!("<session xmlns='{}'/>", ns::SESSION);
    for to in [None, Some(DOMAIN), Some("alice@cairn.example")] {
        alice.iq_ok("set", to, &payload);
    }
    alice.enable_management(false);
    alice.iq_ok("set", None, &payload);
    assert_eq!((alice.ask_for_ack(), alice.handled), (1, 1));
}

#[test]
fn the_server_begins_no_session_in_the_name_of_somebody_else() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    for payload in [
        format!("<session xmlns='{}'/>", ns::SESSION),
        format!("<bind xmlns='{}'/>", ns::BIND),
    ] {
        for to in ["bob@cairn.example", "nobody@cairn.example"] {
            let (kind, condition) = alice.iq_error("set", Some(to), &payload);
            assert_eq!(
                (kind.as_str(), condition.as_str()),
                ("cancel", "service-unavailable")
            );
        }
    }
}

#[test]
fn a_resource_that_was_left_can_be_bound_again() {
    let server = Server::start();
    server.add("alice");
    server.login("alice", "a").log_out();
    let mut again = server.login("alice", "a");
    again.expect_nothing();
}

#[test]
fn an_account_that_is_removed_loses_its_sessions_and_cannot_log_in() {
    let server = Server::start();
    server.add("alice");
    let mut alice = server.online("alice", "a");
    server.cli(&["user", "remove", "alice@cairn.example"], "");
    let end = alice.until_end();
    assert!(
        end.iter()
            .any(|seen| matches!(seen, Seen::Element(e) if e.stream_error().is_some())),
        "got {end:?}"
    );
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
}
