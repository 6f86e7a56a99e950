//! The DNS: where another domain's server is (RFC 6120 §3.2, XEP-0368). This folder alone names
//! hickory.
//!
//! No server is ever asked but those that the operator or the machine names.

mod address;
pub mod dane;
mod published;
mod secure;
mod servers;
mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts};
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use dane::Association;

pub use address::{interleaved, is_public};
pub use published::{PublishedIssuer, PublishedKey, PublishedService};
pub use secure::Anchor;
pub use target::{Srv, Target, Tls, order};

/// The port of streams between servers (RFC 6120 §3.2.2).
const PORT: u16 = 5269;

/// How long one question may take, with its repetitions.
const PATIENCE: Duration = Duration::from_secs(12);

/// How often the machine's own servers are looked up again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Addresses of one target that are tried at most.
const ADDRESSES_MAX: usize = 8;

/// Answers that are remembered.
const CACHE_ANSWERS: u64 = 2_048;
/// An answer is remembered no longer, whatever it says.
const POSITIVE_MAX: Duration = Duration::from_secs(3_600);
/// That there is nothing is remembered no longer (RFC 2308 §5 lets it be hours).
const NEGATIVE_MAX: Duration = Duration::from_secs(60);

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
    /// Those of the configuration; empty for the machine's own.
    configured: Vec<SocketAddr>,
    anchor: Anchor,
    current: Mutex<Current>,
}

struct Current {
    servers: Vec<SocketAddr>,
    looked_at: Option<Instant>,
    resolver: Option<Arc<TokioResolver>>,
    /// One that checks signatures, beside the one that takes what it gets.
    checking: Option<Arc<TokioResolver>>,
}

impl Resolver {
    /// Asks `servers`, or, where there are none, those that the machine knows when it asks.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, anchor: Anchor) -> Resolver {
        Resolver {
            configured: servers,
            anchor,
            current: Mutex::new(Current {
                servers: Vec::new(),
                looked_at: None,
                resolver: None,
                checking: None,
            }),
        }
    }

    /// Where a domain's server may be, in the order to try (RFC 6120 §3.2). `random` gives a
    /// number below its argument.
    pub async fn targets(
        &self,
        domain: &str,
        random: impl FnMut(u32) -> u32,
    ) -> Result<Vec<Target>, Nowhere> {
        let itself = |host: &str| {
            vec![Target {
                host: host.to_owned(),
                port: PORT,
                tls: Tls::StartTls,
            }]
        };
        if is_address(domain) {
            return Ok(itself(domain));
        }
        let (direct, starttls) = tokio::join!(
            self.services(domain, "_xmpps-server._tcp", Tls::Direct),
            self.services(domain, "_xmpp-server._tcp", Tls::StartTls),
        );
        // Half an answer is none: the other half may say where the server is.
        let (direct, starttls) = (direct?, starttls?);
        // RFC 6120 §3.2.1 rule 4, XEP-0368 §3: "." means that the service is decidedly not there,
        // and then the domain itself is not asked either.
        let is_declined = [&direct, &starttls]
            .iter()
            .any(|found| matches!(found, Services::Declined));
        let mut records = Vec::new();
        for found in [direct, starttls] {
            if let Services::Records(more) = found {
                records.extend(more);
            }
        }
        let targets = order(records, random);
        match (targets.is_empty(), is_declined) {
            (false, _) => Ok(targets),
            (true, true) => Err(Nowhere::NotFound(
                "the domain says that it has no server for others".to_owned(),
            )),
            // §3.2.2.
            (true, false) => Ok(itself(domain)),
        }
    }

    /// The addresses of a target, families interleaved.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Nowhere> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse() {
            return Ok(vec![address]);
        }
        let (v6, v4) = tokio::join!(
            self.records(host, RecordType::AAAA),
            self.records(host, RecordType::A),
        );
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
    pub async fn associations(&self, domain: &str, target: &Target) -> Vec<Association> {
        if is_address(&target.host) {
            return Vec::new();
        }
        // Most have none: that is a quick answer, and nothing has to be checked.
        let name = format!("_{}._tcp.{}", target.port, target.host);
        if self.records(&name, RecordType::TLSA).await.is_err() {
            return Vec::new();
        }
        match self.now().1 {
            Some(checking) => secure::associations(&checking, domain, target).await,
            None => Vec::new(),
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
        Ok(match (found.is_empty(), is_declined) {
            (true, true) => Services::Declined,
            (true, false) => Services::None,
            (false, _) => Services::Records(found),
        })
    }

    async fn records(&self, name: &str, type_: RecordType) -> Result<Vec<RData>, Nowhere> {
        let no_name = |_| Nowhere::NotFound(format!("{name} is no name of the DNS"));
        let mut fqdn = Name::from_ascii(name).map_err(no_name)?;
        // Nothing is ever searched for in the machine's own domain.
        fqdn.set_fqdn(true);
        let resolver = self
            .now()
            .0
            .ok_or_else(|| Nowhere::Unknown("no DNS server is known here".to_owned()))?;
        match tokio::time::timeout(PATIENCE, resolver.lookup(fqdn, type_)).await {
            Err(_) => Err(Nowhere::Unknown("the DNS does not answer".to_owned())),
            Ok(Ok(lookup)) => {
                let answers = lookup.answers().iter();
                let of_type = answers.filter(|record| record.record_type() == type_);
                Ok(of_type.map(|record| record.data.clone()).collect())
            }
            Ok(Err(error)) => Err(explain(name, &error)),
        }
    }

    /// The resolvers for the servers of this moment: the plain one, and the one that checks.
    fn now(&self) -> (Option<Arc<TokioResolver>>, Option<Arc<TokioResolver>>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = current
            .looked_at
            .is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if !is_fresh {
            let servers = match self.configured.is_empty() {
                true => servers::of_machine(),
                false => self.configured.clone(),
            };
            current.looked_at = Some(Instant::now());
            if servers != current.servers || current.resolver.is_none() {
                current.resolver = resolver(&servers).map(Arc::new);
                current.checking = secure::resolver(&servers, &self.anchor).map(Arc::new);
                current.servers = servers;
            }
        }
        (current.resolver.clone(), current.checking.clone())
    }
}

/// What a domain says of one service.
enum Services {
    /// Nothing.
    None,
    /// That it has none.
    Declined,
    Records(Vec<Srv>),
}

fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    builder(servers)?.build().ok()
}

fn builder(servers: &[SocketAddr]) -> Option<ResolverBuilder<TokioRuntimeProvider>> {
    if servers.is_empty() {
        return None;
    }
    let servers = servers.iter().map(|server| {
        let at = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
        NameServerConfig::new(server.ip(), true, connections)
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options();
    Some(builder)
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(3);
    options.attempts = 2;
    options.edns0 = true;
    options.validate = false;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = CACHE_ANSWERS;
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_max_ttl = Some(POSITIVE_MAX);
    options.negative_max_ttl = Some(NEGATIVE_MAX);
    options.preserve_intermediates = false;
    options
}

fn explain(name: &str, error: &NetError) -> Nowhere {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(
                none.response_code,
                ResponseCode::NXDomain | ResponseCode::NoError
            ) =>
        {
            Nowhere::NotFound(format!("the DNS knows nothing of {name}"))
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::NXDomain)) => {
            Nowhere::NotFound(format!("the DNS knows nothing of {name}"))
        }
        other => Nowhere::Unknown(format!("the DNS gives no answer about {name}: {other}")),
    }
}

fn is_address(domain: &str) -> bool {
    let literal = domain.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok()
}
