//! The carrier of one stream between servers: what has come and is not read yet, what is to be
//! written and the socket has not taken.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::net::conn::Inbound;
use crate::net::conn::inbound::Share;
use crate::net::conn::outgoing::{OutgoingQueue, Progress};
use crate::net::transport::{Read, Transport};

/// How long a server that can't be reached may keep what was written to it waiting, before the
/// kernel gives its connection up.
const UNREACHABLE: Duration = Duration::from_secs(60);

/// A peer that says nothing is probed after so long, and as often: a connection that is dead is found
/// so even where nobody has anything to say, at both ends at about the same time.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How long last words may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the peer may have waiting of the stream's own words.
const OWN_BYTES_MAX: usize = 16 * 1024;

pub(in crate::net) struct Conduit {
    /// Taken out only for the moment of the TLS handshake.
    pub transport: Option<Transport>,
    pub input: BytesMut,
    pub out: OutgoingQueue,
    share: Share,
}

impl Conduit {
    pub fn new(transport: Transport, inbound: &Arc<Inbound>) -> Conduit {
        let socket = SockRef::from(transport.tcp());
        drop(socket.set_tcp_user_timeout(Some(UNREACHABLE)));
        Conduit {
            transport: Some(transport),
            input: BytesMut::new(),
            out: OutgoingQueue::default(),
            share: Share::new(inbound.clone()),
        }
    }

    /// Has the kernel look whether the peer is there.
    pub fn probe(&self) {
        let probes = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EVERY);
        if let Some(transport) = &self.transport {
            // It can only fail for a connection that is gone already.
            drop(SockRef::from(transport.tcp()).set_tcp_keepalive(&probes));
        }
    }

    pub fn transport(&mut self) -> io::Result<&mut Transport> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.transport.as_mut().ok_or_else(gone)
    }

    /// The socket, for the handshake. What came in the clear is worth nothing under TLS.
    pub fn take_tcp(&mut self) -> io::Result<TcpStream> {
        self.input = BytesMut::new();
        let tcp = self.transport.take().and_then(Transport::into_plain);
        tcp.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    pub fn say(&mut self, bytes: Bytes) {
        self.out.push_own(bytes);
    }

    /// Whether more of our own words wait than a peer that reads would let wait.
    pub fn is_ignored(&self) -> bool {
        self.out.own_bytes() > OWN_BYTES_MAX
    }

    /// Counts what is not complete yet; false where there is no room for it. The buffer goes with
    /// what was in it.
    pub fn settle_input(&mut self) -> bool {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let held = self
            .transport
            .as_ref()
            .map_or(0, Transport::incomplete_bytes);
        self.share.set(self.input.len() + held)
    }

    /// Appends what has arrived; the end of the peer's bytes is an error.
    pub fn read(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let transport = self.transport.as_mut().ok_or_else(gone)?;
        match transport.try_read(&mut self.input)? {
            Read::Bytes(_) | Read::Blocked => {}
            Read::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    /// Writes what the socket takes; true when all of it has gone.
    pub fn write(&mut self) -> io::Result<bool> {
        let Some(transport) = self.transport.as_mut() else {
            return Ok(true);
        };
        if self.out.is_empty() && !transport.is_write_pending() {
            return Ok(true);
        }
        Ok(self.out.write(transport)? == Progress::Done)
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.write()? {
            self.transport()?.writable().await?;
        }
        Ok(())
    }

    /// Says the last words, within a time; true when the kernel has all of them.
    pub async fn say_farewell(&mut self) -> bool {
        let flushed = tokio::time::timeout(FAREWELL, self.flush()).await;
        flushed.is_ok_and(|flushed| flushed.is_ok())
    }

    /// Says the last words and closes, each within a time.
    pub async fn close(mut self) {
        let has_heard = self.say_farewell().await;
        if let Some(transport) = self.transport.take()
            && has_heard
        {
            drop(tokio::time::timeout(FAREWELL, transport.close()).await);
        }
    }
}
