//! The store.

use super::perform;
use crate::http::answer::Answer;
use crate::http::routes::Asked;

/// `GET store`.
pub(in crate::http) async fn stat(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["store", "stat"], "").await
}

/// `POST store/verification`: reads everything, which may take minutes.
pub(in crate::http) async fn verify(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["store", "verify"], "").await
}
