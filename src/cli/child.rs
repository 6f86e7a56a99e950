//! `cairn child`: what PID 1 starts. Not for people.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use clap::Subcommand;
use nix::sys::resource::{Resource, setrlimit};

use super::Failure;
use crate::config::{Config, Machine};
use crate::machine::answer::{self, Answer};
use crate::machine::inherit;
use crate::machine::net::RESOLVERS;
use crate::machine::release::LogFormats;
use crate::machine::sandbox::{self, Role};
use crate::machine::source::local::{LocalFiles, look_locally, networks};
use crate::machine::source::{Service, service};
use crate::machine::time::{Offset, name, query};
use crate::server::handed::{self, Handed};
use crate::service::log_ring::LogRing;

/// No release below this one may follow this one.
const FLOOR: &str = "0.1.0";

#[derive(Debug, Subcommand)]
pub(super) enum ChildCommand {
    /// The server, with the descriptors it was handed
    Server {
        /// The line to PID 1
        line: RawFd,
        /// The device of the store
        data: RawFd,
        /// Where bundles go
        upload: RawFd,
    },
    /// Read the places on the machine that may hold a configuration
    Look {
        /// A letter for each of them
        kinds: String,
        /// The descriptors
        files: Vec<RawFd>,
    },
    /// Read the network settings of all these places
    Networks {
        /// A letter for each of them
        kinds: String,
        /// The descriptors
        files: Vec<RawFd>,
    },
    /// Ask a provider's metadata service
    Ask {
        /// Its name, as JSON
        service: String,
        /// The kernel's number of the interface
        interface: u32,
    },
    /// Ask time servers
    Time {
        /// A time that is over, in milliseconds since 1970
        floor_ms: u64,
        /// Names or addresses of the servers
        servers: Vec<String>,
    },
    /// What this program says of itself, for the image
    Release,
}

/// Descriptors that the server may have: what the kernel allows a process at most.
const FILES: u64 = 1 << 20;

/// How long time servers have.
const TIME_PATIENCE: Duration = Duration::from_secs(4);
/// How long name servers have to say where they are.
const NAME_PATIENCE: Duration = Duration::from_secs(4);

pub(super) fn run(command: &ChildCommand) -> Result<(), Failure> {
    match command {
        ChildCommand::Server { line, data, upload } => server(*line, *data, *upload),
        ChildCommand::Look { kinds, files } => look(kinds, files, look_locally),
        ChildCommand::Networks { kinds, files } => look(kinds, files, networks),
        ChildCommand::Ask { service, interface } => ask(service, *interface),
        ChildCommand::Time { floor_ms, servers } => time(*floor_ms, servers),
        ChildCommand::Release => release(),
    }
}

fn take(fd: RawFd) -> Result<OwnedFd, Failure> {
    inherit::take(fd).map_err(|error| Failure::refused(format!("descriptor {fd}: {error}")))
}

fn enter(role: Role) -> Result<(), Failure> {
    sandbox::enter(role)
        .map_err(|error| Failure::refused(format!("cannot give up its rights: {error}")))
}

fn server(line: RawFd, data: RawFd, upload: RawFd) -> Result<(), Failure> {
    let handed = Handed {
        line: take(line)?,
        data: take(data)?,
        upload: take(upload)?,
    };
    // As long as it may: a connection is a descriptor. Without it there are just fewer of them.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES);
    enter(Role::Server)?;
    let defaults = Config::of_domain("localhost", &Machine::measure());
    let ring = LogRing::new();
    super::log::start(&defaults.log, Some(&ring));
    handed::run(handed, ring).map_err(Failure::refused)
}

/// Reads what it was handed, without any rights.
fn look<A: Answer>(
    kinds: &str,
    files: &[RawFd],
    read: impl FnOnce(LocalFiles) -> A,
) -> Result<(), Failure> {
    let files = files
        .iter()
        .map(|fd| take(*fd).map(File::from))
        .collect::<Result<Vec<_>, _>>()?;
    enter(Role::Parser)?;
    reply(Ok(read(LocalFiles::from_parts(kinds, files))))
}

fn ask(service: &str, interface: u32) -> Result<(), Failure> {
    enter(Role::Asker)?;
    let service: Service =
        serde_json::from_str(service).map_err(|error| Failure::refused(error.to_string()))?;
    reply(service::ask(service, interface))
}

fn time(floor_ms: u64, servers: &[String]) -> Result<(), Failure> {
    enter(Role::Asker)?;
    let resolvers = fs::read_to_string(RESOLVERS).unwrap_or_default();
    let asked = name::resolvers(&resolvers);
    let (servers, unknown) = name::addresses(servers, &asked, NAME_PATIENCE);
    let servers: Vec<SocketAddr> = servers
        .iter()
        .map(|server| (*server, query::PORT).into())
        .collect();
    if servers.is_empty() && !unknown.is_empty() {
        return reply::<Offset>(Err(unknown.join("; ")));
    }
    let told = |why| [vec![why], unknown].concat().join("; ");
    reply(query::ask(&servers, TIME_PATIENCE, floor_ms).map_err(told))
}

fn reply<A: Answer>(outcome: Result<A, String>) -> Result<(), Failure> {
    Ok(io::stdout().write_all(&answer::to_message(outcome))?)
}

fn release() -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let LogFormats {
        reads_from,
        reads_to,
        writes,
    } = LogFormats::OURS;
    writeln!(
        io::stdout(),
        "version = \"{version}\"\nfloor = \"{FLOOR}\"\n\
         log = {{ reads_from = {reads_from}, reads_to = {reads_to}, writes = {writes} }}"
    )?;
    Ok(())
}
