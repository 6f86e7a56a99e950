//! TLS of the initiating entity: a session with another server, over a connection that we opened.
//!
//! There are as many of these as servers that are talked with, a few thousand at most: unlike a
//! client's session it may hold rustls' own buffers.

use std::fmt;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, client::ResolvesClientCert};

use super::acceptor::{ALPN_CLIENT, ALPN_HTTP, ALPN_SERVER, Entry, crypto};
use super::peer::{Authorities, Dane, PeerCertificate, TakesAny};
use crate::addr::Jid;
use crate::addr::domain::to_ascii;
use crate::net::transport::Read;

/// Plaintext that waits for the socket at most.
const BUFFERED_BYTES_MAX: usize = 64 * 1024;

/// Plaintext that one read gives at most.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The client's side of one TLS session with another server.
pub struct ServerStream {
    tcp: TcpStream,
    tls: ClientConnection,
    /// The peer sends nothing more.
    is_over: bool,
}

/// How a session with another server is begun.
pub struct Connect<'a> {
    /// The domain that is to be spoken with: it is asked for by SNI (RFC 6120 §13.7.2).
    pub domain: &'a Jid,
    /// The key that we show ourselves with.
    pub key: OwnKey,
    /// TLS comes first (XEP-0368): ALPN says what for.
    pub is_direct: bool,
    /// Who may answer for the peer.
    pub authorities: &'a Arc<Authorities>,
    /// What its signed zone says of its certificate.
    pub dane: &'a Dane,
}

/// A certificate of ours with its key.
#[derive(Clone)]
pub struct OwnKey(pub(super) Arc<CertifiedKey>);

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnKey")
    }
}

impl ServerStream {
    /// Takes a connection through the handshake. The caller bounds the time.
    pub async fn connect(
        tcp: TcpStream,
        connect: Connect<'_>,
    ) -> io::Result<(Box<ServerStream>, PeerCertificate)> {
        let config = config(&connect)?;
        let stream = ServerStream::shake_hands(tcp, config, connect.domain).await?;
        let chain = stream.tls.peer_certificates();
        let now = UnixTime::now();
        let peer = PeerCertificate::called(chain, connect.authorities, connect.dane, now);
        Ok((stream, peer))
    }

    /// Takes a connection through the handshake to see what is shown there: as somebody who shows
    /// nothing, for what `entry` serves. The caller bounds the time.
    pub async fn look(
        tcp: TcpStream,
        entry: Entry,
        domain: &Jid,
        authorities: &Arc<Authorities>,
    ) -> io::Result<(Box<ServerStream>, PeerCertificate)> {
        let config = looking(entry)?;
        let stream = ServerStream::shake_hands(tcp, config, domain).await?;
        let chain = stream.tls.peer_certificates();
        let peer = PeerCertificate::new(chain, authorities, UnixTime::now());
        Ok((stream, peer))
    }

    async fn shake_hands(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        domain: &Jid,
    ) -> io::Result<Box<ServerStream>> {
        let name = server_name(domain)?;
        let mut tls = ClientConnection::new(config, name).map_err(invalid)?;
        tls.set_buffer_limit(Some(BUFFERED_BYTES_MAX));
        let mut stream = Box::new(ServerStream {
            tcp,
            tls,
            is_over: false,
        });
        while stream.tls.is_handshaking() {
            if !stream.try_flush()? {
                stream.tcp.writable().await?;
                continue;
            }
            if stream.tls.wants_read() {
                stream.tcp.readable().await?;
                match stream.receive() {
                    Ok(true) => {}
                    Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        // The alert, as far as the socket takes it.
                        drop(stream.try_flush());
                        return Err(error);
                    }
                }
            }
        }
        while !stream.try_flush()? {
            stream.tcp.writable().await?;
        }
        Ok(stream)
    }

    /// The connection beneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The connection beneath, for the last words of TCP.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// See [`Transport::readable`](crate::net::transport::Transport::readable).
    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// See [`Transport::try_read`](crate::net::transport::Transport::try_read).
    pub fn try_read(&mut self, into: &mut BytesMut) -> io::Result<Read> {
        match self.take(into)? {
            0 if self.is_over => return Ok(Read::Closed),
            0 => {}
            bytes => return Ok(Read::Bytes(bytes)),
        }
        match self.receive() {
            Ok(true) => {}
            Ok(false) => self.is_over = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Blocked),
            Err(error) => {
                drop(self.try_flush());
                return Err(error);
            }
        }
        // An answer of the protocol, such as to a KeyUpdate.
        self.try_flush()?;
        match self.take(into)? {
            0 if self.is_over => Ok(Read::Closed),
            0 => Ok(Read::Blocked),
            bytes => Ok(Read::Bytes(bytes)),
        }
    }

    /// See [`Transport::try_write`](crate::net::transport::Transport::try_write).
    pub fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        self.try_flush()?;
        Ok(taken)
    }

    /// Hands kept ciphertext to the socket; true once none is left.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Ciphertext waits for the socket.
    pub fn is_write_pending(&self) -> bool {
        self.tls.wants_write()
    }

    /// Queues `close_notify` (RFC 8446 §6.1).
    pub fn close_notify(&mut self) {
        self.tls.send_close_notify();
    }

    /// Takes what is decrypted, a bounded portion.
    fn take(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < READ_BYTES_MAX {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => {
                    self.is_over = true;
                    break;
                }
                Ok(bytes) => {
                    into.extend_from_slice(&buffer[..bytes]);
                    taken += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Ended by TCP alone: the stream's footer tells a cut from an end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.is_over = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Takes what the socket has and decrypts it; false at its end.
    fn receive(&mut self) -> io::Result<bool> {
        let bytes = self.tls.read_tls(&mut Socket(&self.tcp))?;
        self.tls.process_new_packets().map_err(invalid)?;
        Ok(bytes > 0)
    }
}

/// A socket as rustls wants it: what would block is an error.
struct Socket<'a>(&'a TcpStream);

impl io::Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows one certificate to whoever asks for one.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn config(connect: &Connect<'_>) -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?
        .dangerous()
        .with_custom_certificate_verifier(TakesAny::new())
        .with_client_cert_resolver(Arc::new(Shows(Arc::clone(&connect.key.0))));
    config.require_ems = true;
    // A certificate is looked at in each session.
    config.resumption = Resumption::disabled();
    if connect.is_direct {
        config.alpn_protocols = vec![ALPN_SERVER.to_vec()];
    }
    Ok(Arc::new(config))
}

fn looking(entry: Entry) -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(invalid)?
        .dangerous()
        .with_custom_certificate_verifier(TakesAny::new())
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match entry {
        Entry::Direct => vec![ALPN_CLIENT.to_vec()],
        Entry::ServerDirect => vec![ALPN_SERVER.to_vec()],
        Entry::Https => vec![ALPN_HTTP.to_vec()],
        Entry::StartTls | Entry::ServerStartTls => Vec::new(),
    };
    Ok(Arc::new(config))
}

fn server_name(domain: &Jid) -> io::Result<ServerName<'static>> {
    let text = domain.domain();
    let literal = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<std::net::IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    let ascii = to_ascii(text).ok_or(io::ErrorKind::InvalidInput)?;
    ServerName::try_from(ascii.into_owned()).map_err(invalid)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
