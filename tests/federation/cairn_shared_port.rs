//! The port of the web for streams of other servers too (XEP-0368).

use super::scenario::{become_contacts, chat};
use super::world::{JULIET, OTHER, ROMEO, Stage, romeo};
use crate::peers::{Ca, CairnPeer, Dns, Net, Person, Zone};
use crate::support::{DOMAIN, Tls, Wire, ns};

/// Nothing but 443 is open to other servers on either side.
#[test]
fn two_servers_reach_each_other_by_the_port_of_the_web_alone() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let (here, there) = (net.place("cairn"), net.place("other"));
        let zone = Zone::new();
        let zone = zone
            .shared_server(DOMAIN, &here)
            .shared_server(OTHER, &there);
        let dns = Dns::start(net, &zone);
        let start = |place, domain: &str, account| {
            let mut cairn = CairnPeer::prepare(place, domain, &ca.leaf(domain), &[account]);
            cairn.federate(&ca, &dns);
            for (key, value) in [
                ("listen.s2s", "[]"),
                ("listen.s2s_tls", "[]"),
                ("listen.https", "[\"[::]:443\"]"),
            ] {
                cairn.set(key, value);
            }
            cairn.run();
            cairn
        };
        let (one, other) = (start(here, DOMAIN, "romeo"), start(there, OTHER, "juliet"));
        let mut romeo = romeo(&one);
        let mut juliet = Person::online(&other.place, JULIET, other.place.v4.into());
        become_contacts(&mut romeo, &mut juliet);
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}

#[test]
fn a_server_is_known_there_by_its_certificate_and_speaks_for_nobody_else() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set("listen.https", "[\"[::]:443\"]");
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        let address = stage.cairn.place.socket(443);
        let call = || {
            let (wire, features) = stage.peer.call_direct(address, DOMAIN);
            assert_eq!(wire.tls().alpn_protocol(), Some(&b"xmpp-server"[..]));
            stage.peer.authenticate(wire, &features, DOMAIN)
        };
        let mut wire = call();
        wire.send(&Stage::message("m", "By the front door"));
        romeo.hear("By the front door");
        wire.send(&format!(
            "<message from='paris@third.test' to='{ROMEO}'><body>Trust me</body></message>"
        ));
        let heard = wire.until_end();
        assert!(format!("{heard:?}").contains("invalid-from"), "{heard:?}");
        // The web is still there, and nobody else.
        let place = &stage.peer.place;
        let connect = || std::net::TcpStream::connect(address).expect("it listens");
        for (protocol, is_served) in [("http/1.1", true), ("xmpp-client", true), ("h2", false)] {
            let mut wire = Wire::over(place.inside(connect));
            let served = wire.start_tls_as(&Tls::with_alpn(&[protocol]), DOMAIN);
            assert_eq!(served.is_ok(), is_served, "{protocol}");
            if protocol == "xmpp-client" {
                wire.open().must("mechanisms", ns::SASL);
            }
        }
        assert!(romeo.settle().is_empty());
    });
}

/// `mode = "off"`: the port is nothing to other servers.
#[test]
fn a_server_that_talks_with_no_other_is_none_there() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set("listen.https", "[\"[::]:443\"]");
        stage.cairn.set("federation.mode", "\"off\"");
        stage.cairn.run();
        let mut wire = stage.peer.call(stage.cairn.place.socket(443));
        let refused = wire.start_tls_as(&Tls::with_alpn(&["xmpp-server"]), DOMAIN);
        let said = refused.expect_err("it is refused").to_string();
        assert!(said.contains("NoApplicationProtocol"), "{said}");
    });
}
