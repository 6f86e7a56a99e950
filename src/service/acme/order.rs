//! One order, from the account to the chain (RFC 8555 §7.1): every step starts from the state that
//! the authority says, so an order that was broken off goes on where it was.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeStatus,
    ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::challenges::{Challenges, Shown};
use super::client::Client;
use super::plan::Failure;
use super::words::{self, Step};
use crate::net::certificate::{Life, Pem};
use crate::net::tls::{ShownProof, TlsAcceptor};

/// How long the authority may take to look, and later to sign.
const DECIDES_WITHIN: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// How often one attempt goes on after the authority has refused a nonce as often as the library
/// asks: each time it is asked with a new one (RFC 8555 §6.5).
const NONCES_MAX: u32 = 8;

/// How long one attempt may take in all.
const WITHIN: Duration = Duration::from_secs(600);

/// How a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By `[listen] http` (RFC 8555 §8.3).
    Http,
    /// By `[listen] https` (RFC 8737).
    Tls,
}

/// A proof that is shown until this is dropped: when the authority has decided.
struct Showing {
    /// The challenge's.
    token: String,
    _proof: Proof,
}

enum Proof {
    Http(#[expect(dead_code, reason = "it is held")] Shown),
    Tls(#[expect(dead_code, reason = "it is held")] ShownProof),
}

/// An order's URL and its key.
pub(super) type Begun = (String, Zeroizing<String>);

/// What an attempt needs.
pub(super) struct Attempt<'a> {
    pub(super) client: Client,
    pub(super) directory: &'a str,
    pub(super) contact: &'a str,
    /// In the spelling of the DNS.
    pub(super) names: &'a [String],
    pub(super) way: Way,
    pub(super) challenges: &'a Arc<Challenges>,
    pub(super) tls: &'a Arc<TlsAcceptor>,
    /// Held while an account is made.
    pub(super) account: &'a Mutex<()>,
    /// An order that was begun.
    pub(super) begun: Option<Begun>,
    /// The certificate that is to be replaced, where the authority wants to know (RFC 9773 §5).
    pub(super) replaces: Option<Life>,
    /// Keeps what must not be lost on the way.
    pub(super) memory: &'a dyn Memory,
}

/// Where an attempt keeps what must not be lost.
pub(super) trait Memory: Send + Sync {
    /// The account, if there is one already: the library's credentials as JSON.
    fn account(&self) -> Option<Zeroizing<Vec<u8>>>;

    /// The error is a sentence for the operator.
    fn keep(&self, what: Keep<'_>) -> Result<(), String>;

    /// Waits until what was kept is there after a crash too; returns whether it is.
    fn settle(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// What is kept while an attempt goes on.
pub(super) enum Keep<'a> {
    /// The account.
    Account(&'a [u8]),
    /// The authority does not know this account any more.
    NoAccount(&'a [u8]),
    /// The order's URL and its key.
    Order(&'a str, &'a str),
    /// The order gives no certificate although it should.
    DoubtfulOrder,
    /// There is no order any more.
    NoOrder,
}

/// What becomes of an order that has given no certificate this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Open,
    /// It should have given one: it goes on, but not for ever.
    Doubtful,
    /// It will never give one.
    Over,
}

impl Attempt<'_> {
    /// Obtains a certificate.
    pub(super) async fn run(&self) -> Result<Pem, Failure> {
        let mut begun = self.begun.clone();
        let mut shown = Vec::new();
        let obtained = async {
            let mut nonces = 0;
            loop {
                match self.obtain(&mut begun, &mut shown).await {
                    Err(failure) if failure.is_of_a_nonce && nonces < NONCES_MAX => nonces += 1,
                    outcome => return outcome,
                }
            }
        };
        match timeout(WITHIN, obtained).await {
            Ok(outcome) => outcome,
            Err(_) => Err(words::plain(
                "the authority takes too long: it is asked again later".to_owned(),
            )),
        }
    }

    async fn obtain(
        &self,
        begun: &mut Option<Begun>,
        shown: &mut Vec<Showing>,
    ) -> Result<Pem, Failure> {
        let account = self.account().await?;
        let (mut order, key) = self.order(&account, begun.as_ref()).await?;
        *begun = Some((order.url().to_owned(), key.clone()));
        match self.chain(&mut order, &key, shown).await {
            // The order is forgotten by whoever keeps the certificate, together with that: until
            // then it alone brings the certificate back.
            Ok(chain) => Ok(Pem { chain, key }),
            Err((failure, fate)) => {
                let kept = match fate {
                    Fate::Open => Ok(()),
                    Fate::Doubtful => self.memory.keep(Keep::DoubtfulOrder),
                    Fate::Over => self.memory.keep(Keep::NoOrder),
                };
                if let Err(error) = kept {
                    tracing::error!(error);
                }
                Err(failure)
            }
        }
    }

    pub(super) fn explain(&self, error: &Error, step: Step) -> Failure {
        words::explain(error, step, self.client.seen())
    }

    /// The order that was begun, else a new one (§7.4).
    async fn order(
        &self,
        account: &Account,
        begun: Option<&Begun>,
    ) -> Result<(Order, Zeroizing<String>), Failure> {
        if let Some((url, key)) = begun {
            match account.order(url.clone()).await {
                Ok(order) => return Ok((order, key.clone())),
                // Whether it knows the order is not said.
                Err(error) if fate(&error, OrderStatus::Pending) == Fate::Open => {
                    return Err(self.explain(&error, Step::Account));
                }
                Err(_) => {}
            }
        }
        let known = self.memory.account();
        let names: Vec<Identifier> = self.names.iter().cloned().map(Identifier::Dns).collect();
        let mut wanted = NewOrder::new(&names);
        if let Some(identifier) = self.replaces.as_ref().and_then(identifier) {
            wanted = wanted.replaces(identifier);
        }
        let order = match account.new_order(&wanted).await {
            Ok(order) => order,
            Err(error) => return Err(self.refused(&error, known.as_ref().map(|it| &it[..]))),
        };
        let key = Pem::new_key().map_err(words::plain)?;
        self.memory
            .keep(Keep::Order(order.url(), &key))
            .map_err(words::plain)?;
        Ok((order, key))
    }

    /// Takes an order to its certificate.
    async fn chain(
        &self,
        order: &mut Order,
        key: &str,
        shown: &mut Vec<Showing>,
    ) -> Result<String, (Failure, Fate)> {
        if order.state().status == OrderStatus::Pending {
            self.prove(order, shown).await?;
            self.decision(order).await?;
        }
        // It has decided.
        shown.clear();
        match order.state().status {
            OrderStatus::Ready => {
                let request = Pem::request(self.names, key);
                let request = request.map_err(|why| (words::plain(why), Fate::Open))?;
                // A certificate without its key would be worth nothing.
                if !self.memory.settle().await {
                    let why = "the disk does not answer: the order goes on later";
                    return Err((words::plain(why.to_owned()), Fate::Open));
                }
                if let Err(error) = order.finalize_csr(&request).await {
                    return Err(self.broken(order, &error));
                }
            }
            OrderStatus::Invalid => return Err((self.refusal(order).await, Fate::Over)),
            _ => {}
        }
        match order.poll_certificate(&DECIDES_WITHIN).await {
            Ok(chain) => Ok(chain),
            Err(error) => Err(self.broken(order, &error)),
        }
    }

    /// Waits until the authority has looked at what proves the names.
    async fn decision(&self, order: &mut Order) -> Result<(), (Failure, Fate)> {
        let error = match order.poll_ready(&DECIDES_WITHIN).await {
            Ok(OrderStatus::Invalid) => return Err((self.refusal(order).await, Fate::Over)),
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let (failure, fate) = self.broken(order, &error);
        if fate == Fate::Open {
            return Err((failure, fate));
        }
        let refusal = self.refusal_of_a_challenge(order).await;
        Err((refusal.unwrap_or(failure), fate))
    }

    fn broken(&self, order: &mut Order, error: &Error) -> (Failure, Fate) {
        let fate = fate(error, order.state().status);
        (self.explain(error, Step::Proof), fate)
    }

    /// Shows what proves each name, and says that it is there (§7.5.1).
    async fn prove(
        &self,
        order: &mut Order,
        shown: &mut Vec<Showing>,
    ) -> Result<(), (Failure, Fate)> {
        let theirs = |error: Error| {
            let fate = fate(&error, OrderStatus::Pending);
            (self.explain(&error, Step::Proof), fate)
        };
        let refused = |why: &str| (words::plain(why.to_owned()), Fate::Over);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(theirs)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let mut challenge = match self.way {
                Way::Http => authorization.challenge(ChallengeType::Http01),
                Way::Tls => authorization.challenge(ChallengeType::TlsAlpn01),
            }
            .ok_or_else(|| refused("the authority does not offer this way to prove a name"))?;
            if !shown.iter().any(|it| it.token == challenge.token) {
                let showing = self.show(&challenge).map_err(|why| refused(&why))?;
                shown.push(showing);
            }
            // Where it looks already, since an attempt before, it refuses to be told again.
            if challenge.status == ChallengeStatus::Pending {
                challenge.set_ready().await.map_err(theirs)?;
            }
        }
        Ok(())
    }

    fn show(&self, challenge: &ChallengeHandle<'_>) -> Result<Showing, String> {
        let proof = challenge.key_authorization();
        let proof = match self.way {
            Way::Http => self
                .challenges
                .show(&challenge.token, proof.as_str())
                .map(Proof::Http)
                .ok_or("the authority's token is none")?,
            Way::Tls => {
                let name = challenge.identifier().to_string();
                let pem = Pem::proof(&name, proof.digest().as_ref())?;
                Proof::Tls(self.tls.show_proof(&name, &pem)?)
            }
        };
        Ok(Showing {
            token: challenge.token.clone(),
            _proof: proof,
        })
    }

    /// Why an order came to nothing.
    async fn refusal(&self, order: &mut Order) -> Failure {
        if let Some(failure) = self.refusal_of_a_challenge(order).await {
            return failure;
        }
        match &order.state().error {
            Some(problem) => words::of_problem(problem, Step::Proof),
            None => words::plain("the authority refuses and does not say why".to_owned()),
        }
    }

    /// The authority notes with the challenge why it did not take it (§8).
    async fn refusal_of_a_challenge(&self, order: &mut Order) -> Option<Failure> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.ok()?;
            let state = authorization.refresh().await.ok()?;
            let mut challenges = state.challenges.iter();
            if let Some(problem) = challenges.find_map(|challenge| challenge.error.as_ref()) {
                return Some(words::of_problem(problem, Step::Proof));
            }
        }
        None
    }
}

/// What becomes of an order in this state after such an error.
fn fate(error: &Error, status: OrderStatus) -> Fate {
    let kind = match error {
        Error::Api(problem) => words::kind(problem),
        // The authority has not said a word about it.
        _ => return Fate::Open,
    };
    match (kind, status) {
        (_, OrderStatus::Invalid) => Fate::Over,
        // None of these is about the order (RFC 8555 §6.7).
        (words::BAD_NONCE | words::RATE_LIMITED | words::SERVER_INTERNAL, _) => Fate::Open,
        // It signs, or has signed.
        (_, OrderStatus::Processing | OrderStatus::Valid) => Fate::Doubtful,
        _ => Fate::Over,
    }
}

/// By which the authority knows a certificate (RFC 9773 §4.1).
pub(super) fn identifier(life: &Life) -> Option<CertificateIdentifier<'static>> {
    let (issuer_key, serial) = life.identifier.as_ref()?;
    Some(CertificateIdentifier {
        authority_key_identifier: BASE64_URL_SAFE_NO_PAD.encode(issuer_key).into(),
        serial: BASE64_URL_SAFE_NO_PAD.encode(serial).into(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyIdMethod, KeyPair, SerialNumber};

    use super::*;

    /// The example of RFC 9773 §4.1: a serial number whose first bit is set has a zero before it.
    #[test]
    fn a_certificate_is_known_by_its_issuers_key_and_its_number() {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut issuer = CertificateParams::default();
        let issuer_key = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0,
            0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
        ];
        issuer.key_identifier_method = KeyIdMethod::PreSpecified(issuer_key.to_vec());
        let issuer = Issuer::new(issuer, KeyPair::generate().expect("ring makes keys"));
        let mut params = CertificateParams::new(["chat.example".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(vec![0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).expect("the issuer signs");
        let pem = Pem {
            chain: certificate.pem(),
            key: Zeroizing::default(),
        };
        let life = pem.life().expect("it can be read");
        assert_eq!(life.names, ["chat.example"]);
        let identifier = identifier(&life).expect("it has both");
        assert_eq!(
            format!(
                "{}.{}",
                identifier.authority_key_identifier, identifier.serial
            ),
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
        );
    }
}
