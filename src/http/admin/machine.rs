//! The machine around the server.

use hyper::StatusCode;
use hyper::header::CONTENT_LENGTH;
use serde_json::json;

use super::{perform, perform_streaming};
use crate::http::answer::{self, Answer};
use crate::http::routes::Asked;

/// No bundle is bigger than a slot.
const BUNDLE_BYTES_MAX: u64 = 256 << 20;

/// `GET machine`.
pub(in crate::http) fn status(asked: &Asked) -> Result<Answer, Answer> {
    match asked.site.operator.machine_status() {
        Ok(status) => Ok(answer::ok(&json!(status))),
        Err(refused) => Err(answer::refused(&refused, b"")),
    }
}

/// `POST machine/reboot`.
pub(in crate::http) async fn reboot(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["reboot"], "").await
}

/// `POST machine/rollback`.
pub(in crate::http) async fn rollback(asked: &Asked) -> Result<Answer, Answer> {
    perform(&asked.site, &["rollback"], "").await
}

/// `PUT machine/system`: a bundle, handed on as it arrives.
pub(in crate::http) async fn upgrade(asked: Asked) -> Result<Answer, Answer> {
    // Before the client sends megabytes for nothing.
    status(&asked)?;
    let length = asked.request.headers().get(CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let length = length.ok_or_else(|| {
        answer::error(
            StatusCode::LENGTH_REQUIRED,
            "an upgrade has to say its length",
        )
    })?;
    if length == 0 || length > BUNDLE_BYTES_MAX {
        return Err(answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "no upgrade is empty, or bigger than a slot",
        ));
    }
    let words = ["upgrade", &length.to_string()];
    perform_streaming(&asked.site, &words, asked.request.into_body()).await
}
