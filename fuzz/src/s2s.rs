//! Target `s2s`: what another server says, from its first byte, however it is cut.
//!
//! The bits of the first byte choose which end we are, whether TLS was there first, whether the
//! peer's certificate names its domain, whether dialback may make up for that, and what the
//! authoritative server would say; the second byte is how long a chunk is; the rest is what the
//! peer sends. Checked are
//! - that the same is said whether the bytes come at once or in chunks,
//! - that nothing follows the end,
//! - that nothing happens without TLS,
//! - that nobody is authorised without a certificate or the authoritative server's word,
//! - that every stanza is of a pair that was authorised.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use cairn::addr::Jid;
use cairn::stanza::{Condition, Stanza};
use cairn::stream::Closed;
use cairn::stream::s2s::{
    Action, Dialback, Identity, Incoming, Outgoing, Pair, Proof, Purpose, S2sConfig, Verdict,
};
use cairn::stream::sm::SmEnabled;

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 1 << 16;

/// Runs the target on one input; panics on a finding.
pub fn s2s(data: &[u8]) {
    let [selector, chunk_bytes, sent @ ..] = data else {
        return;
    };
    if sent.len() > INPUT_BYTES_MAX {
        return;
    }
    let chunk_bytes = usize::from(*chunk_bytes) + 1;
    let whole = Run::of(*selector, std::iter::once(sent));
    let cut = Run::of(*selector, sent.chunks(chunk_bytes));
    if whole.tls_began || cut.tls_began {
        // What stands behind <starttls/> or <proceed/> may come before or after TLS began.
        return;
    }
    assert_eq!(String::from_utf8(whole.said), String::from_utf8(cut.said));
    assert_eq!(whole.closed, cut.closed);
    assert_eq!(whole.pairs, cut.pairs);
}

#[derive(Debug)]
struct Certificate {
    is_valid: bool,
}

impl Identity for Certificate {
    fn speaks_for(&self, domain: &Jid) -> Result<(), Cow<'static, str>> {
        match self.is_valid && domain.as_str() == "b.example" {
            true => Ok(()),
            false => Err("it is for another name".into()),
        }
    }
}

enum Stream {
    Incoming(Incoming),
    Outgoing(Outgoing),
}

impl Stream {
    fn input(&mut self, bytes: &mut BytesMut) {
        match self {
            Stream::Incoming(stream) => stream.input(bytes, 0),
            Stream::Outgoing(stream) => stream.input(bytes, 0),
        }
    }

    fn poll(&mut self) -> Option<Action> {
        match self {
            Stream::Incoming(stream) => stream.poll(),
            Stream::Outgoing(stream) => stream.poll(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self {
            Stream::Incoming(stream) => stream.deadline(),
            Stream::Outgoing(stream) => stream.deadline(),
        }
    }

    fn timeout(&mut self, now_ms: u64) {
        match self {
            Stream::Incoming(stream) => stream.timeout(now_ms),
            Stream::Outgoing(stream) => stream.timeout(now_ms),
        }
    }
}

struct Run {
    said: Vec<u8>,
    closed: Option<Closed>,
    certificate: Arc<Certificate>,
    verdict: Verdict,
    tls: bool,
    tls_began: bool,
    pairs: Vec<Pair>,
    is_open: bool,
}

impl Run {
    fn of<'a>(selector: u8, chunks: impl Iterator<Item = &'a [u8]>) -> Run {
        let has = |bit: u8| selector & (1 << bit) != 0;
        let mut run = Run {
            said: Vec::new(),
            closed: None,
            certificate: Arc::new(Certificate { is_valid: has(2) }),
            verdict: match has(4) {
                true => Verdict::Valid,
                false => Verdict::Unknown(Condition::RemoteServerNotFound),
            },
            tls: has(1),
            tls_began: false,
            pairs: Vec::new(),
            is_open: false,
        };
        let mut config = S2sConfig::new(vec![domain("a.example")], [7; 32]);
        config.pairs_max = 4;
        if has(3) {
            config.dialback = Dialback::Tls;
        }
        let config = Arc::new(config);
        let identity: Option<Arc<dyn Identity>> = match run.tls {
            true => Some(run.certificate.clone()),
            false => None,
        };
        let mut stream = match has(0) {
            false => Stream::Incoming(Incoming::new(config, [1; 32], identity, 0)),
            true => {
                let pair = Pair {
                    local: domain("a.example"),
                    remote: domain("b.example"),
                };
                let purpose = match has(5) {
                    false => Purpose::Send,
                    true => Purpose::Verify {
                        stream_id: "1".to_owned(),
                        key: "key".to_owned(),
                    },
                };
                Stream::Outgoing(Outgoing::new(config, pair, purpose, [1; 32], identity, 0))
            }
        };
        run.poll(&mut stream, &mut BytesMut::new());
        let mut buffer = BytesMut::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            run.poll(&mut stream, &mut buffer);
        }
        run.let_time_pass(&mut stream);
        run
    }

    fn poll(&mut self, stream: &mut Stream, buffer: &mut BytesMut) {
        loop {
            stream.input(buffer);
            let Some(action) = stream.poll() else { break };
            assert!(self.closed.is_none(), "{action:?} behind the end");
            self.act(stream, action);
        }
    }

    fn act(&mut self, stream: &mut Stream, action: Action) {
        let needs_no_tls = matches!(
            action,
            Action::Send(_) | Action::StartTls | Action::Failed(_) | Action::Closed(_)
        );
        assert!(self.tls || needs_no_tls, "{action:?} without TLS");
        match (action, stream) {
            (Action::Send(bytes), _) => self.said.extend_from_slice(&bytes),
            (Action::StartTls, stream) => {
                (self.tls, self.tls_began) = (true, true);
                match stream {
                    Stream::Incoming(stream) => stream.tls_established(self.certificate.clone(), 0),
                    Stream::Outgoing(stream) => stream.tls_established(self.certificate.clone()),
                }
            }
            (Action::Authorized { pair, proof, .. }, Stream::Incoming(_)) => {
                let is_proved = match proof {
                    Proof::External | Proof::Certificate => {
                        self.certificate.speaks_for(&pair.remote).is_ok()
                    }
                    Proof::Dialback => self.verdict == Verdict::Valid,
                };
                assert!(is_proved, "{pair} by {proof:?}");
                assert!(self.pairs.len() < 4);
                self.pairs.push(pair);
            }
            (Action::DialBack(challenge), Stream::Incoming(stream)) => {
                stream.dialled_back(&challenge.pair, &self.verdict, 0);
            }
            (Action::SmEnable { .. }, Stream::Incoming(stream)) => {
                stream.sm_enabled(&SmEnabled::default());
            }
            (Action::SmResume { .. }, Stream::Incoming(stream)) => {
                stream.sm_failed(Condition::ItemNotFound, None);
            }
            (Action::Ready { may_manage, .. }, Stream::Outgoing(stream)) => {
                self.is_open = true;
                if may_manage {
                    stream.enable();
                }
            }
            (Action::Stanza(stanza), stream) => self.check(&stanza, stream),
            (Action::Closed(how), _) => self.closed = Some(how),
            (Action::Verified(_), Stream::Outgoing(_)) => {}
            (
                Action::Refused { .. }
                | Action::Failed(_)
                | Action::SmRequest
                | Action::SmAck { .. }
                | Action::SmEnabled { .. }
                | Action::SmResumed { .. }
                | Action::SmFailed { .. },
                _,
            ) => {}
            (action, _) => panic!("{action:?} of the wrong end"),
        }
    }

    fn check(&self, stanza: &Stanza, stream: &Stream) {
        let address = |text: Option<Cow<'_, str>>| Jid::parse(&text.expect("it has one"));
        let from = address(stanza.from()).expect("a valid address");
        let to = address(stanza.to()).expect("a valid address");
        match stream {
            Stream::Incoming(_) => assert!(self.pairs.iter().any(|pair| {
                pair.remote.as_str() == from.domain() && pair.local.as_str() == to.domain()
            })),
            Stream::Outgoing(_) => {
                assert!(self.is_open);
                assert_eq!((from.domain(), to.domain()), ("b.example", "a.example"));
            }
        }
    }

    /// Every stream ends, if nothing more comes.
    fn let_time_pass(&mut self, stream: &mut Stream) {
        for _ in 0..3 {
            let Some(deadline) = stream.deadline() else {
                break;
            };
            stream.timeout(deadline);
            self.poll(stream, &mut BytesMut::new());
        }
        assert!(self.closed.is_some());
    }
}

fn domain(text: &str) -> Jid {
    Jid::parse(text).expect("a domain")
}
