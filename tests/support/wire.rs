//! A stream on the wire: literal XML out, whole first-level elements in, and a transcript that a
//! failing test prints.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rxml::error::EndOrError;
use rxml::{Parse, WithOptions};
use tokio_rustls::rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::element::{Element, Tree, start};
use super::tls::Tls;
use super::{DOMAIN, ns};

/// How long the server may take for anything. Only a test that fails anyway waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What comes from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The start tag of its stream.
    Header(Element),
    /// A whole first-level element.
    Element(Element),
    /// The end tag of its stream.
    Footer,
    /// The end of the connection.
    End(End),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: a FIN, and under TLS a `close_notify` before it.
    Orderly,
    /// A FIN without `close_notify`, or a reset.
    Cut,
}

/// One connection to the server.
pub struct Wire {
    socket: Socket,
    parser: rxml::Parser,
    tree: Tree,
    in_stream: bool,
    unread: Vec<u8>,
    seen: VecDeque<Seen>,
    transcript: Vec<String>,
    /// The domain that its streams are for.
    pub domain: String,
    /// Bytes received since the connection was made.
    pub received: usize,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// The test is the server.
    Served(Box<StreamOwned<ServerConnection, TcpStream>>),
    Closed,
}

/// A parser as strict as RFC 6120 §11 wants it, with room for the longest stanza of the tests.
pub fn strict_parser() -> rxml::Parser {
    rxml::Parser::with_options(rxml::Options {
        max_token_length: 1 << 20,
        ..rxml::Options::default()
    })
}

/// The header that a client sends (RFC 6120 §4.7).
pub fn header_to(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' \
         xmlns='jabber:client' xmlns:stream='{}'>",
        ns::STREAM
    )
}

impl Wire {
    /// A plain TCP connection; nothing is said yet.
    pub fn connect(address: SocketAddr) -> Wire {
        let socket = TcpStream::connect(address).expect("the server listens");
        Wire::over(socket)
    }

    /// The same, and the kernel keeps next to nothing of what is not read.
    pub fn connect_with_little_room(address: SocketAddr) -> Wire {
        use socket2::{Domain, Socket, Type};
        let family = Domain::for_address(address);
        let socket = Socket::new(family, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a socket");
        socket.connect(&address.into()).expect("the server listens");
        Wire::over(socket.into())
    }

    /// Over a socket that the test made.
    pub fn over(socket: TcpStream) -> Wire {
        socket.set_nodelay(true).expect("a TCP socket");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a TCP socket");
        socket
            .set_write_timeout(Some(PATIENCE))
            .expect("a TCP socket");
        Wire {
            socket: Socket::Plain(socket),
            parser: strict_parser(),
            tree: Tree::default(),
            in_stream: false,
            unread: Vec::new(),
            seen: VecDeque::new(),
            transcript: Vec::new(),
            domain: DOMAIN.to_owned(),
            received: 0,
        }
    }

    /// A connection under TLS from the first byte (XEP-0368).
    pub fn connect_tls(address: SocketAddr, tls: &Tls) -> Wire {
        let mut wire = Wire::connect(address);
        wire.start_tls(tls);
        wire
    }

    /// The same for another domain than [`DOMAIN`].
    #[track_caller]
    pub fn connect_tls_to(address: SocketAddr, domain: &str, tls: &Tls) -> Wire {
        let mut wire = Wire::connect(address);
        domain.clone_into(&mut wire.domain);
        wire.start_tls(tls);
        wire
    }

    /// Sends exactly this.
    #[track_caller]
    pub fn send(&mut self, xml: &str) {
        self.transcript.push(format!("C: {xml}"));
        if let Err(error) = self.try_send_bytes(xml.as_bytes()) {
            panic!("cannot send: {error}");
        }
    }

    /// Sends what need not be text, and does not mind a server that has closed.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(bytes),
            Socket::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Socket::Served(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Socket::Closed => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Sends a stream header to its domain.
    #[track_caller]
    pub fn send_header(&mut self) {
        self.send(&header_to(&self.domain.clone()));
    }

    /// A new stream on the same connection (RFC 6120 §4.3.3): the parser starts again.
    pub fn restart(&mut self) {
        assert!(
            self.seen.is_empty() && self.unread.is_empty(),
            "the server said more before the restart: {:?}",
            self.seen
        );
        self.parser = strict_parser();
        self.tree = Tree::default();
        self.in_stream = false;
    }

    /// Restarts and opens the stream; returns the features.
    #[track_caller]
    pub fn reopen(&mut self) -> Element {
        self.restart();
        self.open()
    }

    /// Opens the stream and returns the features.
    #[track_caller]
    pub fn open(&mut self) -> Element {
        self.send_header();
        self.header();
        let features = self.element();
        assert!(
            features.is("features", ns::STREAM),
            "features after the header, not {features}"
        );
        features
    }

    /// Everything from now on goes through TLS.
    #[track_caller]
    pub fn start_tls(&mut self, tls: &Tls) {
        self.start_tls_as(tls, &self.domain.clone())
            .unwrap_or_else(|error| panic!("the TLS handshake failed: {error}"));
    }

    /// The same with a chosen SNI, and a result.
    pub fn start_tls_as(&mut self, tls: &Tls, name: &str) -> std::io::Result<()> {
        let Socket::Plain(mut socket) = std::mem::replace(&mut self.socket, Socket::Closed) else {
            panic!("the connection is under TLS already");
        };
        let mut connection = tls.connection(name);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        while connection.wants_write() {
            connection.write_tls(&mut socket)?;
        }
        let kind = connection.handshake_kind();
        self.transcript.push(format!("-- TLS: {kind:?}"));
        self.socket = Socket::Tls(Box::new(StreamOwned::new(connection, socket)));
        Ok(())
    }

    /// Everything from now on goes through TLS, in which the test is the server.
    pub fn accept_tls(&mut self, config: &Arc<ServerConfig>) -> std::io::Result<()> {
        let Socket::Plain(mut socket) = std::mem::replace(&mut self.socket, Socket::Closed) else {
            panic!("the connection is under TLS already");
        };
        let mut connection =
            ServerConnection::new(Arc::clone(config)).expect("a valid configuration");
        while connection.is_handshaking() || connection.wants_write() {
            connection.complete_io(&mut socket)?;
        }
        self.transcript.push("-- TLS, as its server".to_owned());
        self.socket = Socket::Served(Box::new(StreamOwned::new(connection, socket)));
        Ok(())
    }

    /// The TLS connection in which the test is the server.
    pub fn served_tls(&self) -> &ServerConnection {
        match &self.socket {
            Socket::Served(tls) => &tls.conn,
            _ => panic!("not under TLS, or not its server"),
        }
    }

    /// `<starttls/>`, its answer, and the handshake.
    #[track_caller]
    pub fn negotiate_tls(&mut self, tls: &Tls) {
        self.send(&format!("<starttls xmlns='{}'/>", ns::TLS));
        let answer = self.element();
        assert!(answer.is("proceed", ns::TLS), "got {answer}");
        self.restart();
        self.start_tls(tls);
    }

    /// The TLS connection.
    pub fn tls(&self) -> &ClientConnection {
        match &self.socket {
            Socket::Tls(tls) => &tls.conn,
            _ => panic!("not under TLS"),
        }
    }

    /// The socket below everything.
    pub fn socket(&self) -> &TcpStream {
        match &self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(tls) => &tls.sock,
            Socket::Served(tls) => &tls.sock,
            Socket::Closed => panic!("the connection is closed"),
        }
    }

    /// Cuts the connection without a word, as a lost network would.
    pub fn cut(mut self) {
        self.transcript.push("-- cut".to_owned());
        let _ = self.socket().shutdown(std::net::Shutdown::Both);
    }

    /// Whether something has come from the server that was not read yet, or the end.
    pub fn has_more(&self) -> bool {
        let socket = self.socket();
        socket.set_nonblocking(true).expect("a TCP socket");
        let peeked = socket.peek(&mut [0]);
        socket.set_nonblocking(false).expect("a TCP socket");
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// What comes next, whatever it is.
    #[track_caller]
    pub fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
            if let Some(end) = self.fill() {
                return Seen::End(end);
            }
        }
    }

    /// The next thing is a first-level element.
    #[track_caller]
    pub fn element(&mut self) -> Element {
        match self.next() {
            Seen::Element(element) => element,
            other => panic!("expected an element, got {other:?}"),
        }
    }

    /// The next thing is a stream header.
    #[track_caller]
    pub fn header(&mut self) -> Element {
        match self.next() {
            Seen::Header(header) => header,
            other => panic!("expected a stream header, got {other:?}"),
        }
    }

    /// The next things are this stream error, the end of the stream and of the connection
    /// (RFC 6120 §4.9.1.1); a header may precede them (§4.9.1.2).
    #[track_caller]
    pub fn expect_stream_error(&mut self, condition: &str) -> Element {
        let mut seen = self.next();
        if matches!(seen, Seen::Header(_)) {
            seen = self.next();
        }
        // A server that is sent several faulty things at once may have said something before.
        let Seen::Element(error) = seen else {
            panic!("expected the stream error {condition}, got {seen:?}");
        };
        assert_eq!(error.stream_error(), Some(condition), "in {error}");
        self.expect_end();
        error
    }

    /// The server ends its stream and then the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let footer = self.next();
        assert_eq!(footer, Seen::Footer, "the server ends its stream");
        let end = self.next();
        assert!(matches!(end, Seen::End(_)), "the connection ends: {end:?}");
    }

    /// Reads on until the connection ends, and returns everything before that.
    #[track_caller]
    pub fn until_end(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            match self.next() {
                Seen::End(_) => return all,
                seen => all.push(seen),
            }
        }
    }

    /// Reads some bytes that are not XML: what the server says under TLS as plain text, and so on.
    pub fn read_raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.read(buffer),
            Socket::Tls(tls) => tls.read(buffer),
            Socket::Served(tls) => tls.read(buffer),
            Socket::Closed => Ok(0),
        }
    }

    /// Reads once and parses what came; tells how the connection ended, if it did.
    #[track_caller]
    fn fill(&mut self) -> Option<End> {
        let mut buffer = vec![0; 32 * 1024];
        let result = self.read_raw(&mut buffer);
        match result {
            Ok(0) => {
                self.transcript.push("S: the end".to_owned());
                Some(End::Orderly)
            }
            Ok(count) => {
                self.received += count;
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                self.transcript.push(format!("S: {text}"));
                self.unread.extend_from_slice(&buffer[..count]);
                self.parse();
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came from the server for {PATIENCE:?}");
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                self.transcript.push(format!("S: cut ({error})"));
                Some(End::Cut)
            }
            Err(error) => panic!("cannot read: {error}"),
        }
    }

    #[track_caller]
    fn parse(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut bytes = &unread[..];
        loop {
            match self.parser.parse(&mut bytes, false) {
                Ok(Some(event)) => self.event(event),
                Ok(None) => break,
                Err(EndOrError::NeedMoreData) => break,
                Err(EndOrError::Error(error)) => {
                    panic!("the server sent what is not well-formed: {error}")
                }
            }
        }
        self.unread = bytes.to_vec();
    }

    fn event(&mut self, event: rxml::Event) {
        match event {
            rxml::Event::StartElement(_, name, attributes) if !self.in_stream => {
                self.in_stream = true;
                self.seen.push_back(Seen::Header(start(&name, &attributes)));
            }
            rxml::Event::EndElement(_) if self.tree.is_empty() => {
                self.in_stream = false;
                self.seen.push_back(Seen::Footer);
            }
            event => {
                if let Some(element) = self.tree.event(event) {
                    self.seen.push_back(Seen::Element(element));
                }
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("CAIRN_TEST_QUIET").is_none() {
            eprintln!("--- transcript of a connection ---");
            for line in &self.transcript {
                let shown: String = line.chars().take(2_000).collect();
                eprintln!("{shown}");
            }
        }
    }
}
