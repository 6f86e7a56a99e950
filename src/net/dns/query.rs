//! Asking name servers: one question, one answer.
//!
//! hickory's own resolver is not used, but what lies under it. That resolver answers `localhost`,
//! `.invalid` and others itself, and makes an error of every answer that DNSSEC could secure and does
//! not: names are to mean what the operator's servers say, and a server that strips signatures is to
//! cost DANE and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverOpts,
};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use super::chain::{ALIASES_MAX, Answer, Chain, Read};
use super::scope::Scoped;
use super::secure::Anchor;

/// How long all servers are waited for, once.
const WAIT: Duration = Duration::from_secs(3);

/// How often a question is asked again that nobody has answered.
const RETRIES: usize = 2;

/// Proofs that are remembered, each of some hundred bytes.
const PROOFS_MAX: usize = 1_024;

/// How long a proof is remembered at most, and that there is none.
const PROOF_MAX: Duration = Duration::from_secs(3_600);
const NO_PROOF_MAX: Duration = Duration::from_secs(30);

type Pool = RetryDnsHandle<NameServerPool<Scoped>>;

/// The servers that are asked.
pub(super) struct Upstream {
    plain: Pool,
    checking: DnssecDnsHandle<Pool>,
}

impl Upstream {
    /// These servers, and the keys that proofs start from. `None` without servers.
    pub(super) fn new(servers: &[SocketAddr], anchor: &Anchor) -> Option<Upstream> {
        if servers.is_empty() {
            return None;
        }
        let mut options = ResolverOpts::default();
        options.timeout = WAIT;
        options.attempts = RETRIES;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let context = PoolContext::new(options, TlsConfig::new().ok()?);
        let pool = NameServerPool::from_config(
            servers.iter().map(server),
            Arc::new(context),
            Scoped::new(servers),
        );
        let plain = RetryDnsHandle::new(pool, RETRIES);
        let checking = DnssecDnsHandle::with_trust_anchor(plain.clone(), anchor.keys())
            .validation_cache_size(PROOFS_MAX)
            .positive_validation_ttl(Duration::ZERO..=PROOF_MAX)
            .negative_validation_ttl(Duration::ZERO..=NO_PROOF_MAX);
        Some(Upstream { plain, checking })
    }

    /// The answer as it comes. The error says why there is none.
    pub(super) async fn ask(&self, name: Name, type_: RecordType) -> Result<Answer, NetError> {
        let answer = follow(&self.plain, name, type_).await?;
        debug_assert!(!answer.is_secure, "nobody has looked");
        Ok(answer)
    }

    /// The answer with its signatures checked. What is not secured is an answer, or an error.
    pub(super) async fn check(&self, name: Name, type_: RecordType) -> Result<Answer, NetError> {
        follow(&self.checking, name, type_).await
    }
}

fn server(server: &SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.to_vec())
}

/// Asks, and asks again for what an alias leads to where the answer does not say.
async fn follow<H>(handle: &H, mut name: Name, type_: RecordType) -> Result<Answer, NetError>
where
    H: DnsHandle,
    H::Response: Unpin,
{
    let mut so_far = Chain::default();
    for _ in 0..ALIASES_MAX {
        let query = Query::query(name.clone(), type_);
        let asking = handle.lookup(query, DnsRequestOptions::default());
        let response = match asking.first_answer().await {
            Ok(response) => response,
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                return Ok(so_far.nothing(nothing.negative_ttl));
            }
            Err(error) => return Err(error),
        };
        let response = DnsError::from_response(response);
        let response = match response {
            Ok(response) => response,
            Err(DnsError::NoRecordsFound(nothing)) => {
                return Ok(so_far.nothing(nothing.negative_ttl));
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = response.as_buffer().len();
        match so_far.read(&response, bytes, &name, type_) {
            Read::Done(answer) => return Ok(answer),
            Read::Alias(next) => name = next,
        }
    }
    Ok(so_far.nothing(None))
}
