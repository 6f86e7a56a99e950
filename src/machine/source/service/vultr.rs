//! Vultr: one JSON document, and the user-data apart. The public interface has its address by DHCP
//! and router advertisements; private ones and further addresses are in the document alone.

use serde_json::Value;

use super::{fetch, require};
use crate::machine::plan::{InterfacePlan, Plan};
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::network::quiet;
use crate::machine::source::value::{self, address, list, mac, prefix, text};

/// Vultr's private networks carry no larger packets.
const PRIVATE_MTU: u16 = 1450;

/// Asks for both documents.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let document = require(server, "/v1.json", &[])?;
    let user_data = fetch(server, "/latest/user-data", &[])?;
    read(found, &document, user_data.as_deref().unwrap_or_default())
}

/// Reads both documents.
pub fn read(found: Found, document: &[u8], user_data: &[u8]) -> Result<Found, String> {
    let document = value::json(document)?;
    let mut found = found
        .with_user_data(user_data)
        .with_hostname(text(&document, "hostname"));
    let mut plan = Plan::default();
    for row in list(&document, "interfaces") {
        let is_public = text(row, "network-type") != Some("private");
        let interface = interface(row, is_public);
        if is_public {
            let own = ["ipv4", "ipv6"].map(|kind| address(row.get(kind)?, "address"));
            let own = own
                .into_iter()
                .flatten()
                .filter(|own| !own.is_unspecified());
            found.public_addresses.extend(own);
        }
        plan.interfaces.push(interface);
    }
    if !plan.interfaces.is_empty() {
        found.network = Some(plan);
    }
    Ok(found)
}

fn interface(row: &Value, is_public: bool) -> InterfacePlan {
    let mut interface = quiet(text(row, "mac").and_then(mac), None);
    interface.dhcp4 = is_public;
    interface.mtu = (!is_public).then_some(PRIVATE_MTU);
    for (kind, mask) in [("ipv4", "netmask"), ("ipv6", "prefix")] {
        let Some(own) = row.get(kind) else {
            continue;
        };
        let further = list(own, "additional").iter();
        let own = (!is_public).then_some(own).into_iter().chain(further);
        let own = own.filter_map(|own| {
            let address = text(own, "address").or_else(|| text(own, "network"))?;
            prefix(address, own.get(mask))
        });
        interface.addresses.extend(own);
    }
    interface
}
