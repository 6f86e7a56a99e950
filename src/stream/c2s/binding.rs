//! What a client may do after it has logged in and before it is bound: bind a resource
//! (RFC 6120 §7) or resume a former stream (XEP-0198 §5).

use super::{C2s, Stage, Waiting};
use crate::addr::Jid;
use crate::stanza::{
    Condition, FirstLevel, Kind, Nonza, Stanza, StanzaError, StreamError, StreamErrorCondition,
};
use crate::stream::bind::BindRequest;
use crate::stream::sm::SmElement;
use crate::stream::{Action, bind, sm};

impl C2s {
    /// Answers [`Action::Bind`] with the full address that was bound, or why none was;
    /// the client may then ask for another one (RFC 6120 §7.7.2).
    pub fn bound(&mut self, outcome: Result<Jid, StanzaError>, now_ms: u64) {
        if !self.answered(Waiting::Binding) {
            return;
        }
        let request = self
            .login_mut()
            .bind_request
            .take()
            .expect("a request was made");
        match outcome {
            Ok(jid) => {
                debug_assert!(jid.is_full());
                self.send(bind::result(&request, &jid));
                self.establish(jid, now_ms);
            }
            Err(error) => self.send(request.error_reply(&error)),
        }
    }

    /// Answers [`Action::SmResume`]: this stream now is the one that `jid` had, and `h`
    /// of its stanzas were handled. What is unacknowledged is sent by the shell, behind
    /// the element that this sends.
    pub fn resumed(&mut self, jid: Jid, h: u32, now_ms: u64) {
        if !self.answered(Waiting::Resumption) {
            return;
        }
        let previd = self.login_mut().previd.take().expect("an id was named");
        self.send(sm::resumed(&previd, h));
        self.managed = true;
        self.establish(jid, now_ms);
    }

    /// Refuses [`Action::SmEnable`] or [`Action::SmResume`]: `item-not-found` if the id
    /// is not known (any more), with the count of that session if it still is.
    pub fn sm_failed(&mut self, condition: Condition, h: Option<u32>) {
        let waiting = match self.waiting {
            Some(Waiting::Enabling) => Waiting::Enabling,
            _ => Waiting::Resumption,
        };
        if self.answered(waiting) {
            self.send(sm::failed(condition, h));
        }
    }

    pub(super) fn element_before_binding(&mut self, element: FirstLevel) {
        match element {
            FirstLevel::Stanza(stanza) => self.stanza_before_binding(stanza),
            FirstLevel::Nonza(nonza) => self.nonza_before_binding(&nonza),
        }
    }

    fn stanza_before_binding(&mut self, stanza: Stanza) {
        if self.is_for_us(&stanza)
            && let Some(request) = BindRequest::parse(&stanza)
        {
            return self.bind(stanza, &request);
        }
        // RFC 6120 §7.1: to others nothing may be sent yet. To the server it may, and
        // such a request is answered, so that a client does not wait for ever.
        if stanza.kind() == Kind::Iq && stanza.may_be_refused() && self.is_for_us(&stanza) {
            let error = StanzaError::not_allowed("bind a resource first");
            return self.send(stanza.error_reply(&error));
        }
        self.fail(StreamError::new(
            StreamErrorCondition::NotAuthorized,
            "bind a resource first",
        ));
    }

    fn nonza_before_binding(&mut self, nonza: &Nonza) {
        let element = SmElement::parse(&nonza.element());
        match element {
            Some(_) if !self.config.stream_management => {
                self.send(sm::failed(Condition::FeatureNotImplemented, None));
            }
            Some(SmElement::Resume { previd, h }) => {
                self.login_mut().previd = Some(previd.clone());
                self.await_answer(Waiting::Resumption, Action::SmResume { previd, h });
            }
            // XEP-0198 §3: not before a resource is bound.
            Some(SmElement::Enable { .. } | SmElement::Request | SmElement::Acknowledge { .. }) => {
                self.send(sm::failed(Condition::UnexpectedRequest, None));
            }
            Some(SmElement::Malformed) => self.send(sm::failed(Condition::BadRequest, None)),
            None => self.refuse_unsupported(),
        }
    }

    fn bind(&mut self, stanza: Stanza, request: &BindRequest) {
        let account = self.jid.clone().expect("the client has logged in");
        let chosen_by_client = request.resource.is_some();
        let jid = match &request.resource {
            Some(resource) => account.with_resource(resource),
            None => account.with_resource(&self.login_mut().draw("resource")),
        };
        match jid {
            Ok(jid) => {
                self.login_mut().bind_request = Some(stanza);
                self.await_answer(
                    Waiting::Binding,
                    Action::Bind {
                        jid,
                        chosen_by_client,
                    },
                );
            }
            // RFC 6120 §7.7.2.1.
            Err(_) => {
                let error = StanzaError::bad_request("the resource is not well-formed");
                self.send(stanza.error_reply(&error));
            }
        }
    }

    fn is_for_us(&self, stanza: &Stanza) -> bool {
        let Some(to) = stanza.to() else { return true };
        let Ok(to) = Jid::parse(&to) else {
            return false;
        };
        Some(&to) == self.domain.as_ref() || Some(&to) == self.jid.as_ref()
    }

    fn establish(&mut self, jid: Jid, now_ms: u64) {
        self.jid = Some(jid);
        self.stage = Stage::Bound;
        self.login = None;
        self.listen(now_ms);
    }
}
