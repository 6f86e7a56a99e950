//! A way to a server that lets so many bytes through and then holds the rest back, for what happens
//! in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Nothing takes longer to get through.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where clients connect instead.
pub struct Gate {
    /// The address.
    pub address: SocketAddr,
    shut: Receiver<()>,
}

/// Which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those to the server.
    Up,
    /// Those to the client.
    Down,
}

impl Gate {
    /// Every connection through it is held after so many bytes that way, until its client is gone.
    pub fn to(server: SocketAddr, way: Way, bytes: usize) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, shut) = channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else {
                    return;
                };
                let max = |this| if this == way { bytes } else { usize::MAX };
                let ways = [
                    (&client, &server, max(Way::Up)),
                    (&server, &client, max(Way::Down)),
                ];
                for (from, to, bytes) in ways {
                    let from = from.try_clone().expect("a descriptor");
                    let to = to.try_clone().expect("a descriptor");
                    let sender = sender.clone();
                    thread::spawn(move || pass(from, to, bytes, way, &sender));
                }
            }
        });
        Gate { address, shut }
    }

    /// Waits until it holds something back.
    #[track_caller]
    pub fn wait_until_shut(&self) {
        self.shut.recv_timeout(PATIENCE).expect("so many bytes");
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut left: usize, way: Way, shut: &Sender<()>) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        if left == 0 {
            // A test may have seen enough.
            let _ = shut.send(());
            if way == Way::Down {
                // The other way sees when the client is gone.
                return;
            }
            while from.read(&mut piece).is_ok_and(|read| read > 0) {}
            break;
        }
        let want = piece.len().min(left);
        match from.read(&mut piece[..want]) {
            Ok(read @ 1..) if to.write_all(&piece[..read]).is_ok() => left -= read,
            _ => break,
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
