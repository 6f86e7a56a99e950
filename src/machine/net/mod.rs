//! The network of the machine: links, addresses and routes over netlink, DHCPv4 in PID 1 itself,
//! and IPv6 by the kernel's own answer to router advertisements.

pub mod dhcp4;
pub mod netlink;
pub mod network;
pub mod packet;
