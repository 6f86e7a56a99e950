//! Cairn as the whole machine: what runs as PID 1, and what it hands to the server.
//!
//! PID 1 is a small supervisor with root's rights. It mounts, brings the network up, keeps the
//! clock, draws the console, starts the server as another user without any rights, and alone
//! writes slots and the boot state. What it reads from outside (metadata services, time servers,
//! files of cloud-init) is parsed in short-lived children without rights, which return one small
//! structure.

pub mod answer;
pub mod boot_state;
pub mod bundle;
pub mod console;
pub mod crash;
pub mod disk;
pub mod formats;
pub mod gpt;
pub mod guid;
pub mod health;
pub mod inherit;
pub mod init;
pub mod kernel_call;
pub mod last_words;
pub mod layout;
pub mod link;
pub mod listeners;
pub mod medium;
pub mod mount;
pub mod net;
pub mod plan;
pub mod power;
pub mod read_at;
pub mod release;
pub mod sandbox;
pub mod second_disk;
pub mod slot;
pub mod source;
pub mod status;
pub mod supervise;
pub mod time;
pub mod upgrade;
pub mod watchdog;

/// Whether this process, which is PID 1, was started by the kernel for the whole machine, and not
/// as the only process of a container.
#[must_use]
pub fn is_the_machine() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| name == "/init")
}
