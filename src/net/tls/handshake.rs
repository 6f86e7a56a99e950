//! The handshake of a session, and what is known of the session after it.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::hash::HashAlgorithm;
use tokio_rustls::rustls::server::{ServerConfig, UnbufferedServerConnection};
use tokio_rustls::rustls::{ProtocolVersion, SupportedCipherSuite};

use super::learnt::Learnt;
use super::{HandshakeError, Peer, SCRATCH, Step, TlsStream};
use crate::net::exporter::{self, SuiteHash};
use crate::stream::TlsInfo;

/// Goes by `config` with a client that has said `first` already: as much of it as was read.
pub(super) async fn handshake(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    mut first: Vec<u8>,
) -> Result<(Box<TlsStream>, TlsInfo), HandshakeError> {
    let connection = UnbufferedServerConnection::new(config).map_err(HandshakeError::Refused)?;
    let mut stream = Box::new(TlsStream {
        tcp,
        connection,
        incoming: Vec::new(),
        outgoing: Vec::new(),
        early: BytesMut::new(),
        peer: Peer::Talks,
    });
    let mut learnt = Some(Learnt::default());
    loop {
        let step = match std::mem::take(&mut first) {
            none if none.is_empty() => stream.handshake_step(&mut learnt)?,
            read => stream.handshake_step_with(&read, &mut learnt)?,
        };
        while !stream.try_flush()? {
            stream.tcp.writable().await?;
        }
        match step {
            Step::Established => break,
            Step::Blocked if stream.peer != Peer::Talks => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Step::Blocked => stream.tcp.readable().await?,
        }
    }
    let learnt = learnt.unwrap_or_default();
    let info = stream.info(&learnt).ok_or_else(|| {
        HandshakeError::Refused(rustls::Error::General("no secret for the exporter".into()))
    })?;
    Ok((stream, info))
}

impl TlsStream {
    /// Reads and processes one portion of the handshake.
    fn handshake_step(&mut self, learnt: &mut Option<Learnt>) -> Result<Step, HandshakeError> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(filled) = self.fill(&mut scratch.incoming)? else {
                return Ok(Step::Blocked);
            };
            self.process(&mut scratch.incoming[..filled], learnt)
        })
    }

    /// The same with what was read already: one record at most.
    fn handshake_step_with(
        &mut self,
        read: &[u8],
        learnt: &mut Option<Learnt>,
    ) -> Result<Step, HandshakeError> {
        SCRATCH.with_borrow_mut(|scratch| {
            let incoming = &mut scratch.incoming[..read.len()];
            incoming.copy_from_slice(read);
            self.process(incoming, learnt)
        })
    }

    fn process(
        &mut self,
        incoming: &mut [u8],
        learnt: &mut Option<Learnt>,
    ) -> Result<Step, HandshakeError> {
        let mut early = std::mem::take(&mut self.early);
        let (used, outcome) = self.advance(incoming, &mut early, learnt);
        self.keep(&incoming[used..])?;
        self.early = early;
        match outcome {
            Ok(step) => Ok(step),
            Err(error) => {
                // The alert, as far as the socket takes it.
                drop(self.try_flush());
                Err(HandshakeError::Refused(error))
            }
        }
    }

    fn info(&self, learnt: &Learnt) -> Option<TlsInfo> {
        let version = self.connection.protocol_version()?;
        let hash = match self.connection.negotiated_cipher_suite()? {
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.algorithm(),
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider.algorithm(),
        };
        let hash = match hash {
            HashAlgorithm::SHA256 => SuiteHash::Sha256,
            HashAlgorithm::SHA384 => SuiteHash::Sha384,
            _ => return None,
        };
        let secret = learnt.secret.as_ref()?;
        let (version, exporter) = match version {
            ProtocolVersion::TLSv1_3 => ("TLSv1.3", exporter::tls13(hash, secret.bytes())),
            ProtocolVersion::TLSv1_2 => (
                "TLSv1.2",
                exporter::tls12(
                    hash,
                    secret.bytes(),
                    &secret.client_random,
                    &learnt.server_random?,
                ),
            ),
            _ => return None,
        };
        Some(TlsInfo {
            version,
            sni: learnt.sni.clone(),
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            exporter: Some(exporter),
            server_end_point: learnt.server_end_point.clone(),
        })
    }
}
