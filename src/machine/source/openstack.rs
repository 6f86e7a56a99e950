//! OpenStack's documents, which are the same on a config drive and from the metadata service:
//! `meta_data.json`, `network_data.json`, `user_data`.

use std::net::IpAddr;

use serde_json::Value;

use super::found::Found;
use super::network::{Understood, add_resolvers, quiet};
use super::value::{self, add_route, everything, list, mac, number, prefix, text};
use crate::machine::plan::{InterfacePlan, Plan};

/// What the three files are called below `openstack/latest/`.
pub const FILES: [&str; 3] = ["user_data", "meta_data.json", "network_data.json"];

/// Makes one answer of the three files, each of which may be absent.
#[must_use]
pub fn read(found: Found, files: [Option<Vec<u8>>; 3]) -> Found {
    let [user_data, meta_data, network_data] = files;
    let mut found = found.with_user_data(user_data.as_deref().unwrap_or_default());
    if let Some(meta_data) = meta_data {
        match value::json(&meta_data) {
            Ok(meta_data) => {
                let name = text(&meta_data, "hostname").or_else(|| text(&meta_data, "name"));
                found = found.with_hostname(name);
            }
            Err(why) => found.note(format!("meta_data.json is not understood: {why}")),
        }
    }
    if let Some(network_data) = network_data {
        match value::json(&network_data) {
            Ok(network_data) => {
                let understood = network(&network_data);
                found.network = understood.plan;
                understood
                    .notes
                    .into_iter()
                    .for_each(|note| found.note(note));
            }
            Err(why) => found.note(format!("network_data.json is not understood: {why}")),
        }
    }
    found
}

/// Reads `network_data.json`: links, the networks on them, and services.
#[must_use]
pub fn network(document: &Value) -> Understood {
    let (mut plan, mut notes) = (Plan::default(), Vec::new());
    for link in list(document, "links") {
        let kind = text(link, "type").unwrap_or("phy");
        if matches!(kind, "bond" | "vlan") {
            notes.push(format!(
                "the network link of the type {kind:?} is not supported and is left out"
            ));
            continue;
        }
        let mut interface = quiet(text(link, "ethernet_mac_address").and_then(mac), None);
        interface.mtu = number(link, "mtu");
        let id = link.get("id");
        let networks = list(document, "networks")
            .iter()
            .filter(|network| network.get("link") == id);
        let on_it: Vec<&Value> = networks.collect();
        for network in &on_it {
            add_network(&mut interface, network);
        }
        // Routes when all addresses are there: a gateway may be near to another network's address.
        for network in &on_it {
            add_routes(&mut interface, network);
            add_resolvers(&mut plan, value::addresses(network, "dns_nameservers"));
            add_services(&mut plan, network);
        }
        plan.interfaces.push(interface);
    }
    add_services(&mut plan, document);
    Understood::of(plan, notes)
}

fn add_network(interface: &mut InterfacePlan, network: &Value) {
    match text(network, "type").unwrap_or("") {
        "ipv4_dhcp" => interface.dhcp4 = true,
        "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => interface.dhcp6 = true,
        "ipv4" | "ipv6" => {
            let own = text(network, "ip_address");
            interface
                .addresses
                .extend(own.and_then(|own| prefix(own, network.get("netmask"))));
        }
        // Router advertisements (ipv6_slaac, ipv6_dhcpv6-stateless) are followed by default.
        _ => {}
    }
}

fn add_routes(interface: &mut InterfacePlan, network: &Value) {
    if let Some(via) = value::address(network, "gateway") {
        add_route(interface, everything(via), Some(via), None);
    }
    for route in list(network, "routes") {
        let Some(via) = value::address(route, "gateway") else {
            continue;
        };
        let to = text(route, "network").and_then(|to| prefix(to, route.get("netmask")));
        if let Some(to) = to {
            add_route(interface, to, Some(via), None);
        }
    }
}

fn add_services(plan: &mut Plan, of: &Value) {
    let is_dns = |service: &&Value| text(service, "type") == Some("dns");
    let servers = list(of, "services").iter().filter(is_dns);
    let servers: Vec<IpAddr> = servers
        .filter_map(|service| value::address(service, "address"))
        .collect();
    add_resolvers(plan, servers);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::machine::plan::Route;
    use crate::machine::source::Origin;

    #[test]
    fn links_networks_and_services_become_a_plan() {
        let document = json!({
            "links": [
                {"id": "tap1", "vif_id": "9", "type": "ovs", "mtu": 1500, "ethernet_mac_address": "fa:16:3e:00:00:01"},
                {"id": "tap2", "type": "phy", "mtu": null, "ethernet_mac_address": "fa:16:3e:00:00:02"},
                {"id": "v", "type": "vlan", "vlan_id": 3, "vlan_link": "tap2"},
            ],
            "networks": [
                {"id": "network0", "link": "tap1", "type": "ipv4", "ip_address": "203.0.113.9", "netmask": "255.255.255.255",
                 "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "203.0.112.1"}],
                 "services": [{"type": "dns", "address": "192.0.2.53"}]},
                {"id": "network1", "link": "tap1", "type": "ipv6", "ip_address": "2001:db8::9", "netmask": "ffff:ffff:ffff:ffff::",
                 "gateway": "2001:db8:0:1::1", "routes": []},
                {"id": "network2", "link": "tap2", "type": "ipv4_dhcp"},
            ],
            "services": [{"type": "dns", "address": "192.0.2.54"}, {"type": "ntp", "address": "192.0.2.1"}],
        });
        let understood = network(&document);
        assert_eq!(understood.notes.len(), 1);
        let plan = understood.plan.expect("a plan");
        assert_eq!(plan.interfaces.len(), 2);
        let first = &plan.interfaces[0];
        assert_eq!(first.mac, Some([0xfa, 0x16, 0x3e, 0, 0, 1]));
        assert_eq!(first.mtu, Some(1500));
        assert_eq!(
            first
                .addresses
                .iter()
                .map(|one| one.bits)
                .collect::<Vec<_>>(),
            [32, 64]
        );
        let on_link: Vec<bool> = first
            .routes
            .iter()
            .map(|route: &Route| route.on_link)
            .collect();
        assert_eq!(
            on_link,
            [true, true],
            "OVH's gateways are out of the prefix"
        );
        assert!(!first.dhcp4 && !first.accept_ra);
        assert!(plan.interfaces[1].dhcp4 && plan.interfaces[1].mtu.is_none());
        let servers = [[192, 0, 2, 53], [192, 0, 2, 54]].map(IpAddr::from);
        assert_eq!(plan.resolvers, servers);
    }

    #[test]
    fn each_file_may_be_absent_or_broken() {
        let of = |files| read(Found::at(Origin::ConfigDrive), files);
        assert_eq!(of([None, None, None]), Found::at(Origin::ConfigDrive));
        let found = of([
            Some(b"#cairn\n".to_vec()),
            Some(br#"{"uuid": "1", "name": "chat"}"#.to_vec()),
            Some(b"{".to_vec()),
        ]);
        assert_eq!(found.hostname.as_deref(), Some("chat"));
        assert!(found.config.is_some());
        assert_eq!(found.notes.len(), 1);
        assert!(found.notes[0].starts_with("network_data.json is not understood"));
        let broken = of([None, Some(b"[]".to_vec()), Some(b"3".to_vec())]);
        assert_eq!(broken, Found::at(Origin::ConfigDrive));
    }
}
