//! The extensions: one file each, named after what it does, with its number in the first line.
//!
//! [`ALL`] is where they are switched on: an extension is its file, its line there and its line in
//! `docs/extensions.md`.

pub mod access;
pub mod account;
pub mod bind;
pub mod caps;
pub mod contact;
pub mod disco;
pub mod form;
pub mod last;
pub mod offline;
pub mod ping;
pub mod presence;
pub mod private;
pub mod register;
pub mod roster;
pub mod subscription;
pub mod time;
pub mod vcard;
pub mod version;

#[cfg(test)]
mod tests;

use crate::router::Module;

/// The name that this software gives itself.
pub const SOFTWARE: &str = "Cairn";

/// Every extension. Moments are called in this order.
pub const ALL: &[&Module] = &[
    &last::MODULE,
    &presence::MODULE,
    &subscription::MODULE,
    &roster::MODULE,
    &disco::MODULE,
    &caps::MODULE,
    &version::MODULE,
    &ping::MODULE,
    &time::MODULE,
    &offline::MODULE,
    &private::MODULE,
    &vcard::MODULE,
    &register::MODULE,
    &bind::MODULE,
];
