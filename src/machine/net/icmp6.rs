//! An ICMPv6 socket on one interface that hears routers only.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::ra::{ADVERTISEMENT, Advertisement};

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What has come through a router has less (RFC 4861 §6.1.2).
const HOP_LIMIT: u8 = 255;
/// The longest message that is read.
const MESSAGE_MAX: usize = 4096;

/// An ICMPv6 socket.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    routers: SocketAddrV6,
}

impl IcmpSocket {
    /// Opens one on an interface.
    pub fn open(index: u32, name: &str) -> io::Result<IcmpSocket> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::ICMPV6),
        )?;
        socket.attach_filter(&advertisements_only())?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        Ok(IcmpSocket {
            socket,
            routers: SocketAddrV6::new(ALL_ROUTERS, 0, 0, index),
        })
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends to every router of the link. The source is a link-local address; without one that the
    /// kernel has checked this fails.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, &self.routers.into())?;
        Ok(())
    }

    /// What a router of this link said, if something came. Others are passed over, a few at a time.
    pub fn receive(&self) -> Option<Advertisement> {
        for _ in 0..64 {
            // The kernel has looked at the checksum.
            if let Some(advertisement) = self.receive_any().ok()? {
                return Some(advertisement);
            }
        }
        None
    }

    /// The next message, where it is an advertisement that counts.
    fn receive_any(&self) -> io::Result<Option<Advertisement>> {
        let mut buffer = [0; MESSAGE_MAX];
        let mut control = nix::cmsg_space!(libc::c_int);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrIn6>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let hop_limit = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv6HopLimit(limit) => Some(limit),
            _ => None,
        });
        // Before it was bound to its interface the socket heard all of them.
        let is_near = hop_limit == Some(HOP_LIMIT.into())
            && message.address.is_some_and(|source| {
                source.ip().is_unicast_link_local() && source.scope_id() == self.routers.scope_id()
            });
        let (len, is_whole) = (message.bytes, !message.flags.contains(MsgFlags::MSG_TRUNC));
        if !is_near || !is_whole {
            return Ok(None);
        }
        Ok(buffer.get(..len).and_then(Advertisement::decode))
    }
}

/// The socket would wake PID 1 for every ping else. In place of `ICMP6_FILTER`, which has no safe
/// way to set it: takes the type (the first byte of what a raw socket of ICMPv6 sees) and accepts
/// one.
fn advertisements_only() -> [SockFilter; 4] {
    let code = |parts: u32| u16::try_from(parts).unwrap_or(0);
    [
        SockFilter::new(code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS), 0, 0, 0),
        SockFilter::new(
            code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            0,
            1,
            ADVERTISEMENT.into(),
        ),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
    ]
}
