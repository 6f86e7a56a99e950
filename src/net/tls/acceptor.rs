//! The server's side of the configuration: certificate, versions, tickets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring as provider};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::super::certificate::Pem;
use super::choice::{Choice, HostPem, Shown, parts};
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

/// The certificates of all hosts and everything derived from them; replaced as a
/// whole when a certificate is reloaded.
///
/// Tickets are encrypted with keys of the epoch that issued them, and where there
/// are several certificates each way to choose one has keys of its own. Where the
/// client's name makes the choice, rustls resumes only a session of the same name.
/// So the certificate that a session would be shown now is the one that it was
/// shown, resumed ones included.
struct Epoch {
    choice: Choice,
    /// One for each certificate, in their order.
    start_tls: Vec<Arc<ServerConfig>>,
    direct: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
    server_start_tls: Vec<Arc<ServerConfig>>,
    server_direct: Arc<ServerConfig>,
}

/// Accepts TLS sessions; shared by all listeners.
pub struct TlsAcceptor {
    epoch: RwLock<Arc<Epoch>>,
    /// Held by whoever makes an epoch from the one before.
    changing: Mutex<()>,
    /// Certificates that prove to an authority whose a name is, by name.
    proofs: Mutex<Proofs>,
}

/// A proof that is shown to an authority until this is dropped (RFC 8737).
pub struct ShownProof {
    acceptor: Arc<TlsAcceptor>,
    name: String,
}

impl TlsAcceptor {
    /// With the certificates of all domains that are served, the first one first:
    /// whoever asks for none of them gets that. The error is a sentence for the
    /// operator.
    pub fn new(hosts: &[HostPem]) -> Result<Self, String> {
        Ok(Self {
            epoch: RwLock::new(Arc::new(Epoch::new(hosts)?)),
            changing: Mutex::default(),
            proofs: Mutex::default(),
        })
    }

    /// With one certificate for everybody.
    pub fn of_one(pem: &Pem) -> Result<Self, String> {
        Self::new(&[HostPem {
            domain: String::new(),
            pem: pem.clone(),
        }])
    }

    /// Uses other certificates from now on and drops all tickets. Sessions and
    /// handshakes under way keep those they began with. Where one of the new ones
    /// is unusable all old ones stay.
    pub fn reload(&self, hosts: &[HostPem]) -> Result<(), String> {
        self.reload_from(|| Ok(hosts.to_vec()))
    }

    /// The same with what `read` finds. Nothing is replaced while it looks, so it must not miss
    /// what was kept where it looks before [`TlsAcceptor::replace`] was called.
    pub fn reload_from(
        &self,
        read: impl FnOnce() -> Result<Vec<HostPem>, String>,
    ) -> Result<(), String> {
        let _alone = self.alone();
        self.begin(Epoch::new(&read()?)?);
        Ok(())
    }

    /// Uses another certificate for one domain, like [`TlsAcceptor::reload`]: those of the others
    /// stay, whatever became of the files that they are from.
    pub fn replace(&self, host: &HostPem) -> Result<(), String> {
        let _alone = self.alone();
        let provider = Arc::new(crypto());
        let shown = Arc::new(Shown::of(host, &provider)?);
        let choice = self.epoch().choice.with(&shown);
        self.begin(Epoch::of(choice, &provider)?);
        Ok(())
    }

    fn begin(&self, epoch: Epoch) {
        *self.epoch.write().expect("nothing panics under this lock") = Arc::new(epoch);
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate that a domain shows when it connects to another server.
    pub fn key_of(&self, domain: &str) -> OwnKey {
        let epoch = self.epoch();
        OwnKey(Arc::clone(epoch.choice.key_of(domain)))
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

    /// What a handshake goes by. `domain` is the one that the peer has named before it, in the
    /// header of its stream.
    pub(super) fn config(&self, entry: Entry, domain: Option<&str>) -> Arc<ServerConfig> {
        let epoch = self.epoch();
        match entry {
            Entry::Https => self.https(&epoch),
            _ => Arc::clone(epoch.config(entry, domain)),
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
            otherwise: Resolver(epoch.choice.clone()),
        });
        // What an authority has seen is not to be come back to.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch.read().expect("nothing panics under this lock"))
    }
}

impl Epoch {
    fn new(hosts: &[HostPem]) -> Result<Self, String> {
        let provider = Arc::new(crypto());
        let shown = hosts.iter();
        let shown = shown.map(|host| Shown::of(host, &provider).map(Arc::new));
        let choice = Choice::new(shown.collect::<Result<_, _>>()?);
        Epoch::of(choice, &provider)
    }

    fn of(choice: Choice, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut direct = server_config(provider, choice.clone())?;
        let of_one = |shown: &Arc<Shown>| match choice.iter().count() {
            1 => Ok(Arc::new(direct.clone())),
            _ => {
                let choice = Choice::new(vec![Arc::clone(shown)]);
                server_config(provider, choice).map(Arc::new)
            }
        };
        let start_tls = choice.iter().map(of_one).collect::<Result<_, String>>()?;
        let to_servers = |choice: Choice| between_servers(provider, choice);
        let server_start_tls = choice.iter().map(|shown| {
            let choice = Choice::new(vec![Arc::clone(shown)]);
            to_servers(choice).map(Arc::new)
        });
        let server_start_tls = server_start_tls.collect::<Result<_, _>>()?;
        let mut server_direct = to_servers(choice.clone())?;
        server_direct.alpn_protocols = vec![ALPN_SERVER.to_vec()];
        let mut https = direct.clone();
        https.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        direct.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        Ok(Self {
            choice,
            server_start_tls,
            server_direct: Arc::new(server_direct),
            start_tls,
            direct: Arc::new(direct),
            https: Arc::new(https),
        })
    }

    fn config(&self, entry: Entry, domain: Option<&str>) -> &Arc<ServerConfig> {
        match entry {
            Entry::StartTls => &self.start_tls[self.choice.place_of(domain)],
            Entry::ServerStartTls => &self.server_start_tls[self.choice.place_of(domain)],
            Entry::ServerDirect => &self.server_direct,
            Entry::Direct => &self.direct,
            Entry::Https => &self.https,
        }
    }
}

fn server_config(provider: &Arc<CryptoProvider>, choice: Choice) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| format!("TLS is not available: {error}"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(choice)));
    config.require_ems = true;
    config.key_log = Arc::new(CaptureSecret);
    // Resumption by ticket alone: it costs no memory, for either version.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = provider::Ticketer::new()
        .map_err(|error| format!("no randomness for TLS tickets: {error}"))?;
    // A client uses one ticket to come back and gets the next one then.
    config.send_tls13_tickets = 1;
    Ok(config)
}

impl Drop for ShownProof {
    fn drop(&mut self) {
        self.acceptor.proofs().remove(&self.name);
    }
}

/// For other servers, which are asked for a certificate and may have none. No tickets: whom a
/// certificate is for is looked at in each session.
fn between_servers(provider: &Arc<CryptoProvider>, choice: Choice) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| format!("TLS is not available: {error}"))?
        .with_client_cert_verifier(TakesAny::new())
        .with_cert_resolver(Arc::new(Resolver(choice)));
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
