//! Asking time servers by UDP, all at once and within a deadline. A child without rights does this
//! and hands the [`Offset`] to PID 1.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::clock;
use super::sntp::{self, Exchange, Sample};
use crate::machine::answer::Answer;

/// Where time servers listen.
pub const PORT: u16 = 123;
/// No more servers are asked at once.
pub const SERVERS_MAX: usize = 8;

/// Servers agree that are no further apart.
const AGREEMENT_NS: u64 = 1_000_000_000;

/// How far our clock is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// What has to be added to our clock.
    pub offset_ns: i64,
    /// The largest error that this may have, by what the server says and how long it took.
    pub error_ns: u64,
    /// How far the server is from a reference clock.
    pub stratum: u8,
    /// Who said so; absent: the host's own clock.
    pub server: Option<IpAddr>,
    /// How many servers replied.
    pub replies: usize,
    /// How many of them agree with this one, itself among them.
    pub agreeing: usize,
}

impl Answer for Offset {
    fn trim(&mut self) {
        self.stratum = self.stratum.clamp(1, 15);
        self.replies = self.replies.clamp(1, SERVERS_MAX);
        self.agreeing = self.agreeing.clamp(1, self.replies);
    }
}

/// A server that was asked.
struct Asked {
    server: SocketAddr,
    socket: UdpSocket,
    nonce: u64,
    sent: Instant,
    sent_ns: i64,
    result: Option<Result<Sample, String>>,
}

/// Asks up to [`SERVERS_MAX`] servers and waits for their replies, at most until `patience` is over.
/// `floor_ms` is a time that is known to be over (see [`clock`]).
///
/// With three replies or more the one in the middle is taken, so that a single liar has no effect;
/// else the one with the smallest possible error. The error is a sentence with every server's reason.
pub fn ask(servers: &[SocketAddr], patience: Duration, floor_ms: u64) -> Result<Offset, String> {
    let deadline = Instant::now() + patience;
    let (mut asked, mut failed) = (Vec::new(), Vec::new());
    for server in servers.iter().take(SERVERS_MAX) {
        match send(*server) {
            Ok(one) => asked.push(one),
            Err(error) => failed.push(format!("{}: {error}", server.ip())),
        }
    }
    while asked.iter().any(|one| one.result.is_none()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(&mut asked, left, floor_ms) {
            break;
        }
    }
    let mut samples = Vec::new();
    for one in asked {
        match one.result {
            Some(Ok(sample)) => samples.push((one.server.ip(), sample)),
            Some(Err(why)) => failed.push(format!("{} {why}", one.server.ip())),
            None => failed.push(format!("{} does not reply", one.server.ip())),
        }
    }
    choose(samples).ok_or_else(|| {
        if failed.is_empty() {
            return "no time server is known; name one in `[time] servers` or let DHCP do it"
                .to_owned();
        }
        format!("no time server could be used: {}", failed.join("; "))
    })
}

/// Which reply is taken.
fn choose(mut samples: Vec<(IpAddr, Sample)>) -> Option<Offset> {
    let replies = samples.len();
    if replies >= 3 {
        samples.sort_by_key(|(_, sample)| sample.offset_ns);
    } else {
        samples.sort_by_key(|(_, sample)| sample.error_ns());
    }
    let place = if replies >= 3 { replies / 2 } else { 0 };
    let (server, sample) = samples.get(place)?;
    let agrees = |other: &Sample| {
        let apart_ns = other.offset_ns.abs_diff(sample.offset_ns);
        apart_ns <= AGREEMENT_NS
    };
    let agreeing = samples.iter().filter(|(_, other)| agrees(other)).count();
    Some(Offset {
        offset_ns: sample.offset_ns,
        error_ns: sample.error_ns(),
        stratum: sample.stratum,
        server: Some(*server),
        replies,
        agreeing,
    })
}

fn send(server: SocketAddr) -> io::Result<Asked> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0))?;
    // The kernel drops what others send to it.
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    let mut nonce = [0; 8];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| io::Error::other("the kernel has no random bytes"))?;
    let nonce = u64::from_ne_bytes(nonce);
    let (sent, sent_ns) = (Instant::now(), clock::now_ns());
    socket.send(&sntp::request(nonce))?;
    Ok(Asked {
        server,
        socket,
        nonce,
        sent,
        sent_ns,
        result: None,
    })
}

/// Waits once, and reads what came. False where waiting itself fails.
fn wait(asked: &mut [Asked], left: Duration, floor_ms: u64) -> bool {
    let waiting: Vec<usize> = (0..asked.len())
        .filter(|index| asked[*index].result.is_none())
        .collect();
    let mut polled: Vec<PollFd<'_>> = waiting
        .iter()
        .map(|index| PollFd::new(&asked[*index].socket, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return true,
        Err(_) => return false,
    }
    let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
    for (index, ready) in waiting.into_iter().zip(ready) {
        if ready {
            receive(&mut asked[index], floor_ms);
        }
    }
    true
}

/// Reads one packet. One that is not for our request is passed over: it may be forged, and the
/// reply still to come.
fn receive(asked: &mut Asked, floor_ms: u64) {
    let mut packet = [0; 512];
    let received = asked.socket.recv(&mut packet);
    let under_way_ns = i64::try_from(asked.sent.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let length = match received {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
        Err(error) => {
            asked.result = Some(Err(format!("cannot be reached: {error}")));
            return;
        }
    };
    let exchange = Exchange {
        nonce: asked.nonce,
        sent_ns: asked.sent_ns,
        received_ns: asked.sent_ns.saturating_add(under_way_ns),
        near_ns: i64::try_from(floor_ms).map_or(i64::MAX, |floor| floor.saturating_mul(1_000_000)),
    };
    match sntp::reply(&packet[..length], &exchange) {
        Ok(sample) => asked.result = Some(Ok(sample)),
        Err(sntp::SntpError::NotOurs) => {}
        Err(error) => asked.result = Some(Err(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::machine::answer;

    const FLOOR_MS: u64 = 1_795_564_800_000;

    /// A server on loopback that is `ahead_s` ahead of our clock and answers once, after a packet
    /// that is not for us.
    fn server(ahead_s: i64, is_set: bool) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        thread::spawn(move || {
            let mut packet = [0; 48];
            let (_, from) = socket.recv_from(&mut packet).expect("a request");
            let nonce: [u8; 8] = packet[40..].try_into().expect("eight bytes");
            let mut reply = [0; 48];
            reply[0] = if is_set { 0x24 } else { 0xe4 };
            reply[1] = 1;
            socket.send_to(&reply, from).expect("sent");
            reply[24..32].copy_from_slice(&nonce);
            let now_s = (clock::now_ns() / 1_000_000_000 + ahead_s + 2_208_988_800) as u64;
            for at in [32, 40] {
                reply[at..at + 8].copy_from_slice(&(now_s << 32).to_be_bytes());
            }
            socket.send_to(&reply, from).expect("sent");
        });
        address
    }

    fn sample(offset_ns: i64, delay_ns: u64) -> (IpAddr, Sample) {
        let sample = Sample {
            offset_ns,
            delay_ns,
            distance_ns: 0,
            stratum: 1,
        };
        (Ipv4Addr::LOCALHOST.into(), sample)
    }

    #[test]
    fn a_server_s_offset_is_found() {
        let offset =
            ask(&[server(3600, true)], Duration::from_secs(20), FLOOR_MS).expect("a reply");
        // The server counts whole seconds.
        let seconds = offset.offset_ns as f64 / 1e9;
        assert!((3598.0..3601.0).contains(&seconds), "{seconds}");
        assert_eq!((offset.stratum, offset.replies), (1, 1));
        let message = answer::to_message(Ok(offset.clone()));
        assert_eq!(answer::from_message(&message), Ok(offset));
    }

    #[test]
    fn one_server_that_does_not_know_the_time_is_left_out() {
        let servers = [server(0, false), server(60, true)];
        let offset = ask(&servers, Duration::from_secs(20), FLOOR_MS).expect("a reply");
        assert_eq!(offset.replies, 1);
        let why = ask(&[server(0, false)], Duration::from_secs(20), FLOOR_MS).expect_err("none");
        assert!(why.contains("does not know the time itself"), "{why}");
    }

    #[test]
    fn silence_and_absence_have_their_sentences() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = silent.local_addr().expect("bound");
        let why = ask(&[address], Duration::from_millis(20), FLOOR_MS).expect_err("silence");
        assert_eq!(
            why,
            "no time server could be used: 127.0.0.1 does not reply"
        );
        let why = ask(&[], Duration::from_secs(1), FLOOR_MS).expect_err("nobody to ask");
        assert!(why.contains("[time] servers"), "{why}");
    }

    #[test]
    fn of_three_the_middle_is_taken_and_of_two_the_nearest() {
        let lie = i64::MAX;
        let offset = choose(vec![sample(lie, 1), sample(5, 900), sample(7, 100)]);
        assert_eq!(
            offset.map(|offset| (offset.offset_ns, offset.replies)),
            Some((7, 3))
        );
        let offset = choose(vec![sample(5, 900), sample(7, 100)]);
        assert_eq!(
            offset.map(|offset| (offset.offset_ns, offset.error_ns)),
            Some((7, 50))
        );
        assert_eq!(choose(Vec::new()), None);
    }

    #[test]
    fn it_is_counted_who_agrees() {
        let second = 1_000_000_000;
        let agreeing = |offsets: &[i64]| {
            let samples = offsets.iter().map(|offset| sample(*offset, 1)).collect();
            choose(samples).map(|offset| offset.agreeing)
        };
        assert_eq!(agreeing(&[0]), Some(1));
        assert_eq!(agreeing(&[0, second]), Some(2));
        assert_eq!(agreeing(&[0, second + 1]), Some(1));
        assert_eq!(agreeing(&[i64::MIN, 5, 9]), Some(2));
        assert_eq!(agreeing(&[i64::MIN, 0, i64::MAX]), Some(1));
    }
}
