//! The first administrator.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::perform;
use crate::http::Site;
use crate::http::answer::{self, Answer};
use crate::http::auth::throttled;
use crate::http::body;
use crate::http::serve::Visitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    code: Zeroizing<String>,
    jid: String,
    password: Zeroizing<String>,
}

/// `POST /claim`, by somebody who has the one-time code and nothing else.
pub(in crate::http) async fn claim(
    site: &Arc<Site>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    require_unclaimed(site)?;
    let claim: Claim = body::json(request).await?;
    check_code(site, visitor, &claim.code)?;
    perform(site, &["claim", &claim.jid], &claim.password).await
}

/// Lets in whoever has the code, while nobody has claimed the server.
pub(super) fn check_code(site: &Site, visitor: &Visitor, code: &str) -> Result<(), Answer> {
    require_unclaimed(site)?;
    // Nobody guesses the code, so only the address waits that tries to.
    let throttle = &site.front.names;
    let now_ms = (site.front.core.ticks)();
    let tried = throttle.may_try(visitor.peer.ip(), "", now_ms);
    let tried = tried.ok_or_else(|| throttled(site))?;
    if !site.operator.is_claim_code(code) {
        tracing::warn!("somebody tried to claim the server with a wrong code");
        let why = "this is not the code";
        return Err(answer::error(StatusCode::FORBIDDEN, why));
    }
    throttle.succeeded(tried, now_ms);
    visitor.authenticated();
    Ok(())
}

fn require_unclaimed(site: &Site) -> Result<(), Answer> {
    match site.operator.is_unclaimed() {
        true => Ok(()),
        false => {
            let why = "this server cannot be claimed: it has an administrator, or no code";
            Err(answer::error(StatusCode::CONFLICT, why))
        }
    }
}
