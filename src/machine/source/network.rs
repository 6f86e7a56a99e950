//! Network settings of cloud-init, versions 1 and 2, as a [`Plan`].
//!
//! Interfaces are meant by their hardware address. A name counts only where none is given and it is
//! one that the kernel itself gives (`eth0`): names such as `ens3` come from udev, which is not here.
//! What joins interfaces (bonds, bridges, VLANs) is told and left out.

use std::net::IpAddr;

use serde_json::Value;

use super::value::{
    add_route, addresses, contains, everything, flag, list, mac, number, prefix, text,
};
use crate::machine::plan::{InterfacePlan, Plan, Prefix};

#[cfg(test)]
mod tests;

/// What a document means, and sentences about what of it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// The plan; absent where the document states no interface.
    pub plan: Option<Plan>,
    /// For the console.
    pub notes: Vec<String>,
}

impl Understood {
    pub(super) fn of(plan: Plan, notes: Vec<String>) -> Understood {
        let says_something = !plan.interfaces.is_empty() || !plan.resolvers.is_empty();
        Understood {
            plan: says_something.then_some(plan),
            notes,
        }
    }
}

/// Reads `network-config` of either version, with or without `network:` around it.
pub fn read(document: &Value) -> Result<Understood, String> {
    let document = document.get("network").unwrap_or(document);
    match number::<u64>(document, "version") {
        Some(1) => Ok(version_1(document)),
        Some(2) => Ok(version_2(document)),
        _ if document.get("config").and_then(Value::as_str) == Some("disabled") => {
            Ok(Understood::default())
        }
        Some(other) => Err(format!(
            "the network settings are of version {other}; 1 and 2 are known"
        )),
        None => Err("the network settings do not say which version they are".to_owned()),
    }
}

/// An interface that asks nobody and has nothing yet.
pub(super) fn quiet(mac: Option<[u8; 6]>, name: Option<&str>) -> InterfacePlan {
    let is_kernel_name = |name: &&str| {
        let number = name.strip_prefix("eth");
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    InterfacePlan {
        name: match mac {
            Some(_) => None,
            None => name.filter(is_kernel_name).map(str::to_owned),
        },
        mac,
        dhcp4: false,
        ..InterfacePlan::default()
    }
}

/// Adds what is not there yet.
pub(super) fn add_resolvers(plan: &mut Plan, servers: impl IntoIterator<Item = IpAddr>) {
    for server in servers {
        if !plan.resolvers.contains(&server) {
            plan.resolvers.push(server);
        }
    }
}

fn version_1(document: &Value) -> Understood {
    let (mut plan, mut notes) = (Plan::default(), Vec::new());
    for row in list(document, "config") {
        match text(row, "type").unwrap_or("") {
            "physical" => {
                let (interface, resolvers) = physical(row);
                plan.interfaces.push(interface);
                add_resolvers(&mut plan, resolvers);
            }
            "nameserver" => add_resolvers(&mut plan, addresses(row, "address")),
            "loopback" | "route" => {}
            other => notes.push(format!(
                "network settings of the type {other:?} are not supported and are left out"
            )),
        }
    }
    for row in list(document, "config") {
        if text(row, "type") == Some("route") {
            route_of_its_own(&mut plan, row);
        }
    }
    Understood::of(plan, notes)
}

/// One `physical` entry of version 1, and the name servers of its subnets.
fn physical(row: &Value) -> (InterfacePlan, Vec<IpAddr>) {
    let address = text(row, "mac_address").and_then(mac);
    let mut interface = quiet(address, text(row, "name"));
    interface.mtu = number(row, "mtu");
    let mut resolvers = Vec::new();
    for subnet in list(row, "subnets") {
        resolvers.extend(addresses(subnet, "dns_nameservers"));
        match text(subnet, "type").unwrap_or("") {
            "dhcp" | "dhcp4" => interface.dhcp4 = true,
            "dhcp6" | "ipv6_dhcpv6-stateful" => interface.dhcp6 = true,
            "static" | "static6" => {
                let own = text(subnet, "address");
                interface
                    .addresses
                    .extend(own.and_then(|own| prefix(own, subnet.get("netmask"))));
            }
            // Router advertisements are followed by default; "manual" asks for nothing.
            _ => {}
        }
    }
    for subnet in list(row, "subnets") {
        if let Some(via) = text(subnet, "gateway").and_then(|via| via.parse().ok()) {
            add_route(&mut interface, everything(via), Some(via), None);
        }
        for route in list(subnet, "routes") {
            if let Some((to, via)) = route_1(route) {
                add_route(&mut interface, to, Some(via), number(route, "metric"));
            }
        }
    }
    (interface, resolvers)
}

/// Where a route of version 1 leads, and by way of whom.
fn route_1(route: &Value) -> Option<(Prefix, IpAddr)> {
    let via: IpAddr = text(route, "gateway")?.parse().ok()?;
    let to = text(route, "network").or_else(|| text(route, "destination"))?;
    let to = match to {
        "default" => everything(via),
        to => prefix(to, route.get("netmask").or_else(|| route.get("prefix")))?,
    };
    Some((to, via))
}

/// An entry `route` goes through the interface that has the gateway on its link, else the first.
fn route_of_its_own(plan: &mut Plan, row: &Value) {
    let Some((to, via)) = route_1(row) else {
        return;
    };
    let place = plan.interfaces.iter().position(|interface| {
        interface
            .addresses
            .iter()
            .any(|prefix| contains(prefix, via))
    });
    if let Some(interface) = plan.interfaces.get_mut(place.unwrap_or(0)) {
        add_route(interface, to, Some(via), number(row, "metric"));
    }
}

fn version_2(document: &Value) -> Understood {
    let (mut plan, mut notes) = (Plan::default(), Vec::new());
    for kind in ["bonds", "bridges", "vlans", "wifis", "tunnels", "vrfs"] {
        if document
            .get(kind)
            .and_then(Value::as_object)
            .is_some_and(|rows| !rows.is_empty())
        {
            notes.push(format!(
                "network settings under {kind:?} are not supported and are left out"
            ));
        }
    }
    let ethernets = document.get("ethernets").and_then(Value::as_object);
    for (id, row) in ethernets.into_iter().flatten() {
        plan.interfaces.push(ethernet(id, row));
        if let Some(servers) = row.get("nameservers") {
            add_resolvers(&mut plan, addresses(servers, "addresses"));
        }
    }
    // Entries that any interface fits stand behind those that mean a certain one.
    plan.interfaces
        .sort_by_key(|one| one.mac.is_none() && one.name.is_none());
    Understood::of(plan, notes)
}

/// One entry of `ethernets` in version 2.
fn ethernet(id: &str, row: &Value) -> InterfacePlan {
    let matched = row.get("match");
    let address = matched
        .and_then(|matched| text(matched, "macaddress"))
        .and_then(mac);
    let name = match matched {
        Some(matched) => text(matched, "name"),
        None => Some(id),
    };
    let mut interface = quiet(address, name);
    interface.mtu = number(row, "mtu");
    interface.dhcp4 = flag(row, "dhcp4").unwrap_or(false);
    interface.dhcp6 = flag(row, "dhcp6").unwrap_or(false);
    for own in list(row, "addresses") {
        // An address with options is a map of one key.
        let own = match own {
            Value::Object(own) => own.keys().next().map(String::as_str),
            own => own.as_str(),
        };
        interface
            .addresses
            .extend(own.and_then(|own| prefix(own, None)));
    }
    for key in ["gateway4", "gateway6"] {
        if let Some(via) = text(row, key).and_then(|via| via.parse().ok()) {
            add_route(&mut interface, everything(via), Some(via), None);
        }
    }
    for route in list(row, "routes") {
        add_route_2(&mut interface, route);
    }
    if let Some(accept) = flag(row, "accept-ra") {
        interface.accept_ra = accept;
    }
    interface
}

fn add_route_2(interface: &mut InterfacePlan, route: &Value) {
    let via: Option<IpAddr> = text(route, "via").and_then(|via| via.parse().ok());
    let to = match (text(route, "to"), via) {
        (Some("default"), Some(via)) => Some(everything(via)),
        (Some(to), _) => prefix(to, None),
        (None, _) => None,
    };
    let Some(to) = to.filter(|_| via.is_some() || text(route, "scope") == Some("link")) else {
        return;
    };
    add_route(interface, to, via, number(route, "metric"));
    if flag(route, "on-link") == Some(true)
        && let Some(added) = interface.routes.last_mut()
    {
        added.on_link = true;
    }
}
