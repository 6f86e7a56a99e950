//! The hosts that service records lead to: their names, their addresses, and whether somebody
//! answers there. Pure.

use std::net::IpAddr;

use super::facts::{Facts, Host, Offer, Trouble, Visit, Way};
use super::records;
use super::report::{Finding, Severity};
use crate::net::dns::is_public;

pub(super) fn judge(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in &facts.hosts {
        findings.extend(alias(host, facts));
        findings.extend(addresses(host, facts, offer));
    }
    findings.extend(listeners(facts, offer));
    let to_streams = facts.visits.iter().filter(|visit| visit.way != Way::Http);
    findings.extend(to_streams.map(|visit| reach(visit, facts, offer)));
    findings
}

/// RFC 2782: a target "MUST NOT be an alias". Many look the other way.
fn alias(host: &Host, facts: &Facts) -> Option<Finding> {
    let alias = host.alias.as_ref()?;
    let mut leading = facts.aims.iter();
    leading.find(|aim| aim.host == host.name && !aim.is_fallback)?;
    let leading = facts.aims.iter();
    let leading = leading.filter(|aim| aim.host == host.name && !aim.is_fallback);
    let better: Vec<String> = leading
        .map(|aim| records::service(aim.way, &facts.name, alias, aim.port))
        .collect();
    let sentence = format!(
        "{} is the target of service records and an alias of {alias}, which no target may be: \
         some do not follow it",
        host.name
    );
    Some(Finding::warning("target.alias", sentence).mended_by(better.join("\n")))
}

fn addresses(host: &Host, facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let (id, name) = ("target.address", &host.name);
    let found = match &host.addresses {
        Err(why) => {
            let sentence = format!("the addresses of {name} could not be looked up: {why}");
            return vec![Finding::failure(id, sentence).mended_by(
                "check the zone's name servers, and the ones asked here: [dns] servers, or the machine's own",
            )];
        }
        Ok(found) if found.is_empty() => {
            let finding = Finding::failure(id, format!("{name} has no address"));
            return vec![finding.mended_by(records::addresses(name, offer))];
        }
        Ok(found) => found,
    };
    let is_for_servers = facts
        .aims
        .iter()
        .any(|aim| aim.host == *name && aim.way.is_for_servers());
    let has_public = found.iter().any(|(address, _)| is_public(*address));
    let one = |(address, is_own): &(IpAddr, bool)| {
        let is = format!("{name} is at {address}");
        if address.is_loopback() || address.is_unspecified() {
            let sentence = format!("{is}, which leads everybody to their own machine");
            return Finding::failure(id, sentence).mended_by(records::addresses(name, offer));
        }
        if !is_public(*address) {
            let sentence = format!("{is}, an address that leads nowhere from the internet");
            // Between servers that allow those it is as good as any.
            let severity = match (is_for_servers && !offer.allows_private, has_public) {
                (false, _) => Severity::Note,
                (true, true) => Severity::Warning,
                (true, false) => Severity::Failure,
            };
            let finding = Finding::new(id, severity, sentence);
            return match severity {
                Severity::Note => finding,
                _ => finding.mended_by(records::addresses(name, offer)),
            };
        }
        match is_own {
            true => Finding::ok(id, is),
            false => Finding::note(
                id,
                format!(
                    "{is}, which is not this machine's: a router in front of it, or another machine"
                ),
            ),
        }
    };
    found.iter().map(one).collect()
}

/// What stands where others go.
fn reach(visit: &Visit, facts: &Facts, offer: &Offer) -> Finding {
    let (way, id, to) = (visit.way, visit.way.reach_id(), visit.to);
    let place = format!("{} at {to} for {} by {}", visit.host, way.who(), way.how());
    let Err(trouble) = &visit.seen else {
        return Finding::ok(id, format!("{place}: it answers"));
    };
    let others = facts.visits.iter().filter(|other| other.way == way);
    let another_answers = others.clone().any(|other| other.seen.is_ok());
    // What a router does with a machine that calls itself by the router's address says little.
    let own = facts.own_visits.iter().find(|own| own.way == way);
    let is_hairpin =
        trouble.is_absence() && !visit.is_own && own.is_some_and(|own| own.seen.is_ok());
    let mut sentence = format!("{place}: {trouble}");
    if is_hairpin {
        sentence.push_str(
            "; the listener itself is well, so this may be the router's way with a machine that \
             calls itself: try it from elsewhere",
        );
    }
    let severity = match (way, trouble.is_absence() && (another_answers || is_hairpin)) {
        (_, true) | (Way::Https, _) => Severity::Warning,
        _ => Severity::Failure,
    };
    Finding::new(id, severity, sentence).mended_by(step(visit, trouble, offer))
}

fn step(visit: &Visit, trouble: &Trouble, offer: &Offer) -> String {
    let port = visit.to.port();
    let key = offer.key(visit.way, port);
    let family = match visit.to {
        std::net::SocketAddr::V4(_) => "A",
        std::net::SocketAddr::V6(_) => "AAAA",
    };
    match trouble {
        // A port that is not in the configuration is the record's fault.
        _ if !offer.listens_at(visit.way, port) => {
            format!("correct the record that leads to port {port}, or add it to [listen] {key}")
        }
        Trouble::Refused if visit.is_own => format!(
            "start the server; or have [listen] {key} take the addresses of {} too, as \
             \"[::]:{port}\" does",
            visit.host
        ),
        Trouble::Refused | Trouble::Silent | Trouble::Unreachable(_) if visit.is_own => format!(
            "let TCP port {port} through in every firewall, or remove the {family} record of {}",
            visit.host
        ),
        Trouble::Refused | Trouble::Silent | Trouble::Unreachable(_) => format!(
            "lead TCP port {port} of {} to this machine, or remove the {family} record of {}",
            visit.to.ip(),
            visit.host
        ),
        Trouble::Tls(_) | Trouble::Stream(_) => format!(
            "look which program answers at TCP port {port} of {}, and into this server's log",
            visit.to.ip()
        ),
    }
}

/// What stands where the configuration listens.
fn listeners(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let one = |visit: &Visit| {
        let (id, to) = (visit.way.listener_id(), visit.to);
        let key = offer.key(visit.way, to.port());
        match &visit.seen {
            Ok(_) => Finding::ok(id, format!("[listen] {key} answers at {to}")),
            Err(trouble) => {
                let sentence = format!("[listen] {key} at {to}: {trouble}");
                let step = "start the server: its log says why it does not listen there";
                Finding::failure(id, sentence).mended_by(step)
            }
        }
    };
    let mut findings: Vec<Finding> = facts.own_visits.iter().map(one).collect();
    let is_deaf = !offer.listens(Way::Servers) && !offer.listens(Way::ServersDirect);
    if offer.federates && is_deaf {
        let sentence = "[listen] s2s, s2s_tls and https are empty: no other server can come";
        let step = "set [listen] s2s = [\"[::]:5269\"], or [federation] mode = \"off\"";
        findings.push(Finding::failure("listener.s2s", sentence).mended_by(step));
    }
    findings
}
