//! DigitalOcean: one JSON document with addresses, name servers and the user-data.

use std::net::IpAddr;

use serde_json::Value;

use super::require;
use crate::machine::plan::{InterfacePlan, Plan};
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::network::{add_resolvers, quiet};
use crate::machine::source::value::{
    self, add_route, address, addresses, everything, list, mac, prefix, text,
};

/// Asks for the document.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    read(found, &require(server, "/metadata/v1.json", &[])?)
}

/// Reads the document, which on a config drive is `digitalocean_meta_data.json`.
pub fn read(found: Found, document: &[u8]) -> Result<Found, String> {
    let document = value::json(document)?;
    let mut found = found
        .with_user_data(text(&document, "user_data").unwrap_or_default().as_bytes())
        .with_hostname(text(&document, "hostname"));
    let mut plan = Plan::default();
    let interfaces = document.get("interfaces").unwrap_or(&Value::Null);
    for kind in ["public", "private"] {
        for row in list(interfaces, kind) {
            let is_public = kind == "public";
            plan.interfaces.push(interface(row, is_public));
            if is_public {
                let own = ["ipv4", "ipv6"].map(|kind| address(row.get(kind)?, "ip_address"));
                found.public_addresses.extend(own.into_iter().flatten());
            }
        }
    }
    if let Some(dns) = document.get("dns") {
        add_resolvers(&mut plan, addresses(dns, "nameservers"));
    }
    if !plan.interfaces.is_empty() {
        found.network = Some(plan);
    }
    Ok(found)
}

fn interface(row: &Value, is_public: bool) -> InterfacePlan {
    let mut interface = quiet(text(row, "mac").and_then(mac), None);
    // Custom images get their address by DHCP, others by this document alone.
    interface.dhcp4 = row.get("ipv4").is_none();
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (kind, mask) in [
        ("ipv4", "netmask"),
        ("ipv6", "cidr"),
        ("anchor_ipv4", "netmask"),
    ] {
        let Some(own) = row.get(kind) else {
            continue;
        };
        let own_prefix = text(own, "ip_address").and_then(|text| prefix(text, own.get(mask)));
        interface.addresses.extend(own_prefix);
        if is_public && kind != "anchor_ipv4" {
            gateways.extend(address(own, "gateway"));
        }
    }
    for via in gateways {
        add_route(&mut interface, everything(via), Some(via), None);
    }
    interface
}
