//! `cairn token`: tokens for administration from outside.

use std::io;

use clap::Subcommand;

use super::{Cli, Failure, reach};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it is never shown again
    #[command(after_help = "\
Whoever has it may do everything that an administrator may. Commands take it from --token-file, or
from CAIRN_TOKEN in the environment.

Example:
  (umask 077; cairn token new --name laptop --days 90 > token)
  cairn --server https://chat.example --token-file token user list")]
    New {
        /// What it is for
        #[arg(long, default_value = "unnamed")]
        name: String,
        /// Days until it ends; 0: never
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
    /// Print id, end and name of every token
    List,
    /// Make a token worth nothing, at once
    Revoke {
        /// Its id, as the list shows it
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(super) fn run(cli: &Cli, command: &TokenCommand) -> Result<(), Failure> {
    let words = match command {
        TokenCommand::New { name, days } => vec!["new", name, &days.to_string()]
            .into_iter()
            .map(str::to_owned)
            .collect(),
        TokenCommand::List => vec!["list".to_owned()],
        TokenCommand::Revoke { id } => vec!["revoke".to_owned(), id.clone()],
    };
    let words: Vec<String> = [vec!["token".to_owned()], words].concat();
    reach::perform(cli, &words, &mut io::empty())
}
