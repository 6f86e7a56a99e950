//! What the authority of `[acme]` needs: a way to look here (RFC 8555 §8.3, RFC 8737), and a zone
//! that lets it issue (RFC 8659). Pure.

use super::facts::{Facts, Offer, Trouble, Way};
use super::records;
use super::report::{Finding, Severity};

pub(super) fn judge(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    if !offer.acme {
        return Vec::new();
    }
    let ways = [Way::Http, Way::Https].map(|way| {
        let visits = facts.visits.iter().filter(move |visit| visit.way == way);
        (way, visits)
    });
    let is_whole = |way: Way| {
        let mut visits = facts
            .visits
            .iter()
            .filter(|visit| visit.way == way)
            .peekable();
        offer.listens(way) && visits.peek().is_some() && visits.all(|visit| visit.seen.is_ok())
    };
    let mut findings = Vec::new();
    for (way, visits) in ways.into_iter().filter(|(way, _)| offer.listens(*way)) {
        let id = match way {
            Way::Http => "acme.http-01",
            _ => "acme.tls-alpn-01",
        };
        let other = match way {
            Way::Http => Way::Https,
            _ => Way::Http,
        };
        for visit in visits {
            let place = format!("{} at {} for the authority of [acme]", visit.host, visit.to);
            let Err(trouble) = &visit.seen else {
                findings.push(Finding::ok(id, format!("{place}: it answers")));
                continue;
            };
            // It tries one way after the other, and behind a router it may be better off than we.
            let may_pass = is_whole(other) || (trouble.is_absence() && !visit.is_own);
            let severity = match may_pass {
                true => Severity::Warning,
                false => Severity::Failure,
            };
            findings.push(
                Finding::new(id, severity, format!("{place}: {trouble}")).mended_by(step(
                    way,
                    visit.to.ip(),
                    trouble,
                )),
            );
        }
    }
    findings.extend(issuers(facts, offer));
    findings
}

fn step(way: Way, address: std::net::IpAddr, trouble: &Trouble) -> String {
    let (key, port) = (way.key(), way.usual_port());
    match trouble {
        Trouble::Tls(_) | Trouble::Stream(_) => format!(
            "TCP port {port} of {address} must lead to [listen] {key} of this server, and to no other \
             program"
        ),
        _ => format!(
            "let TCP port {port} of {address} through to [listen] {key}: the authority looks there, \
             and nowhere else"
        ),
    }
}

fn issuers(facts: &Facts, offer: &Offer) -> Option<Finding> {
    let (id, name) = ("acme.caa", &facts.name);
    let issuer = offer.issuer?;
    let published = match facts.issuers.as_ref()? {
        Ok(published) => published,
        Err(why) => {
            // RFC 8659 §3: an authority that gets no answer issues nothing.
            let sentence = format!(
                "the CAA records of {name} could not be looked up ({why}): an authority that cannot \
                 either issues nothing"
            );
            return Some(Finding::warning(id, sentence));
        }
    };
    let mut issue = published.iter().filter(|one| one.tag == "issue").peekable();
    if issue.peek().is_none() {
        let sentence = format!("no CAA record of {name} keeps an authority from issuing");
        return Some(Finding::ok(id, sentence));
    }
    // RFC 8659 §4.2: parameters stand behind a semicolon.
    let lets = issue.any(|one| {
        let domain = one.value.split(';').next().unwrap_or_default();
        domain.trim().eq_ignore_ascii_case(issuer)
    });
    Some(match lets {
        true => Finding::ok(id, format!("the CAA records of {name} let {issuer} issue")),
        false => Finding::failure(
            id,
            format!("the CAA records of {name} do not let {issuer} issue a certificate"),
        )
        .mended_by(records::issuer(name, issuer)),
    })
}
