//! What `cairn doctor` says of a server, with real names, addresses and certificates.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::peers::ca::Order;
use crate::peers::{Ca, CairnPeer, Dns, Leaf, Net, Place, Zone};
use crate::support::DOMAIN;

/// A Cairn, and all that others find it by.
struct Patient {
    cairn: CairnPeer,
    _dns: Dns,
}

/// What the doctor has said.
struct Said {
    code: Option<i32>,
    report: Value,
}

/// Every service record that there may be.
fn whole(place: &Place) -> Zone {
    let zone = Zone::new().host(DOMAIN, place);
    [
        ("_xmpps-server", 5270),
        ("_xmpp-server", 5269),
        ("_xmpps-client", 5223),
        ("_xmpp-client", 5222),
    ]
    .iter()
    .fold(zone, |zone, (service, port)| {
        zone.record(&format!(
            "{service}._tcp.{DOMAIN}. SRV 5 0 {port} {DOMAIN}."
        ))
    })
}

impl Patient {
    /// With this certificate and these names; it does not run yet.
    #[track_caller]
    fn with(
        net: &Net,
        leaf: impl Fn(&Ca) -> Leaf,
        zone: impl Fn(&Place, &Leaf) -> Zone,
    ) -> Patient {
        let ca = Ca::new("Authority of a test");
        let (place, leaf) = (net.place("cairn"), leaf(&ca));
        let dns = Dns::start(net, &zone(&place, &leaf));
        let mut cairn = CairnPeer::prepare(place, DOMAIN, &leaf, &["romeo"]);
        cairn.federate(&ca, &dns);
        cairn.set("listen.c2s_tls", "[\"[::]:5223\"]");
        Patient { cairn, _dns: dns }
    }

    /// The same, running.
    #[track_caller]
    fn running(
        net: &Net,
        leaf: impl Fn(&Ca) -> Leaf,
        zone: impl Fn(&Place, &Leaf) -> Zone,
    ) -> Patient {
        let mut patient = Patient::with(net, leaf, zone);
        patient.cairn.run();
        patient
    }

    fn say(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.cairn.place.command(env!("CARGO_BIN_EXE_cairn"));
        command.args(["--config", "cairn.toml", "doctor"]);
        let output = command.args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), said)
    }

    #[track_caller]
    fn examined(&self) -> Said {
        let (code, said) = self.say(&["--json"]);
        let report = serde_json::from_str(&said).expect("JSON");
        let said = Said { code, report };
        // Who has heard of a failure hears it from the exit code too.
        let failures = said.report["failures"].as_u64();
        assert_eq!(
            said.code == Some(0),
            failures == Some(0),
            "{:#}",
            said.report
        );
        said
    }
}

impl Said {
    fn findings(&self) -> &[Value] {
        let findings = self.report["findings"].as_array();
        findings.map(Vec::as_slice).unwrap_or_default()
    }

    /// The ids of what is worse than a note, each once.
    fn complaints(&self) -> Vec<&str> {
        let is_bad =
            |found: &&Value| found["severity"] == "warning" || found["severity"] == "failure";
        let bad = self.findings().iter().filter(is_bad);
        let mut ids: Vec<&str> = bad.filter_map(|found| found["id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The first finding of this kind that is not as it should be.
    #[track_caller]
    fn the(&self, id: &str) -> &Value {
        let mut findings = self.findings().iter();
        let found = findings.find(|found| found["id"] == id && found["severity"] != "ok");
        found.unwrap_or_else(|| panic!("no {id} in {:#}", self.report))
    }

    #[track_caller]
    fn mend(&self, id: &str) -> &str {
        self.the(id)["mend"].as_str().expect("something mends it")
    }
}

fn good(ca: &Ca) -> Leaf {
    ca.leaf(DOMAIN)
}

#[test]
fn a_server_that_is_well_is_told_so_in_words_and_in_json() {
    Net::run(|net| {
        let zone = |place: &Place, leaf: &Leaf| {
            let zone = whole(place).tlsa(DOMAIN, 5269, leaf);
            zone.tlsa(DOMAIN, 5270, leaf)
        };
        let mut patient = Patient::with(net, good, zone);
        patient.cairn.set("listen.https", "[\"[::]:443\"]");
        patient.cairn.run();
        let said = patient.examined();
        assert_eq!(said.complaints(), [] as [&str; 0], "{:#}", said.report);
        let is_ok = |id: &str| {
            let mut of_it = said.findings().iter().filter(|found| found["id"] == id);
            of_it.any(|found| found["severity"] == "ok")
        };
        for id in [
            "srv.xmpp-server",
            "srv.xmpps-server",
            "srv.xmpp-client",
            "srv.xmpps-client",
            "listener.s2s",
            "listener.s2s-tls",
            "listener.c2s",
            "listener.c2s-tls",
            "reach.s2s",
            "reach.s2s-tls",
            "reach.c2s",
            "reach.c2s-tls",
            "listener.https",
            "reach.https",
            "certificate.chain",
            "certificate.names",
            "certificate.dates",
            "tlsa",
        ] {
            assert!(is_ok(id), "{id} in {:#}", said.report);
        }
        // Both families, and each is this machine's.
        let reached = said
            .findings()
            .iter()
            .filter(|found| found["id"] == "reach.s2s");
        assert_eq!(reached.count(), 2, "{:#}", said.report);
        let (code, text) = patient.say(&[]);
        assert_eq!(code, Some(0), "{text}");
        for found in said.findings() {
            let id = found["id"].as_str().expect("an id");
            let part = format!(" {id}: ");
            assert!(text.contains(&part), "{id} in {text}");
        }
        assert!(text.ends_with("0 failures, 0 warnings\n"), "{text}");
    });
}

/// README: `[listen] https` serves servers and clients too (XEP-0368).
#[test]
fn the_port_of_the_web_alone_is_enough_and_called_by_its_own_name() {
    Net::run(|net| {
        let zone = |place: &Place, leaf: &Leaf| {
            let zone = Zone::new().shared_server(DOMAIN, place);
            let zone = zone.tlsa(DOMAIN, 443, leaf);
            let record = |service: &str, port, target: &str| {
                format!("{service}._tcp.{DOMAIN}. SRV 0 5 {port} {target}.")
            };
            let zone = zone.record(&record("_xmpp-server", 0, ""));
            let zone = zone.record(&record("_xmpps-client", 443, DOMAIN));
            zone.record(&record("_xmpp-client", 5222, DOMAIN))
        };
        let mut patient = Patient::with(net, good, zone);
        for key in ["listen.s2s", "listen.s2s_tls", "listen.c2s_tls"] {
            patient.cairn.set(key, "[]");
        }
        patient.cairn.set("listen.https", "[\"[::]:443\"]");
        patient.cairn.run();
        let said = patient.examined();
        assert_eq!(said.complaints(), [] as [&str; 0], "{:#}", said.report);
        let words = said.report.to_string();
        assert!(words.contains("[listen] https answers at"), "{words}");
        // Whoever looks for those is told that they are empty, and nothing else.
        for key in ["s2s_tls", "c2s_tls"] {
            for false_words in ["answers", "has"] {
                let sentence = format!("[listen] {key} {false_words}");
                assert!(!words.contains(&sentence), "{words}");
            }
        }
    });
}

#[test]
fn a_missing_service_record_is_printed_as_it_is_to_be_published() {
    Net::run(|net| {
        let zone = |place: &Place, _: &Leaf| Zone::new().host(DOMAIN, place);
        let patient = Patient::running(net, good, zone);
        let said = patient.examined();
        // Others find it all the same, by its own addresses.
        assert_eq!(said.complaints(), [] as [&str; 0], "{:#}", said.report);
        let record = format!("_xmpp-server._tcp.{DOMAIN}. 3600 IN SRV 5 0 5269 {DOMAIN}.");
        assert_eq!(said.mend("srv.xmpp-server"), record);
        let (_, text) = patient.say(&[]);
        assert!(text.contains(&format!("mend: {record}\n")), "{text}");
    });
}

#[test]
fn a_domain_without_records_and_addresses_is_a_failure() {
    Net::run(|net| {
        let patient = Patient::running(net, good, |_, _| Zone::new());
        let said = patient.examined();
        let bad = ["srv.xmpp-client", "srv.xmpp-server", "target.address"];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
    });
}

#[test]
fn a_service_record_with_a_wrong_port_is_told_with_the_right_one() {
    Net::run(|net| {
        let zone = |place: &Place, _: &Leaf| {
            let zone = Zone::new().host(DOMAIN, place);
            zone.record(&format!(
                "_xmpp-server._tcp.{DOMAIN}. SRV 5 0 5268 {DOMAIN}."
            ))
        };
        let patient = Patient::running(net, good, zone);
        let said = patient.examined();
        let bad = ["reach.s2s", "srv.xmpp-server"];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
        let record = format!("_xmpp-server._tcp.{DOMAIN}. 3600 IN SRV 5 0 5269 {DOMAIN}.");
        assert_eq!(said.mend("srv.xmpp-server"), record);
    });
}

#[test]
fn a_target_that_is_an_alias_is_told_with_what_it_is_an_alias_of() {
    Net::run(|net| {
        let zone = |place: &Place, _: &Leaf| {
            let zone = Zone::new().host(DOMAIN, place).host("real.test", place);
            zone.record("alias.test. CNAME real.test.").record(&format!(
                "_xmpp-server._tcp.{DOMAIN}. SRV 5 0 5269 alias.test."
            ))
        };
        let patient = Patient::running(net, good, zone);
        let said = patient.examined();
        assert_eq!(said.complaints(), ["target.alias"], "{:#}", said.report);
        let record = format!("_xmpp-server._tcp.{DOMAIN}. 3600 IN SRV 5 0 5269 real.test.");
        assert_eq!(said.mend("target.alias"), record);
        assert_eq!(said.code, Some(0), "others follow it");
    });
}

#[test]
fn a_certificate_whose_time_is_over_is_a_failure_of_its_dates_alone() {
    Net::run(|net| {
        let expired = |ca: &Ca| {
            ca.issue(&Order {
                expired: true,
                ..Order::of(DOMAIN)
            })
        };
        let patient = Patient::running(net, expired, |place, _| whole(place));
        let said = patient.examined();
        assert_eq!(
            said.complaints(),
            ["certificate.dates"],
            "{:#}",
            said.report
        );
        let sentence = said.the("certificate.dates")["sentence"].to_string();
        assert!(sentence.contains("has ended on 2021-01-01"), "{sentence}");
        assert!(said.mend("certificate.dates").contains("[tls]"));
    });
}

/// With this certificate one thing is wrong, which is told with this word.
#[track_caller]
fn complains_of(leaf: impl Fn(&Ca) -> Leaf, id: &str, word: &str) {
    Net::run(|net| {
        let patient = Patient::running(net, &leaf, |place, _| whole(place));
        let said = patient.examined();
        assert_eq!(said.complaints(), [id], "{:#}", said.report);
        let sentence = said.the(id)["sentence"].to_string();
        assert!(sentence.contains(word), "{sentence}");
    });
}

#[test]
fn a_certificate_for_another_name_is_a_failure_that_says_for_which() {
    let other = |ca: &Ca| ca.leaf("another.test");
    complains_of(other, "certificate.names", "another.test");
}

#[test]
fn a_certificate_that_signs_itself_is_said_to() {
    let selfish = |_: &Ca| Leaf::self_signed(DOMAIN);
    complains_of(selfish, "certificate.chain", "self-signed");
}

#[test]
fn a_signed_key_that_is_another_one_is_a_failure_with_the_record_of_the_right_one() {
    Net::run(|net| {
        let another = Leaf::self_signed(DOMAIN);
        let zone = |place: &Place, _: &Leaf| whole(place).tlsa(DOMAIN, 5269, &another);
        let ca = Ca::new("Authority of a test");
        let right = ca.leaf(DOMAIN);
        let patient = Patient::running(net, |_| right.clone(), zone);
        let said = patient.examined();
        // The authority of this leaf is not the one that is trusted here, which is another finding.
        assert!(said.complaints().contains(&"tlsa"), "{:#}", said.report);
        let digest = right.public_key_sha256();
        let record = format!("_5269._tcp.{DOMAIN}. 3600 IN TLSA 3 1 1 {digest}");
        assert_eq!(said.mend("tlsa"), record);
        assert_eq!(said.the("tlsa")["severity"], "failure");
    });
}

#[test]
fn a_server_that_is_down_is_looked_at_all_the_same() {
    Net::run(|net| {
        let mut patient = Patient::with(net, good, |place, _| whole(place));
        let said = patient.examined();
        let bad = [
            "listener.c2s",
            "listener.c2s-tls",
            "listener.s2s",
            "listener.s2s-tls",
            "reach.c2s",
            "reach.c2s-tls",
            "reach.s2s",
            "reach.s2s-tls",
        ];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
        assert!(said.mend("listener.s2s").contains("start the server"));
        // One listener of several: the record that leads to it is wrong then.
        patient.cairn.set("listen.s2s_tls", "[]");
        patient.cairn.run();
        let said = patient.examined();
        let bad = ["reach.s2s-tls", "srv.xmpps-server"];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
        assert!(said.mend("srv.xmpps-server").contains("[listen] s2s_tls"));
    });
}

#[test]
fn an_address_where_nobody_is_keeps_nobody_out_beside_one_that_leads_here() {
    Net::run(|net| {
        // Nothing comes back from there.
        let zone =
            |place: &Place, _: &Leaf| whole(place).record(&format!("{DOMAIN}. A 198.51.100.7"));
        let patient = Patient::running(net, good, zone);
        let said = patient.examined();
        let bad = ["reach.c2s", "reach.c2s-tls", "reach.s2s", "reach.s2s-tls"];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
        assert_eq!(said.the("reach.s2s")["severity"], "warning");
        assert_eq!(said.code, Some(0));
    });
}

#[test]
fn the_way_of_an_authority_is_tried_and_the_self_signed_certificate_waits_for_it() {
    Net::run(|net| {
        let mut patient = Patient::with(net, good, |place, _| whole(place));
        let cairn = &mut patient.cairn;
        cairn.unset("tls.certificate");
        cairn.unset("tls.key");
        // Nobody is there; it is not the one that comes here that is tried, but the way.
        cairn.set("acme.directory", "\"https://authority.test/dir\"");
        cairn.set("listen.http", "[\"[::]:80\"]");
        cairn.run();
        let said = patient.examined();
        assert_eq!(
            said.complaints(),
            ["certificate.chain"],
            "{:#}",
            said.report
        );
        assert!(said.mend("certificate.chain").contains("cairn cert show"));
        let ways = said
            .findings()
            .iter()
            .filter(|found| found["id"] == "acme.http-01");
        assert_eq!(ways.count(), 2, "both addresses: {:#}", said.report);
        // A server of web pages in its place is told from it.
        patient.cairn.kill();
        patient.cairn.set("listen.http", "[\"[::]:8080\"]");
        patient.cairn.run();
        serve_pages(&patient.cairn.place);
        let said = patient.examined();
        let found = said.the("acme.http-01");
        assert_eq!(found["severity"], "failure");
        let sentence = found["sentence"].to_string();
        assert!(sentence.contains("something else"), "{sentence}");
        assert!(said.mend("acme.http-01").contains("TCP port 80"));
    });
}

/// RFC 8659 §3: what is said above a domain counts for it.
#[test]
fn a_zone_that_lets_only_another_authority_issue_is_a_failure() {
    Net::run(|net| {
        let zone =
            |place: &Place, _: &Leaf| whole(place).record("example. CAA 0 issue \"ca.test\"");
        let mut patient = Patient::with(net, good, zone);
        let cairn = &mut patient.cairn;
        cairn.unset("tls.certificate");
        cairn.unset("tls.key");
        cairn.set("acme.directory", "\"letsencrypt\"");
        cairn.set("listen.http", "[\"[::]:80\"]");
        cairn.run();
        let said = patient.examined();
        let bad = ["acme.caa", "certificate.chain"];
        assert_eq!(said.complaints(), bad, "{:#}", said.report);
        let record = format!("{DOMAIN}. 3600 IN CAA 0 issue \"letsencrypt.org\"");
        assert_eq!(said.mend("acme.caa"), record);
    });
}

#[test]
fn a_domain_that_says_it_has_no_server_is_a_failure() {
    Net::run(|net| {
        let zone = |place: &Place, _: &Leaf| {
            let zone = Zone::new().host(DOMAIN, place);
            zone.record(&format!("_xmpp-server._tcp.{DOMAIN}. SRV 0 0 0 ."))
        };
        let patient = Patient::running(net, good, zone);
        let said = patient.examined();
        assert_eq!(said.complaints(), ["srv.xmpp-server"], "{:#}", said.report);
        let record = format!("_xmpp-server._tcp.{DOMAIN}. 3600 IN SRV 5 0 5269 {DOMAIN}.");
        assert_eq!(said.mend("srv.xmpp-server"), record);
    });
}

/// Answers every request in a place with a page.
fn serve_pages(place: &Place) {
    let listener = place.inside(|| TcpListener::bind("[::]:80").expect("it is free"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 1_024]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
}

/// Tells everybody in its place a time that is so far ahead (RFC 5905 §7.3).
fn keep_time(place: &Place, ahead_s: u64) {
    let socket = place.inside(|| UdpSocket::bind("0.0.0.0:123").expect("it is free"));
    std::thread::spawn(move || {
        let mut packet = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut packet) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_s = now.expect("it is after 1970").as_secs() + ahead_s + 2_208_988_800;
            let mut reply = [0; 48];
            (reply[0], reply[1]) = (0x24, 1);
            reply[24..32].copy_from_slice(&packet[40..]);
            for at in [32, 40] {
                reply[at..at + 8].copy_from_slice(&(now_s << 32).to_be_bytes());
            }
            let _ = socket.send_to(&reply, from);
        }
    });
}

#[test]
fn a_clock_that_is_a_day_behind_is_a_failure() {
    Net::run(|net| {
        let time = net.place("time");
        keep_time(&time, 86_400);
        let zone = |place: &Place, _: &Leaf| whole(place).host("time.test", &time);
        let mut patient = Patient::with(net, good, zone);
        // By its name its IPv6 address comes first, where it does not keep time.
        patient
            .cairn
            .set("time.servers", &format!("[\"{}\"]", time.v4));
        patient.cairn.run();
        let said = patient.examined();
        assert_eq!(said.complaints(), ["clock"], "{:#}", said.report);
        let sentence = said.the("clock")["sentence"].to_string();
        assert!(sentence.contains("seconds behind"), "{sentence}");
    });
}
