//! Hetzner Cloud: a YAML document with the network as cloud-init has it, and the user-data.

use serde_json::Value;

use super::{fetch, require};
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::value::{address, text};
use crate::machine::source::{network, yaml};

/// Asks for both documents.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let metadata = require(server, "/hetzner/v1/metadata", &[])?;
    let user_data = fetch(server, "/hetzner/v1/userdata", &[])?;
    read(found, &metadata, user_data.as_deref().unwrap_or_default())
}

/// Reads both documents.
pub fn read(found: Found, metadata: &[u8], user_data: &[u8]) -> Result<Found, String> {
    let metadata = yaml::read(metadata)?;
    let mut found = found
        .with_user_data(user_data)
        .with_hostname(text(&metadata, "hostname"));
    if let Some(settings) = metadata
        .get("network-config")
        .filter(|settings| !settings.is_null())
    {
        match network::read(settings) {
            Ok(understood) => {
                found.network = understood.plan;
                understood
                    .notes
                    .into_iter()
                    .for_each(|note| found.note(note));
            }
            Err(why) => found.note(why),
        }
    }
    found
        .public_addresses
        .extend(address(&metadata, "public-ipv4"));
    let interfaces = found.network.iter().flat_map(|plan| &plan.interfaces);
    let own = interfaces
        .flat_map(|one| &one.addresses)
        .map(|prefix| prefix.address);
    let own: Vec<_> = own.filter(|own| own.is_ipv6()).collect();
    found.public_addresses.extend(own);
    if metadata == Value::Null {
        return Err("its metadata is empty".to_owned());
    }
    Ok(found)
}
