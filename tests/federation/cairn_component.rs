//! A component of Cairn and somebody on another server (XEP-0114).

use super::scenario::is_presence;
use super::world::{OTHER, World};
use crate::peers::prosody::Setup;
use crate::peers::{Ca, Net, Process, Zone};
use crate::support::DOMAIN;
use crate::support::python::interpreter;

const GATEWAY: &str = "gateway.cairn.example";
const CONTACT: &str = "bob@gateway.cairn.example";

/// slixmpp's component becomes a contact of Juliet, who is on Prosody, and repeats what she says.
#[test]
fn somebody_on_prosody_talks_with_a_component_of_cairn_and_becomes_its_contact() {
    let Some(python) = interpreter() else { return };
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let (of_prosody, of_gateway) = (ca.leaf(OTHER), ca.leaf(GATEWAY));
        let zone = |here: &_, there: &_| {
            let zone = Zone::new().server(DOMAIN, here).server(GATEWAY, here);
            zone.server(OTHER, there)
        };
        let setup = Setup::default();
        let mut world = World::with_prosody(net, &of_prosody, ca, &setup, zone);
        let cairn = &mut world.cairn;
        cairn.set("listen.component", "[\"[::]:5347\"]");
        let component = format!("[{{ domain = \"{GATEWAY}\", secret = \"sesame\" }}]");
        cairn.set("component", &component);
        // Its own certificate, beside the one of the server that does not name it.
        cairn.certify(GATEWAY, &of_gateway);
        cairn.run();
        let mut command = cairn.place.command(python);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/clients/component.py"
            ))
            .args([&cairn.place.v4.to_string(), "5347", GATEWAY, "sesame"]);
        let gateway = Process::start("gateway", command);
        gateway.wait_for("connected");
        let mut juliet = world.juliet();
        juliet.say(CONTACT, "m1", "O Romeo, Romeo");
        let heard = juliet.hear("O Romeo, Romeo");
        assert!(heard.is_from(CONTACT), "{heard:?}");
        juliet.presence("subscribe", CONTACT);
        juliet.wait("the consent", |event| {
            is_presence(event, "subscribed", CONTACT)
        });
        juliet.wait("the request", |event| {
            is_presence(event, "subscribe", CONTACT)
        });
        juliet.wait("the presence", |event| is_presence(event, "", CONTACT));
        juliet.presence("subscribed", CONTACT);
        gateway.wait_for("available juliet@other.test/");
        assert_eq!(juliet.subscription(CONTACT), "both");
        let answer = juliet.get(
            GATEWAY,
            "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        );
        assert_eq!(answer.type_(), "result", "{answer:?}");
        assert_eq!(answer.from(), GATEWAY);
        drop(gateway);
        juliet.say(CONTACT, "m2", "Wherefore art thou");
        assert_eq!(juliet.bounce("m2"), "remote-server-timeout");
    });
}
