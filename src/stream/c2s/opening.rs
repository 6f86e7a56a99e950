//! The client's header and our answer: header and features (RFC 6120 §4.7, §4.3.2).

use std::sync::{Arc, LazyLock};

use super::{C2s, Stage};
use crate::addr::Jid;
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::stream::sasl::{Offer, Sasl};
use crate::stream::{features, header};
use crate::xml::{Content, Limits, StreamHeader, StreamScope, Writer};

impl C2s {
    pub(super) fn open(&mut self, bytes: &[u8]) {
        let limits = *self.framer.limits();
        let peer = match StreamHeader::parse(bytes, Content::Client, &limits) {
            Ok(peer) => peer,
            Err(error) => return self.fail(error.into()),
        };
        let opening = match header::judge(&peer, &self.config.hosts) {
            Ok(opening) => opening,
            Err(error) => return self.fail(error),
        };
        if let Err(error) = self.accept(&opening) {
            return self.fail(error);
        }
        self.domain = Some(opening.domain);
        self.claimed = opening.from;
        self.lang = peer
            .lang
            .filter(|lang| header::is_language_tag(lang))
            .map(String::into_boxed_str);
        self.scope = Some(shared(peer.scope));
        self.send_header_and_features();
    }

    /// What a header may not change between the stages.
    fn accept(&self, opening: &header::Opening) -> Result<(), StreamError> {
        use StreamErrorCondition as C;
        if self
            .domain
            .as_ref()
            .is_some_and(|domain| *domain != opening.domain)
        {
            return Err(StreamError::new(
                C::PolicyViolation,
                "another domain than before",
            ));
        }
        match (&self.jid, &opening.from) {
            // RFC 6120 §4.9.3.9.
            (Some(jid), Some(from)) if from.bare_str() != jid.bare_str() => Err(StreamError::new(
                C::InvalidFrom,
                "from is not who has logged in",
            )),
            _ => Ok(()),
        }
    }

    /// One write for both: they belong together, and to one TLS record.
    fn send_header_and_features(&mut self) {
        self.prepare_sasl();
        let mut writer = Writer::new();
        let sasl = self.login.as_ref().and_then(|login| login.sasl.as_ref());
        let stage = match (self.stage, sasl) {
            (Stage::Plain, _) => features::Stage::Plain,
            (Stage::Secure, Some(sasl)) => features::Stage::Secure(sasl.offer()),
            _ => features::Stage::Authenticated,
        };
        features::write(&mut writer, stage, &self.config, self.host());
        let header = self.header();
        self.send([&header[..], &writer.finish()].concat().into());
    }

    /// What may be used to log in is decided when the first header over TLS has come.
    fn prepare_sasl(&mut self) {
        if self.stage == Stage::Secure
            && let Some(domain) = &self.domain
            && let Some(login) = &mut self.login
        {
            let scheme = self.config.host(Some(domain)).scheme;
            let offer = Offer::new(&self.config, scheme, login.bindings.clone());
            login.sasl = Some(Sasl::new(offer, domain.clone()));
        }
    }

    /// Our header, which is on its way from now on. To a client that came for a domain
    /// that is not ours it names our first one (RFC 6120 §4.9.1.2).
    pub(super) fn header(&mut self) -> Vec<u8> {
        self.header_sent = true;
        let login = self
            .login
            .as_mut()
            .expect("login is there until the stream is bound");
        let id = login.draw("stream id");
        let domain = &self.host().domain;
        header::write(domain, self.claimed.as_ref().map(Jid::as_str), &id)
    }
}

/// The header that nearly every client sends puts the same in scope: kept once for all.
fn shared(scope: StreamScope) -> Arc<StreamScope> {
    static USUAL: LazyLock<Option<Arc<StreamScope>>> = LazyLock::new(|| {
        let header = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        let header = StreamHeader::parse(header, Content::Client, &Limits::before_authentication());
        header.ok().map(|header| Arc::new(header.scope))
    });
    match &*USUAL {
        Some(usual) if **usual == scope => usual.clone(),
        _ => Arc::new(scope),
    }
}
