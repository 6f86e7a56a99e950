//! The domains that are served, and what is different between them.

use crate::addr::Jid;
use crate::config::{Config, Host};

/// The domains that are served: at least one.
#[derive(Debug)]
pub struct Hosts(Vec<Hosted>);

/// A domain that is served.
#[derive(Debug)]
pub struct Hosted {
    /// The domain as an address: in whose name the server speaks to those whose accounts are there.
    pub domain: Jid,
    /// What is said of it.
    pub policy: Host,
}

impl Hosts {
    /// Those of a configuration. `domain` is the address of its first one.
    ///
    /// # Panics
    /// When another one is no domain, which the configuration has checked.
    pub fn new(domain: &Jid, config: &Config) -> Hosts {
        let each = |(index, policy): (usize, Host)| Hosted {
            domain: match index {
                0 => domain.clone(),
                _ => Jid::parse(&policy.domain).expect("a configuration has normalised domains"),
            },
            policy,
        };
        Hosts(config.served().into_iter().enumerate().map(each).collect())
    }

    /// The first domain: it speaks where nobody's account says which one should.
    pub fn first(&self) -> &Hosted {
        &self.0[0]
    }

    /// The domain of this name, normalised, if it is served. There are few, so they are looked
    /// through.
    pub fn find(&self, domain: &str) -> Option<&Hosted> {
        self.0.iter().find(|host| host.domain.as_str() == domain)
    }

    /// What holds for this domain: for one that is not served what holds for the first.
    pub fn policy(&self, domain: &str) -> &Host {
        &self.find(domain).unwrap_or_else(|| self.first()).policy
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Hosted> {
        self.0.iter()
    }
}
