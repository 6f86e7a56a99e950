//! Metadata services of providers: which one DMI names is asked, at its literal addresses, when the
//! network is up. A child without rights does this; each provider's documents are read by a pure
//! function in a file of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::found::{Found, Origin};
use super::http::{Request, Server};

pub use super::dmi::service_by_dmi;

pub mod aws;
pub mod azure;
pub mod digital_ocean;
pub mod google;
pub mod hetzner;
pub mod linode;
pub mod open_stack;
pub mod oracle;
pub mod scaleway;
#[cfg(test)]
mod tests;
pub mod vultr;

/// How long one attempt takes at most, with all its requests.
pub const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 80;
/// The address that nearly all have.
const COMMON: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A provider with a metadata service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Amazon EC2, by IMDSv2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// DigitalOcean.
    DigitalOcean,
    /// Google Compute Engine.
    Google,
    /// Hetzner Cloud.
    Hetzner,
    /// Linode, which is Akamai.
    Linode,
    /// Any OpenStack.
    OpenStack,
    /// Oracle Cloud.
    Oracle,
    /// Scaleway.
    Scaleway,
    /// Vultr.
    Vultr,
}

impl Service {
    /// What an answer of it says it is from.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Service::Aws => Origin::Aws,
            Service::Azure => Origin::Azure,
            Service::DigitalOcean => Origin::DigitalOcean,
            Service::Google => Origin::Google,
            Service::Hetzner => Origin::Hetzner,
            Service::Linode => Origin::Linode,
            Service::OpenStack => Origin::OpenStack,
            Service::Oracle => Origin::Oracle,
            Service::Scaleway => Origin::Scaleway,
            Service::Vultr => Origin::Vultr,
        }
    }

    /// A time server that is there without a name: the provider's own.
    #[must_use]
    pub fn time_server(self) -> Option<IpAddr> {
        match self {
            Service::Aws => Some(Ipv4Addr::new(169, 254, 169, 123).into()),
            Service::Google | Service::Oracle => Some(COMMON.into()),
            _ => None,
        }
    }

    /// Where the service is, in the order in which the addresses are tried. `interface` is the
    /// kernel's number of the interface, which link-local addresses of IPv6 need.
    #[must_use]
    pub fn addresses(self, interface: u32) -> Vec<SocketAddr> {
        let common = SocketAddr::from((COMMON, PORT));
        let local =
            |address: Ipv6Addr, scope: u32| SocketAddrV6::new(address, PORT, 0, scope).into();
        // fe80::a9fe:a9fe spells 169.254.169.254.
        let link = local(
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
            interface,
        );
        match self {
            Service::Hetzner => vec![link, common],
            Service::OpenStack => vec![common, link],
            Service::Aws => vec![
                common,
                local(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 0),
            ],
            Service::Linode => vec![
                common,
                local(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), 0),
            ],
            Service::Scaleway => vec![
                (Ipv4Addr::new(169, 254, 42, 42), PORT).into(),
                local(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 0),
            ],
            Service::Google => vec![
                common,
                local(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 0),
            ],
            Service::Oracle => vec![
                common,
                local(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 0),
            ],
            Service::Azure | Service::DigitalOcean | Service::Vultr => vec![common],
        }
    }
}

/// Asks a service. `interface` is as in [`Service::addresses`]. The error is a sentence for the
/// console; the caller may try again, for services are sometimes late.
pub fn ask(service: Service, interface: u32) -> Result<Found, String> {
    ask_at(service, service.addresses(interface))
}

/// The same at other addresses, for tests.
pub fn ask_at(service: Service, addresses: Vec<SocketAddr>) -> Result<Found, String> {
    let server = Server::new(addresses, Instant::now() + PATIENCE);
    let found = Found::at(service.origin());
    let found = match service {
        Service::Aws => aws::ask(&server, found),
        Service::Azure => azure::ask(&server, found),
        Service::DigitalOcean => digital_ocean::ask(&server, found),
        Service::Google => google::ask(&server, found),
        Service::Hetzner => hetzner::ask(&server, found),
        Service::Linode => linode::ask(&server, found),
        Service::OpenStack => open_stack::ask(&server, found),
        Service::Oracle => oracle::ask(&server, found),
        Service::Scaleway => scaleway::ask(&server, found),
        Service::Vultr => vultr::ask(&server, found),
    };
    let found = found.map(Found::with_own_network);
    found.map_err(|why| format!("{} cannot be used: {why}", service.origin()))
}

/// A document; `None` where the service says that there is none.
fn fetch(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Option<Vec<u8>>, String> {
    fetch_from(server, "169.254.169.254", path, headers)
}

fn fetch_from(
    server: &Server,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Option<Vec<u8>>, String> {
    let request = Request {
        method: "GET",
        path,
        host,
        headers,
    };
    let response = server.ask(&request)?;
    match response.status {
        200 => Ok(Some(response.body)),
        204 | 404 | 410 => Ok(None),
        status => Err(format!("it answers {status} for {path}")),
    }
}

/// A document that has to be there.
fn require(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    fetch(server, path, headers)?.ok_or_else(|| format!("it has no {path}"))
}

/// A token for the requests that follow, as AWS and Linode want one.
fn token(server: &Server, path: &str, lifetime: (&str, &str)) -> Result<String, String> {
    let request = Request {
        method: "PUT",
        path,
        host: "169.254.169.254",
        headers: &[lifetime],
    };
    let response = server.ask(&request)?;
    let token = String::from_utf8(response.body).unwrap_or_default();
    let token = token.trim();
    // One that could end a header field is none.
    if response.status != 200
        || token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(format!("it gives no token (status {})", response.status));
    }
    Ok(token.to_owned())
}

/// The first line of a document that is one word.
fn word(document: Option<Vec<u8>>) -> Option<String> {
    let text = String::from_utf8(document?).ok()?;
    let word = text.lines().next()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}
