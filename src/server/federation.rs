//! Federation, put together: what connections with other servers need, or nothing where the
//! server is to stay by itself.

use std::sync::Arc;

use tokio::sync::watch;

use super::settings;
use crate::config::{Config, FederationMode, Limits};
use crate::crypto::hmac_sha256;
use crate::net::conn::Front;
use crate::net::dns::{Anchor, Resolver};
use crate::net::s2s::{Finder, Formers, Paces, Peers};
use crate::net::tls::Authorities;
use crate::stream::s2s::S2sConfig;

/// Bytes that a stanza may grow by on its way to another server: two addresses and a language tag.
const ADDRESSES_BYTES: usize = 8 * 1024;

/// `None` where the server talks with no other: then nothing listens, nothing connects and
/// nobody asks the DNS. The error is a sentence for the operator.
pub(super) fn peers(
    front: &Front,
    alive: &Arc<watch::Sender<()>>,
) -> Result<Option<Arc<Peers>>, String> {
    let core = &front.core;
    if core.config.federation.mode == FederationMode::Off {
        return Ok(None);
    }
    let authorities = authorities(&core.config)?;
    if authorities.is_empty() {
        tracing::warn!(
            "no certificate authority is known here: no other server's certificate will be accepted"
        );
    }
    let secret = settings::secret(&core.store)?;
    let peers = Arc::new(Peers {
        tls: front.tls.clone(),
        streams: Arc::new(streams(&core.config, front, &secret)),
        authorities,
        finder: Finder::new(
            Resolver::new(core.config.dns.addresses(), anchor(&core.config)?),
            core.config.federation.allow_private_addresses,
        ),
        inbound: front.inbound.clone(),
        stopping: front.stopping.clone(),
        durable: front.durable.clone(),
        formers: Formers::default(),
        paces: Paces::new(core.config.limits.server_bytes_per_s),
        attempts: Peers::attempts(),
        verifications: Peers::verifications(),
        core: core.clone(),
        alive: alive.clone(),
    });
    Ok(Some(peers))
}

/// The limits of connections that other servers make.
pub(super) fn limits(of: &Limits) -> Limits {
    Limits {
        connections: of.server_connections,
        unauthenticated_connections: of.server_connections / 2,
        connections_per_address: of.server_connections.min(of.connections_per_address),
        ..of.clone()
    }
}

fn authorities(config: &Config) -> Result<Arc<Authorities>, String> {
    Authorities::load("[federation] trust", config.federation.trust.as_ref())
}

fn anchor(config: &Config) -> Result<Anchor, String> {
    match &config.dns.trust_anchor {
        Some(given) => Anchor::given(given),
        None => Ok(Anchor::public()),
    }
}

fn streams(config: &Config, front: &Front, secret: &[u8; 32]) -> S2sConfig {
    let limits = &config.limits;
    // Whoever knows a dialback key learns nothing of what else derives from the secret.
    let secret = hmac_sha256(secret, &[b"dialback"]);
    let own = front.core.hosts.iter().map(|host| &host.domain);
    let domains = own
        .chain(front.core.components.domains())
        .cloned()
        .collect();
    let mut streams = S2sConfig::new(domains, secret);
    streams.policy = front.core.remotes.policy.clone();
    streams.dialback = config.federation.dialback();
    streams.limits_before = limits.before_authentication();
    streams.limits_after = limits.after_authentication();
    // What a client may say comes here with its full addresses.
    streams.limits_after.stanza_bytes_max += ADDRESSES_BYTES;
    streams.negotiation_ms = u64::from(limits.authentication_s) * 1_000;
    streams.answer_ms = u64::from(limits.ping_answer_s) * 1_000;
    streams
}
