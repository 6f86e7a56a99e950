//! The machine's clock: what time servers say, what the hardware keeps, and what is done about it.
//!
//! Answers of time servers are read by a short-lived child without rights ([`query`], over
//! [`sntp`]); PID 1 gets an [`Offset`] and decides with [`clock`] whether to step or to slew.
//! Nothing may move the clock in front of its floor, a date of the source. The last record of the
//! store is a better guess for a clock that is surely wrong, and no more: it was written by a clock.

pub mod clock;
pub mod hardware;
pub mod name;
pub mod query;
pub mod sntp;

pub use query::Offset;
