//! The command line: one file a command.
//!
//! With `--server` a command goes to a server elsewhere, over HTTPS. Otherwise commands about the
//! store go to the server that runs, through its socket, and
//! to the store itself when none does; they are the same commands
//! ([`crate::service::operator`]).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Machine};

mod backup;
mod certificate;
mod child;
mod claim;
mod configuration;
mod doctor;
mod log;
mod machine;
mod part;
mod reach;
mod remote;
mod serve;
mod store;
mod token;
mod user;

const EXAMPLES: &str = "\
Examples:
  cairn config defaults > cairn.toml     every key with its default, to start from
  cairn serve                            serve, with ./cairn.toml or /etc/cairn/cairn.toml
  cairn user add alice@chat.example      asks for a password
  cairn store export > accounts.xml      all accounts, to move or to keep
  cairn --server https://chat.example --as alice@chat.example user list
                                         the same from outside, as an administrator

Exit codes:
  0  done
  1  not done; the reason is on standard error
  2  the command line was not understood
  3  the configuration is missing or invalid
  4  the store cannot be opened, or is damaged";

/// An XMPP chat server that keeps everything in one log.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// The configuration [default: ./cairn.toml, then /etc/cairn/cairn.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    remote: remote::Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; SIGHUP reads the certificate again
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::Serve),
    /// Add, change, list and remove accounts, while the server runs or not
    #[command(subcommand)]
    User(user::User),
    /// Make, list and revoke tokens for administration from outside
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Look after the store, export and import accounts
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show the certificate, or replace it
    #[command(subcommand)]
    Cert(certificate::CertCommand),
    /// Read the log of a server elsewhere
    #[command(subcommand)]
    Log(machine::LogCommand),
    /// Tell how a machine is: version, slot, addresses
    Machine,
    /// Start a machine again
    Reboot,
    /// Start a machine again from its other slot, with the system before this one
    Rollback,
    /// Give a machine a new system
    #[command(subcommand)]
    Upgrade(machine::UpgradeCommand),
    /// Write everything that a server keeps to a file that only a passphrase opens
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::Backup),
    /// Put a backup into an empty store, or into a machine that nobody has claimed
    #[command(after_help = backup::RESTORE_EXAMPLES)]
    Restore(backup::Restore),
    /// Look at what other servers see of this one, and say what mends it
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Become the first administrator of a server, by its one-time code
    #[command(after_help = claim::EXAMPLES)]
    Claim(claim::Claim),
    /// Check, show and change the configuration, or print every key
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// What PID 1 starts
    #[command(subcommand, hide = true)]
    Child(child::ChildCommand),
}

/// Why a command was not done.
#[derive(Debug)]
struct Failure {
    code: u8,
    sentence: String,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Claim(claim) => claim::run(&cli.remote, claim),
        _ => cli.remote.check().and_then(|()| run(&cli)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed there is nobody to tell.
            drop(writeln!(io::stderr(), "cairn: {}", failure.sentence));
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(serve) => cli.only_here().and_then(|()| serve::run(cli, serve)),
        Command::Backup(backup) => backup::run(cli, backup),
        Command::Restore(restore) => backup::restore(cli, restore),
        Command::Cert(command) => certificate::run(cli, command),
        Command::Log(machine::LogCommand::Tail { follow }) => machine::tail(&cli.remote, *follow),
        Command::Machine => machine::status(&cli.remote),
        Command::Reboot => machine::order(&cli.remote, "reboot"),
        Command::Rollback => machine::order(&cli.remote, "rollback"),
        Command::Upgrade(machine::UpgradeCommand::Push { file }) => {
            machine::push(&cli.remote, file)
        }
        Command::Claim(claim) => claim::run(&cli.remote, claim),
        Command::Child(command) => child::run(command),
        Command::Token(command) => token::run(cli, command),
        Command::User(command) => user::run(cli, command),
        Command::Store(command) => store::run(cli, command),
        Command::Config(command) => configuration::run(cli, command),
        Command::Doctor(doctor) => doctor::run(cli, doctor),
    }
}

impl Cli {
    /// Refuses what is not done from outside.
    fn only_here(&self) -> Result<(), Failure> {
        match self.remote.server {
            None => Ok(()),
            Some(_) => Err(Failure::refused(
                "this is done where the server is: leave out --server",
            )),
        }
    }

    fn load(&self, machine: &Machine) -> Result<Config, Failure> {
        Ok(Config::load(self.config.as_deref(), machine)?)
    }
}

impl Failure {
    /// Not done.
    fn refused(sentence: impl Into<String>) -> Self {
        Self {
            code: 1,
            sentence: sentence.into(),
        }
    }

    /// The configuration is invalid.
    fn config(sentence: impl Into<String>) -> Self {
        Self {
            code: 3,
            sentence: sentence.into(),
        }
    }

    /// The store cannot be opened or is damaged.
    fn store(sentence: impl Into<String>) -> Self {
        Self {
            code: 4,
            sentence: sentence.into(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::config(error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// Only output can fail in a way that says nothing else: a closed pipe.
    fn from(error: io::Error) -> Self {
        Self::refused(format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_stand_before_or_behind_the_command() {
        for line in [
            "cairn --config a.toml user list",
            "cairn user list --config a.toml",
            "cairn user --config a.toml list",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("understood");
            assert_eq!(cli.config, Some(PathBuf::from("a.toml")));
        }
    }
}
