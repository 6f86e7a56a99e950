//! What another server sees of this one: its records in the DNS, its addresses, what stands there
//! and with which certificate; and for each thing that is wrong the record or the step that mends
//! it.
//!
//! Facts are gathered (`gather`, `visit`), and then judged by pure functions. Everything is seen from
//! this machine itself, which is said.

mod authority;
mod certificates;
mod clock;
mod facts;
mod gather;
mod hosts;
mod keys;
mod records;
mod report;
mod services;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::addr::Jid;
use crate::config::{Certified, Config, FederationMode};
use crate::machine::status::MachineStatus;
use crate::net::dns::{Anchor, Resolver};
use crate::net::tls::Authorities;
use facts::Offer;
use gather::{Means, gather};

pub use report::{Finding, Report, Severity};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(28);

/// Domains that are looked at at once: each is a few dozen connections, to this server above all.
const AT_ONCE: usize = 4;

/// Looks at everything, for half a minute at most, on a runtime of its own. `machine` is how the
/// machine is, where the server has one of its own. The error is a sentence for the operator.
pub fn run(config: &Config, machine: Option<&MachineStatus>) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("nothing can be looked at: {error}"))?;
    let report = runtime.block_on(examine(config, machine));
    runtime.shutdown_background();
    Ok(report)
}

/// Likewise, on the runtime that is there.
pub async fn examine(config: &Config, machine: Option<&MachineStatus>) -> Report {
    let deadline = Instant::now() + PATIENCE;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO);
    let mut of_machine = vec![view(config)];
    let resolver = Resolver::new(config.dns.addresses(), anchor(config, &mut of_machine));
    let resolver = Arc::new(resolver);
    let authorities = authorities(config, &mut of_machine);
    let outgoing = visit::outgoing();
    // What a clock that is wrong says of a certificate is nothing.
    let is_clock_wrong = machine.is_some_and(|machine| machine.clock_is_wrong);
    let judged_s = (!is_clock_wrong).then_some(now.as_secs());
    let (mut looking, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for (place, served) in served(config).into_iter().enumerate() {
        let means = Arc::new(Means {
            resolver: resolver.clone(),
            authorities: authorities.clone(),
            offer: Offer {
                outgoing: outgoing.clone(),
                ..Offer::of(config, &served.of)
            },
            now_s: now.as_secs(),
        });
        let turns = turns.clone();
        looking.spawn(async move {
            let domain = served.domain;
            let facts = async {
                let _turn = turns.acquire().await;
                gather(means.clone(), domain.clone()).await
            };
            let facts = timeout_at(deadline, facts).await;
            let findings = match facts {
                Ok(facts) => judge(&facts, &means.offer, &domain, judged_s),
                Err(_) => vec![Finding::failure(
                    "time",
                    "there was no time to look at all of it",
                )],
            };
            (place, domain, findings)
        });
    }
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let clock = clock::look(config, &resolver, machine, now_ms);
    of_machine.push(match timeout_at(deadline, clock).await {
        Ok(finding) => finding,
        Err(_) => Finding::note(
            "clock",
            "the clock could not be checked: nobody answers in time",
        ),
    });
    let mut of_domains = looking.join_all().await;
    of_domains.sort_by_key(|(place, ..)| *place);
    let of_domains = of_domains.into_iter().flat_map(|(_, domain, findings)| {
        let each = findings.into_iter();
        each.map(move |finding| finding.of_domain(domain.as_str()))
    });
    Report::of(of_domains.chain(of_machine).collect())
}

/// A domain that is looked at.
struct Served {
    domain: Jid,
    of: Certified,
}

/// All of them: the one place that knows which there are. Of a component there is nothing to see
/// where no other server is talked to.
fn served(config: &Config) -> Vec<Served> {
    let is_open = config.federation.mode != FederationMode::Off;
    let all = config.certified().into_iter();
    let all = all.filter(|of| is_open || !of.is_component);
    let all = all.filter_map(|of| {
        Some(Served {
            domain: Jid::parse(&of.domain).ok()?,
            of,
        })
    });
    all.collect()
}

fn judge(facts: &facts::Facts, offer: &Offer, domain: &Jid, now_s: Option<u64>) -> Vec<Finding> {
    [
        services::judge(facts, offer),
        hosts::judge(facts, offer),
        certificates::judge(facts, offer, domain.as_str(), now_s),
        keys::judge(facts, offer),
        authority::judge(facts, offer),
    ]
    .concat()
}

/// What this can see at all.
fn view(config: &Config) -> Finding {
    let closed = match config.federation.mode {
        FederationMode::Off => {
            "[federation] mode is \"off\", so that only what clients need is looked at; "
        }
        _ => "",
    };
    Finding::note(
        "view",
        format!(
            "{closed}all of it is seen from this machine: a firewall in front of it may keep out \
             others that come from elsewhere"
        ),
    )
}

fn anchor(config: &Config, findings: &mut Vec<Finding>) -> Anchor {
    let Some(given) = &config.dns.trust_anchor else {
        return Anchor::public();
    };
    Anchor::given(given).unwrap_or_else(|why| {
        let step = "correct [dns] trust_anchor, or leave it out";
        findings.push(Finding::failure("trust", why).mended_by(step));
        Anchor::public()
    })
}

/// Those that this server trusts; others may trust fewer.
fn authorities(config: &Config, findings: &mut Vec<Finding>) -> Arc<Authorities> {
    let (key, step) = (
        "[federation] trust",
        "correct [federation] trust, or leave it out",
    );
    let loaded = Authorities::load(key, config.federation.trust.as_ref());
    let authorities = loaded.unwrap_or_else(|why| {
        findings.push(Finding::failure("trust", why).mended_by(step));
        Authorities::load(key, None).expect("nothing is read that could be wrong")
    });
    if authorities.is_empty() {
        let sentence = "no certificate authority is known here: no certificate is trusted";
        let step = "install the system's certificate authorities (ca-certificates)";
        findings.push(Finding::failure("trust", sentence).mended_by(step));
    }
    authorities
}
