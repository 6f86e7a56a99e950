//! Target `component`: what an external component says, from its first byte, however it is cut.
//!
//! The first byte tells whether its place is free, the second how long a chunk is, the rest is
//! what it sends. `{handshake}` in it stands for the right one, which depends on our id. Checked
//! are
//! - that the same is said whether the bytes come at once or in chunks,
//! - that nothing follows the end,
//! - that no stanza is taken before the handshake, nor of another domain,
//! - that a stream without a handshake ends.

use std::sync::Arc;

use bytes::BytesMut;
use cairn::addr::Jid;
use cairn::stanza::{StreamError, StreamErrorCondition};
use cairn::stream::Closed;
use cairn::stream::component::{Action, Component, ComponentConfig, Secret};
use cairn::xml::Limits;

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 1 << 16;

/// SHA-1 of `07` sixteen times, which is our id in hexadecimal, and "sesame".
const HANDSHAKE: &str = "d74e8dc3074aa49cf3b9eec1d9a72e5c6c49837c";

/// Runs the target on one input; panics on a finding.
pub fn component(data: &[u8]) {
    let [selector, chunk_bytes, sent @ ..] = data else {
        return;
    };
    if sent.len() > INPUT_BYTES_MAX {
        return;
    }
    let sent = right(sent);
    let chunk_bytes = usize::from(*chunk_bytes) + 1;
    let is_free = selector & 1 == 0;
    let whole = Run::of(is_free, std::iter::once(&sent[..]));
    let cut = Run::of(is_free, sent.chunks(chunk_bytes));
    assert_eq!(String::from_utf8(whole.said), String::from_utf8(cut.said));
    assert_eq!(whole.closed, cut.closed);
    assert_eq!(whole.stanzas, cut.stanzas);
}

fn right(sent: &[u8]) -> Vec<u8> {
    const PLACE: &[u8] = b"{handshake}";
    match sent.windows(PLACE.len()).position(|window| window == PLACE) {
        Some(at) => [&sent[..at], HANDSHAKE.as_bytes(), &sent[at + PLACE.len()..]].concat(),
        None => sent.to_vec(),
    }
}

struct Run {
    is_free: bool,
    said: Vec<u8>,
    stanzas: Vec<Vec<u8>>,
    is_open: bool,
    closed: Option<Closed>,
}

impl Run {
    fn of<'a>(is_free: bool, chunks: impl Iterator<Item = &'a [u8]>) -> Run {
        let secret = Secret::new("sesame".to_owned()).expect("it is not empty");
        let config = Arc::new(ComponentConfig {
            components: vec![(Jid::parse("c.example").expect("a domain"), secret)],
            limits_before: Limits::before_authentication(),
            limits_after: Limits::after_authentication(),
            negotiation_ms: 1_000,
        });
        let mut stream = Component::new(config, [7; 16], 0);
        let mut run = Run {
            is_free,
            said: Vec::new(),
            stanzas: Vec::new(),
            is_open: false,
            closed: None,
        };
        let mut buffer = BytesMut::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            run.poll(&mut stream, &mut buffer);
        }
        if let Some(deadline) = stream.deadline() {
            stream.timeout(deadline);
            run.poll(&mut stream, &mut BytesMut::new());
        }
        assert!(run.is_open || run.closed.is_some());
        run
    }

    fn poll(&mut self, stream: &mut Component, buffer: &mut BytesMut) {
        loop {
            stream.input(buffer);
            let Some(action) = stream.poll() else { break };
            assert!(self.closed.is_none(), "{action:?} behind the end");
            match action {
                Action::Send(bytes) => self.said.extend_from_slice(&bytes),
                Action::Handshake(domain) => {
                    assert!(!self.is_open);
                    assert_eq!(domain.as_str(), "c.example");
                    match stream.check() {
                        true if self.is_free => {
                            stream.accept();
                            self.is_open = true;
                        }
                        true => {
                            let condition = StreamErrorCondition::Conflict;
                            stream.close(StreamError::new(condition, "it is taken"));
                        }
                        false => {}
                    }
                }
                Action::Stanza(stanza) => {
                    assert!(self.is_open);
                    let from = stanza.from().expect("it has one");
                    let from = Jid::parse(&from).expect("it is valid");
                    assert_eq!(from.domain(), "c.example");
                    self.stanzas.push(stanza.bytes().to_vec());
                }
                Action::Closed(how) => self.closed = Some(how),
            }
        }
    }
}
