//! The domains that show a certificate: those that are served, and those of components.

use super::{Config, FederationMode, Host, Tls};

/// A domain that shows a certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Certified {
    /// The domain, normalised.
    pub domain: String,
    /// The files of its certificate; of a component there are none.
    pub tls: Tls,
    /// It is a component's. Such a domain can do without a certificate of its own: clients never
    /// connect to it, and another's may be for it too.
    pub is_component: bool,
    /// The authority of `[acme]`, if there is one, may be asked for it.
    pub may_be_asked_for: bool,
}

impl Host {
    /// What its certificate is decided by.
    #[must_use]
    pub fn certified(&self) -> Certified {
        Certified {
            domain: self.domain.clone(),
            tls: self.tls.clone(),
            is_component: false,
            may_be_asked_for: self.tls.certificate.is_none(),
        }
    }
}

impl Config {
    /// All of them: the first domain, then the others that are served, then those of components.
    #[must_use]
    pub fn certified(&self) -> Vec<Certified> {
        let served = self.served();
        let served = served.iter().map(Host::certified);
        // Only other servers look at a component's certificate.
        let is_open = self.federation.mode != FederationMode::Off;
        let components = self.component.iter().map(|component| Certified {
            domain: component.domain.as_str().to_owned(),
            tls: Tls {
                certificate: None,
                key: None,
            },
            is_component: true,
            may_be_asked_for: component.acme && is_open,
        });
        served.chain(components).collect()
    }
}
