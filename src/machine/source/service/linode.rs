//! Linode (Akamai), which wants a token. The network comes by DHCP and router advertisements.

use super::{fetch, require, token};
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::user_data::unwrapped;
use crate::machine::source::value::{self, prefix, text, texts};

/// Asks for the instance, its addresses and its user-data.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let token = token(
        server,
        "/v1/token",
        ("Metadata-Token-Expiry-Seconds", "300"),
    )?;
    let plain = [("Metadata-Token", token.as_str())];
    let json = [plain[0], ("Accept", "application/json")];
    let instance = require(server, "/v1/instance", &json)?;
    let network = require(server, "/v1/network", &json)?;
    let user_data = fetch(server, "/v1/user-data", &plain)?;
    read(
        found,
        &instance,
        &network,
        user_data.as_deref().unwrap_or_default(),
    )
}

/// Reads the documents; the user-data is always base64.
pub fn read(
    found: Found,
    instance: &[u8],
    network: &[u8],
    user_data: &[u8],
) -> Result<Found, String> {
    let instance = value::json(instance)?;
    let network = value::json(network)?;
    let unpacked = unwrapped(user_data);
    let mut found = found.with_user_data(unpacked.as_deref().unwrap_or(user_data));
    // A label is free text; one that is no name is nobody's mistake.
    let label = text(&instance, "label").filter(|label| !label.contains([' ', '_']));
    found = found.with_hostname(label);
    if let Some(ipv4) = network.get("ipv4") {
        let public = texts(ipv4, "public")
            .into_iter()
            .filter_map(|text| prefix(text, None));
        found
            .public_addresses
            .extend(public.map(|prefix| prefix.address));
    }
    let slaac = network
        .get("ipv6")
        .and_then(|ipv6| prefix(text(ipv6, "slaac")?, None));
    found
        .public_addresses
        .extend(slaac.map(|prefix| prefix.address));
    Ok(found)
}
