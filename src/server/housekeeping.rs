//! What has to be done from time to time while the server runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::allocator;
use crate::router::{self, Core};

/// How often sessions that wait too long for a resumption are looked for, and retirements that
/// nobody has taken along are written.
const TICK: Duration = Duration::from_secs(1);

/// How many ticks pass before memory that is free is given back to the kernel.
const TRIM_TICKS: u32 = 10;

/// How long it takes before memory that waits for clients is looked after again.
const RELIEF: Duration = Duration::from_millis(20);

/// Until it is dropped.
pub(super) async fn run(core: Arc<Core>) {
    tokio::join!(tick(core.clone()), relieve(core));
}

async fn tick(core: Arc<Core>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        ticks.tick().await;
        core.beat.fetch_add(1, Ordering::Relaxed);
        guarded(|| router::end_overdue(&core));
        guarded(|| core.store.flush_retirements((core.clock)()));
        count = count.wrapping_add(1);
        if count.is_multiple_of(TRIM_TICKS) {
            guarded(|| core.remotes.tidy((core.ticks)()));
            // Takes milliseconds with a big heap, so not on a thread that serves clients.
            drop(tokio::task::spawn_blocking(allocator::trim).await);
        }
    }
}

/// A panic costs this time and not all that come.
fn guarded(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("something that is done from time to time has panicked");
    }
}

/// Makes room among what waits for clients as soon as there is little left.
async fn relieve(core: Arc<Core>) {
    loop {
        core.outboxes.pressed().await;
        let relieved = core.clone();
        drop(tokio::task::spawn_blocking(move || router::relieve(&relieved)).await);
        // Looking at every session is not worth it for every stanza.
        tokio::time::sleep(RELIEF).await;
    }
}
