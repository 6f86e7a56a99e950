//! What other servers see of this one.

use hyper::StatusCode;

use super::run;
use crate::http::answer::{self, Answer};
use crate::http::routes::Asked;

/// `POST doctor`: a report, after half a minute at most.
pub(in crate::http) async fn look(asked: &Asked) -> Result<Answer, Answer> {
    let said = run(&asked.site, &["doctor"], "").await?;
    match serde_json::from_slice(&said) {
        Ok(report) => Ok(answer::ok(&report)),
        Err(_) => Err(answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the report cannot be read",
        )),
    }
}
