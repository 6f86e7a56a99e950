//! DANE (RFC 6698, RFC 7671, RFC 7673): what a signed zone says of the certificate that a server
//! will show. Pure.

use ring::digest;
use x509_parser::asn1_rs::FromDer;
use x509_parser::prelude::X509Certificate;

/// A TLSA record that is of use here: one that stands by itself, whatever public authorities say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Which certificate it is about.
    pub usage: Usage,
    /// Which part of that.
    pub selector: Selector,
    /// How it is named.
    pub matching: Matching,
    /// The part, or its hash.
    pub data: Vec<u8>,
}

/// Certificate usages (RFC 7218 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// DANE-TA: an authority in the chain.
    Authority,
    /// DANE-EE: the server's own.
    Own,
}

/// Selectors (RFC 7218 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The certificate.
    Certificate,
    /// Its public key.
    Key,
}

/// Matching types (RFC 7218 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// As it is.
    Full,
    /// Its SHA-256.
    Sha256,
    /// Its SHA-512.
    Sha512,
}

/// What the records say of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The server's own certificate is named: nothing else of it matters (RFC 7671 §5.1).
    Own,
    /// The certificate at this place of the chain is an authority that is named: the chain up to
    /// there, and the name, still matter (§5.2).
    Authority(usize),
    /// None is named.
    None,
}

/// Looks a chain up in the records, the server's own certificate (DER) first.
pub fn look_up<'a>(chain: impl Iterator<Item = &'a [u8]>, records: &[Association]) -> Match {
    for (place, certificate) in chain.enumerate() {
        let usage = match place {
            0 => Usage::Own,
            _ => Usage::Authority,
        };
        let mut of_usage = records.iter().filter(|record| record.usage == usage);
        if of_usage.any(|record| record.names(certificate)) {
            return match usage {
                Usage::Own => Match::Own,
                Usage::Authority => Match::Authority(place),
            };
        }
    }
    Match::None
}

impl Association {
    fn names(&self, certificate: &[u8]) -> bool {
        let parsed;
        let part = match self.selector {
            Selector::Certificate => certificate,
            Selector::Key => {
                let Ok((_, x509)) = X509Certificate::from_der(certificate) else {
                    return false;
                };
                parsed = x509;
                parsed.tbs_certificate.subject_pki.raw
            }
        };
        let hash = |algorithm| digest::digest(algorithm, part);
        match self.matching {
            Matching::Full => self.data == part,
            Matching::Sha256 => self.data == hash(&digest::SHA256).as_ref(),
            Matching::Sha512 => self.data == hash(&digest::SHA512).as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("it is made");
        made.cert.der().to_vec()
    }

    fn record(usage: Usage, selector: Selector, matching: Matching, of: &[u8]) -> Association {
        let (_, x509) = X509Certificate::from_der(of).expect("it parses");
        let part = match selector {
            Selector::Certificate => of,
            Selector::Key => x509.tbs_certificate.subject_pki.raw,
        };
        let data = match matching {
            Matching::Full => part.to_vec(),
            Matching::Sha256 => digest::digest(&digest::SHA256, part).as_ref().to_vec(),
            Matching::Sha512 => digest::digest(&digest::SHA512, part).as_ref().to_vec(),
        };
        Association {
            usage,
            selector,
            matching,
            data,
        }
    }

    #[test]
    fn a_certificate_or_its_key_is_named_in_each_way() {
        let (own, other) = (certificate("a.example"), certificate("b.example"));
        for selector in [Selector::Certificate, Selector::Key] {
            for matching in [Matching::Full, Matching::Sha256, Matching::Sha512] {
                let records = [record(Usage::Own, selector, matching, &own)];
                assert_eq!(look_up([&*own].into_iter(), &records), Match::Own);
                assert_eq!(look_up([&*other].into_iter(), &records), Match::None);
                let not_first = [&*other, &*own].into_iter();
                assert_eq!(look_up(not_first, &records), Match::None);
                let records = [record(Usage::Authority, selector, matching, &own)];
                let not_first = [&*other, &*own].into_iter();
                assert_eq!(look_up(not_first, &records), Match::Authority(1));
            }
        }
        assert_eq!(look_up([&*own].into_iter(), &[]), Match::None);
    }
}
