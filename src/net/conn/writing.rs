//! From the session's outbox to the transport.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant, timeout_at};

use crate::router::{
    Core, Ending, Entry, Gone, Session, Wire, landed, missing, refill, stored_message,
    wrapped_value,
};
use crate::stanza::{Outgoing, Stanza, StreamError, StreamErrorCondition};
use crate::store::Position;
use crate::stream::sm;

use crate::net::transport::Transport;

use super::outgoing::Progress;
use super::{Connection, End, Farewell, Request};

/// What is taken from the outbox at a time: about one TLS record.
const BATCH_BYTES: usize = 16 * 1024;

/// What a client that does not read may have waiting of the stream's own replies, which stand in
/// no outbox: as much as of a batch.
const OWN_BYTES_MAX: usize = BATCH_BYTES;

/// How long what was asked for before the end of a stream may take to become durable.
const DRAIN: Duration = Duration::from_secs(2);

impl Connection {
    /// Takes what may be written now, if the last batch has gone.
    pub(super) async fn take_from_outbox(&mut self) -> Result<(), End> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        if !self.out.is_empty() {
            return Ok(());
        }
        let durable = self.front.core.store.durable();
        let batch = session.outbox.take(self.number, durable, BATCH_BYTES);
        if let Some(gate) = batch.gate {
            let store = &self.front.core.store;
            self.front
                .core
                .gates
                .wait(gate, &session, || store.durable());
        }
        let (ending, gone) = (batch.ending.clone(), batch.gone);
        let mut kept = batch.entries.iter().skip(batch.kept_from);
        let managed = kept.any(Entry::is_stanza);
        let kept_from = batch.kept_from;
        let entries = match batch.entries.iter().all(is_ready) {
            true => batch.entries,
            // Boxed, for it is rare and would make every idle connection bigger.
            false => Box::pin(fetch(&self.front.core, &session, batch.entries)).await?,
        };
        self.queue(entries, kept_from, managed);
        self.obey(ending, gone)?;
        if session.waits_for_room() && session.outbox.waiting() == 0 {
            refill(&self.front.core, &session);
        }
        Ok(())
    }

    /// Ends the stream if the session says so.
    pub(super) fn obey(&mut self, ending: Option<Ending>, gone: Option<Gone>) -> Result<(), End> {
        match (ending, gone) {
            (Some(ending), _) => self.end_stream(ending),
            (None, Some(Gone::Ended)) => return Err(End::Replaced),
            (None, Some(Gone::Replaced)) => self.leave(),
            (None, None) => {}
        }
        Ok(())
    }

    fn queue(&mut self, entries: Vec<Entry>, kept_from: usize, managed: bool) {
        for (index, entry) in entries.into_iter().enumerate() {
            if let Wire::Ready(outgoing) = &entry.wire {
                self.out.push(outgoing.head.clone());
                self.out.push(outgoing.tail.clone());
            }
            if entry.matters() && index < kept_from {
                self.out.end_entry();
            }
        }
        if managed && self.request == Request::Answered {
            self.request_acknowledgement();
        }
    }

    /// Asks the client for its count, unless a question waits to be written already.
    pub(super) fn request_acknowledgement(&mut self) {
        if self.request != Request::Queued {
            self.request = Request::Queued;
            self.out.push_own(sm::request());
        }
    }

    /// Writes what the socket takes; true when all of it has gone.
    pub(super) fn write(&mut self) -> Result<bool, End> {
        // What was taken from it may still stand in the transport.
        let is_kept = |transport: &Transport| transport.is_write_pending();
        if self.out.is_empty() && !self.transport.as_ref().is_some_and(is_kept) {
            return Ok(true);
        }
        let transport = self
            .transport
            .as_mut()
            .expect("the transport is away only during the handshake, which is awaited");
        let progress = self.out.write(transport);
        self.written();
        let done = progress? == Progress::Done;
        if done && self.request == Request::Queued {
            self.request = Request::Sent;
        }
        Ok(done)
    }

    /// What is with the kernel is delivered: without stream management that is all the server will
    /// ever know.
    fn written(&mut self) {
        let count = self.out.take_written();
        if let Some(session) = self.session.as_ref().filter(|_| count > 0) {
            landed(&self.front.core, session, &session.outbox.written(count));
        }
    }

    /// Whether more of the stream's own replies wait than a client that reads would let wait.
    pub(super) fn is_ignored(&self) -> bool {
        self.out.own_bytes() > OWN_BYTES_MAX
    }

    /// Writes something of the stream's own, behind everything that was queued before it.
    pub(super) async fn say(&mut self, bytes: Bytes) -> Result<(), End> {
        // Who has not read the last reply is not waited for again.
        let waits = self.out.own_bytes() > 0 && !self.write()?;
        if self.session.is_some() && self.ending.is_none() && !waits {
            self.front.core.store.commit_soon();
            // Late or never: the client hears the rest all the same.
            self.drain(Instant::now() + DRAIN).await?;
        }
        self.out.push_own(bytes);
        Ok(())
    }

    /// Only the waits are bounded: what was taken is written or put back.
    async fn drain(&mut self, until: Instant) -> Result<(), End> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        while session.outbox.waiting() > 0 && self.ending.is_none() && Instant::now() < until {
            self.take_from_outbox().await?;
            if let Ok(flushed) = timeout_at(until, self.flush()).await {
                flushed?;
            }
            if let Some(gate) = session.outbox.gate() {
                drop(timeout_at(until, self.durable(gate)).await);
            }
        }
        Ok(())
    }

    /// Writes everything that was taken.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        while !self.write()? {
            self.transport().writable().await?;
        }
        Ok(())
    }

    /// Waits until the store is durable up to `position`.
    pub(super) async fn durable(&self, position: Position) {
        self.front.core.store.commit_soon();
        let mut durable = self.front.durable.clone();
        // An error means that the store has stopped; nothing more becomes durable then.
        if durable
            .wait_for(|durable| *durable >= position)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    fn end_stream(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        let (farewell, error) = match ending {
            Ending::Error(error) => {
                self.stream.close(error);
                return;
            }
            Ending::Discard(error) => (Farewell::Leave, error),
            Ending::Shutdown(error) => (Farewell::Detach, error),
        };
        self.ending = Some(farewell);
        self.stream.close(error);
    }

    /// Another connection has resumed the session (XEP-0198 §5): this one says why and stops.
    pub(super) fn leave(&mut self) {
        if self.ending.is_none() {
            self.ending = Some(Farewell::Leave);
            self.refuse(
                StreamErrorCondition::Conflict,
                "another connection has resumed this session",
            );
        }
    }

    /// Ends the stream because of what the client did.
    pub(super) fn refuse(&mut self, condition: StreamErrorCondition, text: &'static str) {
        self.stream.close(StreamError::new(condition, text));
    }
}

fn is_ready(entry: &Entry) -> bool {
    matches!(entry.wire, Wire::Ready(_))
}

/// Reads from the log what stands there, on a thread that may wait for the disk.
async fn fetch(
    core: &Arc<Core>,
    session: &Arc<Session>,
    entries: Vec<Entry>,
) -> io::Result<Vec<Entry>> {
    let (core, session) = (core.clone(), session.clone());
    let fetched = tokio::task::spawn_blocking(move || {
        let made = entries.into_iter().map(|mut entry| {
            entry.wire = Wire::Ready(bytes_of(&core, &session, entry.wire));
            entry
        });
        made.collect()
    });
    fetched.await.map_err(io::Error::other)
}

fn bytes_of(core: &Core, session: &Session, wire: Wire) -> Outgoing {
    match wire {
        Wire::Ready(outgoing) => outgoing,
        Wire::Stored { id, received_at_ms } => {
            let owner = session.jid.bare_str();
            let stored = core.store.message(owner, id);
            let stanza = stored.map(|bytes| bytes.map(Stanza::from_canonical));
            match stanza {
                Ok(Some(Ok(stanza))) => {
                    stored_message(core, &session.jid, &stanza, id, received_at_ms)
                }
                // Another resource has had it.
                Ok(None) => missing(&session.jid),
                unreadable => {
                    tracing::error!(account = owner, id = id.0, why = ?unreadable.err(), "a stored message can't be read");
                    damaged(session)
                }
            }
        }
        Wire::Wrapped(wrapped) => wrapped_value(core, &session.jid, &wrapped),
    }
}

/// What the client gets in the place of a message that rotted: it is counted like one.
fn damaged(session: &Session) -> Outgoing {
    let from = session.jid.domain_jid();
    let mut writer = crate::stanza::build::start(
        crate::stanza::Kind::Message,
        Some("headline"),
        Some(&session.jid),
        Some(&from),
        None,
        128,
    );
    writer.leaf(
        "body",
        "A message that waited for you could not be read from the server's disk and is lost.",
    );
    writer.finish().into()
}
