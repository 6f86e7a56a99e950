//! Backups and restores that are broken off in the middle, and a machine that knows nothing yet.
//! The machine is a pretended one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::admin::{outside, outside_refused, server, token};
use crate::admin_machine::machine;
use crate::backup::{ALICE, PHRASE, files, fill, is_whole};
use crate::support::gate::{Gate, Way};
use crate::support::http::{basic, bearer};
use crate::support::server::PASSWORD;
use crate::support::wire::PATIENCE;
use crate::support::*;

/// Accounts beside `alice` and `bob`, and bytes of what each has.
const OTHERS: usize = 16;
const VCARD_BYTES: usize = 120_000;

/// Accounts that are too many bytes for one write.
fn import_others(server: &Server) {
    let mut text = "<server-data xmlns='urn:xmpp:pie:0'><host jid='cairn.example'>".to_owned();
    for number in 0..OTHERS {
        let _ = write!(
            text,
            "<user name='u{number:02}' password='{PASSWORD}'><vCard xmlns='vcard-temp'>\
             <NOTE>{}</NOTE></vCard></user>",
            "x".repeat(VCARD_BYTES)
        );
    }
    text.push_str("</host></server-data>");
    server.cli(&["store", "import", "-"], &text);
}

/// A server with all of them.
fn filled() -> Server {
    let server = server();
    fill(&server);
    import_others(&server);
    server
}

/// `cairn --server` with this, by another way.
fn through(gate: &Gate, server: &Server, token: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command
        .current_dir(server.directory())
        .env("CAIRN_TOKEN", token)
        .args(["--server", &format!("https://{}", gate.address)])
        .args(["--pin", &server.fingerprint()])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// The backup of a server, and the file of its passphrase.
fn backed_up(server: &Server) -> [String; 2] {
    let [phrase, backup] = files(server, PHRASE);
    server.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    [phrase, backup]
}

fn code(server: &Server) -> String {
    fs::read_to_string(server.directory().join("code")).expect("it was shown")
}

/// The vCard of one of the others.
#[track_caller]
fn has_vcard(server: &Server, number: usize) {
    let name = format!("u{number:02}");
    let mut client = server.login(&name, "a");
    let card = client.iq_ok("get", None, "<vCard xmlns='vcard-temp'/>");
    let text = card.to_string();
    assert!(
        text.contains("<NOTE>") && text.len() > VCARD_BYTES,
        "{number}"
    );
}

/// Takes the backup of a server until some of it has come, and is killed then.
fn break_off(old: &Server, token: &str, take: &[&str], part: &Path) {
    let gate = Gate::to(old.https(), Way::Down, 700_000);
    let client = through(&gate, old, token, take);
    gate.wait_until_shut();
    // It has taken what came, but for what the encryption gathers.
    let until = Instant::now() + PATIENCE;
    while fs::metadata(part).map_or(0, |metadata| metadata.len()) < 400_000 {
        assert!(Instant::now() < until, "little was written");
    }
    kill(client);
}

#[test]
fn a_backup_whose_command_was_killed_is_gone_on_with_by_the_next() {
    let old = filled();
    let token = token(&old);
    let [phrase, backup] = files(&old, PHRASE);
    let part = old.directory().join("cairn.backup.part");
    let take = ["backup", "--passphrase-file", &phrase, &backup];
    break_off(&old, &token, &take, &part);
    let bytes = fs::read(&part).expect("it stays");
    for secret in [&b"alice"[..], b"cairn.example", b"NOTE"] {
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "what is needed to go on is encrypted too"
        );
    }
    // By another passphrase it is not gone on with, and nothing of it is lost.
    let [other, _] = files(&old, "another passphrase\n");
    let with_other = ["backup", "--passphrase-file", &other, &backup];
    let said = outside_refused(&old, &token, &with_other, "");
    assert!(
        said.contains("is not the one that it was begun with"),
        "{said}"
    );
    // Nor where the server is not reached.
    let [phrase, _] = files(&old, PHRASE);
    let nobody = outside_refused(&old, "cairn_nobody", &take, "");
    assert!(
        nobody.contains("worth nothing") && nobody.contains("goes on with it"),
        "{nobody}"
    );
    assert!(fs::read(&part).expect("it stays") == bytes);
    // A power cut leaves less, and the end of it may be anything.
    let torn = [&bytes[..bytes.len() - 70_000], &[0; 4096]].concat();
    fs::write(&part, torn).expect("the directory is ours");
    // Who comes meanwhile is in the part that comes now.
    old.add("zoe");
    old.cli(&["user", "remove", "u15@cairn.example"], "");
    let output = old
        .command_from_outside(&token, &take)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("going on with") && said.contains("behind u0"),
        "{said}"
    );
    old.wait_for_log(&["a backup is taken", "after=\"u0"]);
    assert!(!part.exists());

    let mut new = Server::prepare(&[("listen.https", "[\"127.0.0.1:0\"]")]);
    let said = new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(said.contains("was broken off and gone on with"), "{said}");
    assert_eq!(
        new.cli(&["user", "list"], ""),
        old.cli(&["user", "list"], "")
    );
    new.run();
    is_whole(&new);
    (0..OTHERS - 1).for_each(|number| has_vcard(&new, number));
    new.login("zoe", "a");
}

#[test]
fn a_backup_that_another_store_began_is_begun_anew() {
    let (old, other) = (filled(), server());
    let [phrase, backup] = files(&old, PHRASE);
    let part = old.directory().join("cairn.backup.part");
    let take = ["backup", "--passphrase-file", &phrase, &backup];
    break_off(&old, &token(&old), &take, &part);
    let output = other.cli_with_input(&take, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("begun anew: it is of another store"),
        "{said}"
    );
    let new = Server::prepare(&[]);
    let said = new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(
        said.contains("1 accounts") && !said.contains("gone on with"),
        "{said}"
    );
    assert_eq!(new.cli(&["user", "list"], ""), format!("{ALICE}\n"));
}

#[test]
fn a_part_that_is_whole_only_gets_its_name() {
    let old = filled();
    let [phrase, backup] = backed_up(&old);
    let part = format!("{backup}.part");
    fs::rename(&backup, &part).expect("the directory is ours");
    let nowhere = Server::prepare(&[]);
    nowhere.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    assert!(!Path::new(&part).exists());
    let said = nowhere.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(said.contains("18 accounts"), "{said}");
}

/// A machine that has found no configuration.
fn blank() -> Server {
    let mut server = Server::prepare(&[
        ("domain", "\"localhost\""),
        ("listen.https", "[\"127.0.0.1:0\"]"),
        ("limits.failed_logins_per_address", "3"),
    ]);
    start_blank(&mut server);
    server
}

fn start_blank(server: &mut Server) {
    let mut command = server.command(&["serve", "--stored-config"]);
    command
        .env("CAIRN_TEST_MACHINE", server.directory())
        .env("CAIRN_TEST_UNCONFIGURED", "");
    server.run_as(command);
}

/// The machine starts again, as it has asked for.
fn start_again(server: &mut Server) {
    assert!(server.directory().join("reboot").exists());
    server.stop();
    let mut command = server.command(&["serve", "--stored-config"]);
    command.env("CAIRN_TEST_MACHINE", server.directory());
    server.run_as(command);
}

fn with<'a>(code: &'a str, [phrase, backup]: &'a [String; 2]) -> [&'a str; 6] {
    [
        "restore",
        "--passphrase-file",
        phrase,
        backup,
        "--code",
        code,
    ]
}

#[test]
fn a_machine_without_a_configuration_becomes_the_one_of_the_backup() {
    let mut old = Server::prepare(&[
        ("listen.c2s", "[\"0.0.0.0:0\"]"),
        ("listen.c2s_tls", "[\"0.0.0.0:0\"]"),
        ("listen.https", "[\"0.0.0.0:0\"]"),
        ("limits.ping_s", "77"),
    ]);
    old.run_as(old.command(&["serve", "--stored-config"]));
    let line = format!("{PASSWORD}\n");
    old.cli(
        &["user", "add", "--admin", "--password-stdin", ALICE],
        &line,
    );
    fill(&old);
    let files = backed_up(&old);
    let mut new = blank();
    let code = code(&new);
    let said = outside(&new, "", &with(&code, &files), "");
    assert!(
        said.contains("2 accounts with 1 waiting messages"),
        "{said}"
    );
    assert!(
        said.contains("starts again and serves cairn.example"),
        "{said}"
    );
    assert_eq!(self::code(&new), "", "it is not shown any more");
    let again = outside_refused(&new, "", &with(&code, &files), "");
    assert!(again.contains("cannot be claimed"), "{again}");
    start_again(&mut new);
    is_whole(&new);
    assert_eq!(new.fingerprint(), old.fingerprint());
    let said = new.cli(&["config", "get", "limits.ping_s"], "");
    assert_eq!(said, "limits.ping_s = 77\n");
    assert_eq!(self::code(&new), "", "it has an administrator");
}

#[test]
fn a_backup_of_a_process_gives_a_machine_its_domain() {
    let old = server();
    fill(&old);
    let files = backed_up(&old);
    let new = blank();
    outside(&new, "", &with(&code(&new), &files), "");
    // The ports of the defaults are not for a test, so it does not start again.
    let got = new.cli(&["config", "get", "domain"], "");
    assert!(
        got.contains("domain = \"cairn.example\" from the next start on"),
        "{got}"
    );
}

#[test]
fn whoever_guesses_at_the_code_of_a_machine_restores_nothing_and_has_to_wait() {
    let old = server();
    let files = backed_up(&old);
    let new = blank();
    let code = code(&new);
    for _ in 0..3 {
        let said = outside_refused(&new, "", &with("AAAA-AAAA-AAAA-AAAA", &files), "");
        assert!(said.contains("not the code"), "{said}");
    }
    let said = outside_refused(&new, "", &with(&code, &files), "");
    assert!(said.contains("try again later"), "{said}");
    assert_eq!(new.cli(&["user", "list"], ""), "");
}

/// A restore that stands still in the middle, with accounts in the store already.
fn held(new: &Server, files: &[String; 2]) -> (Child, Gate) {
    let gate = Gate::to(new.https(), Way::Up, 1_000_000);
    let client = through(&gate, new, "", &with(&code(new), files));
    gate.wait_until_shut();
    let until = Instant::now() + PATIENCE;
    while new.cli(&["user", "list"], "").is_empty() {
        assert!(Instant::now() < until, "nothing arrives");
    }
    (client, gate)
}

#[test]
fn what_there_is_of_a_restore_does_not_count_and_goes_when_it_is_broken_off() {
    let old = filled();
    let files = backed_up(&old);
    let new = machine();
    let (client, _gate) = held(&new, &files);
    let (mut wire, _) = new.stream();
    wire.send(&client::plain("", "alice", PASSWORD));
    let answer = wire.element();
    assert_eq!(
        answer.sasl_failure(),
        Some("temporary-auth-failure"),
        "{answer}"
    );
    let status = |password| {
        let fields = basic(ALICE, password);
        new.http().ask("GET", "/admin/store", &fields, "").status
    };
    assert_eq!(status(PASSWORD), 401);
    let said = outside_refused(&new, "", &with(&code(&new), &files), "");
    assert!(said.contains("another backup is being restored"), "{said}");
    let add = ["user", "add", "--password-stdin", "eve@cairn.example"];
    let refused = |output: Output| {
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("a backup is being restored"), "{said}");
    };
    refused(new.cli_with_input(&add, &format!("{PASSWORD}\n")));
    refused(new.cli_with_input(&["store", "import", "-"], ""));
    let [phrase, _] = &files;
    refused(new.cli_with_input(&["backup", "--passphrase-file", phrase, "another"], ""));
    kill(client);
    new.wait_for_log(&["what there was of its backup is removed"]);
    assert_eq!(new.cli(&["user", "list"], ""), "");
    let said = outside(&new, "", &with(&code(&new), &files), "");
    assert!(
        said.contains("18 accounts with 1 waiting messages"),
        "{said}"
    );
    is_whole(&new);
    (0..OTHERS).for_each(|number| has_vcard(&new, number));
}

#[test]
fn a_machine_that_lost_power_in_the_middle_of_a_restore_is_unclaimed_and_begins_again() {
    let old = filled();
    let files = backed_up(&old);
    let mut new = blank();
    let first = code(&new);
    let (client, _gate) = held(&new, &files);
    new.kill();
    kill(client);
    start_blank(&mut new);
    new.wait_for_log(&["a restore was not completed"]);
    assert_eq!(new.cli(&["user", "list"], ""), "");
    assert_ne!(code(&new), first, "a code of its own");
    // A claim is as good as ever.
    let host = new.https().to_string();
    let jid = "eve@other.example";
    let pin = new.fingerprint();
    let code = code(&new);
    let claim = [
        "claim",
        &host,
        &code,
        "--admin",
        jid,
        "--password-stdin",
        "--pin",
        &pin,
    ];
    new.cli(&claim, &format!("{PASSWORD}\n"));
    let said = outside_refused(&new, "", &with(&code, &files), "");
    assert!(said.contains("cannot be claimed"), "{said}");
    let [phrase, backup] = &files;
    let output = new.cli_with_input(&["restore", "--passphrase-file", phrase, backup], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("into an empty store"), "{said}");
}

#[test]
fn a_store_with_half_of_a_backup_is_filled_where_it_is() {
    let old = filled();
    let files = backed_up(&old);
    let mut new = machine();
    let (client, _gate) = held(&new, &files);
    new.kill();
    kill(client);
    let [phrase, backup] = &files;
    let said = new.cli(&["restore", "--passphrase-file", phrase, backup], "");
    assert!(said.contains("18 accounts"), "{said}");
    new.run();
    is_whole(&new);
    assert!(new.log().iter().all(|line| !line.contains("not completed")));
}

#[test]
fn frames_that_end_too_early_leave_nothing() {
    let old = filled();
    let token = token(&old);
    let fields = bearer(&token);
    let frames = old.http().stream("GET", "/admin/backup", &fields);
    let new = blank();
    let fields = format!("authorization: Claim {}\r\n", code(&new));
    let put = |frames: &[u8]| {
        let mut http = new.http();
        let head = format!(
            "PUT /restore HTTP/1.1\r\nhost: x\r\n{fields}content-length: {}\r\n\r\n",
            frames.len()
        );
        http.send(head.as_bytes());
        http.send(frames);
        http.answer().expect("an answer")
    };
    let longer = [&frames[..], b"x"].concat();
    for part in [&frames[..700_000], &frames[..frames.len() - 5], &longer] {
        let answer = put(part);
        assert_eq!(answer.status, 400, "{answer:?}");
        let said = answer.body["error"].to_string();
        assert!(said.contains("nothing of it was kept"), "{said}");
        assert_eq!(new.cli(&["user", "list"], ""), "");
    }
    let answer = put(&frames);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn what_was_kept_stays_kept_where_the_limits_are_narrower() {
    let old = filled();
    let mut alice = old.login("alice", "b");
    alice.say("bob@cairn.example", "and this");
    alice.settle();
    let [phrase, backup] = backed_up(&old);
    let mut new = Server::prepare(&[
        ("listen.https", "[\"127.0.0.1:0\"]"),
        ("limits.offline_messages", "1"),
        ("limits.vcard_bytes", "1000"),
    ]);
    let said = new.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(
        said.contains("2 waiting messages") && !said.contains("left out"),
        "{said}"
    );
    new.run();
    has_vcard(&new, 3);
}
