//! Name servers on the link: an address such as `fe80::1` means something only together with an
//! interface (RFC 4007 §6), which hickory does not keep with it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};

/// The number of an interface: by its name, or as a number.
pub(super) fn interface(zone: &str) -> Option<u32> {
    let by_name = nix::net::if_::if_nametoindex(zone).ok();
    by_name
        .or_else(|| zone.parse().ok())
        .filter(|index| *index > 0)
}

/// Packets and connections to servers on the link leave by the interface that each stands at. Where
/// two interfaces have a server of the same address, both are asked at the first one.
#[derive(Clone, Default)]
pub(super) struct Scoped {
    inner: TokioRuntimeProvider,
    interfaces: Interfaces,
}

/// The interface of each server on the link.
#[derive(Clone, Debug, Default)]
struct Interfaces(Arc<[(Ipv6Addr, u32)]>);

impl Scoped {
    pub(super) fn new(servers: &[SocketAddr]) -> Scoped {
        let scoped = servers.iter().filter_map(|server| match server {
            SocketAddr::V6(server) if server.scope_id() > 0 => {
                Some((*server.ip(), server.scope_id()))
            }
            _ => None,
        });
        Scoped {
            interfaces: Interfaces(scoped.collect()),
            ..Scoped::default()
        }
    }
}

impl Interfaces {
    /// The address with its interface, if it has one.
    fn scoped(&self, mut address: SocketAddr) -> SocketAddr {
        if let SocketAddr::V6(server) = &mut address
            && let Some((_, index)) = self.0.iter().find(|(ip, _)| ip == server.ip())
        {
            server.set_scope_id(*index);
        }
        address
    }
}

type Made<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Scoped {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = ScopedSocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.inner.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Made<Self::Tcp> {
        let server = self.interfaces.scoped(server);
        self.inner.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Made<Self::Udp> {
        let bound = self.inner.bind_udp(local, server);
        let interfaces = self.interfaces.clone();
        Box::pin(async move {
            Ok(ScopedSocket {
                inner: bound.await?,
                interfaces,
            })
        })
    }
}

/// A socket that sends there.
pub(super) struct ScopedSocket {
    inner: <TokioRuntimeProvider as RuntimeProvider>::Udp,
    interfaces: Interfaces,
}

impl DnsUdpSocket for ScopedSocket {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.inner, context, bytes)
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let to = self.interfaces.scoped(to);
        DnsUdpSocket::poll_send_to(&self.inner, context, bytes, to)
    }
}

/// Whether an address means nothing without an interface.
pub(super) fn is_of_a_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
