//! Where the machine's configuration comes from: the first of several places that has one. So it is
//! with the machine's name and its network, each by itself.
//!
//! In this order: QEMU's `fw_cfg`, SMBIOS OEM strings, `cairn.toml` on the EFI partition, a NoCloud
//! volume, a config drive ([`local`]), then the metadata service of the provider that DMI names
//! ([`service`]); a service is never looked for blindly.
//!
//! PID 1 opens files and devices as root and hands them to a short-lived child without rights. The
//! child reads them with the readers of this module, which are pure functions over bytes with limits,
//! and returns one [`Found`] as its [`Answer`](super::answer::Answer). Nothing foreign is mounted, and PID 1 parses nothing
//! of it but that answer.

pub mod cloud_init;
pub mod dmi;
pub mod fat;
pub mod found;
pub mod http;
pub mod iso;
pub mod local;
pub mod network;
pub mod openstack;
pub mod own;
pub mod service;
pub mod smbios;
pub mod user_data;
pub mod value;
pub mod volume;
#[cfg(test)]
pub(in crate::machine) mod volume_fixture;
pub mod yaml;

pub use dmi::Dmi;
pub use found::{Found, Origin};
pub use service::Service;

/// No document of a provider is longer: user-data, meta-data, network settings.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 10;
