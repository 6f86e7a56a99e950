//! Backups: the frames of [`crate::service::backup`], out and in.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use super::{LOOK_EVERY, NOTES_MAX, Operator, ROOM_WITHIN, Refused, claim, say};
use crate::addr::Jid;
use crate::config::{Config, Machine};
use crate::service::backup::{self, Aside, Document, Head, SoFar};
use crate::service::configuration::{self, Source};
use crate::stanza::time::to_datetime;
use crate::store::restoring::RESTORING;
use crate::store::xep0227::{self, Existing, ImportOptions, Imported};
use crate::store::{State, StoreError};

/// Who restores a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The operator, where the server is.
    Operator,
    /// Somebody elsewhere who had the one-time code, which is good once.
    Code,
}

impl Operator {
    /// Writes a backup, or the rest of one.
    pub(super) fn back_up(
        &self,
        so_far: Option<[&str; 3]>,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        if self.core.store.read(State::is_restoring) {
            return Err(Refused::conflict(RESTORING));
        }
        let so_far = so_far.map(|[last, store, begun_ms]| SoFar {
            last: last.to_owned(),
            store: store.to_owned(),
            begun_ms: begun_ms.parse().unwrap_or(0),
        });
        let after = so_far.as_ref().map(|so_far| &so_far.last);
        tracing::info!(after, "a backup is taken");
        let domain = &self.core.config.domain;
        let (store, now_ms) = (&self.core.store, self.now_ms());
        let missing = backup::write(store, domain, now_ms, so_far.as_ref(), output)?;
        for missing in &missing {
            tracing::error!("a backup lacks something: {missing}");
        }
        Ok(())
    }

    /// Puts a backup into a store in which nobody has anything yet: all of it, or nothing.
    ///
    /// Its accounts come into the store while they arrive, and do not count there: see
    /// [`crate::store::restoring`].
    pub(super) fn restore(
        &self,
        by: By,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let alone = self.restoring.try_lock();
        let _alone = alone
            .map_err(|_| Refused::conflict("another backup is being restored: wait for it"))?;
        self.forget_restore()?;
        let head = backup::read_head(input)
            .map_err(|error| Refused::invalid(error.to_string()))
            .and_then(|head| self.check_domain(head))?;
        let begun = self.core.store.update(|tx| tx.begin_restore());
        begun.map_err(|error| match error {
            StoreError::Invalid(_) => Refused::conflict(
                "there are accounts already: a backup is restored into an empty store",
            ),
            error => Refused::from(error.to_string()),
        })?;
        // The mark is there before anything of the backup.
        self.wait(self.core.store.position())?;
        tracing::info!(domain = head.domain, "a backup is being restored");
        let mut aside = Aside::default();
        let imported = self.take_in(&head, input, &mut aside);
        let put = imported.and_then(|imported| {
            let notes = self.put_settings(by, &head, &mut aside)?;
            Ok((imported, notes))
        });
        let (imported, notes) = match put {
            Ok(put) => put,
            Err(refused) => {
                tracing::warn!("the restore of a backup was broken off: {refused}");
                self.forget_restore()?;
                let sentence = format!("{refused}; nothing of it was kept: begin again");
                return Err(Refused {
                    sentence,
                    ..refused
                });
            }
        };
        self.wait(self.core.store.position())?;
        tracing::info!(accounts = imported.accounts, "a backup was restored");
        let notes = notes.iter().chain(&imported.notes).chain(&aside.missing);
        for note in notes.take(NOTES_MAX) {
            say(output, &format!("note: {note}"))?;
        }
        self.begin_with_it(&head, &imported, output)
    }

    /// Forgets what there is of a restore that ended before its backup did.
    pub fn forget_restore(&self) -> Result<(), String> {
        let store = &self.core.store;
        if !store.read(State::is_restoring) {
            return Ok(());
        }
        let forgotten = backup::forget(store, &mut pause);
        let forgotten = forgotten.map_err(|error| {
            format!("what there is of a backup cannot be removed: {error}: start again")
        })?;
        self.wait(store.position())?;
        tracing::warn!(
            accounts = forgotten,
            "a restore was not completed: what there was of its backup is removed"
        );
        Ok(())
    }

    /// A server that has no domain yet gets that of the backup.
    fn check_domain(&self, head: Head) -> Result<Head, Refused> {
        let domain = &self.core.config.domain;
        match self.around.is_unconfigured {
            false if head.domain != *domain => Err(Refused::conflict(format!(
                "the backup is of the domain {}, this server's is {domain}: change `domain`",
                head.domain
            ))),
            true if !Jid::parse(&head.domain).is_ok_and(|jid| jid.as_str() == head.domain) => {
                Err(Refused::invalid("the backup is of no domain"))
            }
            _ => Ok(head),
        }
    }

    /// Its accounts, to the end of it.
    fn take_in(
        &self,
        head: &Head,
        input: &mut dyn Read,
        aside: &mut Aside,
    ) -> Result<Imported, Refused> {
        let store = &self.core.store;
        let document = Document::new(head, input, aside);
        let imported = xep0227::import(
            store,
            Box::new(document),
            ImportOptions {
                // The configuration that comes with it may serve them from the next start on.
                serves: &|_| true,
                existing: Existing::Keep,
                new_credentials: &mut |_, _| None,
                include: &mut |file| Err(io::Error::other(format!("{file} is another file"))),
                pause: &mut pause,
                // It was kept within the limits that counted then.
                limits: Some(store.limits().of_the_server_alone()),
                now_ms: self.now_ms(),
            },
        );
        let imported = imported.map_err(|error| Refused::invalid(error.to_string()))?;
        let behind = input.read(&mut [0]);
        match behind {
            Ok(0) if aside.is_whole => Ok(imported),
            Ok(_) => Err(Refused::invalid("this is no whole backup")),
            Err(error) => Err(Refused::invalid(format!("it cannot be read: {error}"))),
        }
    }

    /// The values of the server, in the one transaction that makes the accounts count too. Returns
    /// what there is to say.
    fn put_settings(&self, by: By, head: &Head, aside: &mut Aside) -> Result<Vec<String>, Refused> {
        let mut notes = Vec::new();
        if let Some(again) = &aside.again {
            notes.push(format!(
                "the backup was broken off and gone on with: accounts up to {} are as of {} or \
                 soon after, the others as of {} or soon after",
                again.behind,
                to_datetime(head.begun_ms),
                to_datetime(again.at_ms)
            ));
        }
        let source = self.configuration_of(head, aside, &mut notes);
        let since = Instant::now();
        loop {
            let put = self.core.store.update(|tx| {
                for (name, value) in &aside.settings {
                    tx.put_setting(name, value)?;
                }
                if let Some(source) = &source {
                    configuration::keep(tx, source)?;
                }
                if let (By::Code, Some(digest)) = (by, &self.around.claim) {
                    let used = aside.settings.iter().find(|(name, _)| name == claim::USED);
                    let used = used.map_or(&b""[..], |(_, value)| value);
                    claim::use_up(tx, used, digest)?;
                }
                tx.end_restore()
            });
            match put {
                Ok(_) => return Ok(notes),
                Err(StoreError::Full | StoreError::Overloaded) if since.elapsed() < ROOM_WITHIN => {
                    thread::sleep(LOOK_EVERY);
                }
                Err(error) => {
                    let why = format!("the values of the server cannot be restored: {error}");
                    return Err(why.into());
                }
            }
        }
    }

    /// The configuration of the backup, as a machine elsewhere can use it. A process reads its own.
    fn configuration_of(
        &self,
        head: &Head,
        aside: &Aside,
        notes: &mut Vec<String>,
    ) -> Option<Source> {
        self.around.machine.as_ref()?;
        let kept = aside.settings.iter();
        let mut kept = kept.filter(|(name, _)| name == configuration::NAME);
        let kept = kept.find_map(|(_, value)| serde_json::from_slice::<Source>(value).ok());
        let Some(kept) = kept else {
            let source = Source {
                origin: "`cairn restore`".to_owned(),
                ..Source::of_domain(&head.domain)
            };
            return self.around.is_unconfigured.then_some(source);
        };
        let (source, left_out) = kept.elsewhere();
        notes.extend(left_out.iter().map(|key| {
            format!("{key} is left out of the configuration: it names what is not on this machine")
        }));
        let machine = Machine::measure();
        let usable = Config::parse(&source.clone().of_machine().toml, &machine)
            .map_err(|error| error.to_string())
            .and_then(|config| config.admission(&machine).check());
        if let Err(why) = usable {
            notes.push(format!(
                "the configuration cannot be used here ({why}): until `cairn config set` mends it, \
                 nobody but administrators is served"
            ));
        }
        Some(source)
    }

    /// The domains that have accounts and are not served, and how many.
    fn out_of_reach(&self) -> BTreeMap<String, usize> {
        let mut domains = self.core.store.read(State::accounts_by_domain);
        domains.retain(|domain, _| !self.core.is_local(domain));
        domains
    }

    /// What the server does with a backup that it holds whole: a machine starts again with it.
    fn begin_with_it(
        &self,
        head: &Head,
        imported: &Imported,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let restored = format!(
            "{} accounts with {} waiting messages are restored",
            imported.accounts, imported.messages
        );
        match &self.around.machine {
            None => {
                self.reload_certificate()?;
                for (domain, accounts) in self.out_of_reach() {
                    say(
                        output,
                        &format!(
                            "note: {accounts} accounts are of {domain}, which is not served now"
                        ),
                    )?;
                }
                Ok(say(output, &restored)?)
            }
            Some(machine) => {
                if !self.is_unclaimed() {
                    machine.show_claim_code(None);
                }
                machine.reboot()?;
                let again = format!("the machine starts again and serves {}", head.domain);
                Ok(say(output, &format!("{restored}; {again}"))?)
            }
        }
    }
}

fn pause() -> Result<(), StoreError> {
    thread::sleep(LOOK_EVERY);
    Ok(())
}
