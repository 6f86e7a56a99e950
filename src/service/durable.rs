//! Waiting for the disk, for those who are not sessions: what they do is rare, so looking again and
//! again costs less than another way of being told.

use std::thread;
use std::time::{Duration, Instant};

use crate::store::{Position, Store};

/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits until everything up to `position` is durable, and holds up this thread; returns whether it
/// is so before `within` is over.
pub(super) fn wait(store: &Store, position: Position, within: Duration) -> bool {
    store.commit_soon();
    let since = Instant::now();
    while store.durable() < position {
        if since.elapsed() > within {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}
