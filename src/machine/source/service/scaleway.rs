//! Scaleway. The network comes by DHCP and router advertisements. The user-data is only for those
//! who ask from a port below 1024, so that no ordinary process of a machine reads it.

use serde_json::Value;

use super::fetch_from;
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::value::{self, address, list, text};

const HOST: &str = "169.254.42.42";

/// Asks for the instance and its user-data.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let instance = fetch_from(server, HOST, "/conf?format=json", &[])?;
    let instance = instance.ok_or_else(|| "it has no /conf".to_owned())?;
    let user_data = fetch_from(&server.from_low_port(), HOST, "/user_data/cloud-init", &[]);
    let mut found = read(
        found,
        &instance,
        user_data.as_ref().ok().and_then(Option::as_deref),
    )?;
    if let Err(why) = user_data {
        found.note(format!("the user-data cannot be had: {why}"));
    }
    Ok(found)
}

/// Reads both documents.
pub fn read(found: Found, instance: &[u8], user_data: Option<&[u8]>) -> Result<Found, String> {
    let instance = value::json(instance)?;
    let mut found = found
        .with_user_data(user_data.unwrap_or_default())
        .with_hostname(text(&instance, "hostname"));
    let single = ["public_ip", "ipv6"].map(|key| instance.get(key).unwrap_or(&Value::Null));
    let several = ["public_ips_v4", "public_ips_v6"].map(|key| list(&instance, key));
    for row in several.into_iter().flatten().chain(single) {
        let own = address(row, "address").filter(|own| !found.public_addresses.contains(own));
        found.public_addresses.extend(own);
    }
    Ok(found)
}
