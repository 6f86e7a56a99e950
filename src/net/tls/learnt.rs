//! What a handshake tells: secrets and names, caught in rustls' callbacks.
//!
//! An unbuffered connection has no `export_keying_material`. The secret that an
//! exporter starts from does pass through rustls' hook for key logs, in the call
//! that processes the records, so a value on that thread for the time of the
//! call receives it, for exactly this connection. Nothing is ever logged.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio_rustls::rustls::KeyLog;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::super::exporter::SECRET_BYTES_MAX;
use super::acceptor::ALPN_PROOF;
use super::choice::Choice;

/// What the callbacks of one handshake said.
#[derive(Default)]
pub(super) struct Learnt {
    pub(super) secret: Option<Secret>,
    pub(super) server_random: Option<[u8; 32]>,
    pub(super) sni: Option<String>,
    /// The channel binding of the certificate that was chosen.
    pub(super) server_end_point: Option<Vec<u8>>,
}

/// The secret that an exporter starts from; wiped when dropped.
pub(super) struct Secret {
    pub(super) client_random: [u8; 32],
    bytes: Zeroizing<[u8; SECRET_BYTES_MAX]>,
    length: usize,
}

impl Secret {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Learnt {
    /// Takes the server's random from the first record we send, a ServerHello
    /// (RFC 5246 §7.4.1.3): record header, message header, version, random.
    pub(super) fn note_server_hello(&mut self, record: &[u8]) {
        const RANDOM_AT: usize = 5 + 4 + 2;
        if self.server_random.is_none()
            && record.first() == Some(&22)
            && record.get(5) == Some(&2)
            && let Some(random) = record.get(RANDOM_AT..RANDOM_AT + 32)
        {
            self.server_random = random.try_into().ok();
        }
    }
}

thread_local! {
    /// What the handshake step that runs on this thread learns. A step is
    /// synchronous and puts its own value here for its duration, so sessions
    /// never see each other's.
    static LEARNT: RefCell<Option<Learnt>> = const { RefCell::new(None) };
}

/// Runs `step` while the callbacks below write to `learnt`.
pub(super) fn capture<R>(learnt: &mut Option<Learnt>, step: impl FnOnce() -> R) -> R {
    if learnt.is_none() {
        return step();
    }
    LEARNT.set(learnt.take());
    let result = step();
    *learnt = LEARNT.take();
    result
}

/// Chooses the certificate by the name that is asked for, and notes both.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Choice);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.of_name(hello.server_name());
        LEARNT.with_borrow_mut(|learnt| {
            if let Some(learnt) = learnt {
                learnt.sni = hello.server_name().map(str::to_owned);
                learnt.server_end_point.clone_from(&shown.server_end_point);
            }
        });
        Some(Arc::clone(&shown.key))
    }
}

/// Certificates that prove names, by name.
pub(super) type Proofs = HashMap<String, Arc<CertifiedKey>>;

/// The proof of a name for whoever speaks RFC 8737 and nothing else, for all others the usual
/// certificate.
#[derive(Debug)]
pub(super) struct ProofResolver {
    pub(super) proofs: Proofs,
    pub(super) otherwise: Resolver,
}

impl ResolvesServerCert for ProofResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: one protocol, and a name of which we have a proof.
        let is_authority = hello.alpn().is_some_and(|offered| offered.eq([ALPN_PROOF]));
        if !is_authority {
            return self.otherwise.resolve(hello);
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.proofs.get(&name).cloned()
    }
}

/// rustls' hook for key logs is the only way to an unbuffered connection's
/// exporter: it takes the one secret that [`exporter`] needs and logs nothing.
#[derive(Debug)]
pub(super) struct CaptureSecret;

impl KeyLog for CaptureSecret {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if !self.will_log(label) || secret.len() > SECRET_BYTES_MAX {
            return;
        }
        let Ok(client_random) = client_random.try_into() else {
            return;
        };
        LEARNT.with_borrow_mut(|learnt| {
            if let Some(learnt) = learnt {
                let mut bytes = Zeroizing::new([0; SECRET_BYTES_MAX]);
                bytes[..secret.len()].copy_from_slice(secret);
                learnt.secret = Some(Secret {
                    client_random,
                    bytes,
                    length: secret.len(),
                });
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        // The exporter's secret of TLS 1.3, the master secret of TLS 1.2.
        matches!(label, "EXPORTER_SECRET" | "CLIENT_RANDOM")
    }
}
