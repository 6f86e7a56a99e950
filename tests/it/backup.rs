//! Backups: everything that a server keeps, out of it and into another.

use std::fs;

use crate::admin::{outside, outside_refused, server, token};
use crate::support::http::{basic, bearer};
use crate::support::server::PASSWORD;
use crate::support::*;

pub const ALICE: &str = "alice@cairn.example";
pub const PHRASE: &str = "a long passphrase\n";

/// What is kept of `alice` and `bob`: a roster, a waiting message.
fn filled() -> Server {
    let server = server();
    fill(&server);
    server
}

/// Makes it.
pub fn fill(server: &Server) {
    server.add("bob");
    let mut alice = server.online("alice", "a");
    let item = "<query xmlns='jabber:iq:roster'><item jid='bob@cairn.example' name='Bob &amp; co'>\
                <group>Friends</group></item></query>";
    alice.iq_ok("set", None, item);
    alice.say("bob@cairn.example", "read this after the restore");
    alice.settle();
}

/// A file with the passphrase, and the path of the backup, both as arguments.
pub fn files(server: &Server, phrase: &str) -> [String; 2] {
    let file = |name: &str| {
        server
            .directory()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    let path = file("phrase");
    fs::write(&path, phrase).expect("the directory is ours");
    [path, file("cairn.backup")]
}

/// Everything that `filled` made is there.
#[track_caller]
pub fn is_whole(server: &Server) {
    let mut bob = Client::authenticate(server.tls_wire(), "bob", PASSWORD);
    bob.bind(None);
    bob.present(0);
    bob.message_with_body("read this after the restore");
    let mut alice = server.login("alice", "a");
    let query = alice.iq_ok("get", None, "<query xmlns='jabber:iq:roster'/>");
    assert!(query.to_string().contains("name='Bob & co'"), "{query}");
    let fields = basic(ALICE, PASSWORD);
    assert_eq!(
        server.http().ask("GET", "/admin/store", &fields, "").status,
        200
    );
}

#[test]
fn a_backup_taken_from_outside_is_a_whole_server_again_elsewhere() {
    let old = filled();
    let token = token(&old);
    let [phrase, backup] = files(&old, PHRASE);
    let take = ["backup", "--passphrase-file", &phrase, &backup];
    outside(&old, &token, &take, "");
    let file = fs::read(&backup).expect("it is written");
    assert!(
        !file.windows(5).any(|part| part == b"alice"),
        "it is encrypted"
    );
    let again = outside_refused(&old, &token, &take, "");
    assert!(again.contains("there already"), "{again}");

    let mut new = Server::prepare(&[("listen.https", "[\"127.0.0.1:0\"]")]);
    let said = new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(
        said.contains("2 accounts with 1 waiting messages"),
        "{said}"
    );
    new.run();
    is_whole(&new);
    assert_eq!(new.fingerprint(), old.fingerprint());
    let status = new
        .http()
        .ask("GET", "/admin/store", &bearer(&token), "")
        .status;
    assert_eq!(status, 200);
    // There is somebody now.
    let output = new.cli_with_input(&["restore", "--passphrase-file", &phrase, &backup], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("into an empty store"), "{said}");
}

#[test]
fn a_backup_taken_here_is_the_same_whether_the_server_runs_or_not() {
    let mut old = filled();
    for is_stopped in [false, true] {
        let [phrase, backup] = files(&old, PHRASE);
        old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
        let mut new = Server::prepare(&[("listen.https", "[\"127.0.0.1:0\"]")]);
        new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
        new.run();
        is_whole(&new);
        if !is_stopped {
            old.stop();
            fs::remove_file(&backup).expect("it is written");
        }
    }
}

#[test]
fn nothing_is_restored_of_a_file_that_is_not_whole_or_of_another_passphrase() {
    let old = filled();
    let [phrase, backup] = files(&old, PHRASE);
    old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    let whole = fs::read(&backup).expect("it is written");
    let new = Server::prepare(&[]);
    let refused = |phrase: &str| {
        let output = new.cli_with_input(&["restore", "--passphrase-file", phrase, &backup], "");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("passphrase is wrong"), "{said}");
        assert_eq!(new.cli(&["user", "list"], ""), "");
    };
    fs::write(&backup, &whole[..whole.len() - 1]).expect("the directory is ours");
    refused(&phrase);
    fs::write(&backup, &whole).expect("the directory is ours");
    let [other, _] = files(&old, "another passphrase\n");
    refused(&other);
}

#[test]
fn a_weak_passphrase_and_another_domain_are_refused() {
    let old = filled();
    let [phrase, backup] = files(&old, "short\n");
    let output = old.cli_with_input(&["backup", "--passphrase-file", &phrase, &backup], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("12 characters"));
    let [phrase, backup] = files(&old, PHRASE);
    old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    let new = Server::prepare(&[("domain", "\"other.example\"")]);
    let output = new.cli_with_input(&["restore", "--passphrase-file", &phrase, &backup], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("change `domain`"), "{said}");
}

#[test]
fn a_version_of_the_roster_from_before_a_restore_means_nothing_afterwards() {
    let old = filled();
    let mut alice = old.login("alice", "a");
    let ver = |result: &Element| {
        let query = result.must("query", ns::ROSTER);
        query.attr("ver").expect("a version").to_owned()
    };
    let before = ver(&alice.iq_ok("get", None, "<query xmlns='jabber:iq:roster'/>"));
    let [phrase, backup] = files(&old, PHRASE);
    old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    let mut new = Server::prepare(&[]);
    new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    new.run();
    let mut alice = new.login("alice", "a");
    let since = format!("<query xmlns='jabber:iq:roster' ver='{before}'/>");
    let result = alice.iq_ok("get", None, &since);
    let items = result.must("query", ns::ROSTER).children().count();
    assert_eq!(items, 1, "the whole roster: {result}");
    assert_ne!(ver(&result), before);
}

#[test]
fn a_backup_goes_on_behind_an_account_of_the_same_store() {
    let server = filled();
    let token = token(&server);
    let mut http = server.http();
    let mut frames = |path: &str| http.stream("GET", path, &bearer(&token));
    let holds = |frames: &[u8], text: &str| {
        frames
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let all = frames("/admin/backup");
    assert!(holds(&all, "<user name='alice'") && holds(&all, "self-signed-key"));
    let length = all[1..5]
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let head: serde_json::Value = serde_json::from_slice(&all[5..5 + length]).expect("JSON");
    let (store, begun) = (&head["store"].as_str().expect("a name"), &head["begun_ms"]);
    let behind = "/admin/backup?after=alice%40cairn.example";
    let rest = frames(&format!("{behind}&store={store}&begun={begun}"));
    assert_eq!(rest[0], b'r', "it goes on");
    assert!(!holds(&rest, "<user name='alice'") && holds(&rest, "<user name='bob'"));
    // What the server keeps for itself is that of the end.
    assert!(holds(&rest, "self-signed-key"));
    for (other, why) in [
        (format!("{behind}&store=ab&begun={begun}"), "another store"),
        (format!("{behind}&store={store}&begun=1"), "more than a day"),
    ] {
        let anew = frames(&other);
        assert!(holds(&anew, why) && holds(&anew, "<user name='alice'"));
    }
    assert_eq!(
        server.http().ask("GET", "/admin/backup", "", "").status,
        401
    );
}

#[cfg(debug_assertions)]
#[test]
fn a_machine_that_nobody_has_claimed_takes_a_backup_by_its_code() {
    let old = filled();
    let [phrase, backup] = files(&old, PHRASE);
    old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    let new = crate::admin_machine::machine();
    let code = fs::read_to_string(new.directory().join("code")).expect("it was shown");
    let with = |code| {
        [
            "restore",
            "--passphrase-file",
            &phrase,
            &backup,
            "--code",
            code,
        ]
    };
    let said = outside_refused(&new, "", &with("AAAA-AAAA-AAAA-AAAA"), "");
    assert!(said.contains("not the code"), "{said}");
    let said = outside(&new, "", &with(&code), "");
    assert!(said.contains("2 accounts"), "{said}");
    is_whole(&new);
    let said = outside_refused(&new, "", &with(&code), "");
    assert!(said.contains("cannot be claimed"), "{said}");
}
