//! Cairn as the whole machine: what runs as PID 1, and what it hands to the server.
//!
//! PID 1 is a small supervisor with root's rights. It mounts, brings the network up, keeps the
//! clock, draws the console, starts the server as another user without any rights, and alone
//! writes slots and the boot state. What it reads from outside (metadata services, time servers,
//! files of cloud-init) is parsed in short-lived children without rights, which return one small
//! structure.

pub mod answer;
pub mod disk;
pub mod gpt;
pub mod guid;
pub mod kernel_call;
pub mod plan;
pub mod read_at;
pub mod source;
pub mod time;
