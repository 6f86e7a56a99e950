//! Several domains, each with a certificate of its own.

use std::fs;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pebble::{Pebble, Ways, wait_for_certificate};
use crate::support::*;

const OTHER: &str = "other.example";
const THIRD: &str = "third.example";
const GATEWAY: &str = "gateway.cairn.example";
const HOSTS: &str = "[{ domain = \"other.example\" }, { domain = \"third.example\" }]";

/// What clients who ask for a name are shown.
struct Shown {
    issuer: String,
    serial: String,
    names: Vec<String>,
    key: Vec<u8>,
}

impl Shown {
    /// Certified for this name and nothing else, by the authority.
    fn is_certified_for(&self, name: &str) -> bool {
        self.issuer.contains("Pebble Intermediate CA") && self.names == [name]
    }
}

#[track_caller]
fn shown(server: &Server, name: &str) -> Shown {
    let tls = Tls::new();
    drop(Wire::connect_tls_to(server.c2s_tls(), name, &tls));
    let der = tls.certificate().expect("one is shown");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let names = certificate.subject_alternative_name().expect("readable");
    let names = names.expect("it has names").value.general_names.iter();
    let names = names.map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => other.to_string(),
    });
    Shown {
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        names: names.collect(),
        key: certificate.public_key().raw.to_vec(),
    }
}

#[track_caller]
fn wait_for(server: &Server, domain: &str) {
    server.wait_for_log(&["the first certificate is in use", domain]);
}

/// Each is proved, has its own key, and an order with a list of its own in the log.
fn each_domain_is_certified(mut server: Server) {
    server.set("host", HOSTS);
    server.run();
    let domains = [DOMAIN, OTHER, THIRD];
    for domain in domains {
        wait_for(&server, domain);
    }
    let all = domains.map(|domain| shown(&server, domain));
    for (domain, shown) in domains.iter().zip(&all) {
        assert!(shown.is_certified_for(domain), "{domain}");
    }
    assert!(all[0].key != all[1].key && all[1].key != all[2].key);
    // They asked as one: there is one account.
    let log = server.log();
    let accounts = log
        .iter()
        .filter(|line| line.contains("has given an account"));
    assert_eq!(accounts.count(), 1);
    let told = server.cli(&["cert", "show", "--host", OTHER], "");
    assert!(
        told.contains("the authority that [acme] names") && told.contains(OTHER),
        "{told}"
    );
    // They are there after a restart.
    server.stop();
    server.run();
    for (domain, before) in domains.iter().zip(&all) {
        assert_eq!(shown(&server, domain).serial, before.serial, "{domain}");
    }
}

#[test]
fn each_domain_gets_a_certificate_of_its_own_proved_by_http() {
    if let Some(pebble) = Pebble::start(Ways::default()) {
        each_domain_is_certified(pebble.server_with_http());
    }
}

#[test]
fn each_domain_gets_a_certificate_of_its_own_proved_by_tls() {
    if let Some(pebble) = Pebble::start(Ways::default()) {
        each_domain_is_certified(pebble.server_with_https());
    }
}

/// Other servers look at it; clients never come to it, and it may have none.
#[test]
fn a_component_gets_a_certificate_unless_it_is_told_not_to() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    let mut server = pebble.server_with_http();
    let component = |domain, more| format!("{{ domain = \"{domain}\", secret = \"s\"{more} }}");
    let both = [component(GATEWAY, ""), component(THIRD, ", acme = false")];
    server.set("federation.mode", "\"open\"");
    server.set("component", &format!("[{}]", both.join(", ")));
    server.run();
    wait_for(&server, "[\"cairn.example\"]");
    wait_for(&server, GATEWAY);
    let before = shown(&server, GATEWAY);
    assert!(before.is_certified_for(GATEWAY));
    assert!(shown(&server, THIRD).is_certified_for(DOMAIN));
    server.stop();
    server.run();
    assert_eq!(shown(&server, GATEWAY).serial, before.serial);
    let told = server.cli(&["cert", "show", "--host", GATEWAY], "");
    assert!(told.contains("the authority that [acme] names"), "{told}");
    let refused = server.cli_with_input(&["cert", "show", "--host", THIRD], "");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("no certificate of its own"), "{refused}");
}

#[test]
fn a_domain_that_cannot_be_proved_keeps_no_other_waiting() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    pebble.mislead(OTHER);
    let mut server = pebble.server_with_http();
    server.set("host", HOSTS);
    server.run();
    let line = server.wait_for_log(&["no certificate for other.example"]);
    assert!(line.contains("port 80"), "{line}");
    wait_for_certificate(&server);
    wait_for(&server, THIRD);
    assert!(shown(&server, THIRD).is_certified_for(THIRD));
    assert!(!shown(&server, OTHER).issuer.contains("Pebble"));
    let told = server.cli(&["cert", "show", "--host", OTHER], "");
    assert!(
        told.contains("no new one") && told.contains("port 80"),
        "{told}"
    );
    let told = server.cli(&["cert", "show"], "");
    assert!(!told.contains("no new one"), "{told}");
    // Each waits for itself: after a restart the others are not asked for, and neither is this one
    // before its time.
    server.stop();
    server.run();
    let before = shown(&server, THIRD).serial;
    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_for_log(&["no certificate for other.example", "failures=2"]);
    let log = server.log();
    let asked = log
        .iter()
        .filter(|line| line.contains("asking for a certificate"));
    assert_eq!(asked.count(), 1, "{log:?}");
    assert_eq!(shown(&server, THIRD).serial, before);
}

#[test]
fn a_domain_with_a_certificate_of_the_operator_is_left_alone() {
    let Some(pebble) = Pebble::start(Ways::default()) else {
        return;
    };
    let mut server = pebble.server_with_http();
    let own = rcgen::generate_simple_self_signed([OTHER.to_owned()]).expect("ring makes keys");
    let (chain, key) = ("other.pem", "other-key.pem");
    let write = |name: &str, text: String| {
        fs::write(server.directory().join(name), text).expect("the directory is ours");
    };
    write(chain, own.cert.pem());
    write(key, own.signing_key.serialize_pem());
    let host = format!(
        "[{{ domain = {OTHER:?}, certificate = {chain:?}, key = {key:?} }}, \
         {{ domain = {THIRD:?} }}]"
    );
    server.set("host", &host);
    server.run();
    server.wait_for_log(&["leaves it alone", OTHER]);
    wait_for_certificate(&server);
    wait_for(&server, THIRD);
    assert!(!shown(&server, OTHER).issuer.contains("Pebble"));
    // What became of its files meanwhile is nothing to the others.
    server.stop();
    server.set("host", &host.replace(THIRD, "fourth.example"));
    server.run();
    fs::remove_file(server.directory().join(chain)).expect("it is there");
    wait_for(&server, "fourth.example");
    assert!(shown(&server, "fourth.example").is_certified_for("fourth.example"));
}

#[test]
fn certificates_of_several_domains_are_renewed_each_in_its_time() {
    let ways = Ways {
        life_s: 6,
        ..Ways::default()
    };
    let Some(pebble) = Pebble::start(ways) else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.set("host", HOSTS);
    server.run();
    for domain in [DOMAIN, OTHER, THIRD] {
        server.wait_for_log(&["the renewed certificate is in use", domain]);
    }
}
