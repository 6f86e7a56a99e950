//! From an accepted connection to a bound session: TLS, authentication, binding, resumption.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Duration, timeout};
use tracing::Span;

use crate::addr::Jid;
use crate::crypto::population::Lot;
use crate::crypto::{Credentials, CredentialsId};
use crate::router::{
    Cargo, Ending, Entry as OutboxEntry, Resumption, Session, bind, enable_management, resume,
    resumption_id,
};
use crate::stanza::{
    Condition, SaslCondition, SaslFailure, Stanza, StanzaError, StreamErrorCondition,
};
use crate::store::{Account, Position, State};
use crate::stream::c2s::C2s;
use crate::stream::sasl::Mechanism;
use crate::stream::sm::SmEnabled;
use crate::stream::{Action, TlsInfo};
use crate::xep::register;

use super::outgoing::OutgoingQueue;
use super::{Connection, End, Front, Login, Request, inbound};
use crate::net::admit::Slot;
use crate::net::listen::Arrival;
use crate::net::shared::Secured;
use crate::net::tls::Entry;
use crate::net::transport::Transport;

/// How long a client that can't be reached may keep what was written to it waiting, before the
/// kernel gives its connection up.
const UNREACHABLE: Duration = Duration::from_secs(120);

/// What is read of a client that waits for the check of its password, to notice when it goes: more
/// than it may send before it has logged in.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Begins a connection: the TLS handshake where TLS comes first, then a stream.
pub(super) async fn greet(
    front: Arc<Front>,
    arrival: Arrival,
    entry: Entry,
    number: u64,
    span: Span,
) -> Option<Box<Connection>> {
    // The time to log in begins here: the handshake is a part of it.
    let accepted_ms = (front.core.ticks)();
    let Arrival { tcp, peer, slot } = arrival;
    let socket = socket2::SockRef::from(&tcp);
    drop(socket.set_tcp_user_timeout(Some(UNREACHABLE)));
    let mut transport = Transport::plain(tcp);
    let mut info = None;
    if entry == Entry::Direct {
        let handshake = transport.secure(&front.tls, Entry::Direct);
        let limit = Duration::from_millis(front.streams.login_ms);
        match timeout(limit, handshake).await {
            Ok(Ok((secured, learnt))) => {
                transport = secured;
                info = Some(learnt);
            }
            Ok(Err(error)) => {
                span.in_scope(|| tracing::info!(%error, "the TLS handshake failed"));
                return None;
            }
            Err(_) => {
                span.in_scope(|| tracing::info!("the TLS handshake took too long"));
                return None;
            }
        }
    }
    let client = Came {
        transport,
        info,
        peer,
        slot,
        accepted_ms,
    };
    Some(client.begin(front, number, span))
}

/// Begins the stream of a client that stands under TLS already.
pub(super) fn begin(
    front: Arc<Front>,
    secured: Secured,
    number: u64,
    span: Span,
) -> Box<Connection> {
    let Secured {
        stream,
        info,
        peer,
        slot,
        accepted_ms,
    } = secured;
    let socket = socket2::SockRef::from(stream.tcp());
    drop(socket.set_tcp_user_timeout(Some(UNREACHABLE)));
    let client = Came {
        transport: Transport::Tls(stream),
        info: Some(info),
        peer,
        slot,
        accepted_ms,
    };
    client.begin(front, number, span)
}

/// A client that may begin its stream.
struct Came {
    transport: Transport,
    info: Option<TlsInfo>,
    peer: SocketAddr,
    slot: Slot,
    accepted_ms: u64,
}

impl Came {
    fn begin(self, front: Arc<Front>, number: u64, span: Span) -> Box<Connection> {
        let Came {
            transport,
            info,
            peer,
            slot,
            accepted_ms,
        } = self;
        let seed = front.core.random();
        let stream = C2s::new(front.streams.clone(), seed, info, accepted_ms);
        Box::new(Connection {
            share: inbound::Share::new(front.inbound.clone()),
            front,
            number,
            peer,
            slot,
            transport: Some(transport),
            stream,
            input: BytesMut::new(),
            out: OutgoingQueue::default(),
            login: None,
            session: None,
            request: Request::Answered,
            ending: None,
            span,
        })
    }
}

impl Connection {
    /// The actions of a stream that is being negotiated; the others never come here.
    pub(super) async fn negotiate(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::StartTls => self.start_tls().await?,
            Action::LookUp { account, mechanism } => self.look_up(account, mechanism),
            Action::VerifyPassword(check) => {
                let front = self.front.clone();
                let proved = match self.login().account.take() {
                    Some(account) => {
                        let checked = front.passwords.check(&front.core, account, check);
                        let Some(proved) = self.unless_late_or_gone(checked).await? else {
                            return Ok(());
                        };
                        proved
                    }
                    None => None,
                };
                self.login().proved = proved;
                self.stream.verified(proved.is_some());
            }
            Action::Register(stanza) => self.register(stanza).await?,
            Action::Authenticated {
                account,
                mechanism,
                binding,
            } => {
                self.slot.authenticated();
                if let Some(tried) = self.login().tried.take() {
                    self.front.throttle.succeeded(tried, self.now_ms());
                }
                let _entered = self.span.enter();
                tracing::info!(%account, mechanism = %mechanism.name(), ?binding, "authenticated");
            }
            Action::AuthenticationFailed {
                account,
                failure,
                reason,
            } => {
                let account = account.map(|account| account.to_string());
                let _entered = self.span.enter();
                tracing::info!(
                    account,
                    refused = failure.condition.name(),
                    reason,
                    "log-in failed"
                );
            }
            Action::Bind { jid, .. } => self.bind(jid),
            Action::SmEnable {
                resume,
                max_seconds,
            } => self.enable(resume, max_seconds),
            Action::SmResume { previd, h } => self.resume(&previd, h).await?,
            Action::Send(_)
            | Action::Stanza(_)
            | Action::SmRequest
            | Action::SmAck { .. }
            | Action::Closed(_) => debug_assert!(false, "handled before"),
        }
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        self.flush().await?;
        // What came in the clear is worth nothing under TLS (RFC 6120 §5.4.3.3).
        self.input = BytesMut::new();
        let Some(transport) = self.transport.take() else {
            return Ok(());
        };
        let now_ms = self.now_ms();
        let left_ms = self
            .stream
            .deadline()
            .map_or(0, |at| at.saturating_sub(now_ms));
        let domain = self.stream.domain().map(Jid::as_str);
        let handshake = transport.secure_for(&self.front.tls, Entry::StartTls, domain);
        match timeout(Duration::from_millis(left_ms), handshake).await {
            Ok(Ok((secured, learnt))) => {
                self.transport = Some(secured);
                let now_ms = self.now_ms();
                self.stream.tls_established(learnt, now_ms);
                Ok(())
            }
            Ok(Err(error)) => Err(std::io::Error::other(error.to_string()).into()),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Waits for work that others wait for too, until it is too late to log in, and not for a
    /// client that has gone: what nobody will hear of is not done.
    async fn unless_late_or_gone<R>(
        &mut self,
        work: impl Future<Output = R>,
    ) -> Result<Option<R>, End> {
        let mut work = pin!(work);
        loop {
            let deadline_ms = self.stream.deadline();
            let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(self.now_ms()));
            let hears_on = self.input.len() < AHEAD_BYTES_MAX;
            tokio::select! {
                biased;
                done = &mut work => return Ok(Some(done)),
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {
                    let now_ms = self.now_ms();
                    self.stream.timeout(now_ms);
                    return Ok(None);
                }
                readable = self.transport().readable(), if hears_on => {
                    readable?;
                    self.read()?;
                }
            }
        }
    }

    fn login(&mut self) -> &mut Login {
        self.login.get_or_insert_default()
    }

    /// The credentials that the client has shown to know, once it is authenticated.
    fn proved(&self) -> Option<CredentialsId> {
        self.login.as_ref()?.proved
    }

    fn look_up(&mut self, account: Jid, mechanism: Mechanism) {
        if self.front.core.store.read(State::is_restoring) {
            let why = "a backup is being restored: try again later";
            let failure = SaslFailure::new(SaslCondition::TemporaryAuthFailure, why);
            self.stream.refuse_authentication(failure, "restoring");
            return;
        }
        let now_ms = self.now_ms();
        let owner = account.as_str();
        let throttle = &self.front.throttle;
        let Some(tried) = throttle.may_try(self.peer.ip(), owner, now_ms) else {
            let failure = SaslFailure::new(
                SaslCondition::TemporaryAuthFailure,
                "too many failed log-ins: try again later",
            );
            self.stream.refuse_authentication(failure, "throttled");
            return;
        };
        let streams = &self.front.streams;
        let scheme = streams.host(Some(&account.domain_jid())).scheme;
        let lot = Lot::of(&streams.secret, owner);
        let (credentials, imitated) = self.front.core.store.read(|state| {
            let kept = state.account(owner).filter(|kept| kept.is_enabled());
            let credentials = kept.and_then(Account::credentials);
            let all = state.population(account.domain());
            let imitated = match mechanism.hash() {
                None => all.imitated_for_plain(lot, scheme),
                Some(_) => all.imitated_for_scram(lot, credentials.as_ref(), scheme),
            };
            (credentials, imitated)
        });
        self.login = Some(Box::new(Login {
            account: Some(account),
            proved: credentials.as_ref().map(Credentials::id),
            tried: Some(tried),
        }));
        self.stream.credentials(credentials, imitated);
    }

    async fn register(&mut self, stanza: Stanza) -> Result<(), End> {
        let front = self.front.clone();
        let peer = self.peer.ip();
        // Who asks for names that are taken learns who has an account: that is counted like a
        // failed log-in.
        let Some(tried) = front.names.may_try(peer, "", self.now_ms()) else {
            self.refuse(
                StreamErrorCondition::PolicyViolation,
                "too many names that are taken: try again later",
            );
            return Ok(());
        };
        let passwords = front.passwords.clone();
        let Some(domain) = self.stream.domain().cloned() else {
            debug_assert!(false, "no stanza comes before the header");
            return Ok(());
        };
        let answered = passwords.work(move || {
            let now_ms = (front.core.ticks)();
            let is_allowed = || front.registrations.may_try(peer, "", now_ms).is_some();
            register::answer_stranger(&front.core, &domain, &stanza, is_allowed)
        });
        let Some(answered) = self.unless_late_or_gone(answered).await? else {
            return Ok(());
        };
        let Some(reply) = answered else {
            self.refuse(
                StreamErrorCondition::InternalServerError,
                "something went wrong here",
            );
            return Ok(());
        };
        if !reply.told_of_account {
            self.front.names.succeeded(tried, self.now_ms());
        }
        self.durable(reply.after).await;
        self.stream.registration_reply(reply.iq);
        Ok(())
    }

    fn bind(&mut self, jid: Jid) {
        let lang = self.stream.lang().map(Into::into);
        let bound = match self.proved() {
            Some(proved) => bind(&self.front.core, jid, &proved, lang, self.number),
            None => Err(StanzaError::not_allowed("log in first")),
        };
        let now_ms = self.now_ms();
        let outcome = match bound {
            Ok(session) => {
                self.span.record("jid", session.jid.as_str());
                self.span.in_scope(|| tracing::info!("logged in"));
                let jid = session.jid.clone();
                self.adopt(session);
                Ok(jid)
            }
            Err(error) => Err(error),
        };
        self.stream.bound(outcome, now_ms);
    }

    /// From now on this connection serves the session. A server that began to stop while it was
    /// being bound has not seen it among those to tell.
    fn adopt(&mut self, session: Arc<Session>) {
        if self.front.stopping.is_cancelled() {
            session.outbox.end(Ending::server_stops());
        }
        self.login = None;
        self.session = Some(session);
    }

    fn enable(&mut self, resume: bool, max_seconds: Option<u32>) {
        let Some(session) = self.session.clone() else {
            self.stream.sm_failed(Condition::UnexpectedRequest, None);
            return;
        };
        let granted = enable_management(&self.front.core, &session, resume, max_seconds);
        self.stream.sm_enabled(&SmEnabled {
            id: granted.map(|(id, _)| crate::stanza::id::hex(&id)),
            max_seconds: granted.map(|(_, max)| max),
        });
        if let Some(Action::Send(bytes)) = self.stream.poll() {
            let mut entry = OutboxEntry::nonza(bytes, Position(0));
            entry.cargo = Cargo::ManagementEnabled;
            self.front.core.push(&session, entry);
        }
    }

    async fn resume(&mut self, previd: &str, h: u32) -> Result<(), End> {
        let account = self.stream.jid().map(Jid::bare);
        let (Some(id), Some(account), Some(proved)) =
            (resumption_id(previd), account, self.proved())
        else {
            self.stream.sm_failed(Condition::ItemNotFound, None);
            return Ok(());
        };
        let outcome = loop {
            match resume(&self.front.core, &account, &proved, &id, h, self.number) {
                Resumption::Busy => tokio::task::yield_now().await,
                other => break other,
            }
        };
        match outcome {
            Resumption::Resumed {
                session,
                handled,
                after,
            } => self.resumed(session, handled, after).await?,
            Resumption::TooHigh(too_high) => {
                self.stream
                    .close_handled_count_too_high(too_high.h, too_high.sent);
            }
            Resumption::NotFound | Resumption::Busy => {
                self.stream.sm_failed(Condition::ItemNotFound, None);
            }
        }
        Ok(())
    }

    async fn resumed(
        &mut self,
        session: Arc<Session>,
        handled: u32,
        after: Position,
    ) -> Result<(), End> {
        // Already this connection's, whatever becomes of it while it waits.
        self.session = Some(session.clone());
        self.durable(after).await;
        if !session.outbox.rewind(self.number) {
            if session.is_ended() {
                self.session = None;
                self.stream.sm_failed(Condition::ItemNotFound, None);
            } else {
                self.leave();
            }
            return Ok(());
        }
        let now_ms = self.now_ms();
        self.stream.resumed(session.jid.clone(), handled, now_ms);
        // `<resumed/>` goes first, then what the client has not acknowledged.
        while let Some(Action::Send(bytes)) = self.stream.poll() {
            self.out.push(bytes);
        }
        self.span.record("jid", session.jid.as_str());
        self.span.in_scope(|| tracing::info!("resumed"));
        self.adopt(session);
        Ok(())
    }
}
