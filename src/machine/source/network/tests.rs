use super::*;
use crate::machine::plan::Route;
use crate::machine::source::yaml;

fn understood(text: &str) -> Understood {
    read(&yaml::read(text.as_bytes()).expect("YAML")).expect("a version")
}

fn plan(text: &str) -> Plan {
    let understood = understood(text);
    assert_eq!(understood.notes, [] as [String; 0]);
    understood.plan.expect("a plan")
}

fn at(text: &str) -> Prefix {
    prefix(text, None).expect("a prefix")
}

fn route(to: &str, via: &str, on_link: bool) -> Route {
    Route {
        to: at(to),
        via: Some(via.parse().expect("an address")),
        on_link,
        metric: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What Hetzner's metadata holds.
#[test]
fn version_1_with_dhcp_and_a_static_ipv6() {
    let plan = plan(
        "version: 1
config:
- mac_address: 96:00:00:1a:2b:3c
  name: eth0
  subnets:
  - dns_nameservers:
    - 2001:db8:53::1
    - 2001:db8:53::2
    ipv4: true
    type: dhcp
  - address: 2001:db8:c012:1::1/64
    gateway: fe80::1
    ipv6: true
    type: static
  type: physical
",
    );
    let expected = InterfacePlan {
        mac: Some([0x96, 0, 0, 0x1a, 0x2b, 0x3c]),
        name: None,
        mtu: None,
        dhcp4: true,
        dhcp6: false,
        accept_ra: false,
        addresses: vec![at("2001:db8:c012:1::1/64")],
        routes: vec![route("::/0", "fe80::1", false)],
    };
    assert_eq!(plan.interfaces, [expected]);
    assert_eq!(plan.resolvers, [ip("2001:db8:53::1"), ip("2001:db8:53::2")]);
}

/// What Proxmox writes.
#[test]
fn version_1_with_static_addresses_and_name_servers() {
    let plan = plan(
        "version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'bc:24:11:00:00:01'
      subnets:
      - type: static
        address: '192.0.2.10'
        netmask: '255.255.255.0'
        gateway: '192.0.2.1'
      - type: ipv6_slaac
    - type: nameserver
      address:
      - '192.0.2.53'
      search:
      - 'example'
    - type: route
      destination: 198.51.100.0/24
      gateway: 192.0.2.2
      metric: 3
",
    );
    let interface = &plan.interfaces[0];
    assert_eq!(interface.addresses, [at("192.0.2.10/24")]);
    assert!(interface.accept_ra && !interface.dhcp4);
    let metric = Route {
        metric: Some(3),
        ..route("198.51.100.0/24", "192.0.2.2", false)
    };
    assert_eq!(
        interface.routes,
        [route("0.0.0.0/0", "192.0.2.1", false), metric]
    );
    assert_eq!(plan.resolvers, [ip("192.0.2.53")]);
}

#[test]
fn version_1_with_a_gateway_off_the_link() {
    let plan = plan(
        "version: 1
config:
- type: physical
  name: ens3
  mtu: 1450
  subnets:
  - type: static
    address: 203.0.113.7/32
    gateway: 172.31.1.1
    routes:
    - network: 10.0.0.0
      netmask: 255.0.0.0
      gateway: 172.31.1.2
",
    );
    let interface = &plan.interfaces[0];
    assert_eq!(
        (&interface.name, interface.mac),
        (&None, None),
        "udev's names are not here"
    );
    assert_eq!(interface.mtu, Some(1450));
    let routes = [
        route("0.0.0.0/0", "172.31.1.1", true),
        route("10.0.0.0/8", "172.31.1.2", true),
    ];
    assert_eq!(interface.routes, routes);
}

#[test]
fn version_2_with_everything() {
    let plan = plan(
        "network:
  version: 2
  renderer: networkd
  ethernets:
    any:
      match: {driver: virtio_net}
      dhcp4: true
    eth1:
      dhcp6: true
      accept-ra: no
    first:
      match:
        macaddress: '52:54:00:12:34:56'
      set-name: eth0
      mtu: 9000
      addresses:
      - 192.0.2.4/24
      - 2001:db8::4/64: {lifetime: 0}
      gateway4: 192.0.2.1
      nameservers:
        search: [example]
        addresses: [192.0.2.53, '2001:db8::53']
      routes:
      - to: default
        via: 2001:db8::1
      - {to: 198.51.100.0/24, via: 192.0.2.9, on-link: true, metric: 50}
      - {to: 203.0.113.0/24, scope: link}
      - {to: nonsense, via: 192.0.2.9}
",
    );
    let [eth1, first, any] = &plan.interfaces[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(any.name, None);
    assert!(any.dhcp4 && any.accept_ra);
    assert_eq!(eth1.name.as_deref(), Some("eth1"));
    assert!(eth1.dhcp6 && !eth1.accept_ra && !eth1.dhcp4);
    assert_eq!(first.mac, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    assert_eq!(
        (first.mtu, first.dhcp4, first.accept_ra),
        (Some(9000), false, false)
    );
    assert_eq!(first.addresses, [at("192.0.2.4/24"), at("2001:db8::4/64")]);
    let near = Route {
        metric: Some(50),
        ..route("198.51.100.0/24", "192.0.2.9", true)
    };
    let link = Route {
        to: at("203.0.113.0/24"),
        via: None,
        on_link: false,
        metric: None,
    };
    let expected = [
        route("0.0.0.0/0", "192.0.2.1", false),
        route("::/0", "2001:db8::1", false),
        near,
        link,
    ];
    assert_eq!(first.routes, expected);
    assert_eq!(plan.resolvers, [ip("192.0.2.53"), ip("2001:db8::53")]);
}

#[test]
fn what_joins_interfaces_is_told() {
    let understood = understood(
        "version: 2\nethernets: {eth0: {dhcp4: true}}\nbonds: {bond0: {interfaces: [eth0]}}\nvlans: {}\n",
    );
    assert_eq!(understood.notes.len(), 1);
    assert!(understood.notes[0].contains("bonds"));
    assert!(understood.plan.is_some());
    let one =
        read(&yaml::read(b"version: 1\nconfig:\n- {type: vlan, name: eth0.3}\n").expect("YAML"));
    let one = one.expect("a version");
    assert_eq!((one.plan, one.notes.len()), (None, 1));
}

#[test]
fn documents_without_meaning_say_so() {
    let why =
        |text: &str| read(&yaml::read(text.as_bytes()).expect("YAML")).expect_err("no version");
    assert!(why("version: 3\n").contains("version 3"));
    assert!(why("").contains("do not say"));
    assert!(why("- a\n").contains("do not say"));
    assert_eq!(understood("config: disabled\n"), Understood::default());
    assert_eq!(understood("version: 1\nconfig: 3\n"), Understood::default());
    assert_eq!(
        understood("version: 2\nethernets: [a]\n"),
        Understood::default()
    );
}
