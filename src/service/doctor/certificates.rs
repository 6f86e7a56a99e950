//! The certificates that are shown (RFC 6120 §13.7, RFC 9525): who answers for them, whom they name,
//! and how long they last. Pure.

use std::sync::Arc;

use super::facts::{Facts, Offer, Shown, Visit, Way};
use super::report::{Finding, Severity};
use crate::stanza::time::to_datetime;

const DAY_S: u64 = 86_400;

/// A certificate that somebody renews by hand is told of so long before its end, unless it lives
/// but a short time.
const SOON_S: u64 = 14 * DAY_S;

pub(super) fn judge(
    facts: &Facts,
    offer: &Offer,
    domain: &str,
    now_s: Option<u64>,
) -> Vec<Finding> {
    let mut seen: Vec<(Arc<Shown>, Vec<String>)> = Vec::new();
    // The pages of a domain may be on another machine, whose certificate is not ours.
    let is_elsewhere = |visit: &&Visit| visit.way == Way::Https && !visit.is_own;
    let visits = facts.own_visits.iter().chain(&facts.visits);
    for visit in visits.filter(|visit| !is_elsewhere(visit)) {
        let Ok(Some(shown)) = &visit.seen else {
            continue;
        };
        match seen.iter_mut().find(|(known, _)| known.der == shown.der) {
            Some((_, places)) => places.push(place(visit)),
            None => seen.push((shown.clone(), vec![place(visit)])),
        }
    }
    if seen.is_empty() {
        let sentence = "no certificate was seen, because nothing answers";
        return vec![Finding::note("certificate.chain", sentence)];
    }
    let each = seen.iter().flat_map(|(shown, places)| {
        let about = About {
            shown,
            offer,
            // Which of several it is; with one alone nobody asks.
            place: match seen.len() {
                1 => String::new(),
                _ => format!(" at {}", places.join(", ")),
            },
        };
        let findings = [
            Some(about.chain()),
            Some(about.names(domain)),
            now_s.map(|now_s| about.dates(now_s)),
        ];
        findings.into_iter().flatten()
    });
    each.collect()
}

fn place(visit: &Visit) -> String {
    match visit.host.is_empty() {
        true => visit.to.to_string(),
        false => format!("{} ({})", visit.host, visit.to),
    }
}

struct About<'a> {
    shown: &'a Shown,
    offer: &'a Offer,
    place: String,
}

impl About<'_> {
    fn chain(&self) -> Finding {
        let (id, place) = ("certificate.chain", &self.place);
        let why = match &self.shown.trust {
            Ok(()) => {
                let issuer = &self.shown.issuer;
                let sentence = format!(
                    "an authority that is trusted here answers for the certificate{place}: {issuer}"
                );
                return Finding::ok(id, sentence);
            }
            Err(why) => why,
        };
        // Without other servers it is for its own users to say whom they trust.
        let severity = match self.offer.federates {
            true => Severity::Failure,
            false => Severity::Warning,
        };
        let (sentence, step) = match self.shown.is_self_signed {
            true => (
                format!(
                    "the certificate{place} is self-signed: other servers refuse it, and clients ask \
                     their users"
                ),
                self.another(),
            ),
            false => (
                format!("the certificate{place} is not trusted: {why}"),
                format!(
                    "serve the whole chain, the server's own certificate first; for an authority of \
                     one's own, name it in [federation] trust here and on the other servers; or {}",
                    self.another()
                ),
            ),
        };
        Finding::new(id, severity, sentence).mended_by(step)
    }

    /// How to come to another certificate.
    fn another(&self) -> String {
        if self.offer.has_files {
            return "put a certificate of an authority into the files that [tls] names, and send SIGHUP"
                .to_owned();
        }
        if self.offer.acme {
            return "wait for the authority that [acme] names: `cairn cert show` says what keeps it"
                .to_owned();
        }
        "set [acme] directory = \"letsencrypt\" and contact, or have one from elsewhere with \
         `cairn cert set CHAIN KEY`"
            .to_owned()
    }

    fn names(&self, domain: &str) -> Finding {
        let (id, place) = ("certificate.names", &self.place);
        let names: Vec<&str> = self.shown.names.iter().map(String::as_str).collect();
        if self.shown.is_named_as_host {
            return Finding::ok(id, format!("the certificate{place} is for {domain}"));
        }
        if self.shown.is_named {
            let sentence = format!(
                "the certificate{place} names {domain} in a way that servers know, but not as a name \
                 of the DNS, which is all that most clients look at"
            );
            return Finding::warning(id, sentence).mended_by(self.another());
        }
        let whom = match names.is_empty() {
            true => "for no name".to_owned(),
            false => format!("for {}", names.join(", ")),
        };
        let sentence = format!("the certificate{place} is {whom}, and not for {domain}");
        Finding::failure(id, sentence).mended_by(self.another())
    }

    fn dates(&self, now_s: u64) -> Finding {
        let (id, place) = ("certificate.dates", &self.place);
        let (from_s, until_s) = (self.shown.not_before_s, self.shown.not_after_s);
        let (from, until) = (date(from_s), date(until_s));
        if now_s < from_s {
            let sentence = format!("the certificate{place} is valid only from {from} on");
            let step = format!("set the clock, if it is behind; or {}", self.another());
            return Finding::failure(id, sentence).mended_by(step);
        }
        if now_s > until_s {
            let sentence = format!("the certificate{place} has ended on {until}");
            return Finding::failure(id, sentence).mended_by(self.another());
        }
        let (left_s, third_s) = (until_s - now_s, (until_s - from_s) / 3);
        let sentence = format!(
            "the certificate{place} is valid until {until}, {} days from now",
            left_s / DAY_S
        );
        if left_s >= third_s {
            return Finding::ok(id, sentence);
        }
        // [acme] renews after two thirds of the life: what is left of the last one is for trying.
        let is_late = match self.offer.acme {
            true => left_s < third_s / 2,
            false => left_s < SOON_S,
        };
        match is_late {
            true => Finding::warning(id, sentence).mended_by(self.another()),
            false => Finding::note(id, sentence),
        }
    }
}

fn date(at_s: u64) -> String {
    to_datetime(at_s.saturating_mul(1_000))
}
