//! External components (XEP-0114): one that the test plays, and slixmpp's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::support::client::presences;
use crate::support::python::interpreter;
use crate::support::*;

const COMPONENT: &str = "jabber:component:accept";
const GATEWAY: &str = "gateway.cairn.example";
const OTHER: &str = "other.example";
const COMPONENTS: &str = "[{ domain = \"gateway.cairn.example\", secret = \"sesame\" }, \
    { domain = \"other.example\", secret_file = \"other.secret\" }]";

/// A server with two components and Alice.
fn server_with(settings: &[(&str, &str)]) -> Server {
    let mut server = Server::prepare(&[
        ("listen.component", "[\"127.0.0.1:0\"]"),
        ("component", COMPONENTS),
    ]);
    for (key, value) in settings {
        server.set(key, value);
    }
    let secret = server.directory().join("other.secret");
    std::fs::write(secret, "open\n").expect("the directory is ours");
    server.run();
    server.add("alice");
    server
}

fn server() -> Server {
    server_with(&[])
}

fn address(server: &Server) -> SocketAddr {
    server.component()
}

/// A stream whose header was answered; the id that it got.
#[track_caller]
fn opened(server: &Server, domain: &str) -> (Wire, String) {
    let mut wire = Wire::connect(address(server));
    wire.send(&header(domain));
    let header = wire.header();
    assert_eq!(header.attr("from"), Some(domain));
    let id = header.attr("id").expect("it has one").to_owned();
    (wire, id)
}

fn header(domain: &str) -> String {
    format!(
        "<stream:stream xmlns='{COMPONENT}' xmlns:stream='{}' to='{domain}'>",
        ns::STREAM
    )
}

fn handshake(id: &str, secret: &str) -> String {
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{id}{secret}").as_bytes(),
    );
    let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("<handshake>{}</handshake>", hex.collect::<String>())
}

/// A component that is connected.
#[track_caller]
fn connected(server: &Server, domain: &str, secret: &str) -> Wire {
    let (mut wire, id) = opened(server, domain);
    wire.send(&handshake(&id, secret));
    let answer = wire.element();
    assert!(answer.is("handshake", COMPONENT), "{answer}");
    wire
}

fn gateway(server: &Server) -> Wire {
    connected(server, GATEWAY, "sesame")
}

fn other(server: &Server) -> Wire {
    connected(server, OTHER, "open")
}

// The stream.

#[test]
fn a_wrong_secret_is_not_authorized_and_too_many_are_throttled() {
    let server = server_with(&[("limits.failed_logins_per_address", "3")]);
    for _ in 0..3 {
        let (mut wire, id) = opened(&server, GATEWAY);
        wire.send(&handshake(&id, "wrong"));
        wire.expect_stream_error("not-authorized");
    }
    let (mut wire, id) = opened(&server, GATEWAY);
    wire.send(&handshake(&id, "sesame"));
    wire.expect_stream_error("policy-violation");
}

#[test]
fn a_domain_that_is_no_component_is_unknown() {
    let server = server();
    for domain in ["nobody.example", DOMAIN] {
        let mut wire = Wire::connect(address(&server));
        wire.send(&header(domain));
        wire.expect_stream_error("host-unknown");
    }
}

#[test]
fn a_client_is_no_component() {
    let server = server();
    let mut wire = Wire::connect(address(&server));
    wire.send_header();
    wire.expect_stream_error("invalid-namespace");
}

#[test]
fn the_second_connection_of_a_component_is_a_conflict_and_the_first_goes_on() {
    let server = server();
    let mut first = gateway(&server);
    let (mut second, id) = opened(&server, GATEWAY);
    second.send(&handshake(&id, "sesame"));
    second.expect_stream_error("conflict");
    let mut alice = server.online("alice", "a");
    alice.say("x@gateway.cairn.example", "still there?");
    assert_eq!(first.element().attr("to"), Some("x@gateway.cairn.example"));
    // When it has gone there is room again.
    first.send("</stream:stream>");
    first.expect_end();
    gateway(&server);
}

#[test]
fn a_from_of_somebody_else_ends_the_stream() {
    let server = server();
    for from in ["alice@cairn.example", "x@other.example", "cairn.example"] {
        let mut wire = gateway(&server);
        wire.send(&format!(
            "<message from='{from}' to='alice@cairn.example'><body>x</body></message>"
        ));
        wire.expect_stream_error("invalid-from");
        server.wait_for_log(&["invalid-from"]);
    }
    let mut wire = gateway(&server);
    wire.send("<message to='alice@cairn.example'><body>x</body></message>");
    wire.expect_stream_error("invalid-from");
}

#[test]
fn a_stanza_for_nobody_is_a_bad_request_and_the_stream_goes_on() {
    let server = server();
    let mut wire = gateway(&server);
    wire.send("<message from='x@gateway.cairn.example' id='1'><body>x</body></message>");
    let answer = wire.element();
    assert_eq!(answer.error_in(COMPONENT), Some(("modify", "bad-request")));
    wire.send("<iq from='gateway.cairn.example' to='@' type='get' id='2'><q xmlns='u'/></iq>");
    let answer = wire.element();
    assert_eq!(
        answer.error_in(COMPONENT),
        Some(("modify", "jid-malformed"))
    );
    // An error is not answered; what is asked behind it is.
    wire.send("<message type='error' from='x@gateway.cairn.example' id='3'/>");
    ping(&mut wire, GATEWAY, DOMAIN);
}

/// The server answers a component.
#[track_caller]
fn ping(wire: &mut Wire, from: &str, to: &str) {
    wire.send(&format!(
        "<iq type='get' id='ping' from='{from}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
    ));
    let answer = wire.element();
    assert_eq!(answer.attr("id"), Some("ping"), "{answer}");
    assert_eq!(answer.attr("type"), Some("result"), "{answer}");
    assert_eq!(answer.attr("to"), Some(from));
}

#[test]
fn who_shakes_no_hands_is_ended() {
    let server = server_with(&[("limits.authentication_s", "1")]);
    let (mut wire, _) = opened(&server, GATEWAY);
    wire.expect_stream_error("connection-timeout");
}

#[test]
fn a_component_is_told_that_the_server_stops() {
    let mut server = server();
    let mut wire = gateway(&server);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    wire.expect_stream_error("system-shutdown");
    drop(wire);
    assert!(server.wait_for_exit().success());
}

// Routing.

#[test]
fn all_of_a_domain_is_the_components() {
    let server = server();
    let mut wire = gateway(&server);
    let mut alice = server.online("alice", "a");
    for to in [
        GATEWAY,
        "x@gateway.cairn.example",
        "gateway.cairn.example/r",
    ] {
        alice.say(to, "hello");
        let message = wire.element();
        assert!(message.is("message", COMPONENT), "{message}");
        assert_eq!(message.attr("to"), Some(to));
        assert_eq!(message.attr("from"), Some("alice@cairn.example/a"));
        wire.send(&format!(
            "<message from='{to}' to='alice@cairn.example/a' type='chat'><body>back</body></message>"
        ));
        assert_eq!(alice.message_with_body("back").attr("from"), Some(to));
    }
    wire.send("<iq type='get' id='q' from='gateway.cairn.example' to='nobody@cairn.example/r'><q xmlns='u'/></iq>");
    let answer = wire.element();
    assert_eq!(
        answer.error_in(COMPONENT),
        Some(("cancel", "service-unavailable"))
    );
}

#[test]
fn requests_go_both_ways() {
    let server = server();
    let mut wire = gateway(&server);
    let mut alice = server.online("alice", "a");
    alice.send(
        "<iq type='get' id='v' to='gateway.cairn.example'><query xmlns='jabber:iq:version'/></iq>",
    );
    let asked = wire.element();
    assert!(asked.is("iq", COMPONENT), "{asked}");
    wire.send("<iq type='result' id='v' from='gateway.cairn.example' to='alice@cairn.example/a'/>");
    assert_eq!(alice.answer("v").attr("type"), Some("result"));
    ping(&mut wire, "x@gateway.cairn.example/r", DOMAIN);
}

#[test]
fn while_no_component_is_connected_its_users_are_told_to_try_again() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let absent = ("wait".to_owned(), "remote-server-timeout".to_owned());
    assert_eq!(
        alice.iq_error("get", Some(GATEWAY), "<q xmlns='u'/>"),
        absent
    );
    alice.send("<message id='m' type='chat' to='x@gateway.cairn.example'><body>x</body></message>");
    let bounced = alice.message();
    assert_eq!(bounced.error(), Some(("wait", "remote-server-timeout")));
    assert_eq!(bounced.attr("id"), Some("m"));
    alice.send("<message type='error' id='e' to='x@gateway.cairn.example'/>");
    alice.expect_nothing();
}

#[test]
fn components_talk_with_each_other() {
    let server = server();
    let (mut one, mut two) = (gateway(&server), other(&server));
    one.send(
        "<message from='x@gateway.cairn.example' to='y@other.example'><body>1</body></message>",
    );
    let message = two.element();
    assert_eq!(message.attr("from"), Some("x@gateway.cairn.example"));
    two.send("<presence from='y@other.example' to='x@gateway.cairn.example' type='subscribe'/>");
    let presence = one.element();
    assert!(presence.is("presence", COMPONENT), "{presence}");
    assert_eq!(presence.attr("type"), Some("subscribe"));
    two.send("</stream:stream>");
    two.expect_end();
    server.wait_for_log(&["a component has left"]);
    one.send(
        "<iq type='get' id='q' from='gateway.cairn.example' to='other.example'><q xmlns='u'/></iq>",
    );
    let answer = one.element();
    assert_eq!(
        answer.error_in(COMPONENT),
        Some(("wait", "remote-server-timeout"))
    );
    assert_eq!(answer.attr("from"), Some(OTHER));
}

#[test]
fn a_server_by_itself_keeps_its_components_by_itself() {
    let server = server();
    let mut wire = gateway(&server);
    wire.send(
        "<iq type='get' id='q' from='gateway.cairn.example' to='far.example'><q xmlns='u'/></iq>",
    );
    let answer = wire.element();
    assert_eq!(
        answer.error_in(COMPONENT),
        Some(("cancel", "remote-server-not-found"))
    );
}

#[test]
fn the_server_lists_the_components_that_are_connected() {
    let server = server();
    let mut alice = server.online("alice", "a");
    let query = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let items = |alice: &mut Client| -> Vec<String> {
        let answer = alice.iq_ok("get", Some(DOMAIN), &query);
        let items = answer.must("query", ns::DISCO_ITEMS).children();
        let jid = |item: &Element| item.attr("jid").expect("it has one").to_owned();
        items.map(jid).collect()
    };
    assert!(items(&mut alice).is_empty());
    let _wire = other(&server);
    assert_eq!(items(&mut alice), [OTHER]);
}

#[test]
fn a_message_that_was_acknowledged_waits_over_a_crash_for_the_component() {
    let mut server = server();
    let mut wire = Wire::connect_with_little_room(address(&server));
    wire.send(&header(GATEWAY));
    let id = wire.header().attr("id").expect("it has one").to_owned();
    wire.send(&handshake(&id, "sesame"));
    assert!(wire.element().is("handshake", COMPONENT));
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    // More than the kernel takes for somebody who does not read.
    let body = "x".repeat(100_000);
    let sent = 12;
    for number in 0..sent {
        alice.say("x@gateway.cairn.example", &format!("{number} {body}"));
    }
    assert_eq!(alice.ask_for_ack(), sent);
    server.kill();
    drop((alice, wire));
    server.run();
    let mut wire = gateway(&server);
    // What the kernel had taken counts as delivered. The last one it had not.
    loop {
        let message = wire.element();
        let said = message.must("body", COMPONENT).text();
        if said.starts_with(&format!("{} ", sent - 1)) {
            break;
        }
    }
}

#[test]
fn a_component_that_does_not_read_is_cut_off_and_what_waited_comes_back() {
    let server = server_with(&[
        ("limits.outbound_bytes", "4194304"),
        ("limits.session_queue_bytes", "1048576"),
    ]);
    let wire = gateway(&server);
    let mut alice = server.login("alice", "a");
    let body = "x".repeat(20_000);
    for number in 0..400 {
        alice.send(&format!(
            "<message id='m{number}' type='chat' to='x@gateway.cairn.example'><body>{body}</body></message>"
        ));
        if server
            .log()
            .iter()
            .any(|line| line.contains("you read too slowly"))
        {
            break;
        }
    }
    server.wait_for_log(&["policy-violation", "you read too slowly"]);
    // What did not fit is refused, and then what had waited comes back.
    let mut bounced = Vec::new();
    while !bounced
        .iter()
        .any(|condition| condition == "remote-server-timeout")
    {
        let message = alice.message();
        let (type_, condition) = message.error().expect("it is an error");
        assert_eq!(type_, "wait");
        bounced.push(condition.to_owned());
    }
    drop(wire);
    gateway(&server);
}

#[test]
fn a_component_that_floods_is_served_and_others_are_too() {
    let server = server();
    let mut wire = gateway(&server);
    let mut alice = server.online("alice", "a");
    let flood = "<message from='x@gateway.cairn.example' to='nobody@cairn.example' type='error'/>";
    wire.send(&flood.repeat(20_000));
    alice.iq_ok("get", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>");
    ping(&mut wire, GATEWAY, DOMAIN);
}

// The configuration.

#[test]
fn a_configuration_that_cannot_be_meant_is_refused() {
    for (components, why) in [
        ("[{ domain = \"x.example\" }]", "needs a secret"),
        (
            "[{ domain = \"x.example\", secret = \"\" }]",
            "needs a secret",
        ),
        (
            "[{ domain = \"cairn.example\", secret = \"s\" }]",
            "own domain",
        ),
        (
            "[{ domain = \"a@x.example\", secret = \"s\" }]",
            "no domain",
        ),
        (
            "[{ domain = \"x.example\", secret = \"s\" }, { domain = \"X.example\", secret = \"s\" }]",
            "twice",
        ),
    ] {
        let server = Server::prepare(&[("component", components)]);
        let output = server.command(&["serve"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
    let missing = "[{ domain = \"x.example\", secret_file = \"absent\" }]";
    let server = Server::prepare(&[("component", missing)]);
    let output = server.command(&["serve"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("secret_file"),
        "{said}"
    );
}

#[test]
fn a_listener_for_other_machines_is_warned_of() {
    let server = server_with(&[("listen.component", "[\"0.0.0.0:0\"]")]);
    server.wait_for_log(&["WARN", "XEP-0114 has no TLS"]);
}

// slixmpp.

/// slixmpp as a component.
struct Slixmpp {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Slixmpp {
    fn start(server: &Server, secret: &str) -> Option<Slixmpp> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/component.py");
        let mut child = Command::new(interpreter()?)
            .args([script, "127.0.0.1", &address(server).port().to_string()])
            .args([GATEWAY, secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let out = child.stdout.take().expect("it is piped");
        let lines = Box::new(BufReader::new(out).lines().map_while(Result::ok));
        Some(Slixmpp { child, lines })
    }

    /// Reads on until it tells this.
    #[track_caller]
    fn tells(&mut self, line: &str) {
        let told = self.lines.by_ref().any(|told| told == line);
        assert!(told, "it ended and had not told {line:?}");
    }
}

impl Drop for Slixmpp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn slixmpp_repeats_what_it_is_told() {
    let server = server();
    let Some(mut gateway) = Slixmpp::start(&server, "sesame") else {
        return;
    };
    gateway.tells("connected");
    let mut alice = server.online("alice", "a");
    alice.say("echo@gateway.cairn.example", "Is this &lt;real&gt;?");
    let heard = alice.message_with_body("Is this <real>?");
    assert_eq!(heard.attr("from"), Some("echo@gateway.cairn.example"));
    let info = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let answer = alice.iq_ok("get", Some(GATEWAY), &info);
    assert!(
        !answer
            .must("query", ns::DISCO_INFO)
            .all("feature", ns::DISCO_INFO)
            .is_empty()
    );
}

#[test]
fn slixmpp_with_a_wrong_secret_is_refused() {
    let server = server();
    let Some(mut gateway) = Slixmpp::start(&server, "wrong") else {
        return;
    };
    gateway.tells("refused not-authorized");
}

#[test]
fn slixmpp_and_a_user_become_contacts_and_see_each_other_come_and_go() {
    let server = server();
    let Some(mut gateway) = Slixmpp::start(&server, "sesame") else {
        return;
    };
    gateway.tells("connected");
    let contact = "bob@gateway.cairn.example";
    let mut alice = server.login("alice", "a");
    alice.roster();
    alice.present(0);
    alice.presence_to("subscribe", contact);
    gateway.tells("subscribe alice@cairn.example bob@gateway.cairn.example");
    let mut seen = Vec::new();
    while !has(&seen, "subscribe", contact)
        || !has(&seen, "available", "bob@gateway.cairn.example/gateway")
    {
        seen.push(alice.stanza());
    }
    alice.presence_to("subscribed", contact);
    gateway.tells("subscribed alice@cairn.example bob@gateway.cairn.example");
    gateway.tells("available alice@cairn.example/a bob@gateway.cairn.example");
    alice.settle();
    assert_eq!(alice.subscription_to(contact), "both");
    alice.send("<presence type='unavailable'/>");
    gateway.tells("unavailable alice@cairn.example/a bob@gateway.cairn.example");
    // The probe is answered.
    alice.send("<presence/>");
    gateway.tells("available alice@cairn.example/a bob@gateway.cairn.example");
    let mut seen = Vec::new();
    while !has(&seen, "available", "bob@gateway.cairn.example/gateway") {
        seen.push(alice.stanza());
    }
}

/// Whether a presence of this type from this address is among these.
fn has(seen: &[Element], type_: &str, from: &str) -> bool {
    presences(seen).contains(&(type_, from))
}
