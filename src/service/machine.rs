//! What only the machine around the server can do. As a process there is none, and the commands
//! that need one say so.

use std::io::Read;

use serde::{Deserialize, Serialize};

/// What the server asks of PID 1. Called from threads that may block.
pub trait Machine: Send + Sync {
    /// What the console shows too.
    fn status(&self) -> MachineStatus;

    /// Starts the machine again, in order, soon after it has returned. The error is a sentence.
    fn reboot(&self) -> Result<(), String>;

    /// Starts the machine again from the other slot, soon after it has returned.
    fn rollback(&self) -> Result<(), String>;

    /// Takes a bundle of so many bytes, checks it, writes the other slot and has it tried at the
    /// next boot. Returns a sentence that says what comes next. `body` gives an error, and the
    /// slot is to be left alone, where the bundle was broken off.
    fn upgrade(&self, body: &mut dyn Read, bytes: u64) -> Result<String, String>;

    /// Shows on the console how the machine can be claimed, or no more (`None`).
    fn show_claim_code(&self, code: Option<&str>);
}

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
