//! What the network of the machine is to be: read from the configuration, from cloud-init or from
//! a metadata service, and brought about by PID 1.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The whole network. The default asks DHCP and router advertisements on every interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// The name of the machine, for DHCP and the console.
    pub hostname: Option<String>,
    /// Interfaces with settings of their own. Others ask DHCP and router advertisements when this
    /// is empty, and stay down when it is not.
    pub interfaces: Vec<InterfacePlan>,
    /// Name servers, in front of those that DHCP and router advertisements name.
    pub resolvers: Vec<IpAddr>,
    /// Time servers, in front of those that DHCP names.
    pub time_servers: Vec<IpAddr>,
}

/// One interface: found by its hardware address where that is given, else by its name, else the
/// first that no other entry takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InterfacePlan {
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// Its name in the kernel, such as `eth0`.
    pub name: Option<String>,
    /// Bytes of a packet; absent: what DHCP or the router says, else the driver's.
    pub mtu: Option<u16>,
    /// Ask DHCPv4.
    pub dhcp4: bool,
    /// Ask DHCPv6, whatever the router advertises.
    pub dhcp6: bool,
    /// Follow router advertisements (addresses, default route, name servers, and DHCPv6 where
    /// they say so).
    pub accept_ra: bool,
    /// Its own addresses.
    pub addresses: Vec<Prefix>,
    /// Routes through it.
    pub routes: Vec<Route>,
}

impl Default for InterfacePlan {
    fn default() -> InterfacePlan {
        InterfacePlan {
            mac: None,
            name: None,
            mtu: None,
            dhcp4: true,
            dhcp6: false,
            accept_ra: true,
            addresses: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// An address and how many of its leading bits name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Up to 32 or 128.
    pub bits: u8,
}

/// Where packets to a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The network; `0.0.0.0/0` or `::/0` for all.
    pub to: Prefix,
    /// The gateway; absent: the network is on the link itself.
    pub via: Option<IpAddr>,
    /// The gateway is on the link although no address of the interface says so (a /32, or a
    /// gateway out of the prefix).
    #[serde(default)]
    pub on_link: bool,
    /// The lower, the rather.
    #[serde(default)]
    pub metric: Option<u32>,
}
