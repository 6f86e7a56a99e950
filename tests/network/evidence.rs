//! Whether a network works: what counts as a sign of it.

use std::net::UdpSocket;

use cairn::machine::net::network::Evidence;
use cairn::machine::plan::{InterfacePlan, Plan, Prefix, Route};

use super::link::{Link, Machine, address, inside};

/// An address of its own, and a gateway.
fn with_gateway(own: &str, gateway: &str) -> Plan {
    let everything = if gateway.contains(':') {
        "::"
    } else {
        "0.0.0.0"
    };
    let prefix = |text: &str, bits: u8| Prefix {
        address: address(text),
        bits,
    };
    let route = Route {
        to: prefix(everything, 0),
        via: Some(address(gateway)),
        on_link: true,
        metric: None,
    };
    let bits = if gateway.contains(':') { 64 } else { 24 };
    let interface = InterfacePlan {
        dhcp4: false,
        accept_ra: false,
        addresses: vec![prefix(own, bits)],
        routes: vec![route],
        ..InterfacePlan::default()
    };
    Plan {
        interfaces: vec![interface],
        ..Plan::default()
    }
}

/// The network has looked for signs of life so many times, and found none.
fn stays_silent(machine: &mut Machine, link: &Link) {
    machine.until(link, "the cable is plugged in", |machine| {
        machine.network.evidence() != Evidence::Unplugged
    });
    for _ in 0..3 {
        // The next look.
        machine.leap(1_000);
        machine.until(link, "it has looked", |machine| {
            !machine.network.addresses().is_empty()
        });
        assert_eq!(machine.network.evidence(), Evidence::Silence);
    }
}

#[test]
fn a_network_works_when_its_gateway_answers() {
    for (own, gateway) in [
        ("192.0.2.77", "192.0.2.1"),
        ("2001:db8:1::77", "2001:db8:1::1"),
    ] {
        Link::run(|link| {
            let mut machine = Machine::start(with_gateway(own, gateway));
            machine.until(link, "the gateway answers", |machine| {
                machine.network.evidence() == Evidence::Works
            });
            machine.no_trouble();
            // From then on it works, whatever comes.
            link.at_servers("link set eth1 down");
            machine.leap(60_000);
            machine.until(link, "it has looked", |_| true);
            assert_eq!(machine.network.evidence(), Evidence::Works);
        });
    }
}

#[test]
fn a_network_is_silent_while_its_gateway_does_not_answer_and_nothing_without_a_cable() {
    Link::run(|link| {
        let mut machine = Machine::start(with_gateway("198.51.100.77", "198.51.100.1"));
        machine.until(link, "it has its address", |machine| {
            !machine.network.addresses().is_empty()
        });
        stays_silent(&mut machine, link);
        link.at_servers("link set eth1 down");
        machine.leap(1_000);
        machine.until(link, "the cable is out", |machine| {
            machine.network.evidence() == Evidence::Unplugged
        });
        link.at_servers("link set eth1 up");
        link.at_servers("addr add 198.51.100.1/24 dev eth1");
        machine.until(link, "the gateway answers", |machine| {
            machine.network.evidence() == Evidence::Works
        });
    });
}

#[test]
fn somebody_on_the_link_is_enough_for_a_network_to_work() {
    Link::run(|link| {
        let mut machine = Machine::start(with_gateway("198.51.100.77", "198.51.100.1"));
        machine.until(link, "it has its address", |machine| {
            !machine.network.addresses().is_empty()
        });
        stays_silent(&mut machine, link);
        link.at_servers("addr add 198.51.100.9/24 dev eth1");
        let servers = link.namespace("servers");
        machine.until(link, "a client is near", |machine| {
            // It asks where the machine is: nobody answers at the port, which does not matter.
            inside(&servers, || {
                let socket = UdpSocket::bind("198.51.100.9:0").expect("a port");
                let _ = socket.send_to(b"hello", "198.51.100.77:9");
            });
            machine.network.evidence() == Evidence::Works
        });
    });
}

#[test]
fn dhcp_that_nobody_answers_is_silence_and_an_offer_ends_it() {
    Link::run(|link| {
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "it asks", |machine| {
            machine.network.evidence() == Evidence::Silence
        });
        link.dnsmasq(&["dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600"]);
        machine.until(link, "an address is lent", |machine| {
            machine.network.evidence() == Evidence::Works
        });
    });
}
