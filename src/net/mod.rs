//! Sockets: listeners, TLS, and the transports that connections run on (L5).

pub mod admit;
pub mod certificate;
pub mod component;
pub mod conn;
pub mod dial;
pub mod dns;
mod exporter;
pub mod listen;
pub mod s2s;
pub mod shared;
pub mod throttle;
pub mod tls;
pub mod transport;
