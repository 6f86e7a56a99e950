//! How the machine is, as PID 1 tells it.

use serde::{Deserialize, Serialize};

/// How the machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// The version of the image.
    pub version: String,
    /// The slot that it was booted from: "a" or "b".
    pub slot: String,
    /// The root hash of that slot, in hex.
    pub root_hash: String,
    /// Whether this boot has proved itself.
    pub is_confirmed: bool,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// What of that the kernel could give to programs, in MiB.
    pub memory_available_mib: u64,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Where the network is from, if not from the configuration; else empty.
    pub network: String,
    /// What its clock goes by: a sentence.
    pub clock: String,
    /// The clock is known to be wrong: nothing about certificates is decided by it.
    pub clock_is_wrong: bool,
    /// What went wrong lately, newest last.
    pub errors: Vec<String>,
}
