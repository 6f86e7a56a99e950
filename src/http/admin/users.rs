//! Accounts.

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{perform, run};
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::routes::{Asked, parameter};

/// Accounts in one answer.
const PAGE: usize = 1_000;

/// A new account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    jid: String,
    password: Zeroizing<String>,
    #[serde(default)]
    admin: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPassword {
    password: Zeroizing<String>,
}

/// `GET users?after=JID`: a page of addresses, and whether there are more.
pub(in crate::http) fn list(asked: &Asked) -> Answer {
    let after = parameter(&asked.request, "after").unwrap_or_default();
    let users = asked.site.operator.accounts_behind(&after, PAGE);
    let more = users.len() == PAGE;
    answer::ok(&json!({ "users": users, "more": more }))
}

/// `GET administrators`.
pub(in crate::http) async fn administrators(asked: &Asked) -> Result<Answer, Answer> {
    let said = run(&asked.site, &["user", "list", "admin"], "").await?;
    let text = String::from_utf8_lossy(&said);
    let users: Vec<&str> = text.lines().collect();
    Ok(answer::ok(&json!({ "users": users, "more": false })))
}

/// `POST users`.
pub(in crate::http) async fn add(asked: Asked) -> Result<Answer, Answer> {
    let new: New = body::json(asked.request).await?;
    let mut words = vec!["user", "add", &new.jid];
    if new.admin {
        words.push("admin");
    }
    perform(&asked.site, &words, &new.password).await
}

/// `DELETE users/JID`.
pub(in crate::http) async fn remove(asked: &Asked, jid: &str) -> Result<Answer, Answer> {
    perform(&asked.site, &["user", "remove", jid], "").await
}

/// `PUT users/JID/password`.
pub(in crate::http) async fn password(asked: Asked, jid: &str) -> Result<Answer, Answer> {
    let with: WithPassword = body::json(asked.request).await?;
    perform(&asked.site, &["user", "passwd", jid], &with.password).await
}

/// `PUT users/JID/administrator`.
pub(in crate::http) async fn administrator(asked: Asked, jid: &str) -> Result<Answer, Answer> {
    let with: WithPassword = body::json(asked.request).await?;
    perform(&asked.site, &["user", "admin", jid], &with.password).await
}

/// `DELETE users/JID/administrator`.
pub(in crate::http) async fn ordinary(asked: &Asked, jid: &str) -> Result<Answer, Answer> {
    perform(&asked.site, &["user", "no-admin", jid], "").await
}
