//! Answers: JSON, with the fields that keep browsers from making anything of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::service::operator::{Refused, Why};

/// An answer.
pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// 200 with this.
pub(super) fn ok(value: &Value) -> Answer {
    with(StatusCode::OK, value)
}

/// What a command has said.
pub(super) fn said(text: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(text);
    ok(&json!({ "text": text.trim_end_matches('\n') }))
}

/// Not done, and why.
pub(super) fn error(status: StatusCode, sentence: &str) -> Answer {
    with(status, &json!({ "error": sentence }))
}

/// A command was not done; what it has said before is told too.
pub(super) fn refused(refused: &Refused, text: &[u8]) -> Answer {
    let status = match refused.why {
        Why::Invalid => StatusCode::BAD_REQUEST,
        Why::Missing => StatusCode::NOT_FOUND,
        Why::Conflict => StatusCode::CONFLICT,
        Why::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = String::from_utf8_lossy(text);
    let mut value = json!({ "error": refused.sentence });
    if !text.is_empty() {
        value["text"] = json!(text.trim_end_matches('\n'));
    }
    with(status, &value)
}

/// Nobody is logged in (RFC 9110 §15.5.2).
pub(super) fn unauthorized(sentence: &str) -> Answer {
    let mut answer = error(StatusCode::UNAUTHORIZED, sentence);
    answer.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"cairn\", charset=\"UTF-8\""),
    );
    answer
}

/// Too many tries.
pub(super) fn throttled(after_s: u32) -> Answer {
    let mut answer = error(
        StatusCode::TOO_MANY_REQUESTS,
        "too many failed log-ins: try again later",
    );
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(after_s));
    answer
}

/// Bytes as they come.
pub(super) fn stream(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Answer {
    let mut answer = Response::new(Chunks(chunks).boxed());
    dress(&mut answer, "application/octet-stream");
    answer
}

fn with(status: StatusCode, value: &Value) -> Answer {
    let text = Bytes::from(value.to_string());
    let body = Full::new(text).map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    dress(&mut answer, "application/json");
    answer
}

fn dress(answer: &mut Answer, content_type: &'static str) {
    for (name, value) in [
        ("content-type", content_type),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

/// A body out of a bounded channel. An error in it breaks the answer off, which the client sees.
struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = self.0.poll_recv(cx);
        chunk.map(|chunk| chunk.map(|bytes| bytes.map(Frame::data)))
    }
}
