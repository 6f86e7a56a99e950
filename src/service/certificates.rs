//! Which certificate the server shows for a domain: the configured files, the one that `cairn cert
//! set` has put into the store, the one that an authority has given by `[acme]`, or the self-signed
//! one that is there.

use zeroize::Zeroizing;

use crate::config::{Certified, Config};
use crate::net::certificate::Pem;
use crate::service::acme;
use crate::store::{State, Store, StoreError, Tx};

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The files that the configuration names.
    Files,
    /// The store, by `cairn cert set`.
    Store,
    /// The store, from the authority that `[acme]` names.
    Acme,
    /// The store, made by the server itself.
    SelfSigned,
}

/// A domain's certificate that is there; `None` where the server has to make one, or a component
/// does without. The error is a sentence for the operator.
pub fn current(
    config: &Config,
    of: &Certified,
    store: &Store,
) -> Result<Option<(Pem, Source)>, String> {
    match (&of.tls.certificate, &of.tls.key) {
        (Some(certificate), Some(key)) => {
            return Ok(Some((Pem::read(certificate, key)?, Source::Files)));
        }
        (None, None) => {}
        _ => {
            return Err(format!(
                "{} needs both `certificate` and `key`, or neither",
                of.domain
            ));
        }
    }
    // Where the authority is asked no more, its last certificate is still better than a
    // self-signed one.
    let in_store = match acme::looks_after(config, of) {
        true => [Source::Acme, Source::Store, Source::SelfSigned],
        false => [Source::Store, Source::Acme, Source::SelfSigned],
    };
    Ok(store.read(|state| {
        in_store
            .into_iter()
            .find_map(|source| Some((kept(state, &of.domain, source)?, source)))
    }))
}

/// Keeps a certificate in the store.
pub fn keep(tx: &mut Tx<'_>, domain: &str, source: Source, pem: &Pem) -> Result<(), StoreError> {
    let (chain, key) = names(source);
    tx.put_setting(&format!("{chain}:{domain}"), pem.chain.as_bytes())?;
    tx.put_setting(&format!("{key}:{domain}"), pem.key.as_bytes())
}

/// The certificate of one kind that the store keeps.
pub fn kept(state: &State, domain: &str, source: Source) -> Option<Pem> {
    let (chain, key) = names(source);
    let text = |name: &str| {
        let value = state.setting(&format!("{name}:{domain}"))?;
        String::from_utf8(value.to_vec()).ok()
    };
    Some(Pem {
        chain: text(chain)?,
        key: Zeroizing::new(text(key)?),
    })
}

fn names(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::SelfSigned => ("self-signed-certificate", "self-signed-key"),
        Source::Acme => ("acme-certificate", "acme-key"),
        Source::Files | Source::Store => ("certificate", "certificate-key"),
    }
}
