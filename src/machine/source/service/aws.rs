//! Amazon EC2 by version 2 of its service, which wants a token. Addresses come by DHCP, DHCPv6 and
//! router advertisements.

use std::net::IpAddr;

use super::{fetch, token, word};
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;

const ADDRESSES: [&str; 2] = ["/latest/meta-data/public-ipv4", "/latest/meta-data/ipv6"];

/// Asks for the name, the public addresses and the user-data.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let lifetime = ("X-aws-ec2-metadata-token-ttl-seconds", "300");
    let token = token(server, "/latest/api/token", lifetime)?;
    let fields = [("X-aws-ec2-metadata-token", token.as_str())];
    let user_data = fetch(server, "/latest/user-data", &fields)?;
    let name = word(fetch(server, "/latest/meta-data/local-hostname", &fields)?);
    let mut found = found
        .with_user_data(user_data.as_deref().unwrap_or_default())
        // More than one name stands there for some networks.
        .with_hostname(name.as_deref().and_then(|names| names.split(' ').next()));
    for path in ADDRESSES {
        let address = word(fetch(server, path, &fields)?);
        found
            .public_addresses
            .extend(address.and_then(|address| address.parse::<IpAddr>().ok()));
    }
    Ok(found)
}
