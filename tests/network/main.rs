//! The network of PID 1 against real servers, dnsmasq and radvd. Every test has a link of its own
//! between two network namespaces: the machine's, where the test itself goes, and the servers'. The
//! time that the network is told leaps over what nobody wants to wait for.
#![allow(clippy::print_stdout)]

mod evidence;
mod link;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use cairn::machine::net::network::Event;
use cairn::machine::plan::{InterfacePlan, Plan};
use socket2::{Domain, Protocol, Socket, Type};

use link::{LEASE_MS, Link, Machine, TIME_SERVER, address, inside, is_between};

#[test]
fn dhcp_lends_an_address_extends_it_and_another_server_changes_it() {
    Link::run(|link| {
        let options = "dhcp-option=option:dns-server,192.0.2.53";
        let time = "dhcp-option=option:ntp-server,192.0.2.123";
        let range = "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600";
        link.dnsmasq(&[range, options, time]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCP")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCP").expect("it is lent");
        assert!(is_between(Some(first), "192.0.2.50", "192.0.2.60") && first.bits == 24);
        assert_eq!(machine.network.resolvers(), [address("192.0.2.53")]);
        assert_eq!(machine.network.time_servers(), [address("192.0.2.123")]);
        assert!(
            link.at_machine("route")
                .contains("default via 192.0.2.1 dev eth0")
        );
        machine.no_trouble();

        machine.leap(LEASE_MS / 2);
        machine.until(link, "the lease is extended", |machine| {
            machine.heard.contains(&Event::Servers)
        });
        assert!(!machine.has_lost() && machine.address("DHCP").is_none());

        let range = "dhcp-range=192.0.2.150,192.0.2.160,255.255.255.0,600";
        link.dnsmasq(&[range, options]);
        machine.leap(LEASE_MS / 2);
        machine.until(link, "another address is lent", |machine| {
            machine
                .address("DHCP")
                .is_some_and(|prefix| machine.has(prefix))
        });
        assert!(machine.has_lost() && !machine.has(first));
        assert!(is_between(
            machine.address("DHCP"),
            "192.0.2.150",
            "192.0.2.160"
        ));
        assert_eq!(machine.network.time_servers(), [] as [IpAddr; 0]);
        machine.no_trouble();
    });
}

#[test]
fn a_router_sends_to_dhcpv6_which_lends_extends_and_changes_an_address() {
    Link::run(|link| {
        let resolvers = "dhcp-option=option6:dns-server,[2001:db8::53]";
        let time = format!("dhcp-option=option6:56,{TIME_SERVER}");
        let range = "dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600";
        link.dnsmasq(&["enable-ra", range, resolvers, &time]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCPv6").expect("it is lent");
        assert!(is_between(
            Some(first),
            "2001:db8:1::100",
            "2001:db8:1::1ff"
        ));
        assert_eq!(first.bits, 128);
        assert_eq!(machine.network.resolvers(), [address("2001:db8::53")]);
        assert_eq!(machine.network.time_servers(), [address("2001:db8::123")]);
        assert!(link.at_machine("-6 route").contains("default via fe80::"));
        let told = link.at_machine("-6 addr show dev eth0 to 2001:db8:1::100/120");
        assert!(
            told.contains("valid_lft 600sec") || told.contains("valid_lft 59"),
            "{told}"
        );

        machine.leap(LEASE_MS / 2);
        machine.until(link, "the lease is extended", |machine| {
            link.log().contains("DHCPRENEW(eth1)") && machine.heard.contains(&Event::Servers)
        });
        assert!(!machine.has_lost() && machine.address("DHCPv6").is_none());

        let range = "dhcp-range=2001:db8:1::200,2001:db8:1::2ff,64,600";
        link.dnsmasq(&["enable-ra", range, resolvers]);
        machine.leap(LEASE_MS);
        machine.until(link, "another address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        assert!(machine.has_lost() && !machine.has(first));
        assert!(is_between(
            machine.address("DHCPv6"),
            "2001:db8:1::200",
            "2001:db8:1::2ff"
        ));
        machine.no_trouble();
    });
}

#[test]
fn another_dhcpv6_server_takes_over_a_lease_that_is_rebound() {
    Link::run(|link| {
        let range = "dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600";
        link.dnsmasq(&["enable-ra", range]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCPv6").expect("it is lent");
        link.dnsmasq(&["enable-ra", range]);
        machine.leap(LEASE_MS * 9 / 10);
        machine.until(link, "the lease is extended", |machine| {
            link.log().contains("DHCPREBIND(eth1)") && machine.heard.contains(&Event::Servers)
        });
        assert!(machine.has(first) && !machine.has_lost());
        machine.leap(LEASE_MS / 5);
        machine.until(link, "that was long ago", |machine| machine.has(first));
        assert!(!machine.has_lost());
    });
}

#[test]
fn dhcpv6_is_asked_because_the_plan_says_so() {
    Link::run(|link| {
        link.dnsmasq(&["dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600"]);
        let interface = InterfacePlan {
            dhcp4: false,
            dhcp6: true,
            accept_ra: false,
            ..InterfacePlan::default()
        };
        let plan = Plan {
            interfaces: vec![interface],
            ..Plan::default()
        };
        let mut machine = Machine::start(plan);
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let addresses = machine.network.addresses();
        assert_eq!(addresses.len(), 1, "none but that: {addresses:?}");
        link.kill();
        machine.leap(LEASE_MS);
        machine.until(link, "the address is gone", |machine| {
            machine.has_lost() && machine.network.addresses().is_empty()
        });
        machine.no_trouble();
    });
}

#[test]
fn a_router_with_other_things_is_asked_for_these_only() {
    Link::run(|link| {
        let time = format!("dhcp-option=option6:56,{TIME_SERVER}");
        link.dnsmasq(&[
            "enable-ra",
            "dhcp-range=2001:db8:1::,ra-stateless,64,600",
            &time,
        ]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a time server is named", |machine| {
            machine.network.time_servers() == [address("2001:db8::123")]
        });
        machine.until(link, "the kernel has made an address", |machine| {
            let addresses = machine.network.addresses();
            addresses.iter().any(|(_, prefix)| prefix.bits == 64)
        });
        assert_eq!(machine.address("DHCPv6"), None);
        machine.no_trouble();
    });
}

/// Advertises a name server for ever, in the name of a router.
fn advertise(source: &str, hops: u32, resolver: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(b"eth1"))?;
    socket.set_multicast_hops_v6(hops)?;
    let to = |address: &str| {
        let address: Ipv6Addr = address.parse().expect("an address");
        SocketAddrV6::new(address, 0, 0, 0).into()
    };
    socket.bind(&to(source))?;
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
    message.extend([0; 8]);
    message.extend([25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    message.extend(resolver.parse::<Ipv6Addr>().expect("one").octets());
    socket.send_to(&message, &to("ff02::1"))?;
    Ok(())
}

#[test]
fn only_a_router_of_this_link_is_heard() {
    Link::run(|link| {
        let mut machine = Machine::start(Plan::default());
        let servers = link.namespace("servers");
        machine.until(link, "a router is heard", |machine| {
            inside(&servers, || {
                // Without a source of its own the kernel takes the link-local address, once there
                // is one.
                let far = advertise("::", 64, "2001:db8::66");
                let global = advertise("2001:db8:1::1", 255, "2001:db8::67");
                if far.is_ok() && global.is_ok() {
                    advertise("::", 255, "2001:db8::53").expect("as the others");
                }
            });
            !machine.network.resolvers().is_empty()
        });
        assert_eq!(machine.network.resolvers(), [address("2001:db8::53")]);
    });
}

#[test]
fn a_link_without_ipv4_has_all_it_needs_from_its_router() {
    Link::run(|link| {
        link.radvd();
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a name server is named", |machine| {
            machine.network.resolvers() == [address("2001:db8::53")]
        });
        machine.until(link, "the kernel has made an address", |machine| {
            let addresses = machine.network.addresses();
            addresses.iter().any(|(_, prefix)| prefix.bits == 64)
        });
        assert!(link.at_machine("-6 route").contains("default via fe80::"));
        link.kill();
        machine.leap(61_000);
        machine.until(link, "the name server's time is over", |machine| {
            machine.network.resolvers().is_empty() && machine.heard.contains(&Event::Servers)
        });
        machine.no_trouble();
    });
}

#[test]
fn a_router_that_advertised_before_anybody_heard_it_is_asked_again() {
    Link::run(|link| {
        link.radvd();
        link.at_machine("link set eth0 up");
        // The kernel has asked and been answered, and does not ask any more.
        link.until("the kernel has made an address", |link| {
            let addresses = link.at_machine("-6 addr show dev eth0 scope global");
            addresses.contains("2001:db8:1:")
        });
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a name server is named", |machine| {
            machine.network.resolvers() == [address("2001:db8::53")]
        });
    });
}
