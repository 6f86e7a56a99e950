//! Connections of external components (XEP-0114), one task each.
//!
//! Plain TCP, since the protocol has no TLS: it is meant for programs on the same machine.
//!
//! A component that connects while another one of its domain is connected is refused with
//! `conflict`. Two programs with the same name and secret are a mistake in somebody's setup; were
//! the newer one to take the place, both would throw each other out for ever, and each stanza went
//! to whichever came last. One that died without a word is noticed by the kernel's probes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::sync::watch;
use tracing::{Instrument as _, Span};

use super::conn::{Front, guarded};
use super::listen::Arrival;
use super::s2s::conduit::Conduit;
use super::s2s::sending::{Filled, Sending, return_all};
use super::transport::Transport;
use crate::addr::Jid;
use crate::router::{absent, receive_component, too_slow};
use crate::stanza::{StreamError, StreamErrorCondition};
use crate::stream::Closed;
use crate::stream::component::{Action, Component, ComponentConfig};

/// Bytes that one connection handles before it lets others have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// A component that is silent for so long is probed by the kernel, and so often.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// What all connections of components share.
pub struct Door {
    /// The server behind it, as clients' connections see it.
    pub front: Arc<Front>,
    /// What streams are configured with.
    pub streams: Arc<ComponentConfig>,
    /// Each task holds a receiver: the server waits for them when it stops.
    pub alive: Arc<watch::Sender<()>>,
}

impl Door {
    fn now_ms(&self) -> u64 {
        (self.front.core.ticks)()
    }
}

/// Serves a component from the first byte to the last. A panic in here ends this connection and
/// nothing else.
pub async fn serve(door: Arc<Door>, arrival: Arrival) {
    let span = tracing::info_span!(
        "component",
        peer = %arrival.peer,
        domain = tracing::field::Empty
    );
    let alive = door.alive.subscribe();
    let number = door.front.core.next_number();
    let course = Box::pin(
        Connection::new(door.clone(), arrival, number)
            .serve()
            .instrument(span),
    );
    if guarded(pin!(course)).await.is_none() {
        tracing::error!("a component's connection has panicked and is ended");
        give_back(&door, number).await;
    }
    drop(alive);
}

/// What the connection of this number was to send comes back.
async fn give_back(door: &Door, number: u64) {
    let core = &door.front.core;
    for domain in core.components.domains() {
        if let Some(link) = core.components.link(domain.as_str())
            && link.is_served_by(number)
        {
            let error = absent(domain);
            link.cut_off(&error, door.now_ms());
            let back = link.give_up(&error, door.now_ms());
            return_all(core, back, &error).await;
        }
    }
}

/// What a component has not got comes back, but not when the server stops: what is recorded waits
/// for the next start.
async fn give_up(door: &Door, sending: Sending) {
    let link = sending.link.clone();
    sending.end(false, door.now_ms());
    if !door.front.stopping.is_cancelled() {
        let error = absent(&link.pair.remote);
        let back = link.give_up(&error, door.now_ms());
        return_all(&door.front.core, back, &error).await;
    }
}

struct Connection {
    door: Arc<Door>,
    number: u64,
    arrival_ip: std::net::IpAddr,
    slot: super::admit::Slot,
    conduit: Conduit,
    stream: Component,
    /// What waits for it, once it is connected.
    sending: Option<Sending>,
}

/// Why a connection ends.
enum End {
    Stream(Closed),
    Transport(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Transport(error)
    }
}

impl Connection {
    fn new(door: Arc<Door>, arrival: Arrival, number: u64) -> Connection {
        let Arrival { tcp, peer, slot } = arrival;
        let probes = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EVERY);
        // It can only fail for a connection that is gone already.
        drop(SockRef::from(&tcp).set_tcp_keepalive(&probes));
        let seed = door.front.core.random();
        Connection {
            number,
            arrival_ip: peer.ip(),
            slot,
            conduit: Conduit::new(Transport::plain(tcp), &door.front.inbound),
            stream: Component::new(door.streams.clone(), seed, door.now_ms()),
            sending: None,
            door,
        }
    }

    async fn serve(mut self) {
        let Err(end) = self.run().await;
        let may_hear = match end {
            End::Stream(Closed::Error(error)) => {
                tracing::info!(%error, "a component's stream was ended");
                true
            }
            End::Stream(closed) => {
                tracing::info!(?closed, "a component has left");
                true
            }
            End::Transport(error) => {
                tracing::info!(why = %error, "a component's connection was lost");
                false
            }
        };
        // What still gets there does not come back.
        let has_heard = may_hear && self.conduit.say_farewell().await;
        self.written();
        let Connection {
            door,
            conduit,
            sending,
            ..
        } = self;
        // Its place is free before it sees that the connection has ended: it may come again at once.
        if let Some(sending) = sending {
            give_up(&door, sending).await;
        }
        if has_heard {
            conduit.close().await;
        }
    }

    /// So many more stanzas are with the kernel, which is all that will ever be known of them.
    fn written(&mut self) {
        let written = self.conduit.out.take_written();
        if let Some(sending) = &mut self.sending {
            sending.written(written);
        }
    }

    async fn run(&mut self) -> Result<Infallible, End> {
        let mut handled = 0;
        loop {
            let before = self.conduit.input.len();
            self.stream.input(&mut self.conduit.input);
            handled += before - self.conduit.input.len();
            if let Some(action) = self.stream.poll() {
                self.act(action)?;
                if handled > TURN_BYTES {
                    handled = 0;
                    self.door.front.core.store.commit_soon();
                    tokio::task::yield_now().await;
                }
                continue;
            }
            handled = 0;
            if !self.conduit.settle_input() {
                let text = "too many big stanzas are under way: send it again later";
                self.refuse(StreamErrorCondition::ResourceConstraint, text);
                continue;
            }
            self.exchange().await?;
        }
    }

    fn act(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::Send(bytes) => self.conduit.say(bytes),
            Action::Handshake(domain) => self.handshake(&domain),
            Action::Stanza(stanza) => {
                let core = &self.door.front.core;
                // What it leads to waits for the log by itself; nobody counts for a component.
                let _after = receive_component(core, self.stream.lang(), &stanza);
            }
            Action::Closed(closed) => return Err(End::Stream(closed)),
        }
        Ok(())
    }

    /// Tries count for the address and for the domain, as those of clients do for the account.
    fn handshake(&mut self, domain: &Jid) {
        let front = &self.door.front;
        let now_ms = self.door.now_ms();
        let tried = front
            .throttle
            .may_try(self.arrival_ip, domain.as_str(), now_ms);
        let Some(tried) = tried else {
            let text = "too many failed log-ins: try again later";
            return self.refuse(StreamErrorCondition::PolicyViolation, text);
        };
        if !self.stream.check() {
            tracing::warn!(%domain, "a component has not shown the secret");
            return;
        }
        front.throttle.succeeded(tried, now_ms);
        let link = front.core.components.link(domain.as_str()).cloned();
        let sending = link.and_then(|link| Sending::begin(&front.core, link, self.number));
        let Some(sending) = sending else {
            let text = "a component of this domain is connected already";
            tracing::warn!(%domain, "{text}");
            return self.refuse(StreamErrorCondition::Conflict, text);
        };
        self.slot.authenticated();
        Span::current().record("domain", domain.as_str());
        tracing::info!("a component is connected");
        self.sending = Some(sending);
        self.stream.accept();
    }

    async fn exchange(&mut self) -> Result<(), End> {
        self.door.front.core.store.commit_soon();
        if let Some(sending) = &mut self.sending
            && sending.fill(&mut self.conduit, None) == Filled::Replaced
        {
            self.stream.close(too_slow());
            return Ok(());
        }
        let blocked = !self.conduit.write()?;
        self.written();
        let now_ms = self.door.now_ms();
        let deadline_ms = self.stream.deadline();
        let wait_ms = deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(now_ms));
        let Connection {
            door,
            conduit,
            sending,
            stream,
            number,
            ..
        } = self;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let transport = conduit.transport.as_ref().ok_or_else(gone)?;
        let queue = poll_fn(|context| match sending.as_ref() {
            Some(sending) if blocked => sending.link.poll_replaced(*number, context),
            Some(sending) => sending.poll_ready(context),
            None => std::task::Poll::Pending,
        });
        tokio::select! {
            readable = transport.readable() => {
                readable?;
                conduit.read()?;
            }
            writable = transport.writable(), if blocked => writable?,
            () = queue => {}
            () = door.front.stopping.cancelled() => {
                let condition = StreamErrorCondition::SystemShutdown;
                stream.close(StreamError::new(condition, "the server stops"));
            }
            () = tokio::time::sleep(Duration::from_millis(wait_ms)), if deadline_ms.is_some() => {
                stream.timeout(door.now_ms());
            }
        }
        Ok(())
    }

    fn refuse(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.stream.close(StreamError::new(condition, text));
    }
}
