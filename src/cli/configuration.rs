//! `cairn config`: is it valid, does it fit, what is there to set, and what is set?

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Subcommand;

use super::{Cli, Failure, reach};
use crate::config::{self, Config, FederationMode, Host, Machine};
use crate::net::certificate::Pem;
use crate::net::tls::TlsAcceptor;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the configuration and show what its limits can come to need
    #[command(after_help = "\
Exits with 0 when `cairn serve` would take it, with 3 and one sentence when not.

Example:
  cairn --config /etc/cairn/cairn.toml config check && systemctl restart cairn")]
    Check,
    /// Print the values that a server works with, all or one
    #[command(after_help = "\
With the values that count from the next start on, where they were changed since.

Examples:
  cairn config get limits.ping_s
  cairn --server https://chat.example --as alice@chat.example config get")]
    Get {
        /// Its section and name, as limits.ping_s
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
    /// Change a value of a machine, or of a server with --stored-config; it counts from its next
    /// start on
    #[command(after_help = "\
The configuration is kept in the store there. Comments in it are lost.

Example:
  cairn --server https://chat.example --as alice@chat.example config set limits.ping_s 600")]
    Set {
        /// Its section and name, as limits.ping_s
        #[arg(value_name = "KEY")]
        key: String,
        /// As TOML, or a text as it is
        #[arg(value_name = "VALUE")]
        value: String,
    },
    /// Print every key with its meaning and its default on this machine
    #[command(after_help = "\
The output is a configuration itself; only its domain has to be changed.

Example:
  cairn config defaults > cairn.toml")]
    Defaults,
}

pub(super) fn run(cli: &Cli, command: &ConfigCommand) -> Result<(), Failure> {
    let words = match command {
        ConfigCommand::Get { key } => {
            let mut words = vec!["config".to_owned(), "get".to_owned()];
            words.extend(key.clone());
            words
        }
        ConfigCommand::Set { key, value } => {
            ["config", "set", key, value].map(str::to_owned).to_vec()
        }
        ConfigCommand::Check | ConfigCommand::Defaults => Vec::new(),
    };
    if !words.is_empty() {
        return reach::perform(cli, &words, &mut io::empty());
    }
    cli.only_here()?;
    let machine = Machine::measure();
    let mut out = io::stdout().lock();
    match command {
        ConfigCommand::Check => {
            let config = cli.load(&machine)?;
            check(&config, &machine, &mut out)
        }
        ConfigCommand::Get { .. } | ConfigCommand::Set { .. } => Ok(()),
        ConfigCommand::Defaults => Ok(write!(out, "{}", config::defaults(&machine))?),
    }
}

fn check(config: &Config, machine: &Machine, out: &mut dyn Write) -> Result<(), Failure> {
    let admission = config.admission(machine);
    let limits = &config.limits;
    writeln!(out, "domain                {}", config.domain)?;
    for host in &config.hosts {
        writeln!(out, "host                  {}", host.domain)?;
    }
    writeln!(out, "store                 {}", config.store.path.display())?;
    let none = Vec::new();
    let servers = |addresses| match config.federation.mode {
        FederationMode::Off => &none,
        _ => addresses,
    };
    for (name, addresses) in [
        ("c2s", &config.listen.c2s),
        ("c2s_tls", &config.listen.c2s_tls),
        ("https", &config.listen.https),
        ("http", &config.listen.http),
        ("component", &config.listen.component),
        ("s2s", servers(&config.listen.s2s)),
        ("s2s_tls", servers(&config.listen.s2s_tls)),
    ] {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses = match addresses.is_empty() {
            true => "off".to_owned(),
            false => addresses.join(", "),
        };
        writeln!(out, "{name:<22}{addresses}")?;
    }
    writeln!(
        out,
        "at once               {} connections, {} accounts",
        limits.connections, limits.accounts
    )?;
    writeln!(out, "memory, at worst\n{admission}")?;
    admission.check().map_err(Failure::config)?;
    for host in config.served() {
        check_certificate(&host, out)?;
    }
    Ok(writeln!(out, "the configuration is valid")?)
}

fn check_certificate(host: &Host, out: &mut dyn Write) -> Result<(), Failure> {
    let domain = &host.domain;
    let (Some(certificate), Some(key)) = (&host.tls.certificate, &host.tls.key) else {
        return Ok(writeln!(
            out,
            "certificate           {domain}: none here; without one in the store a self-signed one \
             is generated"
        )?);
    };
    let pem = Pem::read(certificate, key).map_err(Failure::config)?;
    let usable = TlsAcceptor::of_one(&pem);
    usable.map_err(|error| Failure::config(format!("{domain}: {error}")))?;
    writeln!(
        out,
        "certificate           {domain}: {}",
        certificate.display()
    )?;
    for complaint in pem.complaints(domain, Some(SystemTime::now())) {
        writeln!(
            out,
            "warning               {complaint}: clients will not trust it"
        )?;
    }
    Ok(())
}
