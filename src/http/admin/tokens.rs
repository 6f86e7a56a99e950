//! Tokens.

use serde::Deserialize;

use super::perform;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::routes::Asked;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    /// 0: for ever.
    days: u32,
}

/// `GET tokens`.
pub(in crate::http) async fn list(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["token", "list"], "").await
}

/// `POST tokens`: the answer's text is the token, never shown again.
pub(in crate::http) async fn new(asked: Asked) -> Result<Answer, Answer> {
    let new: New = body::json(asked.request).await?;
    let days = new.days.to_string();
    let mut words = vec!["token", "new", &new.name, &days];
    words.extend(asked.actor.jid.as_deref());
    perform(&asked.site, &words, "").await
}

/// `DELETE tokens/ID`.
pub(in crate::http) async fn revoke(asked: &Asked, id: &str) -> Result<Answer, Answer> {
    perform(&asked.site, &["token", "revoke", id], "").await
}
