//! What the fuzz targets do with their bytes, callable without libFuzzer so that corpora replay on stable.

mod allocator;
mod component;
mod dhcp;
mod dns;
mod gpt;
mod jid;
mod manifest;
mod metadata;
mod netlink;
mod ra;
mod record;
mod s2s;
mod sasl;
mod sntp;
mod stanza;
mod stream;
mod volume;

pub use allocator::{BYTES_MAX, bounded};
pub use component::component;
pub use dhcp::dhcp;
pub use dns::dns;
pub use gpt::gpt;
pub use jid::jid;
pub use manifest::manifest;
pub use metadata::metadata;
pub use netlink::netlink;
pub use ra::ra;
pub use record::record;
pub use s2s::s2s;
pub use sasl::sasl;
pub use sntp::sntp;
pub use stanza::stanza;
pub use stream::stream;
pub use volume::volume;
