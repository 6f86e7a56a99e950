//! What is kept over stops, kills and the commands of the operator.

use crate::support::*;

const BOB: &str = "bob@cairn.example";

#[test]
fn everything_is_still_there_after_an_orderly_restart() {
    let mut server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    alice.say(BOB, "while you were away");
    alice.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:roster'><item jid='bob@cairn.example' name='Bob'/></query>",
    );
    server.stop();
    server.run();
    let mut alice = server.online("alice", "a");
    assert_eq!(alice.roster()[0].attr("name"), Some("Bob"));
    server
        .online("bob", "b")
        .message_with_body("while you were away");
}

#[test]
fn an_iq_result_is_durable_when_it_comes() {
    let mut server = Server::start();
    server.add("alice");
    for round in 0..5 {
        let mut alice = server.login("alice", "a");
        alice.iq_ok(
            "set",
            None,
            &format!(
                "<query xmlns='jabber:iq:roster'>\
                 <item jid='contact{round}@x.example'/></query>"
            ),
        );
        server.kill();
        server.run();
        let mut alice = server.login("alice", "a");
        assert_eq!(alice.roster().len(), round + 1);
    }
}

#[test]
fn an_account_added_while_the_server_runs_survives_a_kill() {
    let mut server = Server::start();
    server.add("alice");
    server.kill();
    server.run();
    server.login("alice", "a");
}

#[test]
fn accounts_can_be_kept_while_the_server_is_stopped() {
    let mut server = Server::prepare(&[]);
    server.add("alice");
    server.add("bob");
    server.cli(&["user", "remove", BOB], "");
    assert_eq!(
        server.cli(&["user", "list"], "").trim(),
        "alice@cairn.example"
    );
    server.run();
    assert_eq!(
        server.cli(&["user", "list"], "").trim(),
        "alice@cairn.example"
    );
    server.login("alice", "a");
}

#[test]
fn an_account_cannot_be_added_twice() {
    let server = Server::start();
    server.add("alice");
    let again = server.cli_with_input(
        &["user", "add", "--password-stdin", "ALICE@cairn.example"],
        "another\n",
    );
    assert!(!again.status.success());
    server.login("alice", "a");
}

#[test]
fn an_account_of_another_domain_or_a_malformed_one_is_refused() {
    let server = Server::start();
    for jid in [
        "alice@other.example",
        "a b@cairn.example",
        "alice@cairn.example/r",
    ] {
        let output = server.cli_with_input(&["user", "add", "--password-stdin", jid], "secretly\n");
        assert!(!output.status.success(), "{jid}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !said.trim().is_empty() && !said.contains("panicked"),
            "{jid}: {said}"
        );
    }
}

#[test]
fn the_store_verifies_after_a_kill_and_tells_what_is_in_it() {
    let mut server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    alice.enable_management(false);
    for n in 0..50 {
        alice.say(BOB, &n.to_string());
    }
    assert_eq!(alice.ask_for_ack(), 50);
    server.kill();
    server.cli(&["store", "verify"], "");
    server.cli(&["store", "stat"], "");
    server.run();
    assert_eq!(server.online("bob", "b").settle().len(), 50);
}

#[test]
fn a_compacted_store_holds_the_same() {
    let mut server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.login("alice", "a");
    for n in 0..20 {
        alice.say(BOB, &n.to_string());
    }
    alice.settle();
    server.stop();
    server.cli(&["store", "compact"], "");
    server.cli(&["store", "verify"], "");
    server.run();
    let mut bob = server.online("bob", "b");
    for n in 0..20 {
        bob.message_with_body(&n.to_string());
    }
    bob.expect_nothing();
}

#[test]
fn what_was_exported_can_be_imported_elsewhere() {
    let mut server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    let mut bob = server.online("bob", "b");
    alice.befriend(&mut bob);
    alice.iq_ok(
        "set",
        None,
        "<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>",
    );
    bob.log_out();
    alice.say(BOB, "kept");
    alice.settle();
    server.stop();
    let exported = server.cli(&["store", "export"], "");
    assert!(exported.contains("urn:xmpp:pie:0"), "{exported}");
    let mut other = Server::prepare(&[]);
    let path = other.directory().join("export.xml");
    std::fs::write(&path, &exported).expect("ours");
    other.cli(&["store", "import", path.to_str().expect("UTF-8")], "");
    other.run();
    // The password still works, so keys were exported; nothing else is missing.
    let mut alice = other.login("alice", "a");
    assert_eq!(alice.subscription_to(BOB), "both");
    let card = alice.iq_ok("get", None, "<vCard xmlns='vcard-temp'/>");
    let name = card.must("vCard", "vcard-temp").must("FN", "vcard-temp");
    assert_eq!(name.text(), "Alice");
    let mut bob = other.online("bob", "b");
    bob.message_with_body("kept");
}

#[test]
fn two_servers_never_share_a_store() {
    let server = Server::start();
    let output = server.cli_with_input(&["serve"], "");
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("store"), "{said}");
}

#[test]
fn what_a_command_cannot_read_is_not_blamed_on_the_server() {
    let server = Server::start();
    let output = server.cli_with_input(&["store", "import", "."], "");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the input cannot be read: Is a"), "{said}");
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_the_nearest_key() {
    let mut server = Server::prepare(&[]);
    server.set("limits.stanza_byte", "1");
    let output = server.cli_with_input(&["config", "check"], "");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stanza_bytes"), "{said}");
}

#[test]
fn the_default_configuration_is_a_valid_one() {
    let server = Server::prepare(&[]);
    let defaults = server.cli(&["config", "defaults"], "");
    let path = server.directory().join("defaults.toml");
    std::fs::write(&path, defaults).expect("ours");
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_cairn"));
    let output = check
        .arg("--config")
        .arg(&path)
        .args(["config", "check"])
        .output();
    let output = output.expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
