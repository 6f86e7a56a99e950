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
