//! Requests to the authority: one connection each, with bounds on time and bytes.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::dns::{Nowhere, Resolver};
use crate::net::tls::{Authorities, connect_web};

/// Bytes of an answer: a long chain of certificates has some ten thousand.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(60);

/// How long one address may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What comes of a request; the error is a sentence for the operator.
pub(super) type Answer<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, String>> + Send + 'a>>;

/// How requests reach the authority.
pub(super) trait Reach: Send + Sync {
    /// Sends one and waits for what comes back.
    fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Answer<'_>;
}

/// The way through the network.
struct Network {
    resolver: Arc<Resolver>,
    authorities: Arc<Authorities>,
}

/// Asks the authority, and notes what the library does not tell.
#[derive(Clone)]
pub(super) struct Client {
    reach: Arc<dyn Reach>,
    seen: Arc<Seen>,
}

/// What the library does not tell of the answers.
#[derive(Default)]
pub(super) struct Seen {
    /// How long the authority wants to be left alone, in milliseconds, by its last refusal; 0:
    /// it has not said.
    retry_after_ms: AtomicU64,
    /// Why there was no answer, in plain words.
    failure: Mutex<Option<String>>,
}

impl Seen {
    /// Takes what was seen since the last time.
    pub(super) fn take_retry_after_ms(&self) -> Option<u64> {
        Some(self.retry_after_ms.swap(0, Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    pub(super) fn take_failure(&self) -> Option<String> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }
}

impl Client {
    pub(super) fn new(resolver: Arc<Resolver>, authorities: Arc<Authorities>) -> Client {
        Client::by(Arc::new(Network {
            resolver,
            authorities,
        }))
    }

    /// By another way than the network.
    pub(super) fn by(reach: Arc<dyn Reach>) -> Client {
        Client {
            reach,
            seen: Arc::default(),
        }
    }

    /// For one attempt: what others see meanwhile is not among what it has seen.
    pub(super) fn of_an_attempt(&self) -> Client {
        Client {
            seen: Arc::default(),
            ..self.clone()
        }
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    fn note(&self, answer: &Result<Response<Full<Bytes>>, String>) {
        match answer {
            Ok(response) => {
                let is_limit = matches!(
                    response.status(),
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                );
                let after = response.headers().get(RETRY_AFTER);
                if let Some(ms) = after.filter(|_| is_limit).and_then(retry_after_ms) {
                    self.seen.retry_after_ms.store(ms, Ordering::Relaxed);
                }
            }
            Err(why) => {
                let failure = self.seen.failure.lock();
                *failure.unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
            }
        }
    }
}

impl Network {
    async fn exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, String> {
        let uri = request.uri().clone();
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let host = host.ok_or_else(|| format!("{uri} is no URL with https"))?;
        let tcp = self.connect(host, uri.port_u16().unwrap_or(443)).await?;
        let tls = connect_web(tcp, host, &self.authorities).await;
        let tls = tls.map_err(|error| format!("no TLS session with {host}: {error}"))?;
        let broken = |error: &dyn StdError| format!("{host} does not answer: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| broken(&error))?;
        let authority = uri.authority().map(|it| it.as_str()).unwrap_or(host);
        let field = HeaderValue::from_str(authority).map_err(|error| broken(&error))?;
        request.headers_mut().insert(HOST, field);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|error| broken(&error))?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| broken(&*error))?.to_bytes();
            Ok(Response::from_parts(head, Full::new(body)))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => return answer,
            // Its failure is that of the exchange.
            _ = connection => {}
        }
        exchange.await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let addresses = self.resolver.addresses(host).await;
        let addresses = addresses.map_err(|nowhere| match nowhere {
            Nowhere::NotFound(why) | Nowhere::Unknown(why) => {
                format!("{host} cannot be found: {why}")
            }
        })?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(CONNECT_WITHIN, TcpStream::connect((address, port))).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(format!("{host} port {port} cannot be reached: {last}"))
    }
}

impl Reach for Network {
    fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Answer<'_> {
        Box::pin(self.exchange(request))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = timeout(WITHIN, client.reach.answer(request)).await;
            let answer = answer.unwrap_or_else(|_| Err("the authority does not answer".to_owned()));
            client.note(&answer);
            match answer {
                Ok(response) => Ok(response.into()),
                Err(why) => Err(Error::Other(why.into())),
            }
        })
    }
}

/// Seconds, or a date (RFC 9110 §10.2.3), in milliseconds from now.
fn retry_after_ms(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let after = date.duration_since(SystemTime::now()).ok()?;
    u64::try_from(after.as_millis()).ok()
}
