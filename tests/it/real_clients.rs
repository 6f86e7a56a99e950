//! Clients that other people wrote: slixmpp, scramp with pyOpenSSL, profanity, go-sendxmpp.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::tls::server_with_certificate;
use crate::support::python::{interpreter, program, run};
use crate::support::screen::Screen;
use crate::support::server::PASSWORD;
use crate::support::*;

fn server() -> Server {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    server
}

fn slixmpp(scenario: &str, arguments: &[&str]) {
    let server = server();
    let port = server.c2s().port().to_string();
    let all = [&[scenario, &port], arguments].concat();
    run("slixmpp_client.py", &all);
}

#[test]
fn slixmpp_logs_in_by_plain() {
    slixmpp("login", &["PLAIN"]);
}

#[test]
fn slixmpp_logs_in_by_scram_sha_1() {
    slixmpp("login", &["SCRAM-SHA-1"]);
}

#[test]
fn slixmpp_logs_in_by_scram_sha_256() {
    slixmpp("login", &["SCRAM-SHA-256"]);
}

#[test]
fn slixmpp_is_refused_with_a_wrong_password() {
    slixmpp("wrong_password", &["SCRAM-SHA-256"]);
}

#[test]
fn slixmpp_edits_its_roster() {
    slixmpp("roster", &[]);
}

#[test]
fn slixmpp_subscribes_both_ways() {
    slixmpp("subscription", &[]);
}

#[test]
fn slixmpp_chats_online_and_offline() {
    slixmpp("chat", &[]);
}

#[test]
fn slixmpp_resumes_after_a_cut_connection() {
    slixmpp("resume", &[]);
}

#[test]
fn scramp_and_openssl_bind_to_the_channel() {
    let server = Server::with(&[
        ("limits.failed_logins_per_address", "0"),
        ("limits.failed_logins_per_account", "0"),
    ]);
    server.add("alice");
    run("scram_plus.py", &[&server.c2s_tls().port().to_string()]);
}

#[test]
fn scramp_and_openssl_bind_to_the_new_certificate_after_a_reload() {
    let server = server_with_certificate();
    server.add("alice");
    let directory = server.directory().to_str().expect("UTF-8").to_owned();
    let (port, pid) = (
        server.c2s_tls().port().to_string(),
        server.pid().to_string(),
    );
    run("scram_plus.py", &[&port, &directory, &pid]);
}

/// What `name` hears with slixmpp: the lines of its output.
fn listener(server: &Server, name: &str, count: usize) -> Option<impl Iterator<Item = String>> {
    let python = interpreter()?;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/slixmpp_client.py"
    );
    let mut child = Command::new(python)
        .arg(script)
        .args([
            "listen",
            &server.c2s().port().to_string(),
            name,
            &count.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let out = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    Some(lines.chain(std::iter::from_fn(move || {
        let status = child.wait().expect("it ends");
        assert!(status.success(), "the listener failed: {status}");
        None
    })))
}

#[test]
fn go_sendxmpp_sends_a_message_that_slixmpp_hears() {
    let Some(program) = program("go-sendxmpp") else {
        return;
    };
    let server = server();
    let Some(mut heard) = listener(&server, "bob", 1) else {
        return;
    };
    let mut sender = Command::new(program)
        .args(["-n", "-u", "alice@cairn.example", "-p", PASSWORD])
        .args(["-j", &server.c2s().to_string(), "bob@cairn.example"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("go-sendxmpp runs");
    let mut stdin = sender.stdin.take().expect("it is piped");
    stdin.write_all(b"hello from Go\n").expect("it reads");
    drop(stdin);
    let output = sender.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        heard.next().as_deref(),
        Some("alice@cairn.example: hello from Go")
    );
    assert_eq!(heard.next(), None);
}

#[test]
fn profanity_and_slixmpp_chat() {
    let (Some(program), Some(script)) = (program("profanity"), program("script")) else {
        return;
    };
    let server = server();
    let Some(mut heard) = listener(&server, "bob", 1) else {
        return;
    };
    let home = server.directory().join("profanity");
    std::fs::create_dir(&home).expect("the directory is ours");
    let mut profanity = Screen::of(&program, &script, &home);
    profanity.wait_for("Profanity");
    profanity.type_line(&format!(
        "/connect alice@cairn.example server 127.0.0.1 port {} tls trust",
        server.c2s().port()
    ));
    profanity.wait_for("password");
    profanity.type_line(PASSWORD);
    profanity.wait_for("logged in successfully");
    profanity.type_line("/msg bob@cairn.example hello from profanity");
    assert_eq!(
        heard.next().as_deref(),
        Some("alice@cairn.example: hello from profanity")
    );
    profanity.wait_for("heard: hello from profanity");
    profanity.type_line("/quit");
    assert!(profanity.ends().success());
    assert_eq!(heard.next(), None);
}
