//! What the server keeps for itself in the store: its secret, and its own certificate where the
//! operator has none.

use std::sync::Arc;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Certified, Config};
use crate::net::certificate::Pem;
use crate::net::tls::HostPem;
use crate::router::Core;
use crate::service::acme;
use crate::service::certificates::{self, Source};
use crate::service::machine::Machine;
use crate::store::{State, Store, StoreError};

const SECRET: &str = "secret";

/// The lasting secret that fake salts derive from (DESIGN §5).
pub(super) fn secret(store: &Arc<Store>) -> Result<[u8; 32], String> {
    let kept = store.read(|state| {
        state
            .setting(SECRET)
            .and_then(|value| value.try_into().ok())
    });
    if let Some(secret) = kept {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| "the kernel gives no random bytes".to_owned())?;
    store
        .update(|tx| tx.put_setting(SECRET, &secret))
        .map_err(|error: StoreError| format!("cannot keep the server's secret: {error}"))?;
    Ok(secret)
}

/// What the clock is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Nobody knows better.
    Usable,
    /// It is known to be wrong.
    Wrong,
}

impl Clock {
    /// The machine's; a process believes its system.
    pub(super) fn of(machine: Option<&dyn Machine>) -> Clock {
        match machine.is_some_and(|machine| machine.status().clock_is_wrong) {
            true => Clock::Wrong,
            false => Clock::Usable,
        }
    }
}

/// The certificates to show, one for each domain in the order of the configuration: one is made
/// where there is none, except for components.
pub(super) fn certificates(
    config: &Config,
    store: &Store,
    clock: Clock,
) -> Result<Vec<HostPem>, String> {
    let mut certificates = Vec::new();
    for of in config.certified() {
        if let Some(pem) = certificate(config, &of, store, clock)? {
            let domain = of.domain;
            certificates.push(HostPem { domain, pem });
        }
    }
    Ok(certificates)
}

fn certificate(
    config: &Config,
    of: &Certified,
    store: &Store,
    clock: Clock,
) -> Result<Option<Pem>, String> {
    let current = certificates::current(config, of, store)?;
    if let Some((pem, source)) = current {
        match source {
            Source::SelfSigned => tell_self_signed(config, of),
            Source::Files | Source::Store | Source::Acme => complain(&pem, &of.domain, clock),
        }
        return Ok(Some(pem));
    }
    if of.is_component {
        return Ok(None);
    }
    tell_self_signed(config, of);
    let domain = of.domain.as_str();
    let pem = Pem::self_signed(domain, SystemTime::now())?;
    store
        .update(|tx| certificates::keep(tx, domain, Source::SelfSigned, &pem))
        .map_err(|error: StoreError| format!("cannot keep the self-signed certificate: {error}"))?;
    Ok(Some(pem))
}

/// Says why clients will not trust a domain's certificate, as far as the clock tells.
fn complain(pem: &Pem, domain: &str, clock: Clock) {
    let now = (clock == Clock::Usable).then(SystemTime::now);
    for complaint in pem.complaints(domain, now) {
        tracing::warn!(domain, "{complaint}: clients will not trust it");
    }
}

/// The clock is right at last: what was not judged before is.
pub(super) fn judge_certificates(config: &Config, store: &Store) {
    for of in config.certified() {
        if let Ok(Some((pem, source))) = certificates::current(config, &of, store)
            && source != Source::SelfSigned
        {
            complain(&pem, &of.domain, Clock::Usable);
        }
    }
}

fn tell_self_signed(config: &Config, of: &Certified) {
    let domain = of.domain.as_str();
    match acme::looks_after(config, of) {
        true => tracing::warn!(
            domain,
            "the certificate is self-signed until the authority gives one"
        ),
        false => tracing::warn!(
            domain,
            "the certificate is self-signed: set [acme] directory, or give it one in the \
             configuration or by `cairn cert set`"
        ),
    }
}

/// Accounts that nobody reaches: their domain is not served any more. They stay in the store, and
/// the operator is told.
pub(super) fn tell_unreachable(core: &Core) {
    let domains = core.store.read(State::accounts_by_domain);
    let gone = domains.iter().filter(|(domain, _)| !core.is_local(domain));
    for (domain, accounts) in gone {
        tracing::warn!(
            domain,
            accounts,
            "accounts of a domain that is not served are out of reach: add a [[host]] for it, or \
             remove them"
        );
    }
}
