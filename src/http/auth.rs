//! Who asks: an administrator with a password, or whoever holds a token.

use std::sync::{Arc, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

use super::Site;
use super::answer::{self, Answer};
use super::serve::Visitor;
use crate::crypto::{Hash, constant_time_eq};
use crate::service::operator::LogIn;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    /// For the log: an address, or a token's id.
    pub(super) name: String,
    /// The administrator.
    pub(super) jid: Option<String>,
}

/// What a connection has proved with a password, so that its next request needs no hash again.
pub(super) struct Known {
    field: [u8; 32],
    log_in: LogIn,
}

const LOG_IN: &str = "log in as an administrator, or with a token of `cairn token new`";

/// Finds out who asks, from the head alone.
pub(super) async fn authenticate(
    site: &Arc<Site>,
    visitor: &Visitor,
    head: &HeaderMap,
) -> Result<Actor, Answer> {
    let field = head.get(AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, rest)) = field.and_then(split) else {
        return Err(answer::unauthorized(LOG_IN));
    };
    let actor = match scheme.to_ascii_lowercase().as_slice() {
        b"bearer" => bearer(site, visitor, rest)?,
        b"basic" => basic(site, visitor, rest).await?,
        _ => return Err(answer::unauthorized(LOG_IN)),
    };
    visitor.authenticated();
    Ok(actor)
}

fn split(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = field.iter().position(|byte| *byte == b' ')?;
    Some((&field[..at], field[at..].trim_ascii()))
}

/// Nobody guesses a token, so only the address waits that tries to.
fn bearer(site: &Site, visitor: &Visitor, token: &[u8]) -> Result<Actor, Answer> {
    let now_ms = (site.front.core.ticks)();
    let tried = site.front.names.may_try(visitor.peer.ip(), "", now_ms);
    let tried = tried.ok_or_else(|| throttled(site))?;
    let found = std::str::from_utf8(token)
        .ok()
        .and_then(|token| site.operator.bearer(token));
    let Some(bearer) = found else {
        tracing::info!("a token was refused");
        return Err(answer::unauthorized(
            "this token is worth nothing: it was revoked, has ended, or is mistyped",
        ));
    };
    site.front.names.succeeded(tried, now_ms);
    Ok(Actor {
        name: format!("token {}", bearer.id),
        jid: bearer.by,
    })
}

async fn basic(site: &Arc<Site>, visitor: &Visitor, encoded: &[u8]) -> Result<Actor, Answer> {
    let digest = digest(encoded);
    if let Some(actor) = known(site, visitor, &digest) {
        return Ok(actor);
    }
    let wrong = || answer::unauthorized("the address or the password is wrong");
    let front = &site.front;
    let ticks_ms = || (front.core.ticks)();
    let log_in =
        credentials(encoded).and_then(|(name, password)| site.operator.log_in(&name, &password));
    let Some(log_in) = log_in else {
        // Counted for the address too, whatever was meant.
        let tried = front.throttle.may_try(visitor.peer.ip(), "", ticks_ms());
        return Err(tried.map_or_else(|| throttled(site), |_| wrong()));
    };
    let account = log_in.jid.as_str().to_owned();
    let tried = front
        .throttle
        .may_try(visitor.peer.ip(), &account, ticks_ms())
        .ok_or_else(|| throttled(site))?;
    let operator = Arc::clone(&site.operator);
    let checked = front
        .passwords
        .work(move || operator.is_administrator(&log_in).then_some(log_in));
    let Some(log_in) = checked.await.flatten() else {
        tracing::info!(account, "a log-in to the admin interface failed");
        return Err(wrong());
    };
    front.throttle.succeeded(tried, ticks_ms());
    tracing::info!(account, "an administrator logged in");
    let mut known = visitor.known.lock().unwrap_or_else(PoisonError::into_inner);
    *known = Some(Known {
        field: digest,
        log_in,
    });
    Ok(Actor {
        name: account.clone(),
        jid: Some(account),
    })
}

fn known(site: &Site, visitor: &Visitor, digest: &[u8; 32]) -> Option<Actor> {
    let known = visitor.known.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.as_ref()?;
    let is_same = constant_time_eq(&known.field, digest) && site.operator.is_still(&known.log_in);
    let jid = known.log_in.jid.as_str();
    is_same.then(|| Actor {
        name: jid.to_owned(),
        jid: Some(jid.to_owned()),
    })
}

/// RFC 7617 §2: name and password, with a colon between them.
fn credentials(encoded: &[u8]) -> Option<(String, Zeroizing<String>)> {
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((name.to_owned(), Zeroizing::new(password.to_owned())))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(Hash::Sha256.digest(bytes).as_bytes());
    digest
}

pub(super) fn throttled(site: &Site) -> Answer {
    answer::throttled(site.front.core.config.limits.failed_login_forgiven_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_told_apart_at_the_first_colon() {
        let (name, password) = credentials(b"YUBiOmM6ZA==").expect("base64");
        assert_eq!((&*name, &**password), ("a@b", "c:d"));
        for wrong in [&b"YUBi"[..], b"?", b"", b"/w==", b"YTpi YTpi"] {
            assert!(credentials(wrong).is_none(), "{wrong:?}");
        }
        assert_eq!(split(b"Basic  abc "), Some((&b"Basic"[..], &b"abc"[..])));
        assert_eq!(split(b"Basic"), None);
    }
}
