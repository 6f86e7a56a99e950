//! TLS of an HTTP client: a session with a server on the web that the authorities answer for.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::acceptor::{ALPN_HTTP, crypto};
use super::peer::Authorities;

/// Takes a connection through the handshake with `host`, a name or an address. The caller bounds
/// the time.
pub async fn connect_web(
    tcp: TcpStream,
    host: &str,
    authorities: &Authorities,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
    };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(literal.to_owned()).map_err(|error| invalid(&error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| invalid(&error))?
        .with_root_certificates(authorities.roots().clone())
        .with_no_client_auth();
    // Too seldom for a session to be worth remembering.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}
