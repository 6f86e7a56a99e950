//! `cairn machine`: what PID 1 starts. Not for people.

use std::os::fd::RawFd;

use clap::Subcommand;

use super::Failure;
use crate::config::{Config, Machine};
use crate::machine::inherit;
use crate::machine::sandbox::{self, Role};
use crate::server::handed::{self, Handed};

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
}

pub(super) fn run(command: &MachineCommand) -> Result<(), Failure> {
    let MachineCommand::Server { line, data, upload } = command;
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
