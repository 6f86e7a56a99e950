//! Bodies: small ones read whole, big ones handed on in pieces.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::answer::{self, Answer};

/// Bytes of a body in JSON: a certificate's chain is the longest that there is.
const JSON_BYTES_MAX: usize = 192 * 1024;

/// Bytes of a longer one that are read for the answer's sake.
const PASSED_OVER_MAX: usize = 4 << 20;

/// How long such a body may take.
const JSON_WITHIN: Duration = Duration::from_secs(20);

/// How long the next piece of a big body may take.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// Pieces that wait between the connection and the command.
const PIECES_MAX: usize = 4;

/// Bytes of a piece of an answer.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads a body as JSON of one shape.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Answer> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().map(str::trim) == Some("application/json"));
    if !is_json {
        return Err(answer::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body has to be application/json",
        ));
    }
    let mut body = request.into_body();
    let reading = async {
        let read = Limited::new(&mut body, JSON_BYTES_MAX).collect().await;
        if read.is_err() {
            pass_over(&mut body).await;
        }
        read
    };
    let Ok(read) = timeout(JSON_WITHIN, reading).await else {
        let why = "the body took too long";
        return Err(answer::error(StatusCode::REQUEST_TIMEOUT, why));
    };
    let bytes = read.map_err(|error| match error.is::<LengthLimitError>() {
        true => answer::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
        false => answer::error(StatusCode::BAD_REQUEST, "the body was broken off"),
    })?;
    // Passwords are in there.
    let bytes = Zeroizing::new(bytes.to_bytes().to_vec());
    serde_json::from_slice(&bytes).map_err(|error| {
        let why = format!("the body is not what this command takes: {}", plain(&error));
        answer::error(StatusCode::BAD_REQUEST, &why)
    })
}

/// Reads on for a while: a client that still sends when the connection closes would be told of that,
/// and not see the answer.
async fn pass_over(body: &mut Incoming) {
    let mut passed = 0;
    while passed < PASSED_OVER_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        passed += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// What is wrong, without the values: one may be a password.
fn plain(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            match text.starts_with("missing field") || text.starts_with("unknown field") {
                true => text,
                false => "a value is of the wrong kind".to_owned(),
            }
        }
        _ => "it is no JSON".to_owned(),
    }
}

/// A body that a thread reads while it arrives.
pub(super) struct PieceReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

/// Both ends of a bounded channel for a body: who reads it, and what fills it.
pub(super) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, PieceReader) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let piece = Bytes::new();
    (sender, PieceReader { pieces, piece })
}

/// Hands a body on to its reader. One that is broken off or stands still ends with an error. What the
/// reader does not want is read all the same: a client that still sends would not see the answer.
pub(super) async fn pump(mut body: Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut sender = Some(sender);
    loop {
        let piece = match timeout(PIECE_WITHIN, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => Ok(bytes),
                // Trailers say nothing here.
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let is_last = piece.is_err();
        if let Some(to) = &sender
            && to.send(piece).await.is_err()
        {
            sender = None;
        }
        if is_last {
            return;
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let taken = self.piece.len().min(into.len());
        into[..taken].copy_from_slice(&self.piece[..taken]);
        self.piece.advance(taken);
        Ok(taken)
    }
}

/// An answer that a thread writes while it is sent.
pub(super) struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
    runtime: Handle,
}

/// Both ends of a bounded channel for an answer. Called within the runtime.
pub(super) fn answer_pieces() -> (PieceWriter, mpsc::Receiver<io::Result<Bytes>>) {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    let writer = PieceWriter {
        pieces,
        piece: BytesMut::new(),
        runtime: Handle::current(),
    };
    (writer, receiver)
}

impl PieceWriter {
    /// The answer is not complete and never will be.
    pub(super) fn break_off(&self, why: &str) {
        // Nobody listens any more: then nobody has to be told.
        drop(self.send(Err(io::Error::other(why.to_owned()))));
    }

    /// A client that does not read keeps no thread for long.
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sending = async { timeout(PIECE_WITHIN, self.pieces.send(piece)).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES);
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.send(Ok(piece))
    }
}
