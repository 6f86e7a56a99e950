//! Coming here as somebody else would: a connection, STARTTLS or direct TLS, and the first words of
//! a stream (RFC 6120 §4, §5, XEP-0368). Nobody logs in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::facts::{Trouble, Way};
use crate::addr::Jid;
use crate::net::tls::{Authorities, Entry, PeerCertificate, ServerStream};
use crate::net::transport::{Read, Transport};
use crate::stanza::FirstLevel;
use crate::stanza::error::STREAM_ERRORS;
use crate::stream::ns;
use crate::xml::{
    Content, Element, Frame, Framer, Limits, StreamHeader, StreamScope, Writer, ns as xml_ns,
};

/// How long an address may take to answer.
const CONNECT: Duration = Duration::from_secs(4);
/// How long the rest of a visit may take.
const TALK: Duration = Duration::from_secs(5);
/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of an answer by HTTP that are read.
const STATUS_LINE_BYTES_MAX: usize = 64;

/// What came of a visit: the certificate, where there is TLS.
pub(super) type Seen = Result<Option<PeerCertificate>, Trouble>;

/// Visits `domain` at an address.
pub(super) async fn visit(
    way: Way,
    to: SocketAddr,
    domain: &Jid,
    authorities: &Arc<Authorities>,
) -> Seen {
    let tcp = match timeout(CONNECT, TcpStream::connect(to)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            return Err(match error.kind() {
                io::ErrorKind::ConnectionRefused => Trouble::Refused,
                io::ErrorKind::TimedOut => Trouble::Silent,
                _ => Trouble::Unreachable(error.to_string()),
            });
        }
        Err(_) => return Err(Trouble::Silent),
    };
    let guest = Guest {
        way,
        domain,
        authorities,
    };
    let talk = async {
        match way.entry() {
            None => challenge(tcp, domain).await.map(|()| None),
            Some(entry) => guest.talk(tcp, entry).await.map(Some),
        }
    };
    let late = || Trouble::Stream("something takes the connection and says nothing".to_owned());
    timeout(TALK, talk).await.unwrap_or_else(|_| Err(late()))
}

/// Whether an address is this machine's: whoever sends to himself sends from there. Nothing is sent.
pub(super) fn is_own(address: IpAddr) -> bool {
    source(address) == Some(address)
}

/// The addresses that this machine goes out by, one of each family at most.
pub(super) fn outgoing() -> Vec<IpAddr> {
    // Addresses that nobody has (RFC 5737, RFC 3849): the kernel only says which way they would be.
    let nobodys: [IpAddr; 2] = [
        Ipv4Addr::new(198, 51, 100, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(),
    ];
    nobodys.into_iter().filter_map(source).collect()
}

fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // The discard service (RFC 863), where nothing is sent.
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Asks for a challenge that is nobody's: this server answers 404 (RFC 8555 §8.3).
async fn challenge(mut tcp: TcpStream, domain: &Jid) -> Result<(), Trouble> {
    let request = format!(
        "GET /.well-known/acme-challenge/doctor HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        crate::addr::domain::to_ascii(domain.domain()).unwrap_or_default()
    );
    tcp.write_all(request.as_bytes())
        .await
        .map_err(|error| broken(&error))?;
    let mut line = Vec::new();
    while line.len() < STATUS_LINE_BYTES_MAX && !line.contains(&b'\n') {
        if tcp
            .read_buf(&mut line)
            .await
            .map_err(|error| broken(&error))?
            == 0
        {
            break;
        }
    }
    match line.starts_with(b"HTTP/1.1 404") {
        true => Ok(()),
        false => Err(Trouble::Stream(
            "something else than this server answers there".to_owned(),
        )),
    }
}

/// Somebody who comes by one way.
struct Guest<'a> {
    way: Way,
    domain: &'a Jid,
    authorities: &'a Arc<Authorities>,
}

impl Guest<'_> {
    async fn talk(&self, tcp: TcpStream, entry: Entry) -> Result<PeerCertificate, Trouble> {
        let tcp = match entry {
            Entry::StartTls | Entry::ServerStartTls => self.start_tls(tcp).await?,
            Entry::Direct | Entry::ServerDirect | Entry::Https => tcp,
        };
        let secured = ServerStream::look(tcp, entry, self.domain, self.authorities).await;
        let (stream, peer) = secured.map_err(|error| Trouble::Tls(error.to_string()))?;
        let mut talk = Talk::new(Transport::Server(stream), self.way);
        if entry != Entry::Https {
            talk.open(self.domain).await?;
        }
        talk.leave().await;
        Ok(peer)
    }

    /// RFC 6120 §5.4.2, up to `<proceed/>`.
    async fn start_tls(&self, tcp: TcpStream) -> Result<TcpStream, Trouble> {
        let mut talk = Talk::new(Transport::plain(tcp), self.way);
        let features = talk.open(self.domain).await?;
        if !features.offers_tls {
            return Err(Trouble::Stream("no STARTTLS is offered there".to_owned()));
        }
        let starttls = Writer::new().open_ns("starttls", ns::TLS).finish();
        talk.say(&starttls).await?;
        let is_proceed = talk.hear(|element| element.is("proceed", ns::TLS)).await?;
        let plain = talk.transport.into_plain().filter(|_| is_proceed);
        plain.ok_or_else(|| Trouble::Stream("it does not begin TLS".to_owned()))
    }
}

/// What matters of `<stream:features/>`.
#[derive(Clone, Copy, Default)]
struct Features {
    offers_tls: bool,
}

/// A stream of which only the beginning is spoken.
struct Talk {
    transport: Transport,
    input: BytesMut,
    framer: Framer,
    content: Content,
    scope: Option<StreamScope>,
}

impl Talk {
    fn new(transport: Transport, way: Way) -> Talk {
        Talk {
            transport,
            input: BytesMut::new(),
            framer: Framer::new(Limits::before_authentication()),
            content: match way.is_for_servers() {
                true => Content::Server,
                false => Content::Client,
            },
            scope: None,
        }
    }

    /// Our header; the other's, and its features.
    async fn open(&mut self, domain: &Jid) -> Result<Features, Trouble> {
        let mut writer = Writer::new();
        writer
            .open("stream:stream")
            .attr("xmlns", self.content.ns())
            .attr("xmlns:stream", xml_ns::STREAMS)
            .attr("to", domain.as_str())
            .attr("version", "1.0");
        let header = [b"<?xml version='1.0'?>".as_slice(), &writer.finish_open()].concat();
        self.say(&header).await?;
        let features = self.hear(|element| {
            element.is("features", xml_ns::STREAMS).then(|| Features {
                offers_tls: element.has_child("starttls", ns::TLS),
            })
        });
        let nothing = || Trouble::Stream("no stream of XMPP begins there".to_owned());
        features.await?.ok_or_else(nothing)
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.transport
            .write_all(bytes)
            .await
            .map_err(|error| broken(&error))
    }

    /// What `look` makes of the next element.
    async fn hear<T>(&mut self, look: impl FnOnce(&Element<'_>) -> T) -> Result<T, Trouble> {
        let no_xmpp = |_| Trouble::Stream("what answers there does not speak XMPP".to_owned());
        loop {
            match self.framer.next(&mut self.input).map_err(no_xmpp)? {
                Some(Frame::Header(bytes)) => {
                    let header = StreamHeader::parse(&bytes, self.content, self.framer.limits());
                    self.scope = Some(header.map_err(no_xmpp)?.scope);
                }
                Some(Frame::Element(bytes)) => {
                    let scope = self.scope.as_ref().ok_or_else(ended)?;
                    let element = FirstLevel::parse(bytes, scope, self.framer.limits());
                    let FirstLevel::Nonza(nonza) = element.map_err(no_xmpp)? else {
                        return Err(ended());
                    };
                    let element = nonza.element();
                    return match element.is("error", xml_ns::STREAMS) {
                        true => Err(refusal(&element)),
                        false => Ok(look(&element)),
                    };
                }
                Some(Frame::Footer) => return Err(ended()),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        loop {
            self.transport
                .readable()
                .await
                .map_err(|error| broken(&error))?;
            match self
                .transport
                .try_read(&mut self.input)
                .map_err(|error| broken(&error))?
            {
                Read::Bytes(_) => return Ok(()),
                Read::Blocked => {}
                Read::Closed => return Err(ended()),
            }
        }
    }

    async fn leave(mut self) {
        let leaving = async {
            if self.scope.is_some() {
                self.transport.write_all(b"</stream:stream>").await?;
            }
            self.transport.close().await
        };
        // Whether the other end has heard it is nothing that can be helped.
        drop(timeout(FAREWELL, leaving).await);
    }
}

fn broken(error: &io::Error) -> Trouble {
    Trouble::Stream(format!("the connection broke: {error}"))
}

fn ended() -> Trouble {
    Trouble::Stream("the stream is ended before it begins".to_owned())
}

/// RFC 6120 §4.9.
fn refusal(error: &Element<'_>) -> Trouble {
    let mut said = error.children().filter(|child| child.ns() == STREAM_ERRORS);
    let condition = said.next().map(|child| child.name().to_owned());
    let condition = condition.unwrap_or_else(|| "an error".to_owned());
    Trouble::Stream(format!("the stream is refused with {condition}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' id='1' \
                          xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    const TLS: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
                       </stream:features>";

    /// What comes of a visit to somebody who says these things, each after having heard something,
    /// and then ends the connection.
    async fn met(way: Way, says: &[&str]) -> Trouble {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("bound");
        let says: Vec<String> = says.iter().map(|text| (*text).to_owned()).collect();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.expect("a visitor");
            for text in says {
                let mut heard = [0; 1_024];
                let _ = tcp.read(&mut heard).await;
                let _ = tcp.write_all(text.as_bytes()).await;
            }
        });
        let domain = Jid::parse("chat.example").expect("a domain");
        let authorities = Authorities::load("a test", None).expect("nothing extra");
        let seen = visit(way, to, &domain, &authorities).await;
        seen.map(|_| ()).expect_err("nobody shows a certificate")
    }

    #[tokio::test]
    async fn what_answers_but_not_as_it_should_is_told_from_what_does_not_answer() {
        let other_host = format!(
            "{HEADER}<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             </stream:error></stream:stream>"
        );
        let without = format!("{HEADER}<stream:features/>");
        let with = format!("{HEADER}{TLS}");
        let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
        let endless = " ".repeat(20_000);
        for (says, part) in [
            (&[&*other_host][..], "refused with host-unknown"),
            (&[&*without], "no STARTTLS is offered"),
            (&[&*with, failure], "does not begin TLS"),
            (&[&*with, "<proceed xmlns='urn:x'/>"], "does not begin TLS"),
            (&["SSH-2.0-OpenSSH\r\n"], "does not speak XMPP"),
            (
                &["<stream:stream xmlns='jabber:client'>"],
                "does not speak XMPP",
            ),
            (&[&*endless], "does not speak XMPP"),
            (&[HEADER], "ended before it begins"),
            (&[""], "ended before it begins"),
        ] {
            match met(Way::Servers, says).await {
                Trouble::Stream(why) => assert!(why.contains(part), "{says:?}: {why}"),
                other => panic!("{says:?}: {other:?}"),
            }
        }
        let met = met(Way::ServersDirect, &["HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
        assert!(matches!(met, Trouble::Tls(_)), "{met:?}");
    }

    #[tokio::test]
    async fn what_nobody_listens_at_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("bound");
        drop(listener);
        let domain = Jid::parse("chat.example").expect("a domain");
        let authorities = Authorities::load("a test", None).expect("nothing extra");
        let seen = visit(Way::Clients, to, &domain, &authorities).await;
        assert_eq!(seen.map(|_| ()), Err(Trouble::Refused));
    }

    #[test]
    fn an_address_of_this_machine_is_known_as_such() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(198, 51, 100, 1).into()));
    }
}
