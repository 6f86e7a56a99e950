//! The certificate.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::perform;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::routes::Asked;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// Chain and private key, all in PEM.
    pem: Zeroizing<String>,
}

/// `GET certificate`.
pub(in crate::http) async fn show(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["cert", "show"], "").await
}

/// `PUT certificate`.
pub(in crate::http) async fn set(asked: Asked) -> Result<Answer, Answer> {
    let new: New = body::json(asked.request).await?;
    perform(&asked.site, &["cert", "set"], &new.pem).await
}
