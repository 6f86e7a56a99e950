//! The listening sockets of the machine. PID 1 opens them, since the server has no right to, and
//! keeps them: a server that was started again gets the same ones, and who connected in between
//! waits instead of being refused.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::errno::Errno;
use socket2::SockRef;

use crate::net::listen::{self, Wanted};

/// Sockets that a server has at most.
pub const LISTENERS_MAX: usize = 32;
/// How often one server may say what it wants. It says so once.
const REQUESTS_MAX: u32 = 4;

/// The sockets that PID 1 keeps.
#[derive(Debug, Default)]
pub struct Listeners {
    kept: Vec<(Wanted, TcpListener)>,
    /// What the server that runs has asked for.
    requests: u32,
}

impl Listeners {
    /// A server was started: it may ask anew.
    pub fn server_started(&mut self) {
        self.requests = 0;
    }

    /// What the server wants to listen on, all of it: what it does not name any more is closed. A
    /// socket for each address, in their order, or why there is none; the error is a sentence.
    pub fn want(
        &mut self,
        addresses: &[SocketAddr],
    ) -> Result<Vec<io::Result<&TcpListener>>, String> {
        if self.requests >= REQUESTS_MAX {
            return Err("the server has asked for sockets too often".to_owned());
        }
        self.requests += 1;
        if addresses.len() > LISTENERS_MAX {
            return Err(format!(
                "[listen] names {} addresses, and a machine has at most {LISTENERS_MAX}",
                addresses.len()
            ));
        }
        let wanted = listen::wanted(addresses);
        // First, so that what takes their place finds their ports free. One that was shut down from
        // the other side does not listen any more.
        self.kept
            .retain(|(at, socket)| wanted.contains(at) && listens(socket));
        let mut outcomes = Vec::with_capacity(wanted.len());
        for (index, at) in wanted.iter().enumerate() {
            let is_twice = wanted[..index].contains(at);
            let is_kept = self.kept.iter().any(|(kept, _)| kept == at);
            outcomes.push(match is_allowed(at.address) {
                false => Err(Errno::EINVAL.into()),
                true if is_twice => Err(Errno::EADDRINUSE.into()),
                true if is_kept => Ok(()),
                true => listen::open(*at).map(|socket| self.kept.push((*at, socket))),
            });
        }
        let each = wanted.iter().zip(outcomes).map(|(at, outcome)| {
            outcome.and_then(|()| {
                let socket = self.kept.iter().find(|(kept, _)| kept == at);
                socket
                    .map(|(_, socket)| socket)
                    .ok_or_else(|| Errno::EBADF.into())
            })
        });
        Ok(each.collect())
    }

    /// Closes them all: nobody is to wait there for a server that does not come, and what a server
    /// that went astray has done to them goes with it.
    pub fn close(&mut self) {
        self.kept.clear();
    }
}

/// A port of its own choice, and everywhere or at one address, which the kernel then takes only if
/// it is the machine's.
fn is_allowed(address: SocketAddr) -> bool {
    let is_one = match address.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        // ::ffff:0:0/96 is IPv4 in disguise, and so is a second way to write the same address.
        IpAddr::V6(ip) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    };
    address.port() != 0 && is_one
}

fn listens(socket: &TcpListener) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpStream};

    use super::*;

    /// A port that was free a moment ago.
    fn free() -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("it is bound")
    }

    fn inode(listeners: &mut Listeners, address: SocketAddr) -> u64 {
        let sockets = listeners.want(&[address]).expect("it may ask");
        let socket = sockets[0].as_ref().expect("it listens");
        nix::sys::stat::fstat(socket).expect("a socket").st_ino
    }

    #[test]
    fn the_next_server_gets_the_same_socket_and_who_came_in_between_is_served() {
        let (mut listeners, address) = (Listeners::default(), free());
        let first = inode(&mut listeners, address);
        let mut waiting = TcpStream::connect(address).expect("it is not refused");
        listeners.server_started();
        assert_eq!(inode(&mut listeners, address), first);
        let sockets = listeners.want(&[address]).expect("it may ask");
        let (mut accepted, _) = sockets[0]
            .as_ref()
            .expect("kept")
            .accept()
            .expect("it waits");
        io::Write::write_all(&mut accepted, b"served").expect("it is there");
        drop(accepted);
        let mut said = String::new();
        io::Read::read_to_string(&mut waiting, &mut said).expect("it reads");
        assert_eq!(said, "served");
    }

    #[test]
    fn what_is_not_named_any_more_is_closed() {
        let (mut listeners, address) = (Listeners::default(), free());
        inode(&mut listeners, address);
        assert!(listeners.want(&[]).expect("it may ask").is_empty());
        TcpStream::connect(address).expect_err("nobody listens");
        inode(&mut listeners, address);
        listeners.close();
        TcpStream::connect(address).expect_err("nobody listens");
    }

    #[test]
    fn a_socket_that_was_shut_down_is_opened_anew() {
        let (mut listeners, address) = (Listeners::default(), free());
        let first = inode(&mut listeners, address);
        let shut = SockRef::from(&listeners.kept[0].1).shutdown(Shutdown::Both);
        shut.expect("a server can do that");
        assert_ne!(inode(&mut listeners, address), first);
        TcpStream::connect(address).expect("somebody listens");
    }

    #[test]
    fn only_a_port_at_an_address_of_the_machine_is_opened() {
        let mut listeners = Listeners::default();
        let refused = [
            "127.0.0.1:0",
            "[::]:0",
            "224.0.0.1:5222",
            "255.255.255.255:5222",
            "[ff02::1]:5222",
            "[::ffff:127.0.0.1]:5222",
            "192.0.2.1:5222",
            "[2001:db8::1]:5222",
        ];
        let refused = refused.map(|address| address.parse().expect("an address"));
        let sockets = listeners.want(&refused).expect("it may ask");
        assert_eq!(sockets.len(), refused.len());
        for (address, socket) in refused.iter().zip(sockets) {
            assert!(socket.is_err(), "{address}");
        }
        assert!(listeners.kept.is_empty());
    }

    #[test]
    fn the_port_of_another_program_stays_its_own() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = other.local_addr().expect("it is bound");
        let mut listeners = Listeners::default();
        let sockets = listeners.want(&[taken]).expect("it may ask");
        let error = sockets[0].as_ref().expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn neither_too_many_nor_the_same_twice_nor_too_often() {
        let (mut listeners, address) = (Listeners::default(), free());
        listeners
            .want(&vec![address; LISTENERS_MAX + 1])
            .expect_err("too many");
        let sockets = listeners.want(&[address; 2]).expect("it may ask");
        assert!(sockets[0].is_ok() && sockets[1].is_err());
        for _ in 2..REQUESTS_MAX {
            listeners.want(&[address]).expect("it may ask");
        }
        listeners.want(&[]).expect_err("too often");
        assert_eq!(listeners.kept.len(), 1, "nothing has changed");
    }
}
