//! Whom Cairn believes: certificates both ways, and dialback where the operator allows it.

use super::scenario::chat;
use super::world::{JULIET, Kind, OTHER, ROMEO, Stage, World, romeo};
use crate::peers::ca::Order;
use crate::peers::prosody::Setup;
use crate::peers::raw::{DIALBACK, SERVER, features};
use crate::peers::{Ca, Leaf, Names, Net, Usage, Zone};
use crate::support::{DOMAIN, Element, ns};

/// Whether SASL EXTERNAL is among the features.
fn offers_external(features: &Element) -> bool {
    let mechanisms = features.child("mechanisms", ns::SASL);
    let external = |mechanisms: &Element| {
        mechanisms
            .children()
            .any(|mechanism| mechanism.text() == "EXTERNAL")
    };
    mechanisms.is_some_and(external)
}

/// A peer with this certificate is neither called with success nor believed.
fn refused_both_ways(leaf: impl Fn(&Ca) -> Leaf) {
    Net::run(|net| {
        let stage = Stage::with_leaf(net, leaf);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "refused", "Are you Juliet?");
        drop(stage.peer.accept_tls());
        assert_eq!(romeo.bounce("refused"), "remote-server-timeout");
        not_believed(&stage);
        assert!(romeo.settle().is_empty());
    });
}

/// The peer calls, and is neither offered EXTERNAL nor let in by dialback.
#[track_caller]
fn not_believed(stage: &Stage) {
    // An end before the features refuses it as well.
    let Some((mut wire, features)) = stage.peer.try_call_stream(stage.address(), DOMAIN) else {
        return;
    };
    assert!(!offers_external(&features), "{features}");
    let before = stage.cairn.place.counters();
    wire.send(&format!(
        "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
    ));
    let refused = wire.element();
    let by_dialback =
        refused.is("result", DIALBACK) && matches!(refused.attr("type"), Some("error" | "invalid"));
    assert!(by_dialback || refused.stream_error().is_some(), "{refused}");
    let spent = stage.cairn.place.counters().since(before);
    assert_eq!(spent.tcp_opened, 0, "nobody is asked: {spent:?}");
}

/// A peer with this certificate is called and believed.
fn trusted_both_ways(leaf: impl Fn(&Ca) -> Leaf) {
    Net::run(|net| {
        let stage = Stage::with_leaf(net, leaf);
        let mut romeo = romeo(&stage.cairn);
        let mut wire = stage.peer.call_authenticated(stage.address(), DOMAIN);
        wire.send(&Stage::message("in", "It is I"));
        romeo.hear("It is I");
        romeo.say(JULIET, "out", "It is you");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("out"));
    });
}

#[test]
fn a_certificate_for_both_uses_is_trusted() {
    trusted_both_ways(|ca| ca.leaf(OTHER));
}

#[test]
fn a_certificate_for_servers_only_is_trusted_of_a_peer_that_calls() {
    trusted_both_ways(|ca| {
        ca.issue(&Order {
            usage: Usage::ServerOnly,
            ..Order::of(OTHER)
        })
    });
}

#[test]
fn a_certificate_that_names_the_service_is_trusted() {
    trusted_both_ways(|ca| {
        ca.issue(&Order {
            names: Names::Srv,
            ..Order::of(OTHER)
        })
    });
}

#[test]
fn a_certificate_that_names_the_xmpp_address_is_trusted() {
    trusted_both_ways(|ca| {
        ca.issue(&Order {
            names: Names::XmppAddr,
            ..Order::of(OTHER)
        })
    });
}

#[test]
fn a_certificate_whose_time_is_over_is_refused() {
    refused_both_ways(|ca| {
        ca.issue(&Order {
            expired: true,
            ..Order::of(OTHER)
        })
    });
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    refused_both_ways(|ca| ca.leaf("another.test"));
}

/// RFC 6125 §6.4.3, RFC 9525 §6.3: the star stands for one label, and not for none.
#[test]
fn a_certificate_for_names_below_the_domain_is_refused() {
    refused_both_ways(|ca| ca.leaf("*.other.test"));
}

#[test]
fn a_certificate_that_signs_itself_is_refused() {
    refused_both_ways(|_| Leaf::self_signed(OTHER));
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    refused_both_ways(|_| Ca::new("Another authority").leaf(OTHER));
}

/// Prosody's OpenSSL takes no such certificate from a client, so dialback remains, which Prosody
/// does over TLS.
#[test]
fn prosody_is_spoken_to_with_a_certificate_for_servers_only() {
    servers_only_certificate(Kind::Prosody);
}

#[test]
fn ejabberd_is_spoken_to_with_a_certificate_for_servers_only() {
    servers_only_certificate(Kind::Ejabberd);
}

#[test]
fn another_cairn_is_spoken_to_with_a_certificate_for_servers_only() {
    servers_only_certificate(Kind::Cairn);
}

fn servers_only_certificate(kind: Kind) {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let leaf = ca.issue(&Order {
            usage: Usage::ServerOnly,
            ..Order::of(DOMAIN)
        });
        let world = World::with_certificate(net, kind, ca, &leaf);
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}

/// A Prosody that nobody vouches for, and that believes whoever its dialback confirms.
#[track_caller]
fn without_certificate(net: &Net) -> World {
    let setup = Setup {
        secure: false,
        without: &["s2s_auth_certs"],
        ..Setup::default()
    };
    let leaf = Leaf::self_signed(OTHER);
    let ca = Ca::new("Authority of a test");
    World::with_prosody(net, &leaf, ca, &setup, |here, there| {
        Zone::new().server(DOMAIN, here).server(OTHER, there)
    })
}

#[test]
fn a_peer_with_nothing_but_dialback_is_refused_by_default() {
    Net::run(|net| {
        let mut world = without_certificate(net);
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        romeo.say(JULIET, "refused", "Are you Juliet?");
        assert_eq!(romeo.bounce("refused"), "remote-server-timeout");
        juliet.say(ROMEO, "refused", "It is me");
        juliet.bounce("refused");
        assert!(romeo.settle().is_empty());
    });
}

#[test]
fn a_peer_with_nothing_but_dialback_is_believed_where_the_operator_allows_it() {
    Net::run(|net| {
        let mut world = without_certificate(net);
        world.cairn.set("federation.dialback", "\"tls\"");
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}

#[test]
fn a_peer_with_nothing_but_dialback_is_believed_where_it_is_named_for_that() {
    Net::run(|net| {
        let mut world = without_certificate(net);
        world.cairn.set("federation.dialback_for", "[\".test\"]");
        world.cairn.run();
        let (mut romeo, mut juliet) = world.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}

/// An authority's word alone is neither believed of who is called nor of who calls.
#[test]
fn a_domain_that_needs_dane_is_not_believed_without_it() {
    Net::run(|net| {
        let stage = needs_dane(net, |_| Zone::new());
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "refused", "Are you Juliet?");
        drop(stage.peer.accept_tls());
        assert_eq!(romeo.bounce("refused"), "remote-server-timeout");
        let (mut wire, offered) = stage.peer.call_stream(stage.address(), DOMAIN);
        assert!(!offers_external(&offered), "{offered}");
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
        ));
        // The authoritative server has the same certificate.
        drop(stage.peer.accept_tls());
        let refused = wire.element();
        assert!(refused.is("result", DIALBACK), "{refused}");
        assert_eq!(refused.attr("type"), Some("error"), "{refused}");
    });
}

#[test]
fn a_domain_that_needs_dane_is_believed_with_it() {
    Net::run(|net| {
        let stage = needs_dane(net, |leaf| Zone::new().tlsa(OTHER, 5269, leaf));
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "out", "It is you");
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("out"));
        let (mut wire, _) = stage.peer.call_stream(stage.address(), DOMAIN);
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
        ));
        let mut asked = stage.peer.accept_stream();
        asked.send(&features("<dialback xmlns='urn:xmpp:features:dialback'/>"));
        let question = asked.element();
        assert!(question.is("verify", DIALBACK), "{question}");
        let id = question.attr("id").expect("XEP-0220 asks for it");
        asked.send(&format!(
            "<db:verify from='{OTHER}' to='{DOMAIN}' id='{id}' type='valid'/>"
        ));
        let believed = wire.element();
        assert_eq!(believed.attr("type"), Some("valid"), "{believed}");
        wire.send(&Stage::message("in", "It is I"));
        romeo.hear("It is I");
    });
}

/// Cairn asks the signed zone about the peer, whose certificate an authority has signed as well.
#[track_caller]
fn needs_dane(net: &Net, zone: impl Fn(&Leaf) -> Zone) -> Stage {
    let mut stage = Stage::set_up(
        net,
        |ca| ca.leaf(OTHER),
        |leaf, place| zone(leaf).server(OTHER, place),
    );
    let named = format!("[\"{OTHER}\"]");
    stage.cairn.set("federation.dane_for", &named);
    stage.cairn.run();
    stage
}

/// While the machine knows its clock to be wrong nobody is believed by a certificate, and both sides
/// hear that it is for now.
#[test]
fn no_certificate_is_judged_by_a_clock_that_is_known_to_be_wrong() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set_clock_wrong();
        stage.cairn.set("limits.authentication_s", "5");
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "early", "What time is it?");
        drop(stage.peer.accept_tls());
        assert_eq!(romeo.bounce("early"), "remote-server-timeout");
        let (mut wire, offered) = stage.peer.call_stream(stage.address(), DOMAIN);
        assert!(!offers_external(&offered), "{offered}");
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
        ));
        let end = wire.element();
        assert_eq!(end.stream_error(), Some("internal-server-error"), "{end}");
        assert!(romeo.settle().is_empty());
    });
}

/// What is for others waits as long as a connection may take to be made.
#[test]
fn messages_wait_for_a_clock_that_is_set_right() {
    Net::run(|net| {
        let mut stage = Stage::prepared(net);
        stage.cairn.set_clock_wrong();
        stage.cairn.run();
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "early", "What time is it?");
        romeo.settle();
        stage.cairn.set_clock_right();
        let mut wire = stage.peer.accept_authenticated();
        assert_eq!(wire.element().attr("id"), Some("early"));
    });
}

/// XEP-0344: a certificate says what dialling back would.
#[test]
fn dialback_of_a_peer_with_a_certificate_is_accepted_without_dialling_back() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        let before = stage.cairn.place.counters();
        let (mut wire, _) = stage.peer.call_stream(stage.address(), DOMAIN);
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}'>0a1b</db:result>"
        ));
        let result = wire.element();
        assert!(result.is("result", DIALBACK), "{result}");
        assert_eq!(result.attr("type"), Some("valid"), "{result}");
        wire.send(&Stage::message("in", "It is I"));
        romeo.hear("It is I");
        let spent = stage.cairn.place.counters().since(before);
        assert_eq!(spent.tcp_opened, 0, "{spent:?}");
    });
}

/// As initiator Cairn proves itself by dialback to whoever offers no EXTERNAL, if the certificate
/// there is good.
#[test]
fn a_peer_that_offers_no_external_is_given_a_key_that_cairn_confirms() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "out", "By dialback");
        let mut wire = stage.peer.accept_stream();
        wire.send(&features("<dialback xmlns='urn:xmpp:features:dialback'/>"));
        let result = wire.element();
        assert!(result.is("result", DIALBACK), "{result}");
        assert_eq!(result.attr("from"), Some(DOMAIN));
        assert_eq!(result.attr("to"), Some(OTHER));
        let (key, wrong) = (result.text(), "00".repeat(32));
        // Cairn is the authoritative server of its own name (XEP-0220 §2.1.2).
        let (mut asking, _) = stage.peer.call_stream(stage.address(), DOMAIN);
        for (key, expected) in [(&wrong, "invalid"), (&key, "valid")] {
            asking.send(&format!(
                "<db:verify from='{OTHER}' to='{DOMAIN}' id='of-a-test'>{key}</db:verify>"
            ));
            let verified = asking.element();
            assert!(verified.is("verify", DIALBACK), "{verified}");
            assert_eq!(verified.attr("type"), Some(expected), "{verified}");
            assert_eq!(verified.attr("id"), Some("of-a-test"));
        }
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}' type='valid'/>"
        ));
        let message = wire.element();
        assert!(message.is("message", SERVER), "{message}");
        assert_eq!(message.attr("id"), Some("out"));
    });
}

/// Some end the connection upon what they refuse: they are shown a key on another one.
#[test]
fn a_peer_that_refuses_external_and_hangs_up_is_given_a_key_on_another_connection() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "out", "By dialback");
        let external = format!(
            "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>\
             <dialback xmlns='urn:xmpp:features:dialback'/>",
            ns::SASL
        );
        let mut wire = stage.peer.accept_stream();
        wire.send(&features(&external));
        let auth = wire.element();
        assert!(auth.is("auth", ns::SASL), "{auth}");
        wire.send(&format!(
            "<failure xmlns='{}'><not-authorized/></failure></stream:stream>",
            ns::SASL
        ));
        drop(wire);
        let mut wire = stage.peer.accept_stream();
        wire.send(&features(&external));
        let result = wire.element();
        assert!(result.is("result", DIALBACK), "{result}");
        wire.send(&format!(
            "<db:result from='{OTHER}' to='{DOMAIN}' type='valid'/>"
        ));
        let message = wire.element();
        assert!(message.is("message", SERVER), "{message}");
        assert_eq!(message.attr("id"), Some("out"));
    });
}

/// Stanzas never go where there is no TLS.
#[test]
fn a_peer_without_tls_is_told_nothing() {
    Net::run(|net| {
        let stage = Stage::usual(net);
        let mut romeo = romeo(&stage.cairn);
        romeo.say(JULIET, "plain", "Nobody else may read this");
        let mut wire = stage.peer.accept();
        let header = wire.header();
        assert_eq!(header.attr("to"), Some(OTHER));
        wire.send(&stage.peer.header(DOMAIN, " id='plain'"));
        wire.send(&features("<dialback xmlns='urn:xmpp:features:dialback'/>"));
        let heard = wire.until_end();
        let told = format!("{heard:?}");
        assert!(
            !told.contains("message") && !told.contains("result"),
            "{told}"
        );
        assert_eq!(romeo.bounce("plain"), "remote-server-timeout");
    });
}
