//! The certificate.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::perform;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::routes::{Asked, parameter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// Chain and private key, all in PEM.
    pem: Zeroizing<String>,
    /// The domain that it is of; the first one where it is not said.
    host: Option<String>,
}

/// `GET certificate`, with `host` for another domain than the first.
pub(in crate::http) async fn show(asked: &Asked) -> Result<Answer, Answer> {
    let host = parameter(&asked.request, "host");
    let words: Vec<&str> = ["cert", "show"]
        .into_iter()
        .chain(host.as_deref())
        .collect();
    perform(&asked.site, &words, "").await
}

/// `PUT certificate`.
pub(in crate::http) async fn set(asked: Asked) -> Result<Answer, Answer> {
    let new: New = body::json(asked.request).await?;
    let words = ["cert", "set"].into_iter().chain(new.host.as_deref());
    perform(&asked.site, &words.collect::<Vec<_>>(), &new.pem).await
}
