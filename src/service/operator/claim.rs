//! The first administrator: whoever has the one-time code, while there is none.
//!
//! Only the code's SHA-256 is known to the server in the long run: the configuration gives it, or
//! the code was drawn at the start and shown where the machine shows things. A code that was used
//! is never good again, whatever becomes of the administrator.

use std::io::{Read, Write};

use super::{Operator, Refused, read_password, say};
use crate::addr::Jid;
use crate::crypto::constant_time_eq;
use crate::crypto::token::token_digest;
use crate::service::configuration::{self, Source};
use crate::store::{StoreError, Tx};
use crate::xep::account::{self, NewPassword};

/// The value that keeps the digests of codes that were used.
pub(super) const USED: &str = "claimed";

/// Letters and digits that nobody mistakes for another.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

const ALREADY: &str = "this server is claimed already: an administrator can make others";

/// A code for one claim from random bytes: 80 bits, in four groups of four.
#[must_use]
pub fn claim_code(random: [u8; 16]) -> String {
    let letters: Vec<u8> = random
        .iter()
        .map(|byte| ALPHABET[usize::from(byte % 32)])
        .collect();
    let groups = letters.chunks(4).map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join("-")
}

/// What the server keeps of a code.
#[must_use]
pub fn claim_digest(code: &str) -> [u8; 32] {
    token_digest(code)
}

impl Operator {
    /// Whether somebody with the code could become the first administrator.
    #[must_use]
    pub fn is_unclaimed(&self) -> bool {
        let Some(digest) = self.around.claim else {
            return false;
        };
        self.core.store.read(|state| {
            state.administrators().next().is_none() && !is_used(state.setting(USED), &digest)
        })
    }

    /// Whether this is the code. Whoever calls it limits how often.
    #[must_use]
    pub fn is_claim_code(&self, code: &str) -> bool {
        let Some(digest) = self.around.claim else {
            return false;
        };
        let typed = code.trim();
        // People type it in small letters too.
        let is_one = |code: &str| constant_time_eq(&claim_digest(code), &digest);
        is_one(typed) | is_one(&typed.to_ascii_uppercase())
    }

    /// Makes the first administrator. The code was checked before.
    pub(super) fn claim(
        &self,
        jid: &str,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let digest = self.around.claim.filter(|_| self.is_unclaimed());
        let digest = digest.ok_or_else(|| Refused::conflict(ALREADY))?;
        let jid = match self.around.is_unconfigured {
            false => self.account_of_first(jid)?,
            true => account_anywhere(jid)?,
        };
        account::check_name(&jid)
            .map_err(|refusal| Refused::invalid(format!("{jid} is not added: {refusal}")))?;
        let password = read_password(input, &jid)?;
        let new = NewPassword::of_administrator(&self.core, &jid, &password);
        self.update(&jid, |tx| {
            let used = tx.setting(USED).unwrap_or_default().to_vec();
            if tx.administrators().next().is_some() || is_used(Some(&used), &digest) {
                return Err(StoreError::Invalid(ALREADY));
            }
            if self.around.is_unconfigured {
                configuration::keep(tx, &Source::of_domain(jid.domain()))?;
            }
            new.create(tx, jid.as_str(), self.now_ms())?;
            use_up(tx, &used, &digest)
        })?;
        if let Some(machine) = &self.around.machine {
            machine.show_claim_code(None);
            if self.around.is_unconfigured {
                machine.reboot()?;
            }
        }
        tracing::info!(account = %jid, "the server was claimed");
        let mut said = format!("{jid} is added, as an administrator");
        if self.around.is_unconfigured {
            said.push_str("; the machine starts again and serves ");
            said.push_str(jid.domain());
        }
        Ok(say(output, &said)?)
    }

    /// An account of the domain that the machine is known by.
    fn account_of_first(&self, text: &str) -> Result<Jid, Refused> {
        let jid = self.account(text)?;
        let first = &self.core.config.domain;
        match jid.domain() == first {
            true => Ok(jid),
            false => Err(Refused::invalid(format!(
                "the first administrator is somebody of {first}, who can make others of {}",
                jid.domain()
            ))),
        }
    }
}

/// The account of a machine that has no domain yet.
fn account_anywhere(jid: &str) -> Result<Jid, Refused> {
    let parsed = Jid::parse(jid).map_err(|error| Refused::invalid(format!("{jid}: {error}")))?;
    match parsed.local().is_some() && parsed.resource().is_none() {
        true => Ok(parsed),
        false => Err(Refused::invalid(format!(
            "{jid} is no account: give one such as alice@chat.example"
        ))),
    }
}

/// A code is not good again, beside those that were used before.
pub(super) fn use_up(tx: &mut Tx<'_>, used: &[u8], digest: &[u8; 32]) -> Result<(), StoreError> {
    tx.put_setting(USED, &[used, digest].concat())
}

fn is_used(used: Option<&[u8]>, digest: &[u8; 32]) -> bool {
    let used = used.unwrap_or_default();
    used.chunks_exact(32).any(|one| one == digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_four_groups_of_plain_letters() {
        let code = claim_code([0, 31, 32, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(code, "A9A9-BCDE-FGHJ-KLMN");
    }
}
