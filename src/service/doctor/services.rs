//! Service records (RFC 6120 §3.2, RFC 2782, XEP-0368): are they there, and do they lead here? Pure.

use super::facts::{Facts, Offer, Way};
use super::records;
use super::report::Finding;
use crate::net::dns::PublishedService;

pub(super) fn judge(facts: &Facts, offer: &Offer) -> Vec<Finding> {
    let each = facts.services.iter();
    each.flat_map(|(way, published)| {
        let view = View {
            way: *way,
            facts,
            offer,
        };
        match published {
            Err(why) => vec![view.unknown(why)],
            Ok(records) => view.judge(records),
        }
    })
    .collect()
}

/// One way, and all that is known.
#[derive(Clone, Copy)]
struct View<'a> {
    way: Way,
    facts: &'a Facts,
    offer: &'a Offer,
}

impl View<'_> {
    fn judge(self, records: &[PublishedService]) -> Vec<Finding> {
        let real: Vec<_> = records
            .iter()
            .filter(|one| !one.target.is_empty())
            .collect();
        match (real.is_empty(), records.is_empty()) {
            (false, _) => real.into_iter().map(|one| self.record(one)).collect(),
            (true, false) => vec![self.declined()],
            (true, true) => vec![self.absent()],
        }
    }

    /// The record that would lead here.
    fn proposal(self) -> String {
        let name = &self.facts.name;
        records::service(self.way, name, name, self.offer.port(self.way))
    }

    /// The record that helps: for this way, or for the other one of the same visitors where nobody
    /// listens for this.
    fn mend(self) -> Option<String> {
        let sibling = View {
            way: self.way.sibling(),
            ..self
        };
        let both = [self, sibling].into_iter();
        let mut open = both.filter(|view| self.offer.listens(view.way));
        open.next().map(View::proposal)
    }

    fn full_name(self) -> String {
        format!("{}.{}", self.way.service(), self.facts.name)
    }

    fn unknown(self, why: &str) -> Finding {
        let sentence = format!("{} could not be looked up: {why}", self.full_name());
        Finding::failure(self.way.service_id(), sentence).mended_by(
            "check the zone's name servers, and the ones asked here: [dns] servers, or the machine's own",
        )
    }

    fn record(self, record: &PublishedService) -> Finding {
        let (way, id) = (self.way, self.way.service_id());
        let (host, port) = (&record.target, record.port);
        let leads = format!("{} leads to {host} port {port}", self.full_name());
        if port == 0 {
            let own = records::service(way, &self.facts.name, host, self.offer.port(way));
            return Finding::failure(id, format!("{leads}, which is no port")).mended_by(own);
        }
        if self.offer.listens_at(way, port) {
            return Finding::ok(id, leads);
        }
        let is_answered = self.facts.visits.iter().any(|visit| {
            visit.way == way && visit.host == *host && visit.to.port() == port && visit.seen.is_ok()
        });
        let has = self.offer.has(way);
        if is_answered {
            let sentence = format!("{leads}; {has}, but that port is answered all the same");
            return Finding::note(id, sentence);
        }
        let mend = match self.offer.listens(way) {
            false => {
                let key = way.key();
                format!("set [listen] {key} = [\"[::]:{port}\"], or remove the record")
            }
            true => records::service(way, &self.facts.name, host, self.offer.port(way)),
        };
        Finding::failure(id, format!("{leads}, but {has}")).mended_by(mend)
    }

    /// There is a record that says that there is no such service.
    fn declined(self) -> Finding {
        let (way, id) = (self.way, self.way.service_id());
        let says = format!(
            "{} says that there is no such service (\".\")",
            self.full_name()
        );
        if !self.offer.listens(way) && self.offer.listens(way.sibling()) {
            return Finding::ok(id, format!("{says}, and [listen] {} is empty", way.key()));
        }
        let sentence = match self.sibling_leads() {
            true => format!(
                "{says}: {} come by {} alone",
                way.who(),
                way.sibling().how()
            ),
            false => format!("{says}: no {} come at all", way.who()),
        };
        let finding = match self.sibling_leads() {
            true => Finding::note(id, sentence),
            false => Finding::failure(id, sentence),
        };
        finding.mended_by_any(self.mend())
    }

    fn absent(self) -> Finding {
        let (way, id, who) = (self.way, self.way.service_id(), self.way.who());
        let absent = format!("there is no {} record", self.full_name());
        let listens = self.offer.listens(way);
        if way.is_direct() {
            return match listens {
                false => {
                    let key = way.key();
                    let sentence = format!("{absent}, and none is needed: [listen] {key} is empty");
                    Finding::ok(id, sentence)
                }
                true => Finding::note(id, format!("{absent}: {who} do not come by direct TLS"))
                    .mended_by_any(self.mend()),
            };
        }
        let (name, port) = (&self.facts.name, way.usual_port());
        if self.sibling_leads() {
            let sentence = match listens {
                true => {
                    format!("{absent}: {who} that know no direct TLS look for {name} port {port}")
                }
                false => format!("{absent}: {who} that know no direct TLS do not come"),
            };
            return Finding::note(id, sentence).mended_by_any(self.mend());
        }
        // RFC 6120 §3.2.2.
        let instead = format!("{absent}, so {who} go to {name} port {port}");
        let has_address = self.facts.hosts.iter().any(|host| {
            host.name == *name && host.addresses.as_ref().is_ok_and(|found| !found.is_empty())
        });
        match (has_address, self.offer.listens_at(way, port)) {
            (true, true) => Finding::note(id, instead),
            (true, false) => {
                let key = way.key();
                Finding::failure(id, format!("{instead}, which [listen] {key} does not have"))
            }
            (false, _) => {
                let sentence = format!("{instead}, and {name} has no address that is known");
                Finding::failure(id, sentence)
            }
        }
        .mended_by_any(self.mend())
    }

    /// Whether there are records for the other way of the same visitors.
    fn sibling_leads(self) -> bool {
        let sibling = self.way.sibling();
        self.facts.services.iter().any(|(way, published)| {
            let leads =
                |records: &Vec<PublishedService>| records.iter().any(|one| !one.target.is_empty());
            *way == sibling && published.as_ref().is_ok_and(leads)
        })
    }
}
