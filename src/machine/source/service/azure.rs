//! Microsoft Azure, by its instance metadata service. Addresses come by DHCP. The machine does not
//! report that it is ready, which Azure's agent would do.

use serde_json::Value;

use super::require;
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::user_data::unwrapped;
use crate::machine::source::value::{self, address, list, text};

const PATH: &str = "/metadata/instance?api-version=2021-02-01";

/// Asks for everything at once.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    read(found, &require(server, PATH, &[("Metadata", "true")])?)
}

/// Reads the document.
pub fn read(found: Found, document: &[u8]) -> Result<Found, String> {
    let document = value::json(document)?;
    let compute = document.get("compute").unwrap_or(&Value::Null);
    let name = compute
        .get("osProfile")
        .and_then(|profile| text(profile, "computerName"))
        .or_else(|| text(compute, "name"));
    // Always base64; what is inside may be so again.
    let user_data = text(compute, "userData").and_then(|packed| unwrapped(packed.as_bytes()));
    let mut found = found
        .with_user_data(user_data.as_deref().unwrap_or_default())
        .with_hostname(name);
    let network = document.get("network").unwrap_or(&Value::Null);
    for interface in list(network, "interface") {
        for kind in ["ipv4", "ipv6"] {
            let kind = interface.get(kind).unwrap_or(&Value::Null);
            let public = list(kind, "ipAddress")
                .iter()
                .filter_map(|one| address(one, "publicIpAddress"));
            found.public_addresses.extend(public);
        }
    }
    Ok(found)
}
