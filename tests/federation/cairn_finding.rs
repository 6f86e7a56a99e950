//! How Cairn finds the other side: service records, addresses, direct TLS, DANE.

use std::time::Duration;

use super::scenario::chat;
use super::world::{GROWTH_MAX, JULIET, OTHER, Stage, World, mercutio, romeo};
use crate::peers::prosody::Setup;
use crate::peers::{Ca, Leaf, Net, Person, Place, Zone};
use crate::support::{DOMAIN, Wire};

/// A message arrives at the peer, which is found like that.
#[track_caller]
fn arrives(net: &Net, leaf: impl Fn(&Ca) -> Leaf, zone: impl Fn(&Leaf, &Place) -> Zone) {
    let mut stage = Stage::set_up(net, leaf, zone);
    stage.cairn.run();
    let mut romeo = romeo(&stage.cairn);
    romeo.say(JULIET, "found", "Here");
    let mut wire = stage.peer.accept_authenticated();
    assert_eq!(wire.element().attr("id"), Some("found"));
}

/// A message comes back with this condition, and nobody has been called.
#[track_caller]
fn comes_back(mut stage: Stage, condition: &str) {
    stage.cairn.run();
    let mut romeo = romeo(&stage.cairn);
    let before = stage.cairn.place.counters();
    romeo.say(JULIET, "unfound", "Where?");
    assert_eq!(romeo.bounce("unfound"), condition);
    let spent = stage.cairn.place.counters().since(before);
    assert_eq!(spent.tcp_opened, 0, "{spent:?}");
}

#[test]
fn a_service_record_that_points_elsewhere_is_followed_and_the_certificate_is_the_domains() {
    Net::run(|net| {
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .host("elsewhere.test", place)
                    .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 elsewhere.test.")
            },
        );
    });
}

#[test]
fn a_target_where_nobody_listens_leads_to_the_next() {
    Net::run(|net| {
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .host("good.test", place)
                    // Nobody is there, and there nobody listens.
                    .record("gone.test. A 192.0.2.200")
                    .record("_xmpp-server._tcp.other.test. SRV 1 5 5269 gone.test.")
                    .record("_xmpp-server._tcp.other.test. SRV 2 5 5999 good.test.")
                    .record("_xmpp-server._tcp.other.test. SRV 3 5 5269 good.test.")
            },
        );
    });
}

#[test]
fn a_domain_without_service_records_is_found_by_its_addresses() {
    Net::run(|net| {
        let zone = |_: &Leaf, place: &Place| Zone::new().host(OTHER, place);
        arrives(net, |ca| ca.leaf(OTHER), zone);
    });
}

#[test]
fn a_server_with_ipv6_alone_is_reached() {
    Net::run(|net| {
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .record(&format!("six.test. AAAA {}", place.v6))
                    .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 six.test.")
            },
        );
    });
}

/// XEP-0495: an address that swallows everything does not hold up the other family's.
#[test]
fn an_ipv6_address_that_is_not_there_costs_no_more_than_a_moment() {
    Net::run(|net| {
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .record(&format!("{OTHER}. A {}", place.v4))
                    .record(&format!("{OTHER}. AAAA 2001:db8:ffff::1"))
                    .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 other.test.")
            },
        );
    });
}

/// RFC 2782: a target of "." says that the service is not there.
#[test]
fn a_domain_that_says_it_has_no_server_is_not_called() {
    Net::run(|net| {
        let stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .host(OTHER, place)
                    .record("_xmpp-server._tcp.other.test. SRV 0 0 0 .")
                    .record("_xmpps-server._tcp.other.test. SRV 0 0 0 .")
            },
        );
        comes_back(stage, "remote-server-not-found");
    });
}

#[test]
fn names_that_lead_inside_are_not_followed_unless_that_is_allowed() {
    Net::run(|net| {
        for address in [
            "A 10.0.0.7",
            "AAAA fd00::7",
            "A 127.0.0.1",
            "AAAA ::1",
            "AAAA ::ffff:10.0.0.7",
            "A 169.254.169.254",
        ] {
            let mut stage = Stage::set_up(
                net,
                |ca| ca.leaf(OTHER),
                |_, place| {
                    place.add_address("10.0.0.7/32");
                    place.add_address("fd00::7/128");
                    Zone::new()
                        .record(&format!("inside.test. {address}"))
                        .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 inside.test.")
                },
            );
            let allow = "federation.allow_private_addresses";
            stage.cairn.set(allow, "false");
            comes_back(stage, "remote-server-not-found");
        }
    });
}

#[test]
fn a_private_address_that_is_allowed_is_called() {
    Net::run(|net| {
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                place.add_address("10.0.0.7/32");
                Zone::new()
                    .record("inside.test. A 10.0.0.7")
                    .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 inside.test.")
            },
        );
    });
}

/// XEP-0368: both servers have nothing but `_xmpps-server`.
#[test]
fn direct_tls_with_prosody_goes_both_ways() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let setup = Setup {
            direct_tls: true,
            ..Setup::default()
        };
        let leaf = ca.leaf(OTHER);
        let mut world = World::with_prosody(net, &leaf, ca, &setup, |here, there| {
            let zone = Zone::new();
            zone.direct_server(DOMAIN, here).direct_server(OTHER, there)
        });
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}

#[test]
fn direct_tls_names_its_protocol_and_the_domain() {
    Net::run(|net| {
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .host("elsewhere.test", place)
                    .record("_xmpps-server._tcp.other.test. SRV 0 5 5269 elsewhere.test.")
            },
        );
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "direct", "Straight");
        let mut wire = stage.peer.accept_direct();
        let tls = wire.served_tls();
        assert_eq!(tls.alpn_protocol(), Some(&b"xmpp-server"[..]));
        assert_eq!(tls.server_name(), Some(OTHER));
        assert!(
            tls.peer_certificates()
                .is_some_and(|chain| !chain.is_empty())
        );
        assert_eq!(wire.header().attr("to"), Some(OTHER));
    });
}

/// RFC 7673: the key that the signed zone names needs no authority.
#[test]
fn a_key_that_the_signed_zone_names_is_trusted_without_an_authority() {
    Net::run(|net| {
        arrives(
            net,
            |_| Leaf::self_signed(OTHER),
            |leaf, place| Zone::new().server(OTHER, place).tlsa(OTHER, 5269, leaf),
        );
    });
}

#[test]
fn a_key_that_the_signed_zone_does_not_name_is_not_trusted_with_any_authority() {
    Net::run(|net| {
        let another = Leaf::self_signed(OTHER);
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| Zone::new().server(OTHER, place).tlsa(OTHER, 5269, &another),
        );
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "pinned", "Who are you?");
        drop(stage.peer.accept_tls());
        assert_eq!(romeo.bounce("pinned"), "remote-server-timeout");
    });
}

/// RFC 7673 §3.1, §3.2: what a signed record says of a certificate counts only where everything
/// that leads to its name is signed.
#[test]
fn a_key_is_not_looked_for_where_an_unsigned_record_leads() {
    Net::run(|net| {
        let another = Leaf::self_signed(OTHER);
        let served = "_xmpp-server._tcp.other.test. SRV 0 5 5269 host.test.";
        // The record itself, the address, an alias on the way to it: unsigned.
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .record("_xmpp-server._tcp.other.test. SRV 0 5 5269 host.plain.test.")
                    .host("host.plain.test", place)
                    .tlsa("host.plain.test", 5269, &another)
            },
        );
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .record(served)
                    .record("host.test. CNAME host.plain.test.")
                    .host("host.plain.test", place)
                    .tlsa("host.test", 5269, &another)
            },
        );
        arrives(
            net,
            |ca| ca.leaf(OTHER),
            |_, place| {
                Zone::new()
                    .record(served)
                    .record("host.test. CNAME alias.plain.test.")
                    .record("alias.plain.test. CNAME far.test.")
                    .host("far.test", place)
                    .tlsa("host.test", 5269, &another)
            },
        );
    });
}

/// The other direction: a service record that is not signed may lead to a host that is.
#[test]
fn a_key_is_not_looked_for_where_the_domain_is_not_signed() {
    Net::run(|net| {
        let another = Leaf::self_signed("other.plain.test");
        let mut stage = Stage::set_up(
            net,
            |ca| ca.leaf("other.plain.test"),
            |_, place| {
                Zone::new()
                    .record("_xmpp-server._tcp.other.plain.test. SRV 0 5 5269 host.test.")
                    .host("host.test", place)
                    .tlsa("host.test", 5269, &another)
            },
        );
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say("juliet@other.plain.test", "unsigned", "Here");
        stage.peer.domain = "other.plain.test".to_owned();
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("unsigned"));
    });
}

/// Somebody in between who strips signatures, on purpose or not, takes DANE away and nothing else.
#[test]
fn a_name_server_that_strips_signatures_means_no_dane_and_no_failure() {
    Net::run(|net| {
        for without_keys in [false, true] {
            let another = Leaf::self_signed(OTHER);
            let mut stage = Stage::set_up(
                net,
                |ca| ca.leaf(OTHER),
                |_, place| Zone::new().server(OTHER, place).tlsa(OTHER, 5269, &another),
            );
            let stripping = stage.dns.stripping(without_keys);
            stage
                .cairn
                .set("dns.servers", &format!("[\"{stripping}\"]"));
            stage.cairn.run();
            let mut romeo = romeo(&stage.cairn);
            romeo.say(JULIET, "stripped", "Here");
            let mut wire = stage.peer.accept_authenticated();
            assert_eq!(wire.element().attr("id"), Some("stripped"));
        }
    });
}

/// A machine that learns of a name server, or of another one, tells nobody: it is looked for.
#[test]
fn a_name_server_that_the_machine_learns_of_is_asked_without_a_restart() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set("dns.servers", "[]");
        stage.cairn.place.write("resolv.conf", "");
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "early", "Anybody?");
        assert_eq!(romeo.bounce("early"), "remote-server-timeout");
        let learnt = format!("nameserver {}\n", stage.dns.place.v4);
        stage.cairn.place.write("resolv.conf", &learnt);
        let mut wire = accepted_at_last(&stage, &mut romeo);
        assert_eq!(wire.header().attr("from"), Some(DOMAIN));
    });
}

/// All that a small network's router may announce (RFC 8106).
#[test]
fn a_name_server_on_the_link_is_asked_by_its_interface() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.dns.place.add_address("fe80::53/64");
        stage.cairn.place.add_address("fe80::1/64");
        stage.cairn.set("dns.servers", "[]");
        let place = &stage.cairn.place;
        place.write("resolv.conf", "nameserver fe80::53%eth0\n");
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        let mut wire = accepted_at_last(&stage, &mut romeo);
        assert_eq!(wire.header().attr("from"), Some(DOMAIN));
    });
}

/// Names that end in `.test` are asked for like others, and a name is remembered as long as its
/// records say, not longer.
#[test]
fn a_domain_that_appears_is_found() {
    Net::run(|net| {
        let mut stage = Stage::set_up(net, |ca| ca.leaf(OTHER), |_, _| Zone::new());
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "early", "Anybody?");
        assert_eq!(romeo.bounce("early"), "remote-server-not-found");
        let zone = Zone::new().server(DOMAIN, &stage.cairn.place);
        stage.dns.set(&zone.server(OTHER, &stage.peer.place));
        let mut wire = accepted_at_last(&stage, &mut romeo);
        assert_eq!(wire.header().attr("from"), Some(DOMAIN));
    });
}

/// Speaks until the peer is called: what is not there is remembered for a second, and whoever failed
/// waits a little.
#[track_caller]
fn accepted_at_last(stage: &Stage, romeo: &mut Person) -> Wire {
    for number in 1..20 {
        romeo.say(JULIET, &format!("later{number}"), "And now?");
        if let Some(wire) = stage.peer.accept_within(Duration::from_secs(2)) {
            return wire;
        }
    }
    panic!("it is not found");
}

/// Each comes back exactly once; the names are not asked for 10,000 times, and others do not wait.
#[test]
fn ten_thousand_stanzas_to_a_domain_that_does_not_exist_all_come_back() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let mut mercutio = mercutio(&stage.cairn);
        chat(&mut mercutio, &mut romeo);
        let (before, memory) = (stage.cairn.place.counters(), stage.cairn.resident_bytes());
        romeo.say_often("nobody@nowhere.test", "n", "Hello ", 10_000);
        mercutio.say(JULIET, "meanwhile", "Hurry");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("meanwhile"));
        let mut seen = vec![false; 10_000];
        for _ in 0..10_000 {
            let event = romeo.wait("an error", |event| event.type_() == "error");
            assert_eq!(event.condition(), "remote-server-not-found", "{event:?}");
            let number = event.id().strip_prefix('n').and_then(|id| id.parse().ok());
            let number: usize = number.expect("its id is kept");
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "twice: {number}"
            );
        }
        assert!(!romeo.settle().iter().any(|event| event.type_() == "error"));
        let spent = stage.cairn.place.counters().since(before);
        assert!(spent.udp_sent < 200, "{spent:?}");
        let grown = stage.cairn.resident_bytes().saturating_sub(memory);
        assert!(grown < GROWTH_MAX, "it has grown by {grown} bytes");
    });
}
