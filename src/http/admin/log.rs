//! The log.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::busy;
use crate::http::answer::{self, Answer};
use crate::http::routes::{Asked, parameter};

/// How long a request waits for the next line at most.
const WAIT_S_MAX: u64 = 20;

/// `GET log?after=N&wait=S`: the lines behind number N, waiting for the next where there are none.
pub(in crate::http) async fn tail(asked: &Asked) -> Result<Answer, Answer> {
    let number = |name: &str| {
        let text = parameter(&asked.request, name).unwrap_or_default();
        text.parse::<u64>().unwrap_or(0)
    };
    let patience = Duration::from_secs(number("wait").min(WAIT_S_MAX));
    let after = number("after");
    // A thread waits, so there are not many.
    let Ok(place) = asked.site.waiting.clone().try_acquire_owned() else {
        return Err(busy());
    };
    let operator = Arc::clone(&asked.site.operator);
    let waited = tokio::task::spawn_blocking(move || {
        let _place = place;
        operator.log_behind(after, patience)
    });
    match waited.await {
        Ok(Ok(tail)) => Ok(answer::ok(
            &json!({ "lines": tail.lines, "last": tail.last }),
        )),
        Ok(Err(refused)) => Err(answer::refused(&refused, b"")),
        Err(_) => Err(answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the log cannot be read",
        )),
    }
}
