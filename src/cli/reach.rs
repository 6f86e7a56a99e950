//! To the running server, or to the store itself.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cli, Failure, log, remote};
use crate::config::{Config, LogFormat, LogLevel, Machine};
use crate::service::control::{self, CallError};
use crate::service::office::Office;
use crate::service::open::OpenFailure;
use crate::service::operator::Operator;
use crate::store::disk::Access;

/// How long a server may take from its lock on the store to its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);

/// Performs a command where the store is open, or opens it.
pub(super) fn perform(cli: &Cli, words: &[String], input: &mut dyn Read) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    if cli.remote.server.is_some() {
        remote::perform(&cli.remote, words, input, &mut output)?;
        return Ok(output.flush()?);
    }
    perform_here(cli, words, input, &mut output)
}

/// Performs a command here, with its output to another place.
pub(super) fn perform_here(
    cli: &Cli,
    words: &[String],
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let config = load(cli)?;
    let access = access_for(words);
    let socket = control::socket_path(&config.store.path);
    let is_list = words.len() > 1 && words[..2] == ["user", "list"];
    let since = Instant::now();
    let office = loop {
        match Office::open(config.clone(), access) {
            Ok(office) => break office,
            // Nobody is there, and that is no error.
            Err(OpenFailure::Missing) if is_list => return Ok(()),
            Err(OpenFailure::Locked) => {}
            Err(failure) => return Err(Failure::store(failure.to_string())),
        }
        match control::call(&socket, words, input, output) {
            Ok(()) => return Ok(output.flush()?),
            // Who holds the lock may be about to listen, or about to end.
            Err(CallError::Unreachable(_)) if since.elapsed() < PATIENCE => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    };
    let done = Operator::new(office.core.clone()).perform(words, input, output);
    let closed = office.close();
    done.map_err(Failure::refused)?;
    closed.map_err(|error| Failure::store(error.to_string()))?;
    Ok(output.flush()?)
}

/// Opens a store that no server can open, and writes what is left of it anew.
pub(super) fn salvage(cli: &Cli) -> Result<(), Failure> {
    let office =
        Office::salvage(load(cli)?).map_err(|failure| Failure::store(failure.to_string()))?;
    let mut output = io::stdout().lock();
    let done = Operator::new(office.core.clone()).keep_salvaged(&office.recovery, &mut output);
    let closed = office.close();
    done.map_err(Failure::refused)?;
    closed.map_err(|error| Failure::store(error.to_string()))?;
    Ok(output.flush()?)
}

/// The configuration, for a command that is done here.
pub(super) fn load(cli: &Cli) -> Result<Config, Failure> {
    cli.only_here()?;
    let config = cli.load(&Machine::measure())?;
    log::start(
        &crate::config::Log {
            level: LogLevel::Warn,
            format: LogFormat::Text,
        },
        None,
    );
    Ok(config)
}

/// What only looks does not write, not even what opening a store writes otherwise.
fn access_for(words: &[String]) -> Access {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["user", "add", ..] | ["store", "import"] | ["restore"] => Access::Create,
        ["user", "list", ..]
        | ["token", "list"]
        | ["cert", "show", ..]
        | ["config", "get", ..]
        | ["store", "stat" | "verify" | "export"] => Access::Read,
        _ => Access::Write,
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(_) | CallError::Broken(_) => Self::store(error.to_string()),
            _ => Self::refused(error.to_string()),
        }
    }
}
