//! Prosody and ejabberd with each other: what the network of the tests is good for.

use super::scenario::{ask_about, become_contacts, chat, is_presence, leave_and_come_back};
use crate::peers::prosody::Setup;
use crate::peers::{Ca, Dns, Ejabberd, Leaf, Net, Person, Place, Prosody, Zone};

/// Both servers with an account each, and the names of both.
struct Scene {
    _dns: Dns,
    prosody: Prosody,
    ejabberd: Ejabberd,
}

impl Scene {
    /// Names first: servers ask for some before they have started.
    #[track_caller]
    fn set_up(net: &Net, zone: impl Fn(&Place, &Place) -> Zone) -> Scene {
        Scene::with_prosody(net, zone, |ca, place| {
            Prosody::start(place, "prosody.test", ca, &["romeo"])
        })
    }

    #[track_caller]
    fn with_prosody(
        net: &Net,
        zone: impl Fn(&Place, &Place) -> Zone,
        start: impl Fn(&Ca, Place) -> Prosody,
    ) -> Scene {
        let ca = Ca::new("Authority of a test");
        let (here, there) = (net.place("prosody"), net.place("ejabberd"));
        let dns = Dns::start(net, &zone(&here, &there));
        Scene {
            _dns: dns,
            prosody: start(&ca, here),
            ejabberd: Ejabberd::start(there, "ejabberd.test", &ca, &["juliet"]),
        }
    }

    #[track_caller]
    fn usual(net: &Net) -> Scene {
        Scene::set_up(net, usual_zone)
    }

    #[track_caller]
    fn people(&self) -> (Person, Person) {
        let place = &self.prosody.place;
        let romeo = Person::online(place, "romeo@prosody.test", place.v4.into());
        let place = &self.ejabberd.place;
        let juliet = Person::online(place, "juliet@ejabberd.test", place.v6.into());
        (romeo, juliet)
    }
}

fn usual_zone(prosody: &Place, ejabberd: &Place) -> Zone {
    Zone::new()
        .server("prosody.test", prosody)
        .server("ejabberd.test", ejabberd)
}

#[test]
fn they_exchange_messages_and_requests_both_ways() {
    Net::run(|net| {
        let scene = Scene::usual(net);
        let (mut romeo, mut juliet) = scene.people();
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
        ask_about(&mut romeo, &mut juliet);
        ask_about(&mut juliet, &mut romeo);
        // Certificates did that, not dialback alone.
        let process = scene.prosody.process();
        assert!(process.has_said("SASL EXTERNAL with ejabberd.test succeeded"));
        assert!(process.has_said("Accepting SASL EXTERNAL identity from ejabberd.test"));
    });
}

#[test]
fn their_people_become_contacts_and_see_each_other_come_and_go() {
    Net::run(|net| {
        let scene = Scene::usual(net);
        let (mut romeo, mut juliet) = scene.people();
        become_contacts(&mut romeo, &mut juliet);
        leave_and_come_back(&mut romeo, &mut juliet);
        leave_and_come_back(&mut juliet, &mut romeo);
        romeo.log_out();
        juliet.wait("that Romeo has left", |event| {
            is_presence(event, "unavailable", "romeo@prosody.test")
        });
    });
}

#[test]
fn a_message_waits_for_a_link_that_returns() {
    Net::run(|net| {
        let scene = Scene::usual(net);
        let (mut romeo, mut juliet) = scene.people();
        chat(&mut romeo, &mut juliet);
        scene.ejabberd.place.cut();
        romeo.say(&juliet.jid, "lost", "Parting is such sweet sorrow");
        romeo.settle();
        let heard = juliet.settle();
        assert!(heard.is_empty(), "the link is cut, but {heard:?}");
        scene.ejabberd.place.mend();
        juliet.hear("Parting is such sweet sorrow");
    });
}

#[test]
fn a_service_record_that_points_elsewhere_is_followed() {
    Net::run(|net| {
        let scene = Scene::set_up(net, |prosody, ejabberd| {
            Zone::new()
                .server("prosody.test", prosody)
                .host("elsewhere.test", ejabberd)
                .record("_xmpp-server._tcp.ejabberd.test. SRV 0 5 5269 elsewhere.test.")
        });
        let (mut romeo, mut juliet) = scene.people();
        chat(&mut romeo, &mut juliet);
    });
}

#[test]
fn a_prosody_without_a_certificate_is_believed_by_dialback() {
    Net::run(|net| {
        let setup = Setup {
            secure: false,
            without: &["s2s_auth_certs"],
            ..Setup::default()
        };
        let scene = Scene::with_prosody(net, usual_zone, |ca, place| {
            let leaf = Leaf::self_signed("prosody.test");
            Prosody::with(place, "prosody.test", ca, &leaf, &["romeo"], &setup)
        });
        let (mut romeo, mut juliet) = scene.people();
        chat(&mut romeo, &mut juliet);
        // What ejabberd tells of the certificate is the reason.
        assert!(scene.prosody.process().has_said("falling back to dialback"));
    });
}

#[test]
fn two_prosodys_find_each_other_by_direct_tls_alone() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let setup = Setup {
            direct_tls: true,
            ..Setup::default()
        };
        let start = |name: &str, account: &str| {
            let domain = format!("{name}.test");
            let leaf = ca.leaf(&domain);
            Prosody::with(net.place(name), &domain, &ca, &leaf, &[account], &setup)
        };
        let (montague, capulet) = (start("montague", "romeo"), start("capulet", "juliet"));
        let zone = Zone::new()
            .direct_server("montague.test", &montague.place)
            .direct_server("capulet.test", &capulet.place);
        let _dns = Dns::start(net, &zone);
        let online = |prosody: &Prosody, name: &str| {
            let jid = format!("{name}@{}", prosody.domain);
            Person::online(&prosody.place, &jid, prosody.place.v4.into())
        };
        let (mut romeo, mut juliet) = (online(&montague, "romeo"), online(&capulet, "juliet"));
        chat(&mut romeo, &mut juliet);
        chat(&mut juliet, &mut romeo);
    });
}
