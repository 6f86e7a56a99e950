//! Asking the authoritative server about a dialback key (XEP-0220 §2.1.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::net::throttle::network;
use crate::stanza::Condition;
use crate::stream::s2s::{Challenge, Purpose, Verdict};

use super::Peers;
use super::connect::{Opened, clock, open};

/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(30);

/// What the authoritative server says of a key that somebody at `asker` has shown.
pub(super) async fn verify(peers: Arc<Peers>, asker: IpAddr, challenge: &Challenge) -> Verdict {
    let purpose = Purpose::Verify {
        stream_id: challenge.stream_id.clone(),
        key: challenge.key.clone(),
    };
    clock(&peers).await;
    let askers = &peers.core.remotes.askers;
    let family = askers.family_of(challenge.pair.remote.domain());
    let asker = askers.named(&network(asker).to_string());
    // XEP-0220 §2.5: it may try again.
    let crowded = Verdict::Unknown(Condition::RemoteServerTimeout);
    let Some(place) = peers.verifications.enter(family, &[asker]) else {
        return crowded;
    };
    let Ok(turn) = timeout(TURN, place.turn()).await else {
        return crowded;
    };
    match open(&peers, &challenge.pair, &purpose, turn).await {
        Ok(Opened::Verified(verdict)) => verdict,
        Ok(Opened::Ready { .. }) => Verdict::Unknown(Condition::RemoteServerNotFound),
        Err(error) => {
            let domain = &challenge.pair.remote;
            tracing::info!(%domain, %error, "the authoritative server could not be asked");
            // XEP-0220 §2.5.
            Verdict::Unknown(Condition::RemoteServerNotFound)
        }
    }
}
