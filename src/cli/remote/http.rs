//! As much of an HTTP/1.1 client as a command needs: one connection, one request after the other,
//! bodies as streams in both directions.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::Value;
use zeroize::Zeroizing;

use super::broken;
use crate::cli::Failure;
use crate::net::tls::TlsClient;

/// Bytes of the head of an answer, and fields in it.
const HEAD_BYTES_MAX: u64 = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// Bytes that go into one write.
const PIECE_BYTES: usize = 64 * 1024;

/// What is sent behind the head.
pub(super) enum Body<'a> {
    None,
    Json(Value),
    /// So many bytes.
    Bytes(&'a mut dyn Read, u64),
}

/// A connection to a server.
pub(in crate::cli) struct Client {
    stream: BufReader<TlsClient>,
    host: String,
    authorization: Option<Zeroizing<String>>,
}

/// An answer: its status, and its body to be read.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    stream: &'a mut BufReader<TlsClient>,
    length: Length,
}

/// What is left of a body.
enum Length {
    Known(u64),
    /// Of the piece that is being read (RFC 9112 §7.1); the bool says that one was read before.
    Chunk(u64, bool),
    Ended,
}

impl Client {
    pub(super) fn new(
        stream: TlsClient,
        host: String,
        authorization: Option<Zeroizing<String>>,
    ) -> Client {
        Client {
            stream: BufReader::with_capacity(PIECE_BYTES, stream),
            host,
            authorization,
        }
    }

    /// Sends a request and reads the head of the answer.
    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        body: Body<'_>,
    ) -> Result<Reply<'_>, Failure> {
        let mut head = Zeroizing::new(format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\nuser-agent: \
             cairn/{}\r\n",
            self.host,
            env!("CARGO_PKG_VERSION")
        ));
        if let Some(field) = &self.authorization {
            head.push_str(&format!("authorization: {}\r\n", **field));
        }
        let sent = match body {
            Body::None => {
                // A method that has a body by its nature says that it has none.
                head.push_str("content-length: 0\r\n\r\n");
                self.send(head.as_bytes())
            }
            Body::Json(value) => {
                let text = Zeroizing::new(value.to_string());
                head.push_str(&format!(
                    "content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
                    text.len(),
                    *text
                ));
                self.send(head.as_bytes())
            }
            Body::Bytes(input, bytes) => {
                // A server that does not want it says so before megabytes are sent (RFC 9110
                // §10.1.1).
                head.push_str(&format!(
                    "content-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\
                     expect: 100-continue\r\n\r\n"
                ));
                let wanted = self.send(head.as_bytes()).and_then(|()| self.answer());
                match wanted.map_err(|error| broken(&error))? {
                    (100, _) => self.send_all(input, bytes)?,
                    (status, length) => {
                        return Ok(Reply {
                            status,
                            stream: &mut self.stream,
                            length,
                        });
                    }
                }
            }
        };
        // A server that refuses does not read to the end; why stands in its answer.
        match (self.answer(), sent) {
            (Ok((status, length)), _) => Ok(Reply {
                status,
                stream: &mut self.stream,
                length,
            }),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(broken(&error)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// The outer error is that of the input.
    fn send_all(&mut self, input: &mut dyn Read, bytes: u64) -> Result<io::Result<()>, Failure> {
        let mut input = input.take(bytes);
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = bytes;
        while left > 0 {
            let read = input
                .read(&mut piece)
                .map_err(|error| Failure::refused(format!("the input cannot be read: {error}")))?;
            if read == 0 {
                return Err(Failure::refused("the input has become shorter meanwhile"));
            }
            left -= read as u64;
            if let Err(error) = self.send(&piece[..read]) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn answer(&mut self) -> io::Result<(u16, Length)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let room = HEAD_BYTES_MAX - head.len() as u64;
            let read = (&mut self.stream).take(room).read_until(b'\n', &mut head)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP");
        parsed.parse(&head).map_err(|_| invalid())?;
        let status = parsed.code.ok_or_else(invalid)?;
        let field = |name: &str| {
            let found = parsed.headers.iter();
            let mut found = found.filter(|field| field.name.eq_ignore_ascii_case(name));
            found
                .next()
                .and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let is_chunked = field("transfer-encoding").is_some_and(|value| value == "chunked");
        let length = match (is_chunked, field("content-length")) {
            (true, _) => Length::Chunk(0, false),
            (false, Some(length)) => Length::Known(length.trim().parse().map_err(|_| invalid())?),
            (false, None) => Length::Known(0),
        };
        Ok((status, length))
    }
}

impl Reply<'_> {
    /// Reads the length of the next piece.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<()> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a piece of the answer has no length",
            )
        };
        if !is_first {
            self.line()?;
        }
        let line = self.line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits.trim_ascii()).map_err(|_| invalid())?;
        let bytes = u64::from_str_radix(digits, 16).map_err(|_| invalid())?;
        self.length = match bytes {
            0 => {
                // No trailers are asked for, so there are none.
                self.line()?;
                Length::Ended
            }
            bytes => Length::Chunk(bytes, true),
        };
        Ok(())
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.stream).take(256).read_until(b'\n', &mut line)?;
        match line.ends_with(b"\n") {
            true => Ok(line),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for Reply<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Length::Chunk(0, was) = self.length {
            self.next_chunk(!was)?;
        }
        let left = match &mut self.length {
            Length::Ended => return Ok(0),
            Length::Known(left) | Length::Chunk(left, _) => left,
        };
        let bytes = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if bytes == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut into[..bytes])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }
}
