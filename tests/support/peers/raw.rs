//! A server that the test plays itself, stanza by stanza, so that it can do what no real one does.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::ServerConfig;

use super::{Leaf, PATIENCE, Place};
use crate::support::{Element, Seen, Tls, Wire, ns};

/// Dialback's namespace (XEP-0220 §2.1).
pub const DIALBACK: &str = "jabber:server:dialback";
/// A server's stanzas are in it (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";

/// What a test calls a server with.
pub struct RawPeer {
    /// Where it is.
    pub place: Place,
    /// What it says that it serves.
    pub domain: String,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    identity: Tls,
    /// The same, offering the protocol of servers.
    direct: Tls,
}

impl RawPeer {
    /// It listens on port 5269; nobody is accepted yet.
    #[track_caller]
    pub fn listen(place: Place, domain: &str, leaf: &Leaf) -> RawPeer {
        let address: SocketAddr = "[::]:5269".parse().expect("an address");
        let listener = place.inside(|| TcpListener::bind(address).expect("nobody else is here"));
        listener.set_nonblocking(true).expect("a listener");
        RawPeer {
            place,
            domain: domain.to_owned(),
            listener,
            config: leaf.server_config(&["xmpp-server"]),
            identity: Tls::with_identity(leaf.chain_der(), leaf.key_der(), &[]),
            direct: Tls::with_identity(leaf.chain_der(), leaf.key_der(), &["xmpp-server"]),
        }
    }

    /// The next connection to it.
    #[track_caller]
    pub fn accept(&self) -> Wire {
        let accepted = self.accept_within(PATIENCE);
        accepted.unwrap_or_else(|| panic!("nobody called {}", self.domain))
    }

    /// The next connection to it, if one comes in time.
    pub fn accept_within(&self, patience: Duration) -> Option<Wire> {
        let deadline = Instant::now() + patience;
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).expect("a socket");
                    return Some(Wire::over(socket));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{} cannot accept: {error}", self.domain),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return None;
            }
            wait_for_input(&self.listener, left);
        }
    }

    /// The next connection, up to the end of the TLS handshake as far as the initiator goes along.
    #[track_caller]
    pub fn accept_tls(&self) -> (Wire, std::io::Result<()>) {
        let mut wire = self.accept();
        self.answer_header(&mut wire);
        wire.send(&features(&format!(
            "<starttls xmlns='{}'><required/></starttls>",
            ns::TLS
        )));
        let starttls = wire.element();
        assert!(starttls.is("starttls", ns::TLS), "got {starttls}");
        wire.send(&format!("<proceed xmlns='{}'/>", ns::TLS));
        wire.restart();
        let outcome = wire.accept_tls(&self.config);
        (wire, outcome)
    }

    /// The next connection, which is TLS from its first byte (XEP-0368), up to the handshake's end.
    #[track_caller]
    pub fn accept_direct(&self) -> Wire {
        let mut wire = self.accept();
        let outcome = wire.accept_tls(&self.config);
        outcome.unwrap_or_else(|error| panic!("no TLS with {}: {error}", self.domain));
        wire
    }

    /// The next connection, up to where its initiator has opened its stream under TLS and waits for
    /// features.
    #[track_caller]
    pub fn accept_stream(&self) -> Wire {
        let (mut wire, outcome) = self.accept_tls();
        outcome.unwrap_or_else(|error| panic!("no TLS with {}: {error}", self.domain));
        self.answer_header(&mut wire);
        wire
    }

    /// The next connection, after SASL EXTERNAL (XEP-0178 §3): what follows are stanzas.
    #[track_caller]
    pub fn accept_authenticated(&self) -> Wire {
        self.accept_offering("", "")
    }

    /// The same with further features before and after authentication. What the initiator says to
    /// the former, before it authenticates, is passed over.
    #[track_caller]
    pub fn accept_offering(&self, before: &str, after: &str) -> Wire {
        let mut wire = self.accept_stream();
        wire.send(&features(&format!(
            "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>{before}",
            ns::SASL
        )));
        let mut auth = wire.element();
        if !before.is_empty() && auth.ns != ns::SASL {
            auth = wire.element();
        }
        assert!(auth.is("auth", ns::SASL), "got {auth}");
        wire.send(&format!("<success xmlns='{}'/>", ns::SASL));
        wire.restart();
        self.answer_header(&mut wire);
        wire.send(&features(after));
        wire
    }

    /// The initiator's header, and ours.
    #[track_caller]
    fn answer_header(&self, wire: &mut Wire) {
        let header = wire.header();
        assert_eq!(header.attr("to"), Some(&*self.domain), "in {header}");
        let from = header.attr("from").unwrap_or_default().to_owned();
        wire.send(&self.header(&from, " id='of-a-test'"));
    }

    /// Ours to somebody.
    pub fn header(&self, to: &str, more: &str) -> String {
        header(&self.domain, to, more)
    }

    /// Calls somebody from this place; nothing is said yet.
    #[track_caller]
    pub fn call(&self, address: SocketAddr) -> Wire {
        let called = self.place.inside(|| TcpStream::connect(address));
        Wire::over(called.unwrap_or_else(|error| panic!("{address} does not answer: {error}")))
    }

    /// Calls somebody who is reached by TLS from the first byte (XEP-0368), and opens a stream to
    /// this domain with our certificate; its features come back.
    #[track_caller]
    pub fn call_direct(&self, address: SocketAddr, domain: &str) -> (Wire, Element) {
        let mut wire = self.call(address);
        let outcome = wire.start_tls_as(&self.direct, domain);
        outcome.unwrap_or_else(|error| panic!("no TLS with {domain}: {error}"));
        let features = self.open(&mut wire, domain);
        (wire, features)
    }

    /// Calls the server of a domain and opens a stream under TLS with our certificate; its features
    /// come back.
    #[track_caller]
    pub fn call_stream(&self, address: SocketAddr, domain: &str) -> (Wire, Element) {
        let called = self.try_call_stream(address, domain);
        called.unwrap_or_else(|| panic!("{domain} does not want our certificate"))
    }

    /// The same, or `None` where the server ends the connection before its features under TLS.
    #[track_caller]
    pub fn try_call_stream(&self, address: SocketAddr, domain: &str) -> Option<(Wire, Element)> {
        let mut wire = self.call(address);
        wire.try_send_bytes(self.header(domain, "").as_bytes())
            .ok()?;
        loop {
            match wire.next() {
                Seen::Header(_) => {}
                Seen::Element(element) if element.is("features", ns::STREAM) => break,
                _ => return None,
            }
        }
        wire.send(&format!("<starttls xmlns='{}'/>", ns::TLS));
        let proceed = wire.element();
        assert!(proceed.is("proceed", ns::TLS), "got {proceed}");
        wire.restart();
        wire.start_tls_as(&self.identity, domain).ok()?;
        wire.try_send_bytes(self.header(domain, "").as_bytes())
            .ok()?;
        loop {
            match wire.next() {
                Seen::Header(_) => {}
                Seen::Element(element) if element.is("features", ns::STREAM) => {
                    return Some((wire, element));
                }
                _ => return None,
            }
        }
    }

    /// The same, and authenticates by SASL EXTERNAL: what follows are stanzas.
    #[track_caller]
    pub fn call_authenticated(&self, address: SocketAddr, domain: &str) -> Wire {
        let (wire, features) = self.call_stream(address, domain);
        self.authenticate(wire, &features, domain)
    }

    /// Authenticates by SASL EXTERNAL where these features were offered: what follows are stanzas.
    #[track_caller]
    pub fn authenticate(&self, mut wire: Wire, features: &Element, domain: &str) -> Wire {
        let mechanisms = features.must("mechanisms", ns::SASL);
        let external = mechanisms
            .children()
            .any(|mechanism| mechanism.text() == "EXTERNAL");
        assert!(external, "{features}");
        let authzid = STANDARD.encode(&self.domain);
        wire.send(&format!(
            "<auth xmlns='{}' mechanism='EXTERNAL'>{authzid}</auth>",
            ns::SASL
        ));
        let success = wire.element();
        assert!(success.is("success", ns::SASL), "got {success}");
        wire.restart();
        self.open(&mut wire, domain);
        wire
    }

    /// Our header, the answer to it, and the features.
    #[track_caller]
    fn open(&self, wire: &mut Wire, domain: &str) -> Element {
        wire.send(&self.header(domain, ""));
        let header = wire.header();
        assert_eq!(header.ns, ns::STREAM, "in {header}");
        let features = wire.element();
        assert!(features.is("features", ns::STREAM), "got {features}");
        features
    }
}

/// A server's header (RFC 6120 §4.7) that knows dialback.
pub fn header(from: &str, to: &str, more: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream from='{from}' to='{to}'{more} version='1.0' \
         xmlns='{SERVER}' xmlns:db='{DIALBACK}' xmlns:stream='{}'>",
        ns::STREAM
    )
}

/// Features with these in it.
pub fn features(inner: &str) -> String {
    format!("<stream:features>{inner}</stream:features>")
}

/// Waits until there is something to accept or to read.
pub(super) fn wait_for_input(listener: &TcpListener, patience: Duration) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let ms = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
    let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(ms)).expect("a socket");
}
