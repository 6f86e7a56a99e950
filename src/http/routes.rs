//! The router: method and path to what answers them.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::ORIGIN;
use hyper::{Method, Request, StatusCode};

use super::answer::{self, Answer};
use super::auth::{self, Actor};
use super::serve::Visitor;
use super::{Site, admin};

/// A request of somebody who may make it.
pub(super) struct Asked {
    pub(super) site: Arc<Site>,
    pub(super) actor: Actor,
    pub(super) request: Request<Incoming>,
}

/// Answers a request.
pub(super) async fn answer(
    site: &Arc<Site>,
    visitor: &Arc<Visitor>,
    request: Request<Incoming>,
) -> Answer {
    match answered(site, visitor, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn answered(
    site: &Arc<Site>,
    visitor: &Arc<Visitor>,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    // A browser that remembers a password would send it for any page.
    if request.headers().contains_key(ORIGIN) {
        let why = "this interface is not for pages in a browser";
        return Err(answer::error(StatusCode::FORBIDDEN, why));
    }
    let path = request.uri().path().to_owned();
    let segments = segments(&path).ok_or_else(nothing_here)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = match &segments[..] {
        ["admin", rest @ ..] => rest,
        ["claim"] if request.method() == Method::POST => {
            return admin::claim::claim(site, visitor, request).await;
        }
        ["restore"] if request.method() == Method::PUT => {
            return admin::backup::restore(site, visitor, request).await;
        }
        _ => return Err(nothing_here()),
    };
    let actor = auth::authenticate(site, visitor, request.headers()).await?;
    if request.method() == Method::GET {
        tracing::debug!(by = actor.name, path, "asked from outside");
    } else {
        let method = request.method().as_str();
        tracing::info!(by = actor.name, method, path, "administered from outside");
    }
    let asked = Asked {
        site: Arc::clone(site),
        actor,
        request,
    };
    route(rest, asked).await
}

/// The table.
async fn route(rest: &[&str], asked: Asked) -> Result<Answer, Answer> {
    match (asked.request.method().as_str(), rest) {
        ("GET", ["users"]) => Ok(admin::users::list(&asked)),
        ("POST", ["users"]) => admin::users::add(asked).await,
        ("DELETE", ["users", jid]) => admin::users::remove(&asked, jid).await,
        ("PUT", ["users", jid, "password"]) => admin::users::password(asked, jid).await,
        ("PUT", ["users", jid, "administrator"]) => admin::users::administrator(asked, jid).await,
        ("DELETE", ["users", jid, "administrator"]) => admin::users::ordinary(&asked, jid).await,
        ("GET", ["administrators"]) => admin::users::administrators(&asked).await,
        ("GET", ["tokens"]) => admin::tokens::list(&asked).await,
        ("POST", ["tokens"]) => admin::tokens::new(asked).await,
        ("DELETE", ["tokens", id]) => admin::tokens::revoke(&asked, id).await,
        ("GET", ["store"]) => admin::store::stat(&asked).await,
        ("POST", ["store", "verification"]) => admin::store::verify(&asked).await,
        ("GET", ["configuration"]) => admin::configuration::show(&asked).await,
        ("PUT", ["configuration"]) => admin::configuration::set(asked).await,
        ("GET", ["certificate"]) => admin::certificate::show(&asked).await,
        ("PUT", ["certificate"]) => admin::certificate::set(asked).await,
        ("POST", ["doctor"]) => admin::doctor::look(&asked).await,
        ("GET", ["backup"]) => admin::backup::take(&asked),
        ("GET", ["log"]) => admin::log::tail(&asked).await,
        ("GET", ["machine"]) => admin::machine::status(&asked),
        ("POST", ["machine", "reboot"]) => admin::machine::reboot(&asked).await,
        ("POST", ["machine", "rollback"]) => admin::machine::rollback(&asked).await,
        ("PUT", ["machine", "system"]) => admin::machine::upgrade(asked).await,
        (_, rest) if is_known(rest) => Err(answer::error(
            StatusCode::METHOD_NOT_ALLOWED,
            "this is not done with this method",
        )),
        _ => Err(nothing_here()),
    }
}

/// Whether another method would be right.
fn is_known(rest: &[&str]) -> bool {
    matches!(
        rest,
        ["users"
            | "administrators"
            | "tokens"
            | "store"
            | "configuration"
            | "certificate"
            | "doctor"
            | "log"
            | "machine"
            | "backup"]
            | ["machine", "reboot" | "rollback" | "system"]
            | ["users" | "tokens", _]
            | ["users", _, "password" | "administrator"]
            | ["store", "verification"]
    )
}

fn nothing_here() -> Answer {
    answer::error(
        StatusCode::NOT_FOUND,
        "there is nothing here: the server may be of another version than this command",
    )
}

/// The decoded parts of a path; `None` where one is no text.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decoded).collect()
}

/// RFC 3986 §2.1.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push(u8::try_from(digit(0)? << 4 | digit(1)?).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// The value of a parameter of the query.
pub(super) fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    parameter_of(request.uri().query()?, name)
}

fn parameter_of(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decoded(value)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        assert_eq!(
            segments("/admin/users/a%40b.example/x").as_deref(),
            Some(&["admin", "users", "a@b.example", "x"].map(str::to_owned)[..])
        );
        assert_eq!(segments("/a%2Fb").as_deref(), Some(&["a/b".to_owned()][..]));
        for wrong in ["", "a", "/%", "/%4", "/%zz", "/%ff"] {
            assert_eq!(segments(wrong), None, "{wrong}");
        }
        assert_eq!(parameter_of("a=1&b=%C3%A9", "b").as_deref(), Some("é"));
        assert_eq!(parameter_of("a=1&b", "b").as_deref(), Some(""));
        assert_eq!(parameter_of("a=1", "b"), None);
    }
}
