//! Making and removing accounts: the rules that hold wherever it is done, in a client (XEP-0077)
//! or on the command line.

use std::fmt;

use crate::addr::{Jid, is_lookalike_risk, lookalike_key};
use crate::config::{Auth, CredentialKind};
use crate::crypto::argon2id;
use crate::crypto::{Credentials, CredentialsId, Password, PasswordCheck, PasswordError, Scheme};
use crate::router::{Core, Cx, Session, end};
use crate::stanza::{StanzaError, StreamError, StreamErrorCondition};
use crate::store::{Account, Position, Store, StoreError, Tx};

/// A localpart may have 1023 bytes (RFC 7622 §3.3); nobody needs as many, and a short one fits
/// every client's window.
const USERNAME_BYTES_MAX: usize = 64;

/// Shorter passwords are not taken from anybody (NIST SP 800-63B §5.1.1.2).
const PASSWORD_CHARS_MIN: usize = 8;

/// Why there is no such account now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What was typed is no localpart (RFC 7622 §3.3), or too long a one.
    Username,
    /// People would take it for another name.
    LookAlike,
    /// Somebody has it.
    Taken,
    /// What was typed is no password.
    Password(PasswordError),
    /// A password that is guessed at once.
    WeakPassword,
    /// The store takes no more.
    Store(StoreError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Username => {
                write!(
                    f,
                    "this can't be a username: use up to {USERNAME_BYTES_MAX} letters, digits and . _ -"
                )
            }
            Refusal::LookAlike => f.write_str("this name could be taken for another one"),
            Refusal::Taken => f.write_str("somebody has this name already"),
            Refusal::Password(why) => why.fmt(f),
            Refusal::WeakPassword => write!(
                f,
                "choose a password of {PASSWORD_CHARS_MIN} characters or more that is not the username"
            ),
            Refusal::Store(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for StanzaError {
    fn from(refusal: Refusal) -> StanzaError {
        match refusal {
            Refusal::Store(StoreError::AccountExists) => Refusal::Taken.into(),
            Refusal::Store(error) => error.into(),
            // XEP-0077 §3.1: the name is taken, or not all that is required was given.
            Refusal::Taken => StanzaError::conflict(refusal.to_string()),
            Refusal::Username | Refusal::LookAlike => {
                StanzaError::jid_malformed(refusal.to_string())
            }
            _ => StanzaError::not_acceptable(refusal.to_string()),
        }
    }
}

/// The address that a new account of this name gets; what is typed is prepared first.
pub fn address(domain: &Jid, username: &str) -> Result<Jid, Refusal> {
    if username.is_empty() || username.len() > USERNAME_BYTES_MAX {
        return Err(Refusal::Username);
    }
    Jid::from_parts(Some(username), domain.domain(), None).map_err(|_| Refusal::Username)
}

/// Refuses a name that is too long, or by itself could be taken for another one (UTS #39).
pub fn check_name(address: &Jid) -> Result<(), Refusal> {
    let local = address.local().unwrap_or_default();
    match local {
        _ if local.len() > USERNAME_BYTES_MAX => Err(Refusal::Username),
        _ if is_lookalike_risk(local) => Err(Refusal::LookAlike),
        _ => Ok(()),
    }
}

/// Refuses a name that could be taken for one that is in use in its domain: of those of another
/// domain nobody learns anything in this one. Only names beyond ASCII are
/// compared: no other passes [`check_name`] and looks like one within it, and there people have
/// learnt to tell `modern` from `modem`.
///
/// It looks at all such names: whoever calls it has limited how often it is asked for.
pub fn check_neighbours(store: &Store, address: &Jid) -> Result<(), Refusal> {
    let local = address.local().unwrap_or_default();
    if local.is_ascii() {
        return Ok(());
    }
    // Copied first, because the store stands still while it is read.
    let others: Vec<Box<str>> = store.read(|state| {
        let owners = state.accounts().map(Account::owner);
        let of_domain = |(local, domain)| (domain == address.domain()).then_some(local);
        let locals = owners.filter_map(|owner| owner.split_once('@').and_then(of_domain));
        let beyond_ascii = locals.filter(|other| !other.is_ascii() && *other != local);
        beyond_ascii.map(Box::from).collect()
    });
    let key = lookalike_key(local);
    match others.iter().any(|other| lookalike_key(other) == key) {
        true => Err(Refusal::LookAlike),
        false => Ok(()),
    }
}

/// How the passwords of this domain's accounts are kept according to the configuration.
pub fn scheme_of(core: &Core, domain: &str) -> Scheme {
    scheme(&core.hosts.policy(domain).auth)
}

/// How passwords are kept according to a section `[auth]`.
pub fn scheme(auth: &Auth) -> Scheme {
    match auth.store {
        CredentialKind::Argon2id => Scheme::Argon2id,
        CredentialKind::Scram => Scheme::Scram {
            sha1: auth.scram_sha1,
            iterations: std::num::NonZeroU32::new(auth.scram_iterations)
                .unwrap_or(crate::crypto::ITERATIONS_DEFAULT),
        },
    }
}

/// A new password, from a client or the operator. What is too short is guessed.
pub fn password(typed: &str, address: &Jid) -> Result<Password, Refusal> {
    let password = Password::prepare(typed).map_err(Refusal::Password)?;
    let is_name = address.local() == Some(typed) || address.as_str() == typed;
    match is_name || typed.chars().count() < PASSWORD_CHARS_MIN {
        true => Err(Refusal::WeakPassword),
        false => Ok(password),
    }
}

/// What is kept of a new password for an account of this domain. This takes milliseconds, or with argon2id tens of them and
/// waits for memory: it is nothing for a thread that serves clients.
pub fn credentials(core: &Core, domain: &str, password: &Password) -> Credentials {
    let (scheme, random) = (scheme_of(core, domain), core.random());
    core.argon2
        .lend(|memory| Credentials::new(scheme, password, &random, memory))
}

/// What is kept of a new password, an administrator's hash for the log-in from outside included.
pub struct NewPassword {
    credentials: Credentials,
    /// An argon2id hash, however the configuration has other passwords kept (DESIGN §5).
    administrator: Option<String>,
}

impl NewPassword {
    /// Of a new password for `owner`, who may be an administrator. As slow as [`credentials`].
    pub fn of(core: &Core, owner: &Jid, password: &Password) -> NewPassword {
        let is_administrator = core
            .store
            .read(|state| state.administrator(owner.as_str()).is_some());
        NewPassword {
            credentials: credentials(core, owner.domain(), password),
            administrator: is_administrator.then(|| administrator_hash(core, password)),
        }
    }

    /// The same for one who is to be an administrator.
    pub fn of_administrator(core: &Core, owner: &Jid, password: &Password) -> NewPassword {
        NewPassword {
            credentials: credentials(core, owner.domain(), password),
            administrator: Some(administrator_hash(core, password)),
        }
    }

    /// Makes the account.
    pub fn create(&self, tx: &mut Tx<'_>, owner: &str, now_ms: u64) -> Result<(), StoreError> {
        tx.require_no_restore()?;
        tx.put_account(owner, &self.credentials, now_ms)?;
        match &self.administrator {
            Some(hash) => tx.put_administrator(owner, hash),
            None => Ok(()),
        }
    }

    /// Gives the account this password.
    pub fn set(&self, tx: &mut Tx<'_>, owner: &str) -> Result<(), StoreError> {
        tx.set_credentials(owner, &self.credentials)?;
        match (&self.administrator, tx.administrator(owner).is_some()) {
            (Some(hash), true) => tx.put_administrator(owner, hash),
            // It became one while the keys were made: its old password must not go on to work.
            (None, true) => Err(StoreError::Invalid(
                "the account has just become an administrator: try again",
            )),
            (_, false) => Ok(()),
        }
    }
}

/// What an administrator's password is checked against. It takes tens of milliseconds.
pub fn administrator_hash(core: &Core, password: &Password) -> String {
    let salt = core.random();
    core.argon2
        .lend(|memory| argon2id::hash(password, &salt, memory))
}

/// Checks a password that a client has sent to log in, and keeps it as the configuration says now
/// where it was kept in another way. Returns what is proved by it: the id of the credentials that
/// the account has then.
///
/// Like [`credentials`] it takes its time.
pub fn verify(core: &Core, account: &Jid, check: &PasswordCheck) -> Option<CredentialsId> {
    let owner = account.as_str();
    core.argon2.lend(|memory| {
        if !check.run(memory) {
            return None;
        }
        let proved = check.credentials().id();
        let scheme = scheme_of(core, account.domain());
        let Some(raised) = check.upgrade(scheme, &core.random(), memory) else {
            return Some(proved);
        };
        let put = core.store.update(|tx| {
            let kept = tx.account(owner).and_then(Account::credentials);
            match kept.is_some_and(|kept| kept.id() == proved) {
                true => tx.set_credentials(owner, &raised),
                false => Err(StoreError::NoAccount),
            }
        });
        match put {
            Ok(_) => {
                tracing::info!(
                    account = owner,
                    "its password is kept in the configured way now"
                );
                Some(raised.id())
            }
            // Another client of the account may have been faster.
            Err(StoreError::NoAccount) => {
                let kept = core
                    .store
                    .read(|state| state.account(owner)?.credentials())?;
                check.run_against(&kept, memory).then(|| kept.id())
            }
            // A full disk keeps nobody out.
            Err(error) => {
                tracing::warn!(account = owner, %error, "its password stays kept as it was");
                Some(proved)
            }
        }
    })
}

/// Makes an account. It is there for good once the position is durable.
pub fn create(
    store: &Store,
    address: &Jid,
    credentials: &Credentials,
    now_ms: u64,
) -> Result<Position, Refusal> {
    debug_assert!(address.is_bare() && address.local().is_some());
    let created = store.update(|tx| {
        tx.require_no_restore()?;
        tx.put_account(address.as_str(), credentials, now_ms)
    });
    match created {
        Ok(((), position)) => Ok(position),
        Err(StoreError::AccountExists) => Err(Refusal::Taken),
        Err(error) => Err(Refusal::Store(error)),
    }
}

/// Removes an account with everything that was kept for it, tells those who shared presence with
/// it, and ends its sessions with `not-authorized` (XEP-0077 §3.2), except `last`: that one is
/// still to be answered.
pub fn remove(cx: &mut Cx<'_>, address: &Jid, last: Option<&Session>) -> Result<(), StanzaError> {
    let owner = address.as_str();
    if cx.peek(|state| state.account(owner).is_none()) {
        return Err(StanzaError::registration_required(
            "there is no such account",
        ));
    }
    // Before the store forgets whom to tell.
    for module in cx.core.registry.modules() {
        if let Some(removing) = module.moments.account_removing {
            removing(cx, address);
        }
    }
    cx.update(|tx| tx.remove_account(owner))?;
    for session in cx.core.table.sessions(owner) {
        if last.is_none_or(|last| last.number != session.number) {
            end(cx, &session, Some(gone()));
        }
    }
    Ok(())
}

/// What a session of an account hears that is not there any more.
pub fn gone() -> StreamError {
    StreamError::new(
        StreamErrorCondition::NotAuthorized,
        "this account has been removed",
    )
}
