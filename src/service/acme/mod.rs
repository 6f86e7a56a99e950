//! Certificates that look after themselves (ACME, RFC 8555): one for each domain that has none
//! from the operator, renewed in time, and used without dropping a session.
//!
//! [`plan`] is pure and says when something is to be done. A [`Charge`] does it for one domain: a
//! task that sleeps until then. What it has to remember is in the store: the order under way with
//! its key, the last failure, the certificate. The [`Keeper`] has all of them. They share the
//! account with the authority, and nothing else: a domain that fails waits for itself.

mod account;
mod challenges;
mod charge;
mod client;
mod order;
pub mod plan;
#[cfg(test)]
mod played;
mod renewal;
mod words;

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::addr::domain::to_ascii;
use crate::config::{Certified, Config};
use crate::net::dns::{Anchor, Resolver};
use crate::net::tls::{Authorities, TlsAcceptor};
use crate::router::Core;
use charge::Charge;
use client::Client;

pub use challenges::{Challenges, Shown};
pub use charge::recorded;
pub use order::Way;

/// Certificates that are obtained at once. An authority that hangs holds each for ten minutes at
/// most.
const AT_ONCE: usize = 4;

/// Looks after the certificates.
pub struct Keeper {
    charges: Vec<Arc<Charge>>,
}

/// What all domains have in common.
struct Common {
    core: Arc<Core>,
    directory: String,
    ways: Vec<Way>,
    client: Client,
    challenges: Arc<Challenges>,
    tls: Arc<TlsAcceptor>,
    /// Whoever finds no account makes one; the others wait, and find it.
    account: Mutex<()>,
    at_once: Semaphore,
}

impl Keeper {
    /// `None` where there is nothing to look after. The error is a sentence for the operator.
    pub fn new(
        core: &Arc<Core>,
        challenges: &Arc<Challenges>,
        tls: &Arc<TlsAcceptor>,
    ) -> Result<Option<Keeper>, String> {
        let config = &core.config;
        let Some(directory) = config.acme.url() else {
            return Ok(None);
        };
        let of = of(config);
        if of.is_empty() {
            tracing::warn!("[acme] is not used: no domain is left for it");
            return Ok(None);
        }
        let ways = ways(config);
        debug_assert!(!ways.is_empty(), "the configuration was checked");
        let anchor = match &config.dns.trust_anchor {
            Some(given) => Anchor::given(given)?,
            None => Anchor::public(),
        };
        let resolver = Arc::new(Resolver::new(config.dns.addresses(), anchor));
        let common = Arc::new(Common {
            directory: directory.to_owned(),
            ways,
            client: Client::new(resolver, authorities(config)?),
            challenges: Arc::clone(challenges),
            tls: Arc::clone(tls),
            account: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
            core: Arc::clone(core),
        });
        let charges = of.into_iter().map(|(of, names)| {
            let common = Arc::clone(&common);
            Arc::new(Charge::new(common, of, names))
        });
        Ok(Some(Keeper {
            charges: charges.collect(),
        }))
    }

    /// Until it is dropped. Called within the runtime.
    pub async fn run(&self) {
        let mut tasks = JoinSet::new();
        // The account is common to all.
        let first = self.charges.first().map(Arc::clone);
        tasks.spawn(async move {
            if let Some(charge) = first {
                charge.tell_contact().await;
            }
        });
        for charge in &self.charges {
            let charge = Arc::clone(charge);
            tasks.spawn(async move { charge.run().await });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a certificate is not looked after any more until the next start");
            }
        }
    }

    /// The operator wants it to be tried now.
    pub fn hurry(&self) {
        for charge in &self.charges {
            charge.hurry();
        }
    }
}

/// Whether an authority is asked for the certificate of this domain: where `[acme]` is on, the
/// operator names no files for it, and it is one that an authority may know.
pub fn looks_after(config: &Config, of: &Certified) -> bool {
    config.acme.url().is_some() && of.may_be_asked_for && names(of).is_some()
}

/// The domains that are looked after, each with the names of its certificate.
fn of(config: &Config) -> Vec<(Certified, Vec<String>)> {
    let mut all = Vec::new();
    for of in config.certified() {
        let domain = &of.domain;
        if of.tls.certificate.is_some() {
            tracing::info!(
                domain,
                "[acme] leaves it alone: the configuration names the files of its certificate"
            );
            continue;
        }
        if !of.may_be_asked_for {
            continue;
        }
        match names(&of) {
            Some(names) => all.push((of, names)),
            None => tracing::warn!(
                domain,
                "[acme] leaves it alone: no authority gives a certificate for it"
            ),
        }
    }
    all
}

/// All names that a domain has a certificate for, in the spelling of the DNS: one certificate is
/// for all of them.
fn names(of: &Certified) -> Option<Vec<String>> {
    let name = to_ascii(&of.domain).filter(|name| is_public_form(name))?;
    Some(vec![name.into_owned()])
}

/// The ways that this server can be looked at by, the simplest first.
fn ways(config: &Config) -> Vec<Way> {
    let listen = &config.listen;
    let by_http = (!listen.http.is_empty()).then_some(Way::Http);
    let by_tls = (!listen.https.is_empty()).then_some(Way::Tls);
    by_http.into_iter().chain(by_tls).collect()
}

/// Names with dots, and no addresses: a domain of one label is nobody's.
fn is_public_form(name: &str) -> bool {
    name.contains('.') && name.parse::<std::net::IpAddr>().is_err()
}

fn authorities(config: &Config) -> Result<Arc<Authorities>, String> {
    Authorities::load("[acme] trust", config.acme.trust.as_ref())
}
