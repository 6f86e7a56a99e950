//! The server's side of the configuration: certificate, versions, tickets.

use std::sync::{Arc, RwLock};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring as provider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::super::certificate::{self, Pem};
use super::connector::OwnKey;
use super::learnt::{CaptureSecret, Resolver};
use super::peer::TakesAny;

/// The ALPN protocol of a client stream over direct TLS (XEP-0368 §4).
pub(super) const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// The ALPN protocol of a stream between servers over direct TLS (XEP-0368 §4).
pub(super) const ALPN_SERVER: &[u8] = b"xmpp-server";

/// The ALPN protocol of HTTP/1.1 (RFC 7301 §6).
pub(super) const ALPN_HTTP: &[u8] = b"http/1.1";

/// How a client comes to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `<starttls/>` on a plain stream (RFC 6120 §5). ALPN is not looked at.
    StartTls,
    /// TLS from the first byte (XEP-0368). A client that offers ALPN must offer
    /// `xmpp-client`; one that offers none is let in.
    Direct,
    /// HTTP over TLS. A client that offers ALPN must offer `http/1.1`.
    Https,
    /// `<starttls/>` on a stream of another server, which is asked for its certificate.
    ServerStartTls,
    /// TLS from the first byte for another server (XEP-0368). One that offers ALPN must offer
    /// `xmpp-server`.
    ServerDirect,
}

/// The server's certificate and everything derived from it; replaced as a whole
/// when the certificate is reloaded.
///
/// Tickets are encrypted with keys of the epoch that issued them: after a
/// reload they are worth nothing, so the certificate of an epoch is that of
/// each of its sessions, resumed ones included.
pub(super) struct Epoch {
    pub(super) start_tls: Arc<ServerConfig>,
    pub(super) direct: Arc<ServerConfig>,
    pub(super) https: Arc<ServerConfig>,
    pub(super) server_start_tls: Arc<ServerConfig>,
    pub(super) server_direct: Arc<ServerConfig>,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) server_end_point: Option<Vec<u8>>,
}

/// Accepts TLS sessions; shared by all listeners.
pub struct TlsAcceptor {
    epoch: RwLock<Arc<Epoch>>,
}

impl TlsAcceptor {
    /// The error is a sentence for the operator.
    pub fn new(pem: &Pem) -> Result<Self, String> {
        Ok(Self {
            epoch: RwLock::new(Arc::new(Epoch::new(pem)?)),
        })
    }

    /// Uses another certificate from now on and drops all tickets. Sessions and
    /// handshakes under way keep the one they began with. Where the new one is
    /// unusable the old one stays.
    pub fn reload(&self, pem: &Pem) -> Result<(), String> {
        let epoch = Arc::new(Epoch::new(pem)?);
        *self.epoch.write().expect("nothing panics under this lock") = epoch;
        Ok(())
    }

    /// The certificate that a domain shows when it connects to another server.
    pub fn key_of(&self, _domain: &str) -> OwnKey {
        OwnKey(Arc::clone(&self.epoch().key))
    }

    pub(super) fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch.read().expect("nothing panics under this lock"))
    }
}

impl Epoch {
    fn new(pem: &Pem) -> Result<Self, String> {
        let provider = Arc::new(crypto());
        let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("[tls] certificate is not PEM: {error}"))?;
        let Some(own) = chain.first() else {
            return Err("[tls] certificate holds no certificate; give a PEM chain".to_owned());
        };
        let server_end_point = certificate::server_end_point(own);
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| format!("[tls] key holds no private key in PEM: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| format!("[tls] certificate and key do not fit together: {error}"))?;
        let key = Arc::new(certified);
        let between_servers = between_servers(&provider, &key)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("TLS is not available: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&key))));
        config.require_ems = true;
        config.key_log = Arc::new(CaptureSecret);
        // Resumption by ticket alone: it costs no memory, for either version.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = provider::Ticketer::new()
            .map_err(|error| format!("no randomness for TLS tickets: {error}"))?;
        // A client uses one ticket to come back and gets the next one then.
        config.send_tls13_tickets = 1;
        let start_tls = Arc::new(config.clone());
        let mut https = config.clone();
        https.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let mut server_direct = between_servers.clone();
        server_direct.alpn_protocols = vec![ALPN_SERVER.to_vec()];
        Ok(Self {
            server_start_tls: Arc::new(between_servers),
            server_direct: Arc::new(server_direct),
            key,
            start_tls,
            https: Arc::new(https),
            direct: Arc::new(config),
            server_end_point,
        })
    }
}

/// For other servers, which are asked for a certificate and may have none. No tickets: whom a
/// certificate is for is looked at in each session.
fn between_servers(
    provider: &Arc<CryptoProvider>,
    key: &Arc<CertifiedKey>,
) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| format!("TLS is not available: {error}"))?
        .with_client_cert_verifier(TakesAny::new())
        .with_cert_resolver(Arc::new(Resolver(Arc::clone(key))));
    config.require_ems = true;
    config.key_log = Arc::new(CaptureSecret);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The one place that chooses the implementation of cryptography. All its
/// suites are AEADs.
pub(super) fn crypto() -> CryptoProvider {
    provider::default_provider()
}
