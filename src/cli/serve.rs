//! `cairn serve`.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Cli, Failure, log};
use crate::config::{Config, Machine};
use crate::server::{self, Kept, Start};
use crate::service::configuration::Source;
use crate::service::control;
use crate::service::log_ring::LogRing;
use crate::service::operator::Operator;

pub(super) const EXAMPLES: &str = "\
Examples:
  cairn serve
  cairn --config /etc/cairn/cairn.toml serve
  kill -HUP $(pidof cairn)     after the certificate was renewed";

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Keep the configuration in the store, as a machine does: once there is an administrator the
    /// file counts only for [store], or with a higher revision
    #[arg(long)]
    stored_config: bool,
}

pub(super) fn run(cli: &Cli, serve: &Serve) -> Result<(), Failure> {
    let machine = Machine::measure();
    let (config, toml, path) = Config::load_with_text(cli.config.as_deref(), &machine)?;
    config
        .admission(&machine)
        .check()
        .map_err(Failure::config)?;
    let ring = LogRing::new();
    log::start(&config.log, Some(&ring));
    allow_files();
    let socket = control::socket_path(&config.store.path);
    let mut listens = false;
    let start = Start {
        log: Some(ring),
        kept: match serve.stored_config {
            true => Kept::Beside(Source {
                toml,
                origin: path.display().to_string(),
            }),
            false => Kept::Not,
        },
        ..Start::as_process(config)
    };
    let done = server::run(start, |operator| {
        listen(&socket, operator)?;
        listens = true;
        Ok(())
    });
    // Only our own: where the store is locked it belongs to who holds the lock.
    if listens {
        drop(fs::remove_file(&socket));
    }
    done.map_err(|failure| match failure {
        server::Failure::Store(sentence) => Failure::store(sentence),
        server::Failure::Other(sentence) => Failure::refused(sentence),
    })
}

/// Takes the operator's commands from now on.
fn listen(socket: &Path, operator: &Arc<Operator>) -> Result<(), String> {
    let operator = Arc::clone(operator);
    let perform = move |words: &[String], input: &mut dyn Read, output: &mut dyn Write| {
        Ok(operator.perform(words, input, output)?)
    };
    control::listen(socket)
        .and_then(|listener| control::serve(listener, Arc::new(perform)))
        .map_err(|error| {
            let socket = socket.display();
            format!("cannot open the socket {socket}: {error}; its folder must be writable")
        })
}

/// Takes all the open files that the system would give; the admission has
/// counted with them.
fn allow_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "cannot raise the number of open files");
    }
}
