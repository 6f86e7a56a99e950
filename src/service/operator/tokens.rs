//! Tokens of administrators: shown once, kept as their SHA-256.
//!
//! A token that an administrator made is worth nothing once they are none any more, or out of reach
//! because their domain is not served any more; one that was
//! made on the machine itself stands by itself.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::{Operator, Refused, say};
use crate::crypto::token::{TOKEN_RANDOM_BYTES, token, token_digest, token_matches};
use crate::stanza::id::hex;
use crate::stanza::time::to_datetime;
use crate::store::{State, StoreError};

/// The name of the value, in front of the token's id.
const PREFIX: &str = "token:";

/// In front of every token, so that people and scanners know what they found.
const MARK: &str = "cairn_";

const TOKENS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
const DAYS_MAX: u64 = 3_650;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// A token as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// What it is for.
    name: String,
    sha256: [u8; 32],
    created_ms: u64,
    /// When it ends, if ever.
    expires_ms: Option<u64>,
    /// The administrator who made it.
    by: Option<String>,
}

/// A token that is worth something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Its id, for the log.
    pub id: String,
    /// The administrator who made it.
    pub by: Option<String>,
}

impl Operator {
    /// `days` 0 is for ever.
    pub(super) fn new_token(
        &self,
        name: &str,
        days: &str,
        by: Option<&str>,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let is_plain = !name.chars().any(char::is_control);
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !is_plain {
            return Err(Refused::invalid(format!(
                "the name of a token has 1 to {NAME_CHARS_MAX} characters"
            )));
        }
        let days = days.parse::<u64>().ok().filter(|days| *days <= DAYS_MAX);
        let days = days.ok_or_else(|| {
            Refused::invalid(format!(
                "a token is good for up to {DAYS_MAX} days; 0: for ever"
            ))
        })?;
        let now_ms = self.now_ms();
        let text = format!("{MARK}{}", token(&self.core.random::<TOKEN_RANDOM_BYTES>()));
        let id = hex(&self.core.random::<4>());
        let kept = Kept {
            name: name.to_owned(),
            sha256: token_digest(&text),
            created_ms: now_ms,
            expires_ms: (days > 0).then(|| now_ms + days * DAY_MS),
            by: by.map(str::to_owned),
        };
        let value = serde_json::to_vec(&kept).expect("plain values are JSON");
        let put = self.core.store.update(|tx| {
            // What has ended makes room.
            let all: Vec<(String, Kept)> = all(tx).collect();
            let (ended, good): (Vec<_>, Vec<_>) =
                all.iter().partition(|(_, kept)| kept.has_ended(now_ms));
            for (id, _) in ended {
                tx.remove_setting(&format!("{PREFIX}{id}"))?;
            }
            match good.len() < TOKENS_MAX {
                true => tx.put_setting(&format!("{PREFIX}{id}"), &value),
                false => Err(StoreError::Invalid(
                    "there are 64 tokens: revoke some first",
                )),
            }
        });
        let ((), position) = put.map_err(|error| error.to_string())?;
        self.wait(position)?;
        tracing::info!(id, name, days, "a token was made");
        Ok(say(output, &text)?)
    }

    /// Its id, when it ends, its name and who made it, a line each.
    pub(super) fn list_tokens(&self, output: &mut dyn Write) -> Result<(), String> {
        let tokens: Vec<(String, Kept)> = self.core.store.read(|state| all(state).collect());
        for (id, kept) in tokens {
            let until = match kept.expires_ms {
                None => "for ever".to_owned(),
                Some(ms) if ms <= self.now_ms() => "has ended".to_owned(),
                Some(ms) => format!("until {}", to_datetime(ms)),
            };
            let by = kept.by.map_or(String::new(), |by| format!(", by {by}"));
            say(output, &format!("{id}  {until}  {}{by}", kept.name))?;
        }
        Ok(())
    }

    pub(super) fn revoke_token(&self, id: &str, output: &mut dyn Write) -> Result<(), Refused> {
        let name = format!("{PREFIX}{id}");
        let removed = self
            .core
            .store
            .update(|tx| match tx.setting(&name).is_some() {
                true => tx.remove_setting(&name),
                false => Err(StoreError::NoAccount),
            });
        let ((), position) = removed.map_err(|error| match error {
            StoreError::NoAccount => Refused::missing(format!(
                "there is no token {id}; `cairn token list` shows all"
            )),
            other => Refused::from(other.to_string()),
        })?;
        self.wait(position)?;
        tracing::info!(id, "a token was revoked");
        Ok(say(
            output,
            &format!("the token {id} is worth nothing any more"),
        )?)
    }

    /// Whose token this is, if it is worth something now.
    #[must_use]
    pub fn bearer(&self, text: &str) -> Option<Bearer> {
        let now_ms = self.now_ms();
        self.core.store.read(|state| {
            // All are looked at, so that time tells nothing of where one stands.
            let mut found = None;
            for (id, kept) in all(state) {
                let is_good = token_matches(text, &kept.sha256) && !kept.has_ended(now_ms);
                let stands = kept.by.as_deref().is_none_or(|by| {
                    state.administrator(by).is_some()
                        && self.account(by).is_ok()
                        && state.account(by).is_some_and(|account| {
                            account.is_enabled() && account.created_at_ms() <= kept.created_ms
                        })
                });
                if is_good && stands {
                    found = Some(Bearer { id, by: kept.by });
                }
            }
            found
        })
    }
}

impl Kept {
    fn has_ended(&self, now_ms: u64) -> bool {
        self.expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms)
    }
}

fn all(state: &State) -> impl Iterator<Item = (String, Kept)> {
    state.settings().filter_map(|(name, value)| {
        let id = name.strip_prefix(PREFIX)?.to_owned();
        Some((id, serde_json::from_slice(value).ok()?))
    })
}
