//! The shell of these tests: accounts in a map, a clock that is set by hand, and every
//! action answered at once unless the test wants to answer itself.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use crate::addr::Jid;
use crate::crypto::argon2id::Argon2Memory;
use crate::crypto::scram::{ClientBinding, ScramClient};
use crate::crypto::{BindingType, Credentials, Password, Scheme};
use crate::stanza::Condition;
use crate::stream::c2s::C2s;
use crate::stream::sasl::Mechanism;
use crate::stream::sm::SmEnabled;
use crate::stream::{Action, C2sConfig, Closed, TlsInfo};

pub(super) const SCHEME: Scheme = Scheme::Scram {
    sha1: true,
    iterations: NonZeroU32::new(4096).unwrap(),
};

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream to='capulet.example' \
    version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
pub(super) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(super) const BIND: &str = "<iq type='set' id='b'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>Balcony</resource></bind></iq>";
pub(super) const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
pub(super) const EXPORTER: [u8; 32] = [9; 32];

pub(super) struct Shell {
    pub stream: C2s,
    buffer: BytesMut,
    pub now_ms: u64,
    accounts: HashMap<String, Credentials>,
    scheme: Scheme,
    memory: Argon2Memory,
    /// Everything that happened and is not in what the server said.
    pub events: Vec<String>,
    pub closed: Option<Closed>,
    /// Actions that the shell was told to leave alone.
    pub unanswered: Vec<Action>,
    leave: fn(&Action) -> bool,
    stanzas: u32,
}

pub(super) fn config() -> C2sConfig {
    let domains = ["capulet.example", "second.example"].map(|name| Jid::parse(name).unwrap());
    of_scheme(C2sConfig::new(domains.to_vec(), [5; 32]), SCHEME)
}

/// All domains keep passwords by this scheme.
pub(super) fn of_scheme(mut config: C2sConfig, scheme: Scheme) -> C2sConfig {
    for host in &mut config.hosts {
        host.scheme = scheme;
    }
    config
}

pub(super) fn tls() -> TlsInfo {
    TlsInfo {
        exporter: Some(EXPORTER),
        server_end_point: Some(vec![8; 32]),
        ..TlsInfo::default()
    }
}

impl Shell {
    /// A connection without TLS.
    pub fn plain(config: C2sConfig) -> Shell {
        Shell::new(config, None)
    }

    /// A connection that began with TLS.
    pub fn direct_tls() -> Shell {
        Shell::new(config(), Some(tls()))
    }

    pub fn new(config: C2sConfig, tls: Option<TlsInfo>) -> Shell {
        let mut memory = Argon2Memory::new();
        let password = Password::prepare("pencil").unwrap();
        let credentials =
            Credentials::new(config.hosts[0].scheme, &password, &[3; 32], &mut memory);
        Shell {
            scheme: config.hosts[0].scheme,
            stream: C2s::new(Arc::new(config), [1; 32], tls, 0),
            buffer: BytesMut::new(),
            now_ms: 0,
            accounts: HashMap::from([("juliet@capulet.example".to_owned(), credentials)]),
            memory,
            events: Vec::new(),
            closed: None,
            unanswered: Vec::new(),
            leave: |_| false,
            stanzas: 0,
        }
    }

    /// Logged in, behind the second header.
    pub fn authenticated() -> Shell {
        let mut shell = Shell::direct_tls();
        shell.say(HEADER);
        assert!(shell.log_in("pencil").contains("<success"));
        assert!(shell.say(HEADER).contains("<bind"));
        shell
    }

    /// Bound as `juliet@capulet.example/Balcony`.
    pub fn bound() -> Shell {
        let mut shell = Shell::authenticated();
        assert!(shell.say(BIND).contains("juliet@capulet.example/Balcony"));
        shell.events.clear();
        shell
    }

    pub fn leaving(mut self, leave: fn(&Action) -> bool) -> Shell {
        self.leave = leave;
        self
    }

    /// Sends bytes, does all there is to do, returns what the server says.
    pub fn say(&mut self, text: &str) -> String {
        self.say_bytes(text.as_bytes())
    }

    pub fn say_bytes(&mut self, bytes: &[u8]) -> String {
        self.buffer.extend_from_slice(bytes);
        self.run()
    }

    /// Lets time pass up to and including the deadline of the stream.
    pub fn sleep(&mut self) -> String {
        self.now_ms = self
            .stream
            .deadline()
            .expect("the stream waits for something");
        self.stream.timeout(self.now_ms);
        self.run()
    }

    pub fn run(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            self.stream.input(&mut self.buffer, self.now_ms);
            let Some(action) = self.stream.poll() else {
                break;
            };
            assert!(self.closed.is_none(), "{action:?} behind the end");
            match action {
                Action::Send(bytes) => said.extend_from_slice(&bytes),
                action if (self.leave)(&action) => self.unanswered.push(action),
                action => self.answer(action),
            }
        }
        assert_eq!(self.stream.deadline().is_none(), self.closed.is_some());
        String::from_utf8(said).unwrap()
    }

    fn answer(&mut self, action: Action) {
        let now = self.now_ms;
        match action {
            Action::Send(_) => unreachable!("sent already"),
            Action::StartTls => self.stream.tls_established(tls(), now),
            Action::LookUp { account, .. } => {
                let credentials = self.accounts.get(account.as_str()).cloned();
                self.stream.credentials(credentials, self.scheme);
            }
            Action::VerifyPassword(check) => {
                let matches = check.run(&mut self.memory);
                self.stream.verified(matches);
            }
            Action::Register(iq) => {
                self.events.push("register".to_owned());
                self.stream.registration_reply(iq.result_reply(b""));
            }
            Action::Authenticated {
                account,
                mechanism,
                binding,
            } => {
                self.events
                    .push(format!("{account} by {mechanism} {binding:?}"));
            }
            Action::AuthenticationFailed {
                account,
                failure,
                reason,
            } => {
                let account = account.map_or("nobody".to_owned(), |account| account.to_string());
                self.events
                    .push(format!("{account}: {}, {reason}", failure.condition));
            }
            Action::Bind { jid, .. } => self.stream.bound(Ok(jid), now),
            Action::SmEnable { .. } => {
                let id = Some("sm-1".to_owned());
                self.stream.sm_enabled(&SmEnabled {
                    id,
                    max_seconds: Some(300),
                });
            }
            Action::SmResume { previd, .. } if previd == "sm-1" => {
                let jid = Jid::parse("juliet@capulet.example/Balcony").unwrap();
                self.stream.resumed(jid, 7, now);
            }
            Action::SmResume { .. } => self.stream.sm_failed(Condition::ItemNotFound, None),
            Action::SmRequest => self.stream.acknowledge(self.stanzas),
            Action::SmAck { h } => self.events.push(format!("handled {h}")),
            Action::Stanza(stanza) => {
                self.stanzas += 1;
                self.events
                    .push(String::from_utf8(stanza.bytes().to_vec()).unwrap());
            }
            Action::Closed(how) => self.closed = Some(how),
        }
    }

    /// PLAIN.
    pub fn log_in(&mut self, password: &str) -> String {
        self.say(&auth("PLAIN", format!("\0juliet\0{password}").as_bytes()))
    }

    /// SCRAM, from the first message to the last.
    pub fn scram(&mut self, mechanism: Mechanism, username: &str, password: &str) -> String {
        let binding = if mechanism.is_plus() {
            ClientBinding::Use(BindingType::TlsExporter, EXPORTER.to_vec())
        } else {
            ClientBinding::Unsupported
        };
        let password = Password::prepare(password).unwrap();
        let hash = mechanism.hash().unwrap();
        let client = ScramClient::new(hash, binding, None, username, password, "client-nonce");
        let challenge = self.say(&auth(mechanism.name(), client.first().as_bytes()));
        let first = decode_text(&challenge);
        let (client, message) = client.respond(&first, None).unwrap();
        let outcome = self.say(&response(message.as_bytes()));
        if outcome.starts_with("<success") {
            client.verify(&decode_text(&outcome)).unwrap();
        }
        outcome
    }
}

pub(super) fn auth(mechanism: &str, message: &[u8]) -> String {
    let text = STANDARD.encode(message);
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{text}</auth>")
}

pub(super) fn response(message: &[u8]) -> String {
    let text = STANDARD.encode(message);
    format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</response>")
}

/// The text of a SASL element, decoded.
pub(super) fn decode_text(element: &str) -> Vec<u8> {
    let text = element
        .split('>')
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    STANDARD
        .decode(text.unwrap_or_default())
        .unwrap_or_else(|_| panic!("{element}"))
}
