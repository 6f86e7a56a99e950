//! What the server keeps for itself in the store: its secret, and its own certificate where the
//! operator has none.

use std::sync::Arc;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::Config;
use crate::net::certificate::Pem;
use crate::service::certificates::{self, Source};
use crate::service::machine::Machine;
use crate::store::{Store, StoreError};

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

/// The certificate to show: one is made where there is none, or none for this domain.
pub(super) fn certificate(config: &Config, store: &Store, clock: Clock) -> Result<Pem, String> {
    let current = certificates::current(config, store)?;
    if let Some((pem, source)) = current {
        match source {
            Source::SelfSigned => tell_self_signed(config),
            Source::Files | Source::Store | Source::Acme => complain(&pem, config, clock),
        }
        return Ok(pem);
    }
    tell_self_signed(config);
    let pem = Pem::self_signed(&config.domain, SystemTime::now())?;
    store
        .update(|tx| certificates::keep(tx, &config.domain, Source::SelfSigned, &pem))
        .map_err(|error: StoreError| format!("cannot keep the self-signed certificate: {error}"))?;
    Ok(pem)
}

/// Says why clients will not trust the certificate, as far as the clock tells.
pub(super) fn complain(pem: &Pem, config: &Config, clock: Clock) {
    let now = (clock == Clock::Usable).then(SystemTime::now);
    for complaint in pem.complaints(&config.domain, now) {
        tracing::warn!("{complaint}: clients will not trust it");
    }
}

/// The clock is right at last: what was not judged before is.
pub(super) fn judge_certificate(config: &Config, store: &Store) {
    if let Ok(Some((pem, source))) = certificates::current(config, store)
        && source != Source::SelfSigned
    {
        complain(&pem, config, Clock::Usable);
    }
}

fn tell_self_signed(config: &Config) {
    match config.acme.url() {
        Some(_) => tracing::warn!("the certificate is self-signed until the authority gives one"),
        None => tracing::warn!(
            "the certificate is self-signed: set [acme] directory, or [tls] certificate and key"
        ),
    }
}
