//! The configuration.

use serde::Deserialize;

use super::perform;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::routes::{Asked, parameter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    key: String,
    /// TOML, or a text as it is.
    value: String,
}

/// `GET configuration?key=KEY`: one value, or all.
pub(in crate::http) async fn show(asked: &Asked) -> Result<Answer, Answer> {
    let key = parameter(&asked.request, "key");
    let mut words = vec!["config", "get"];
    words.extend(key.as_deref());
    perform(&asked.site, &words, "").await
}

/// `PUT configuration`: one value.
pub(in crate::http) async fn set(asked: Asked) -> Result<Answer, Answer> {
    let change: Change = body::json(asked.request).await?;
    let words = ["config", "set", &change.key, &change.value];
    perform(&asked.site, &words, "").await
}
