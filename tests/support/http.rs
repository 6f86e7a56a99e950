//! A client of the admin interface that says exactly what a test tells it to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::wire::PATIENCE;
use super::{DOMAIN, Tls};

/// One connection.
pub struct Http {
    stream: StreamOwned<ClientConnection, TcpStream>,
    tls: Tls,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl Http {
    /// Connects; the certificate is not looked at.
    pub fn connect(address: SocketAddr) -> Http {
        let tls = Tls::with_alpn(&["http/1.1"]);
        let tcp = TcpStream::connect(address).expect("it listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let stream = StreamOwned::new(tls.connection(DOMAIN), tcp);
        Http { stream, tls }
    }

    /// Sends bytes as they are. A server that has closed is no failure here.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush())
            .is_ok()
    }

    /// One request with its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {DOMAIN}\r\ncontent-length: {length}\r\n\
             {fields}\r\n{body}"
        );
        self.send(request.as_bytes());
        self.answer().expect("an answer")
    }

    /// The next answer; `None` when the server closes without one.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).expect("ASCII").to_lowercase();
        let status = head.split(' ').nth(1).expect("a status");
        let status = status.parse().expect("a number");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some(Answer { status, head, body })
    }

    /// One request whose answer comes in chunks (RFC 9112 §7.1).
    #[track_caller]
    pub fn stream(&mut self, method: &str, path: &str, fields: &str) -> Vec<u8> {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {DOMAIN}\r\n{fields}\r\n");
        self.send(request.as_bytes());
        let answer = self.answer().expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut body = Vec::new();
        loop {
            let length = self.line();
            let length = usize::from_str_radix(length.trim(), 16).expect("a length");
            let mut chunk = vec![0; length];
            self.stream.read_exact(&mut chunk).expect("a chunk");
            body.extend_from_slice(&chunk);
            assert_eq!(self.line(), "\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("ASCII")
    }

    /// The SHA-256 of the server's certificate, in hex.
    pub fn fingerprint(&self) -> String {
        let certificate = self.tls.certificate().expect("it was shown");
        let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The field for a name and a password.
pub fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("authorization: Basic {both}\r\n")
}

/// The field for a token.
pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}
