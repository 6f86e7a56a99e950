//! glibc's allocator, tuned for many small sessions on little memory: few arenas, free memory
//! back to the kernel soon (DESIGN §11).
#![allow(
    unsafe_code,
    reason = "mallopt(3) and malloc_trim(3) have no safe wrapper"
)]

/// Arenas: one a core of a small machine. Each keeps its own free memory.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Blocks from this size on are mapped on their own and unmapped when freed.
#[cfg(target_env = "gnu")]
const MAP_THRESHOLD_BYTES: i32 = 64 * 1024;

/// Free memory at the heap's top beyond this goes back.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD_BYTES: i32 = 128 * 1024;

/// Called first thing in `main`, before there are other threads.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        let options = [
            (M_ARENA_MAX, ARENAS),
            (M_MMAP_THRESHOLD, MAP_THRESHOLD_BYTES),
            (M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        ];
        for (option, value) in options {
            // SAFETY: mallopt takes two integers and changes parameters of the allocator only; no
            // other thread runs yet. That it refuses one costs memory and nothing else.
            unsafe { mallopt(option, value) };
        }
    }
}

/// Gives free memory back to the kernel, also from the middle of the heap.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer, locks the arenas it works on, and may be called from
    // any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
