//! `cairn claim`: the first administrator of a server.

use std::io;

use clap::Args;

use super::Failure;
use super::remote::{self, Remote};
use super::user::{Asked, ask, first_line};

pub(super) const EXAMPLES: &str = "\
The code stands on the machine's console, or is the one whose SHA-256 the configuration gives. It is
good once, while the server has no administrator.

Example:
  cairn claim chat.example K7QM-2XWA-PD4T-9HRB --admin alice@chat.example --pin 5F:3A:…";

#[derive(Debug, Args)]
pub(super) struct Claim {
    /// The server, by its name or address
    #[arg(value_name = "HOST[:PORT]")]
    host: String,
    /// The one-time code
    #[arg(value_name = "CODE")]
    code: String,
    /// The account to make, as an administrator
    #[arg(long, value_name = "JID")]
    admin: String,
    /// Read its password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) fn run(remote: &Remote, claim: &Claim) -> Result<(), Failure> {
    if remote.server.is_some() {
        return Err(Failure::refused(
            "the server to claim stands behind `claim`: leave out --server",
        ));
    }
    let password = match claim.password_stdin {
        true => first_line(&mut io::stdin().lock(), "standard input")?,
        false => ask(&claim.admin, Asked::Twice)?,
    };
    let host = claim.host.strip_prefix("https://").unwrap_or(&claim.host);
    let remote = remote.to(format!("https://{host}"));
    let mut output = io::stdout().lock();
    remote::claim(&remote, &claim.code, &claim.admin, &password, &mut output)
}
