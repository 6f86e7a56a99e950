//! What only the machine around the server can do. As a process there is none, and the commands
//! that need one say so.

use std::io::Read;

use crate::machine::status::MachineStatus;

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
