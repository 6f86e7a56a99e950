//! What a client may do over TLS before it has logged in: log in (RFC 6120 §6), register
//! (XEP-0077), nothing else.

use bytes::Bytes;

use super::{C2s, Login, Stage, Waiting};
use crate::crypto::{Credentials, Scheme};
use crate::stanza::{
    FirstLevel, Kind, Nonza, SaslFailure, Stanza, StreamError, StreamErrorCondition,
};
use crate::stream::sasl::{Sasl, Step};
use crate::stream::{Action, ns};
use crate::xml::Writer;

impl C2s {
    /// Answers [`Action::LookUp`]; `None` if there is no such account, which then looks as if
    /// its password was kept by the scheme `imitated`.
    pub fn credentials(&mut self, credentials: Option<Credentials>, imitated: Scheme) {
        if !self.answered(Waiting::Credentials) {
            return;
        }
        let config = self.config.clone();
        let nonce = self.login_mut().draw("nonce");
        self.sasl(|sasl| sasl.credentials(credentials, imitated, &nonce, &config));
    }

    /// Answers [`Action::LookUp`] with a refusal: too many failures before this one
    /// (`temporary-auth-failure`), or the store is out of order.
    pub fn refuse_authentication(&mut self, failure: SaslFailure, reason: &'static str) {
        if self.answered(Waiting::Credentials) {
            self.sasl(|sasl| sasl.refuse(failure, reason));
        }
    }

    /// Answers [`Action::VerifyPassword`].
    pub fn verified(&mut self, matches: bool) {
        if self.answered(Waiting::Password) {
            self.sasl(|sasl| sasl.verified(matches));
        }
    }

    /// Answers [`Action::Register`] with a whole iq.
    pub fn registration_reply(&mut self, iq: Bytes) {
        if self.answered(Waiting::Registration) {
            self.send(iq);
        }
    }

    pub(super) fn element_before_authentication(&mut self, element: FirstLevel) {
        match element {
            FirstLevel::Nonza(nonza) if nonza.element().ns() == ns::SASL => self.sasl_nonza(&nonza),
            FirstLevel::Nonza(nonza) if nonza.element().is("starttls", ns::TLS) => {
                // RFC 6120 §5.4.2.2: it was not offered, the stream ends.
                self.send_with(|writer| {
                    writer.empty("failure", ns::TLS);
                });
                self.fail(StreamError::new(
                    StreamErrorCondition::PolicyViolation,
                    "TLS is on",
                ));
            }
            FirstLevel::Stanza(stanza) if self.host().registration_open && is_register(&stanza) => {
                self.await_answer(Waiting::Registration, Action::Register(stanza));
            }
            FirstLevel::Nonza(_) | FirstLevel::Stanza(_) => self.refuse_unauthorized(),
        }
    }

    fn sasl_nonza(&mut self, nonza: &Nonza) {
        let element = nonza.element();
        match element.name() {
            "auth" => {
                let mechanism = element.attr("mechanism");
                self.sasl(|sasl| sasl.auth(mechanism.as_deref(), &element.text()));
            }
            "response" => self.sasl(|sasl| sasl.response(&element.text())),
            "abort" => self.sasl(Sasl::abort),
            _ => self.refuse_unauthorized(),
        }
    }

    fn sasl(&mut self, step: impl FnOnce(&mut Sasl) -> Step) {
        let sasl = self.login_mut().sasl.as_mut();
        let step = step(sasl.expect("SASL is ready since the header over TLS"));
        match step {
            Step::Challenge(text) => self.send_sasl("challenge", &text),
            Step::LookUp { account, mechanism } => {
                self.await_answer(Waiting::Credentials, Action::LookUp { account, mechanism });
            }
            Step::Verify(check) => {
                self.await_answer(Waiting::Password, Action::VerifyPassword(check));
            }
            Step::Success {
                account,
                mechanism,
                binding,
                text,
            } => {
                self.jid = Some(account.clone());
                self.actions.push_back(Action::Authenticated {
                    account,
                    mechanism,
                    binding,
                });
                self.send_sasl("success", &text);
                self.restart(Stage::Authenticated);
            }
            Step::Failure {
                account,
                failure,
                reason,
            } => {
                self.send_with(|writer| failure.write(writer));
                self.actions.push_back(Action::AuthenticationFailed {
                    account,
                    failure,
                    reason,
                });
                self.count_failure();
            }
        }
    }

    fn send_sasl(&mut self, name: &'static str, text: &str) {
        self.send_with(|writer: &mut Writer| {
            writer.open_ns(name, ns::SASL).text(text).close();
        });
    }

    /// RFC 6120 §6.4.5: some retries are allowed, then the stream is closed.
    fn count_failure(&mut self) {
        let retries_max = self.config.retries_max;
        let login = self.login_mut();
        login.failures = login.failures.saturating_add(1);
        if login.failures > retries_max {
            self.fail(StreamError::new(
                StreamErrorCondition::PolicyViolation,
                "too many failed log-ins",
            ));
        }
    }

    pub(super) fn login_mut(&mut self) -> &mut Login {
        self.login
            .as_mut()
            .expect("login is there until the stream is bound")
    }
}

fn is_register(stanza: &Stanza) -> bool {
    stanza.kind() == Kind::Iq
        && (stanza.is_type("get") || stanza.is_type("set"))
        && stanza.payload() == Some((ns::REGISTER, "query"))
}
