//! What every stream of a listener has in common.

use super::sasl::Mechanism;
use crate::addr::Jid;
use crate::crypto::Scheme;
use crate::xml::Limits;

/// Configuration of clients' streams, shared by all of them.
#[derive(Debug, Clone)]
pub struct C2sConfig {
    /// The domains that are served, at least one. The first is named in the header
    /// when a client asks for one that is not.
    pub hosts: Vec<C2sHost>,
    /// The mechanisms that may be offered, in any order; which are depends on the TLS
    /// session and on the host's `scheme` too.
    pub mechanisms: Vec<Mechanism>,
    /// A lasting secret that the salts of users who do not exist derive from.
    pub secret: [u8; 32],
    /// Whether XEP-0474 is used. Clients ignore it if they do not know it.
    pub downgrade_protection: bool,
    /// Failed log-ins on one stream that may be followed by another try; the next closes it
    /// (RFC 6120 §6.4.5).
    pub retries_max: u32,
    /// Bounds before authentication.
    pub limits_before: Limits,
    /// Bounds after it, announced with XEP-0478.
    pub limits_after: Limits,
    /// Milliseconds until a client must be bound.
    pub login_ms: u64,
    /// Milliseconds of silence after which a bound client is asked whether it is there.
    /// Zero for never.
    pub idle_ms: u64,
    /// Milliseconds that it has to show that.
    pub probe_ms: u64,
    /// Whether stream management is offered (XEP-0198).
    pub stream_management: bool,
}

/// A domain that is served, and what of its streams is different from those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct C2sHost {
    /// The domain as an address.
    pub domain: Jid,
    /// What is kept of new passwords: decides which mechanisms can work.
    pub scheme: Scheme,
    /// Whether strangers may register (XEP-0077).
    pub registration_open: bool,
    /// Its entity capabilities (XEP-0115), if they are announced in the features.
    pub caps: Option<ServerCaps>,
}

impl C2sHost {
    /// The defaults for a domain.
    pub fn new(domain: Jid) -> C2sHost {
        C2sHost {
            domain,
            scheme: Scheme::default(),
            registration_open: false,
            caps: None,
        }
    }
}

/// What `<c/>` in the features says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCaps {
    /// The URI of the software.
    pub node: String,
    /// The verification string, with SHA-1.
    pub ver: String,
}

impl C2sConfig {
    /// The defaults for these domains (at least one) and this secret.
    pub fn new(domains: Vec<Jid>, secret: [u8; 32]) -> C2sConfig {
        let hosts = domains.into_iter().map(C2sHost::new);
        C2sConfig::of_hosts(hosts.collect(), secret)
    }

    /// The same for domains that differ.
    pub fn of_hosts(hosts: Vec<C2sHost>, secret: [u8; 32]) -> C2sConfig {
        assert!(!hosts.is_empty(), "a server serves a domain");
        C2sConfig {
            hosts,
            mechanisms: Mechanism::ALL.to_vec(),
            secret,
            downgrade_protection: true,
            retries_max: 3,
            limits_before: Limits::before_authentication(),
            limits_after: Limits::after_authentication(),
            login_ms: 30_000,
            idle_ms: 15 * 60_000,
            probe_ms: 60_000,
            stream_management: true,
        }
    }

    /// What holds for a domain: the first one's where it is not served, or not known yet.
    pub fn host(&self, domain: Option<&Jid>) -> &C2sHost {
        let served = |host: &&C2sHost| Some(&host.domain) == domain;
        self.hosts.iter().find(served).unwrap_or(&self.hosts[0])
    }
}
