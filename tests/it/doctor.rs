//! `cairn doctor` of a server that keeps to itself, here and from outside.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::admin;
use crate::support::*;

/// A DNS server that knows nothing, and keeps what it was asked: a type and a name.
struct Ignorant {
    address: SocketAddr,
    asked: Arc<Mutex<BTreeSet<(u16, String)>>>,
}

impl Ignorant {
    fn start() -> Ignorant {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        let asked: Arc<Mutex<BTreeSet<_>>> = Arc::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1_500];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                let Some((question, end)) = question(&packet[..len]) else {
                    continue;
                };
                noted.lock().expect("not poisoned").insert(question);
                // An answer, recursion available, no such domain; the question and nothing else
                // (RFC 1035 §4.1.1).
                let mut reply = packet[..end].to_vec();
                (reply[2], reply[3]) = (0x81, 0x83);
                reply[6..12].fill(0);
                let _ = socket.send_to(&reply, from);
            }
        });
        Ignorant { address, asked }
    }
}

/// The type and the name of a question, and where it ends.
fn question(packet: &[u8]) -> Option<((u16, String), usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        let label = packet.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
    let type_ = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    Some(((type_, labels.join(".")), at + 4))
}

/// A server that talks with no other, and whose clients are given no free port.
fn server(dns: &Ignorant) -> Server {
    let servers = format!("[\"{}\"]", dns.address);
    let server = Server::with(&[
        ("listen.https", "[\"127.0.0.1:0\"]"),
        ("federation.mode", "\"off\""),
        ("dns.servers", &servers),
    ]);
    server.cli(
        &["user", "add", "--admin", "--password-stdin", "alice"],
        &format!("{}\n", server::PASSWORD),
    );
    server
}

fn report(mut command: Command) -> (Option<i32>, Value) {
    let output = command.output().expect("the binary runs");
    let json = serde_json::from_slice(&output.stdout);
    let sentence = String::from_utf8_lossy(&output.stderr);
    (
        output.status.code(),
        json.unwrap_or_else(|error| panic!("{error}: {sentence}")),
    )
}

fn ids(report: &Value) -> Vec<(&str, &str)> {
    let text = |value: &'static str, found| -> &str {
        let found: &Value = found;
        found[value].as_str().expect("a text")
    };
    let findings = report["findings"].as_array().expect("a list");
    findings
        .iter()
        .map(|found| (text("id", found), text("severity", found)))
        .collect()
}

#[test]
fn a_server_that_keeps_to_itself_asks_for_the_names_that_clients_ask_for_and_no_others() {
    let dns = Ignorant::start();
    let server = server(&dns);
    let (code, told) = report(server.command(&["doctor", "--json"]));
    assert_eq!(code, Some(1), "{told:#}");
    let name = |prefix: &str| format!("{prefix}{DOMAIN}");
    const A: u16 = 1;
    const AAAA: u16 = 28;
    const SRV: u16 = 33;
    let expected: BTreeSet<(u16, String)> = [
        (A, name("")),
        (AAAA, name("")),
        (SRV, name("_xmpp-client._tcp.")),
        (SRV, name("_xmpps-client._tcp.")),
    ]
    .into();
    assert_eq!(*dns.asked.lock().expect("not poisoned"), expected);
    let ids = ids(&told);
    assert!(ids.contains(&("srv.xmpp-client", "failure")), "{told:#}");
    assert!(ids.contains(&("target.address", "failure")), "{told:#}");
    let is_about_servers = |id: &str| id.contains("s2s") || id.contains("server");
    assert!(!ids.iter().any(|(id, _)| is_about_servers(id)), "{told:#}");
    let words = told.to_string();
    assert!(words.contains("only what clients need"), "{words}");
}

#[test]
fn what_others_see_is_looked_at_on_the_machine_for_whoever_asks_from_outside() {
    let dns = Ignorant::start();
    let server = server(&dns);
    let token = admin::token(&server);
    let here = report(server.command(&["doctor", "--json"]));
    let there = report(server.command_from_outside(&token, &["doctor", "--json"]));
    assert_eq!(here.0, there.0);
    assert_eq!(ids(&here.1), ids(&there.1));
    // By the interface itself, for other programs.
    let fields = http::bearer(&token);
    let answer = server.http().ask("POST", "/admin/doctor", &fields, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ids(&answer.body), ids(&here.1));
    assert_eq!(
        server
            .http()
            .ask("GET", "/admin/doctor", &fields, "")
            .status,
        405
    );
    assert_eq!(
        server.http().ask("POST", "/admin/doctor", "", "").status,
        401
    );
}

#[test]
fn one_look_at_a_time_is_enough() {
    // A DNS that says nothing keeps the first one waiting.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let servers = format!("[\"{}\"]", silent.local_addr().expect("bound"));
    let server = Server::with(&[
        ("listen.https", "[\"127.0.0.1:0\"]"),
        ("dns.servers", &servers),
    ]);
    let token = admin::token(&server);
    let mut first = server
        .command(&["doctor", "--json"])
        .spawn()
        .expect("the binary runs");
    // It is at it once it asks.
    silent
        .set_read_timeout(Some(wire::PATIENCE))
        .expect("a socket");
    silent.recv_from(&mut [0; 512]).expect("a question");
    let refused = admin::outside_refused(&server, &token, &["doctor"], "");
    assert!(
        refused.contains("it is being looked at already"),
        "{refused}"
    );
    let _ = first.kill();
    let _ = first.wait();
}
