//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::admit::{Admissions, Slot};

/// Connections that wait to be accepted; the kernel bounds it further.
const BACKLOG: i32 = 1024;

/// What the kernel keeps at most for a client that does not read (it doubles
/// this). Left to itself it would take megabytes before the session's own queue
/// grows, and nobody would have counted them.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait when the system has no file or memory for a connection.
const OUT_OF_FILES_WAIT: Duration = Duration::from_millis(100);

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// The clock of the rates.
    since: Instant,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, with `TCP_NODELAY`: what is written is a whole batch, and
    /// waiting for more would cost a round trip.
    pub tcp: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its place among all connections.
    pub slot: Slot,
}

/// Where listening sockets come from: a process opens its own, a server of PID 1 is given them.
pub trait Sockets: Send {
    /// A socket for each address, in their order, all that are wanted at once. The error is a
    /// sentence for the operator.
    fn open(&self, addresses: &[SocketAddr]) -> Result<Vec<io::Result<StdListener>>, String>;
}

/// This process opens them.
#[derive(Clone, Copy, Debug)]
pub struct Own;

impl Sockets for Own {
    fn open(&self, addresses: &[SocketAddr]) -> Result<Vec<io::Result<StdListener>>, String> {
        Ok(wanted(addresses).into_iter().map(open).collect())
    }
}

/// A socket to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it listens.
    pub address: SocketAddr,
    /// It is `[::]` and takes IPv4 too.
    pub both_families: bool,
}

/// What to open for these addresses: `[::]` takes IPv4 too, where the list has no `0.0.0.0` with
/// the same port.
#[must_use]
pub fn wanted(addresses: &[SocketAddr]) -> Vec<Wanted> {
    let each = addresses.iter().map(|address| {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let is_any = address.is_ipv6() && address.ip().is_unspecified();
        Wanted {
            address: *address,
            both_families: is_any && !addresses.contains(&v4),
        }
    });
    each.collect()
}

/// Opens a listening socket. A system without IPv6 gets IPv4 alone for `[::]`.
pub fn open(wanted: Wanted) -> io::Result<StdListener> {
    let Wanted {
        address,
        both_families,
    } = wanted;
    match open_at(address, both_families) {
        Err(error) if both_families && is_ipv6_absent(&error) => {
            open_at((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)
        }
        other => other,
    }
}

/// A listener for every address, called within the runtime; the error is a sentence for the
/// operator.
pub fn bind(addresses: &[SocketAddr], sockets: &dyn Sockets) -> Result<Vec<Listener>, String> {
    let opened = sockets.open(addresses)?;
    let each = addresses.iter().zip(opened).map(|(address, opened)| {
        let listener = opened.and_then(Listener::of_socket);
        listener.map_err(|error| explain(*address, &error))
    });
    each.collect()
}

impl Listener {
    /// A socket that somebody else has opened, and that listens already. Called within the runtime.
    pub fn of_socket(socket: StdListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        // Connections inherit it.
        SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES)?;
        Ok(Listener {
            socket: TcpListener::from_std(socket)?,
            since: Instant::now(),
        })
    }

    /// The address with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for the next connection that is within the limits; others are closed
    /// at once. Cancel-safe.
    pub async fn accept(&self, admissions: &Arc<Admissions>) -> Arrival {
        loop {
            let (tcp, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.pause(&error).await;
                    continue;
                }
            };
            if let Some(slot) = self.admit(admissions, peer) {
                // It can only fail for a connection that is gone already.
                drop(tcp.set_nodelay(true));
                return Arrival { tcp, peer, slot };
            }
        }
    }

    /// A place for a connection that has come here; `None` where the limits leave none, which is
    /// told.
    pub fn admit(&self, admissions: &Arc<Admissions>, peer: SocketAddr) -> Option<Slot> {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        match admissions.admit(peer.ip(), now_ms) {
            Ok(slot) => Some(slot),
            Err(refusal) => {
                if refusal.is_news {
                    tracing::info!(%peer, why = %refusal.why, "connection refused");
                }
                None
            }
        }
    }

    /// A connection that ended before it was accepted is nothing; too few files
    /// or too little memory pass, but not by trying again at once.
    async fn pause(&self, error: &io::Error) {
        let is_gone = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if !is_gone {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(OUT_OF_FILES_WAIT).await;
        }
    }
}

fn open_at(address: SocketAddr, both_families: bool) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    socket.set_reuse_address(true)?;
    // Before the first connection, which inherits it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The kernel has no IPv6, or it is switched off.
fn is_ipv6_absent(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| {
            matches!(
                errno,
                Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT
            )
        })
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it or change [listen]",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges: use another port or grant CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: change [listen]",
        _ => "check [listen]",
    };
    format!("cannot listen on {address}: {error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Machine};

    fn admissions() -> Arc<Admissions> {
        Admissions::new(
            &Config::of_domain("a.example", &Machine::of_memory(1 << 30)).limits,
            0,
        )
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[tokio::test]
    async fn any_takes_ipv4_and_connections_get_a_slot() {
        let listener = &bind(&addresses(&["[::]:0"]), &Own).expect("a free port")[0];
        let port = listener.local_addr().expect("bound").port();
        assert_ne!(port, 0);
        let admissions = admissions();
        let (client, arrival) = tokio::join!(
            TcpStream::connect(("127.0.0.1", port)),
            listener.accept(&admissions)
        );
        assert!(arrival.tcp.nodelay().expect("a socket"));
        assert_eq!(admissions.connections(), 1);
        drop((client, arrival));
        assert_eq!(admissions.connections(), 0);
    }

    #[tokio::test]
    async fn both_families_may_be_named_one_by_one() {
        let first = bind(&addresses(&["0.0.0.0:0"]), &Own).expect("a free port");
        let port = first[0].local_addr().expect("bound").port();
        drop(first);
        let both = bind(
            &addresses(&[&format!("[::]:{port}"), &format!("0.0.0.0:{port}")]),
            &Own,
        );
        assert_eq!(both.expect("they do not collide").len(), 2);
    }

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let first = bind(&addresses(&["127.0.0.1:0"]), &Own).expect("a free port");
        let taken = first[0].local_addr().expect("bound");
        let said = bind(&[taken], &Own).expect_err("it is taken");
        assert!(said.contains("another program listens there"), "{said}");
    }
}
