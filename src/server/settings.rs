//! What the server keeps for itself in the store: its secret, and its own certificate where the
//! operator has none.

use std::sync::Arc;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::net::certificate::Pem;
use crate::store::{Store, StoreError};

const SECRET: &str = "secret";
const CERTIFICATE: &str = "self-signed-certificate";
const KEY: &str = "self-signed-key";

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

/// The configured certificate, or the self-signed one of the store, made when it is missing or is
/// for another domain.
pub(super) fn certificate(config: &Config, store: &Store) -> Result<Pem, String> {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => {
            let pem = Pem::read(certificate, key)?;
            for complaint in pem.complaints(&config.domain, SystemTime::now()) {
                tracing::warn!("{complaint}: clients will not trust it");
            }
            Ok(pem)
        }
        (None, None) => self_signed(&config.domain, store),
        _ => Err("[tls] needs both `certificate` and `key`, or neither".to_owned()),
    }
}

fn self_signed(domain: &str, store: &Store) -> Result<Pem, String> {
    tracing::warn!("the certificate is self-signed: set [tls] certificate and key");
    let text = |state: &crate::store::State, name: &str| {
        let value = state.setting(&format!("{name}:{domain}"))?;
        String::from_utf8(value.to_vec()).ok()
    };
    let kept = store.read(|state| text(state, CERTIFICATE).zip(text(state, KEY)));
    if let Some((chain, key)) = kept {
        return Ok(Pem {
            chain,
            key: Zeroizing::new(key),
        });
    }
    let pem = Pem::self_signed(domain, SystemTime::now())?;
    store
        .update(|tx| {
            tx.put_setting(&format!("{CERTIFICATE}:{domain}"), pem.chain.as_bytes())?;
            tx.put_setting(&format!("{KEY}:{domain}"), pem.key.as_bytes())
        })
        .map_err(|error: StoreError| format!("cannot keep the self-signed certificate: {error}"))?;
    Ok(pem)
}
