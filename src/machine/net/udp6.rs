//! A UDP socket on one interface for what DHCPv6 says from one link-local address to another.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// RFC 8415 §7.1, §7.2.
const SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// The longest payload that is read. A longer one is cut, and is no whole message then.
const PAYLOAD_MAX: usize = 4096;

/// A socket of a DHCPv6 client.
#[derive(Debug)]
pub struct ClientSocket {
    socket: UdpSocket,
    servers: SocketAddrV6,
}

impl ClientSocket {
    /// Opens one on an interface.
    pub fn open(index: u32, name: &str) -> io::Result<ClientSocket> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.set_only_v6(true)?;
        // Every interface has a socket of this port.
        socket.bind_device(Some(name.as_bytes()))?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
        Ok(ClientSocket {
            socket: socket.into(),
            servers: SocketAddrV6::new(SERVERS_AND_RELAYS, SERVER_PORT, 0, index),
        })
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends to every server and relay of the link. Without a link-local address that the kernel
    /// has checked this fails.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, self.servers)?;
        Ok(())
    }

    /// What a server or relay of this link said, if something came. Others are passed over, a few
    /// at a time.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; PAYLOAD_MAX + 1];
        for _ in 0..64 {
            let (len, source) = self.socket.recv_from(&mut buffer).ok()?;
            let is_near = match source {
                SocketAddr::V6(source) => source.ip().is_unicast_link_local(),
                SocketAddr::V4(_) => false,
            };
            if is_near && len <= PAYLOAD_MAX {
                return Some(buffer[..len].to_vec());
            }
        }
        None
    }
}
