//! `cairn backup` and `cairn restore`.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::part::Part;
use super::user::first_line;
use super::{Cli, Failure, reach, remote};
use crate::crypto::sealed::Opener;

pub(super) const EXAMPLES: &str = "\
Holds accounts, rosters, waiting messages, vCards, certificates, administrators and the configuration,
encrypted before it leaves for the file: keep the passphrase, nobody can open it otherwise. Each
account is as it is at its moment. A backup that was broken off is in FILE.part, and the same command
with the same passphrase goes on with it, within a day; what changed in accounts that it has already
is not in it.

Examples:
  cairn backup cairn.backup
  cairn --server https://chat.example --token-file token backup --passphrase-file phrase cairn.backup";

pub(super) const RESTORE_EXAMPLES: &str = "\
All of it, or nothing: a restore that is broken off leaves the store empty, and is begun again. A
machine that has no configuration gets the one of the backup and starts again with it; its network
stays as it is. Otherwise the domain of the configuration has to be that of the backup.

Examples:
  cairn --config /etc/cairn/cairn.toml restore cairn.backup
  cairn --server https://192.0.2.7 --pin 5F:3A:… restore --code K7QM-2XWA-PD4T-9HRB cairn.backup";

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write; one that is there is not touched
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    phrase: Phrase,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The one-time code that the machine shows, with --server
    #[arg(long)]
    code: Option<String>,
    #[command(flatten)]
    phrase: Phrase,
}

#[derive(Debug, Args)]
struct Phrase {
    /// Read the passphrase from the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Shorter passphrases are guessed.
const PHRASE_CHARS_MIN: usize = 12;

pub(super) fn run(cli: &Cli, backup: &Backup) -> Result<(), Failure> {
    let path = &backup.file;
    if path.exists() {
        return Err(Failure::refused(format!(
            "{} is there already: name another file",
            path.display()
        )));
    }
    let part = Part::path_of(path);
    let phrase = backup.phrase.read(!part.exists())?;
    if phrase.chars().count() < PHRASE_CHARS_MIN {
        return Err(Failure::refused(format!(
            "choose a passphrase of {PHRASE_CHARS_MIN} characters or more: it is all that protects \
             the backup"
        )));
    }
    let mut part = Part::open(part, phrase)?;
    if part.is_whole() {
        return part.finish(path);
    }
    match take(cli, &mut part) {
        Ok(()) => part.finish(path),
        Err(failure) => Err(part.break_off(failure)),
    }
}

fn take(cli: &Cli, part: &mut Part) -> Result<(), Failure> {
    if cli.remote.server.is_some() {
        return remote::back_up(&cli.remote, part);
    }
    let mut words = vec!["backup".to_owned()];
    if let Some(so_far) = part.so_far() {
        words.extend([so_far.last, so_far.store, so_far.begun_ms.to_string()]);
    }
    reach::perform_here(cli, &words, &mut io::empty(), part)?;
    match part.is_whole() {
        true => Ok(()),
        false => Err(Failure::refused("the backup ends before it is complete")),
    }
}

pub(super) fn restore(cli: &Cli, restore: &Restore) -> Result<(), Failure> {
    let phrase = restore.phrase.read(false)?;
    // All of it once, so that nothing is restored of a file that is not whole.
    let mut opener = open(&restore.file, &phrase)?;
    let bytes = io::copy(&mut opener, &mut io::sink())
        .map_err(|error| cannot_read(&restore.file, &error))?;
    let mut input = open(&restore.file, &phrase)?;
    let mut output = io::stdout().lock();
    match (&cli.remote.server, &restore.code) {
        (Some(_), Some(code)) => remote::restore(&cli.remote, code, &mut input, bytes, &mut output),
        (Some(_), None) => Err(Failure::refused(
            "a backup is restored by whoever has the one-time code of the machine: give it with \
             --code",
        )),
        (None, _) => reach::perform_here(cli, &["restore".to_owned()], &mut input, &mut output),
    }?;
    Ok(output.flush()?)
}

fn open(path: &Path, phrase: &str) -> Result<impl Read, Failure> {
    let cannot = |error: io::Error| cannot_read(path, &error);
    let file = File::open(path).map_err(cannot)?;
    let opener = Opener::new(BufReader::new(file), phrase).map_err(cannot)?;
    Ok(BufReader::new(opener))
}

impl Phrase {
    /// From the file, or asked at the terminal: a new one twice.
    fn read(&self, is_new: bool) -> Result<Zeroizing<String>, Failure> {
        if let Some(path) = &self.passphrase_file {
            let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
            return first_line(&mut BufReader::new(file), &path.display().to_string());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::refused(
                "there is no terminal to ask for the passphrase at: use --passphrase-file",
            ));
        }
        let ask = |prompt: &str| {
            rpassword::prompt_password(prompt)
                .map(Zeroizing::new)
                .map_err(|error| Failure::refused(format!("cannot ask: {error}")))
        };
        let first = ask("Passphrase of the backup: ")?;
        if is_new && first != ask("Once more: ")? {
            return Err(Failure::refused("the two passphrases differ: try again"));
        }
        Ok(first)
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}
