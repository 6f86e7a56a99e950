//! One interface over a connection before and after it is secured.
//!
//! A connection's task waits with [`Transport::readable`], reads what is there
//! with [`Transport::try_read`], writes with [`Transport::try_write`] and, while
//! [`Transport::is_write_pending`], waits with [`Transport::writable`] for
//! [`Transport::try_flush`]. All of them are cancel-safe and none keeps a buffer
//! while there is nothing to do.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::tls::{
    Authorities, Entry, HandshakeError, PeerCertificate, ServerStream, TlsAcceptor, TlsStream,
};
use crate::stream::TlsInfo;

/// Plaintext that one read takes.
const PLAIN_READ_BYTES_MAX: usize = 4096;

/// Bytes that a closing connection takes and throws away, so that the kernel
/// does not answer what still arrives with a reset, which would destroy our last
/// words before the peer has read them.
const LINGER_BYTES_MAX: usize = 512 * 1024;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// That many bytes were appended.
    Bytes(usize),
    /// Nothing yet: wait for `readable`.
    Blocked,
    /// The peer sends nothing any more. We may still write.
    Closed,
}

/// A connection.
pub enum Transport {
    /// Plain TCP: a stream before STARTTLS.
    Plain(PlainStream),
    /// TLS.
    Tls(Box<TlsStream>),
    /// TLS to another server, where we are the client.
    Server(Box<ServerStream>),
}

/// A TCP connection with the interface of [`TlsStream`].
pub struct PlainStream {
    tcp: TcpStream,
}

impl Transport {
    /// A connection as it was accepted.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Self {
        Self::Plain(PlainStream { tcp })
    }

    /// Makes TLS of a plain connection; the caller bounds the time.
    ///
    /// Bytes that the client sent in the clear and that were read already stay
    /// with the caller, who must refuse them: they were never protected.
    pub async fn secure(
        self,
        acceptor: &TlsAcceptor,
        entry: Entry,
    ) -> Result<(Self, TlsInfo), HandshakeError> {
        self.secure_for(acceptor, entry, None).await
    }

    /// The same for a peer that has named the domain it wants, in the header of a
    /// stream without TLS: it gets the certificate of that.
    pub async fn secure_for(
        self,
        acceptor: &TlsAcceptor,
        entry: Entry,
        domain: Option<&str>,
    ) -> Result<(Self, TlsInfo), HandshakeError> {
        let tcp = match self {
            Self::Plain(stream) => stream.tcp,
            Self::Tls(_) | Self::Server(_) => {
                return Err(HandshakeError::Io(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the connection is secured already",
                )));
            }
        };
        let (stream, info) = TlsStream::accept_for(tcp, acceptor, entry, domain).await?;
        Ok((Self::Tls(stream), info))
    }

    /// The socket, if it carries no TLS yet.
    pub fn into_plain(self) -> Option<TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream.tcp),
            Self::Tls(_) | Self::Server(_) => None,
        }
    }

    /// What the other server has shown of itself in a handshake that it began.
    pub fn peer_certificate(&self, authorities: &Arc<Authorities>) -> Option<PeerCertificate> {
        match self {
            Self::Tls(stream) => Some(stream.peer_certificate(authorities)),
            Self::Plain(_) | Self::Server(_) => None,
        }
    }

    /// Waits, holding no buffer, until [`Transport::try_read`] may give bytes.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.tcp.readable().await,
            Self::Tls(stream) => stream.readable().await,
            Self::Server(stream) => stream.readable().await,
        }
    }

    /// Appends what has arrived to `into`, a bounded portion.
    pub fn try_read(&mut self, into: &mut BytesMut) -> io::Result<Read> {
        match self {
            Self::Plain(stream) => stream.try_read(into),
            Self::Tls(stream) => stream.try_read(into),
            Self::Server(stream) => stream.try_read(into),
        }
    }

    /// Bytes that have arrived and cannot be given to anybody yet: less than one
    /// TLS record, to be counted with what the stream holds.
    pub fn incomplete_bytes(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Server(_) => 0,
            Self::Tls(stream) => stream.incomplete_bytes(),
        }
    }

    /// Waits until [`Transport::try_write`] or [`Transport::try_flush`] may get on.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Takes bytes of `slices` in order, at most one TLS record of them, and says
    /// how many; `WouldBlock` while the socket is full.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => match write_some(&stream.tcp, slices)? {
                0 if slices.iter().any(|slice| !slice.is_empty()) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                sent => Ok(sent),
            },
            Self::Tls(stream) => stream.try_write(slices),
            Self::Server(stream) => stream.try_write(slices),
        }
    }

    /// Hands what was taken and kept to the socket; true once nothing is left.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(stream) => stream.try_flush(),
            Self::Server(stream) => stream.try_flush(),
        }
    }

    /// Bytes that were taken wait for the socket.
    pub fn is_write_pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.is_write_pending(),
            Self::Server(stream) => stream.is_write_pending(),
        }
    }

    /// Writes all of `bytes` to the socket. Not cancel-safe, unlike the rest:
    /// for last words and tests.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&[IoSlice::new(bytes)]) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.flush().await
    }

    /// Waits until the socket has taken everything.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.try_flush()? {
            self.writable().await?;
        }
        Ok(())
    }

    /// Ends the connection in order: what is kept, `close_notify`, the end of the
    /// TCP stream; then waits for the peer to end it too and ignores what it
    /// still sends. The caller bounds the time.
    pub async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        match &mut self {
            Self::Plain(_) => {}
            Self::Tls(stream) => stream.close_notify()?,
            Self::Server(stream) => stream.close_notify(),
        }
        self.flush().await?;
        let mut tcp = match self {
            Self::Plain(stream) => stream.tcp,
            Self::Tls(stream) => stream.into_tcp(),
            Self::Server(stream) => stream.into_tcp(),
        };
        tcp.shutdown().await?;
        let mut ignored = [0; 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            tcp.readable().await?;
            match tcp.try_read(&mut ignored) {
                Ok(0) => break,
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The connection beneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => &stream.tcp,
            Self::Tls(stream) => stream.tcp(),
            Self::Server(stream) => stream.tcp(),
        }
    }
}

impl PlainStream {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<Read> {
        let mut buffer = [0; PLAIN_READ_BYTES_MAX];
        match self.tcp.try_read(&mut buffer) {
            Ok(0) => Ok(Read::Closed),
            Ok(bytes) => {
                into.extend_from_slice(&buffer[..bytes]);
                Ok(Read::Bytes(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Blocked),
            Err(error) => Err(error),
        }
    }
}

/// Writes what the socket takes now, perhaps nothing.
pub(super) fn write_some(tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match tcp.try_write_vectored(slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
