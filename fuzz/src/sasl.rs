//! Target `sasl`: any exchange ends in success only for who knows the password.
//!
//! The first byte chooses what is offered and who plays the client. Either the rest are
//! the messages themselves, one a line: what the client sends, as text of the element or
//! (behind `<`) as bytes that are still to be encoded. Or the rest are user name, password,
//! nonce and authzid, one a line, of a client that knows SCRAM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn::addr::Jid;
use cairn::crypto::argon2id::{self, Argon2Memory};
use cairn::crypto::scram::{ClientBinding, ScramClient};
use cairn::crypto::{BindingType, ChannelBindings, Credentials, Password, Scheme};
use cairn::stream::C2sConfig;
use cairn::stream::sasl::{Mechanism, Offer, Sasl, Step};
use std::num::NonZeroU32;

const PASSWORD: &str = "pencil";
const NONCE: &str = "3rfcNHYJY1ZVvWVs7j";

/// Runs the target on one input; panics on a finding.
pub fn sasl(data: &[u8]) {
    let Some((&selector, rest)) = data.split_first() else {
        return;
    };
    let config = config();
    let exporter = (selector & 1 == 1).then_some([9; 32]);
    let server_end_point = (selector & 2 == 2).then(|| vec![8; 32]);
    let bindings = ChannelBindings {
        exporter,
        server_end_point,
    };
    let offer = Offer::new(&config, config.hosts[0].scheme, bindings);
    let mechanism = offer.mechanisms()[usize::from(selector >> 3) % offer.mechanisms().len()];
    let mut exchange = Exchange {
        sasl: Sasl::new(offer, config.hosts[0].domain.clone()),
        config,
    };
    if selector & 4 == 4 {
        exchange.play_client(mechanism, rest);
    } else {
        exchange.play_messages(mechanism, rest);
    }
    if let Ok(text) = std::str::from_utf8(rest) {
        let _ = argon2id::is_valid(text);
    }
}

/// One iteration, so that a run costs microseconds; the count changes no path.
pub(crate) fn config() -> C2sConfig {
    let domain = Jid::parse("capulet.example").expect("an address");
    let iterations = NonZeroU32::MIN;
    let scheme = Scheme::Scram {
        sha1: true,
        iterations,
    };
    let mut config = C2sConfig::new(vec![domain], [5; 32]);
    config.hosts[0].scheme = scheme;
    config
}

/// The credentials of an account: juliet alone has some.
pub(crate) fn credentials(account: &Jid, config: &C2sConfig) -> Option<Credentials> {
    let password = Password::prepare(PASSWORD).expect("a password");
    let mut memory = Argon2Memory::new();
    (account.local() == Some("juliet"))
        .then(|| Credentials::new(config.hosts[0].scheme, &password, &[3; 32], &mut memory))
}

struct Exchange {
    sasl: Sasl,
    config: C2sConfig,
}

impl Exchange {
    fn play_messages(&mut self, mechanism: Mechanism, messages: &[u8]) {
        for (index, line) in messages.split(|byte| *byte == b'\n').take(8).enumerate() {
            let text = match line.strip_prefix(b"<") {
                Some(message) => STANDARD.encode(message),
                None => String::from_utf8_lossy(line).into_owned(),
            };
            let step = match text.as_str() {
                "abort" => self.sasl.abort(),
                _ if index % 2 == 0 => self.sasl.auth(Some(mechanism.name()), &text),
                _ => self.sasl.response(&text),
            };
            if let Step::Success {
                mechanism, account, ..
            } = self.until_said(step)
            {
                // A proof cannot be guessed; a password stands in the input.
                assert_eq!(mechanism, Mechanism::Plain);
                assert_eq!(account.as_str(), "juliet@capulet.example");
            }
        }
    }

    fn play_client(&mut self, mechanism: Mechanism, fields: &[u8]) {
        let Ok(fields) = std::str::from_utf8(fields) else {
            return;
        };
        let mut fields = fields.split('\n');
        let mut field = || fields.next().unwrap_or_default();
        let (username, typed, nonce, authzid) = (field(), field(), field(), field());
        let (Ok(password), Some(hash)) = (Password::prepare(typed), mechanism.hash()) else {
            return;
        };
        // A client of ours keeps to what a nonce may be.
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
            return;
        }
        let knows = password.as_bytes() == PASSWORD.as_bytes();
        let binding = match self.sasl.offer().bindings().types().next() {
            Some(kind) if mechanism.is_plus() => {
                let data = if kind == BindingType::TlsExporter {
                    [9; 32]
                } else {
                    [8; 32]
                };
                ClientBinding::Use(kind, data.to_vec())
            }
            _ => ClientBinding::Unsupported,
        };
        let authzid = (!authzid.is_empty()).then_some(authzid);
        let client = ScramClient::new(hash, binding, authzid, username, password, nonce);
        let step = self
            .sasl
            .auth(Some(mechanism.name()), &STANDARD.encode(client.first()));
        let Step::Challenge(challenge) = self.until_said(step) else {
            return;
        };
        let challenge = STANDARD.decode(challenge).expect("our own base64");
        let (client, message) = client.respond(&challenge, None).expect("our own message");
        let step = self.sasl.response(&STANDARD.encode(message));
        match self.until_said(step) {
            Step::Success { account, text, .. } => {
                assert!(knows && account.as_str() == "juliet@capulet.example");
                let last = STANDARD.decode(text).expect("our own base64");
                client.verify(&last).expect("the server knows the keys");
            }
            Step::Failure { account, .. } => {
                let juliet = account.is_some_and(|a| a.as_str() == "juliet@capulet.example");
                assert!(!(knows && juliet), "the right password was refused");
            }
            step => panic!("neither success nor failure: {step:?}"),
        }
    }

    /// Answers what is asked of the shell, until there is something for the client.
    fn until_said(&mut self, mut step: Step) -> Step {
        loop {
            step = match step {
                Step::LookUp { account, .. } => {
                    let credentials = credentials(&account, &self.config);
                    self.sasl.credentials(
                        credentials,
                        self.config.hosts[0].scheme,
                        NONCE,
                        &self.config,
                    )
                }
                Step::Verify(check) => {
                    let matches = check.run(&mut Argon2Memory::new());
                    self.sasl.verified(matches)
                }
                step => return step,
            };
        }
    }
}
