//! Several domains on one server: what is each one's own, and what is between them.

use std::path::Path;

use nix::sys::signal::Signal;

use crate::admin::{outside, outside_refused, token};
use crate::sasl::{auth, challenge, scram};
use crate::support::scram::{Binding, Hash, Scram};
use crate::support::server::PASSWORD;
use crate::support::*;

const OTHER: &str = "other.example";
const HOST: (&str, &str) = ("host", "[{ domain = \"other.example\" }]");
const REGISTER: &str = "<query xmlns='jabber:iq:register'/>";

/// A stream of the other domain, ready to authenticate, and its features.
#[track_caller]
fn stream_to(server: &Server, domain: &str) -> (Wire, Element) {
    let mut wire = Wire::connect_tls_to(server.c2s_tls(), domain, &Tls::new());
    let features = wire.open();
    (wire, features)
}

#[track_caller]
fn add(server: &Server, jid: &str, password: &str) {
    let add = ["user", "add", "--password-stdin", jid];
    server.cli(&add, &format!("{password}\n"));
}

/// Somebody of the other domain, with presence.
#[track_caller]
fn online(server: &Server, name: &str, resource: &str) -> Client {
    let wire = Wire::connect_tls_to(server.c2s_tls(), OTHER, &Tls::new());
    let mut client = Client::authenticate(wire, name, PASSWORD);
    client.bind(Some(resource));
    client.present(0);
    client
}

/// What is wrong with a log-in by PLAIN; `None` for nothing.
#[track_caller]
fn log_in(
    server: &Server,
    domain: &str,
    authzid: &str,
    name: &str,
    password: &str,
) -> Option<String> {
    let (mut wire, _) = stream_to(server, domain);
    wire.send(&client::plain(authzid, name, password));
    let answer = wire.element();
    answer.sasl_failure().map(str::to_owned)
}

fn disco(client: &mut Client, domain: &str) -> String {
    let asked = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let answer = client.iq_ok("get", Some(domain), &asked);
    assert_eq!(answer.attr("from"), Some(domain));
    answer.to_string()
}

#[test]
fn the_same_name_in_two_domains_is_two_accounts_and_a_password_of_one_opens_no_other() {
    let server = Server::with(&[HOST]);
    server.add_with_password("alice", "the first one's password");
    add(&server, "alice@other.example", "the other one's password");
    add(&server, "bob@other.example", PASSWORD);
    let listed = server.cli(&["user", "list"], "");
    let expected = "alice@cairn.example\nalice@other.example\nbob@other.example\n";
    assert_eq!(listed, expected);
    let refused = Some("not-authorized".to_owned());
    for (domain, password, meant) in [
        (DOMAIN, "the first one's password", None),
        (OTHER, "the other one's password", None),
        (DOMAIN, "the other one's password", refused.clone()),
        (OTHER, "the first one's password", refused.clone()),
    ] {
        assert_eq!(log_in(&server, domain, "", "alice", password), meant);
    }
    // Bob is nobody in the first domain, and nobody acts as somebody of another one.
    assert_eq!(log_in(&server, DOMAIN, "", "bob", PASSWORD), refused);
    let as_other = log_in(&server, OTHER, "alice@cairn.example", "bob", PASSWORD);
    assert_eq!(as_other.as_deref(), Some("invalid-authzid"));
    let mut bob = online(&server, "bob", "b");
    assert_eq!(bob.jid, "bob@other.example/b");
    bob.send("<message from='bob@cairn.example/b' to='alice@other.example'/>");
    bob.expect_stream_error("invalid-from");
}

#[test]
fn who_has_bound_at_one_domain_resumes_at_no_other() {
    let server = Server::with(&[HOST]);
    server.add("alice");
    add(&server, "alice@other.example", PASSWORD);
    let mut alice = server.online("alice", "a");
    let id = alice.enable_management(true).expect("it can be resumed");
    alice.cut();
    let wire = Wire::connect_tls_to(server.c2s_tls(), OTHER, &Tls::new());
    let mut other = Client::authenticate(wire, "alice", PASSWORD);
    let answer = other.try_resume(&id, 0);
    assert!(answer.is("failed", ns::SM), "got {answer}");
}

#[test]
fn messages_presence_and_offline_storage_between_domains_stay_here() {
    let mut server = Server::with(&[HOST]);
    server.add("alice");
    add(&server, "bob@other.example", PASSWORD);
    let mut alice = server.online("alice", "a");
    let mut bob = online(&server, "bob", "b");
    alice.befriend(&mut bob);
    alice.say("bob@other.example", "over there?");
    let message = bob.message_with_body("over there?");
    assert_eq!(message.attr("from"), Some("alice@cairn.example/a"));
    bob.say("alice@cairn.example/a", "over here");
    alice.message_with_body("over here");
    bob.log_out();
    let gone = alice.presence();
    assert_eq!(gone.attr("from"), Some("bob@other.example/b"));
    assert_eq!(gone.attr("type"), Some("unavailable"));
    alice.say("bob@other.example", "for later");
    alice.settle();
    server.stop();
    server.run();
    let mut bob = online(&server, "bob", "b");
    let message = bob.message_with_body("for later");
    assert_eq!(
        message.must("delay", ns::DELAY).attr("from"),
        Some("other.example"),
        "in {message}"
    );
}

#[test]
fn a_domain_that_is_not_served_is_unknown() {
    let mut server = Server::with(&[HOST]);
    let mut wire = server.tls_wire();
    wire.send(&wire::header_to("third.example"));
    wire.expect_stream_error("host-unknown");
    // One that was taken out: its accounts stay, out of reach.
    server.add("alice");
    add(&server, "bob@other.example", PASSWORD);
    server.stop();
    server.set("host", "[]");
    server.run();
    server.wait_for_log(&["out of reach", "other.example"]);
    let mut wire = server.tls_wire();
    wire.send(&wire::header_to(OTHER));
    wire.expect_stream_error("host-unknown");
    let mut alice = server.online("alice", "a");
    alice.say("bob@other.example", "hello?");
    let (_, condition) = alice
        .message()
        .error()
        .map_or_else(Default::default, |error| {
            (error.0.to_owned(), error.1.to_owned())
        });
    assert_eq!(condition, "remote-server-not-found");
    let listed = server.cli(&["user", "list"], "");
    assert_eq!(listed, "alice@cairn.example\nbob@other.example\n");
    let passwd = ["user", "passwd", "--password-stdin", "bob@other.example"];
    let refused = server.cli_with_input(&passwd, "another password\n");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("this server's domain is cairn.example"),
        "{said}"
    );
    server.cli(&["user", "remove", "bob@other.example"], "");
    assert_eq!(server.cli(&["user", "list"], ""), "alice@cairn.example\n");
}

#[test]
fn each_domain_has_its_contacts_and_what_it_offers() {
    let host = "[{ domain = \"other.example\", auth.scram_sha1 = false, \
                contact.abuse = [\"mailto:abuse@other.example\"] }]";
    let abuse = ("contact.abuse", "[\"mailto:abuse@cairn.example\"]");
    let server = Server::with(&[abuse, ("host", host)]);
    server.add("alice");
    let mut alice = server.login("alice", "a");
    let (first, other) = (disco(&mut alice, DOMAIN), disco(&mut alice, OTHER));
    assert!(first.contains("mailto:abuse@cairn.example"), "{first}");
    assert!(!first.contains("mailto:abuse@other.example"), "{first}");
    assert!(other.contains("mailto:abuse@other.example"), "{other}");
    let offers = |domain| stream_to(&server, domain).1.to_string();
    assert!(offers(DOMAIN).contains("SCRAM-SHA-1"));
    assert!(!offers(OTHER).contains("SCRAM-SHA-1<"));
    // The capabilities in the features are those of that answer (XEP-0115).
    add(&server, "bob@other.example", PASSWORD);
    let wire = Wire::connect_tls_to(server.c2s_tls(), OTHER, &Tls::new());
    let mut bob = Client::authenticate(wire, "bob", PASSWORD);
    let caps = bob
        .features
        .must("c", "http://jabber.org/protocol/caps")
        .clone();
    bob.bind(None);
    let (node, ver) = (caps.attr("node"), caps.attr("ver"));
    let node = format!("{}#{}", node.expect("a node"), ver.expect("a hash"));
    let asked = format!("<query xmlns='{}' node='{node}'/>", ns::DISCO_INFO);
    bob.iq_ok("get", Some(OTHER), &asked);
    let (_, condition) = bob.iq_error("get", Some(DOMAIN), &asked);
    assert_eq!(condition, "item-not-found");
    // What an account asks of a domain that is not its own is not about the account.
    let (_, condition) = bob.iq_error("get", Some(DOMAIN), REGISTER);
    assert_eq!(condition, "forbidden");
    bob.iq_ok("get", Some(OTHER), REGISTER);
    bob.iq_ok("get", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>");
}

#[test]
fn a_domain_is_open_for_registration_by_itself() {
    let host = "[{ domain = \"other.example\", registration.mode = \"open\" }]";
    let server = Server::with(&[("host", host)]);
    server.add("mar\u{ed}a");
    let offers = |domain| stream_to(&server, domain).1.to_string();
    assert!(!offers(DOMAIN).contains("iq-register"));
    assert!(offers(OTHER).contains("iq-register"));
    let register = |domain, to: &str, name: &str| {
        let (mut wire, _) = stream_to(&server, domain);
        wire.send(&format!(
            "<iq type='set' id='r'{to}><query xmlns='jabber:iq:register'>\
             <username>{name}</username><password>{PASSWORD}</password></query></iq>"
        ));
        wire
    };
    register(DOMAIN, "", "carol").expect_stream_error("not-authorized");
    let answer = register(OTHER, "", "carol").element();
    assert_eq!(answer.attr("type"), Some("result"), "{answer}");
    assert_eq!(log_in(&server, OTHER, "", "carol", PASSWORD), None);
    assert!(log_in(&server, DOMAIN, "", "carol", PASSWORD).is_some());
    let answer = register(OTHER, " to='cairn.example'", "dave").element();
    assert_eq!(answer.attr("type"), Some("error"), "{answer}");
    // That a name looks like one of the closed domain is told to nobody in the open one.
    let answer = register(OTHER, "", "mar\u{131}\u{301}a").element();
    assert_eq!(answer.attr("type"), Some("result"), "{answer}");
    let listed = server.cli(&["user", "list"], "");
    assert!(
        !listed.contains("dave") && !listed.contains("carol@cairn"),
        "{listed}"
    );
}

#[test]
fn a_name_that_nobody_has_looks_like_the_accounts_of_its_own_domain() {
    let host = "[{ domain = \"other.example\", auth.scram_iterations = 20000 }]";
    let server = Server::with(&[("host", host)]);
    for name in ["alice", "bob", "carol"] {
        server.add(name);
        add(&server, &format!("{name}@other.example"), PASSWORD);
    }
    for (domain, iterations) in [(DOMAIN, "i=10000"), (OTHER, "i=20000")] {
        for name in [
            "alice", "bob", "dave", "erin", "frank", "grace", "heidi", "ivan",
        ] {
            let (mut wire, _) = stream_to(&server, domain);
            let exchange = Scram::new(Hash::Sha256, name, PASSWORD, &Binding::None);
            wire.send(&auth("SCRAM-SHA-256", &exchange.first()));
            let told = challenge(&mut wire);
            assert!(told.contains(iterations), "{name}@{domain}: {told}");
        }
    }
}

/// Writes a fresh certificate for a domain, and returns it.
fn write_certificate(directory: &Path, domain: &str) -> (Vec<u8>, [String; 2]) {
    let pair = rcgen::generate_simple_self_signed(vec![domain.to_owned()]).expect("a certificate");
    let (chain, key) = (format!("{domain}.pem"), format!("{domain}.key"));
    std::fs::write(directory.join(&chain), pair.cert.pem()).expect("ours");
    std::fs::write(directory.join(&key), pair.signing_key.serialize_pem()).expect("ours");
    (pair.cert.der().to_vec(), [chain, key])
}

#[track_caller]
fn shown(server: &Server, domain: &str) -> Vec<u8> {
    let tls = Tls::new();
    Wire::connect_tls_to(server.c2s_tls(), domain, &tls);
    tls.certificate().expect("one was shown").to_vec()
}

/// A server whose two domains have their certificates in files; what these are, not started.
fn with_certificates() -> (Server, Vec<u8>, Vec<u8>) {
    let server = Server::prepare(&[
        ("tls.certificate", "\"cairn.example.pem\""),
        ("tls.key", "\"cairn.example.key\""),
        (
            "host",
            "[{ domain = \"other.example\", certificate = \"other.example.pem\", \
               key = \"other.example.key\" }]",
        ),
    ]);
    let (first, _) = write_certificate(server.directory(), DOMAIN);
    let (other, _) = write_certificate(server.directory(), OTHER);
    (server, first, other)
}

#[test]
fn slixmpp_verifies_the_certificates_of_both_domains_and_chats_between_them() {
    let (mut server, ..) = with_certificates();
    server.run();
    server.add("alice");
    add(&server, "alice@other.example", PASSWORD);
    let port = server.c2s().port().to_string();
    let file = |domain: &str| server.directory().join(format!("{domain}.pem"));
    let files = [DOMAIN, OTHER].map(|domain| file(domain).to_str().expect("UTF-8").to_owned());
    let arguments = ["domains", &port, OTHER, &files[0], &files[1]];
    python::run("slixmpp_client.py", &arguments);
}

#[test]
fn each_domain_shows_its_certificate_by_sni_and_by_the_stream_and_binds_to_it() {
    let (mut server, first, other) = with_certificates();
    server.run();
    add(&server, "bob@other.example", PASSWORD);
    assert_eq!(shown(&server, DOMAIN), first);
    assert_eq!(shown(&server, OTHER), other);
    assert_eq!(shown(&server, "third.example"), first);
    // By STARTTLS the stream says which, whatever the name in TLS.
    for sni in [OTHER, DOMAIN, "xmpp.other.example"] {
        let tls = Tls::new();
        let mut wire = server.wire();
        OTHER.clone_into(&mut wire.domain);
        wire.open();
        wire.send(&format!("<starttls xmlns='{}'/>", ns::TLS));
        assert!(wire.element().is("proceed", ns::TLS));
        wire.restart();
        wire.start_tls_as(&tls, sni).expect("a handshake");
        wire.open();
        assert_eq!(tls.certificate().expect("seen").to_vec(), other, "{sni}");
    }
    // A client that came for the one by TLS and asks for the other has seen whose it is.
    for (sni, certificate) in [(OTHER, &other), (DOMAIN, &first)] {
        let mut wire = Wire::connect(server.c2s_tls());
        wire.start_tls_as(&Tls::new(), sni).expect("a handshake");
        OTHER.clone_into(&mut wire.domain);
        wire.open();
        let binding = Binding::To {
            name: "tls-server-end-point",
            data: ring::digest::digest(&ring::digest::SHA256, certificate)
                .as_ref()
                .to_vec(),
        };
        let mut exchange = Scram::new(Hash::Sha256, "bob", PASSWORD, &binding);
        let success = scram(&mut wire, "SCRAM-SHA-256-PLUS", &mut exchange);
        assert!(success.is("success", ns::SASL), "{sni}: {success}");
    }
    // Another one is used at once, and nobody is dropped.
    let mut bob = online(&server, "bob", "b");
    let (new, _) = write_certificate(server.directory(), OTHER);
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["certificate was read again"]);
    assert_eq!(shown(&server, OTHER), new);
    assert_eq!(shown(&server, DOMAIN), first);
    bob.expect_nothing();
}

#[test]
fn certificates_are_set_and_shown_domain_by_domain_here_and_from_outside() {
    let https = ("listen.https", "[\"127.0.0.1:0\"]");
    let mut server = Server::with(&[https, HOST]);
    let self_signed = [DOMAIN, OTHER].map(|domain| shown(&server, domain));
    assert_ne!(self_signed[0], self_signed[1]);
    let (_, files) = write_certificate(server.directory(), "wrong.example");
    let (other, [chain, key]) = write_certificate(server.directory(), OTHER);
    let said = server.cli(&["cert", "set", "--host", OTHER, &chain, &key], "");
    assert_eq!(said, "the certificate is in use; sessions stay\n");
    assert_eq!(shown(&server, OTHER), other);
    assert_eq!(shown(&server, DOMAIN), self_signed[0]);
    let token = token(&server);
    let told = outside(&server, &token, &["cert", "show", "--host", OTHER], "");
    assert!(
        told.contains("by `cairn cert set`") && told.contains(OTHER),
        "{told}"
    );
    let told = outside(&server, &token, &["cert", "show"], "");
    assert!(
        told.contains("self-signed") && told.contains(DOMAIN),
        "{told}"
    );
    let third = ["cert", "show", "--host", "third.example"];
    let refused = outside_refused(&server, &token, &third, "");
    assert!(
        refused.contains("third.example is not served here"),
        "{refused}"
    );
    let set = ["cert", "set", "--host", OTHER, &files[0], &files[1]];
    let said = outside(&server, &token, &set, "");
    assert!(
        said.contains("warning: the certificate is not for other.example"),
        "{said}"
    );
    // They stay over a restart.
    server.cli(&["cert", "set", "--host", OTHER, &chain, &key], "");
    server.kill();
    server.run();
    assert_eq!(shown(&server, OTHER), other);
    assert_eq!(shown(&server, DOMAIN), self_signed[0]);
}

#[test]
fn a_domain_is_added_and_taken_out_where_the_store_keeps_the_configuration() {
    let mut server = Server::prepare(&[]);
    server.run_as(server.command(&["serve", "--stored-config"]));
    add(&server, "alice@cairn.example", PASSWORD);
    let said = server.cli(
        &["config", "set", "host", "[{ domain = \"Other.Example\" }]"],
        "",
    );
    assert!(said.contains("from the next start on"), "{said}");
    let get = server.cli(&["config", "get", "host"], "");
    assert_eq!(
        get,
        "host = []\n# host = [{ domain = \"other.example\" }] from the next start on\n"
    );
    let twice = ["config", "set", "host", "[{ domain = \"cairn.example\" }]"];
    let refused = server.cli_with_input(&twice, "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is there twice"));
    // The store's counts once somebody administers the server.
    let admin = ["user", "admin", "--password-stdin", "alice@cairn.example"];
    server.cli(&admin, &format!("{PASSWORD}\n"));
    server.stop();
    server.run_as(server.command(&["serve", "--stored-config"]));
    add(&server, "bob@other.example", PASSWORD);
    online(&server, "bob", "b").log_out();
    let said = server.cli(&["config", "set", "host", "[]"], "");
    assert!(
        said.contains("warning: 1 accounts of other.example are out of reach"),
        "{said}"
    );
    // Nor is the last administrator locked out.
    let bob = ["user", "admin", "--password-stdin", "bob@other.example"];
    server.cli(&bob, &format!("{PASSWORD}\n"));
    server.cli(&["user", "admin", "--remove", "alice@cairn.example"], "");
    let refused = server.cli_with_input(&["config", "set", "host", "[]"], "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no administrator would be left"), "{said}");
}

#[test]
fn exports_and_backups_hold_the_accounts_of_all_domains() {
    let old = Server::with(&[HOST]);
    for jid in [
        "alice@cairn.example",
        "alice@other.example",
        "bob@cairn.example",
        "carol@other.example",
    ] {
        add(&old, jid, PASSWORD);
    }
    let exported = old.cli(&["store", "export"], "");
    assert!(
        exported.contains("<host jid='cairn.example'>"),
        "{exported}"
    );
    assert!(
        exported.contains("<host jid='other.example'>"),
        "{exported}"
    );
    let listed = old.cli(&["user", "list"], "");
    let new = Server::with(&[HOST]);
    let file = new.directory().join("accounts.xml");
    std::fs::write(&file, &exported).expect("ours");
    new.cli(&["store", "import", file.to_str().expect("UTF-8")], "");
    assert_eq!(new.cli(&["user", "list"], ""), listed);
    assert_eq!(log_in(&new, OTHER, "", "carol", PASSWORD), None);
    // A server without the other domain takes what is its own.
    let alone = Server::start();
    let said = alone.cli(&["store", "import", file.to_str().expect("UTF-8")], "");
    assert!(
        said.contains("other.example: this server does not serve it"),
        "{said}"
    );
    assert_eq!(
        alone.cli(&["user", "list"], ""),
        "alice@cairn.example\nbob@cairn.example\n"
    );
    let phrase = old.directory().join("phrase");
    std::fs::write(&phrase, "a long passphrase\n").expect("ours");
    let backup = old.directory().join("cairn.backup");
    let [phrase, backup] = [phrase, backup].map(|path| path.to_str().expect("UTF-8").to_owned());
    old.cli(&["backup", "--passphrase-file", &phrase, &backup], "");
    let restored = Server::with(&[HOST]);
    restored.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert_eq!(restored.cli(&["user", "list"], ""), listed);
    assert_eq!(log_in(&restored, OTHER, "", "carol", PASSWORD), None);
    // One that does not serve the other domain yet keeps everything all the same.
    let later = Server::start();
    let said = later.cli(&["restore", "--passphrase-file", &phrase, &backup], "");
    assert!(
        said.contains("2 accounts are of other.example, which is not served now"),
        "{said}"
    );
    assert_eq!(later.cli(&["user", "list"], ""), listed);
}
