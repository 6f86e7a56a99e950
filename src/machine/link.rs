//! The line between PID 1 and the server: one message a datagram, as JSON.
//!
//! PID 1 believes nothing that comes here: a message is bounded, parsed strictly, and asks at most
//! for what the server may ask for. What the server can reach by it is a reboot, the other slot,
//! an upgrade that is signed, and words on the console.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socketpair, sockopt,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::sentence;
use super::listeners::LISTENERS_MAX;
use super::plan::Plan;
use super::release::Release;
use super::source::Found;
use super::status::MachineStatus;
use super::time::query::SERVERS_MAX as TIME_SERVERS_MAX;
use crate::config::places::is_host;

/// Bytes of a message at most.
pub const MESSAGE_MAX: usize = 128 * 1024;
/// Room for the descriptors that come with a message.
const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(LISTENERS_MAX));
/// Lines that the console shows of a certificate.
const CERTIFICATE_LINES_MAX: usize = 3;
/// Addresses that it shows.
const LISTENING_MAX: usize = 16;

/// What PID 1 says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToServer {
    /// First of all.
    Start(Box<Start>),
    /// A place that configuration can come from has been asked; `None`: there is nothing anywhere.
    /// What has no configuration may still say how the network is reached.
    Source(Option<Box<Found>>),
    /// How an upgrade or a step back went: a sentence.
    Done(Result<String, String>),
    /// What has come of a bundle is dropped.
    UploadDropped,
    /// How the machine is: told when that has changed.
    Status(Box<MachineStatus>),
    /// The sockets that it listens on come with this, in the order of their addresses; where there
    /// is none, the kernel's number of the error. Or a sentence why there are none at all.
    Listening(Result<Vec<Result<(), i32>>, String>),
    /// Stop in an orderly way.
    Stop,
}

/// What the server has to know about the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What runs.
    pub release: Release,
    /// The slot that runs, if there are slots.
    pub slot: Option<super::slot::Slot>,
    /// The other slot was tried before and did not boot.
    pub fell_back: bool,
    /// Where the data is, for people.
    pub data: String,
    /// It is a partition of the system disk.
    pub on_system_disk: bool,
    /// The newest format of the log that may be written.
    pub writes: u16,
    /// How the machine is.
    pub status: MachineStatus,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToMachine {
    /// The store is open. With the configuration that it holds, if it holds one, nothing else is
    /// asked.
    Opened(Box<Opened>),
    /// What was found is the configuration from now on, or the store holds it.
    Configured(Box<Configured>),
    /// The configuration wants the data on a second disk, and the store here holds nothing yet.
    SecondDisk,
    /// The configuration of a machine that somebody administers cannot be used: why. Administration
    /// goes on; the system does not prove itself.
    Unusable(String),
    /// It serves nobody until a person does something: what, in a sentence.
    Waiting(String),
    /// It wants to listen on these addresses, and on no others.
    Listen(Vec<SocketAddr>),
    /// It listens, and a log-in over the loopback has worked.
    Serving,
    /// It is alive: sent every few seconds, or the watchdog bites.
    Alive(Box<Figures>),
    /// A line for the console that stays there: a fingerprint, a code to claim the machine with.
    Notice {
        /// What it is.
        name: String,
        /// Its text; empty: no longer.
        text: String,
    },
    /// So many bytes of a bundle come through the upload line.
    Upgrade {
        /// How many.
        bytes: u64,
    },
    /// What was sent of a bundle is not to be looked at any more.
    DropUpload,
    /// The other slot, please.
    Rollback,
    /// Start again.
    Reboot,
    /// Switch off.
    PowerOff,
}

/// The store is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The store holds a configuration, and somebody administers the machine: so it wins.
    pub has_configuration: bool,
    /// Milliseconds since 1970 of the newest record: the clock is not before that.
    pub newest_ms: u64,
}

/// What of the configuration concerns PID 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// Where it came from, for people.
    pub origin: String,
    /// The domain that is served.
    pub domain: String,
    /// The network.
    pub plan: Plan,
    /// Time servers, names or addresses; with none, those that the network names.
    pub time_servers: Vec<String>,
}

impl Configured {
    /// Makes the texts fit for the console, and the servers for a command line, whoever wrote them.
    pub fn bound(&mut self) {
        self.origin = sentence(&self.origin);
        self.domain = sentence(&self.domain);
        self.time_servers.retain(|server| is_host(server));
        self.time_servers.truncate(TIME_SERVERS_MAX);
    }
}

/// Figures for the console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Accounts.
    pub accounts: u64,
    /// People who are connected.
    pub sessions: u64,
    /// Bytes of the store that are in use.
    pub used_bytes: u64,
    /// Bytes of the store.
    pub store_bytes: u64,
    /// The certificate, for people.
    pub certificate: String,
    /// Addresses that are listened on.
    pub listening: Vec<SocketAddr>,
}

impl Figures {
    /// Makes the texts fit for the console, whoever wrote them.
    pub fn bound(&mut self) {
        let lines = self.certificate.lines().take(CERTIFICATE_LINES_MAX);
        self.certificate = lines.map(sentence).collect::<Vec<_>>().join("\n");
        self.listening.truncate(LISTENING_MAX);
    }
}

/// One end of the line.
#[derive(Debug)]
pub struct Line {
    fd: OwnedFd,
}

/// Both ends: of PID 1, which never waits, and of the server.
pub fn pair() -> io::Result<(Line, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    for fd in [&ours, &theirs] {
        setsockopt(fd, sockopt::SndBuf, &(2 * MESSAGE_MAX))?;
    }
    Ok((Line { fd: ours }, theirs))
}

impl Line {
    /// The server's end, as it was handed over.
    pub fn of(fd: OwnedFd) -> Line {
        Line { fd }
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// Sends a message without waiting: a full line is an error.
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// The same, with copies of descriptors.
    pub fn send_with(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); FDS_SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
        if bytes.len() > MESSAGE_MAX || !fits {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the message is too long",
            ));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.fd, &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// The next message, if one is there. The end of the line is `UnexpectedEof`, and what is no
    /// message `InvalidData`.
    pub fn try_receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        // One byte more, so that what was cut shows.
        let mut bytes = vec![0; MESSAGE_MAX + 1];
        match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => parse(&bytes, len).map(Some),
            Err(Errno::ECONNRESET) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next message.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<T> {
        self.receive_with().map(|(message, _)| message)
    }

    /// Waits for the next message, and takes the descriptors that came with it. Only the server
    /// does: what it sends to PID 1 the kernel drops.
    pub fn receive_with<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MESSAGE_MAX + 1];
        let mut space = [MaybeUninit::uninit(); FDS_SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.fd, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                other => break other?.bytes,
            }
        };
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        let fds = fds.collect();
        Ok((parse(&bytes, received)?, fds))
    }
}

/// A message of so many bytes.
fn parse<T: DeserializeOwned>(bytes: &[u8], len: usize) -> io::Result<T> {
    match len {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len if len > MESSAGE_MAX => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message is too long",
        )),
        // Also where it stops in the middle: that is not the end of the line.
        len => serde_json::from_slice(&bytes[..len])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use nix::sys::socket::send;

    use super::*;

    #[test]
    fn descriptors_pass_to_the_server_with_their_message() {
        let (ours, theirs) = pair().expect("a pair");
        let theirs = Line::of(theirs);
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let fds = vec![socket.as_fd(); LISTENERS_MAX];
        let message = ToServer::Listening(Ok(vec![Ok(()); LISTENERS_MAX]));
        ours.send_with(&message, &fds).expect("it is sent");
        ours.send(&ToServer::Stop).expect("it is sent");
        let (heard, fds) = theirs.receive_with::<ToServer>().expect("it comes");
        assert_eq!(heard, message);
        assert_eq!(fds.len(), LISTENERS_MAX);
        for fd in fds {
            let same = TcpListener::from(fd);
            assert_eq!(same.local_addr().ok(), socket.local_addr().ok());
        }
        let (heard, fds) = theirs.receive_with::<ToServer>().expect("it comes");
        assert_eq!((heard, fds.len()), (ToServer::Stop, 0));
    }

    #[test]
    fn messages_pass_one_by_one() {
        let (ours, theirs) = pair().expect("a pair");
        let theirs = Line::of(theirs);
        let messages = [
            ToMachine::Upgrade { bytes: 7 },
            ToMachine::Alive(Box::default()),
            ToMachine::Configured(Box::default()),
        ];
        for message in &messages {
            theirs.send(message).expect("it is sent");
        }
        for message in messages {
            let received: Option<ToMachine> = ours.try_receive().expect("it is received");
            assert_eq!(received, Some(message));
        }
        let nothing: Option<ToMachine> = ours.try_receive().expect("nothing came");
        assert_eq!(nothing, None);
    }

    #[test]
    fn what_a_configuration_says_becomes_harmless() {
        let mut configured = Configured {
            origin: "a\u{1b}[2J".to_owned(),
            time_servers: ["--help", "ntp.example", "a b"].map(str::to_owned).to_vec(),
            ..Configured::default()
        };
        configured
            .time_servers
            .extend(vec!["192.0.2.1".to_owned(); 20]);
        configured.bound();
        assert_eq!(configured.origin, "a [2J");
        assert_eq!(configured.time_servers.len(), TIME_SERVERS_MAX);
        assert_eq!(configured.time_servers[..2], ["ntp.example", "192.0.2.1"]);
    }

    #[test]
    fn nonsense_and_the_end_are_told_apart() {
        let (ours, theirs) = pair().expect("a pair");
        send(
            theirs.as_raw_fd(),
            b"{\"reboot\":\"now\"}",
            MsgFlags::empty(),
        )
        .expect("sent");
        send(theirs.as_raw_fd(), b"\"reb", MsgFlags::empty()).expect("sent");
        for _ in 0..2 {
            let nonsense = ours.try_receive::<ToMachine>().expect_err("no message");
            assert_eq!(nonsense.kind(), io::ErrorKind::InvalidData);
        }
        drop(theirs);
        let end = ours.try_receive::<ToMachine>().expect_err("the end");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_line_that_is_not_read_fills_up_and_does_not_block() {
        let (ours, _theirs) = pair().expect("a pair");
        let long = "x".repeat(MESSAGE_MAX / 2);
        let full = (0..100).find_map(|_| ours.send(&long).err());
        assert!(full.is_some());
        let too_long = ours.send(&"x".repeat(MESSAGE_MAX)).expect_err("too long");
        assert_eq!(too_long.kind(), io::ErrorKind::InvalidInput);
    }
}
