//! Asking the authoritative server about a dialback key (XEP-0220 §2.1.2).

use std::sync::Arc;

use crate::stanza::Condition;
use crate::stream::s2s::{Challenge, Purpose, Verdict};

use super::Peers;
use super::connect::{Opened, open};

/// What the authoritative server says of a key.
pub(super) async fn verify(peers: Arc<Peers>, challenge: &Challenge) -> Verdict {
    let purpose = Purpose::Verify {
        stream_id: challenge.stream_id.clone(),
        key: challenge.key.clone(),
    };
    match open(&peers, &challenge.pair, &purpose).await {
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
