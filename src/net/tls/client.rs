//! TLS of the client side, for the command line: one blocking connection to a server that is known
//! by its fingerprint, or by the authorities that the system trusts.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::acceptor::{ALPN_CLIENT, ALPN_HTTP, ALPN_SERVER, Entry, crypto};
use crate::crypto::{Hash, constant_time_eq};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);

/// The SHA-256 of a server's certificate (DER), by which it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

/// A connection to a server.
pub struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

/// Why there is no connection.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers, or not in time.
    Unreachable(io::Error),
    /// The certificate is another one than was pinned.
    OtherCertificate {
        /// Its fingerprint.
        shown: Pin,
    },
    /// No authority that the system trusts answers for the certificate.
    Untrusted {
        /// Why.
        why: String,
        /// Its fingerprint, where it was shown.
        shown: Option<Pin>,
    },
    /// The handshake failed.
    Handshake(io::Error),
}

impl TlsClient {
    /// Connects, and completes the handshake, to `host` (a name or an address), for what `entry`
    /// serves. Each later read and write may take `patience`.
    pub fn connect(
        host: &str,
        port: u16,
        entry: Entry,
        pin: Option<Pin>,
        patience: Duration,
    ) -> Result<TlsClient, ClientError> {
        let unreachable = ClientError::Unreachable;
        let addresses = (host, port).to_socket_addrs().map_err(unreachable)?;
        let mut tcp = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in addresses {
            tcp = TcpStream::connect_timeout(&address, CONNECT);
            if tcp.is_ok() {
                break;
            }
        }
        let mut tcp = tcp.map_err(unreachable)?;
        tcp.set_read_timeout(Some(CONNECT)).map_err(unreachable)?;
        tcp.set_write_timeout(Some(CONNECT)).map_err(unreachable)?;
        drop(tcp.set_nodelay(true));
        let seen = Arc::new(Mutex::new(None));
        let config = Arc::new(config(entry, pin, &seen)?);
        let invalid = |error: &dyn fmt::Display| {
            ClientError::Handshake(io::Error::new(
                io::ErrorKind::InvalidInput,
                error.to_string(),
            ))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| invalid(&error))?;
        let mut tls = ClientConnection::new(config, name).map_err(|error| invalid(&error))?;
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut tcp) {
                let shown = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(explain(error, pin, shown));
            }
        }
        tcp.set_read_timeout(Some(patience)).map_err(unreachable)?;
        tcp.set_write_timeout(Some(patience)).map_err(unreachable)?;
        Ok(TlsClient(StreamOwned::new(tls, tcp)))
    }
}

impl Pin {
    /// The fingerprint of a certificate (DER).
    #[must_use]
    pub fn of(der: &[u8]) -> Pin {
        let mut pin = [0; 32];
        pin.copy_from_slice(Hash::Sha256.digest(der).as_bytes());
        Pin(pin)
    }

    /// Reads 64 hexadecimal digits, with or without colons between.
    #[must_use]
    pub fn parse(text: &str) -> Option<Pin> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !matches!(byte, b':' | b' '))
            .map(|digit| char::from(digit).to_digit(16))
            .map(|digit| digit.and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let (pairs, []) = digits.as_chunks::<2>() else {
            return None;
        };
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        bytes.try_into().ok().map(Pin)
    }
}

impl fmt::Display for Pin {
    /// Upper case with colons, as other programs show fingerprints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

fn config(
    entry: Entry,
    pin: Option<Pin>,
    seen: &Arc<Mutex<Option<Pin>>>,
) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(crypto());
    let algorithms = provider.signature_verification_algorithms;
    let mut roots = RootCertStore::empty();
    if pin.is_none() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let by_authority = match roots.is_empty() {
        true => None,
        false => {
            let built = tokio_rustls::rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::clone(&provider),
            );
            built.build().ok()
        }
    };
    let verifier = Verifier {
        pin,
        by_authority,
        algorithms,
        seen: Arc::clone(seen),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| ClientError::Handshake(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let alpn = match entry {
        Entry::Https => ALPN_HTTP,
        Entry::StartTls | Entry::Direct => ALPN_CLIENT,
        Entry::ServerStartTls | Entry::ServerDirect => ALPN_SERVER,
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn explain(error: io::Error, pin: Option<Pin>, shown: Option<Pin>) -> ClientError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match (inner, pin, shown) {
        (Some(Error::InvalidCertificate(_)), Some(pin), Some(shown)) if pin != shown => {
            ClientError::OtherCertificate { shown }
        }
        (Some(why @ Error::InvalidCertificate(_)), None, shown) => ClientError::Untrusted {
            why: why.to_string(),
            shown,
        },
        _ => ClientError::Handshake(error),
    }
}

/// Checks the certificate against the pin, or else by the authorities; that the server has its key
/// is checked in both cases.
#[derive(Debug)]
struct Verifier {
    pin: Option<Pin>,
    by_authority: Option<Arc<tokio_rustls::rustls::client::WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<Mutex<Option<Pin>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Pin::of(end_entity);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        let unknown =
            Error::InvalidCertificate(tokio_rustls::rustls::CertificateError::UnknownIssuer);
        match (self.pin, &self.by_authority) {
            (Some(pin), _) => match constant_time_eq(&pin.0, &shown.0) {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(unknown),
            },
            (None, Some(authorities)) => {
                authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            (None, None) => Err(unknown),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Read for TlsClient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for TlsClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(
                f,
                "nobody answers there: {error}; check the name, the port and [listen] https"
            ),
            Self::OtherCertificate { shown } => write!(
                f,
                "the server shows another certificate than the pinned one, with the fingerprint \
                 {shown}: compare it with the one on the server's console"
            ),
            Self::Untrusted {
                why,
                shown: Some(shown),
            } => write!(
                f,
                "the server's certificate is not trusted ({why}): if {shown} is the fingerprint \
                 that its console shows, name it with --pin"
            ),
            Self::Untrusted { why, shown: None } => {
                write!(f, "the server's certificate is not trusted: {why}")
            }
            Self::Handshake(error) => write!(f, "no TLS session with the server: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        let pin = Pin::of(b"a certificate");
        assert_eq!(Pin::parse(&pin.to_string()), Some(pin));
        let bare = pin.to_string().replace(':', "").to_lowercase();
        assert_eq!(Pin::parse(&bare), Some(pin));
        for wrong in [
            "",
            "AB",
            &bare[1..],
            &format!("{bare}00"),
            "é",
            &"g".repeat(64),
        ] {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }
}
