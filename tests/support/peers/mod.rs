//! Whole servers on a network of their own: Prosody and ejabberd as Debian has them, Cairn, and
//! peers that the test plays itself. Each is in its own network namespace with its own addresses,
//! names come from a DNS server of the test, and certificates from an authority of the test.

use std::time::Duration;

pub mod ca;
pub mod cairn;
pub mod dns;
pub mod ejabberd;
pub mod namespace;
pub mod net;
pub mod person;
pub mod place;
pub mod process;
pub mod prosody;
pub mod raw;
pub mod relay;

pub use ca::{Ca, Leaf, Names, Usage};
pub use cairn::CairnPeer;
pub use dns::{Dns, Zone};
pub use ejabberd::Ejabberd;
pub use net::Net;
pub use person::{Event, Person};
pub use place::Place;
pub use process::Process;
pub use prosody::Prosody;
pub use raw::RawPeer;

/// How long anything may take on a machine that does other things too. Only a test that fails
/// anyway waits for it.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery staple";
