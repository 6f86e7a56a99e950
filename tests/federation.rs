//! Servers that talk to each other, on a network of each test's own: Prosody and ejabberd of
//! Debian, Cairn, and peers that the test plays.

// A failing test prints what all of them said.
#![allow(clippy::print_stderr, missing_docs, dead_code)]

#[path = "support/peers/mod.rs"]
mod peers;
#[allow(unused_imports)]
mod support;

#[path = "federation/cairn_certificates.rs"]
mod cairn_certificates;
#[path = "federation/cairn_component.rs"]
mod cairn_component;
#[path = "federation/cairn_doctor.rs"]
mod cairn_doctor;
#[path = "federation/cairn_everyday.rs"]
mod cairn_everyday;
#[path = "federation/cairn_finding.rs"]
mod cairn_finding;
#[path = "federation/cairn_hostile.rs"]
mod cairn_hostile;
#[path = "federation/cairn_hosts.rs"]
mod cairn_hosts;
#[path = "federation/cairn_links.rs"]
mod cairn_links;
#[path = "federation/cairn_policy.rs"]
mod cairn_policy;
#[path = "federation/cairn_resumption.rs"]
mod cairn_resumption;
#[path = "federation/cairn_shared_port.rs"]
mod cairn_shared_port;
#[path = "federation/harness.rs"]
mod harness;
#[path = "federation/prosody_ejabberd.rs"]
mod prosody_ejabberd;
#[path = "federation/scenario.rs"]
mod scenario;
#[path = "federation/world.rs"]
mod world;
