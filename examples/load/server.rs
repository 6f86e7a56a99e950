//! The processes that are measured: Cairn on a store made for the run, and the relay.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::client::Outcome;

/// A child process that is killed with its owner.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Process {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the yardstick.
pub fn relay() -> Outcome<Process> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("relay")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("its output is piped")?;
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(Process {
        child,
        port: line.trim().parse()?,
    })
}

/// Starts Cairn on the store in `folder`; it listens for direct TLS.
pub fn cairn(folder: &Path) -> Outcome<Process> {
    let config = folder.join("cairn.toml");
    std::fs::write(
        &config,
        "domain = \"localhost\"\n[listen]\nc2s = []\nc2s_tls = [\"127.0.0.1:0\"]\n\
         [store]\npath = \"cairn.log\"\n[limits]\nconnections_per_address = 100000\n\
         accepts_per_address_per_minute = 0\naccounts = 1000000\n",
    )?;
    let mut child = Command::new(binary()?)
        .arg("--config")
        .arg(&config)
        .arg("serve")
        .current_dir(folder)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or("its output is piped")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut port = None;
    let mut seen = String::new();
    while port.is_none() {
        let line = lines
            .next()
            .ok_or_else(|| format!("cairn ended:\n{seen}"))??;
        port = port_in(&line);
        seen.push_str(&line);
        seen.push('\n');
    }
    // What it goes on to say is read and dropped, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Process {
        child,
        port: port.ok_or("it listens")?,
    })
}

fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|_| line.contains("listening"))
}

/// The server's binary stands beside the folder of the examples.
fn binary() -> Outcome<PathBuf> {
    let mine = std::env::current_exe()?;
    let folder = mine
        .parent()
        .and_then(Path::parent)
        .ok_or("examples have a folder")?;
    let binary = folder.join("cairn");
    match binary.exists() {
        true => Ok(binary),
        false => Err("build the server first: cargo build --release".into()),
    }
}
