//! SASL as RFC 6120 §6 profiles it, without the XML: names and base64 texts in, steps out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::config::C2sConfig;
use crate::addr::Jid;
use crate::crypto::plain::Plain;
use crate::crypto::scram::{ScramError, ScramServer, ScramServerFinal, downgrade_protection};
use crate::crypto::{
    BindingType, ChannelBindings, Credentials, Hash, Password, PasswordCheck, Scheme,
    fake_credentials,
};
use crate::stanza::{SaslCondition, SaslFailure};

/// A mechanism that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256-PLUS (RFC 7677).
    ScramSha256Plus,
    /// SCRAM-SHA-1-PLUS (RFC 5802).
    ScramSha1Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// PLAIN (RFC 4616), over TLS only.
    Plain,
}

impl Mechanism {
    /// All of them, strongest first: a bound channel keeps out whoever stands between,
    /// which a better hash does not.
    pub const ALL: [Mechanism; 5] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha1Plus,
        Mechanism::ScramSha256,
        Mechanism::ScramSha1,
        Mechanism::Plain,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::Plain => "PLAIN",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// The hash of a SCRAM mechanism.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Mechanism::ScramSha256Plus | Mechanism::ScramSha256 => Some(Hash::Sha256),
            Mechanism::ScramSha1Plus | Mechanism::ScramSha1 => Some(Hash::Sha1),
            Mechanism::Plain => None,
        }
    }

    /// Whether the mechanism binds the channel.
    pub const fn is_plus(self) -> bool {
        matches!(self, Mechanism::ScramSha256Plus | Mechanism::ScramSha1Plus)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a stream offers, and so accepts.
#[derive(Debug, Clone)]
pub struct Offer {
    mechanisms: Vec<Mechanism>,
    bindings: ChannelBindings,
}

impl Offer {
    /// What can be offered over a TLS session with these bindings, where passwords are kept by
    /// this scheme.
    pub fn new(config: &C2sConfig, scheme: Scheme, bindings: ChannelBindings) -> Offer {
        let works = |mechanism: &Mechanism| match (mechanism.hash(), scheme) {
            (None, _) => true,
            (Some(_), Scheme::Argon2id) => false,
            (Some(Hash::Sha1), Scheme::Scram { sha1: false, .. })
            | (Some(Hash::Sha256), Scheme::ScramSha1 { .. }) => false,
            (Some(_), Scheme::Scram { .. } | Scheme::ScramSha1 { .. }) => {
                !mechanism.is_plus() || !bindings.is_empty()
            }
        };
        let mut mechanisms = Mechanism::ALL.to_vec();
        mechanisms.retain(|mechanism| config.mechanisms.contains(mechanism) && works(mechanism));
        // Bindings without a mechanism that uses them are a sign of tampering (XEP-0440 §4).
        let binds = mechanisms.iter().any(|mechanism| mechanism.is_plus());
        Offer {
            mechanisms,
            bindings: if binds {
                bindings
            } else {
                ChannelBindings::default()
            },
        }
    }

    /// The mechanisms, strongest first.
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// The channel bindings.
    pub fn bindings(&self) -> &ChannelBindings {
        &self.bindings
    }

    fn hash(&self, hash: Hash) -> String {
        let mechanisms: Vec<_> = self
            .mechanisms
            .iter()
            .map(|mechanism| mechanism.name())
            .collect();
        let types: Vec<_> = self.bindings.types().map(BindingType::name).collect();
        downgrade_protection(hash, &mechanisms, (!types.is_empty()).then_some(&types))
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send a challenge with this text.
    Challenge(String),
    /// Find out about an account, then call [`Sasl::credentials`].
    LookUp {
        /// The bare address.
        account: Jid,
        /// The mechanism in use.
        mechanism: Mechanism,
    },
    /// Check a password, then call [`Sasl::verified`].
    Verify(PasswordCheck),
    /// Send success with this text.
    Success {
        /// Who has logged in.
        account: Jid,
        /// How.
        mechanism: Mechanism,
        /// The channel binding that was used.
        binding: Option<BindingType>,
        /// Additional data, in base64; empty for none.
        text: String,
    },
    /// Send failure; the client may try again.
    Failure {
        /// Whose log-in failed, if that was said.
        account: Option<Jid>,
        /// What the client is told.
        failure: SaslFailure,
        /// What it is not told.
        reason: &'static str,
    },
}

/// The authentication of one stream: any number of exchanges, one after the other.
#[derive(Debug)]
pub struct Sasl {
    offer: Offer,
    domain: Jid,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    /// A mechanism was chosen without an initial response.
    First(Mechanism),
    /// Waiting for the credentials.
    Scram {
        account: Jid,
        mechanism: Mechanism,
        server: Box<ScramServer>,
    },
    /// Waiting for the client's proof.
    Proof {
        account: Jid,
        mechanism: Mechanism,
        binding: Option<BindingType>,
        known: bool,
        server: Box<ScramServerFinal>,
    },
    /// Waiting for the credentials.
    Plain {
        account: Jid,
        password: Password,
    },
    /// Waiting for the check.
    Check {
        account: Jid,
        known: bool,
    },
}

impl Sasl {
    /// Ready for the first exchange on a stream of this domain.
    pub fn new(offer: Offer, domain: Jid) -> Sasl {
        Sasl {
            offer,
            domain,
            state: State::Idle,
        }
    }

    /// What is on offer.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// `<auth/>` with its `mechanism` and text.
    pub fn auth(&mut self, mechanism: Option<&str>, text: &str) -> Step {
        if !matches!(self.state, State::Idle) {
            return self.fail(SaslCondition::MalformedRequest, "an exchange is under way");
        }
        let Some(name) = mechanism else {
            return self.fail(SaslCondition::MalformedRequest, "no mechanism named");
        };
        let offered = |mechanism: &Mechanism| self.offer.mechanisms.contains(mechanism);
        let Some(mechanism) = Mechanism::from_name(name).filter(offered) else {
            return self.fail(SaslCondition::InvalidMechanism, "mechanism not offered");
        };
        match text {
            // RFC 6120 §6.4.2: without an initial response the client is asked for one.
            "" => {
                self.state = State::First(mechanism);
                Step::Challenge(String::new())
            }
            // RFC 6120 §6.4.2: an initial response without data.
            "=" => self.first(mechanism, b""),
            _ => match decode(text) {
                Some(message) => self.first(mechanism, &message),
                None => self.fail(SaslCondition::IncorrectEncoding, "not base64"),
            },
        }
    }

    /// `<response/>` with its text.
    pub fn response(&mut self, text: &str) -> Step {
        let Some(message) = decode(text) else {
            return self.fail(SaslCondition::IncorrectEncoding, "not base64");
        };
        match std::mem::replace(&mut self.state, State::Idle) {
            State::First(mechanism) => self.first(mechanism, &message),
            State::Proof {
                account,
                mechanism,
                binding,
                known,
                server,
            } => match server.finish(&message) {
                Ok(last) if known => {
                    let text = STANDARD.encode(last);
                    Step::Success {
                        account,
                        mechanism,
                        binding,
                        text,
                    }
                }
                Ok(_) => refuse(Some(account), ScramError::WrongProof),
                Err(error) => refuse(Some(account), error),
            },
            _ => self.fail(SaslCondition::MalformedRequest, "no exchange is under way"),
        }
    }

    /// `<abort/>` (RFC 6120 §6.4.4).
    pub fn abort(&mut self) -> Step {
        self.fail(SaslCondition::Aborted, "aborted by the client")
    }

    /// Answers [`Step::LookUp`]. `None` is an account that does not exist, for which
    /// everything goes on as for others: it looks as if kept by the scheme `imitated`. The nonce
    /// is random, 128 bits or more.
    pub fn credentials(
        &mut self,
        credentials: Option<Credentials>,
        imitated: Scheme,
        nonce: &str,
        config: &C2sConfig,
    ) -> Step {
        let fake = |account: &Jid| fake_credentials(&config.secret, account.as_str(), imitated);
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Scram {
                account,
                mechanism,
                server,
            } => {
                let hash = mechanism.hash().expect("a SCRAM mechanism has a hash");
                let known = credentials
                    .as_ref()
                    .and_then(|known| known.scram(hash))
                    .cloned();
                // An account without keys for this hash is treated like one that is not there.
                let (keys, known) = match known {
                    Some(keys) => (keys, true),
                    None => match fake(&account).scram(hash).cloned() {
                        Some(keys) => (keys, false),
                        None => return refuse(Some(account), ScramError::WrongProof),
                    },
                };
                let downgrade = config.downgrade_protection.then(|| self.offer.hash(hash));
                let binding = server.binding();
                let (server, first) = server.challenge(keys, nonce, downgrade.as_deref());
                let server = Box::new(server);
                self.state = State::Proof {
                    account,
                    mechanism,
                    binding,
                    known,
                    server,
                };
                Step::Challenge(STANDARD.encode(first))
            }
            State::Plain { account, password } => {
                let known = credentials.is_some();
                let credentials = credentials.unwrap_or_else(|| fake(&account));
                self.state = State::Check { account, known };
                Step::Verify(PasswordCheck::new(credentials, password))
            }
            _ => self.fail(
                SaslCondition::TemporaryAuthFailure,
                "credentials for no exchange",
            ),
        }
    }

    /// Answers [`Step::Verify`].
    pub fn verified(&mut self, matches: bool) -> Step {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Check {
                account,
                known: true,
            } if matches => Step::Success {
                account,
                mechanism: Mechanism::Plain,
                binding: None,
                text: String::new(),
            },
            State::Check { account, .. } => refuse(Some(account), ScramError::WrongProof),
            _ => self.fail(
                SaslCondition::TemporaryAuthFailure,
                "a check for no exchange",
            ),
        }
    }

    /// Ends the exchange for a reason of ours, such as too many failures.
    pub fn refuse(&mut self, failure: SaslFailure, reason: &'static str) -> Step {
        let account = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::First(_) => None,
            State::Scram { account, .. }
            | State::Proof { account, .. }
            | State::Plain { account, .. }
            | State::Check { account, .. } => Some(account),
        };
        Step::Failure {
            account,
            failure,
            reason,
        }
    }

    fn first(&mut self, mechanism: Mechanism, message: &[u8]) -> Step {
        self.state = State::Idle;
        let Some(hash) = mechanism.hash() else {
            return self.plain(message);
        };
        let bindings = &self.offer.bindings;
        let server = match ScramServer::start(hash, mechanism.is_plus(), message, bindings) {
            Ok(server) => Box::new(server),
            Err(error) => return refuse(None, error),
        };
        let account = match self.account(server.username(), server.authzid()) {
            Ok(account) => account,
            Err((condition, reason)) => return self.fail(condition, reason),
        };
        self.state = State::Scram {
            account: account.clone(),
            mechanism,
            server,
        };
        Step::LookUp { account, mechanism }
    }

    fn plain(&mut self, message: &[u8]) -> Step {
        let Some(plain) = Plain::parse(message) else {
            return self.fail(SaslCondition::MalformedRequest, "malformed PLAIN message");
        };
        let account = match self.account(&plain.username, plain.authzid.as_deref()) {
            Ok(account) => account,
            Err((condition, reason)) => return self.fail(condition, reason),
        };
        let Ok(password) = plain.password else {
            // It can be nobody's password, so this tells nothing about the account.
            return refuse(Some(account), ScramError::WrongProof);
        };
        self.state = State::Plain {
            account: account.clone(),
            password,
        };
        Step::LookUp {
            account,
            mechanism: Mechanism::Plain,
        }
    }

    /// The account of a simple user name (RFC 6120 §6.3.7). Whoever names an identity to
    /// act as must name his own (§6.3.8).
    fn account(
        &self,
        username: &str,
        authzid: Option<&str>,
    ) -> Result<Jid, (SaslCondition, &'static str)> {
        let account = Jid::from_parts(Some(username), self.domain.as_str(), None);
        let account = account.map_err(|_| {
            (
                SaslCondition::NotAuthorized,
                "the user name is no localpart",
            )
        })?;
        match authzid.map(Jid::parse) {
            None => Ok(account),
            Some(Ok(authzid)) if authzid == account => Ok(account),
            Some(_) => Err((SaslCondition::InvalidAuthzid, "authzid is another identity")),
        }
    }

    fn fail(&mut self, condition: SaslCondition, reason: &'static str) -> Step {
        self.refuse(SaslFailure::new(condition, ""), reason)
    }
}

fn refuse(account: Option<Jid>, error: ScramError) -> Step {
    let condition = match error {
        ScramError::Malformed | ScramError::MandatoryExtension => SaslCondition::MalformedRequest,
        ScramError::UnknownBinding
        | ScramError::OfferStripped
        | ScramError::WrongNonce
        | ScramError::WrongBinding
        | ScramError::WrongProof => SaslCondition::NotAuthorized,
    };
    Step::Failure {
        account,
        failure: SaslFailure::new(condition, ""),
        reason: error.reason(),
    }
}

/// Base64 without white space, padded (RFC 6120 §6.4.2 and RFC 4648 §4).
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}
