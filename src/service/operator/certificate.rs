//! The certificate: shown, and replaced.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::{Operator, Refused, say};
use crate::addr::Jid;
use crate::config::Certified;
use crate::net::certificate::Pem;
use crate::net::tls::TlsAcceptor;
use crate::service::acme;
use crate::service::certificates::{self, Source};

/// Bytes of a chain and its key.
const INPUT_BYTES_MAX: u64 = 128 * 1024;

impl Operator {
    /// Of the first domain where none is named.
    pub(super) fn show_certificate(
        &self,
        domain: Option<&str>,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let of = self.certified(domain)?;
        let current = certificates::current(&self.core.config, &of, &self.core.store)?;
        let (pem, source) = current.ok_or_else(|| {
            Refused::missing(match of.is_component {
                true => "the component's domain has no certificate of its own",
                false => "there is no certificate yet: the server makes one when it starts",
            })
        })?;
        let from = match source {
            Source::Files => "the files that the configuration names",
            Source::Store => "the store, by `cairn cert set`",
            Source::Acme => "the authority that [acme] names",
            Source::SelfSigned => "the server itself: self-signed",
        };
        let mut text = format!("from                 {from}\n");
        match pem.facts() {
            Some(facts) => {
                let _ = write!(
                    text,
                    "for                  {}\nissued by            {}\nuntil                {}\n\
                     SHA-256              {}",
                    facts.names.join(", "),
                    facts.issuer,
                    facts.not_after,
                    facts.fingerprint
                );
            }
            None => text.push_str("it cannot be read"),
        }
        let store = &self.core.store;
        let record = store.read(|state| acme::recorded(state, &of.domain));
        let record = record.filter(|_| acme::looks_after(&self.core.config, &of));
        if let Some(why) = record.and_then(|record| record.last_failure) {
            let _ = write!(text, "\nno new one           {why}");
        }
        for complaint in self.complaints(&of, &pem) {
            let _ = write!(text, "\nwarning              {complaint}");
        }
        Ok(say(output, &text)?)
    }

    /// Takes chain and key, one behind the other, both PEM. They are for the first domain where
    /// none is named.
    pub(super) fn set_certificate(
        &self,
        domain: Option<&str>,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let of = self.certified(domain)?;
        if of.tls.certificate.is_some() {
            return Err(Refused::conflict(
                "the configuration names the files of the certificate: replace those, then send \
                 SIGHUP",
            ));
        }
        if acme::looks_after(&self.core.config, &of) {
            return Err(Refused::conflict(
                "[acme] looks after the certificate: to set one by hand, name its files in the \
                 configuration, or remove the directory of [acme]",
            ));
        }
        let mut text = Zeroizing::new(String::new());
        input
            .take(INPUT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Refused::invalid(format!("the input cannot be read: {error}")))?;
        let pem = split(&text).ok_or_else(|| {
            Refused::invalid("give a chain of certificates and one private key, all in PEM")
        })?;
        TlsAcceptor::of_one(&pem).map_err(Refused::invalid)?;
        let kept = self
            .core
            .store
            .update(|tx| certificates::keep(tx, &of.domain, Source::Store, &pem));
        let ((), position) = kept.map_err(|error| error.to_string())?;
        self.wait(position)?;
        self.reload_certificate()?;
        tracing::info!(domain = of.domain, "the certificate was replaced");
        for complaint in self.complaints(&of, &pem) {
            say(
                output,
                &format!("warning: {complaint}: clients will not trust it"),
            )?;
        }
        Ok(say(output, "the certificate is in use; sessions stay")?)
    }

    fn complaints(&self, of: &Certified, pem: &Pem) -> Vec<String> {
        let machine = self.around.machine.as_deref();
        let is_wrong = machine.is_some_and(|machine| machine.status().clock_is_wrong);
        let now = UNIX_EPOCH + Duration::from_millis(self.now_ms());
        pem.complaints(&of.domain, (!is_wrong).then_some(now))
    }

    /// The domain that is named, if it is the server's or a component's; the first one where none
    /// is.
    fn certified(&self, domain: Option<&str>) -> Result<Certified, Refused> {
        let config = &self.core.config;
        let Some(domain) = domain else {
            return Ok(self.core.hosts.first().policy.certified());
        };
        let jid = Jid::parse(domain).ok();
        let named = |of: &Certified| jid.as_ref().is_some_and(|jid| jid.as_str() == of.domain);
        config.certified().into_iter().find(named).ok_or_else(|| {
            Refused::missing(format!(
                "{domain} is not served here: the configuration has no [[host]] or [[component]] for it"
            ))
        })
    }
}

/// The certificates and the key of a text with both.
fn split(text: &str) -> Option<Pem> {
    let (mut chain, mut key) = (String::new(), Zeroizing::new(String::new()));
    let mut rest = text;
    while let Some(at) = rest.find("-----BEGIN ") {
        let block = &rest[at..];
        let label = block["-----BEGIN ".len()..].split("-----").next()?;
        let end = format!("-----END {label}-----");
        let until = block.find(&end)? + end.len();
        let into = match label {
            "CERTIFICATE" => &mut chain,
            label if label.ends_with("PRIVATE KEY") && key.is_empty() => &mut *key,
            _ => return None,
        };
        into.push_str(&block[..until]);
        into.push('\n');
        rest = &block[until..];
    }
    let is_whole = !chain.is_empty() && !key.is_empty();
    is_whole.then_some(Pem { chain, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_and_key_are_told_apart() {
        let pem = Pem::self_signed("chat.example", UNIX_EPOCH).expect("an ASCII domain");
        for text in [
            format!("{}{}", pem.chain, *pem.key),
            format!("# key\n{}\nchain: {}", *pem.key, pem.chain),
        ] {
            let found = split(&text).expect("both");
            assert_eq!(found.chain.trim(), pem.chain.trim());
            assert_eq!(found.key.trim(), pem.key.trim());
        }
        for wrong in [
            "",
            &*pem.chain,
            &**pem.key,
            &format!("{}{}{}", pem.chain, *pem.key, *pem.key),
            &format!("{}-----BEGIN PRIVATE KEY-----\nMII", pem.chain),
        ] {
            assert!(split(wrong).is_none(), "{wrong}");
        }
    }
}
