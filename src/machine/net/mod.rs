//! The network of the machine: links, addresses and routes over netlink, DHCPv4 and DHCPv6 in PID 1
//! itself, IPv6 by the kernel's own answer to router advertisements, and what else those say.

use std::net::Ipv6Addr;

pub mod advertised;
pub mod dhcp4;
pub mod dhcp6;
pub mod icmp6;
mod ipv6;
pub mod netlink;
pub mod network;
pub mod packet;
pub mod ra;
pub mod trial;
pub mod udp6;

/// Where the children of PID 1 find the name servers. The server looks there again and again: see
/// `net/dns/servers.rs`.
pub const RESOLVERS: &str = "/run/cairn/resolv.conf";

/// A server that this machine can ask. A link-local address would need the interface told with it,
/// and nobody who asks is told.
fn is_server(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unicast_link_local())
}
