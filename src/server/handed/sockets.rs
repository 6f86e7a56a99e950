//! The listening sockets of a server that may open none: PID 1 opens and keeps them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::machine::link::{Line, ToMachine};
use crate::net::listen::Sockets;

/// PID 1 opens a socket at once; it may just be busy with the network.
const GIVEN_WITHIN: Duration = Duration::from_secs(60);

type Opened = Vec<io::Result<TcpListener>>;

/// The side that asks.
pub(super) struct Asked {
    line: Arc<Line>,
    answers: Mutex<Receiver<Result<Opened, String>>>,
}

/// The side that hears PID 1.
pub(super) struct Given(Sender<Result<Opened, String>>);

pub(super) fn pair(line: Arc<Line>) -> (Given, Asked) {
    let (sender, answers) = channel();
    let asked = Asked {
        line,
        answers: Mutex::new(answers),
    };
    (Given(sender), asked)
}

impl Given {
    /// PID 1 has answered: a descriptor for each address that has no error.
    pub(super) fn heard(&self, outcome: Result<Vec<Result<(), i32>>, String>, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let opened = outcome.map(|each| {
            let each = each.into_iter().map(|outcome| match outcome {
                Ok(()) => fds
                    .next()
                    .map(TcpListener::from)
                    .ok_or_else(|| io::Error::other("PID 1 has sent no socket")),
                Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            });
            each.collect()
        });
        // Nobody waits for it any more.
        drop(self.0.send(opened));
    }

    /// PID 1 will not answer.
    pub(super) fn none(&self) {
        drop(
            self.0
                .send(Err("PID 1 wants the server to stop".to_owned())),
        );
    }
}

impl Sockets for Asked {
    fn open(&self, addresses: &[SocketAddr]) -> Result<Opened, String> {
        let asked = self.line.send(&ToMachine::Listen(addresses.to_vec()));
        asked.map_err(|error| format!("PID 1 cannot be asked for sockets: {error}"))?;
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .recv_timeout(GIVEN_WITHIN)
            .unwrap_or_else(|_| Err("PID 1 gives no sockets".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::machine::link::{self, ToServer};
    use crate::machine::listeners::Listeners;

    /// What PID 1 does with the line, and what the server's side hears.
    #[test]
    fn sockets_come_over_the_line_in_the_order_of_their_addresses() {
        let (ours, theirs) = link::pair().expect("a pair");
        let line = Arc::new(Line::of(theirs));
        let (given, asked) = pair(line.clone());
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let good = free.local_addr().expect("it is bound");
        drop(free);
        let bad: SocketAddr = "192.0.2.1:5222".parse().expect("an address");
        let asking = std::thread::spawn(move || asked.open(&[bad, good]));
        let mut listeners = Listeners::default();
        let ToMachine::Listen(addresses) = ours.receive().expect("it asks") else {
            panic!("it asks for something else");
        };
        let sockets = listeners.want(&addresses).expect("it may ask");
        let fds: Vec<_> = sockets
            .iter()
            .flatten()
            .map(|socket| socket.as_fd())
            .collect();
        let outcome = sockets.iter().map(|socket| match socket {
            Ok(_) => Ok(()),
            Err(error) => Err(error.raw_os_error().unwrap_or(0)),
        });
        let answer = ToServer::Listening(Ok(outcome.collect()));
        ours.send_with(&answer, &fds).expect("it is sent");
        let (ToServer::Listening(outcome), fds) = line.receive_with().expect("it comes") else {
            panic!("something else came");
        };
        given.heard(outcome, fds);
        let opened = asking.join().expect("no panic").expect("an answer");
        let error = opened[0].as_ref().expect_err("not ours");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        let socket = opened[1].as_ref().expect("it listens");
        assert_eq!(socket.local_addr().ok(), Some(good));
    }

    #[test]
    fn who_is_told_to_stop_does_not_wait_for_sockets() {
        let (_ours, theirs) = link::pair().expect("a pair");
        let (given, asked) = pair(Arc::new(Line::of(theirs)));
        given.none();
        asked.open(&[]).expect_err("there will be none");
    }
}
