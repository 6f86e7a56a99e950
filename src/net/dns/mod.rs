//! The DNS: where another domain's server is (RFC 6120 §3.2, XEP-0368). This folder alone names
//! hickory.
//!
//! No server is ever asked but those that the operator or the machine names.

mod address;
mod cache;
mod chain;
pub mod dane;
mod families;
mod published;
mod query;
mod scope;
mod secure;
mod servers;
mod target;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use cache::{Cache, Question};
use chain::{Answer, Chain, Read};
use dane::Association;
use query::Upstream;
use servers::Source;

pub use address::{interleaved, is_public};
pub use published::{PublishedIssuer, PublishedKey, PublishedService};
pub use secure::Anchor;
pub use target::{Srv, Target, Tls, order};

/// The names under which the libraries that ask write to the log.
pub const LOG_TARGETS: [&str; 3] = ["hickory_resolver", "hickory_net", "hickory_proto"];

/// The port of streams between servers (RFC 6120 §3.2.2).
const PORT: u16 = 5269;

/// How long one question may take, with its repetitions.
const PATIENCE: Duration = Duration::from_secs(12);

/// How often the machine's own servers are looked up again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long a name is not asked about whose TLSA records nobody has answered for.
const MUTE: Duration = Duration::from_secs(60);

/// Such names that are remembered.
const MUTE_MAX: usize = 1_024;

/// Addresses of one target that are tried at most.
const ADDRESSES_MAX: usize = 8;

/// Why a domain has no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// There is no such domain, or it says that it has no such service.
    NotFound(String),
    /// The DNS did not answer, or with a failure.
    Unknown(String),
}

/// Asks the DNS.
pub struct Resolver {
    source: Source,
    anchor: Anchor,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    servers: Vec<SocketAddr>,
    looked_at: Option<Instant>,
    /// `None` where no server is known.
    upstream: Option<Arc<Upstream>>,
    cache: Cache,
    /// Names whose TLSA records nobody answers for, and until when nobody is asked about them.
    mute: HashMap<String, Instant>,
}

/// What is known of a question.
enum Known {
    Answer(Arc<Answer>),
    /// These can be asked.
    Ask(Arc<Upstream>),
}

impl Resolver {
    /// Asks `servers`, or, where there are none, those that the machine knows when it asks.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, anchor: Anchor) -> Resolver {
        let source = match servers.is_empty() {
            true => Source::of_machine(),
            false => Source::Given(servers),
        };
        Resolver {
            source,
            anchor,
            current: Mutex::default(),
        }
    }

    /// Where a domain's server may be, in the order to try (RFC 6120 §3.2). `random` gives a
    /// number below its argument.
    pub async fn targets(
        &self,
        domain: &str,
        random: impl FnMut(u32) -> u32,
    ) -> Result<Vec<Target>, Nowhere> {
        if is_address(domain) {
            return Ok(vec![Target::itself(domain)]);
        }
        let (direct, starttls) = tokio::join!(
            self.services(domain, "_xmpps-server._tcp", Tls::Direct),
            self.services(domain, "_xmpp-server._tcp", Tls::StartTls),
        );
        chosen(domain, [direct, starttls], random)
    }

    /// The addresses of a target, families interleaved.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Nowhere> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse() {
            return Ok(vec![address]);
        }
        let v6 = self.records(host, RecordType::AAAA);
        let v4 = self.records(host, RecordType::A);
        let (v6, v4) = families::both(v6, v4).await;
        let failure = match (&v6, &v4) {
            (Err(failure @ Nowhere::Unknown(_)), _) | (_, Err(failure)) => Some(failure.clone()),
            (Err(failure), _) => Some(failure.clone()),
            (Ok(_), Ok(_)) => None,
        };
        let found = [v6, v4].into_iter().flatten().flatten();
        let addresses: Vec<IpAddr> = found.filter_map(|data| data.ip_addr()).collect();
        match (addresses.is_empty(), failure) {
            (false, _) => {
                let mut mixed = interleaved(&addresses);
                mixed.truncate(ADDRESSES_MAX);
                Ok(mixed)
            }
            (true, Some(failure)) => Err(failure),
            (true, None) => Err(Nowhere::NotFound(format!("{host} has no address"))),
        }
    }

    /// What the signed zone of a target says of its certificate (DANE, RFC 7673); mostly nothing.
    /// Whoever connects waits for it: some name servers, and what stands before them, swallow such
    /// questions, and then nothing is what it says for a minute.
    pub async fn associations(&self, domain: &str, target: &Target) -> Vec<Association> {
        if is_address(&target.host) {
            return Vec::new();
        }
        let name = secure::name(target);
        if self.is_mute(&name) {
            return Vec::new();
        }
        let asking = async {
            // Most have none: that is a quick answer, and nothing has to be checked.
            match self.records(&name, RecordType::TLSA).await {
                Ok(_) => Ok(secure::associations(self, domain, target).await),
                Err(Nowhere::NotFound(_)) => Ok(Vec::new()),
                Err(unknown) => Err(unknown),
            }
        };
        match tokio::time::timeout(secure::PATIENCE, asking).await {
            Ok(Ok(associations)) => associations,
            Ok(Err(_)) | Err(_) => {
                self.keep_mute(name);
                Vec::new()
            }
        }
    }

    fn is_mute(&self, name: &str) -> bool {
        let current = self.current();
        current
            .mute
            .get(name)
            .is_some_and(|until| Instant::now() < *until)
    }

    fn keep_mute(&self, name: String) {
        let now = Instant::now();
        let mute = &mut self.current().mute;
        mute.retain(|_, until| now < *until);
        if mute.len() < MUTE_MAX {
            mute.insert(name, now + MUTE);
        }
    }

    async fn services(&self, domain: &str, service: &str, tls: Tls) -> Result<Services, Nowhere> {
        let records = match self
            .records(&format!("{service}.{domain}"), RecordType::SRV)
            .await
        {
            Ok(records) => records,
            Err(Nowhere::NotFound(_)) => return Ok(Services::None),
            Err(unknown) => return Err(unknown),
        };
        Ok(Services::read(records, tls))
    }

    async fn records(&self, name: &str, type_: RecordType) -> Result<Vec<RData>, Nowhere> {
        let asking = tokio::time::timeout(PATIENCE, self.ask(name, type_, false));
        let answer = asking
            .await
            .map_err(|_| Nowhere::Unknown("the DNS does not answer".to_owned()))??;
        match answer.records.is_empty() {
            true => Err(Nowhere::NotFound(format!(
                "the DNS knows nothing of {name}"
            ))),
            false => Ok(answer.records.clone()),
        }
    }

    /// Asks, unless the answer is remembered. That there is nothing is an answer.
    async fn ask(
        &self,
        name: &str,
        type_: RecordType,
        checks: bool,
    ) -> Result<Arc<Answer>, Nowhere> {
        let no_name = |_| Nowhere::NotFound(format!("{name} is no name of the DNS"));
        let mut fqdn = Name::from_ascii(name).map_err(no_name)?.to_lowercase();
        // Nothing is ever searched for in the machine's own domain.
        fqdn.set_fqdn(true);
        let question: Question = (fqdn.to_ascii().into(), type_, checks);
        let upstream = match self.known(&question)? {
            Known::Answer(answer) => return Ok(answer),
            Known::Ask(upstream) => upstream,
        };
        let asked = match checks {
            true => upstream.check(fqdn, type_).await,
            false => upstream.ask(fqdn, type_).await,
        };
        let answer = Arc::new(asked.map_err(|error| {
            Nowhere::Unknown(format!("the DNS gives no answer about {name}: {error}"))
        })?);
        let mut current = self.current();
        current
            .cache
            .keep(question, Arc::clone(&answer), Instant::now());
        Ok(answer)
    }

    fn known(&self, question: &Question) -> Result<Known, Nowhere> {
        let now = Instant::now();
        let mut current = self.current();
        let is_fresh = current
            .looked_at
            .is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN);
        if !is_fresh {
            let servers = self.source.servers();
            if servers != current.servers || current.upstream.is_none() {
                // Others may know other names.
                *current = Current {
                    upstream: Upstream::new(&servers, &self.anchor).map(Arc::new),
                    servers,
                    ..Current::default()
                };
            }
            current.looked_at = Some(now);
        }
        if let Some(answer) = current.cache.find(question, now) {
            return Ok(Known::Answer(answer));
        }
        let upstream = current.upstream.clone().map(Known::Ask);
        upstream.ok_or_else(|| Nowhere::Unknown("no DNS server is known here".to_owned()))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows from what a domain says of both services, direct TLS first. One question without an
/// answer costs nothing where the other names a server; where it does not, nobody knows yet.
fn chosen(
    domain: &str,
    both: [Result<Services, Nowhere>; 2],
    random: impl FnMut(u32) -> u32,
) -> Result<Vec<Target>, Nowhere> {
    let (mut records, mut is_declined, mut failure) = (Vec::new(), false, None);
    for found in both {
        match found {
            Ok(Services::Records(more)) => records.extend(more),
            Ok(Services::Declined) => is_declined = true,
            Ok(Services::None) => {}
            Err(unknown) => failure = Some(unknown),
        }
    }
    let targets = order(records, random);
    match (targets.is_empty(), failure, is_declined) {
        (false, _, _) => Ok(targets),
        (true, Some(unknown), _) => Err(unknown),
        // RFC 6120 §3.2.1 rule 4, XEP-0368 §3: "." means that the service is decidedly not there.
        (true, None, true) => Err(Nowhere::NotFound(
            "the domain says that it has no server for others".to_owned(),
        )),
        // §3.2.2.
        (true, None, false) => Ok(vec![Target::itself(domain)]),
    }
}

/// What a domain says of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Services {
    /// Nothing.
    None,
    /// That it has none.
    Declined,
    Records(Vec<Srv>),
}

impl Services {
    fn read(records: Vec<RData>, tls: Tls) -> Services {
        let mut found = Vec::new();
        let mut is_declined = false;
        for data in records {
            let RData::SRV(srv) = data else { continue };
            if srv.target.is_root() {
                is_declined = true;
                continue;
            }
            let host = srv.target.to_ascii();
            found.push(Srv {
                priority: srv.priority,
                weight: srv.weight,
                target: Target {
                    host: host.trim_end_matches('.').to_owned(),
                    port: srv.port,
                    tls,
                },
            });
        }
        match (found.is_empty(), is_declined) {
            (true, true) => Services::Declined,
            (true, false) => Services::None,
            (false, _) => Services::Records(found),
        }
    }
}

/// Reads bytes as the answer of a name server to any of the questions that are asked, and as the files
/// that are read here. For fuzzing: nothing of it may panic, or keep more than its bounds.
pub fn read_anything(bytes: &[u8]) {
    if let Ok(message) = Message::from_vec(bytes) {
        let name = Name::from_ascii("a.example.").unwrap_or_default();
        for type_ in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::SRV,
            RecordType::TLSA,
        ] {
            let read = Chain::default().read(&message, bytes.len(), &name, type_);
            let Read::Done(answer) = read else { continue };
            let services = Services::read(answer.records, Tls::Direct);
            drop(chosen(
                "a.example",
                [Ok(services), Ok(Services::None)],
                |_| 0,
            ));
        }
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(servers::of_resolv_conf(&text).len() <= servers::SERVERS_MAX);
    drop(Anchor::of_text(&text));
}

fn is_address(domain: &str) -> bool {
    let literal = domain.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
