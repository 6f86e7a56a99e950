//! Behaviour through the wire: every test starts the real server and speaks to it as a client.

// A failing test prints its transcript and the server's log.
#![allow(clippy::print_stderr, missing_docs, dead_code)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
// A release has no pretended machine.
#[cfg(debug_assertions)]
mod admin_machine;
mod backup;
mod bind;
mod channel_binding;
mod component;
mod crash;
mod credentials;
mod dev_run;
mod device;
mod doctor;
mod extensions;
// A release has no faults on demand.
#[cfg(debug_assertions)]
mod faults;
mod hibernation;
mod hosts;
mod iq;
mod limits;
mod logging;
mod messages;
mod offline;
mod owners;
mod presence;
mod quotas;
mod real_clients;
mod restart;
// A release has no pretended machine.
#[cfg(debug_assertions)]
mod restore;
mod room;
mod roster;
mod sasl;
mod shared_port;
mod slow_readers;
mod stanza_errors;
mod starttls;
mod stream_errors;
mod stream_management;
mod streams;
mod subscription;
mod tls;
