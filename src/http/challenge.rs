//! The one thing that is answered over plain HTTP: challenges of an authority (RFC 8555 §8.3).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use crate::net::listen::Arrival;
use crate::service::acme::Challenges;

/// Bytes of a head, and of what hyper keeps for writing. It takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Fields of a head.
const FIELDS_MAX: usize = 32;

/// How long a connection lasts at most, for its one request.
const WITHIN: Duration = Duration::from_secs(10);

/// Where challenges are looked for (RFC 8555 §8.3).
const PLACE: &str = "/.well-known/acme-challenge/";

/// Serves a connection: one request, whose body is not read.
pub async fn serve(challenges: Arc<Challenges>, arrival: Arrival) {
    let Arrival { tcp, peer, slot } = arrival;
    let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let token = match *request.method() {
            Method::GET | Method::HEAD => request.uri().path().strip_prefix(PLACE),
            _ => None,
        };
        let found = token.and_then(|token| challenges.answer(token));
        async move { Ok::<_, Infallible>(response(found)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .keep_alive(false)
        .auto_date_header(false);
    let connection = pin!(http.serve_connection(TokioIo::new(tcp), answer));
    match timeout(WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "the connection ended"),
        Err(_) => tracing::debug!(%peer, "a plain HTTP request took too long"),
    }
    drop(slot);
}

fn response(found: Option<String>) -> Response<Full<Bytes>> {
    let status = match found {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Full::new(Bytes::from(found.unwrap_or_default())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    response
}
