//! A TLS client that accepts the server's self-signed certificate and remembers which it saw, and
//! a TLS server that accepts its clients' certificates, or none.

use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureScheme, SupportedProtocolVersion, WantsVerifier, version,
};

/// How a test speaks TLS. Connections made with one value share their session tickets.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    seen: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl Tls {
    /// TLS 1.3 and 1.2, no ALPN.
    pub fn new() -> Tls {
        Tls::with(&[&version::TLS13, &version::TLS12], &[])
    }

    /// TLS 1.2 alone.
    pub fn version_1_2() -> Tls {
        Tls::with(&[&version::TLS12], &[])
    }

    /// TLS 1.3 alone.
    pub fn version_1_3() -> Tls {
        Tls::with(&[&version::TLS13], &[])
    }

    /// With these application protocols offered.
    pub fn with_alpn(protocols: &[&str]) -> Tls {
        Tls::with(&[&version::TLS13, &version::TLS12], protocols)
    }

    /// With this certificate, for a server that asks for one.
    pub fn with_identity(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&str],
    ) -> Tls {
        let versions = &[&version::TLS13, &version::TLS12];
        Tls::made(versions, alpn, |config| {
            let config = config.with_client_auth_cert(chain, key);
            config.expect("the key is the certificate's")
        })
    }

    fn with(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Tls {
        Tls::made(versions, alpn, |config| config.with_no_client_auth())
    }

    fn made(
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
        identified: impl FnOnce(ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig,
    ) -> Tls {
        let provider = Arc::new(ring::default_provider());
        let seen = Arc::default();
        let verifier = Accepting {
            algorithms: provider.signature_verification_algorithms,
            seen: Arc::clone(&seen),
        };
        let config = builder(provider, versions)
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = identified(config);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Tls {
            config: Arc::new(config),
            seen,
        }
    }

    /// A connection that asks for `name` (SNI).
    pub fn connection(&self, name: &str) -> ClientConnection {
        let name = ServerName::try_from(name.to_owned()).expect("a valid name");
        ClientConnection::new(Arc::clone(&self.config), name).expect("a valid configuration")
    }

    /// The certificate that the last full handshake showed.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring knows both versions")
}

/// Accepts any certificate, but checks that the server has its key.
#[derive(Debug)]
struct Accepting {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Accepting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().expect("not poisoned") = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
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

/// A server with this certificate.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let asking = Asking {
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("ring knows both versions")
        .with_client_cert_verifier(Arc::new(asking))
        .with_single_cert(chain, key);
    let mut config = config.expect("the key is the certificate's");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Asks for a certificate and accepts any, or none, but checks that the client has its key.
#[derive(Debug)]
struct Asking {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Asking {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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
