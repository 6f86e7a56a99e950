//! What the fuzz targets do with their bytes, callable without libFuzzer so that corpora replay on stable.

mod allocator;
mod jid;
mod record;
mod sasl;
mod stanza;
mod stream;

pub use allocator::{BYTES_MAX, bounded};
pub use jid::jid;
pub use record::record;
pub use sasl::sasl;
pub use stanza::stanza;
pub use stream::stream;
