//! Limits: every one of them, from both sides where that is cheap.

use crate::support::*;

const BOB: &str = "bob@cairn.example";

fn server_with(settings: &[(&str, &str)]) -> Server {
    let server = Server::with(settings);
    server.add("alice");
    server.add("bob");
    server
}

fn server() -> Server {
    server_with(&[])
}

/// A client that is logged in gets policy-violation for this.
#[track_caller]
fn refused(server: &Server, xml: &str) {
    let mut alice = server.login("alice", "a");
    // The server may close before it has read all.
    let _ = alice.try_send_bytes(xml.as_bytes());
    alice.expect_stream_error("policy-violation");
}

// Before authentication.

#[test]
fn ten_kilobytes_before_authentication_are_too_much() {
    let server = server();
    let (mut wire, _) = server.stream();
    let _ = wire.try_send_bytes(format!("<auth x='{}'/>", "x".repeat(20_000)).as_bytes());
    wire.expect_stream_error("policy-violation");
}

#[test]
fn ten_kilobytes_before_authentication_are_counted_over_the_whole_stream() {
    let server = server_with(&[
        ("limits.unauthenticated_elements", "10000"),
        ("limits.authentication_attempts", "10000"),
    ]);
    let (mut wire, _) = server.stream();
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    let failures = failures_until(&mut wire, &abort, "too many bytes");
    let bytes = failures * abort.len();
    assert!((9_000..10_000).contains(&bytes), "{bytes}");
}

/// Sends this and is told of a failure, again and again, until that is too much: how often.
#[track_caller]
fn failures_until(wire: &mut Wire, xml: &str, why: &str) -> usize {
    for failures in 0..1_000 {
        wire.send(xml);
        let answer = wire.element();
        if answer.stream_error().is_some() {
            assert_eq!(answer.stream_error(), Some("policy-violation"));
            assert_eq!(answer.must("text", ns::STREAM_ERROR).text(), why);
            wire.expect_end();
            return failures;
        }
        assert!(answer.sasl_failure().is_some(), "got {answer}");
    }
    panic!("a thousand times were not too much");
}

/// The stream ends with connection-timeout, whatever comes first.
#[track_caller]
fn times_out(wire: &mut Wire) {
    let all = wire.until_end();
    let errors = all.iter().filter_map(|seen| match seen {
        Seen::Element(element) => element.stream_error(),
        _ => None,
    });
    let errors: Vec<&str> = errors.collect();
    assert_eq!(errors, ["connection-timeout"], "in {all:?}");
}

#[test]
fn whitespace_before_authentication_is_counted_too() {
    let server = server();
    let (mut wire, _) = server.stream();
    let _ = wire.try_send_bytes(&[b' '; 20_000]);
    wire.expect_stream_error("policy-violation");
}

#[test]
fn a_header_without_end_is_cut_off() {
    let server = server();
    let mut wire = server.wire();
    let endless = format!("<stream:stream x='{}", "x".repeat(20_000));
    let _ = wire.try_send_bytes(endless.as_bytes());
    wire.expect_stream_error("policy-violation");
}

#[test]
fn thirty_two_elements_before_authentication_are_enough() {
    let server = server_with(&[("limits.authentication_attempts", "1000")]);
    let (mut wire, _) = server.stream();
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    let failures = failures_until(&mut wire, &abort, "too many elements");
    // The header counts.
    assert_eq!(failures, 31);
}

#[test]
fn the_time_to_authenticate_is_limited() {
    let server = server_with(&[("limits.authentication_s", "1")]);
    let (mut wire, _) = server.stream();
    wire.expect_stream_error("connection-timeout");
}

#[test]
fn the_time_to_authenticate_is_not_prolonged_by_a_trickle() {
    let server = server_with(&[
        ("limits.authentication_s", "1"),
        // More than can be said byte by byte in that time.
        ("limits.unauthenticated_bytes", "200000"),
        ("limits.unauthenticated_connections", "10"),
    ]);
    // Who paces the trickle: the server answers between one byte and the next.
    let mut bob = server.login("bob", "b");
    let mut wire = server.wire();
    wire.open();
    wire.send("<starttls>");
    let mut count = 0;
    while !wire.has_more() {
        wire.send("x");
        bob.settle();
        count += 1;
    }
    assert!(count > 10, "{count} bytes are no trickle");
    times_out(&mut wire);
}

#[test]
fn a_client_that_does_not_bind_is_cut_off_in_time() {
    let server = server_with(&[("limits.authentication_s", "1")]);
    let mut alice = server.authenticated("alice");
    times_out(&mut alice);
}

/// Where the log says that this client was too slow to log in.
fn too_late(server: &Server, client: &Wire) -> usize {
    let peer = client.socket().local_addr().expect("it is connected");
    let said = ["not logged in in time", &format!("peer={peer}")];
    server.wait_for_log(&said);
    let log = server.log();
    let is_it = |line: &String| said.iter().all(|part| line.contains(part));
    log.iter().position(is_it).expect("it has just been found")
}

#[test]
fn the_time_to_authenticate_begins_before_the_handshake() {
    let server = server_with(&[
        ("limits.authentication_s", "3"),
        ("limits.ping_s", "1"),
        ("limits.ping_answer_s", "60"),
    ]);
    let mut bob = server.login("bob", "b");
    let mut early = Wire::connect(server.c2s_tls());
    bob.settle();
    // It comes a second later.
    bob.stanza().must("ping", "urn:xmpp:ping");
    let mut late = server.wire();
    late.open();
    early.start_tls(&Tls::new());
    early.open();
    assert!(too_late(&server, &early) < too_late(&server, &late));
}

/// So many clients that have sent a wrong password to a server that checks one at a time, slowly.
fn crowd(authentication_s: &str, count: usize) -> (Server, Vec<Wire>) {
    let server = server_with(&[
        ("auth.store", "\"argon2id\""),
        ("limits.argon2_concurrent", "1"),
        ("limits.authentication_s", authentication_s),
        ("limits.failed_logins_per_address", "0"),
        ("limits.failed_logins_per_account", "0"),
    ]);
    let mut wires: Vec<Wire> = (0..count).map(|_| server.stream().0).collect();
    for wire in &mut wires {
        wire.send(&client::plain("", "alice", "wrong"));
    }
    (server, wires)
}

#[test]
fn a_password_that_waits_for_its_check_too_long_is_a_timeout() {
    let (_server, wires) = crowd("1", 150);
    let timed_out = wires.into_iter().filter_map(|mut wire| {
        let answer = wire.element();
        let condition = answer.stream_error()?;
        assert_eq!(condition, "connection-timeout");
        Some(())
    });
    assert_ne!(timed_out.count(), 0);
}

#[test]
fn passwords_of_clients_that_have_gone_are_not_checked() {
    let count = 100;
    let (server, wires) = crowd("30", count);
    for wire in wires {
        wire.cut();
    }
    server.login("alice", "a");
    let log = server.log();
    let checked = log.iter().filter(|line| line.contains("log-in failed"));
    let checked = checked.count();
    assert!(checked < count, "{checked}");
}

// After authentication.

#[test]
fn a_stanza_of_256_kilobytes_is_too_big() {
    let server = server();
    let body = "x".repeat(270_000);
    refused(
        &server,
        &format!("<message to='{BOB}'><body>{body}</body></message>"),
    );
}

#[test]
fn a_stanza_that_never_ends_is_cut_off_at_256_kilobytes() {
    let server = server();
    let body = "x".repeat(270_000);
    refused(&server, &format!("<message to='{BOB}'><body>{body}"));
}

#[test]
fn a_stanza_just_below_256_kilobytes_is_fine() {
    let server = server();
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "b");
    let body = "x".repeat(261_000);
    alice.say(BOB, &body);
    bob.message_with_body(&body);
}

#[test]
fn depth_is_limited() {
    let server = server();
    let deep = |levels: usize| {
        format!(
            "<message to='{BOB}' type='chat'>{}{}</message>",
            "<a>".repeat(levels),
            "</a>".repeat(levels)
        )
    };
    let mut alice = server.login("alice", "ok");
    alice.send(&deep(60));
    alice.settle();
    refused(&server, &deep(70));
    refused(&server, &"<a>".repeat(70));
}

#[test]
fn the_number_of_elements_is_limited() {
    let server = server();
    refused(
        &server,
        &format!("<message to='{BOB}'>{}</message>", "<a/>".repeat(26_000)),
    );
}

#[test]
fn the_number_of_attributes_is_limited() {
    let server = server();
    let attributes: String = (0..70).map(|n| format!(" a{n}='1'")).collect();
    refused(
        &server,
        &format!("<message to='{BOB}'><x{attributes}/></message>"),
    );
}

#[test]
fn the_length_of_names_is_limited() {
    let server = server();
    let name = "n".repeat(2_000);
    refused(&server, &format!("<message to='{BOB}'><{name}/></message>"));
    refused(
        &server,
        &format!("<message to='{BOB}'><x {name}='1'/></message>"),
    );
}

#[test]
fn the_length_of_attributes_is_limited() {
    let server = server();
    let value = "v".repeat(70_000);
    refused(
        &server,
        &format!("<message to='{BOB}'><x y='{value}'/></message>"),
    );
}

#[test]
fn the_limits_are_told_in_the_features() {
    // XEP-0478.
    let server = server();
    let (_, features) = server.stream();
    let limits = features.must("limits", "urn:xmpp:stream-limits:0");
    assert_eq!(limits.must("max-bytes", &limits.ns).text(), "10000");
    let alice = server.authenticated("alice");
    let limits = alice.features.must("limits", "urn:xmpp:stream-limits:0");
    assert_eq!(limits.must("max-bytes", &limits.ns).text(), "262144");
    limits.must("idle-seconds", &limits.ns);
}

// Sessions.

#[test]
fn sessions_of_one_account_are_limited() {
    let server = server_with(&[("limits.sessions_per_account", "2")]);
    let _one = server.login("alice", "one");
    let _two = server.login("alice", "two");
    let mut three = server.authenticated("alice");
    let payload = format!("<bind xmlns='{}'/>", ns::BIND);
    let (kind, condition) = three.iq_error("set", None, &payload);
    assert_eq!(
        (kind.as_str(), condition.as_str()),
        ("wait", "resource-constraint")
    );
}

// Log-ins.

#[test]
fn failed_logins_from_one_address_make_it_wait() {
    let server = server_with(&[
        ("limits.failed_logins_per_address", "4"),
        ("limits.failed_login_forgiven_s", "3600"),
    ]);
    for _ in 0..4 {
        let (mut wire, _) = server.stream();
        wire.send(&client::plain("", "alice", "wrong"));
        assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    }
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    assert_eq!(
        wire.element().sasl_failure(),
        Some("temporary-auth-failure")
    );
}

#[test]
fn failed_logins_to_one_account_do_not_lock_out_another() {
    let server = server_with(&[
        ("limits.failed_logins_per_account", "3"),
        ("limits.failed_login_forgiven_s", "3600"),
        ("limits.failed_logins_per_address", "0"),
    ]);
    for _ in 0..3 {
        let (mut wire, _) = server.stream();
        wire.send(&client::plain("", "alice", "wrong"));
        assert_eq!(wire.element().sasl_failure(), Some("not-authorized"));
    }
    let (mut wire, _) = server.stream();
    wire.send(&client::plain("", "alice", server::PASSWORD));
    let answer = wire.element();
    assert_eq!(
        answer.sasl_failure(),
        Some("temporary-auth-failure"),
        "{answer}"
    );
    server.login("bob", "b");
}

// Silence and slowness.

#[test]
fn a_silent_client_is_asked_and_then_cut_off() {
    let server = server_with(&[("limits.ping_s", "1"), ("limits.ping_answer_s", "1")]);
    let mut alice = server.login("alice", "a");
    times_out(&mut alice);
}

#[test]
fn half_a_stanza_and_then_silence_is_cut_off() {
    let server = server_with(&[("limits.ping_s", "1"), ("limits.ping_answer_s", "1")]);
    let mut alice = server.login("alice", "a");
    alice.send("<message><body>and");
    alice.stanza().must("ping", "urn:xmpp:ping");
    alice.expect_stream_error("connection-timeout");
}

#[test]
fn a_client_that_answers_or_sends_whitespace_stays() {
    let server = server_with(&[("limits.ping_s", "1"), ("limits.ping_answer_s", "1")]);
    let mut alice = server.login("alice", "a");
    for answers in [true, false, true, false] {
        let asked = alice.stanza();
        assert_eq!(asked.attr("type"), Some("get"), "a ping: {asked}");
        asked.must("ping", "urn:xmpp:ping");
        let id = asked.attr("id").expect("an id");
        match answers {
            true => alice.send(&format!("<iq type='result' id='{id}'/>")),
            false => alice.send(" "),
        }
    }
    alice.settle();
}

/// Many big messages to bob, who reads nothing: the socket's buffers fill, then his queue.
const COUNT: u32 = 400;

fn flood(alice: &mut Client, type_: &str) {
    let body = "x".repeat(50_000);
    for n in 0..COUNT {
        alice.say_typed(type_, BOB, &format!("{n} {body}"));
    }
}

/// All of the flood arrives, in order.
#[track_caller]
fn expect_flood(bob: &mut Client) {
    for n in 0..COUNT {
        let message = bob.message();
        let text = message.body().expect("a body");
        assert_eq!(text.split(' ').next(), Some(n.to_string().as_str()));
    }
}

fn server_with_short_queues() -> Server {
    server_with(&[
        ("limits.session_queue_bytes", "524288"),
        ("limits.offline_messages", "2000"),
        ("limits.offline_bytes", "100000000"),
    ])
}

#[test]
fn a_slow_reader_is_cut_off_and_its_messages_are_kept() {
    let server = server_with_short_queues();
    let mut alice = server.login("alice", "a");
    let mut bob = server.login("bob", "slow");
    bob.enable_management(false);
    bob.present(0);
    for n in 0..5 {
        alice.say(BOB, &n.to_string());
    }
    alice.settle();
    // What a client asks for itself has to wait in memory.
    let id = "x".repeat(50_000);
    for _ in 0..COUNT {
        let ping = format!("<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>");
        if bob.try_send_bytes(ping.as_bytes()).is_err() {
            break;
        }
    }
    server.wait_for_log(&["bob@cairn.example/slow", "policy-violation"]);
    drop(bob);
    let mut bob = server.online("bob", "b");
    for n in 0..5 {
        bob.message_with_body(&n.to_string());
    }
    bob.expect_nothing();
}

#[test]
fn a_stranger_cuts_off_nobody_who_reads_slowly() {
    let server = server_with_short_queues();
    let mut alice = server.login("alice", "a");
    let mut bob = server.online("bob", "slow");
    // Headlines are not stored, so they have to wait in memory.
    flood(&mut alice, "headline");
    let errors = alice.settle();
    for error in &errors {
        assert_eq!(error.error(), Some(("wait", "resource-constraint")));
    }
    let headlines = bob.settle();
    assert_eq!(headlines.len() + errors.len(), COUNT as usize);
    assert!(!errors.is_empty() && !headlines.is_empty());
}

#[test]
fn a_slow_reader_finds_what_was_stored_when_it_reads_at_last() {
    let server = server_with_short_queues();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    let mut bob = server.online("bob", "slow");
    flood(&mut alice, "chat");
    assert_eq!(alice.ask_for_ack(), COUNT);
    expect_flood(&mut bob);
    bob.expect_nothing();
}

// What is left of connections that came to nothing.

/// The process's resident memory, in bytes.
fn resident_bytes(server: &Server) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).expect("proc");
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse().ok());
    let pages: u64 = pages.expect("a number of pages");
    pages * 4096
}

#[test]
fn connections_that_are_opened_and_dropped_leave_nothing_behind() {
    let server = server_with(&[("limits.accepts_per_address_per_minute", "0")]);
    let cycle = |rounds: usize| {
        for _ in 0..rounds {
            drop(server.wire());
            let mut half = server.wire();
            half.send("<stream:stream xmlns='jabber:client' xmlns:str");
            half.cut();
            server.tls_wire().cut();
            let (mut wire, _) = server.stream();
            wire.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>");
            wire.cut();
            server.login("alice", "a").cut();
        }
        // All of them are gone once the server answers another client.
        server.login("alice", "a").settle();
    };
    cycle(20);
    let before = resident_bytes(&server);
    cycle(100);
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more after 500 connections");
}
