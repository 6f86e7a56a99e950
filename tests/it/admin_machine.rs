//! What is done to a machine from outside: claim, configuration, certificate, upgrade, log. The
//! machine is a pretended one, which writes what it is told into a folder.

use std::fs;
use std::path::PathBuf;

use cairn::net::certificate::Pem;

use crate::admin::{outside, outside_refused, token};
use crate::support::http::{basic, bearer};
use crate::support::server::PASSWORD;
use crate::support::*;

const ALICE: &str = "alice@cairn.example";

/// A server on a pretended machine.
pub fn machine() -> Server {
    let mut server = Server::prepare(&[("listen.https", "[\"127.0.0.1:0\"]")]);
    start(&mut server);
    server
}

fn start(server: &mut Server) {
    let mut command = server.command(&["serve", "--stored-config"]);
    command.env("CAIRN_TEST_MACHINE", server.directory());
    server.run_as(command);
}

fn noted(server: &Server, name: &str) -> PathBuf {
    server.directory().join(name)
}

fn code(server: &Server) -> String {
    fs::read_to_string(noted(server, "code")).expect("it was shown")
}

#[track_caller]
fn claim(server: &Server, code: &str, jid: &str) -> Result<String, String> {
    let host = server.https().to_string();
    let output = server.cli_with_input(
        &[
            "claim",
            &host,
            code,
            "--admin",
            jid,
            "--password-stdin",
            "--pin",
            &server.fingerprint(),
        ],
        &format!("{PASSWORD}\n"),
    );
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).expect("text")),
        false => Err(String::from_utf8(output.stderr).expect("text")),
    }
}

#[test]
fn the_code_on_the_console_makes_one_administrator() {
    let mut server = machine();
    let code = code(&server);
    assert_eq!(code.len(), 19, "{code}");
    let said = claim(&server, "AAAA-AAAA-AAAA-AAAA", ALICE).expect_err("wrong");
    assert!(said.contains("not the code"), "{said}");
    // In small letters it is the same.
    claim(&server, &code.to_lowercase(), ALICE).expect("the code");
    let status = |server: &Server| {
        let fields = basic(ALICE, PASSWORD);
        server.http().ask("GET", "/admin/store", &fields, "").status
    };
    assert_eq!(status(&server), 200);
    assert_eq!(self::code(&server), "", "it is not shown any more");
    let said = claim(&server, &code, "mallory@cairn.example").expect_err("once");
    assert!(said.contains("cannot be claimed"), "{said}");
    assert!(server.log().iter().all(|line| !line.contains(&code)));
    server.stop();
    start(&mut server);
    assert_eq!(status(&server), 200);
    claim(&server, &code, "mallory@cairn.example").expect_err("once");
}

#[test]
fn of_many_who_have_the_code_one_becomes_administrator() {
    let server = machine();
    let code = code(&server);
    let done = std::thread::scope(|scope| {
        let (server, code) = (&server, &code);
        let claims: Vec<_> = (0..4)
            .map(|n| scope.spawn(move || claim(server, code, &format!("u{n}@cairn.example"))))
            .collect();
        let done = claims
            .into_iter()
            .map(|claim| claim.join().expect("no panic"));
        done.filter(Result::is_ok).count()
    });
    assert_eq!(done, 1);
    assert_eq!(
        server.cli(&["user", "list", "--admin"], "").lines().count(),
        1
    );
    assert_eq!(server.cli(&["user", "list"], "").lines().count(), 1);
}

#[test]
fn whoever_guesses_at_the_code_has_to_wait() {
    let mut server = Server::prepare(&[
        ("listen.https", "[\"127.0.0.1:0\"]"),
        ("limits.failed_logins_per_address", "3"),
    ]);
    start(&mut server);
    let code = code(&server);
    for _ in 0..3 {
        claim(&server, "AAAA-AAAA-AAAA-AAAA", ALICE).expect_err("wrong");
    }
    let said = claim(&server, &code, ALICE).expect_err("too many");
    assert!(said.contains("try again later"), "{said}");
}

#[test]
fn a_process_is_claimed_only_where_its_configuration_says_by_which_code() {
    let https = ("listen.https", "[\"127.0.0.1:0\"]");
    let server = Server::with(&[https]);
    let said = claim(&server, "x", ALICE).expect_err("no code");
    assert!(said.contains("cannot be claimed"), "{said}");
    let digest = ring::digest::digest(&ring::digest::SHA256, b"open sesame");
    let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let server = Server::with(&[https, ("admin.claim_sha256", &format!("{digest:?}"))]);
    claim(&server, "open sesame", ALICE).expect("the code");
    // Also when that administrator is gone, nobody becomes one by the code again.
    server.cli(&["user", "remove", ALICE], "");
    claim(&server, "open sesame", ALICE).expect_err("once");
}

#[test]
fn a_configuration_that_was_changed_counts_from_the_next_start_on() {
    let mut server = machine();
    claim(&server, &code(&server), ALICE).expect("the code");
    let token = token(&server);
    let set = |server: &Server, key: &str, value: &str| {
        outside(server, &token, &["config", "set", key, value], "")
    };
    let get = |server: &Server, key: &str| outside(server, &token, &["config", "get", key], "");
    let said = set(&server, "limits.ping_s", "77");
    assert!(said.contains("next start"), "{said}");
    set(&server, "registration.mode", "open");
    let both = "limits.ping_s = 840\n# limits.ping_s = 77 from the next start on\n";
    assert_eq!(get(&server, "limits.ping_s"), both);
    for (key, value, sentence) in [
        ("limits.ping", "77", "did you mean limits.ping_s?"),
        ("ping_s", "77", "limits.ping_s"),
        ("limits.ping_s", "seven", "expected"),
        ("limits.connections", "99999999", "lower the keys"),
        ("store.path", "elsewhere", "not said in the store"),
        ("domain", "other.example", "cannot be changed"),
    ] {
        let said = outside_refused(&server, &token, &["config", "set", key, value], "");
        assert!(said.contains(sentence), "{said}");
    }
    server.stop();
    start(&mut server);
    assert_eq!(get(&server, "limits.ping_s"), "limits.ping_s = 77\n");
    assert_eq!(
        get(&server, "registration.mode"),
        "registration.mode = \"open\"\n"
    );
    // Another source of the same revision changes nothing now, one of a higher does.
    server.stop();
    server.set("limits.ping_s", "55");
    start(&mut server);
    assert_eq!(get(&server, "limits.ping_s"), "limits.ping_s = 77\n");
    server.stop();
    server.set("revision", "1");
    start(&mut server);
    assert_eq!(get(&server, "limits.ping_s"), "limits.ping_s = 55\n");
    assert_eq!(
        get(&server, "registration.mode"),
        "registration.mode = \"closed\"\n"
    );
}

#[test]
fn a_process_reads_its_file() {
    let server = crate::admin::server();
    let token = token(&server);
    let said = outside_refused(
        &server,
        &token,
        &["config", "set", "limits.ping_s", "7"],
        "",
    );
    assert!(said.contains("from its file"), "{said}");
    let said = outside_refused(&server, &token, &["config", "set", "limits.pin_s", "7"], "");
    assert!(said.contains("did you mean limits.ping_s?"), "{said}");
    let got = outside(&server, &token, &["config", "get", "log.level"], "");
    assert_eq!(got, "log.level = \"debug\"\n");
    for command in [&["reboot"][..], &["rollback"], &["machine"]] {
        let said = outside_refused(&server, &token, command, "");
        assert!(said.contains("not a machine of its own"), "{said}");
    }
    let bundle = noted(&server, "new.bundle");
    fs::write(&bundle, vec![1; 3_000_000]).expect("the directory is ours");
    let push = ["upgrade", "push", bundle.to_str().expect("UTF-8")];
    let said = outside_refused(&server, &token, &push, "");
    assert!(said.contains("not a machine of its own"), "{said}");
}

#[test]
fn a_bundle_goes_to_the_machine_as_it_arrives() {
    let server = machine();
    let token = token(&server);
    let bundle = noted(&server, "new.bundle");
    let push = ["upgrade", "push", bundle.to_str().expect("UTF-8")];
    let bytes: Vec<u8> = (0..20_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 8) as u8)
        .collect();
    fs::write(&bundle, &bytes).expect("the directory is ours");
    let said = outside(&server, &token, &push, "");
    assert!(said.contains("slot b is tried"), "{said}");
    assert!(fs::read(noted(&server, "bundle")).expect("written") == bytes);
    // The machine may refuse it while the client still sends.
    fs::write(&bundle, [&b"BAD!"[..], &bytes].concat()).expect("the directory is ours");
    let said = outside_refused(&server, &token, &push, "");
    assert!(said.contains("the signature is wrong"), "{said}");
    outside(&server, &token, &["reboot"], "");
    assert!(noted(&server, "reboot").exists());
    let said = outside_refused(&server, &token, &["rollback"], "");
    assert!(said.contains("the other slot is empty"), "{said}");
    let status = outside(&server, &token, &["machine"], "");
    assert!(
        status.contains("version              pretended"),
        "{status}"
    );
}

#[test]
fn a_bundle_that_is_broken_off_is_told_to_the_machine() {
    let server = machine();
    let token = token(&server);
    let mut http = server.http();
    let head = format!(
        "PUT /admin/machine/system HTTP/1.1\r\nhost: x\r\n{}content-length: 1000\r\n\r\nabcdef",
        bearer(&token)
    );
    http.send(head.as_bytes());
    server.wait_for_log(&["an upgrade begins"]);
    drop(http);
    server.wait_for_log(&["the upgrade failed", "broken off"]);
}

#[test]
fn a_certificate_is_replaced_while_sessions_stay() {
    let mut server = machine();
    let token = token(&server);
    server.add("bob");
    let mut bob = server.login("bob", "b");
    let before = server.fingerprint();
    let show = outside(&server, &token, &["cert", "show"], "");
    assert!(show.contains("self-signed"), "{show}");
    assert!(
        show.replace(':', "").to_lowercase().contains(&before),
        "{show}"
    );
    let pem = Pem::self_signed(DOMAIN, std::time::SystemTime::now()).expect("a domain");
    let (chain, key) = (noted(&server, "chain.pem"), noted(&server, "key.pem"));
    fs::write(&chain, &pem.chain).expect("the directory is ours");
    fs::write(&key, pem.key.as_bytes()).expect("the directory is ours");
    let (chain, key) = (chain.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    outside(&server, &token, &["cert", "set", chain, key], "");
    let after = server.fingerprint();
    assert_ne!(before, after);
    bob.settle();
    let other = Pem::self_signed(DOMAIN, std::time::SystemTime::now()).expect("a domain");
    fs::write(key, other.key.as_bytes()).expect("the directory is ours");
    let said = outside_refused(&server, &token, &["cert", "set", chain, key], "");
    assert!(said.contains("do not fit together"), "{said}");
    server.stop();
    start(&mut server);
    assert_eq!(server.fingerprint(), after);
    assert!(
        server
            .log()
            .iter()
            .all(|line| !line.contains("PRIVATE KEY"))
    );
}

#[test]
fn the_log_is_read_from_outside() {
    let server = machine();
    let token = token(&server);
    let tail = outside(&server, &token, &["log", "tail"], "");
    assert!(tail.contains("listening name=\"https\""), "{tail}");
    assert!(!tail.contains('\u{1b}') && !tail.contains(&token), "{tail}");
    let mut http = server.http();
    let ask = |http: &mut Http, after: u64| {
        let path = format!("/admin/log?after={after}&wait=20");
        let answer = http.ask("GET", &path, &bearer(&token), "");
        (
            answer.body["lines"].to_string(),
            answer.body["last"].as_u64().expect("a number"),
        )
    };
    let (_, last) = ask(&mut http, 0);
    server.add("bob");
    let (lines, _) = ask(&mut http, last);
    assert!(lines.contains("bob@cairn.example"), "{lines}");
}
