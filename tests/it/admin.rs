//! Administration from outside: who gets in, what is refused before that, and the commands.

use std::io::Write;
use std::process::{Command, Output};

use crate::support::http::{basic, bearer};
use crate::support::server::PASSWORD;
use crate::support::*;

const ALICE: &str = "alice@cairn.example";

/// A server with the interface, and `alice` as an administrator.
pub fn server() -> Server {
    server_with(&[])
}

fn server_with(settings: &[(&str, &str)]) -> Server {
    let settings = [&[("listen.https", "[\"127.0.0.1:0\"]")], settings].concat();
    let server = Server::with(&settings);
    server.cli(
        &["user", "add", "--admin", "--password-stdin", ALICE],
        &format!("{PASSWORD}\n"),
    );
    server
}

/// A token of its operator.
pub fn token(server: &Server) -> String {
    let token = server.cli(&["token", "new", "--name", "test"], "");
    token.trim_end().to_owned()
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// The output of a command from outside that succeeds.
#[track_caller]
pub fn outside(server: &Server, token: &str, arguments: &[&str], input: &str) -> String {
    let output = run(server.command_from_outside(token, arguments), input);
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {sentence}");
    String::from_utf8(output.stdout).expect("text")
}

/// The sentence of one that does not.
#[track_caller]
pub fn outside_refused(server: &Server, token: &str, arguments: &[&str], input: &str) -> String {
    let output = run(server.command_from_outside(token, arguments), input);
    assert!(!output.status.success(), "{arguments:?} was done");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn nobody_gets_in_without_a_password_or_a_token() {
    let server = server();
    server.add("bob");
    let mut http = server.http();
    for fields in [
        "".to_owned(),
        basic(ALICE, "wrong password"),
        basic("bob@cairn.example", PASSWORD),
        basic("nobody@cairn.example", PASSWORD),
        basic("alice@other.example", PASSWORD),
        bearer("cairn_AAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        "authorization: Digest x\r\n".to_owned(),
        "authorization: Basic ?\r\n".to_owned(),
    ] {
        let answer = http.ask("GET", "/admin/users", &fields, "");
        assert_eq!(answer.status, 401, "{fields}");
        assert!(answer.body["error"].is_string(), "{answer:?}");
        assert!(
            answer.head.contains("\r\nwww-authenticate: basic"),
            "{answer:?}"
        );
    }
    let answer = http.ask("GET", "/admin/users", &basic(ALICE, PASSWORD), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["users"][1], "bob@cairn.example");
    for field in ["cache-control: no-store", "x-content-type-options: nosniff"] {
        assert!(answer.head.contains(field), "{answer:?}");
    }
    // A page in a browser that knows the password is nobody.
    let fields = format!("{}origin: https://evil.example\r\n", basic(ALICE, PASSWORD));
    assert_eq!(http.ask("GET", "/admin/users", &fields, "").status, 403);
}

#[test]
fn whoever_guesses_has_to_wait() {
    let server = server_with(&[("limits.failed_logins_per_address", "3")]);
    let mut http = server.http();
    let mut ask = |password| {
        let fields = basic(ALICE, password);
        http.ask("GET", "/admin/store", &fields, "").status
    };
    for _ in 0..3 {
        assert_eq!(ask("a wrong guess"), 401);
    }
    assert_eq!(ask("a wrong guess"), 429);
    assert_eq!(ask(PASSWORD), 429);
}

#[test]
fn a_password_is_that_of_now_and_an_administrator_one_of_now() {
    let server = server();
    let mut http = server.http();
    let mut status = |password: &str| {
        let fields = basic("alice", password);
        http.ask("GET", "/admin/store", &fields, "").status
    };
    assert_eq!(status(PASSWORD), 200);
    let mut alice = server.login("alice", "a");
    let change = "<query xmlns='jabber:iq:register'><username>alice</username>\
                  <password>another password</password></query>";
    alice.iq_ok("set", None, change);
    assert_eq!(status(PASSWORD), 401);
    assert_eq!(status("another password"), 200);
    server.cli(&["user", "admin", "--remove", ALICE], "");
    assert_eq!(status("another password"), 401);
    server.cli(
        &["user", "admin", "--password-stdin", ALICE],
        "another password\n",
    );
    assert_eq!(status("another password"), 200);
    server.cli(&["user", "remove", ALICE], "");
    server.add_with_password("alice", "another password");
    assert_eq!(status("another password"), 401);
}

#[test]
fn only_whoever_knows_the_password_makes_an_administrator() {
    let server = server();
    server.add("bob");
    let output = server.cli_with_input(
        &["user", "admin", "--password-stdin", "bob"],
        "not the password\n",
    );
    assert!(!output.status.success());
    assert_eq!(
        server.cli(&["user", "list", "--admin"], ""),
        format!("{ALICE}\n")
    );
}

#[test]
fn a_token_is_good_until_it_is_revoked() {
    let mut server = server();
    let token = token(&server);
    let status = |server: &Server| {
        server
            .http()
            .ask("GET", "/admin/store", &bearer(&token), "")
            .status
    };
    assert_eq!(status(&server), 200);
    server.kill();
    server.run();
    assert_eq!(status(&server), 200);
    let list = outside(&server, &token, &["token", "list"], "");
    let id = list.split(' ').next().expect("its id");
    assert!(list.contains("test"), "{list}");
    outside(&server, &token, &["token", "revoke", id], "");
    assert_eq!(status(&server), 401);
}

#[test]
fn a_token_of_an_administrator_ends_with_them() {
    let server = server();
    let body = "{\"name\":\"mine\",\"days\":1}";
    let fields = format!(
        "{}content-type: application/json\r\n",
        basic(ALICE, PASSWORD)
    );
    let made = server.http().ask("POST", "/admin/tokens", &fields, body);
    let token = made.body["text"].as_str().expect("a token").to_owned();
    let status = || {
        server
            .http()
            .ask("GET", "/admin/store", &bearer(&token), "")
            .status
    };
    assert_eq!(status(), 200);
    server.cli(&["user", "admin", "--remove", ALICE], "");
    assert_eq!(status(), 401);
}

#[test]
fn accounts_are_looked_after_from_outside() {
    let server = server();
    let token = token(&server);
    let add = ["user", "add", "--password-stdin", "dora"];
    outside(&server, &token, &add, "a long password\n");
    assert!(outside_refused(&server, &token, &add, "a long password\n").contains("exists already"));
    let weak = ["user", "add", "--password-stdin", "eve"];
    assert!(outside_refused(&server, &token, &weak, "eve\n").contains("choose a password"));
    let passwd = ["user", "passwd", "--password-stdin", "dora"];
    outside(&server, &token, &passwd, "another long one\n");
    Client::authenticate(server.tls_wire(), "dora", "another long one");
    let list = outside(&server, &token, &["user", "list"], "");
    assert_eq!(list, format!("{ALICE}\ndora@cairn.example\n"));
    outside(&server, &token, &["user", "remove", "dora"], "");
    let gone = outside_refused(&server, &token, &["user", "remove", "dora"], "");
    assert!(gone.contains("there is no account"), "{gone}");
    let stat = outside(&server, &token, &["store", "stat"], "");
    assert!(stat.contains("accounts             1"), "{stat}");
    let sound = outside(&server, &token, &["store", "verify"], "");
    assert!(sound.contains("all of it is sound"), "{sound}");
}

#[test]
fn many_accounts_are_listed_page_by_page() {
    let server = server_with(&[("registration.mode", "\"closed\"")]);
    let users: String = (0..2_500)
        .map(|n| format!("<user name='u{n:04}' password='a password'/>"))
        .collect();
    let document = format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='{DOMAIN}'>{users}</host></server-data>"
    );
    server.cli(&["store", "import", "-"], &document);
    let token = token(&server);
    let list = outside(&server, &token, &["user", "list"], "");
    assert_eq!(list, server.cli(&["user", "list"], ""));
    assert_eq!(list.lines().count(), 2_501);
}

#[test]
fn the_client_refuses_a_server_with_another_certificate() {
    let server = server();
    let url = format!("https://{}", server.https());
    let wrong = "00".repeat(32);
    for (pin, sentence) in [
        (vec!["--pin", &*wrong], "another certificate"),
        (vec![], "not trusted"),
        (vec!["--pin", "abc"], "64 hexadecimal digits"),
    ] {
        let mut command = server.command(&["--server", &url, "user", "list"]);
        let output = command
            .env("CAIRN_TOKEN", "cairn_secret")
            .args(pin)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(sentence), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn what_is_too_big_or_malformed_is_refused_before_anybody_is_in() {
    let server = server();
    let refused = |request: &[u8], status: u16| {
        let mut http = server.http();
        http.send(request);
        let answer = http.answer().expect("an answer");
        assert_eq!(answer.status, status, "{answer:?}");
    };
    refused(b"nonsense\r\n\r\n", 400);
    refused(b"GET /admin/users HTTP/1.1\r\nhost x\r\n\r\n", 400);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    refused(long.as_bytes(), 431);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
    refused(many.as_bytes(), 431);
    // Its body is never waited for.
    let body = "POST /admin/users HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n";
    refused(body.as_bytes(), 401);
}

#[test]
fn a_body_that_is_too_long_or_none_is_refused() {
    let server = server();
    let token = token(&server);
    let json = format!("{}content-type: application/json\r\n", bearer(&token));
    let status = |fields: &str, body: &str| {
        let answer = server.http().ask("POST", "/admin/users", fields, body);
        assert!(answer.body["error"].is_string(), "{answer:?}");
        answer.status
    };
    assert_eq!(status(&json, &"x".repeat(300_000)), 413);
    assert_eq!(status(&json, "{"), 400);
    assert_eq!(status(&json, "{\"jid\":\"x\"}"), 400);
    assert_eq!(status(&json, "{\"jid\":1,\"password\":\"hush hush\"}"), 400);
    assert_eq!(status(&bearer(&token), "{}"), 415);
    let mut http = server.http();
    assert_eq!(
        http.ask("GET", "/admin/nothing", &bearer(&token), "")
            .status,
        404
    );
    assert_eq!(
        http.ask("DELETE", "/admin/users", &bearer(&token), "")
            .status,
        405
    );
    assert_eq!(http.ask("GET", "/", "", "").status, 404);
}

#[test]
fn whoever_takes_too_long_is_cut_off() {
    let server = server_with(&[("limits.authentication_s", "1")]);
    let mut http = server.http();
    http.send(b"GET /admin/users HTTP/1.1\r\nhost: x\r\n");
    assert!(http.answer().is_none());
    server.wait_for_log(&["nobody logged in in time"]);
    // And whoever is in stays.
    let token = token(&server);
    let mut http = server.http();
    assert_eq!(
        http.ask("GET", "/admin/store", &bearer(&token), "").status,
        200
    );
    server.wait_for_log(&["nobody logged in in time"]);
    assert_eq!(
        http.ask("GET", "/admin/store", &bearer(&token), "").status,
        200
    );
}

#[test]
fn no_password_and_no_token_is_in_the_log() {
    let server = server_with(&[("log.level", "\"trace\"")]);
    let token = token(&server);
    let mut http = server.http();
    http.ask("GET", "/admin/store", &basic(ALICE, PASSWORD), "");
    http.ask("GET", "/admin/store", &basic(ALICE, "a wrong guess"), "");
    http.ask("GET", "/admin/store", &bearer("cairn_wrong-token"), "");
    outside(
        &server,
        &token,
        &["user", "add", "--password-stdin", "dora"],
        "doras secret\n",
    );
    let weak = format!("{}content-type: application/json\r\n", bearer(&token));
    let body = "{\"jid\":\"eve\",\"password\":[\"eves secret\"]}";
    http.ask("POST", "/admin/users", &weak, body);
    for line in server.log() {
        for secret in [
            &*token,
            PASSWORD,
            "a wrong guess",
            "wrong-token",
            "doras secret",
            "eves secret",
            basic(ALICE, PASSWORD).trim_end(),
        ] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
