//! A client that is cheap enough to have thousands of: it writes literal XML, and of what it
//! reads it only counts what it waits for.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Whatever goes wrong ends the run.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One connection.
pub struct Client {
    tls: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// One TLS configuration for all of them, without resumption: every log-in pays in full.
pub fn connector() -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring knows both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

impl Client {
    /// Connects to a port on this machine and does the handshake.
    pub async fn connect(connector: &TlsConnector, port: u16) -> Outcome<Client> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = connector.connect(name, tcp).await?;
        Ok(Client {
            tls,
            buffer: Vec::new(),
        })
    }

    /// Writes text as it is. Without the flush tokio-rustls may keep a record to itself, when the
    /// runtime's budget for one poll is used up.
    pub async fn send(&mut self, text: &str) -> Outcome<()> {
        self.tls.write_all(text.as_bytes()).await?;
        self.tls.flush().await?;
        Ok(())
    }

    /// Reads until `needle` has come; returns what came up to its end.
    pub async fn until(&mut self, needle: &str) -> Outcome<String> {
        let mut searched = 0;
        loop {
            let from = searched.min(self.buffer.len());
            if let Some(found) = find(&self.buffer[from..], needle.as_bytes()) {
                let end = from + found + needle.len();
                let rest = self.buffer.split_off(end);
                let text = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8(text)?);
            }
            searched = self.buffer.len().saturating_sub(needle.len());
            let mut chunk = [0; 4096];
            let read = self.tls.read(&mut chunk).await?;
            if read == 0 {
                let so_far = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(format!("closed while waiting for {needle}: {so_far}").into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// Opens a stream and reads its features.
    pub async fn open(&mut self) -> Outcome<String> {
        self.send(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             to='localhost' version='1.0'>",
        )
        .await?;
        self.until("</stream:features>").await
    }

    /// What follows a successful authentication: bind, roster, presence; until its own presence
    /// has come back.
    pub async fn begin(&mut self) -> Outcome<()> {
        self.buffer.clear();
        self.open().await?;
        self.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>l</resource></bind></iq>")
            .await?;
        self.until("</iq>").await?;
        self.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
            .await?;
        self.until("id='r'").await?;
        self.send("<presence/><iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
            .await?;
        self.until("id='p'").await?;
        Ok(())
    }

    /// Turns stream management on.
    pub async fn enable_management(&mut self) -> Outcome<()> {
        self.send("<enable xmlns='urn:xmpp:sm:3'/>").await?;
        self.until("<enabled").await?;
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            schemes,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            schemes,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
