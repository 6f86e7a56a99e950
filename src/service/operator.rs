//! The operator's commands on accounts and the store.
//!
//! They are the same in a running server, behind its socket, and in a process of
//! their own while none runs. A command is words, data and a place for output; it
//! returns once what it did is durable.

mod administrators;
mod backup;
mod certificate;
mod claim;
mod configuration;
mod doctor;
mod machine;
mod refused;
mod tokens;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::durable;
use super::log_ring::LogRing;
use super::machine::Machine;
use super::report;
use crate::addr::Jid;
use crate::crypto::Password;
use crate::router::Core;
use crate::store::restoring::RESTORING;
use crate::store::xep0227::{self, Existing, ImportOptions};
use crate::store::{Position, Recovery, State, Step, StoreError, Tx};
use crate::xep::account::{self, NewPassword};

pub use administrators::LogIn;
pub use claim::{claim_code, claim_digest};
pub use refused::{Refused, Why};
pub use tokens::Bearer;

/// How long to wait for the disk before saying that it may not be done.
const DURABLE_WITHIN: Duration = Duration::from_secs(60);

/// How often to look whether a store has made room, or has done its work.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a full store may take to make room: a file grows in the background.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// What [`Operator::perform`] says of a store in which something cannot be read.
pub const DAMAGED: &str = "the store is damaged: what is listed is lost, unless a copy has it; \
                           everything else is served";

/// Compaction that takes longer is left to the background.
const COMPACTED_WITHIN: Duration = Duration::from_secs(600);

/// Background work is done once it was found idle so often in a row: a commit of
/// others may leave more to do.
const IDLE_STEPS: u32 = 50;

/// Longest line that is looked at for a password.
pub const PASSWORD_LINE_BYTES_MAX: u64 = 4096;

/// Domains that a refusal names.
const DOMAINS_NAMED: usize = 5;

/// Notes of an import that are printed.
const NOTES_MAX: usize = 50;

/// Performs the operator's commands.
pub struct Operator {
    core: Arc<Core>,
    around: Around,
    /// Held by whoever restores a backup.
    restoring: Mutex<()>,
    /// Held by whoever looks at what others see.
    looking: Mutex<()>,
}

/// What there is around a server that runs, for the commands that need it.
#[derive(Default)]
pub struct Around {
    /// The machine, where the server has one of its own.
    pub machine: Option<Arc<dyn Machine>>,
    /// What was logged lately.
    pub log: Option<Arc<LogRing>>,
    /// Uses the certificate that is configured, or in the store, from now on.
    pub reload_certificate: Option<Box<dyn Fn() -> Result<(), String> + Send + Sync>>,
    /// The configuration in the store is the one that counts at a start.
    pub keeps_configuration: bool,
    /// There is no configuration: whoever claims the machine gives it its domain.
    pub is_unconfigured: bool,
    /// The digest of the code that makes the first administrator.
    pub claim: Option<[u8; 32]>,
}

impl Operator {
    /// Works on the server's parts, whether clients are connected or not.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        Self::with(core, Around::default())
    }

    /// The same in a server that runs.
    #[must_use]
    pub fn with(core: Arc<Core>, around: Around) -> Self {
        Self {
            core,
            around,
            restoring: Mutex::new(()),
            looking: Mutex::new(()),
        }
    }

    /// The server's parts.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Uses the certificate that is configured, or in the store, from now on. The error is a
    /// sentence; nothing has changed then.
    pub fn reload_certificate(&self) -> Result<(), String> {
        match &self.around.reload_certificate {
            Some(reload) => reload(),
            None => Ok(()),
        }
    }

    /// Performs one command.
    pub fn perform(
        &self,
        words: &[String],
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["user", "add", jid] => self.add(jid, false, input, output),
            ["user", "add", jid, "admin"] => self.add(jid, true, input, output),
            ["user", "passwd", jid] => self.change_password(jid, input, output),
            ["user", "admin", jid] => self.make_administrator(jid, input, output),
            ["user", "no-admin", jid] => self.unmake_administrator(jid, output),
            ["user", "list"] => Ok(self.list(output)?),
            ["user", "list", "admin"] => Ok(self.list_administrators(output)?),
            ["user", "remove", jid] => self.remove(jid, output),
            ["token", "new", name, days] => self.new_token(name, days, None, output),
            ["token", "new", name, days, by] => self.new_token(name, days, Some(by), output),
            ["token", "list"] => Ok(self.list_tokens(output)?),
            ["token", "revoke", id] => self.revoke_token(id, output),
            ["config", "get"] => self.show_configuration(None, output),
            ["config", "get", key] => self.show_configuration(Some(key), output),
            ["config", "set", key, value] => self.change_configuration(key, value, output),
            ["cert", "show"] => self.show_certificate(None, output),
            ["cert", "show", domain] => self.show_certificate(Some(domain), output),
            ["cert", "set"] => self.set_certificate(None, input, output),
            ["cert", "set", domain] => self.set_certificate(Some(domain), input, output),
            ["backup"] => self.back_up(None, output),
            ["backup", last, store, begun_ms] => {
                self.back_up(Some([last, store, begun_ms]), output)
            }
            ["restore"] => self.restore(backup::By::Operator, input, output),
            ["restore", "by-code"] => self.restore(backup::By::Code, input, output),
            ["claim", jid] => self.claim(jid, input, output),
            ["doctor"] => self.look_from_outside(output),
            ["reboot"] => self.reboot(output),
            ["rollback"] => self.roll_back(output),
            ["upgrade", bytes] => self.upgrade(bytes, input, output),
            ["store", "stat"] => Ok(self.stat(output)?),
            ["store", "verify"] => Ok(self.verify(output)?),
            ["store", "compact"] => Ok(self.compact(output)?),
            ["store", "export"] => Ok(self.export(output)?),
            ["store", "import"] => Ok(self.import(input, output)?),
            _ => Err(Refused::invalid(format!(
                "this server does not know the command {:?}: it may be of another version",
                words.join(" ")
            ))),
        }
    }

    fn add(
        &self,
        jid: &str,
        as_administrator: bool,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let jid = self.account(jid)?;
        account::check_name(&jid)
            .and_then(|()| account::check_neighbours(&self.core.store, &jid))
            .map_err(|refusal| Refused::invalid(format!("{jid} is not added: {refusal}")))?;
        let password = read_password(input, &jid)?;
        let new = match as_administrator {
            true => NewPassword::of_administrator(&self.core, &jid, &password),
            false => NewPassword::of(&self.core, &jid, &password),
        };
        self.update(&jid, |tx| new.create(tx, jid.as_str(), self.now_ms()))?;
        tracing::info!(account = %jid, as_administrator, "an account was added by the operator");
        Ok(match as_administrator {
            true => say(output, &format!("{jid} is added, as an administrator")),
            false => say(output, &format!("{jid} is added")),
        }?)
    }

    fn change_password(
        &self,
        jid: &str,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let jid = self.account(jid)?;
        let new = NewPassword::of(&self.core, &jid, &read_password(input, &jid)?);
        self.update(&jid, |tx| new.set(tx, jid.as_str()))?;
        tracing::info!(account = %jid, "a password was changed by the operator");
        Ok(say(output, &format!("{jid} has a new password"))?)
    }

    fn list(&self, output: &mut dyn Write) -> Result<(), String> {
        let mut owners: Vec<String> = self.core.store.read(|state| {
            state
                .accounts()
                .map(|account| account.owner().to_owned())
                .collect()
        });
        owners.sort_unstable();
        let mut text = String::new();
        for owner in owners {
            text.push_str(&owner);
            text.push('\n');
        }
        output
            .write_all(text.as_bytes())
            .map_err(|error| format!("the list cannot be written: {error}"))
    }

    fn remove(&self, jid: &str, output: &mut dyn Write) -> Result<(), Refused> {
        let jid = self.account_kept(jid)?;
        if self
            .core
            .store
            .read(|state| state.account(jid.as_str()).is_none())
        {
            return Err(no_account(&jid));
        }
        // Contacts are told and sessions end, as when a user removes himself.
        let mut cx = self.core.cx();
        account::remove(&mut cx, &jid, None)
            .map_err(|error| format!("{jid} cannot be removed: {}", error.text))?;
        self.wait(cx.after())?;
        tracing::info!(account = %jid, "an account was removed by the operator");
        Ok(say(output, &format!("{jid} is removed"))?)
    }

    fn stat(&self, output: &mut dyn Write) -> Result<(), String> {
        let (accounts, messages, bytes) = self.core.store.read(|state| {
            state
                .accounts()
                .fold((0, 0, 0), |(accounts, messages, bytes), account| {
                    let waiting = account.messages();
                    (
                        accounts + 1,
                        messages + waiting.len(),
                        bytes + waiting.bytes(),
                    )
                })
        });
        say(output, &format!("accounts             {accounts}"))?;
        say(
            output,
            &format!("waiting messages     {messages} ({bytes} bytes)"),
        )?;
        say(
            output,
            &report::stat(&self.core.store.stat().log, self.now_ms()),
        )
    }

    fn verify(&self, output: &mut dyn Write) -> Result<(), String> {
        let verification = self.core.store.verify();
        say(output, &report::verification(&verification))?;
        match verification.is_clean() {
            true => Ok(()),
            false => Err(DAMAGED.to_owned()),
        }
    }

    /// Two checkpoints, then everything that background work would do, at once. The
    /// server's own background thread may do parts of it meanwhile.
    fn compact(&self, output: &mut dyn Write) -> Result<(), String> {
        let store = &self.core.store;
        let before = store.stat().log;
        store.compact();
        let since = Instant::now();
        let mut idle = 0;
        while idle < IDLE_STEPS {
            match store.background_step(self.now_ms()) {
                Err(error) => return Err(error.to_string()),
                Ok(Step::Took) => idle = 0,
                Ok(Step::Idle { until_ms }) => {
                    let waits = until_ms.is_some() || store.is_tidying();
                    idle = if waits { 0 } else { idle + 1 };
                    thread::sleep(LOOK_EVERY);
                }
            }
            if since.elapsed() > COMPACTED_WITHIN {
                return say(output, "it goes on in the background");
            }
        }
        say(output, &report::compaction(&before, &store.stat().log))
    }

    /// What an office that was opened by [`Office::salvage`] holds, for the operator;
    /// it is written anew, so that the next opening needs no salvage.
    ///
    /// [`Office::salvage`]: super::office::Office::salvage
    pub fn keep_salvaged(&self, recovery: &Recovery, output: &mut dyn Write) -> Result<(), String> {
        if !recovery.salvaged {
            return say(
                output,
                "the store can be opened as it is: there is nothing to salvage",
            );
        }
        self.compact(&mut io::sink())?;
        let stat = self.core.store.stat();
        if stat.log.checkpoint.is_none() {
            return Err(
                "there is no room for a checkpoint: copy the store to a larger device first"
                    .to_owned(),
            );
        }
        say(output, &report::salvage(recovery, &stat))
    }

    fn export(&self, output: &mut dyn Write) -> Result<(), String> {
        let exported =
            xep0227::export(&self.core.store, output).map_err(|error| error.to_string())?;
        match &exported.missing[..] {
            [] => Ok(()),
            [first, ..] => Err(format!(
                "the export is complete but for {} values that cannot be read, first: {first}",
                exported.missing.len()
            )),
        }
    }

    fn import(&self, input: &mut dyn Read, output: &mut dyn Write) -> Result<(), String> {
        if self.core.store.read(State::is_restoring) {
            return Err(RESTORING.to_owned());
        }
        let imported = xep0227::import(
            &self.core.store,
            Box::new(input),
            ImportOptions {
                serves: &|host| self.core.is_local(host),
                existing: Existing::Keep,
                new_credentials: &mut |owner, password| {
                    let password = Password::prepare(password).ok()?;
                    Some(account::credentials(&self.core, owner.domain(), &password))
                },
                include: &mut |file| {
                    Err(io::Error::other(format!(
                        "{file} is another file: import it by itself"
                    )))
                },
                pause: &mut || {
                    thread::sleep(LOOK_EVERY);
                    Ok(())
                },
                limits: None,
                now_ms: self.now_ms(),
            },
        );
        let imported = imported.map_err(|error| error.to_string())?;
        self.wait(self.core.store.position())?;
        for note in imported.notes.iter().take(NOTES_MAX) {
            say(output, &format!("note: {note}"))?;
        }
        if let Some(more) = imported.notes.len().checked_sub(NOTES_MAX + 1) {
            say(output, &format!("note: and {} more", more + 1))?;
        }
        if imported.sha1_alone > 0 {
            say(
                output,
                &format!(
                    "note: {} of the accounts have keys for SCRAM-SHA-1 alone: a client that insists on \
                     SCRAM-SHA-256 is refused until the account has logged in with PLAIN once, or \
                     has a new password",
                    imported.sha1_alone
                ),
            )?;
        }
        say(
            output,
            &format!(
                "{} accounts with {} waiting messages were imported, {} existed and stay as they are",
                imported.accounts, imported.messages, imported.kept
            ),
        )
    }

    /// Changes the state and waits until that is durable.
    fn update(
        &self,
        jid: &Jid,
        change: impl Fn(&mut Tx<'_>) -> Result<(), StoreError>,
    ) -> Result<(), Refused> {
        let since = Instant::now();
        let updated = loop {
            match self.core.store.update(&change) {
                Err(StoreError::Full | StoreError::Overloaded) if since.elapsed() < ROOM_WITHIN => {
                    thread::sleep(LOOK_EVERY);
                }
                other => break other,
            }
        };
        let ((), position) = updated.map_err(|error| match error {
            StoreError::AccountExists => Refused::conflict(format!(
                "{jid} exists already; `cairn user passwd` changes its password"
            )),
            StoreError::NoAccount => no_account(jid),
            other => Refused::from(other.to_string()),
        })?;
        Ok(self.wait(position)?)
    }

    fn now_ms(&self) -> u64 {
        (self.core.clock)()
    }

    fn wait(&self, position: Position) -> Result<(), String> {
        match durable::wait(&self.core.store, position, DURABLE_WITHIN) {
            true => Ok(()),
            false => Err(
                "the disk has not answered for a minute: it may be done or not, \
                        look at the server's log"
                    .to_owned(),
            ),
        }
    }

    /// The address of an account here; the first domain may be left out.
    fn account(&self, text: &str) -> Result<Jid, Refused> {
        let full = match text.contains('@') {
            true => text.to_owned(),
            false => format!("{text}@{}", self.core.config.domain),
        };
        let jid = Jid::parse(&full)
            .map_err(|error| Refused::invalid(format!("{text:?} is no address: {error}")))?;
        if jid.local().is_none() || !jid.is_bare() {
            return Err(Refused::invalid(format!(
                "{text:?} is no address of an account: write name@{}",
                self.core.config.domain
            )));
        }
        if !self.core.is_local(jid.domain()) {
            let domains = self.core.hosts.iter().map(|host| host.domain.as_str());
            let domains: Vec<&str> = domains.take(DOMAINS_NAMED).collect();
            let more = match self.core.hosts.iter().count() > DOMAINS_NAMED {
                true => " and others",
                false => "",
            };
            return Err(Refused::invalid(format!(
                "{jid} is not here: this server's domain is {}{more}",
                domains.join(", ")
            )));
        }
        Ok(jid)
    }

    /// The same, or that of an account which is out of reach: its domain is not served any more.
    fn account_kept(&self, text: &str) -> Result<Jid, Refused> {
        self.account(text).or_else(|refused| {
            let jid = Jid::parse(text).ok().filter(Jid::is_bare);
            let is_kept = |jid: &Jid| {
                let store = &self.core.store;
                store.read(|state| state.account(jid.as_str()).is_some())
            };
            jid.filter(is_kept).ok_or(refused)
        })
    }
}

fn no_account(jid: &Jid) -> Refused {
    Refused::missing(format!(
        "there is no account {jid}; `cairn user list` shows all"
    ))
}

/// The first line, prepared: the new password of that account.
fn read_password(input: &mut dyn Read, owner: &Jid) -> Result<Password, Refused> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(input.take(PASSWORD_LINE_BYTES_MAX))
        .read_line(&mut line)
        .map_err(|error| format!("the password cannot be read: {error}"))?;
    account::password(line.trim_end_matches(['\r', '\n']), owner)
        .map_err(|refusal| Refused::invalid(format!("this cannot be its password: {refusal}")))
}

fn say(output: &mut dyn Write, line: &str) -> Result<(), String> {
    writeln!(output, "{line}").map_err(|error| format!("the output cannot be written: {error}"))
}

#[cfg(test)]
mod tests;
