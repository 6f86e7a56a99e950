//! `cairn machine`: what PID 1 starts. Not for people.

use std::io::{self, Write};
use std::os::fd::RawFd;

use clap::Subcommand;

use super::Failure;
use crate::config::{Config, Machine};
use crate::machine::inherit;
use crate::machine::release::LogFormats;
use crate::machine::sandbox::{self, Role};
use crate::server::handed::{self, Handed};

/// No release below this one may follow this one.
const FLOOR: &str = "0.1.0";

#[derive(Debug, Subcommand)]
pub(super) enum MachineCommand {
    /// The server, with the descriptors it was handed
    Server {
        /// The line to PID 1
        line: RawFd,
        /// The device of the store
        data: RawFd,
        /// Where bundles go
        upload: RawFd,
    },
    /// What this program says of itself, for the image
    Release,
}

pub(super) fn run(command: &MachineCommand) -> Result<(), Failure> {
    let MachineCommand::Server { line, data, upload } = command else {
        return release();
    };
    let take = |fd: RawFd| {
        inherit::take(fd).map_err(|error| Failure::refused(format!("descriptor {fd}: {error}")))
    };
    let handed = Handed {
        line: take(*line)?,
        data: take(*data)?,
        upload: take(*upload)?,
    };
    sandbox::enter(Role::Server)
        .map_err(|error| Failure::refused(format!("cannot give up its rights: {error}")))?;
    let defaults = Config::of_domain("localhost", &Machine::measure());
    super::log::start(&defaults.log);
    handed::run(handed).map_err(Failure::refused)
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
