//! Judgement of what could have been seen.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::facts::{Aim, Facts, Host, Keys, Offer, Shown, Trouble, Visit, Way};
use super::*;
use crate::config::Machine;
use crate::net::dns::{PublishedIssuer, PublishedKey, PublishedService};

const NOW_S: u64 = 1_795_564_800;
const DAY_S: u64 = 86_400;
const HERE: &str = "1.1.1.1";

/// A configuration that says this.
fn offer(toml: &str) -> Offer {
    let text = format!("domain = \"chat.example\"\n{toml}");
    let config = Config::parse(&text, &Machine::of_memory(1 << 30)).expect("it is valid");
    Offer::of(&config, &config.certified()[0])
}

fn shown() -> Shown {
    Shown {
        der: vec![1],
        trust: Ok(()),
        is_named: true,
        is_named_as_host: true,
        names: ["chat.example".to_owned()].into(),
        issuer: "CN=An authority".to_owned(),
        is_self_signed: false,
        not_before_s: NOW_S - 30 * DAY_S,
        not_after_s: NOW_S + 60 * DAY_S,
        key_sha256: "ab".repeat(32),
    }
}

fn record(target: &str, port: u16) -> PublishedService {
    PublishedService {
        priority: 5,
        weight: 0,
        port,
        target: target.to_owned(),
    }
}

fn visit(way: Way, port: u16, seen: Result<(), Trouble>) -> Visit {
    Visit {
        way,
        host: "chat.example".to_owned(),
        to: SocketAddr::new(HERE.parse().expect("an address"), port),
        is_own: true,
        seen: seen.map(|()| Some(Arc::new(shown()))),
    }
}

fn host(address: &str, is_own: bool) -> Host {
    let address: IpAddr = address.parse().expect("an address");
    Host {
        name: "chat.example".to_owned(),
        alias: None,
        addresses: Ok(vec![(address, is_own)]),
    }
}

/// A server with everything that it may have.
fn healthy() -> Facts {
    let each = Way::OF_STREAMS.map(|way| (way, way.usual_port()));
    let visits = || each.map(|(way, port)| visit(way, port, Ok(()))).to_vec();
    let own = visits().into_iter().map(|visit| Visit {
        host: String::new(),
        ..visit
    });
    Facts {
        name: "chat.example".to_owned(),
        services: each
            .map(|(way, port)| (way, Ok(vec![record("chat.example", port)])))
            .to_vec(),
        aims: each
            .map(|(way, port)| Aim {
                way,
                host: "chat.example".to_owned(),
                port,
                is_fallback: false,
            })
            .to_vec(),
        hosts: vec![host(HERE, true)],
        visits: visits(),
        own_visits: own.collect(),
        keys: Vec::new(),
        issuers: None,
    }
}

fn judged(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let domain = Jid::parse("chat.example").expect("a domain");
    judge(facts, offer, &domain, Some(NOW_S))
}

/// The one finding of this kind that is not as it should be.
#[track_caller]
fn the(id: &str, facts: &Facts, offer: &Offer) -> Finding {
    let all = judged(facts, offer);
    let mut bad = all.iter().filter(|one| one.severity > Severity::Ok);
    let found = bad.find(|one| one.id == id);
    found
        .unwrap_or_else(|| panic!("no {id} in {all:#?}"))
        .clone()
}

/// Which findings are worse than a note.
fn complaints(facts: &Facts, offer: &Offer) -> Vec<(String, Severity)> {
    let all = judged(facts, offer).into_iter();
    let bad = all.filter(|one| one.severity > Severity::Note);
    bad.map(|one| (one.id.into_owned(), one.severity)).collect()
}

/// Changes the records of a way.
fn publish(facts: &mut Facts, way: Way, records: Vec<PublishedService>) {
    let mut services = facts.services.iter_mut();
    let (_, published) = services
        .find(|(of, _)| *of == way)
        .expect("it is looked up");
    *published = Ok(records);
}

#[test]
fn a_server_that_is_well_gets_no_complaint() {
    let all = judged(&healthy(), &offer(""));
    assert!(
        all.iter().all(|one| one.severity == Severity::Ok),
        "{all:#?}"
    );
    for id in [
        "srv.xmpp-server",
        "srv.xmpps-server",
        "srv.xmpp-client",
        "srv.xmpps-client",
        "target.address",
        "listener.s2s",
        "reach.s2s",
        "reach.s2s-tls",
        "reach.c2s",
        "reach.c2s-tls",
        "certificate.chain",
        "certificate.names",
        "certificate.dates",
    ] {
        assert!(all.iter().any(|one| one.id == id), "{id}");
    }
}

#[test]
fn a_missing_record_is_proposed_and_is_no_failure_where_the_domain_itself_leads_here() {
    let mut facts = healthy();
    publish(&mut facts, Way::Servers, Vec::new());
    publish(&mut facts, Way::ServersDirect, Vec::new());
    let found = the("srv.xmpp-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Note, "{found:?}");
    let record = "_xmpp-server._tcp.chat.example. 3600 IN SRV 5 0 5269 chat.example.";
    assert_eq!(found.mend.as_deref(), Some(record));
    let found = the("srv.xmpps-server", &facts, &offer(""));
    let record = "_xmpps-server._tcp.chat.example. 3600 IN SRV 5 0 5270 chat.example.";
    assert_eq!(found.mend.as_deref(), Some(record));
    // Nobody looks at another port without a record.
    let elsewhere = offer("listen.s2s = [\"[::]:15269\"]");
    let found = the("srv.xmpp-server", &facts, &elsewhere);
    assert_eq!(found.severity, Severity::Failure, "{found:?}");
    let record = "_xmpp-server._tcp.chat.example. 3600 IN SRV 5 0 15269 chat.example.";
    assert_eq!(found.mend.as_deref(), Some(record));
    facts.hosts[0].addresses = Ok(Vec::new());
    let found = the("srv.xmpp-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure, "{found:?}");
}

#[test]
fn a_record_that_says_that_there_is_no_service_keeps_all_out() {
    let mut facts = healthy();
    publish(&mut facts, Way::ServersDirect, vec![record("", 0)]);
    let found = the("srv.xmpps-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Note, "{found:?}");
    publish(&mut facts, Way::Servers, vec![record("", 0)]);
    let found = the("srv.xmpp-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure, "{found:?}");
    // It is right where nothing listens.
    publish(&mut facts, Way::Servers, vec![record("chat.example", 5269)]);
    let without = offer("listen.s2s_tls = []");
    let all = judged(&facts, &without);
    let found = all.iter().find(|one| one.id == "srv.xmpps-server");
    assert_eq!(
        found.map(|one| one.severity),
        Some(Severity::Ok),
        "{all:#?}"
    );
}

#[test]
fn a_record_with_a_port_that_is_not_listened_at_is_a_failure_unless_it_is_answered() {
    let mut facts = healthy();
    publish(&mut facts, Way::Servers, vec![record("chat.example", 5268)]);
    facts.visits[1] = visit(Way::Servers, 5268, Err(Trouble::Refused));
    let found = the("srv.xmpp-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure);
    let record = "_xmpp-server._tcp.chat.example. 3600 IN SRV 5 0 5269 chat.example.";
    assert_eq!(found.mend.as_deref(), Some(record));
    assert!(found.sentence.contains("port 5268"), "{found:?}");
    facts.visits[1] = visit(Way::Servers, 5268, Ok(()));
    let found = the("srv.xmpp-server", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Note);
}

#[test]
fn a_target_may_be_no_alias_and_needs_an_address_that_leads_here() {
    let mut facts = healthy();
    facts.hosts[0].alias = Some("real.example".to_owned());
    let found = the("target.alias", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Warning);
    let mend = found.mend.expect("records");
    assert_eq!(mend.lines().count(), 4, "{mend}");
    assert!(mend.contains("SRV 5 0 5269 real.example."), "{mend}");
    for (address, is_own, toml, severity) in [
        ("127.0.0.1", true, "", Severity::Failure),
        ("::1", true, "", Severity::Failure),
        ("10.0.0.7", true, "", Severity::Failure),
        (
            "10.0.0.7",
            true,
            "federation.allow_private_addresses = true",
            Severity::Note,
        ),
        ("1.1.1.1", false, "", Severity::Note),
    ] {
        facts.hosts = vec![host(address, is_own)];
        let found = the("target.address", &facts, &offer(toml));
        assert_eq!(found.severity, severity, "{address}: {found:?}");
    }
    facts.hosts[0].addresses = Err("SERVFAIL".to_owned());
    let found = the("target.address", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure);
}

#[test]
fn an_address_where_nobody_answers_is_a_failure_unless_another_one_does() {
    let mut facts = healthy();
    facts.visits[1] = visit(Way::Servers, 5269, Err(Trouble::Refused));
    let found = the("reach.s2s", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure);
    let step = found.mend.expect("a step");
    assert!(step.contains("[listen] s2s"), "{step}");
    facts.visits.push(visit(Way::Servers, 5269, Ok(())));
    let found = the("reach.s2s", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Warning);
    // Behind a router it may be the router's way with those who call themselves.
    facts.visits.pop();
    facts.visits[1].is_own = false;
    let found = the("reach.s2s", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found.sentence.contains("try it from elsewhere"),
        "{found:?}"
    );
    // But not where something else answers.
    let other = Trouble::Stream("no STARTTLS is offered there".to_owned());
    facts.visits[1].seen = Err(other);
    let found = the("reach.s2s", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure);
}

/// Shows this certificate everywhere.
fn show(facts: &mut Facts, certificate: &Shown) {
    let certificate = Arc::new(certificate.clone());
    for visit in facts.visits.iter_mut().chain(&mut facts.own_visits) {
        visit.seen = Ok(Some(certificate.clone()));
    }
}

#[test]
fn a_certificate_is_told_of_once_with_what_mends_it() {
    let mut facts = healthy();
    let selfish = Shown {
        trust: Err("no authority that is trusted here has signed it".to_owned()),
        is_self_signed: true,
        ..shown()
    };
    show(&mut facts, &selfish);
    let failure = |id: &str| vec![(id.to_owned(), Severity::Failure)];
    assert_eq!(complaints(&facts, &offer("")), failure("certificate.chain"));
    let found = the("certificate.chain", &facts, &offer(""));
    assert!(found.sentence.contains("self-signed"), "{found:?}");
    let step = found.mend.expect("a step");
    assert!(
        step.contains("[acme]") && step.contains("cairn cert set"),
        "{step}"
    );
    let files = "tls.certificate = \"cert.pem\"\ntls.key = \"key.pem\"";
    let found = the("certificate.chain", &facts, &offer(files));
    assert!(found.mend.is_some_and(|step| step.contains("SIGHUP")));
    // Who is alone tells their own users whom to trust.
    let off = "federation.mode = \"off\"";
    let found = the("certificate.chain", &facts, &offer(off));
    assert_eq!(found.severity, Severity::Warning);

    let foreign = Shown {
        is_named: false,
        is_named_as_host: false,
        names: ["other.example".to_owned()].into(),
        ..shown()
    };
    show(&mut facts, &foreign);
    assert_eq!(complaints(&facts, &offer("")), failure("certificate.names"));
    let found = the("certificate.names", &facts, &offer(""));
    assert!(found.sentence.contains("for other.example"), "{found:?}");
    let only_for_servers = Shown {
        is_named_as_host: false,
        ..shown()
    };
    show(&mut facts, &only_for_servers);
    let found = the("certificate.names", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Warning);
}

/// `[listen] https` alone serves everybody (XEP-0368): no key that is empty is spoken of.
#[test]
fn a_listener_is_called_by_the_key_that_names_it() {
    let one_port = offer("listen = { s2s = [], s2s_tls = [], https = [\"[::]:443\"] }");
    let mut facts = healthy();
    facts.services = vec![(Way::ServersDirect, Ok(vec![record("chat.example", 444)]))];
    facts.own_visits = vec![visit(Way::ServersDirect, 443, Ok(()))];
    facts.visits = vec![visit(Way::ServersDirect, 444, Err(Trouble::Refused))];
    let found = judged(&facts, &one_port);
    let about = |id: &str| found.iter().find(|one| one.id == id).expect("it is there");
    let listener = about("listener.s2s-tls");
    assert_eq!(listener.sentence, "[listen] https answers at 1.1.1.1:443");
    let record = about("srv.xmpps-server");
    let wrong = "but [listen] https has 443";
    assert!(record.sentence.ends_with(wrong), "{record:?}");
    let reach = about("reach.s2s-tls").mend.as_deref();
    assert!(reach.is_some_and(|step| step.ends_with("add it to [listen] https")));
    let words = format!("{found:?}");
    assert!(!words.contains("[listen] s2s_tls"), "{words}");
    // With both, each by its own name.
    let two = offer("listen = { s2s_tls = [\"[::]:5270\"], https = [\"[::]:443\"] }");
    let found = judged(&facts, &two);
    let all = format!("{found:?}");
    let both = "[listen] s2s_tls has 5270 and [listen] https has 443";
    assert!(all.contains(both), "{all}");
}

#[test]
fn the_certificate_of_pages_elsewhere_is_not_ours() {
    let mut facts = healthy();
    let theirs = Shown {
        der: vec![2],
        is_named: false,
        is_named_as_host: false,
        ..shown()
    };
    facts.visits.push(Visit {
        is_own: false,
        seen: Ok(Some(Arc::new(theirs))),
        ..visit(Way::Https, 443, Ok(()))
    });
    let https = offer("listen.https = [\"[::]:443\"]");
    assert_eq!(complaints(&facts, &https), []);
    facts.visits.last_mut().expect("it is there").is_own = true;
    assert_eq!(complaints(&facts, &https).len(), 1);
}

#[test]
fn the_end_of_a_certificate_is_told_in_time() {
    let acme = "acme.directory = \"letsencrypt\"\nlisten.http = [\"[::]:80\"]";
    let dated = |from_days: i64, until_days: i64, toml: &str| {
        let at = |days: i64| NOW_S.saturating_add_signed(days * DAY_S as i64);
        let mut facts = healthy();
        let certificate = Shown {
            not_before_s: at(from_days),
            not_after_s: at(until_days),
            ..shown()
        };
        show(&mut facts, &certificate);
        let all = judged(&facts, &offer(toml)).into_iter();
        let mut dates = all.filter(|one| one.id == "certificate.dates");
        dates.next().expect("it is judged").severity
    };
    assert_eq!(dated(-30, 60, ""), Severity::Ok);
    assert_eq!(dated(-65, 25, ""), Severity::Note);
    assert_eq!(dated(-80, 10, ""), Severity::Warning);
    assert_eq!(dated(-65, 25, acme), Severity::Note);
    assert_eq!(dated(-76, 14, acme), Severity::Warning);
    // One that lives a week is not about to end when it begins.
    assert_eq!(dated(-1, 6, ""), Severity::Ok);
    assert_eq!(dated(-90, -1, ""), Severity::Failure);
    assert_eq!(dated(1, 90, ""), Severity::Failure);
    let mut facts = healthy();
    let ended = Shown {
        not_after_s: NOW_S - DAY_S,
        ..shown()
    };
    show(&mut facts, &ended);
    let domain = Jid::parse("chat.example").expect("a domain");
    let all = judge(&facts, &offer(""), &domain, None);
    let is_judged = all.iter().any(|one| one.id == "certificate.dates");
    assert!(!is_judged, "without a clock nobody knows");
}

fn keys(usage: u8, usable: usize, verdict: Result<(), String>) -> Keys {
    Keys {
        host: "chat.example".to_owned(),
        port: 5269,
        published: Ok(vec![PublishedKey {
            usage,
            selector: 1,
            matching: 1,
            data: vec![0; 32],
        }]),
        usable,
        shown: vec![(Arc::new(shown()), verdict)],
    }
}

#[test]
fn a_key_that_the_signed_zone_does_not_name_is_a_failure_with_the_record() {
    let mut facts = healthy();
    let other = || Err("the signed zone of the domain names another one".to_owned());
    facts.keys = vec![keys(3, 1, Ok(()))];
    assert_eq!(complaints(&facts, &offer("")), []);
    facts.keys = vec![keys(3, 1, other())];
    let found = the("tlsa", &facts, &offer(""));
    assert_eq!(found.severity, Severity::Failure);
    let record = format!(
        "_5269._tcp.chat.example. 3600 IN TLSA 3 1 1 {}",
        "ab".repeat(32)
    );
    assert_eq!(found.mend.as_deref(), Some(&*record));
    // Its next renewal would make that record wrong again.
    let acme = "acme.directory = \"letsencrypt\"\nlisten.http = [\"[::]:80\"]";
    let found = the("tlsa", &facts, &offer(acme));
    assert!(
        found
            .mend
            .is_some_and(|mend| mend.contains("remove the records"))
    );
    // What is not signed, or of another usage, nobody goes by.
    for usage in [3, 1] {
        facts.keys = vec![keys(usage, 0, other())];
        let found = the("tlsa", &facts, &offer(""));
        assert_eq!(found.severity, Severity::Note, "{found:?}");
    }
}

#[test]
fn an_authority_has_to_get_in_by_one_way_and_to_be_allowed() {
    let toml = "acme.directory = \"letsencrypt\"\nlisten.http = [\"[::]:80\"]";
    let mut facts = healthy();
    let at_80 = |seen| Visit {
        seen,
        ..visit(Way::Http, 80, Ok(()))
    };
    facts.visits.push(at_80(Ok(None)));
    facts.issuers = Some(Ok(Vec::new()));
    assert_eq!(complaints(&facts, &offer(toml)), []);
    facts.visits.pop();
    facts.visits.push(at_80(Err(Trouble::Silent)));
    let found = the("acme.http-01", &facts, &offer(toml));
    assert_eq!(found.severity, Severity::Failure);
    assert!(found.mend.is_some_and(|step| step.contains("TCP port 80")));
    let both = format!("{toml}\nlisten.https = [\"[::]:443\"]");
    facts.visits.push(visit(Way::Https, 443, Ok(())));
    let found = the("acme.http-01", &facts, &offer(&both));
    assert_eq!(found.severity, Severity::Warning, "the other way is left");

    let caa = |value: &str| {
        Some(Ok(vec![PublishedIssuer {
            tag: "issue".to_owned(),
            value: value.to_owned(),
        }]))
    };
    for (value, is_allowed) in [
        ("letsencrypt.org", true),
        ("LetsEncrypt.org; validationmethods=http-01", true),
        (";", false),
        ("ca.example", false),
    ] {
        facts.issuers = caa(value);
        let is_refused = judged(&facts, &offer(toml)).iter().any(|one| {
            one.id == "acme.caa" && one.severity == Severity::Failure && one.mend.is_some()
        });
        assert_eq!(is_refused, !is_allowed, "{value}");
    }
}

#[test]
fn a_component_is_asked_about_other_servers_alone() {
    let toml = "domain = \"chat.example\"\n[listen]\nc2s_tls = [\"[::]:5223\"]\n\
                s2s = [\"[::]:5269\"]\nhttp = [\"[::]:80\"]\n[acme]\ndirectory = \"letsencrypt\"\n\
                [[component]]\ndomain = \"a.chat.example\"\nsecret = \"s\"\n\
                [[component]]\ndomain = \"b.chat.example\"\nsecret = \"s\"\nacme = false\n";
    let config = Config::parse(toml, &Machine::of_memory(1 << 30)).expect("it is valid");
    let served = served(&config);
    let offers: Vec<Offer> = served.iter().map(|it| Offer::of(&config, &it.of)).collect();
    assert_eq!(offers.len(), 3);
    assert!(offers[0].listens(Way::ClientsDirect) && offers[0].acme);
    assert_eq!([offers[1].acme, offers[2].acme], [true, false]);
    for offer in &offers[1..] {
        let ways: Vec<Way> = offer.of_streams().collect();
        assert_eq!(ways, [Way::ServersDirect, Way::Servers]);
        assert!(offer.listens(Way::Servers) && !offer.listens(Way::ClientsDirect));
    }
}

#[test]
fn a_server_among_itself_is_asked_about_clients_alone() {
    let offer = offer("federation.mode = \"off\"");
    let ways: Vec<Way> = offer.of_streams().collect();
    assert_eq!(ways, [Way::ClientsDirect, Way::Clients]);
    assert!(!offer.listens(Way::Servers) && !offer.listens(Way::ServersDirect));
}
