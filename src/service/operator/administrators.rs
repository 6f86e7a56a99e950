//! Administrators: who they are, and whether somebody is one.

use std::io::{BufRead, BufReader, Read, Write};

use zeroize::Zeroizing;

use super::{Operator, PASSWORD_LINE_BYTES_MAX, Refused, no_account, say};
use crate::addr::Jid;
use crate::crypto::{Password, argon2id};
use crate::store::StoreError;
use crate::xep::account;

/// Somebody who says to be an administrator, with what a password of theirs is checked against.
///
/// Nobody can tell by the time that the check takes whether there is such an administrator.
pub struct LogIn {
    /// Who.
    pub jid: Jid,
    password: Password,
    hash: String,
    exists: bool,
}

impl Operator {
    /// Makes an administrator of an account whose password is the first line of the input.
    pub(super) fn make_administrator(
        &self,
        jid: &str,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let jid = self.account(jid)?;
        let owner = jid.as_str();
        let kept = self.core.store.read(|state| {
            state
                .account(owner)
                .map(|account| (account.credentials(), account.created_at_ms()))
        });
        let (credentials, born_ms) = kept.ok_or_else(|| no_account(&jid))?;
        let mut line = Zeroizing::new(String::new());
        BufReader::new(input.take(PASSWORD_LINE_BYTES_MAX))
            .read_line(&mut line)
            .map_err(|error| format!("the password cannot be read: {error}"))?;
        let password = Password::prepare(line.trim_end_matches(['\r', '\n']));
        let wrong = || {
            Refused::invalid(format!(
                "this is not the password of {jid}; `cairn user passwd` sets another"
            ))
        };
        let (Ok(password), Some(credentials)) = (password, credentials) else {
            return Err(wrong());
        };
        let matches = self
            .core
            .argon2
            .lend(|memory| credentials.check_plain(&password, memory));
        if !matches {
            return Err(wrong());
        }
        let hash = account::administrator_hash(&self.core, &password);
        let proved = credentials.id();
        self.update(&jid, |tx| {
            let account = tx.account(owner).ok_or(StoreError::NoAccount)?;
            let is_same = account.created_at_ms() == born_ms
                && account
                    .credentials()
                    .is_some_and(|kept| kept.id() == proved);
            match is_same {
                true => tx.put_administrator(owner, &hash),
                false => Err(StoreError::Invalid(
                    "its password has just changed: try again",
                )),
            }
        })?;
        tracing::info!(account = %jid, "an account was made an administrator");
        Ok(say(output, &format!("{jid} is an administrator"))?)
    }

    pub(super) fn unmake_administrator(
        &self,
        jid: &str,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let jid = self.account_kept(jid)?;
        self.update(&jid, |tx| match tx.account(jid.as_str()).is_some() {
            true => tx.remove_administrator(jid.as_str()),
            false => Err(StoreError::NoAccount),
        })?;
        tracing::info!(account = %jid, "an account is no administrator any more");
        Ok(say(output, &format!("{jid} is no administrator"))?)
    }

    pub(super) fn list_administrators(&self, output: &mut dyn Write) -> Result<(), String> {
        let owners: Vec<String> = self
            .core
            .store
            .read(|state| state.administrators().map(str::to_owned).collect());
        owners.iter().try_for_each(|owner| say(output, owner))
    }

    /// The addresses of accounts behind `after`, in their order, at most `count`.
    #[must_use]
    pub fn accounts_behind(&self, after: &str, count: usize) -> Vec<String> {
        self.core
            .store
            .read(|state| state.accounts_behind(after, count))
    }

    /// Somebody who says to be `name` (an address, or its part in front of the @).
    #[must_use]
    pub fn log_in(&self, name: &str, password: &str) -> Option<LogIn> {
        let jid = self.account(name).ok()?;
        let password = Password::prepare(password).ok()?;
        let kept = self.administrator_hash(&jid);
        let exists = kept.is_some();
        let hash =
            kept.unwrap_or_else(|| argon2id::unmatchable(&self.core.random(), &self.core.random()));
        Some(LogIn {
            jid,
            password,
            hash,
            exists,
        })
    }

    /// Checks the password, which takes tens of milliseconds: not on a thread that serves others.
    #[must_use]
    pub fn is_administrator(&self, log_in: &LogIn) -> bool {
        let matches = self
            .core
            .argon2
            .lend(|memory| argon2id::verify(&log_in.password, &log_in.hash, memory));
        matches && log_in.exists && self.is_still(log_in)
    }

    /// Whether nothing has changed since: somebody who was logged in still may be.
    #[must_use]
    pub fn is_still(&self, log_in: &LogIn) -> bool {
        self.administrator_hash(&log_in.jid).as_deref() == Some(&*log_in.hash)
    }

    fn administrator_hash(&self, jid: &Jid) -> Option<String> {
        self.core.store.read(|state| {
            let is_enabled = state.account(jid.as_str())?.is_enabled();
            let hash = state.administrator(jid.as_str())?;
            is_enabled.then(|| hash.to_owned())
        })
    }
}
