//! TLS. This file and its folder alone name rustls.
//!
//! Sessions use rustls' *unbuffered* connections: bytes are decrypted and
//! encrypted in scratch buffers that belong to the worker thread, so a session
//! that waits holds its keys and nothing else. What can remain between two
//! calls is bounded: less than one incoming record, and what one outgoing
//! record left over when the socket was full.
//!
//! TLS 1.3 and TLS 1.2, the latter with AEAD suites and the extended master
//! secret only (without which its exporter binds nothing, RFC 9266 §4.2).

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use tokio_rustls::rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic,
};

use super::transport::{Read, write_some};
use crate::stream::TlsInfo;
use handshake::handshake;
use learnt::{Learnt, capture};

pub use acceptor::{Entry, ShownProof, TlsAcceptor};
pub use carrier::Carrier;
pub use choice::HostPem;
pub use client::{ClientError, Pin, TlsClient};
pub use connector::{Connect, OwnKey, ServerStream};
pub use peer::{Authorities, Dane, PeerCertificate};
pub use web::connect_web;

mod acceptor;
mod carrier;
mod choice;
mod client;
mod connector;
mod handshake;
mod hello;
mod learnt;
mod peer;
mod web;

/// Largest TLS record on the wire that rustls accepts.
const RECORD_BYTES_MAX: usize = 16_384 + 2_048 + 5;

/// Ciphertext that one read takes from the socket, together with what was kept
/// of a record: one whole record always fits.
const READ_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// Plaintext that one write takes: one full record.
const WRITE_BYTES_MAX: usize = 16_384;

/// What a session can hold between two calls, worst case: most of an incoming
/// record and most of an outgoing one.
#[cfg(test)]
const KEPT_BYTES_MAX: usize = RECORD_BYTES_MAX + WRITE_BYTES_MAX + 512;

/// Why a client and we came to no TLS session.
#[derive(Debug)]
pub enum HandshakeError {
    /// The connection failed or ended.
    Io(io::Error),
    /// The client does not speak TLS, or none that we accept.
    Refused(rustls::Error),
}

/// The server's side of one TLS session over TCP.
///
/// Every method that takes bytes is cancel-safe: what a call could not finish
/// is kept here and the next call continues it.
pub struct TlsStream {
    tcp: TcpStream,
    connection: UnbufferedServerConnection,
    /// Ciphertext of a record that has not arrived whole.
    incoming: Vec<u8>,
    /// Ciphertext that the socket has not taken yet.
    outgoing: Vec<u8>,
    /// Plaintext that came with the last flight of the handshake.
    early: BytesMut,
    peer: Peer,
}

/// What is to be expected from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// It may send.
    Talks,
    /// It ended its direction, by `close_notify` or only by TCP.
    Ended,
    /// It broke the protocol: nothing goes either way but our alert.
    Broken,
}

impl TlsStream {
    /// Takes a connection through the handshake. The caller bounds the time.
    ///
    /// The handshake's future is a box of its own, so that what it needs is
    /// gone once the session stands.
    pub async fn accept(
        tcp: TcpStream,
        acceptor: &TlsAcceptor,
        entry: Entry,
    ) -> Result<(Box<Self>, TlsInfo), HandshakeError> {
        Self::accept_for(tcp, acceptor, entry, None).await
    }

    /// The same for a peer that has asked for `domain` before, in the header of its
    /// stream. With [`Entry::StartTls`] and [`Entry::ServerStartTls`] that chooses the certificate: it is the name
    /// that a client verifies (RFC 6120 §13.7.2.1), and the name in the handshake
    /// says nothing more (RFC 7590 §3.6), at best the same. Otherwise there is only
    /// that name to choose by; whether the stream then asks for the same domain is
    /// the client's affair, which has looked at the certificate.
    pub async fn accept_for(
        tcp: TcpStream,
        acceptor: &TlsAcceptor,
        entry: Entry,
        domain: Option<&str>,
    ) -> Result<(Box<Self>, TlsInfo), HandshakeError> {
        Box::pin(handshake(tcp, acceptor.config(entry, domain), Vec::new())).await
    }

    /// The same on a port that several protocols share: a client that offers `xmpp-client` is
    /// accepted as with [`Entry::Direct`], one that offers `xmpp-server` as with
    /// [`Entry::ServerDirect`] where other servers are served, all others as with
    /// [`Entry::Https`]. Says which it was.
    pub async fn accept_any(
        tcp: TcpStream,
        acceptor: &TlsAcceptor,
        serves_servers: bool,
    ) -> Result<(Box<Self>, TlsInfo, Entry), HandshakeError> {
        Box::pin(async move {
            let (first, entry) = hello::wanted(&tcp, serves_servers).await?;
            let (stream, info) = handshake(tcp, acceptor.config(entry, None), first).await?;
            Ok((stream, info, entry))
        })
        .await
    }

    /// What the peer has shown of itself, where it was asked ([`Entry::ServerStartTls`],
    /// [`Entry::ServerDirect`]).
    pub fn peer_certificate(&self, authorities: &Arc<Authorities>) -> PeerCertificate {
        let chain = self.connection.peer_certificates();
        PeerCertificate::new(chain, authorities, UnixTime::now())
    }

    /// The connection beneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// An authority has looked at a proof: nothing more is said (RFC 8737 §3).
    pub fn is_proof(&self) -> bool {
        self.connection.alpn_protocol() == Some(acceptor::ALPN_PROOF)
    }

    /// The session continues an earlier one by its ticket.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Forgets the session and gives back the connection.
    #[must_use]
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Waits, holding no buffer, until [`TlsStream::try_read`] may give bytes or
    /// says that there are no more.
    pub async fn readable(&self) -> io::Result<()> {
        if !self.early.is_empty() || self.peer != Peer::Talks {
            return Ok(());
        }
        self.tcp.readable().await
    }

    /// Appends what has arrived to `into`, some 37 kB at most.
    pub fn try_read(&mut self, into: &mut BytesMut) -> io::Result<Read> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            into.extend_from_slice(&early);
            return Ok(Read::Bytes(early.len()));
        }
        if self.peer != Peer::Talks {
            return Ok(Read::Closed);
        }
        let before = into.len();
        let step = SCRATCH.with_borrow_mut(|scratch| {
            let Some(filled) = self.fill(&mut scratch.incoming)? else {
                return Ok(None);
            };
            let incoming = &mut scratch.incoming[..filled];
            let (used, step) = self.advance(incoming, into, &mut None);
            self.keep(&incoming[used..])?;
            Ok::<_, io::Error>(Some(step))
        })?;
        if !self.outgoing.is_empty() {
            // An alert, perhaps the last thing the peer hears from us.
            drop(self.try_flush());
        }
        match step {
            None => return Ok(Read::Blocked),
            Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Some(Ok(_)) => {}
        }
        match into.len() - before {
            0 if self.peer != Peer::Talks => Ok(Read::Closed),
            0 => Ok(Read::Blocked),
            bytes => Ok(Read::Bytes(bytes)),
        }
    }

    /// Waits until [`TlsStream::try_write`] or [`TlsStream::try_flush`] may get on.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Encrypts up to one record of `slices`, gathered, and hands it to the
    /// socket. Says how many bytes it took; they are on their way or kept.
    ///
    /// While an earlier record waits for the socket nothing is taken and the
    /// error is `WouldBlock`: a slow reader costs one record, never more.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch {
                plain, outgoing, ..
            } = scratch;
            let plain = gather(slices, plain);
            if plain.is_empty() {
                return Ok(0);
            }
            outgoing.clear();
            self.encrypt(plain, outgoing)?;
            let taken = plain.len();
            if self.outgoing.is_empty() {
                let sent = write_some(&self.tcp, &[IoSlice::new(outgoing)])?;
                self.outgoing.extend_from_slice(&outgoing[sent..]);
            } else {
                // The protocol had something to say first.
                self.outgoing.extend_from_slice(outgoing);
                self.try_flush()?;
            }
            Ok(taken)
        })
    }

    /// Hands kept ciphertext to the socket; true once none is left.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        if self.outgoing.is_empty() {
            return Ok(true);
        }
        let sent = write_some(&self.tcp, &[IoSlice::new(&self.outgoing)])?;
        if sent < self.outgoing.len() {
            self.outgoing.drain(..sent);
            return Ok(false);
        }
        self.outgoing = Vec::new();
        Ok(true)
    }

    /// Bytes of a record that has not arrived whole.
    pub fn incomplete_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Ciphertext waits for the socket.
    pub fn is_write_pending(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Queues `close_notify` (RFC 8446 §6.1): the end of what we send, which the
    /// peer can tell from a cut. Nothing may be written afterwards. After an
    /// alert there is nothing to add.
    pub fn close_notify(&mut self) -> io::Result<()> {
        if self.peer == Peer::Broken {
            return Ok(());
        }
        let mut outgoing = Vec::new();
        self.in_traffic(|traffic| {
            grow_until_it_fits(&mut outgoing, 64, |out| {
                match traffic.queue_close_notify(out) {
                    Err(EncryptError::InsufficientSize(e)) => Err(Grow::To(e.required_size)),
                    Err(EncryptError::EncryptExhausted) => Err(Grow::Never),
                    Ok(written) => Ok(written),
                }
            })
        })?;
        self.outgoing.extend_from_slice(&outgoing);
        Ok(())
    }
}

/// Where a session stands after all that arrived was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The handshake waits for the client.
    Blocked,
    /// The session carries data.
    Established,
}

impl TlsStream {
    /// Puts what was kept and what the socket has into `buffer`; None while
    /// there is nothing new. Notes the end of the peer's bytes.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let kept = self.incoming.len();
        buffer[..kept].copy_from_slice(&self.incoming);
        match self.tcp.try_read(&mut buffer[kept..]) {
            Ok(0) => {
                self.peer = Peer::Ended;
                Ok(Some(kept))
            }
            Ok(bytes) => Ok(Some(kept + bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what could not be processed yet: a part of a record, or fragments
    /// of a message, for which one record is more than any real one needs.
    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.len() > RECORD_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a TLS message larger than any that the protocol needs",
            ));
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    /// Processes `incoming` as far as it goes: plaintext to `plain`, answers of
    /// the protocol to `self.outgoing`. Says how many bytes are used up.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        plain: &mut BytesMut,
        learnt: &mut Option<Learnt>,
    ) -> (usize, Result<Step, rustls::Error>) {
        let mut used = 0;
        loop {
            let status = capture(learnt, || {
                self.connection.process_tls_records(&mut incoming[used..])
            });
            let mut discard = status.discard;
            let step = match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let from = self.outgoing.len();
                    encode(&mut data, &mut self.outgoing);
                    if let Some(learnt) = learnt {
                        learnt.note_server_hello(&self.outgoing[from..]);
                    }
                    None
                }
                // The bytes are in `outgoing`, which nothing overtakes.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer = Peer::Ended;
                    None
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    Some(Ok(Step::Established))
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(Step::Blocked)),
                // Early data is not offered, and a new state is not one we know.
                Ok(_) => Some(Err(rustls::Error::General("unexpected state".into()))),
                Err(error) => {
                    self.encode_alert(&mut incoming[used..]);
                    // What it choked on is not kept.
                    return (incoming.len(), Err(error));
                }
            };
            used += discard;
            if let Some(step) = step {
                return (used, step);
            }
        }
    }

    /// After an error rustls has an alert, and perhaps what it wanted to answer
    /// before. The bytes that it choked on must not be shown to it again.
    fn encode_alert(&mut self, incoming: &mut [u8]) {
        self.peer = Peer::Broken;
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(incoming);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
                return;
            };
            encode(&mut data, &mut self.outgoing);
        }
    }

    /// Encrypts `plain` (one record at most) behind what `outgoing` holds.
    fn encrypt(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        // The record, and an answer to a KeyUpdate.
        let hint = plain.len() + 128;
        self.in_traffic(|traffic| {
            grow_until_it_fits(outgoing, hint, |out| match traffic.encrypt(plain, out) {
                Err(EncryptError::InsufficientSize(e)) => Err(Grow::To(e.required_size)),
                Err(EncryptError::EncryptExhausted) => Err(Grow::Never),
                Ok(written) => Ok(written),
            })
        })
    }

    /// Runs `action` in the state in which rustls takes data to send.
    fn in_traffic(
        &mut self,
        action: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.peer == Peer::Broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // rustls counts in the buffer of an unfinished message, so it must see it.
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut used = 0;
        let mut action = Some(action);
        let outcome = loop {
            let status = self.connection.process_tls_records(&mut incoming[used..]);
            used += status.discard;
            match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let action = action.take().expect("the loop ends here");
                    break action(&mut traffic);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.outgoing);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer = Peer::Ended,
                Ok(_) => break Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => {
                    self.peer = Peer::Broken;
                    break Err(io::Error::new(io::ErrorKind::BrokenPipe, error));
                }
            }
        };
        incoming.drain(..used);
        self.incoming = incoming;
        outcome
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; READ_BYTES_MAX].into_boxed_slice(),
        plain: Vec::with_capacity(WRITE_BYTES_MAX),
        outgoing: Vec::new(),
    });
}

/// Buffers of a worker thread, for the time of one call.
struct Scratch {
    incoming: Box<[u8]>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
}

/// Appends one encoded chunk to `outgoing`.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    let encoded = grow_until_it_fits(outgoing, 0, |out| match data.encode(out) {
        Err(EncodeError::InsufficientSize(e)) => Err(Grow::To(e.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(Grow::Never),
        Ok(written) => Ok(written),
    });
    debug_assert!(encoded.is_ok(), "a chunk is encoded once");
}

/// What an attempt to write into too small a buffer asks for.
enum Grow {
    To(usize),
    Never,
}

/// Appends what `write` produces, giving it `hint` bytes of room, then what it
/// asks for.
fn grow_until_it_fits(
    buffer: &mut Vec<u8>,
    hint: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Grow>,
) -> io::Result<()> {
    let from = buffer.len();
    buffer.resize(from + hint, 0);
    loop {
        match write(&mut buffer[from..]) {
            Ok(written) => {
                buffer.truncate(from + written);
                return Ok(());
            }
            Err(Grow::To(required)) if from + required > buffer.len() => {
                buffer.resize(from + required, 0);
            }
            Err(_) => {
                buffer.truncate(from);
                return Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the TLS session's keys are used up",
                ));
            }
        }
    }
}

/// One contiguous record's worth of `slices`: the first one itself where it is
/// all there is, else a copy in `scratch`.
fn gather<'a>(slices: &'a [IoSlice<'_>], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if let [only] = slices {
        return &only[..only.len().min(WRITE_BYTES_MAX)];
    }
    scratch.clear();
    for slice in slices {
        let room = WRITE_BYTES_MAX - scratch.len();
        scratch.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    scratch
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection ended in the TLS handshake: {error}"),
            Self::Refused(error) => write!(f, "the TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests;
