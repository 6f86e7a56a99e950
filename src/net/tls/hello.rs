//! The first words of a client, looked at before it is chosen how they are answered: several
//! protocols share a port, and what a session goes by differs between them.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::rustls::server::Acceptor;

use super::acceptor::{ALPN_CLIENT, ALPN_HTTP, ALPN_SERVER, Entry};

/// Bytes that are read to find out; a real ClientHello has some hundred, with keys that withstand
/// quantum computers two thousand. They are held twice meanwhile, which is together what a
/// handshake may hold anyway: a record. Who says more is served as HTTP is.
const HELLO_BYTES_MAX: usize = 8 * 1024;

/// What is read at once.
const PORTION_BYTES: usize = 2_048;

/// Reads until a client has said which protocol it wants (RFC 7301), and returns what was read with
/// the way that it is served: as another server only where those are served. Cancel-safe in that
/// the connection is lost with it.
pub(super) async fn wanted(tcp: &TcpStream, serves_servers: bool) -> io::Result<(Vec<u8>, Entry)> {
    let mut acceptor = Acceptor::default();
    let mut first = Vec::new();
    loop {
        tcp.readable().await?;
        match take(tcp, &mut acceptor, &mut first)? {
            Step::Unsaid => {}
            Step::Said(Some(Entry::ServerDirect)) if !serves_servers => {
                return Ok((first, Entry::Https));
            }
            Step::Said(entry) => return Ok((first, entry.unwrap_or(Entry::Https))),
        }
    }
}

enum Step {
    /// It has not said all that it says first.
    Unsaid,
    /// It has; `None` where it wants none of the protocols of XMPP, or what it says is no TLS.
    Said(Option<Entry>),
}

/// Reads what there is.
fn take(tcp: &TcpStream, acceptor: &mut Acceptor, first: &mut Vec<u8>) -> io::Result<Step> {
    let mut portion = [0; PORTION_BYTES];
    let room = PORTION_BYTES.min(HELLO_BYTES_MAX - first.len());
    let count = match tcp.try_read(&mut portion[..room]) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Unsaid),
        Err(error) => return Err(error),
    };
    first.extend_from_slice(&portion[..count]);
    let mut unread = &portion[..count];
    while !unread.is_empty() {
        if !matches!(acceptor.read_tls(&mut unread), Ok(1..)) {
            return Ok(Step::Said(None));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
                return Ok(Step::Said(way_of(&offered)));
            }
            Ok(None) => {}
            // Who serves it finds the same, and has the words for it.
            Err(_) => return Ok(Step::Said(None)),
        }
    }
    Ok(match first.len() < HELLO_BYTES_MAX {
        true => Step::Unsaid,
        false => Step::Said(None),
    })
}

/// Nobody wants HTTP and XMPP at once; who says so gets HTTP.
fn way_of(offered: &[&[u8]]) -> Option<Entry> {
    let ways = [
        (ALPN_HTTP, Entry::Https),
        (ALPN_CLIENT, Entry::Direct),
        (ALPN_SERVER, Entry::ServerDirect),
    ];
    let found = ways.iter().find(|(name, _)| offered.contains(name));
    found.map(|(_, entry)| *entry)
}
