//! Certificates as files and bytes: read, generated, and hashed for RFC 5929.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use ring::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use zeroize::Zeroizing;

use super::tls::Pin;
use crate::addr::domain::to_ascii;

/// A certificate chain and its private key, both as PEM.
#[derive(Clone)]
pub struct Pem {
    /// The chain, the server's own certificate first.
    pub chain: String,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: Zeroizing<String>,
}

/// What a person wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The domains that it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// When it ends.
    pub not_after: String,
    /// Its SHA-256, by which a client may know the server (`--pin`).
    pub fingerprint: Pin,
}

/// What the renewal of a certificate goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The domains that it is for.
    pub names: Vec<String>,
    /// When it begins, in seconds since 1970.
    pub not_before_s: i64,
    /// When it ends.
    pub not_after_s: i64,
    /// The identifier of its issuer's key and its serial number, by which an authority knows it
    /// (RFC 9773 §4.1).
    pub identifier: Option<(Vec<u8>, Vec<u8>)>,
}

/// How long a generated certificate is valid.
///
/// Clients trust a self-signed certificate only by remembering it, so every
/// renewal makes all of them ask their users again, and a short life protects
/// nobody: it is replaced, not revoked. Ten years outlive every installation
/// that should have got a real certificate meanwhile.
const SELF_SIGNED_DAYS: u64 = 3653;
/// The day since 1970 that they begin with: 2024-01-01.
const SELF_SIGNED_FROM_DAY: u64 = 19_723;

impl Pem {
    /// Reads chain and key; the error is a sentence for the operator.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| {
                format!(
                    "cannot read {}: {error}; check the configuration",
                    path.display()
                )
            })
        };
        Ok(Self {
            chain: read(certificate)?,
            key: Zeroizing::new(read(key)?),
        })
    }

    /// What the server's own certificate, the first of the chain, says; `None` where it cannot be
    /// read.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.chain.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        Some(Facts {
            names: names(&certificate).map(str::to_owned).collect(),
            issuer: certificate.issuer().to_string(),
            not_after: certificate.validity().not_after.to_string(),
            fingerprint: Pin::of(&pem.contents),
        })
    }

    /// Why clients will not trust the certificate, though it can be served: sentences for the
    /// operator. Without a clock to go by (`now`), its time is not judged.
    #[must_use]
    pub fn complaints(&self, domain: &str, now: Option<SystemTime>) -> Vec<String> {
        let now_s = now.map(|now| {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            since.as_secs().cast_signed()
        });
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(self.chain.as_bytes()) else {
            return Vec::new();
        };
        let Ok(certificate) = pem.parse_x509() else {
            return Vec::new();
        };
        let validity = certificate.validity();
        let mut complaints = Vec::new();
        if now_s.is_some_and(|now_s| validity.not_after.timestamp() < now_s) {
            complaints.push(format!("the certificate ended on {}", validity.not_after));
        }
        if now_s.is_some_and(|now_s| validity.not_before.timestamp() > now_s) {
            complaints.push(format!("the certificate begins on {}", validity.not_before));
        }
        let spelt = to_ascii(domain).unwrap_or(Cow::Borrowed(domain));
        if !names(&certificate).any(|name| covers(name, &spelt)) {
            complaints.push(format!("the certificate is not for {domain}"));
        }
        complaints
    }

    /// What the renewal of the server's own certificate goes by; `None` where it cannot be read.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.chain.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        let issuer_key = certificate.extensions().iter().find_map(|extension| {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref(),
                _ => None,
            }
        });
        Some(Life {
            names: names(&certificate).map(str::to_owned).collect(),
            not_before_s: certificate.validity().not_before.timestamp(),
            not_after_s: certificate.validity().not_after.timestamp(),
            identifier: issuer_key.map(|key| (key.0.to_vec(), certificate.raw_serial().to_vec())),
        })
    }

    /// The certificate that proves `name` by TLS (RFC 8737 §3): self-signed, with the digest of a
    /// key authorization.
    pub fn proof(name: &str, digest: &[u8]) -> Result<Self, String> {
        let explain = |error: rcgen::Error| format!("cannot prove {name} by TLS: {error}");
        let mut params = CertificateParams::new([name.to_owned()]).map_err(explain)?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(explain)?;
        let certificate = params.self_signed(&key).map_err(explain)?;
        Ok(Self {
            chain: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Asks for a certificate for `names` with a private key in PEM (PKCS#10, in DER).
    pub fn request(names: &[String], key: &str) -> Result<Vec<u8>, String> {
        let explain = |error: rcgen::Error| format!("cannot ask for a certificate: {error}");
        let key = KeyPair::from_pem(key).map_err(explain)?;
        let mut params = CertificateParams::new(names).map_err(explain)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(explain)?;
        Ok(request.der().to_vec())
    }

    /// A new private key, in PEM: ECDSA on P-256, as for a self-signed certificate.
    pub fn new_key() -> Result<Zeroizing<String>, String> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| format!("cannot generate a key: {error}"))?;
        Ok(Zeroizing::new(key.serialize_pem()))
    }

    /// Generates a self-signed certificate for `domain`: ECDSA on P-256, which
    /// every TLS client speaks and whose handshake is the cheapest of those.
    ///
    /// It is valid from long before any `now`, so that neither a client whose
    /// clock is behind nor a server whose clock was ahead makes it worthless.
    pub fn self_signed(domain: &str, now: SystemTime) -> Result<Self, String> {
        let explain = |error: rcgen::Error| {
            format!(
                "cannot generate a certificate for {domain}: {error}; \
                 give it one, and its key"
            )
        };
        // As certificates spell an internationalised one.
        let spelt = to_ascii(domain).unwrap_or(Cow::Borrowed(domain));
        let mut params = CertificateParams::new([spelt.into_owned()]).map_err(explain)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, domain);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let today = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs()
            / 86_400;
        let date = |days| {
            let (year, month, day) = civil(days);
            rcgen::date_time_ymd(year, month, day)
        };
        params.not_before = date(today.saturating_sub(1).min(SELF_SIGNED_FROM_DAY));
        params.not_after = date(today + SELF_SIGNED_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(explain)?;
        let certificate = params.self_signed(&key).map_err(explain)?;
        Ok(Self {
            chain: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// The `tls-server-end-point` channel binding of RFC 5929 §4.1: the hash of the
/// certificate by the hash of its signature, where MD5 and SHA-1 give way to
/// SHA-256.
///
/// None where the RFC defines no hash (Ed25519, Ed448) or we have none.
#[must_use]
pub fn server_end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let hash = match SignatureAlgorithm::try_from(algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(params) => {
            by_hash_oid(&params.hash_algorithm_oid().to_id_string())
        }
        SignatureAlgorithm::ED25519 => None,
        _ => by_signature_oid(&algorithm.algorithm.to_id_string()),
    }?;
    Some(digest::digest(hash, der).as_ref().to_vec())
}

/// The domains that a certificate is for; none where it cannot be read.
#[must_use]
pub fn dns_names(der: &[u8]) -> Vec<String> {
    let certificate = X509Certificate::from_der(der).ok();
    certificate.map_or_else(Vec::new, |(_, certificate)| {
        names(&certificate).map(str::to_owned).collect()
    })
}

/// The domains that a certificate is for (RFC 6125 §6.4).
fn names<'c>(certificate: &'c X509Certificate<'_>) -> impl Iterator<Item = &'c str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}

/// RFC 6125 §6.4.3: an asterisk stands for one label, the first.
pub(super) fn covers(name: &str, domain: &str) -> bool {
    let parent = domain.split_once('.').map(|(_, parent)| parent);
    match name.strip_prefix("*.") {
        Some(rest) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(domain),
    }
}

fn by_signature_oid(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        // md5, sha1 and sha256 WithRSAEncryption; ecdsa-with-SHA1 and -SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        _ => None,
    }
}

/// RSASSA-PSS carries its hash as a parameter (RFC 4055 §3.1).
fn by_hash_oid(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic
/// Gregorian calendar: days are counted in 400-year eras that begin in March.
fn civil(days: u64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (
        i32::try_from(year).unwrap_or(9999),
        u8::try_from(month).expect("a month is at most 12"),
        u8::try_from(day).expect("a day is at most 31"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_another_time_or_domain_is_complained_about() {
        let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let year = Duration::from_secs(365 * 86_400);
        let pem = Pem::self_signed("chat.example", made).expect("an ASCII domain");
        let of = |domain: &str, now| pem.complaints(domain, Some(now)).join("; ");
        assert_eq!(of("chat.example", made), "");
        assert_eq!(of("Chat.Example", made), "");
        assert_eq!(
            of("a.example", made),
            "the certificate is not for a.example"
        );
        let late = of("chat.example", made + 11 * year);
        assert!(late.starts_with("the certificate ended on "), "{late}");
        let unknown = pem.complaints("a.example", None);
        assert_eq!(unknown, ["the certificate is not for a.example"]);
        let early = of("chat.example", made - year);
        assert!(early.starts_with("the certificate begins on "), "{early}");
        let foreign = Pem::self_signed("b\u{fc}cher.example", made).expect("it is spelt as xn--");
        assert_eq!(
            foreign.complaints("b\u{fc}cher.example", Some(made)).len(),
            0
        );
        assert_eq!(foreign.complaints("chat.example", Some(made)).len(), 1);
        let wild = Pem::self_signed("*.chat.example", made).expect("an ASCII domain");
        assert_eq!(wild.complaints("a.chat.example", Some(made)).len(), 0);
        assert_eq!(wild.complaints("chat.example", Some(made)).len(), 1);
        assert_eq!(wild.complaints("a.b.chat.example", Some(made)).len(), 1);
    }

    #[test]
    fn civil_dates_of_leap_days_and_year_ends() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_722), (2023, 12, 31));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }
}
