//! `cairn reboot`, `rollback`, `upgrade`, `machine` and `log`: what is done to a machine from
//! outside.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::remote::{self, Remote};

#[derive(Debug, Subcommand)]
pub(super) enum UpgradeCommand {
    /// Send a bundle; the machine checks it, writes its other slot and tries it at the next boot
    #[command(after_help = "\
Example:
  cairn --server https://chat.example --as alice@chat.example upgrade push cairn-2.bundle")]
    Push {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print the last lines
    #[command(after_help = "\
Example:
  cairn --server https://chat.example --as alice@chat.example log tail --follow")]
    Tail {
        /// Go on with the lines that come
        #[arg(long)]
        follow: bool,
    },
}

/// Seconds that the server waits for the next line.
const WAIT_S: u32 = 20;

/// Reboot or roll back.
pub(super) fn order(remote: &Remote, word: &str) -> Result<(), Failure> {
    let words = [word.to_owned()];
    require_server(remote)?;
    remote::perform(remote, &words, &mut io::empty(), &mut io::stdout().lock())
}

pub(super) fn push(remote: &Remote, path: &Path) -> Result<(), Failure> {
    require_server(remote)?;
    let cannot =
        |error: io::Error| Failure::refused(format!("cannot read {}: {error}", path.display()));
    let mut file = File::open(path).map_err(cannot)?;
    let bytes = file.metadata().map_err(cannot)?.len();
    let words = ["upgrade".to_owned(), bytes.to_string()];
    remote::perform(remote, &words, &mut file, &mut io::stdout().lock())
}

pub(super) fn status(remote: &Remote) -> Result<(), Failure> {
    let mut client = remote.log_in()?;
    let status = remote::ask_json(&mut client, "GET", "/admin/machine")?;
    let mut output = io::stdout().lock();
    for (name, value) in status.as_object().into_iter().flatten() {
        let texts = match value {
            Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
            value => plain(value),
        };
        writeln!(output, "{:<21}{texts}", name.replace('_', " "))?;
    }
    Ok(())
}

pub(super) fn tail(remote: &Remote, follow: bool) -> Result<(), Failure> {
    let mut client = remote.log_in()?;
    let mut output = io::stdout().lock();
    let (mut after, mut wait_s) = (0, 0);
    loop {
        let path = format!("/admin/log?after={after}&wait={wait_s}");
        let answer = remote::ask_json(&mut client, "GET", &path)?;
        for line in answer["lines"].as_array().into_iter().flatten() {
            writeln!(output, "{}", plain(line))?;
        }
        output.flush()?;
        if !follow {
            return Ok(());
        }
        (after, wait_s) = (answer["last"].as_u64().unwrap_or(0), WAIT_S);
    }
}

/// What a log holds is not to move the cursor about.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace(char::is_control, " ")
}

fn require_server(remote: &Remote) -> Result<(), Failure> {
    match remote.server {
        Some(_) => Ok(()),
        None => Err(Failure::refused(
            "this is done to a machine from outside: name it with --server",
        )),
    }
}
