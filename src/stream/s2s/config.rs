//! What all streams between servers have in common.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Identity, Policy, Security};
use crate::addr::Jid;
use crate::xml::Limits;

/// Whether a peer without a valid certificate may be known by dialback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialback {
    /// No: a certificate is needed.
    #[default]
    Never,
    /// Yes, over TLS (XEP-0220). It trusts the DNS.
    Tls,
}

/// Configuration of streams between servers, shared by all of them.
#[derive(Clone, Debug)]
pub struct S2sConfig {
    /// The domains that are served. The first is named to who comes for another one.
    pub domains: Vec<Jid>,
    /// Who may talk with us at all.
    pub policy: Arc<Policy>,
    /// Whether dialling back is done, where the policy does not say otherwise of a domain.
    pub dialback: Dialback,
    /// A lasting secret that dialback keys derive from (XEP-0185).
    pub secret: [u8; 32],
    /// Bounds before a peer is authorised for anything.
    pub limits_before: Limits,
    /// Bounds afterwards.
    pub limits_after: Limits,
    /// Milliseconds until a peer must be authorised.
    pub negotiation_ms: u64,
    /// Milliseconds of silence after which an idle stream is ended (RFC 6120 §4.6.4). Zero for never.
    pub idle_ms: u64,
    /// Milliseconds that a peer may take to answer a question of stream management (XEP-0198).
    pub answer_ms: u64,
    /// Pairs that one stream may carry, those that wait for an answer included.
    pub pairs_max: usize,
    /// Whether stream management is offered and used (XEP-0198).
    pub stream_management: bool,
}

impl S2sConfig {
    /// The defaults for these domains (at least one) and this secret.
    pub fn new(domains: Vec<Jid>, secret: [u8; 32]) -> S2sConfig {
        assert!(!domains.is_empty(), "a server serves a domain");
        S2sConfig {
            domains,
            policy: Arc::default(),
            dialback: Dialback::Never,
            secret,
            limits_before: Limits::before_authentication(),
            limits_after: Limits::after_authentication(),
            negotiation_ms: 30_000,
            idle_ms: 15 * 60_000,
            answer_ms: 60_000,
            pairs_max: 64,
            stream_management: true,
        }
    }

    /// What is asked of a domain's server.
    pub(super) fn security(&self, domain: &Jid) -> Security {
        let of_all = match self.dialback {
            Dialback::Never => Security::Certificate,
            Dialback::Tls => Security::Dialback,
        };
        self.policy.security(domain.as_str()).unwrap_or(of_all)
    }

    /// Whether the certificate that was shown is all that is asked for a domain; if not, why.
    pub(super) fn proved(
        &self,
        identity: Option<&Arc<dyn Identity>>,
        domain: &Jid,
    ) -> Result<(), Cow<'static, str>> {
        let identity = identity.ok_or("there is no TLS")?;
        identity.speaks_for(domain)?;
        match self.security(domain) == Security::Dane && !identity.is_by_dane() {
            true => Err("no signed zone names it (DANE)".into()),
            false => Ok(()),
        }
    }

    /// The served domain that an address of a header or of a dialback element names.
    pub(super) fn local(&self, text: &str) -> Option<Jid> {
        let domain = domain_of(text)?;
        self.domains.iter().find(|known| **known == domain).cloned()
    }

    /// The domain of a peer that an address names: any that is not served here.
    pub(super) fn remote(&self, text: &str) -> Option<Jid> {
        let domain = domain_of(text)?;
        (!self.domains.contains(&domain)).then_some(domain)
    }
}

/// An address that is a domain and nothing else.
pub(super) fn domain_of(text: &str) -> Option<Jid> {
    let jid = Jid::parse(text).ok()?;
    (jid.local().is_none() && jid.is_bare()).then_some(jid)
}
