//! `cairn store`: how the store is, and what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Subcommand;

use super::{Cli, Failure, reach};

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Tell its size, what it holds and what waits to be tidied
    Stat,
    /// Read everything, check every checksum, and report what is damaged
    #[command(after_help = "\
Exits with 4 when something is damaged. May take minutes; the server goes on.

Example:
  cairn store verify || mail -s 'store damaged' admin@chat.example")]
    Verify,
    /// Take back space now that would be taken back in the background
    Compact,
    /// Write all accounts to standard output (XEP-0227), keys included
    #[command(after_help = "\
The output lets its reader pose as the server to every user: keep it secret.

Example:
  (umask 077; cairn store export > accounts.xml)")]
    Export,
    /// Create the accounts of an export (XEP-0227); those that exist are left alone
    #[command(after_help = "\
Takes exports of Cairn and of other servers that keep to XEP-0227.

Examples:
  cairn store import accounts.xml
  ssh old.example cairn store export | cairn store import -")]
    Import {
        /// The export; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(cli: &Cli, command: &StoreCommand) -> Result<(), Failure> {
    let mut input: Box<dyn Read> = Box::new(io::empty());
    let verb = match command {
        StoreCommand::Stat => "stat",
        StoreCommand::Verify => "verify",
        StoreCommand::Compact => "compact",
        StoreCommand::Export => "export",
        StoreCommand::Import { file } => {
            input = open(file)?;
            "import"
        }
    };
    let words = ["store", verb].map(str::to_owned);
    reach::perform(cli, &words, &mut *input).map_err(|failure| match command {
        StoreCommand::Verify => Failure { code: 4, ..failure },
        _ => failure,
    })
}

fn open(file: &PathBuf) -> Result<Box<dyn Read>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", file.display())))?;
    Ok(Box::new(opened))
}
