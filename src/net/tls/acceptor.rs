//! The server's side of the configuration: certificate, versions, tickets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring as provider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::super::certificate::{self, Pem};
use super::connector::OwnKey;
use super::learnt::{CaptureSecret, ProofResolver, Proofs, Resolver};
use super::peer::TakesAny;

/// The ALPN protocol of a client stream over direct TLS (XEP-0368 §4).
pub(super) const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// The ALPN protocol of a stream between servers over direct TLS (XEP-0368 §4).
pub(super) const ALPN_SERVER: &[u8] = b"xmpp-server";

/// The ALPN protocol of HTTP/1.1 (RFC 7301 §6).
pub(super) const ALPN_HTTP: &[u8] = b"http/1.1";

/// The ALPN protocol by which an authority looks for a proof (RFC 8737 §6.2).
pub(super) const ALPN_PROOF: &[u8] = b"acme-tls/1";

/// Names that are proved at once.
const PROOFS_MAX: usize = 128;

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
    /// Certificates that prove to an authority whose a name is, by name.
    proofs: Mutex<Proofs>,
}

/// A proof that is shown to an authority until this is dropped (RFC 8737).
pub struct ShownProof {
    acceptor: Arc<TlsAcceptor>,
    name: String,
}

impl TlsAcceptor {
    /// The error is a sentence for the operator.
    pub fn new(pem: &Pem) -> Result<Self, String> {
        Ok(Self {
            epoch: RwLock::new(Arc::new(Epoch::new(pem)?)),
            proofs: Mutex::default(),
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

    /// From now on shows a certificate on [`Entry::Https`] to whoever asks for `name` with the
    /// protocol of RFC 8737 alone. The error is a sentence for the operator.
    pub fn show_proof(self: &Arc<Self>, name: &str, pem: &Pem) -> Result<ShownProof, String> {
        let (chain, key) = parts(pem)?;
        // That both fit together is not looked at as usual: rustls does not know the extension that
        // makes the proof, and refuses to look.
        let key = crypto().key_provider.load_private_key(key);
        let key = key.map_err(|error| format!("the key of a proof cannot be used: {error}"))?;
        let key = CertifiedKey::new(chain, key);
        let mut proofs = self.proofs();
        if proofs.len() >= PROOFS_MAX {
            return Err("too many names are proved at once".to_owned());
        }
        proofs.insert(name.to_ascii_lowercase(), Arc::new(key));
        Ok(ShownProof {
            acceptor: Arc::clone(self),
            name: name.to_ascii_lowercase(),
        })
    }

    fn proofs(&self) -> MutexGuard<'_, Proofs> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session of a kind goes by.
    pub(super) fn config(&self, epoch: &Epoch, entry: Entry) -> Arc<ServerConfig> {
        match entry {
            Entry::StartTls => Arc::clone(&epoch.start_tls),
            Entry::Direct => Arc::clone(&epoch.direct),
            Entry::Https => self.https(epoch),
            Entry::ServerStartTls => Arc::clone(&epoch.server_start_tls),
            Entry::ServerDirect => Arc::clone(&epoch.server_direct),
        }
    }

    fn https(&self, epoch: &Epoch) -> Arc<ServerConfig> {
        let proofs = self.proofs();
        if proofs.is_empty() {
            return Arc::clone(&epoch.https);
        }
        let mut config = ServerConfig::clone(&epoch.https);
        config.alpn_protocols.push(ALPN_PROOF.to_vec());
        config.cert_resolver = Arc::new(ProofResolver {
            proofs: proofs.clone(),
            otherwise: Resolver(Arc::clone(&epoch.key)),
        });
        // What an authority has seen is not to be come back to.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    pub(super) fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch.read().expect("nothing panics under this lock"))
    }
}

impl Epoch {
    fn new(pem: &Pem) -> Result<Self, String> {
        let provider = Arc::new(crypto());
        let certified = certified(pem, &provider)?;
        let own = certified.cert.first();
        let server_end_point = own.and_then(|own| certificate::server_end_point(own));
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

impl Drop for ShownProof {
    fn drop(&mut self) {
        self.acceptor.proofs().remove(&self.name);
    }
}

/// A chain of at least one certificate, and a key.
fn parts(pem: &Pem) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("[tls] certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("[tls] certificate holds no certificate; give a PEM chain".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
        .map_err(|error| format!("[tls] key holds no private key in PEM: {error}"))?;
    Ok((chain, key))
}

/// Both, after a look at whether they fit together.
fn certified(pem: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (chain, key) = parts(pem)?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| format!("[tls] certificate and key do not fit together: {error}"))
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
