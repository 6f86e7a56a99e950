//! `cairn user`: accounts.

use std::io::{self, BufRead, IsTerminal, Read};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Cli, Failure, reach};
use crate::service::operator::PASSWORD_LINE_BYTES_MAX;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Create an account
    #[command(after_help = "\
Examples:
  cairn user add alice@chat.example
  pwgen 20 1 | cairn user add --password-stdin bob@chat.example")]
    Add(WithPassword),
    /// Set another password; sessions that are open stay
    #[command(after_help = "\
Example:
  cairn user passwd alice@chat.example")]
    Passwd(WithPassword),
    /// Print the addresses of all accounts, one a line
    #[command(after_help = "\
Example:
  cairn user list | wc -l")]
    List,
    /// Remove an account and everything that belongs to it, at once
    #[command(after_help = "\
There is no way back, but for an export (`cairn store export`).

Example:
  cairn user remove bob@chat.example")]
    Remove(Account),
}

#[derive(Debug, Args)]
pub(super) struct Account {
    /// Its address; the domain may be left out
    #[arg(value_name = "JID")]
    jid: String,
}

#[derive(Debug, Args)]
pub(super) struct WithPassword {
    #[command(flatten)]
    account: Account,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) fn run(cli: &Cli, command: &User) -> Result<(), Failure> {
    let (verb, account, password) = match command {
        User::Add(with) => ("add", Some(&with.account), Some(with.password()?)),
        User::Passwd(with) => ("passwd", Some(&with.account), Some(with.password()?)),
        User::List => ("list", None, None),
        User::Remove(account) => ("remove", Some(account), None),
    };
    let words: Vec<String> = ["user", verb]
        .into_iter()
        .map(str::to_owned)
        .chain(account.map(|account| account.jid.clone()))
        .collect();
    let password = password.unwrap_or_default();
    reach::perform(cli, &words, &mut password.as_bytes())
}

impl WithPassword {
    /// From standard input, or asked twice at the terminal.
    fn password(&self) -> Result<Zeroizing<String>, Failure> {
        if self.password_stdin {
            let mut line = Zeroizing::new(String::new());
            io::stdin()
                .lock()
                .take(PASSWORD_LINE_BYTES_MAX)
                .read_line(&mut line)
                .map_err(|error| Failure::refused(format!("cannot read the password: {error}")))?;
            let end = line.trim_end_matches(['\r', '\n']).len();
            line.truncate(end);
            return match line.is_empty() {
                true => Err(Failure::refused(
                    "standard input holds no password: write it as the first line",
                )),
                false => Ok(line),
            };
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::refused(
                "there is no terminal to ask for the password at: use --password-stdin",
            ));
        }
        let ask = |prompt: &str| {
            rpassword::prompt_password(prompt)
                .map(Zeroizing::new)
                .map_err(|error| Failure::refused(format!("cannot ask for the password: {error}")))
        };
        let first = ask(&format!("Password for {}: ", self.account.jid))?;
        if first != ask("Once more: ")? {
            return Err(Failure::refused("the two passwords differ: try again"));
        }
        Ok(first)
    }
}
