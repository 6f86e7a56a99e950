//! Target `stream`: a client's stream from its first byte, however it is cut.
//!
//! The first byte chooses whether the connection began with TLS and whether strangers may
//! register, the second how long a chunk is; the rest is what the client sends. Checked are
//! - that the same is said whether the bytes come at once or in chunks,
//! - that nothing follows the end, and that an end is said as XML,
//! - that nobody gets anywhere without TLS, or in without a password.

use std::sync::Arc;

use bytes::BytesMut;
use cairn::crypto::argon2id::Argon2Memory;
use cairn::stanza::Condition;
use cairn::stream::c2s::C2s;
use cairn::stream::sm::SmEnabled;
use cairn::stream::{Action, C2sConfig, Closed, TlsInfo};

use crate::sasl::{config, credentials};

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 1 << 16;

/// Runs the target on one input; panics on a finding.
pub fn stream(data: &[u8]) {
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
        // What stands behind <starttls/> may come before or after TLS began.
        return;
    }
    assert_eq!(String::from_utf8(whole.said), String::from_utf8(cut.said));
    assert_eq!(whole.closed, cut.closed);
}

struct Run {
    said: Vec<u8>,
    closed: Option<Closed>,
    tls: bool,
    tls_began: bool,
    password_right: bool,
}

impl Run {
    fn of<'a>(selector: u8, chunks: impl Iterator<Item = &'a [u8]>) -> Run {
        let mut config = config();
        config.hosts[0].registration_open = selector & 2 == 2;
        let tls = selector & 1 == 1;
        let mut run = Run {
            said: Vec::new(),
            closed: None,
            tls,
            tls_began: false,
            password_right: false,
        };
        let info = TlsInfo {
            exporter: Some([9; 32]),
            ..TlsInfo::default()
        };
        let config = Arc::new(config);
        let mut stream = C2s::new(config.clone(), [1; 32], tls.then(|| info.clone()), 0);
        let mut buffer = BytesMut::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                stream.input(&mut buffer, 0);
                let Some(action) = stream.poll() else { break };
                assert!(run.closed.is_none(), "{action:?} behind the end");
                run.act(&mut stream, action, &config, &info);
            }
            assert!(!stream.is_waiting());
        }
        assert_eq!(run.closed.is_some(), stream.deadline().is_none());
        run.let_time_pass(&mut stream);
        run
    }

    fn act(&mut self, stream: &mut C2s, action: Action, config: &C2sConfig, info: &TlsInfo) {
        if !self.tls {
            let only_tls = matches!(
                action,
                Action::Send(_) | Action::StartTls | Action::Closed(_)
            );
            assert!(only_tls, "{action:?} without TLS");
        }
        match action {
            Action::Send(bytes) => self.said.extend_from_slice(&bytes),
            Action::StartTls => {
                (self.tls, self.tls_began) = (true, true);
                stream.tls_established(info.clone(), 0);
            }
            Action::LookUp { account, .. } => {
                stream.credentials(credentials(&account, config), config.hosts[0].scheme);
            }
            Action::VerifyPassword(check) => {
                self.password_right = check.run(&mut Argon2Memory::new());
                stream.verified(self.password_right);
            }
            Action::Register(iq) => stream.registration_reply(iq.result_reply(b"")),
            Action::Authenticated { account, .. } => {
                assert!(self.password_right);
                assert_eq!(account.as_str(), "juliet@capulet.example");
            }
            Action::Bind { jid, .. } => stream.bound(Ok(jid), 0),
            Action::SmEnable { .. } => stream.sm_enabled(&SmEnabled::default()),
            Action::SmResume { .. } => stream.sm_failed(Condition::ItemNotFound, None),
            Action::SmRequest => stream.acknowledge(0),
            Action::AuthenticationFailed { .. } | Action::SmAck { .. } => {}
            Action::Stanza(_) => assert!(stream.is_bound()),
            Action::Closed(how) => self.closed = Some(how),
        }
    }

    /// Every stream ends, if nothing more comes.
    fn let_time_pass(&mut self, stream: &mut C2s) {
        for _ in 0..3 {
            let Some(deadline) = stream.deadline() else {
                break;
            };
            stream.timeout(deadline);
            while let Some(action) = stream.poll() {
                match action {
                    Action::Send(bytes) => self.said.extend_from_slice(&bytes),
                    Action::Closed(how) => self.closed = Some(how),
                    action => panic!("{action:?} out of nowhere"),
                }
            }
        }
        assert!(self.closed.is_some());
        assert!(self.said.ends_with(b"</stream:stream>"));
    }
}
