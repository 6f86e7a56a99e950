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
  cairn user add --admin carol@chat.example
  pwgen 20 1 | cairn user add --password-stdin bob@chat.example")]
    Add {
        #[command(flatten)]
        with: WithPassword,
        /// As an administrator, who may do all of this from outside too
        #[arg(long)]
        admin: bool,
    },
    /// Set another password; sessions that are open stay
    #[command(after_help = "\
Example:
  cairn user passwd alice@chat.example")]
    Passwd(WithPassword),
    /// Make an administrator of an account; asks for its password
    #[command(after_help = "\
An administrator may do from outside what the operator does here: see `cairn help`, --server.
The password is checked there against a hash of its own, which is made now.

Examples:
  cairn user admin alice@chat.example
  cairn user admin --remove alice@chat.example")]
    Admin {
        #[command(flatten)]
        with: WithPassword,
        /// Make an ordinary account of it
        #[arg(long, conflicts_with = "password_stdin")]
        remove: bool,
    },
    /// Print the addresses of all accounts, one a line
    #[command(after_help = "\
Example:
  cairn user list | wc -l")]
    List {
        /// Of administrators alone
        #[arg(long)]
        admin: bool,
    },
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
    let mut password = Zeroizing::new(String::new());
    let words = match command {
        User::Add { with, admin } => {
            password = with.password(Asked::Twice)?;
            let mut words = vec!["user", "add", &with.account.jid];
            words.extend(admin.then_some("admin"));
            words
        }
        User::Passwd(with) => {
            password = with.password(Asked::Twice)?;
            vec!["user", "passwd", &with.account.jid]
        }
        User::Admin { with, remove: true } => vec!["user", "no-admin", &with.account.jid],
        User::Admin { with, .. } => {
            password = with.password(Asked::Once)?;
            vec!["user", "admin", &with.account.jid]
        }
        User::List { admin: false } => vec!["user", "list"],
        User::List { admin: true } => vec!["user", "list", "admin"],
        User::Remove(account) => vec!["user", "remove", &account.jid],
    };
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    reach::perform(cli, &words, &mut password.as_bytes())
}

/// How often a terminal is asked: a new password twice, one that there is once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Once,
    Twice,
}

impl WithPassword {
    /// From standard input, or asked at the terminal.
    fn password(&self, asked: Asked) -> Result<Zeroizing<String>, Failure> {
        match self.password_stdin {
            true => first_line(&mut io::stdin().lock(), "standard input"),
            false => ask(&self.account.jid, asked),
        }
    }
}

/// The password in the first line of `input`, which is called `name`.
pub(super) fn first_line(
    input: &mut dyn BufRead,
    name: &str,
) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    input
        .take(PASSWORD_LINE_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|error| Failure::refused(format!("cannot read the password: {error}")))?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    match line.is_empty() {
        true => Err(Failure::refused(format!(
            "{name} holds no password: write it as the first line"
        ))),
        false => Ok(line),
    }
}

/// Asks for the password of an account at the terminal.
pub(super) fn ask(jid: &str, asked: Asked) -> Result<Zeroizing<String>, Failure> {
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
    let first = ask(&format!("Password for {jid}: "))?;
    if asked == Asked::Twice && first != ask("Once more: ")? {
        return Err(Failure::refused("the two passwords differ: try again"));
    }
    Ok(first)
}
