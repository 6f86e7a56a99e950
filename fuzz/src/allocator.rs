//! Counts what a target allocates: one that holds more than 64 MB at a time has failed, whatever
//! else it does right.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one run may hold at a time.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The system's allocator with a count of what is in use.
pub struct Counting {
    live: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static COUNTING: Counting = Counting {
    live: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
};

impl Counting {
    fn grew(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    fn shrank(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it is; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the system's.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            self.grew(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.shrank(layout.size());
        // SAFETY: as above; the block came from there.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the block came from there.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            self.grew(size);
            self.shrank(layout.size());
        }
        moved
    }
}

/// Runs a target on its bytes.
///
/// # Panics
/// When it held more than [`BYTES_MAX`] at a time. Other threads of the process are counted with
/// it, so tests that look close do it one at a time.
pub fn bounded(target: impl FnOnce(&[u8]), data: &[u8]) {
    let before = COUNTING.live.load(Ordering::Relaxed);
    COUNTING.peak.store(before, Ordering::Relaxed);
    target(data);
    let peak = COUNTING.peak.load(Ordering::Relaxed);
    let held = peak.saturating_sub(before);
    assert!(held <= BYTES_MAX, "{held} bytes were held at a time");
}
