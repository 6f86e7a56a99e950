//! Google Compute Engine: single words, with a header field in both directions that says who is
//! talking. Addresses come by DHCP, DHCPv6 and router advertisements.

use std::net::IpAddr;

use super::word;
use crate::machine::source::found::Found;
use crate::machine::source::http::{Request, Server};

const HOST: &str = "metadata.google.internal";
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const INSTANCE: &str = "/computeMetadata/v1/instance/";

/// Asks for the name, the public address and the user-data.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let name = word(fetch(server, "hostname")?);
    let user_data = fetch(server, "attributes/user-data")?;
    let mut found = found
        .with_hostname(name.as_deref())
        .with_user_data(user_data.as_deref().unwrap_or_default());
    let public = word(fetch(
        server,
        "network-interfaces/0/access-configs/0/external-ip",
    )?);
    let public = public.and_then(|address| address.parse::<IpAddr>().ok());
    found.public_addresses.extend(public);
    Ok(found)
}

fn fetch(server: &Server, path: &str) -> Result<Option<Vec<u8>>, String> {
    let request = Request {
        method: "GET",
        path: &format!("{INSTANCE}{path}"),
        host: HOST,
        headers: &[FLAVOR],
    };
    let response = server.ask(&request)?;
    if response.header("metadata-flavor") != Some(FLAVOR.1) {
        return Err("its answer does not say that it is Google's".to_owned());
    }
    match response.status {
        200 => Ok(Some(response.body)),
        404 => Ok(None),
        status => Err(format!("it answers {status} for {path}")),
    }
}
