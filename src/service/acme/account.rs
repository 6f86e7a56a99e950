//! The account with the authority (RFC 8555 §7.3): made once, told of another contact, and made
//! anew where the authority does not know it any more.

use instant_acme::{Account, AccountCredentials, Error, NewAccount};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::order::{Attempt, Keep};
use super::plan::Failure;
use super::words::{self, Step};

/// What is kept of an account. The library's part is as it was before there was more.
#[derive(Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    credentials: AccountCredentials,
    /// Whom the authority writes to, by what it was told last; `None` where that is not known.
    #[serde(default)]
    contact: Option<String>,
}

impl Attempt<'_> {
    /// The account that there is, or a new one.
    pub(super) async fn account(&self) -> Result<Account, Failure> {
        let known = match self.known() {
            Some(known) => known,
            None => {
                let _turn = self.account.lock().await;
                match self.known() {
                    Some(known) => known,
                    None => return self.new_account().await,
                }
            }
        };
        let is_told = self.is_told(&known);
        let account = Account::builder_with_http(Box::new(self.client.clone()));
        let account = account.from_credentials(known.credentials).await;
        let account = account.map_err(|error| self.explain(&error, Step::Account))?;
        if !is_told {
            self.tell_contact(&account).await?;
        }
        Ok(account)
    }

    /// Whether there is an account for which the authority has another contact.
    pub(super) fn has_other_contact(&self) -> bool {
        self.known().is_some_and(|known| !self.is_told(&known))
    }

    /// The authority refuses what was asked in the account's name: one that it does not know, or
    /// that was deactivated (§7.3.6), will never be of use again.
    pub(super) fn refused(&self, error: &Error, account: Option<&[u8]>) -> Failure {
        let is_gone = |error: &Error| match error {
            Error::Api(problem) => words::is_without_account(problem),
            _ => false,
        };
        if let (true, Some(account)) = (is_gone(error), account) {
            tracing::warn!("the authority does not take the account any more: another one is made");
            if let Err(why) = self.memory.keep(Keep::NoAccount(account)) {
                return words::plain(why);
            }
        }
        self.explain(error, Step::Account)
    }

    fn known(&self) -> Option<Known> {
        serde_json::from_slice(&self.memory.account()?).ok()
    }

    fn is_told(&self, known: &Known) -> bool {
        known.contact.as_deref() == Some(self.contact)
    }

    fn contacts(&self) -> &[&str] {
        match self.contact {
            "" => &[],
            _ => std::slice::from_ref(&self.contact),
        }
    }

    async fn new_account(&self) -> Result<Account, Failure> {
        let wanted = NewAccount {
            contact: self.contacts(),
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let account = Account::builder_with_http(Box::new(self.client.clone()));
        let account = account.create(&wanted, self.directory.to_owned(), None);
        let made = account.await;
        let (account, credentials) =
            made.map_err(|error| self.explain(&error, Step::Registration))?;
        self.keep_account(credentials)?;
        tracing::info!(account = account.id(), "the authority has given an account");
        Ok(account)
    }

    /// Tells the authority whom to write to from now on (§7.3.2). That it does not like the new
    /// contact is no reason to go without a certificate.
    async fn tell_contact(&self, account: &Account) -> Result<(), Failure> {
        let _turn = self.account.lock().await;
        let before = self.memory.account();
        // Another domain may have told it meanwhile.
        let Some(known) = self.known().filter(|known| !self.is_told(known)) else {
            return Ok(());
        };
        match account.update_contacts(self.contacts()).await {
            Ok(()) => {
                self.keep_account(known.credentials)?;
                tracing::info!(
                    account = account.id(),
                    contact = self.contact,
                    "the authority has another contact"
                );
                Ok(())
            }
            Err(Error::Api(problem)) if words::is_of_the_contact(&problem) => {
                let why = words::of_problem(&problem, Step::Account).why;
                tracing::warn!(contact = self.contact, "the contact stays as it was: {why}");
                Ok(())
            }
            Err(error) => Err(self.refused(&error, before.as_ref().map(|it| &it[..]))),
        }
    }

    fn keep_account(&self, credentials: AccountCredentials) -> Result<(), Failure> {
        let known = Known {
            credentials,
            contact: Some(self.contact.to_owned()),
        };
        let json = Zeroizing::new(serde_json::to_vec(&known).unwrap_or_default());
        let kept = self.memory.keep(Keep::Account(&json));
        kept.map_err(words::plain)
    }
}
