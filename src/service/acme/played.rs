//! An authority that is played, for tests on a clock of their own: it does what RFC 8555 asks for,
//! and what else a test wants of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use instant_acme::BodyWrapper;
use rcgen::{
    CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::challenges::Challenges;
use super::client::{Answer, Reach};

/// Where it is.
pub(super) const AT: &str = "https://authority.example";

/// How long its certificates last.
pub(super) const LIFE_DAYS: u64 = 90;

/// An authority.
pub(super) struct Played {
    state: Mutex<State>,
    clock: fn() -> u64,
    /// Where it looks.
    challenges: Arc<Challenges>,
}

/// What it knows, and what is wanted of it.
#[derive(Default)]
pub(super) struct State {
    /// When it was asked for what.
    pub(super) asked: Vec<(u64, String)>,
    /// The contacts of each account, and whether it is deactivated.
    pub(super) accounts: Vec<(Value, bool)>,
    pub(super) orders: Vec<Order>,
    /// It does not answer.
    pub(super) is_down: bool,
    /// The next request for such a thing is refused with this problem.
    pub(super) refusals: VecDeque<(&'static str, &'static str)>,
    /// Before it answers a request for such a thing, this is done.
    pub(super) before: Option<(&'static str, Box<dyn FnMut() + Send>)>,
    /// So often it is asked about an order before it has looked.
    pub(super) looks_after: u32,
}

/// One of its orders.
pub(super) struct Order {
    pub(super) names: Vec<String>,
    status: &'static str,
    challenge: &'static str,
    chain: String,
}

/// A status and a body, or a problem.
type Told = Result<(u16, Value), (u16, &'static str)>;

/// The public key of a request, as it stands there.
struct Key(Vec<u8>);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Played {
    pub(super) fn new(clock: fn() -> u64, challenges: &Arc<Challenges>) -> Arc<Played> {
        Arc::new(Played {
            state: Mutex::default(),
            clock,
            challenges: Arc::clone(challenges),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// How often it was asked for such a thing.
    pub(super) fn count(&self, what: &str) -> usize {
        let state = self.state();
        state
            .asked
            .iter()
            .filter(|(_, asked)| asked == what)
            .count()
    }

    fn tell(&self, what: &str, number: usize, body: &Value) -> Told {
        let mut state = self.state();
        state.asked.push(((self.clock)(), what.to_owned()));
        if what == "order" {
            self.look(&mut state, number);
        }
        if state.refusals.front().is_some_and(|(of, _)| *of == what) {
            let (_, problem) = state.refusals.pop_front().expect("it is there");
            return Err((400, problem));
        }
        let account = account_of(body);
        if account.is_some_and(|account| state.accounts[account - 1].1) {
            return Err((401, "unauthorized"));
        }
        let payload = payload_of(body);
        match what {
            "directory" => Ok((200, directory())),
            "account" => {
                state.accounts[number - 1].0 = payload["contact"].clone();
                Ok((200, json!({ "status": "valid" })))
            }
            "new-account" => {
                state.accounts.push((payload["contact"].clone(), false));
                Ok((201, json!({ "status": "valid" })))
            }
            "new-order" => {
                let names = payload["identifiers"].as_array().expect("names").iter();
                let names = names.map(|name| name["value"].as_str().expect("a name").to_owned());
                state.orders.push(Order {
                    names: names.collect(),
                    status: "pending",
                    challenge: "pending",
                    chain: String::new(),
                });
                Ok((201, state.order(state.orders.len())))
            }
            "order" => Ok((200, state.order(number))),
            "authz" => Ok((200, state.authorization(number))),
            "chall" => state.told_that_it_is_ready(number),
            "finalize" => state.finalize(number, &payload, (self.clock)()),
            _ => Err((404, "malformed")),
        }
    }

    /// It looks for what proves an order's names once it is told that it is there.
    fn look(&self, state: &mut State, number: usize) {
        if state.orders[number - 1].challenge != "processing" {
            return;
        }
        if state.looks_after > 0 {
            state.looks_after -= 1;
            return;
        }
        let order = &mut state.orders[number - 1];
        let places = 0..order.names.len();
        let mut tokens = places.map(|place| token(number, place));
        let is_proved = tokens.all(|token| self.challenges.answer(&token).is_some());
        (order.challenge, order.status) = match is_proved {
            true => ("valid", "ready"),
            false => ("invalid", "invalid"),
        };
    }

    fn before(&self, what: &str) {
        let taken = self.state().before.take();
        let Some((of, mut act)) = taken else { return };
        if of == what {
            act();
        } else {
            self.state().before = Some((of, act));
        }
    }
}

impl State {
    fn order(&self, number: usize) -> Value {
        let order = &self.orders[number - 1];
        let places = 0..order.names.len();
        let names = order.names.iter();
        json!({
            "status": order.status,
            "identifiers": names.map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": places.map(|place| format!("{AT}/authz/{number}/{place}")).collect::<Vec<_>>(),
            "finalize": format!("{AT}/finalize/{number}"),
            "certificate": format!("{AT}/cert/{number}"),
        })
    }

    /// `number` is that of the order and the place of the name in it.
    fn authorization(&self, number: usize) -> Value {
        let (number, place) = apart(number);
        let order = &self.orders[number - 1];
        let status = match order.challenge {
            "processing" => "pending",
            other => other,
        };
        json!({
            "status": status,
            "identifier": { "type": "dns", "value": order.names[place] },
            "challenges": [{
                "type": "http-01",
                "url": format!("{AT}/chall/{number}/{place}"),
                "token": token(number, place),
                "status": order.challenge,
            }],
        })
    }

    fn told_that_it_is_ready(&mut self, number: usize) -> Told {
        let (number, place) = apart(number);
        let order = &mut self.orders[number - 1];
        let is_last = place + 1 == order.names.len();
        if order.challenge != "pending" {
            return Err((400, "malformed"));
        }
        if is_last {
            order.challenge = "processing";
        }
        let challenge = json!({
            "type": "http-01",
            "url": format!("{AT}/chall/{number}/{place}"),
            "token": token(number, place),
            "status": "processing",
        });
        Ok((200, challenge))
    }

    fn finalize(&mut self, number: usize, payload: &Value, now_ms: u64) -> Told {
        let csr = payload["csr"].as_str().expect("a request");
        let csr = BASE64_URL_SAFE_NO_PAD.decode(csr).expect("base64url");
        let (_, csr) = X509CertificationRequest::from_der(&csr).expect("PKCS#10");
        let info = &csr.certification_request_info;
        let key = Key(info.subject_pki.subject_public_key.data.to_vec());
        let order = &mut self.orders[number - 1];
        if order.status != "ready" {
            return Err((403, "orderNotReady"));
        }
        let mut issuer = CertificateParams::default();
        issuer.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let issuer = Issuer::new(issuer, KeyPair::generate().expect("ring makes keys"));
        let mut params = CertificateParams::new(order.names.clone()).expect("names");
        let at = |ms: u64| {
            let seconds = i64::try_from(ms / 1_000).expect("it is not so late");
            rcgen::date_time_ymd(1970, 1, 1)
                + std::time::Duration::from_secs(seconds.unsigned_abs())
        };
        params.not_before = at(now_ms);
        params.not_after = at(now_ms + LIFE_DAYS * 86_400_000);
        let signed = params.signed_by(&key, &issuer).expect("it signs");
        (order.status, order.chain) = ("valid", signed.pem());
        Ok((200, self.order(number)))
    }
}

impl Reach for Played {
    fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Answer<'_> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut parts = path.split('/').skip(1);
            let what = parts.next().expect("a path");
            let numbers: Vec<usize> = parts.filter_map(|part| part.parse().ok()).collect();
            let number = match numbers[..] {
                [number, place] => number * 1_000 + place,
                [number] => number,
                _ => 0,
            };
            self.before(what);
            if self.state().is_down {
                self.state().asked.push(((self.clock)(), what.to_owned()));
                return Err("authority.example port 443 cannot be reached".to_owned());
            }
            let told = match what {
                "nonce" => Ok((200, String::new())),
                "cert" => self.certificate(number),
                what => self
                    .tell(what, number, &body)
                    .map(|(status, json)| (status, json.to_string())),
            };
            let (status, text) = told.unwrap_or_else(|(status, kind)| {
                let kind = format!("urn:ietf:params:acme:error:{kind}");
                (
                    status,
                    json!({ "type": kind, "detail": "so it is" }).to_string(),
                )
            });
            let state = self.state();
            let location = match what {
                "new-account" => format!("{AT}/account/{}", state.accounts.len()),
                _ => format!("{AT}/order/{}", state.orders.len()),
            };
            let response = Response::builder()
                .status(status)
                .header("replay-nonce", "abc")
                .header("location", location)
                .body(Full::new(Bytes::from(text)));
            Ok(response.expect("it is well-formed"))
        })
    }
}

impl Played {
    fn certificate(&self, number: usize) -> Result<(u16, String), (u16, &'static str)> {
        let mut state = self.state();
        state.asked.push(((self.clock)(), "cert".to_owned()));
        if state.refusals.front().is_some_and(|(of, _)| *of == "cert") {
            let (_, problem) = state.refusals.pop_front().expect("it is there");
            return match problem {
                "" => Ok((200, "nothing of use".to_owned())),
                problem => Err((400, problem)),
            };
        }
        Ok((200, state.orders[number - 1].chain.clone()))
    }
}

fn directory() -> Value {
    json!({
        "newNonce": format!("{AT}/nonce"),
        "newAccount": format!("{AT}/new-account"),
        "newOrder": format!("{AT}/new-order"),
    })
}

fn apart(number: usize) -> (usize, usize) {
    (number / 1_000, number % 1_000)
}

fn token(number: usize, place: usize) -> String {
    format!("token-{number}-{place}")
}

/// What was signed.
fn payload_of(body: &Value) -> Value {
    let text = body["payload"].as_str().unwrap_or_default();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url");
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Who signed it.
fn account_of(body: &Value) -> Option<usize> {
    let head = BASE64_URL_SAFE_NO_PAD.decode(body["protected"].as_str()?);
    let head: Value = serde_json::from_slice(&head.ok()?).ok()?;
    head["kid"].as_str()?.rsplit('/').next()?.parse().ok()
}
