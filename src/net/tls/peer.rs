//! The certificate of another server: taken as it comes during the handshake, judged afterwards for
//! each domain that the server wants to speak for (RFC 6120 §13.7.2, RFC 9525, XEP-0178).
//!
//! Judged is a certificate for use as a *server's*, in both directions: public authorities issue no
//! others any more, and a server that connects is a server all the same.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::asn1_rs::{FromDer, Ia5String, Oid, Utf8String};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::acceptor::crypto;
use crate::addr::Jid;
use crate::addr::domain::to_ascii;
use crate::config::Given;
use crate::net::dns::dane::{self, Association, Match};
use crate::stream::s2s::Identity;

/// Certificates of a chain that are looked at.
const CHAIN_MAX: usize = 10;

/// The authorities that may answer for other servers.
#[derive(Debug)]
pub struct Authorities {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authorities {
    /// Those that the system trusts, and those in PEM that the key `named` gives. The error is a
    /// sentence for the operator.
    pub fn load(named: &str, extra: Option<&Given>) -> Result<Arc<Authorities>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let extra = extra.map(Given::read).transpose();
        let extra = extra.map_err(|error| format!("{named} {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(extra.unwrap_or_default().as_bytes()) {
            let certificate =
                certificate.map_err(|error| format!("{named} is not PEM: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("{named} holds no authority: {error}"))?;
        }
        Ok(Arc::new(Authorities {
            roots,
            algorithms: crypto().signature_verification_algorithms,
        }))
    }

    pub(super) fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there is none, so that no certificate is valid.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

/// What a peer has shown in a handshake, perhaps nothing.
pub struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    authorities: Arc<Authorities>,
    /// Whether some authority answers for it at this moment; judged once.
    trust: Result<Trust, Cow<'static, str>>,
    /// Whether the signed zone of a server that was called decided that.
    is_by_dane: bool,
    /// Whether nobody knows the time, so that nothing was judged.
    is_undecided: bool,
}

/// What the DNS says of the certificate of a server that is called, if its zone is signed.
#[derive(Clone, Debug, Default)]
pub struct Dane {
    /// Empty for nothing.
    pub records: Vec<Association>,
    /// The target that the service record leads to: a name of the server as well (RFC 7673 §4).
    pub host: String,
}

/// What a certificate is trusted for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// For the names in it.
    Names,
    /// For those, or if this one is among them.
    NamesOr(String),
    /// For whatever domain led to it: its zone names this very certificate (RFC 7671 §5.1).
    Itself,
}

impl PeerCertificate {
    /// Judges a chain, the peer's own certificate first.
    pub(super) fn new(
        chain: Option<&[CertificateDer<'_>]>,
        authorities: &Arc<Authorities>,
        now: UnixTime,
    ) -> PeerCertificate {
        let chain = chain.unwrap_or_default().iter().take(CHAIN_MAX);
        let chain: Vec<_> = chain.map(|der| der.clone().into_owned()).collect();
        PeerCertificate {
            trust: trust(&chain, authorities, now).map(|()| Trust::Names),
            is_by_dane: false,
            is_undecided: false,
            chain,
            authorities: Arc::clone(authorities),
        }
    }

    /// Likewise, of a server that was called. Where its signed zone says something of its
    /// certificate, that counts, and what authorities say does not.
    pub(super) fn called(
        chain: Option<&[CertificateDer<'_>]>,
        authorities: &Arc<Authorities>,
        dane: &Dane,
        now: UnixTime,
    ) -> PeerCertificate {
        let peer = PeerCertificate::new(chain, authorities, now);
        match dane.records.is_empty() {
            true => peer,
            false => PeerCertificate {
                trust: trust_by_dane(&peer.chain, authorities, dane, now),
                is_by_dane: true,
                ..peer
            },
        }
    }

    /// The same where the clock is known to be wrong: it is valid for nobody now, for certificates
    /// and the signatures of zones begin and end with time.
    #[must_use]
    pub fn undecided(self) -> PeerCertificate {
        PeerCertificate {
            trust: Err("the clock here is known to be wrong, so that it can't be judged".into()),
            is_undecided: true,
            ..self
        }
    }

    /// The chain in DER, the peer's own certificate first.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(|der| der.as_ref())
    }

    /// Whether the certificate names a domain, whoever signed it.
    pub fn names(&self, domain: &Jid) -> bool {
        let own = self.chain.first();
        own.is_some_and(|own| self.names_as_host(domain) || names_in_other_ways(own, domain))
    }

    /// Whether it names it as a name of the DNS, which is all that most clients look at.
    pub fn names_as_host(&self, domain: &Jid) -> bool {
        let is_dns_name = || {
            let ascii = to_ascii(domain.domain())?;
            let name = ServerName::try_from(ascii.into_owned()).ok()?;
            let parsed = ParsedCertificate::try_from(self.chain.first()?).ok()?;
            verify_server_name(&parsed, &name).ok()
        };
        is_dns_name().is_some()
    }

    /// Why no authority answers for the chain at another time than now, in seconds since 1970.
    pub fn trusted_at(&self, at_s: u64) -> Result<(), Cow<'static, str>> {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
        trust(&self.chain, &self.authorities, at)
    }

    /// The same chain, judged by what the DNS says of the server that shows it.
    #[must_use]
    pub fn judged_by(&self, dane: &Dane) -> PeerCertificate {
        let now = UnixTime::now();
        PeerCertificate::called(Some(&self.chain), &self.authorities, dane, now)
    }
}

impl Identity for PeerCertificate {
    fn speaks_for(&self, domain: &Jid) -> Result<(), Cow<'static, str>> {
        let is_named = match self.trust.clone()? {
            Trust::Itself => true,
            Trust::Names => self.names(domain),
            Trust::NamesOr(host) => {
                let host = Jid::parse(&host).ok();
                self.names(domain) || host.is_some_and(|host| self.names(&host))
            }
        };
        match is_named {
            true => Ok(()),
            false => Err("it is for another name".into()),
        }
    }

    fn is_by_dane(&self) -> bool {
        self.is_by_dane
    }

    fn is_undecided(&self) -> bool {
        self.is_undecided
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("certificates", &self.chain.len())
            .field("authorities", &self.authorities.len())
            .field("trust", &self.trust)
            .finish()
    }
}

fn trust(
    chain: &[CertificateDer<'_>],
    authorities: &Authorities,
    now: UnixTime,
) -> Result<(), Cow<'static, str>> {
    let [own, intermediates @ ..] = chain else {
        return Err("none was shown".into());
    };
    let parsed = ParsedCertificate::try_from(own).map_err(|_| "it can't be read")?;
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &authorities.roots,
        intermediates,
        now,
        authorities.algorithms.all,
    )
    .map_err(|error| in_words(&error))
}

/// RFC 7671 §5.1, §5.2.
fn trust_by_dane(
    chain: &[CertificateDer<'static>],
    authorities: &Authorities,
    dane: &Dane,
    now: UnixTime,
) -> Result<Trust, Cow<'static, str>> {
    match dane::look_up(chain.iter().map(|der| der.as_ref()), &dane.records) {
        Match::Own => Ok(Trust::Itself),
        Match::Authority(place) => {
            let mut roots = RootCertStore::empty();
            let anchor = chain[place].clone();
            roots
                .add(anchor)
                .map_err(|_| "its authority can't be read")?;
            let named = Authorities {
                roots,
                algorithms: authorities.algorithms,
            };
            trust(&chain[..place], &named, now)?;
            Ok(Trust::NamesOr(dane.host.clone()))
        }
        Match::None => Err("the signed zone of the domain names another one".into()),
    }
}

fn in_words(error: &Error) -> Cow<'static, str> {
    use CertificateError as C;
    match error {
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "it has expired".into(),
        Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "it is not valid yet".into()
        }
        Error::InvalidCertificate(C::UnknownIssuer) => {
            "no authority that is trusted here has signed it".into()
        }
        Error::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }) => {
            "it is not for a server".into()
        }
        other => other.to_string().into(),
    }
}

/// `id-on-dnsSRV` (RFC 4985 §2).
const SRV_NAME: &str = "1.3.6.1.5.5.7.8.7";
/// `id-on-xmppAddr` (RFC 6120 §13.7.1.4).
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";

/// The names that only XMPP knows: SRVName for a server, and xmppAddr.
fn names_in_other_ways(own: &[u8], domain: &Jid) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(own) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::OtherName(kind, value) => is_other_name(kind, value, domain),
        _ => false,
    })
}

fn is_other_name(kind: &Oid<'_>, value: &[u8], domain: &Jid) -> bool {
    // `[0] EXPLICIT`: a tag and a length before the string (RFC 5280 §4.2.1.6).
    let inner = match value {
        [0xA0, length, inner @ ..] if usize::from(*length) == inner.len() => inner,
        other => other,
    };
    match kind.to_id_string().as_str() {
        SRV_NAME => {
            let Ok((_, text)) = Ia5String::from_der(inner) else {
                return false;
            };
            let text = text.string();
            let mut services = ["_xmpp-server.", "_xmpps-server."].iter();
            let name = services.find_map(|service| text.strip_prefix(service));
            let ascii = to_ascii(domain.domain());
            match (name, ascii) {
                (Some(name), Some(ascii)) => name.eq_ignore_ascii_case(&ascii),
                _ => false,
            }
        }
        XMPP_ADDR => {
            let text = Utf8String::from_der(inner);
            let address = text
                .ok()
                .and_then(|(_, text)| Jid::parse(&text.string()).ok());
            address.as_ref() == Some(domain)
        }
        _ => false,
    }
}

/// Takes every certificate: that its holder has the key is checked, whom it is for is not.
#[derive(Debug)]
pub(super) struct TakesAny {
    algorithms: WebPkiSupportedAlgorithms,
}

impl TakesAny {
    pub(super) fn new() -> Arc<TakesAny> {
        Arc::new(TakesAny {
            algorithms: crypto().signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for TakesAny {
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

impl ClientCertVerifier for TakesAny {
    /// A server that has none may be known by dialback.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
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
