//! Clients that write and do not read: what is said to them in return is bounded.

use crate::support::*;

/// Sends this again and again, reads nothing, and expects to be cut off for that.
#[track_caller]
fn is_cut_off(server: &Server, wire: &mut Wire, xml: &str) {
    let portion = xml.repeat(64);
    let said = || {
        let log = server.log();
        log.iter()
            .any(|line| line.contains("policy-violation") && line.contains("read"))
    };
    // Much more than the kernel's buffers hold of what is sent and of the replies.
    let portions = (32 << 20) / portion.len();
    let mut tries = 0..portions;
    // A full socket means as well that the server has got enough: it is told by its log then.
    let moment = Some(std::time::Duration::from_millis(200));
    wire.socket().set_write_timeout(moment).expect("a socket");
    let refused = tries.any(|_| said() || wire.try_send_bytes(portion.as_bytes()).is_err());
    assert!(refused, "the server took {portions} portions of {xml}");
    server.wait_for_log(&["policy-violation", "read"]);
}

fn server() -> Server {
    let server = Server::start();
    server.add("alice");
    server
}

#[test]
fn replies_before_binding_that_are_not_read_are_bounded() {
    let server = server();
    let mut alice = server.authenticated("alice");
    is_cut_off(
        &server,
        &mut alice,
        "<iq type='get' id='1'><x xmlns='y'/></iq>",
    );
}

#[test]
fn answers_to_a_count_without_stream_management_that_are_not_read_are_bounded() {
    let server = server();
    let mut alice = server.login("alice", "a");
    is_cut_off(&server, &mut alice, "<r xmlns='urn:xmpp:sm:3'/>");
}

#[test]
fn answers_to_session_requests_that_are_not_read_are_bounded() {
    let server = server();
    let mut alice = server.login("alice", "a");
    let request = format!(
        "<iq type='set' id='1'><session xmlns='{}'/></iq>",
        ns::SESSION
    );
    is_cut_off(&server, &mut alice, &request);
}

#[test]
fn counts_that_are_not_read_are_bounded() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    is_cut_off(&server, &mut alice, "<r xmlns='urn:xmpp:sm:3'/>");
}

#[test]
fn one_question_for_the_count_is_on_its_way_at_a_time() {
    let server = server();
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    alice.settle();
    // It follows the answer.
    alice.settle();
    assert!(alice.asked > 0);
    alice.asked = 0;
    // All in one TLS record: the server handles them in one go.
    let answer = format!("<a xmlns='{}' h='0'/>", ns::SM);
    alice.send(&answer.repeat(50));
    alice.settle();
    assert!(
        (1..=3).contains(&alice.asked),
        "asked {} times",
        alice.asked
    );
}
