//! `cairn cert`: the server's certificate.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use zeroize::Zeroizing;

use super::{Cli, Failure, reach};

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Tell whom it is for, who issued it, when it ends, and its fingerprint for --pin
    Show,
    /// Put another one into the store and use it at once; sessions stay
    #[command(after_help = "\
For a server whose [tls] names no files: those are replaced where they are.

Example:
  cairn --server https://chat.example --as alice@chat.example cert set fullchain.pem privkey.pem")]
    Set {
        /// The chain in PEM, the server's own certificate first
        #[arg(value_name = "CHAIN")]
        chain: PathBuf,
        /// The private key in PEM
        #[arg(value_name = "KEY")]
        key: PathBuf,
    },
}

pub(super) fn run(cli: &Cli, command: &CertCommand) -> Result<(), Failure> {
    let (verb, input) = match command {
        CertCommand::Show => ("show", Zeroizing::default()),
        CertCommand::Set { chain, key } => {
            let (mut chain, key) = (read(chain)?, read(key)?);
            chain.push('\n');
            chain.push_str(&key);
            ("set", chain)
        }
    };
    let words = ["cert", verb].map(str::to_owned);
    reach::perform(cli, &words, &mut input.as_bytes())
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))
}
