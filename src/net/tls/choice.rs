//! Which certificate a client is shown: that of the domain it asks for.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::super::certificate::{self, Pem, covers};
use crate::addr::domain::to_ascii;

/// A domain that is served, with its certificate: one for all names of that domain.
#[derive(Clone)]
pub struct HostPem {
    /// The domain, normalised.
    pub domain: String,
    /// Its certificate and key.
    pub pem: Pem,
}

/// A certificate as it is shown.
pub(super) struct Shown {
    /// The domain that it is of.
    pub(super) domain: String,
    /// The same as a client spells it in TLS: with A-labels (RFC 6066 §3).
    name: String,
    /// What the certificate says that it is for.
    covered: Vec<String>,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) server_end_point: Option<Vec<u8>>,
}

/// The certificates to choose from: at least one.
#[derive(Clone)]
pub(super) struct Choice(Vec<Arc<Shown>>);

impl Shown {
    /// The same as [`Shown::new`]; the error says which domain's it is.
    pub(super) fn of(host: &HostPem, provider: &CryptoProvider) -> Result<Shown, String> {
        let shown = Shown::new(host, provider);
        shown.map_err(|error| match host.domain.as_str() {
            "" => error,
            domain => format!("{domain}: {error}"),
        })
    }

    /// The error is what is wrong with the certificate, for the operator.
    fn new(host: &HostPem, provider: &CryptoProvider) -> Result<Shown, String> {
        let HostPem { domain, pem } = host;
        let (chain, key) = parts(pem)?;
        let own = chain.first().map_or(&[][..], |own| own);
        let server_end_point = certificate::server_end_point(own);
        let covered = certificate::dns_names(own);
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| format!("the certificate and its key do not fit together: {error}"))?;
        Ok(Shown {
            name: to_ascii(domain).map_or_else(|| domain.clone(), |name| name.into_owned()),
            domain: domain.clone(),
            covered,
            key: Arc::new(key),
            server_end_point,
        })
    }
}

/// A chain of at least one certificate, and a key. Whether they fit together is not looked at.
pub(super) fn parts(
    pem: &Pem,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate holds none; give a PEM chain".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
        .map_err(|error| format!("the key is no private key in PEM: {error}"))?;
    Ok((chain, key))
}

impl Choice {
    pub(super) fn new(shown: Vec<Arc<Shown>>) -> Choice {
        assert!(!shown.is_empty(), "a server has a certificate");
        Choice(shown)
    }

    /// For the name that a client asks for: the certificate of that domain, else the first that is
    /// also for that name (a host's service may have a name of its own), else the first of all. A
    /// client that does not want what it gets says so.
    pub(super) fn of_name(&self, name: Option<&str>) -> &Arc<Shown> {
        let named = |name: &str| {
            let of_domain = |shown: &&Arc<Shown>| shown.name.eq_ignore_ascii_case(name);
            let covering = |shown: &&Arc<Shown>| shown.covered.iter().any(|of| covers(of, name));
            let all = || self.0.iter();
            all().find(of_domain).or_else(|| all().find(covering))
        };
        name.and_then(named).unwrap_or(&self.0[0])
    }

    /// With this one in the place of the one of the same domain, or behind all others where there
    /// was none.
    pub(super) fn with(&self, new: &Arc<Shown>) -> Choice {
        let mut all = self.0.clone();
        match all.iter_mut().find(|shown| shown.domain == new.domain) {
            Some(old) => *old = Arc::clone(new),
            None => all.push(Arc::clone(new)),
        }
        Choice::new(all)
    }

    /// Where the certificate to show for this domain, normalised, stands: its own, else the first
    /// that is also for it (a component may have none of its own), else the first of all.
    pub(super) fn place_of(&self, domain: Option<&str>) -> usize {
        let place = |domain: &str| {
            let own = self.0.iter().position(|shown| shown.domain == domain);
            own.or_else(|| {
                let name = to_ascii(domain)?;
                let covers = |of: &String| covers(of, &name);
                let all = &mut self.0.iter();
                all.position(|shown| shown.covered.iter().any(covers))
            })
        };
        domain.and_then(place).unwrap_or(0)
    }

    /// The key to the certificate to show for this domain.
    pub(super) fn key_of(&self, domain: &str) -> &Arc<CertifiedKey> {
        &self.0[self.place_of(Some(domain))].key
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Shown>> {
        self.0.iter()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains = self.0.iter().map(|shown| &shown.domain);
        f.debug_list().entries(domains).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::net::tls::acceptor::crypto;

    fn shown(domain: &str, certified: &str) -> Arc<Shown> {
        let host = HostPem {
            domain: domain.to_owned(),
            pem: Pem::self_signed(certified, UNIX_EPOCH).expect("a name for a certificate"),
        };
        Arc::new(Shown::new(&host, &crypto()).expect("our own certificate"))
    }

    #[test]
    fn the_name_that_is_asked_for_decides() {
        let choice = Choice::new(vec![
            shown("a.example", "*.b.example"),
            shown("b.example", "b.example"),
            shown("x.b.example", "x.b.example"),
            shown("b\u{fc}cher.example", "b\u{fc}cher.example"),
        ]);
        for (asked, shown) in [
            (None, "a.example"),
            (Some("a.example"), "a.example"),
            (Some("b.example"), "b.example"),
            (Some("B.Example"), "b.example"),
            // Its own certificate before one that would do, and one that would do before none.
            (Some("x.b.example"), "x.b.example"),
            (Some("y.b.example"), "a.example"),
            (Some("xn--bcher-kva.example"), "b\u{fc}cher.example"),
            (Some("unknown.example"), "a.example"),
        ] {
            assert_eq!(choice.of_name(asked).domain, shown, "{asked:?}");
        }
        assert_eq!(choice.place_of(Some("b\u{fc}cher.example")), 3);
        assert_eq!(choice.place_of(Some("unknown.example")), 0);
        assert_eq!(choice.place_of(None), 0);
    }

    #[test]
    fn a_domain_without_a_certificate_shows_one_that_is_for_it_too() {
        let choice = Choice::new(vec![
            shown("a.example", "a.example"),
            shown("b.example", "*.b.example"),
        ]);
        assert_eq!(choice.place_of(Some("gateway.b.example")), 1);
        let own = shown("gateway.b.example", "gateway.b.example");
        let choice = choice.with(&own);
        assert_eq!(choice.place_of(Some("gateway.b.example")), 2, "its own");
        let again = choice.with(&own);
        assert_eq!(again.iter().count(), 3, "in the place of the other");
    }
}
