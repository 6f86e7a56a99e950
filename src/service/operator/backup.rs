//! Backups: the frames of [`crate::service::backup`], out and in.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use super::{LOOK_EVERY, NOTES_MAX, Operator, ROOM_WITHIN, Refused, say};
use crate::service::backup::{self, Aside, Document};
use crate::store::xep0227::{self, Existing, ImportOptions};
use crate::store::{State, StoreError};

impl Operator {
    /// Writes a backup, or what stands behind the account `after` in it.
    pub(super) fn back_up(
        &self,
        after: Option<&str>,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        tracing::info!(after, "a backup is taken");
        let domain = &self.core.config.domain;
        let end = backup::write(&self.core.store, domain, self.now_ms(), after, output)?;
        for missing in &end.missing {
            tracing::error!("a backup lacks something: {missing}");
        }
        Ok(())
    }

    /// Puts a backup into a store in which nobody has anything yet.
    pub(super) fn restore(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let unreadable = |error: io::Error| Refused::invalid(error.to_string());
        if self.core.store.read(State::account_count) > 0 {
            return Err(Refused::conflict(
                "there are accounts already: a backup is restored into an empty store",
            ));
        }
        let head = backup::read_head(input).map_err(unreadable)?;
        let domain = &self.core.config.domain;
        if head.domain != *domain {
            return Err(Refused::conflict(format!(
                "the backup is of the domain {}, this server's is {domain}: change `domain`",
                head.domain
            )));
        }
        let mut aside = Aside::default();
        let document = Document::new(&head, input, &mut aside);
        let imported = xep0227::import(
            &self.core.store,
            Box::new(document),
            ImportOptions {
                // The configuration that comes with it may serve them from the next start on.
                serves: &|_| true,
                existing: Existing::Keep,
                new_credentials: &mut |_, _| None,
                include: &mut |file| Err(io::Error::other(format!("{file} is another file"))),
                pause: &mut || {
                    thread::sleep(LOOK_EVERY);
                    Ok(())
                },
                now_ms: self.now_ms(),
            },
        );
        let imported = imported.map_err(|error| {
            Refused::invalid(format!(
                "{error}; what was restored so far stays: begin again with an empty store"
            ))
        })?;
        self.put_settings(aside.settings)?;
        self.wait(self.core.store.position())?;
        self.reload_certificate()?;
        if let Some(machine) = self
            .around
            .machine
            .as_ref()
            .filter(|_| !self.is_unclaimed())
        {
            machine.show_claim_code(None);
        }
        for (domain, accounts) in self.out_of_reach() {
            say(
                output,
                &format!("note: {accounts} accounts are of {domain}, which is not served now"),
            )?;
        }
        let end = aside.end.unwrap_or_default();
        for note in imported.notes.iter().chain(&end.missing).take(NOTES_MAX) {
            say(output, &format!("note: {note}"))?;
        }
        tracing::info!(accounts = imported.accounts, "a backup was restored");
        Ok(say(
            output,
            &format!(
                "{} accounts with {} waiting messages are restored",
                imported.accounts, imported.messages
            ),
        )?)
    }

    /// The domains that have accounts and are not served, and how many.
    fn out_of_reach(&self) -> BTreeMap<String, usize> {
        let mut domains = self.core.store.read(State::accounts_by_domain);
        domains.retain(|domain, _| !self.core.is_local(domain));
        domains
    }

    /// Administrators last: a store with half of a backup has none.
    fn put_settings(&self, mut settings: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        let store = &self.core.store;
        settings.sort_by_key(|(name, _)| name.starts_with("administrator:"));
        for (name, value) in settings {
            let since = Instant::now();
            loop {
                match store.update(|tx| tx.put_setting(&name, &value)) {
                    Ok(_) => break,
                    Err(StoreError::Full | StoreError::Overloaded)
                        if since.elapsed() < ROOM_WITHIN =>
                    {
                        thread::sleep(LOOK_EVERY);
                    }
                    Err(error) => return Err(format!("{name} cannot be restored: {error}")),
                }
            }
        }
        Ok(())
    }
}
