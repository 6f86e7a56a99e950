//! `cairn doctor`: what other servers see of this one, and what mends it.

use std::io::{self, Write};

use clap::Args;

use super::{Cli, Failure, reach, remote};
use crate::service::control::{self, CallError};
use crate::service::doctor::{self, Report};

pub(super) const EXAMPLES: &str = "\
Looks at the service records of the domain, the addresses that they lead to, what answers there and
with which certificate, TLSA records, what [acme] needs, and the clock; asks the server that runs to
do it, if one does. With --server it is done there. All of it is seen from the machine itself: a
firewall in front of it is not.

Exits with 0 when nothing fails, with 1 otherwise. Takes half a minute at most.

Examples:
  cairn doctor
  cairn doctor --json | jq '.findings[] | select(.severity == \"failure\")'
  cairn --server https://chat.example --as alice@chat.example doctor";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(cli: &Cli, doctor: &Doctor) -> Result<(), Failure> {
    let report = match cli.remote.server {
        Some(_) => {
            let mut client = cli.remote.log_in()?;
            let report = remote::ask_json(&mut client, "POST", "/admin/doctor")?;
            serde_json::from_value(report).map_err(|error| unreadable(&error))?
        }
        None => look_here(cli)?,
    };
    let mut output = io::stdout().lock();
    match doctor.json {
        true => {
            let json = serde_json::to_string_pretty(&report).expect("plain values are JSON");
            writeln!(output, "{json}")?;
        }
        false => writeln!(output, "{report}")?,
    }
    output.flush()?;
    match report.failures {
        0 => Ok(()),
        1 => Err(Failure::refused("something keeps others from here")),
        failures => Err(Failure::refused(format!(
            "{failures} things keep others from here"
        ))),
    }
}

/// By the server that runs, with its configuration; or by that of the file, where none does.
fn look_here(cli: &Cli) -> Result<Report, Failure> {
    let config = reach::load(cli)?;
    let socket = control::socket_path(&config.store.path);
    let mut said = Vec::new();
    let words = ["doctor".to_owned()];
    match control::call(&socket, &words, &mut io::empty(), &mut said) {
        Ok(()) => serde_json::from_slice(&said).map_err(|error| unreadable(&error)),
        Err(CallError::Unreachable(_)) => doctor::run(&config, None).map_err(Failure::refused),
        Err(error) => Err(error.into()),
    }
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::refused(format!(
        "the report cannot be read: the server may be of another version ({error})"
    ))
}
