//! Certificates that look after themselves, against the `pebble` authority of Debian.

// A failing test prints what all of them said.
#![allow(clippy::print_stderr, missing_docs, dead_code)]

#[allow(unused_imports)]
mod support;

#[path = "acme/hosts.rs"]
mod hosts;
#[path = "acme/obtaining.rs"]
mod obtaining;
#[path = "acme/pebble.rs"]
mod pebble;
