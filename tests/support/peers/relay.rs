//! A machine between two servers that passes their bytes on, until the test has it lose them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::raw::wait_for_input;
use super::{PATIENCE, Place};

/// It listens in the place of a server, and passes on the connections that the test lets through.
pub struct Relay {
    /// Where it is.
    pub place: Place,
    listener: TcpListener,
    target: SocketAddr,
}

/// A connection that goes through it: two, with bytes carried between them. Neither end hears of the
/// other's end.
pub struct Passage {
    caller: TcpStream,
    callee: TcpStream,
    /// What goes to the caller, and to the callee, is lost.
    is_lost: [Arc<AtomicBool>; 2],
}

impl Relay {
    /// It listens on port 5269, for the server at this address.
    #[track_caller]
    pub fn listen(place: Place, target: SocketAddr) -> Relay {
        let address: SocketAddr = "[::]:5269".parse().expect("an address");
        let listener = place.inside(|| TcpListener::bind(address).expect("nobody else is here"));
        listener.set_nonblocking(true).expect("a listener");
        Relay {
            place,
            listener,
            target,
        }
    }

    /// Lets the next connection through.
    #[track_caller]
    pub fn pass(&self) -> Passage {
        wait_for_input(&self.listener, PATIENCE);
        let (caller, _) = self.listener.accept().expect("somebody calls");
        caller.set_nonblocking(false).expect("a socket");
        let connect = || TcpStream::connect(self.target);
        let callee = self.place.inside(connect).expect("it listens");
        let is_lost = [Arc::default(), Arc::default()];
        carry(&callee, &caller, &is_lost[0]);
        carry(&caller, &callee, &is_lost[1]);
        Passage {
            caller,
            callee,
            is_lost,
        }
    }
}

impl Passage {
    /// From now on nothing reaches the one who has called.
    pub fn lose_to_caller(&self) {
        self.is_lost[0].store(true, Ordering::SeqCst);
    }

    /// From now on nothing reaches the one who was called.
    pub fn lose_to_callee(&self) {
        self.is_lost[1].store(true, Ordering::SeqCst);
    }

    /// The one who has called finds its connection gone.
    pub fn hang_up_on_caller(&self) {
        let _ = self.caller.shutdown(Shutdown::Both);
    }

    /// The one who was called finds its connection gone.
    pub fn hang_up_on_callee(&self) {
        let _ = self.callee.shutdown(Shutdown::Both);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.hang_up_on_caller();
        self.hang_up_on_callee();
    }
}

/// Carries bytes until one of the two connections is gone.
fn carry(from: &TcpStream, to: &TcpStream, is_lost: &Arc<AtomicBool>) {
    let mut from = from.try_clone().expect("a socket");
    let mut to = to.try_clone().expect("a socket");
    let is_lost = is_lost.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            let is_lost = is_lost.load(Ordering::SeqCst);
            if read == 0 || !is_lost && to.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    });
}
