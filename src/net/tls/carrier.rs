//! A TLS session as what libraries on top of tokio expect: polled reads and writes.
//!
//! It holds what one read has decrypted and nobody has taken yet, some 37 kB at most.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::TlsStream;
use crate::net::transport::Read;

/// A session that is read and written by polling.
pub struct Carrier {
    stream: Box<TlsStream>,
    /// Decrypted and not taken yet.
    plain: BytesMut,
    has_ended: bool,
}

impl Carrier {
    /// Around a session whose handshake is done.
    #[must_use]
    pub fn new(stream: Box<TlsStream>) -> Self {
        Self {
            stream,
            plain: BytesMut::new(),
            has_ended: false,
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.stream.try_flush()? {
            ready!(self.stream.tcp().poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.plain.is_empty() {
            match this.stream.try_read(&mut this.plain)? {
                Read::Bytes(_) => {}
                Read::Closed => return Poll::Ready(Ok(())),
                Read::Blocked => ready!(this.stream.tcp().poll_read_ready(cx))?,
            }
        }
        let taken = this.plain.len().min(into.remaining());
        into.put_slice(&this.plain[..taken]);
        this.plain.advance(taken);
        if this.plain.is_empty() {
            // A session that waits holds no buffer.
            this.plain = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.try_write(&[IoSlice::new(bytes)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.tcp().poll_write_ready(cx))?;
                }
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            self.has_ended = true;
            self.stream.close_notify()?;
        }
        ready!(self.flush(cx))?;
        let socket = socket2::SockRef::from(self.stream.tcp());
        match socket.shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
