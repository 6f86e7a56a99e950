//! The little of HTTP/1.1 (RFC 9112) that metadata services need: one request to a literal address,
//! one response, in plain text, within a deadline. Nothing is resolved and no redirect is followed.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

pub use response::{Reader as ResponseReader, Response};

mod response;

/// How long to wait for one of several addresses to answer at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 8 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// `GET` or `PUT`.
    pub method: &'r str,
    /// From its `/` on.
    pub path: &'r str,
    /// What the service is called.
    pub host: &'r str,
    /// Further header fields.
    pub headers: &'r [(&'r str, &'r str)],
}

/// A service that may be at one of several addresses.
#[derive(Clone, Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    from_low_port: bool,
    /// The address that has answered; the others are not tried again.
    chosen: Cell<Option<SocketAddr>>,
}

impl Server {
    /// A service at addresses that are tried in this order. All requests to it together have to be
    /// over at `deadline`.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, deadline: Instant) -> Server {
        Server {
            addresses,
            deadline,
            from_low_port: false,
            chosen: Cell::new(None),
        }
    }

    /// The same, asked from a port below 1024, which only root or CAP_NET_BIND_SERVICE binds.
    #[must_use]
    pub fn from_low_port(&self) -> Server {
        Server {
            from_low_port: true,
            ..self.clone()
        }
    }

    /// Sends a request to the first address that answers. The error is a sentence.
    pub fn ask(&self, request: &Request<'_>) -> Result<Response, String> {
        let mut failed = "it has no address".to_owned();
        let chosen = self.chosen.get();
        for address in chosen.as_slice().iter().chain(&self.addresses) {
            match self.connect(*address) {
                Ok(stream) => {
                    self.chosen.set(Some(*address));
                    return self.exchange(stream, request);
                }
                Err(error) => failed = format!("{} does not answer: {error}", address.ip()),
            }
        }
        Err(failed)
    }

    fn left(&self) -> Result<Duration, io::Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(left)
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let patience = self.left()?.min(CONNECT_PATIENCE);
        if !self.from_low_port {
            return TcpStream::connect_timeout(&address, patience);
        }
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        bind_low(&socket, address)?;
        socket.connect_timeout(&address.into(), patience)?;
        Ok(socket.into())
    }

    fn exchange(&self, mut stream: TcpStream, request: &Request<'_>) -> Result<Response, String> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "it does not answer in time".to_owned()
            }
            _ => format!("the exchange with it failed: {error}"),
        };
        let patience = self.left().map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        stream.write_all(&request.to_bytes()).map_err(failed)?;
        let mut reader = ResponseReader::default();
        let mut buffer = [0; READ_BYTES];
        loop {
            let patience = self.left().map_err(failed)?;
            stream.set_read_timeout(Some(patience)).map_err(failed)?;
            let length = match stream.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            if length == 0 {
                return in_place(reader.finish()?);
            }
            if let Some(response) = reader.feed(&buffer[..length])? {
                return in_place(response);
            }
        }
    }
}

impl Request<'_> {
    /// The bytes of the request. Its parts are ours, but for tokens that a service gave.
    fn to_bytes(self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.path, self.host
        );
        for (name, value) in self.headers {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method == "PUT" {
            text.push_str("Content-Length: 0\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        text.into_bytes()
    }
}

/// A response that does not send us elsewhere.
fn in_place(response: Response) -> Result<Response, String> {
    match response.status {
        300..400 => Err("it redirects, which is not followed".to_owned()),
        _ => Ok(response),
    }
}

/// Binds the highest port below 1024 that is free.
fn bind_low(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let mut outcome = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for port in (512..1024).rev() {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
        };
        outcome = socket.bind(&own.into());
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Answers one request with these bytes and hands the request on.
    fn once(answer: &'static [u8]) -> (Server, JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut buffer = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut buffer).expect("a request");
                request.extend_from_slice(&buffer[..length]);
            }
            for byte in answer.chunks(7) {
                stream.write_all(byte).expect("sent");
            }
            String::from_utf8(request).expect("a text")
        });
        let server = Server::new(vec![address], Instant::now() + Duration::from_secs(20));
        (server, thread)
    }

    const GET: Request<'_> = Request {
        method: "GET",
        path: "/a?b",
        host: "metadata.example",
        headers: &[("Metadata-Flavor", "x\r\ny")],
    };

    #[test]
    fn a_request_is_answered() {
        let (server, thread) = once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let response = server.ask(&GET).expect("an answer");
        assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
        let request = thread.join().expect("served");
        assert_eq!(
            request,
            "GET /a?b HTTP/1.1\r\nHost: metadata.example\r\nMetadata-Flavor: xy\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn the_next_address_is_asked_where_the_first_is_silent() {
        let (mut server, thread) = once(b"HTTP/1.1 404 Not Found\r\n\r\n");
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        server
            .addresses
            .insert(0, gone.local_addr().expect("bound"));
        drop(gone);
        let put = Request {
            method: "PUT",
            ..GET
        };
        assert_eq!(server.ask(&put).expect("an answer").status, 404);
        assert!(
            thread
                .join()
                .expect("served")
                .contains("Content-Length: 0\r\n")
        );
        server.addresses.truncate(1);
        server.chosen.take();
        let why = server.ask(&GET).expect_err("nobody is there");
        assert!(why.contains("127.0.0.1 does not answer"), "{why}");
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let (server, thread) =
            once(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n");
        assert!(
            server
                .ask(&GET)
                .expect_err("elsewhere")
                .contains("redirects")
        );
        thread.join().expect("served");
    }

    #[test]
    fn the_deadline_holds_for_all_of_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = Server::new(
            vec![listener.local_addr().expect("bound")],
            Instant::now() + Duration::from_millis(30),
        );
        let why = server.ask(&GET).expect_err("the listener never answers");
        assert_eq!(why, "it does not answer in time");
        assert!(
            server
                .ask(&GET)
                .expect_err("it is over")
                .contains("does not answer")
        );
    }
}
