//! What the server keeps for itself in the store: its secret, and its own certificate where the
//! operator has none.

use std::sync::Arc;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Config, Host};
use crate::net::certificate::Pem;
use crate::net::tls::HostPem;
use crate::router::Core;
use crate::service::certificates::{self, Source};
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

/// The certificates to show, one for each domain in the order of the configuration: one is made
/// where there is none.
pub(super) fn certificates(config: &Config, store: &Store) -> Result<Vec<HostPem>, String> {
    let hosts = config.served().into_iter();
    let each = hosts.map(|host| {
        certificate(&host, store).map(|pem| HostPem {
            domain: host.domain,
            pem,
        })
    });
    each.collect()
}

fn certificate(host: &Host, store: &Store) -> Result<Pem, String> {
    let domain = host.domain.as_str();
    let current = certificates::current(host, store)?;
    if let Some((pem, source)) = current {
        let complaints = pem.complaints(domain, SystemTime::now());
        match source {
            Source::SelfSigned => tell_self_signed(domain),
            Source::Files | Source::Store => {
                for complaint in complaints {
                    tracing::warn!(domain, "{complaint}: clients will not trust it");
                }
            }
        }
        return Ok(pem);
    }
    tell_self_signed(domain);
    let pem = Pem::self_signed(domain, SystemTime::now())?;
    store
        .update(|tx| certificates::keep(tx, domain, Source::SelfSigned, &pem))
        .map_err(|error: StoreError| format!("cannot keep the self-signed certificate: {error}"))?;
    Ok(pem)
}

fn tell_self_signed(domain: &str) {
    tracing::warn!(
        domain,
        "the certificate is self-signed: give it one, in the configuration or by `cairn cert set`"
    );
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
