//! Where a time server is that goes by its name: A and AAAA records (RFC 1035, RFC 3596), asked of
//! the network's name servers by UDP. The child that asks the time asks for names too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use ring::rand::{SecureRandom, SystemRandom};

/// Where name servers listen.
const PORT: u16 = 53;
/// More name servers are not asked.
const RESOLVERS_MAX: usize = 3;
/// Without EDNS no answer is longer (RFC 1035 §4.2.1).
const ANSWER_MAX: usize = 512;
/// Packets that are read for one question at most: all but one are not for us.
const PACKETS_MAX: usize = 16;

/// The name servers of a `resolv.conf`.
#[must_use]
pub fn resolvers(text: &str) -> Vec<SocketAddr> {
    let of_line = |line: &str| {
        let address: IpAddr = line.strip_prefix("nameserver ")?.trim().parse().ok()?;
        Some(SocketAddr::from((address, PORT)))
    };
    text.lines()
        .filter_map(of_line)
        .take(RESOLVERS_MAX)
        .collect()
}

/// One address for each of these names or addresses, and a sentence for each that has none. Of a
/// name with several addresses the first is taken that there is a route to, so that a name counts
/// as one server.
#[must_use]
pub fn addresses(
    names: &[String],
    resolvers: &[SocketAddr],
    patience: Duration,
) -> (Vec<IpAddr>, Vec<String>) {
    let deadline = Instant::now() + patience;
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        let address = match name.parse() {
            Ok(address) => Ok(address),
            Err(_) => look_up(name, resolvers, deadline),
        };
        match address {
            Ok(address) if found.contains(&address) => {}
            Ok(address) => found.push(address),
            Err(why) => unknown.push(format!("where {name} is, {why}")),
        }
    }
    (found, unknown)
}

fn look_up(name: &str, resolvers: &[SocketAddr], deadline: Instant) -> Result<IpAddr, String> {
    if resolvers.is_empty() {
        return Err("cannot be asked: no name server is known".to_owned());
    }
    let mut why = "no name server has said".to_owned();
    // A lost packet is asked again; the one that answers is asked first in a way, for the others
    // cost no more than their share of the time.
    for round in 0..2_u32 {
        for (place, resolver) in resolvers.iter().enumerate() {
            let turns = (resolvers.len() - place) as u32 + (1 - round) * resolvers.len() as u32;
            let left = deadline.saturating_duration_since(Instant::now());
            match ask(name, *resolver, left / turns.max(1)) {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => return Err("nobody knows: it has no address here".to_owned()),
                Err(error) if is_silence(&error) => {}
                Err(error) => why = format!("{} does not say: {error}", resolver.ip()),
            }
        }
    }
    Err(why)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Both kinds of addresses; `None` where the server says that there is none that can be reached.
fn ask(name: &str, resolver: SocketAddr, patience: Duration) -> io::Result<Option<IpAddr>> {
    let local: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let deadline = Instant::now() + patience;
    for kind in [RecordType::AAAA, RecordType::A] {
        // A socket, and so a port, for each question, which makes answers harder to forge.
        let socket = UdpSocket::bind((local, 0))?;
        socket.connect(resolver)?;
        let (id, question) = question(name, kind)?;
        socket.send(&question)?;
        for address in answers(&socket, (id, name, kind), deadline)? {
            if is_reached(address) {
                return Ok(Some(address));
            }
        }
    }
    Ok(None)
}

fn question(name: &str, kind: RecordType) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| io::Error::other("the kernel has no random bytes"))?;
    let id = u16::from_ne_bytes(id);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(full(name)?, kind));
    Ok((id, message.to_vec().map_err(io::Error::other)?))
}

/// The name as it is, whatever the search list of a system would be.
fn full(name: &str) -> io::Result<Name> {
    let mut name = Name::from_ascii(name).map_err(io::Error::other)?;
    name.set_fqdn(true);
    Ok(name)
}

fn answers(
    socket: &UdpSocket,
    asked: (u16, &str, RecordType),
    deadline: Instant,
) -> io::Result<Vec<IpAddr>> {
    let mut packet = [0; ANSWER_MAX];
    for _ in 0..PACKETS_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.recv(&mut packet)?;
        if let Some(answer) = read(&packet[..len], asked) {
            return answer;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The addresses of an answer, aliases followed as the server did; `None` where it is no answer to
/// the question.
fn read(packet: &[u8], asked: (u16, &str, RecordType)) -> Option<io::Result<Vec<IpAddr>>> {
    let (id, name, kind) = asked;
    let message = Message::from_vec(packet).ok()?;
    let [query] = &message.queries[..] else {
        return None;
    };
    let is_ours = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && query.query_type() == kind
        && query.query_class() == DNSClass::IN
        && *query.name() == full(name).ok()?;
    if !is_ours {
        return None;
    }
    Some(match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let of = |record: &hickory_proto::rr::Record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            };
            Ok(message.answers.iter().filter_map(of).collect())
        }
        code => Err(io::Error::other(code.to_string())),
    })
}

/// Whether there is a way there: the kernel is asked, and nothing is sent.
fn is_reached(address: IpAddr) -> bool {
    let local: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0));
    socket.is_ok_and(|socket| socket.connect((address, PORT)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn answer(question: &[u8], change: impl Fn(&mut Message)) -> Vec<u8> {
        let mut message = Message::from_vec(question).expect("a question");
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        message.to_vec().expect("it is written")
    }

    /// A name server that answers so many questions: AAAA with nothing, A with an alias and the
    /// loopback's address, both behind something that is for somebody else.
    fn server(questions: usize, code: ResponseCode) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        thread::spawn(move || {
            for _ in 0..questions {
                let mut packet = [0; ANSWER_MAX];
                let (len, from) = socket.recv_from(&mut packet).expect("a question");
                let send = |bytes: &[u8]| socket.send_to(bytes, from).expect("sent");
                send(b"nothing");
                send(&answer(&packet[..len], |message| message.metadata.id ^= 1));
                send(&answer(&packet[..len], |message| {
                    message.metadata.response_code = code;
                    let name = message.queries[0].name().clone();
                    if message.queries[0].query_type() == RecordType::A {
                        let target = Name::from_ascii("a.example.").expect("a name");
                        let alias = RData::CNAME(CNAME(target.clone()));
                        message.add_answer(Record::from_rdata(name, 60, alias));
                        let address = RData::A(A(Ipv4Addr::LOCALHOST));
                        message.add_answer(Record::from_rdata(target, 60, address));
                    }
                }));
            }
        });
        address
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_becomes_an_address_and_an_address_stays_one() {
        let resolver = server(2, ResponseCode::NoError);
        let hosts = names(&["192.0.2.1", "ntp.example", "127.0.0.1"]);
        let (found, unknown) = addresses(&hosts, &[resolver], PATIENCE);
        let expected: [IpAddr; 2] = [[192, 0, 2, 1].into(), [127, 0, 0, 1].into()];
        assert_eq!(found, expected, "each counts once");
        assert_eq!(unknown, [] as [String; 0]);
    }

    #[test]
    fn the_next_name_server_is_asked_where_one_fails() {
        let resolvers = [
            server(2, ResponseCode::ServFail),
            server(2, ResponseCode::NoError),
        ];
        let (found, unknown) = addresses(&names(&["ntp.example"]), &resolvers, PATIENCE);
        assert_eq!((found.len(), unknown.len()), (1, 0));
    }

    #[test]
    fn silence_and_ignorance_have_their_sentences() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = silent.local_addr().expect("bound");
        let ask = |resolvers: &[SocketAddr]| {
            let patience = Duration::from_millis(50);
            addresses(&names(&["ntp.example"]), resolvers, patience)
                .1
                .join("")
        };
        assert_eq!(ask(&[at]), "where ntp.example is, no name server has said");
        assert_eq!(
            ask(&[]),
            "where ntp.example is, cannot be asked: no name server is known"
        );
    }

    #[test]
    fn name_servers_are_read_from_their_file() {
        let text = "nameserver 192.0.2.53\nsearch example\nnameserver 2001:db8::53\nnameserver x\n";
        let found: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_passed_over() {
        let (id, question) = question("ntp.example", RecordType::A).expect("a question");
        let of = |packet: &[u8], id, kind| read(packet, (id, "ntp.example", kind)).is_some();
        let right = answer(&question, |_| {});
        assert!(of(&right, id, RecordType::A));
        assert!(!of(&right, id ^ 1, RecordType::A));
        assert!(!of(&right, id, RecordType::AAAA));
        assert!(!of(&question, id, RecordType::A), "it is no response");
        let other = answer(&question, |message| {
            message.queries = vec![Query::query(
                Name::from_ascii("other.example.").expect("a name"),
                RecordType::A,
            )];
        });
        assert!(!of(&other, id, RecordType::A));
        for len in 0..right.len() {
            assert!(!of(&right[..len], id, RecordType::A), "{len}");
        }
    }
}
