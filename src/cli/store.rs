//! `cairn store`: how the store is, and what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Subcommand;

use super::{Cli, Failure, reach};
use crate::service::operator;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Tell its size, what it holds and what waits to be tidied
    Stat,
    /// Read everything, check every checksum, and report what is damaged
    #[command(after_help = "\
Exits with 4 when something is damaged, or nothing of the store can be read. May take
minutes; the server goes on. While it is stopped nothing is written, so a copy that is only
readable can be verified too.

Example:
  cairn store verify || mail -s 'store damaged' admin@chat.example")]
    Verify,
    /// Open a store that cannot be opened otherwise, with what is left of it
    #[command(after_help = "\
For the case that the server refuses to start because neither of the store's checkpoints can be
read, or the place where its log ends. Goes through what the store holds, keeps what it can read,
and writes new checkpoints, so that the server starts again.

What lay in damaged places is lost, and what was removed lately may be back: contacts, messages
that were delivered, accounts, old passwords. What is not damaged is overwritten in the course
of it, so make a copy first. A store that opens as it is is not changed. Stop the server before.

Example:
  cp data/cairn.log /elsewhere/ && cairn store salvage")]
    Salvage,
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
Takes exports of Cairn and of other servers that keep to XEP-0227. Accounts for which those
kept keys for SCRAM-SHA-1 alone get better ones when they first log in with PLAIN.

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
        StoreCommand::Salvage => return reach::salvage(cli),
        StoreCommand::Compact => "compact",
        StoreCommand::Export => "export",
        StoreCommand::Import { file } => {
            input = open(file)?;
            "import"
        }
    };
    let words = ["store", verb].map(str::to_owned);
    reach::perform(cli, &words, &mut *input).map_err(|failure| {
        if failure.sentence == operator::DAMAGED {
            return Failure::store(failure.sentence);
        }
        failure
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
