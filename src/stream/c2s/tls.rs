//! STARTTLS (RFC 6120 §5), which is all that a stream without TLS is for.

use bytes::{Bytes, BytesMut};

use super::{C2s, Stage, Waiting};
use crate::stanza::{FirstLevel, SaslCondition, SaslFailure, StreamError, StreamErrorCondition};
use crate::stream::{Action, TlsInfo, ns};

impl C2s {
    /// Tells that the handshake asked for by [`Action::StartTls`] is done.
    pub fn tls_established(&mut self, tls: TlsInfo, now_ms: u64) {
        if !self.answered(Waiting::Tls) {
            return;
        }
        if let Some(login) = &mut self.login {
            login.bindings = tls.into_bindings();
        }
        self.restart(Stage::Secure);
        self.heard(now_ms);
    }

    pub(super) fn element_without_tls(&mut self, element: &FirstLevel, rest: &mut BytesMut) {
        let FirstLevel::Nonza(nonza) = element else {
            return self.refuse_unauthorized();
        };
        let element = nonza.element();
        if element.is("starttls", ns::TLS) {
            self.start_tls(rest);
        } else if element.is("auth", ns::SASL) {
            // RFC 6120 §6.5.4.
            self.send_with(|writer| {
                SaslFailure::new(SaslCondition::EncryptionRequired, "").write(writer);
            });
            self.fail(StreamError::new(
                StreamErrorCondition::PolicyViolation,
                "TLS is required",
            ));
        } else {
            self.refuse_unauthorized();
        }
    }

    /// What stands behind `<starttls/>` was sent without waiting for `<proceed/>`, against
    /// RFC 6120 §5.4.2.3, or was put there by somebody else, to be read as if it had come
    /// through TLS. Nothing of it may survive, so the stream ends. White space is
    /// forbidden there as well, but some clients end each element with a line break:
    /// that is thrown away.
    fn start_tls(&mut self, rest: &mut BytesMut) {
        let is_blank = rest.iter().all(u8::is_ascii_whitespace);
        rest.clear();
        if !is_blank {
            return self.fail(StreamError::new(
                StreamErrorCondition::PolicyViolation,
                "data behind starttls",
            ));
        }
        self.send(Bytes::from_static(
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ));
        self.await_answer(Waiting::Tls, Action::StartTls);
    }
}
