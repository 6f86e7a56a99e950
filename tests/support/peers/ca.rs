//! A certificate authority that nobody but the test knows, and the certificates it issues.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Place;

/// `id-ce-subjectAltName` (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
/// `id-on-dnsSRV`, 1.3.6.1.5.5.7.8.7 (RFC 4985 §2).
const DNS_SRV: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 7];
/// `id-on-xmppAddr`, 1.3.6.1.5.5.7.8.5 (RFC 6120 §13.7.1.4).
const XMPP_ADDR: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 5];

/// What a certificate names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A `dNSName`.
    Dns,
    /// A `SRVName` of `_xmpp-server` alone.
    Srv,
    /// An `xmppAddr` alone.
    XmppAddr,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth` and `clientAuth`.
    Both,
    /// `serverAuth`, as public authorities issue it today.
    ServerOnly,
}

/// An authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate, and behind it that of the authority where there is one.
    pub chain: String,
    /// The private key.
    pub key: String,
    der: Vec<u8>,
    key_der: Vec<u8>,
    public_key: Vec<u8>,
}

/// How a certificate differs from the usual one.
pub struct Order<'a> {
    /// The domain in it.
    pub name: &'a str,
    /// As what it is in it.
    pub names: Names,
    /// What it is for.
    pub usage: Usage,
    /// Whether its time is over.
    pub expired: bool,
}

impl Ca {
    /// A fresh authority.
    pub fn new(name: &str) -> Ca {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("it can sign itself");
        let issuer = Issuer::new(params, key);
        Ca {
            issuer,
            certificate,
        }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its certificate as a file in a place.
    pub fn file(&self, place: &Place) -> PathBuf {
        place.write("ca.pem", &self.pem())
    }

    /// The usual certificate for a domain.
    pub fn leaf(&self, name: &str) -> Leaf {
        self.issue(&Order::of(name))
    }

    /// A certificate as it is ordered.
    pub fn issue(&self, order: &Order<'_>) -> Leaf {
        let key = KeyPair::generate().expect("ring makes keys");
        let signed = order.params().signed_by(&key, &self.issuer);
        let certificate = signed.expect("the authority signs");
        let chain = certificate.pem() + &self.pem();
        Leaf::of(&certificate, &key, chain)
    }
}

impl Order<'_> {
    /// A valid certificate with a `dNSName`, for both uses.
    pub fn of(name: &str) -> Order<'_> {
        Order {
            name,
            names: Names::Dns,
            usage: Usage::Both,
            expired: false,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if self.expired { 2021 } else { 2049 }, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        // No name: names that are not in subjectAltName must not count (RFC 9525 §2).
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Peers");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if self.usage == Usage::Both {
            let client = ExtendedKeyUsagePurpose::ClientAuth;
            params.extended_key_usages.push(client);
        }
        let name = subject_alt_name(self.names, self.name);
        let name = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, name);
        params.custom_extensions = vec![name];
        params
    }
}

impl Leaf {
    /// A certificate that nobody but its own key vouches for.
    pub fn self_signed(name: &str) -> Leaf {
        let key = KeyPair::generate().expect("ring makes keys");
        let params = Order::of(name).params();
        let certificate = params.self_signed(&key).expect("it can sign itself");
        let chain = certificate.pem();
        Leaf::of(&certificate, &key, chain)
    }

    fn of(certificate: &Certificate, key: &KeyPair, chain: String) -> Leaf {
        Leaf {
            chain,
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
            public_key: key.subject_public_key_info(),
        }
    }

    /// Puts `cert.pem` and `key.pem` into a place's folder.
    pub fn install(&self, place: &Place) -> (PathBuf, PathBuf) {
        let certificate = place.write("cert.pem", &self.chain);
        (certificate, place.write("key.pem", &self.key))
    }

    /// The same under another name: `NAME.pem` and `NAME.key`.
    pub fn install_as(&self, place: &Place, name: &str) -> (PathBuf, PathBuf) {
        let certificate = place.write(&format!("{name}.pem"), &self.chain);
        (certificate, place.write(&format!("{name}.key"), &self.key))
    }

    /// For rustls: without the authority, which the other side must know.
    pub fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone().into()]
    }

    /// For rustls.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    /// The SHA-256 of its public key in hex, as TLSA's `3 1 1` wants it (RFC 6698 §2.1).
    pub fn public_key_sha256(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.public_key);
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        hex.collect()
    }

    /// It as a server of TLS that asks its clients for certificates and takes any or none.
    pub fn server_config(&self, alpn: &[&str]) -> Arc<tokio_rustls::rustls::ServerConfig> {
        crate::support::tls::server_config(self.chain_der(), self.key_der(), alpn)
    }
}

/// The content of the extension: rcgen knows no IA5String in an `otherName`, which `SRVName` is.
fn subject_alt_name(names: Names, name: &str) -> Vec<u8> {
    let other = |oid: &[u8], value: Vec<u8>| {
        let content = [tagged(0x06, oid), tagged(0xa0, &value)].concat();
        tagged(0xa0, &content)
    };
    let general = match names {
        Names::Dns => tagged(0x82, name.as_bytes()),
        Names::Srv => {
            let service = format!("_xmpp-server.{name}");
            other(DNS_SRV, tagged(0x16, service.as_bytes()))
        }
        Names::XmppAddr => other(XMPP_ADDR, tagged(0x0c, name.as_bytes())),
    };
    tagged(0x30, &general)
}

/// A tag, a length of one byte, and the content (X.690 §8.1).
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a short name");
    assert!(length < 0x80, "a short name");
    [&[tag, length], content].concat()
}
