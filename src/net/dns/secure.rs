//! Answers that were signed, and whose signatures we have checked ourselves up to an anchor
//! (RFC 4035). A resolver on the way that strips signatures, or breaks them, leaves nothing that
//! could be checked: that means no DANE, never a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::rdata::tlsa;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::config::Given;

use super::dane::{Association, Matching, Selector, Usage};
use super::target::{Target, Tls};
use super::{PORT, builder};

/// How long the question for signed answers may take: who connects waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Records of one target that are looked at.
const RECORDS_MAX: usize = 16;

/// What signed zones are trusted by.
#[derive(Clone, Default)]
pub struct Anchor(Option<Arc<TrustAnchors>>);

impl Anchor {
    /// That of the public root.
    #[must_use]
    pub fn public() -> Anchor {
        Anchor(None)
    }

    /// DNSKEY records of a root of one's own. The error is a sentence for the operator.
    pub fn given(given: &Given) -> Result<Anchor, String> {
        let text = given
            .read()
            .map_err(|error| format!("[dns] trust_anchor {error}"))?;
        match text.parse::<TrustAnchors>() {
            Ok(anchors) if !anchors.is_empty() => Ok(Anchor(Some(Arc::new(anchors)))),
            Ok(_) => Err("[dns] trust_anchor holds no DNSKEY of the root".to_owned()),
            Err(error) => Err(format!("[dns] trust_anchor: {error}")),
        }
    }
}

pub(super) fn resolver(servers: &[SocketAddr], anchor: &Anchor) -> Option<TokioResolver> {
    let mut builder = builder(servers)?;
    let options = builder.options_mut();
    options.validate = true;
    // An alias that is not signed leads wherever somebody on the way wants: it has to be seen.
    options.preserve_intermediates = true;
    let anchors = anchor.0.clone().unwrap_or_default();
    builder.with_trust_anchor(anchors).build().ok()
}

/// What the signed zone of a target says of its certificate; nothing where anything on the way is
/// not signed (RFC 7673 §3).
pub(super) async fn associations(
    resolver: &TokioResolver,
    domain: &str,
    target: &Target,
) -> Vec<Association> {
    let asking = async {
        // Where there are no service records the domain is its own target.
        let is_itself = target.host == domain && target.port == PORT;
        if !is_itself && !leads_to(resolver, domain, target).await {
            return Vec::new();
        }
        let name = format!("_{}._tcp.{}", target.port, target.host);
        let answers = signed(resolver, &name, RecordType::TLSA).await;
        answers
            .iter()
            .filter_map(association)
            .take(RECORDS_MAX)
            .collect()
    };
    let answered = tokio::time::timeout(PATIENCE, asking).await;
    answered.unwrap_or_default()
}

/// Whether a signed service record leads to the target.
async fn leads_to(resolver: &TokioResolver, domain: &str, target: &Target) -> bool {
    let service = match target.tls {
        Tls::Direct => "_xmpps-server._tcp",
        Tls::StartTls => "_xmpp-server._tcp",
    };
    let answers = signed(resolver, &format!("{service}.{domain}"), RecordType::SRV).await;
    answers.iter().any(|data| match data {
        RData::SRV(srv) => {
            let host = srv.target.to_ascii();
            srv.port == target.port && host.trim_end_matches('.') == target.host
        }
        _ => false,
    })
}

/// The records of a name, if all of them are signed, and every alias that led to them.
async fn signed(resolver: &TokioResolver, name: &str, type_: RecordType) -> Vec<RData> {
    let Ok(mut fqdn) = Name::from_ascii(name) else {
        return Vec::new();
    };
    fqdn.set_fqdn(true);
    let Ok(lookup) = resolver.lookup(fqdn, type_).await else {
        return Vec::new();
    };
    let records = lookup.answers();
    if !records.iter().all(|record| record.proof.is_secure()) {
        return Vec::new();
    }
    let of_type = records.iter().filter(|r| r.record_type() == type_);
    of_type.map(|record| record.data.clone()).collect()
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
