//! A connection to whichever address of a target answers first (RFC 8305, XEP-0495).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The head start of each address over the next (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to the first address that answers, trying them in their order.
pub async fn dial(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let racing = race(addresses, port);
    let tcp = timeout(PATIENCE, racing)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    // What is written is a whole batch: waiting for more would cost a round trip.
    drop(tcp.set_nodelay(true));
    Ok(tcp)
}

async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut next = waiting.next();
    loop {
        if let Some(address) = next.take() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => {
                    last = error;
                    next = waiting.next();
                }
                Err(error) => last = io::Error::other(error),
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => next = waiting.next(),
            else => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_but_the_next() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("bound").port();
        // Nobody listens at the first one with this port.
        let addresses = [
            Ipv4Addr::new(127, 0, 0, 77).into(),
            Ipv4Addr::LOCALHOST.into(),
        ];
        let tcp = dial(&addresses, port)
            .await
            .expect("the second one answers");
        assert_eq!(tcp.peer_addr().expect("connected").ip(), addresses[1]);
        assert!(dial(&addresses[..1], port).await.is_err());
        assert!(dial(&[], port).await.is_err());
    }
}
