//! External components (XEP-0114), put together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::net::admit::Admissions;
use crate::net::component::{self, Door};
use crate::net::conn::Front;
use crate::net::listen::Listener;
use crate::router;
use crate::stream::component::ComponentConfig;

/// What serves components. The error is a sentence for the operator.
pub(super) fn door(
    front: &Arc<Front>,
    alive: &Arc<watch::Sender<()>>,
) -> Result<Arc<Door>, String> {
    let config = &front.core.config;
    let secret = |component: &crate::config::Component| {
        Ok::<_, String>((component.domain.clone(), component.secret()?))
    };
    let components: Result<Vec<_>, String> = config.component.iter().map(secret).collect();
    let components = components?;
    match (config.listen.component.is_empty(), components.is_empty()) {
        (true, false) => {
            tracing::warn!("no component can connect: [listen] component is empty");
        }
        (false, true) => tracing::warn!("[listen] component, and there is no [[component]]"),
        _ => {}
    }
    let limits = &config.limits;
    Ok(Arc::new(Door {
        front: front.clone(),
        streams: Arc::new(ComponentConfig {
            components,
            limits_before: limits.before_authentication(),
            limits_after: limits.after_authentication(),
            negotiation_ms: u64::from(limits.authentication_s) * 1_000,
        }),
        alive: alive.clone(),
    }))
}

/// Accepts components, and waits a while for those that messages wait for. Called within the
/// runtime.
pub(super) fn begin(
    door: &Arc<Door>,
    listeners: impl Iterator<Item = Listener>,
    admissions: &Arc<Admissions>,
    stopping: &CancellationToken,
) {
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(name = "component", %address, "listening");
            if !address.ip().to_canonical().is_loopback() {
                tracing::warn!(
                    %address,
                    "components are accepted from other machines, and XEP-0114 has no TLS: what \
                     they say can be read and changed on the way"
                );
            }
        }
        let accepting = accept(listener, door.clone(), admissions.clone());
        let stopping = stopping.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(accepting).await });
    }
    let (core, stopping) = (door.front.core.clone(), stopping.clone());
    tokio::spawn(async move {
        let waiting = tokio::time::sleep(Duration::from_millis(router::PATIENCE_MS));
        if stopping.run_until_cancelled(waiting).await.is_some() {
            router::give_up_absent(&core);
        }
    });
}

async fn accept(listener: Listener, door: Arc<Door>, admissions: Arc<Admissions>) {
    loop {
        let arrival = listener.accept(&admissions).await;
        tokio::spawn(component::serve(door.clone(), arrival));
    }
}
