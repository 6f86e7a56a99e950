//! DANE (RFC 7673): what signed zones say of a server's certificate, where they are signed from the
//! domain to that record. We check the signatures ourselves up to an anchor (RFC 4035), whatever a
//! name server says of its own checks.
//!
//! A server in between that strips signatures, or breaks them, leaves nothing that could be checked:
//! that means no DANE, never a failure. RFC 7673 §3 would have a domain refused whose signatures do not
//! verify; but then such a server would cut off every signed domain. The price: DANE does not help
//! against somebody who tampers with the answers of the DNS and has a certificate of an authority.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::dnssec::{TrustAnchors, Verifier};
use hickory_resolver::proto::rr::rdata::tlsa;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};

use crate::config::Given;

use super::dane::{Association, Matching, Selector, Usage};
use super::target::{Target, Tls};
use super::{PORT, Resolver};

/// How long all questions about a target's certificate may take: who connects waits for them.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the file with the root's keys.
const ANCHOR_BYTES_MAX: usize = 64 * 1024;

/// Records of one target that are looked at.
const RECORDS_MAX: usize = 16;

/// What signed zones are trusted by.
#[derive(Clone, Default)]
pub struct Anchor(Option<Arc<TrustAnchors>>);

impl Anchor {
    pub(super) fn keys(&self) -> Arc<TrustAnchors> {
        self.0.clone().unwrap_or_default()
    }

    /// That of the public root.
    #[must_use]
    pub fn public() -> Anchor {
        Anchor(None)
    }

    /// DNSKEY records of a root of one's own. The error is a sentence for the operator.
    pub fn given(given: &Given) -> Result<Anchor, String> {
        let told = |why: String| format!("[dns] trust_anchor {why}");
        let text = given.read().map_err(told)?;
        Anchor::of_text(&text).map_err(|why| match given.file() {
            Some(path) => told(format!("{}: {why}", path.display())),
            None => told(why),
        })
    }

    /// The same, as a zone file has them.
    pub(super) fn of_text(text: &str) -> Result<Anchor, String> {
        if text.len() > ANCHOR_BYTES_MAX {
            return Err("that is too long for the keys of a root".to_owned());
        }
        // The last line may have no end.
        let entries = Parser::new(format!("{text}\n")).parse().map_err(|error| {
            format!(
                "{error}; write the root's key as in `. IN DNSKEY 257 3 13 …` (a DS record is only \
                 the digest of one)"
            )
        })?;
        let mut anchors = TrustAnchors::empty();
        for entry in entries {
            let Entry::DNSKEY(record) = entry else {
                continue;
            };
            let algorithm = record.data().algorithm();
            if !algorithm.is_supported() {
                let number = u8::from(algorithm);
                return Err(format!("the algorithm {number} of a key is not known here"));
            }
            let key = record.data().key();
            let key = key.map_err(|error| format!("a key is none of its algorithm: {error}"))?;
            anchors.insert_with_name(&*key, record.name().into());
        }
        match anchors.is_empty() {
            true => Err("there is no DNSKEY in it".to_owned()),
            false => Ok(Anchor(Some(Arc::new(anchors)))),
        }
    }
}

/// The name of the records about a target's certificate (RFC 6698 §3, RFC 7673 §3.3).
pub(super) fn name(target: &Target) -> String {
    format!("_{}._tcp.{}", target.port, target.host)
}

/// What the signed zone of a target says of its certificate; nothing where anything on the way to it
/// is not signed.
pub(super) async fn associations(
    resolver: &Resolver,
    domain: &str,
    target: &Target,
) -> Vec<Association> {
    // Where there are no service records the domain is its own target: nobody else has named it.
    let is_itself = target.host == domain && target.port == PORT;
    let name = name(target);
    let (is_led_to, has_addresses, records) = tokio::join!(
        async { is_itself || leads_to(resolver, domain, target).await },
        has_signed_addresses(resolver, target),
        signed(resolver, &name, RecordType::TLSA),
    );
    match is_led_to && has_addresses {
        true => records
            .iter()
            .filter_map(association)
            .take(RECORDS_MAX)
            .collect(),
        false => Vec::new(),
    }
}

/// Whether a signed service record leads to the target (RFC 7673 §3.1).
async fn leads_to(resolver: &Resolver, domain: &str, target: &Target) -> bool {
    let service = match target.tls {
        Tls::Direct => "_xmpps-server._tcp",
        Tls::StartTls => "_xmpp-server._tcp",
    };
    let answers = signed(resolver, &format!("{service}.{domain}"), RecordType::SRV).await;
    answers.iter().any(|data| match data {
        RData::SRV(srv) => {
            let host = srv.target.to_ascii();
            let is_host = host
                .trim_end_matches('.')
                .eq_ignore_ascii_case(&target.host);
            srv.port == target.port && is_host
        }
        _ => false,
    })
}

/// Whether the addresses of a target, or those of one family, are signed, and the aliases that lead
/// to them (RFC 7673 §3.2).
async fn has_signed_addresses(resolver: &Resolver, target: &Target) -> bool {
    let (v6, v4) = tokio::join!(
        signed(resolver, &target.host, RecordType::AAAA),
        signed(resolver, &target.host, RecordType::A),
    );
    !v6.is_empty() || !v4.is_empty()
}

/// The records of a name, if all of them are signed, and every alias that led to them.
async fn signed(resolver: &Resolver, name: &str, type_: RecordType) -> Vec<RData> {
    match resolver.ask(name, type_, true).await {
        Ok(answer) if answer.is_secure => answer.records.clone(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn association(data: &RData) -> Option<Association> {
    let RData::TLSA(record) = data else {
        return None;
    };
    let usage = match record.cert_usage {
        tlsa::CertUsage::DaneTa => Usage::Authority,
        tlsa::CertUsage::DaneEe => Usage::Own,
        // Those that want a public authority besides change nothing for who has one.
        _ => return None,
    };
    let selector = match record.selector {
        tlsa::Selector::Full => Selector::Certificate,
        tlsa::Selector::Spki => Selector::Key,
        _ => return None,
    };
    let matching = match record.matching {
        tlsa::Matching::Raw => Matching::Full,
        tlsa::Matching::Sha256 => Matching::Sha256,
        tlsa::Matching::Sha512 => Matching::Sha512,
        _ => return None,
    };
    Some(Association {
        usage,
        selector,
        matching,
        data: record.cert_data.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_a_key_and_not_its_digest() {
        let key = ". IN DNSKEY 257 3 13 wMYOEfXZjJ6UU+p6vrexKhNtC2TX0ACIoVCeT/9z1Wuz5ac1XsLy7i37Z5r2\
                   ozt6zWV2DIcrx3OmqwKx38noWA==";
        assert!(Anchor::of_text(key).is_ok(), "without the end of the line");
        assert!(Anchor::of_text(&format!("{key}\n")).is_ok());
        let told = |text: &str| Anchor::of_text(text).map(drop).expect_err("none");
        let digest =
            ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
        assert!(told(digest).contains("a DS record is only"));
        let unknown = key.replacen(" 13 ", " 92 ", 1);
        assert!(told(&unknown).contains("algorithm 92"));
        assert!(told("").contains("no DNSKEY"));
        assert!(told(&"\n".repeat(ANCHOR_BYTES_MAX + 1)).contains("too long"));
    }
}
