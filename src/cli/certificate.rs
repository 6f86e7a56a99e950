//! `cairn cert`: the certificates of the server's domains.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Cli, Failure, reach};

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Tell whom it is for, who issued it, when it ends, and its fingerprint for --pin
    Show {
        #[command(flatten)]
        of: Of,
    },
    /// Put another one into the store and use it at once; sessions stay
    #[command(after_help = "\
For a domain whose configuration names no files: those are replaced where they are.

Examples:
  cairn --server https://chat.example --as alice@chat.example cert set fullchain.pem privkey.pem
  cairn cert set --host other.example other.pem other-key.pem")]
    Set {
        #[command(flatten)]
        of: Of,
        /// The chain in PEM, the server's own certificate first
        #[arg(value_name = "CHAIN")]
        chain: PathBuf,
        /// The private key in PEM
        #[arg(value_name = "KEY")]
        key: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// Of this domain, not of the first one
    #[arg(long, value_name = "DOMAIN")]
    host: Option<String>,
}

pub(super) fn run(cli: &Cli, command: &CertCommand) -> Result<(), Failure> {
    let (verb, of, input) = match command {
        CertCommand::Show { of } => ("show", of, Zeroizing::default()),
        CertCommand::Set { of, chain, key } => {
            let (mut chain, key) = (read(chain)?, read(key)?);
            chain.push('\n');
            chain.push_str(&key);
            ("set", of, chain)
        }
    };
    let words = ["cert", verb].into_iter().chain(of.host.as_deref());
    let words: Vec<String> = words.map(str::to_owned).collect();
    reach::perform(cli, &words, &mut input.as_bytes())
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))
}
